"""Which frame of the target video to show at each moment of a new speech.

Song et al., "Everybody's Talkin'" (2020), section 3.3, pick target frames "whose head shaking and
blink of eyes look compatible with the source speech" by dynamic programming, after Suwajanakorn et
al., "Synthesizing Obama" (2017). Neither prints its costs: those below are ours, and so are the
timeline without ends, which takes speech of any length, and the limits of the speed.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from scipy.ndimage import binary_closing, gaussian_filter1d

from flax_talk.metrics.expression import detect_blinks, eye_aspect_ratio

_HOLD, _PLAY, _SKIP = 0, 1, 2  # frames of the target from one output frame to the next
_STEPS = np.array([_HOLD, _PLAY, _SKIP])

_LOUD = 95  # percentile of the frames' levels that speech is compared with
_FLOOR = -60.0  # dB of full scale below which nothing is speech
_CLOSURE = 0.2  # s of silence within words, such as before a plosive
_STEADY = 2.0  # frames, standard deviation: slower than the jitter of landmarks
_USUAL, _LIVELY = 10, 90  # percentiles of the motion that count as still and as moving


class RetimingCosts(NamedTuple):
    """What the path of `retime` pays.

    Attributes:
        motion: per frame, for stillness while speaking and for full motion in silence.
        blink: per frame of a blink while speaking.
        hold, skip: for each frame that is shown again or left out.
        change: for each change of speed by one frame per frame.
        backward: per frame that runs backwards in time.
    """

    motion: float = 1.0
    blink: float = 4.0
    hold: float = 0.5
    skip: float = 0.5
    change: float = 0.3
    backward: float = 0.1


DEFAULT_COSTS = RetimingCosts()


def retime(
    speech: np.ndarray,
    motion: np.ndarray,
    blinks: np.ndarray,
    costs: RetimingCosts = DEFAULT_COSTS,
) -> np.ndarray:
    """The cheapest path through the target video for a speech.

    The target runs to its end and back again, for ever (the last and the first frame once), and
    the path moves along it by d_i = 0, 1 or 2 frames at a time, from wherever it likes, never
    twice by 0. With a_i the speech of output frame i, m_j and b_j the motion (0 to 1, between its
    10th and 90th percentile) and the blink of the frame j_i it shows, it has the least

        sum_i motion [a_i (1 - m_j) + (1 - a_i) m_j] + blink a_i b_j
              + hold [d_i = 0] + skip [d_i = 2] + change |d_i - d_i-1| + backward [runs back]

    which takes O(T' T) operations and 6 T' T bytes.

    Args:
        speech: [T'], 0 in silence to 1, see `speech_activity`; T' at least 1.
        motion: [T], in any unit, see `head_motion`; T at least 1.
        blinks: [T], 0 to 1, see `blinking`.
        costs: see `RetimingCosts`.

    Returns:
        int [T'], frames of the target.
    """
    length = len(motion)
    there_and_back = _reflected(np.arange(max(2 * (length - 1), 1)), length)
    still, lively = np.percentile(motion, [_USUAL, _LIVELY])
    moving = np.clip((np.asarray(motion) - still) / max(lively - still, 1e-9), 0, 1)
    backward = np.arange(len(there_and_back)) >= length
    places = (moving[there_and_back], np.asarray(blinks)[there_and_back], backward)
    path = _cheapest_path(np.float32(speech), *map(np.float32, places), costs)
    return there_and_back[np.asarray(path)]


def identity(num_outputs: int, num_targets: int) -> np.ndarray:
    """The frames in their order, forward and backward again while the speech lasts: int [T'].

    What takes the place of `retime` where a path shall not depend on the speech.
    """
    return _reflected(np.arange(num_outputs), num_targets)


def speech_activity(
    waveform: np.ndarray, rate: int, num_frames: int, fps: float = 25.0, below: float = 25.0
) -> np.ndarray:
    """Which frames are spoken over, by the loudness.

    A frame is, if its RMS is at most `below` dB under the loud ones of the recording (the 95th
    percentile) and over -60 dB of full scale; silence of up to 0.2 s between such frames counts
    as speech, since plosives begin with it.

    Args:
        waveform: float [S] mono in [-1, 1].
        rate: samples per second.
        num_frames: T'; sound that is missing is silence.
        fps: frames per second.
        below: dB.

    Returns:
        float32 [T'], 0 or 1.
    """
    edges = np.rint(np.arange(num_frames + 1) * rate / fps).astype(int)
    energy = np.pad(np.square(waveform[: edges[-1]], dtype=np.float64), (0, edges[-1]))
    sums = np.cumsum(np.pad(energy, (1, 0)))[edges]
    levels = 10 * np.log10(np.diff(sums) / np.diff(edges) + 1e-12)
    spoken = levels > max(np.percentile(levels, _LOUD) - below, _FLOOR)
    gap = round(_CLOSURE * fps)
    closed = binary_closing(np.pad(spoken, gap), np.ones(gap + 1))[gap : gap + num_frames]
    return (spoken | closed).astype(np.float32)


def head_motion(pose: np.ndarray) -> np.ndarray:
    """How fast the head moves, smoothed over a few frames.

    Args:
        pose: [T, 6], see `face_model.model.transform`, of frames that are not aligned to the face.

    Returns:
        float64 [T], about dm per frame: shifts, and turns at one dm from the centre.
    """
    pose = np.asarray(pose, np.float64)
    place = np.concatenate([pose[:, :3], pose[:, 3:5] / pose[:, 5:]], axis=1)
    place = gaussian_filter1d(place, _STEADY, axis=0, mode="nearest")
    if len(place) < 2:
        return np.zeros(len(place))
    return np.linalg.norm(np.gradient(place, axis=0), axis=1)


def blinking(landmarks: np.ndarray) -> np.ndarray:
    """Frames float32 [T] that belong to a blink (1), by landmarks [T, 68, 2] in any unit."""
    found = detect_blinks(np.asarray(eye_aspect_ratio(landmarks)))
    frames = np.arange(len(landmarks))
    inside = (frames >= found[:, :1]) & (frames <= found[:, 1:])
    return np.asarray(inside.any(axis=0), np.float32)


def _reflected(places: np.ndarray, length: int) -> np.ndarray:
    """Frames of a video that runs forward and backward: 0, 1, .., T - 1, T - 2, .., 1, 0, 1 .."""
    last = max(length - 1, 1)
    return np.minimum(last - np.abs(places % (2 * last) - last), length - 1)


@jax.jit
def _cheapest_path(speech, moving, blinks, backward, costs: RetimingCosts) -> jax.Array:
    """Places int [T'] on the closed timeline of moving, blinks and backward, each [P]."""
    each = jnp.array([costs.hold, 0.0, costs.skip])
    # From one step (row) to the next (column); the second hold in a row would freeze the face.
    change = costs.change * jnp.abs(_STEPS[:, None] - _STEPS)
    change = change.at[_HOLD, _HOLD].set(jnp.inf)

    def place_costs(spoken):
        unsuited = spoken * (1 - moving) + (1 - spoken) * moving
        return costs.motion * unsuited + costs.blink * spoken * blinks + costs.backward * backward

    def forward(best, spoken):
        # best [3, P] is the cost of arriving at a place by a step.
        through = best[:, None] + change[:, :, None]
        came_by = through.argmin(axis=0).astype(jnp.int8)
        arriving = through.min(axis=0) + each[:, None]
        best = jnp.stack([jnp.roll(arriving[s], s, axis=-1) for s in _STEPS])
        return best + place_costs(spoken), came_by

    def trace(state, came_by):
        step, place = state
        # came_by is stored where the step left, not where it arrived.
        place = (place - step) % len(moving)
        step = came_by[step, place].astype(jnp.int32)
        return (step, place), place

    start = jnp.full((len(_STEPS), len(moving)), jnp.inf).at[_PLAY].set(place_costs(speech[0]))
    best, came_by = jax.lax.scan(forward, start, speech[1:])
    step, last = jnp.unravel_index(best.argmin(), best.shape)
    _, path = jax.lax.scan(trace, (step, last), came_by, reverse=True)
    return jnp.append(path, last)

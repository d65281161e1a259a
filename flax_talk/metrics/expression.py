"""Blinks, how often and for how long, and the motion of the mouth, from landmarks.

The eye aspect ratio is that of Soukupova and Cech, "Real-Time Eye Blink Detection using Facial
Landmarks", 2016. Detection follows Vougioukas et al., "Realistic Speech-Driven Facial Animation
with GANs", 2019, sections 5 and 6: a blink is a sharp drop of the ratio, from the peak before it
to the peak after it, and a detector is judged by precision, recall and the errors of start and
end. Ours: what counts as a sharp drop and as a peak (`detect_blinks`), and how detected blinks
are paired with true ones (`score_blinks`).
"""

from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from scipy.optimize import linear_sum_assignment

EYES = ((36, 37, 38, 39, 40, 41), (42, 43, 44, 45, 46, 47))
"""Landmarks p1 to p6 of each eye: corner, upper lid twice, corner, lower lid twice."""

_REGAINED = 0.75  # of the height of a peak
_SHOULDER = 0.02  # of the ratio of open eyes: a rise per frame that landmarks make at rest


class BlinkStatistics(NamedTuple):
    """Blinks of a set of videos.

    Attributes:
        per_second: blinks per second of video; NaN without video.
        median_duration: seconds; NaN without a blink.
        counts: int [V], blinks of each video, for a histogram.
        durations: float [N], seconds of each blink, for a histogram.
    """

    per_second: float
    median_duration: float
    counts: np.ndarray
    durations: np.ndarray


class BlinkScores(NamedTuple):
    """How well blinks were detected.

    Attributes:
        precision: share of detected blinks that are true, 0 to 1; NaN if none was detected.
        recall: share of true blinks that were detected, 0 to 1; NaN if there is none.
        start_error, end_error: mean absolute errors of the detected true blinks, in frames; NaN
            if there is none.
    """

    precision: float
    recall: float
    start_error: float
    end_error: float


def eye_aspect_ratio(landmarks: jax.Array) -> jax.Array:
    """Height of the open eye by its width, mean of both eyes.

    (|p2 - p6| + |p3 - p5|) / (2 |p1 - p4|), near 0.3 for an open eye and 0.1 for a closed one. The
    paper of 2019 leaves out the 2 in Eq. 8, which detection does not notice.

    Args:
        landmarks: [..., 68, 2] in iBUG order, in any unit.

    Returns:
        [...].
    """
    eyes = landmarks[..., EYES, :]

    def distance(i, j):
        return jnp.linalg.norm(eyes[..., i - 1, :] - eyes[..., j - 1, :], axis=-1)

    ratios = (distance(2, 6) + distance(3, 5)) / (2 * distance(1, 4))
    return ratios.mean(axis=-1)


def mouth_motion(landmarks: jax.Array) -> jax.Array:
    """How much the mouth of a video moves: 0 where it stands still.

    The standard deviation over time of the 20 mouth landmarks, over the mean distance of the outer
    eye corners; ours.

    Args:
        landmarks: [..., T, 68, 2] of aligned frames, iBUG order.

    Returns:
        [...].
    """
    mouth = landmarks[..., 48:, :]
    spread = jnp.sqrt(jnp.var(mouth, axis=-3).sum(axis=-1)).mean(axis=-1)
    eyes = jnp.linalg.norm(landmarks[..., 36, :] - landmarks[..., 45, :], axis=-1)
    return spread / eyes.mean(axis=-1)


def detect_blinks(ratios: np.ndarray, drop: float = 0.3, fall_frames: int = 8) -> np.ndarray:
    """First and last frame of each blink of a video.

    Ratios are relative to those of the open eyes, their upper quartile, as eyes are open for most
    of the time. A blink is a minimum that lies at least `drop` below one of the few frames before
    it; lids that sink more slowly follow the gaze. It begins and ends at the nearest peak to
    either side, a shoulder being one too, that regains three quarters of the way to open eyes, or
    to the highest frame before the next turn where that is lower. A turn is a change of direction
    by a third of `drop` or more, so that eyes that open halfway between two drops blink twice.

    Args:
        ratios: float [T] of the valid frames, see `eye_aspect_ratio`.
        drop: share of the open ratio, 0 to 1. The default is strict: few false alarms.
        fall_frames: how many frames before the minimum count.

    Returns:
        int [N, 2], in order. A blink that the video's first or last frame cuts ends there.
    """
    ratios = np.asarray(ratios, np.float64)
    open_ratio = np.percentile(ratios, 75) if ratios.size else 0.0
    if open_ratio == 0:
        return np.zeros((0, 2), int)
    levels = ratios / open_ratio
    turns = [0, *_turns(levels, drop / 3), len(levels) - 1]
    blinks = []
    for before, turn, after in zip(turns, turns[1:], turns[2:], strict=False):
        recent = levels[max(turn - fall_frames, before) : turn + 1]
        if recent.max() - levels[turn] >= drop:
            start = turn - _steps_to_peak(levels[before : turn + 1][::-1])
            blinks.append((start, turn + _steps_to_peak(levels[turn : after + 1])))
    return np.array(blinks, int).reshape(-1, 2)


def blink_statistics(
    blinks: Sequence[np.ndarray], lengths: Sequence[int], video_rate: float = 25.0
) -> BlinkStatistics:
    """Frequency and duration of the blinks of a set of videos.

    Args:
        blinks: of each of V videos, see `detect_blinks`.
        lengths: valid frames of each video.
        video_rate: frames per second.

    Returns:
        See `BlinkStatistics`. The duration of a blink is from its first to its last frame; the
        median is what the paper reports, as the detector misses some ends.
    """
    counts = np.array([len(found) for found in blinks], int)
    seconds = sum(lengths) / video_rate
    durations = np.concatenate([np.zeros(0), *(np.ptp(b, axis=1) / video_rate for b in blinks)])
    return BlinkStatistics(
        per_second=float(counts.sum() / seconds) if seconds else np.nan,
        median_duration=float(np.median(durations)) if durations.size else np.nan,
        counts=counts,
        durations=durations,
    )


def score_blinks(detected: Sequence[np.ndarray], true: Sequence[np.ndarray]) -> BlinkScores:
    """Compares detected blinks with true ones, such as annotated ones.

    Blinks that share a frame may be the same; each is paired at most once, so that there are as
    many pairs as possible, and that these share as many frames as possible.

    Args:
        detected, true: int [N, 2] first and last frames, of each of V videos.

    Returns:
        See `BlinkScores`.
    """
    parts = [np.zeros((0, 2))]
    for pair in zip(detected, true, strict=True):
        ours, theirs = (np.reshape(blinks, (-1, 2)) for blinks in pair)
        last = np.minimum.outer(ours[:, 1], theirs[:, 1])
        shared = np.maximum(last - np.maximum.outer(ours[:, 0], theirs[:, 0]) + 1, 0)
        weights = np.where(shared > 0, shared.sum() + shared, 0)
        rows, columns = linear_sum_assignment(weights, maximize=True)
        paired = shared[rows, columns] > 0
        parts.append(np.abs(ours[rows[paired]] - theirs[columns[paired]]))
    errors = np.concatenate(parts)
    num_detected, num_true = (sum(len(b) for b in blinks) for blinks in (detected, true))
    start_error, end_error = errors.mean(axis=0) if len(errors) else (np.nan, np.nan)
    return BlinkScores(
        precision=len(errors) / num_detected if num_detected else np.nan,
        recall=len(errors) / num_true if num_true else np.nan,
        start_error=float(start_error),
        end_error=float(end_error),
    )


def _turns(levels: np.ndarray, ripple: float) -> list[int]:
    """Frames of alternate minima and maxima, from each to the next at least `ripple` apart."""
    turns = []
    low = high = direction = 0
    for t in range(len(levels)):
        low = t if levels[t] < levels[low] else low
        high = t if levels[t] > levels[high] else high
        if direction >= 0 and levels[high] - levels[t] >= ripple:
            turns.append(high)
            low, direction = t, -1
        elif direction <= 0 and levels[t] - levels[low] >= ripple:
            turns.append(low)
            high, direction = t, 1
    return [*turns, low if direction < 0 else high]


def _steps_to_peak(levels: np.ndarray) -> int:
    """Steps from a minimum, the first of the levels, to the first peak or shoulder above it."""
    regained = levels[0] + _REGAINED * (min(levels.max(), 1.0) - levels[0])
    flat = np.diff(levels, append=levels[-1]) <= _SHOULDER
    return int(np.argmax(flat & (levels >= regained)))

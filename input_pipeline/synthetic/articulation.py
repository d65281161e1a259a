"""From phonemes to movement: how the rendered speakers' faces speak, blink and turn.

Every phoneme has a viseme, a set of weights of the face model's expression units, and the visemes
are blended by dominance functions (Cohen and Massaro, "Modeling coarticulation in synthetic
visual speech", 1993), so that a mouth anticipates rounded vowels and still closes for a p. Ours:
the table, measured by eye on the default face model, and what a face does besides: blinks,
dimples and head motion, which are drawn independently of the speech.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.ndimage import gaussian_filter1d

from input_pipeline.speech import Segment

ACTION_UNITS = ("AU10", "AU14", "AU20", "AU25", "AU26")
"""Upper lip raiser, dimpler, lip stretcher, lips part, jaw drop."""

SILENCE = "silence"


@dataclass(frozen=True)
class Viseme:
    """Weights of expression units at its peak, and its dominance over its neighbours."""

    dominance: float
    units: dict[str, float]


def _viseme(dominance: float, **units: float) -> Viseme:
    return Viseme(dominance, units)


VISEMES = {
    SILENCE: _viseme(0.4),
    # Lips meet: dominant enough to close in the middle of open vowels.
    "bilabial": _viseme(
        8.0, jawOpen=0.05, mouthClose=0.05, mouthPress=0.3, mouthRollLower=0.2, mouthRollUpper=0.15
    ),
    "labiodental": _viseme(
        1.8, jawOpen=0.08, mouthRollLower=0.55, mouthUpperUp=0.3, mouthShrugLower=0.2
    ),
    "dental": _viseme(1.0, jawOpen=0.15, mouthLowerDown=0.3, mouthUpperUp=0.15),
    "alveolar": _viseme(
        0.8, jawOpen=0.11, mouthLowerDown=0.3, mouthUpperUp=0.15, mouthStretch=0.15
    ),
    "lateral": _viseme(0.8, jawOpen=0.2, mouthLowerDown=0.3, mouthUpperUp=0.12),
    "postalveolar": _viseme(
        1.2, jawOpen=0.12, mouthFunnel=0.55, mouthLowerDown=0.3, mouthUpperUp=0.2
    ),
    "velar": _viseme(0.5, jawOpen=0.2, mouthLowerDown=0.2),
    "rhotic": _viseme(0.8, jawOpen=0.13, mouthFunnel=0.3, mouthPucker=0.3),
    "labiovelar": _viseme(1.5, jawOpen=0.07, mouthPucker=0.85, mouthFunnel=0.2),
    "glottal": _viseme(0.3, jawOpen=0.22, mouthLowerDown=0.15),
    "open": _viseme(1.1, jawOpen=0.55, mouthLowerDown=0.25, mouthUpperUp=0.12),
    "near_open": _viseme(1.1, jawOpen=0.42, mouthStretch=0.3, mouthLowerDown=0.3, mouthUpperUp=0.2),
    "open_mid": _viseme(
        0.9, jawOpen=0.3, mouthStretch=0.25, mouthLowerDown=0.25, mouthUpperUp=0.15
    ),
    "close_front": _viseme(
        1.0,
        jawOpen=0.11,
        mouthSmileLeft=0.3,
        mouthSmileRight=0.3,
        mouthStretch=0.4,
        mouthLowerDown=0.35,
        mouthUpperUp=0.18,
    ),
    "near_close": _viseme(0.7, jawOpen=0.18, mouthStretch=0.2, mouthLowerDown=0.2),
    "central": _viseme(0.6, jawOpen=0.25, mouthLowerDown=0.15),
    "open_rounded": _viseme(1.1, jawOpen=0.4, mouthFunnel=0.5),
    "close_rounded": _viseme(1.3, jawOpen=0.11, mouthPucker=0.8, mouthFunnel=0.3),
}
"""Visemes by name; the truth `visemes` of the rendered corpus are indices into their order."""

_PHONEMES = {
    "bilabial": "b p m",
    "labiodental": "f v",
    "dental": "T D",
    "alveolar": "t t2 t# d n n- s z *",
    "lateral": "l l- l#",
    "postalveolar": "S Z tS dZ",
    "velar": "k g N x",
    "rhotic": "r r- R",
    "labiovelar": "w w#",
    "glottal": "h ?",
    "open": "A: A@ A a: aa:",
    "near_open": "a aa &",
    "open_mid": "E E2 e",
    "close_front": "i: i",
    "near_close": "I I2 I# j",
    "central": "V @ @2 @5 @- @L 3 3: a# V#",
    "open_rounded": "0 0# O: O O@ o@ o o:",
    "close_rounded": "u: u U",
}
_DIPHTHONGS = {
    "eI": ("open_mid", "close_front"),
    "aI": ("open", "close_front"),
    "aI2": ("open", "close_front"),
    "OI": ("open_rounded", "close_front"),
    "aU": ("open", "close_rounded"),
    "oU": ("open_rounded", "close_rounded"),
    "@U": ("central", "close_rounded"),
    "i@": ("close_front", "central"),
    "i@3": ("close_front", "central"),
    "e@": ("open_mid", "central"),
    "U@": ("close_rounded", "central"),
    "aI@": ("open", "central"),
    "aI3": ("open", "central"),
    "aU@": ("open", "central"),
}
PHONEME_VISEMES: dict[str, tuple[str, ...]] = {
    "_": (SILENCE,),
    **{phoneme: (name,) for name, group in _PHONEMES.items() for phoneme in group.split()},
    **_DIPHTHONGS,
}
"""Viseme, or the two of a diphthong, of each English mnemonic of espeak-ng."""
_UNKNOWN = ("central",)  # a phoneme of another language

_STEPS = 8  # within a frame: its picture is the mean over its exposure
_HOLD = 0.3  # share of a segment's length around its centre for which its dominance is full
_SPREAD = 0.55  # of the dominance beyond, as a share of half the segment and _REACH
_REACH = 0.035  # s
_SHARPNESS = 1.6
_CLOSURE = 0.05  # s, by which the lips meet before the burst of a plosive is heard
_LABIAL_PLOSIVES = ("p", "b")


def segment_visemes(phonemes: Sequence[Segment], duration: float) -> list[Segment]:
    """Visemes that fill the time from 0 to `duration` s, silence where nothing is said."""
    segments: list[Segment] = []

    def add(name: str, start: float, end: float) -> None:
        if start < end:
            segments.append(Segment(name, start, end))

    for phoneme, after in zip(phonemes, [*phonemes[1:], None], strict=True):
        add(SILENCE, segments[-1].end if segments else 0.0, _onset(phoneme))
        names = PHONEME_VISEMES.get(phoneme.name, _UNKNOWN)
        end = min(phoneme.end, _onset(after)) if after else phoneme.end
        bounds = np.linspace(_onset(phoneme), end, len(names) + 1).tolist()
        for name, start, stop in zip(names, bounds, bounds[1:], strict=False):
            add(name, start, stop)
    add(SILENCE, segments[-1].end if segments else 0.0, duration)
    return segments


def _onset(phoneme: Segment) -> float:
    """When the mouth takes the shape of a phoneme that is heard from its start on, s."""
    early = _CLOSURE if phoneme.name in _LABIAL_PLOSIVES else 0.0
    return max(phoneme.start - early, 0.0)


def coarticulate(
    visemes: Sequence[Segment], unit_names: Sequence[str], num_frames: int, fps: float
) -> np.ndarray:
    """Weights of the expression units in each frame, float32 [num_frames, E].

    Args:
        visemes: of `segment_visemes`; times in s from the start of the first frame.
        unit_names: the E units of the face model.
        num_frames, fps: of the video; a frame shows the mean over its duration.
    """
    times = (np.arange(num_frames * _STEPS) + 0.5) / (fps * _STEPS)
    dominance = np.stack([_dominance(segment, times) for segment in visemes], axis=1)
    # Where no viseme reaches, deep in a long silence, the face is at rest.
    dominance /= dominance.sum(axis=1, keepdims=True) + 1e-3
    targets = np.zeros((len(visemes), len(unit_names)))
    for target, segment in zip(targets, visemes, strict=True):
        for unit, weight in VISEMES[segment.name].units.items():
            target[unit_names.index(unit)] = weight
    weights = (dominance @ targets).reshape(num_frames, _STEPS, -1).mean(axis=1)
    return weights.astype(np.float32)


def _dominance(segment: Segment, times: np.ndarray) -> np.ndarray:
    length = segment.end - segment.start
    centre = (segment.start + segment.end) / 2
    distance = np.maximum(np.abs(times - centre) - _HOLD * length, 0)
    spread = _SPREAD * (max(length / 2, 0.02) + _REACH)
    return VISEMES[segment.name].dominance * np.exp(-((distance / spread) ** _SHARPNESS))


def frame_labels(segments: Sequence[Segment], num_frames: int, fps: float) -> np.ndarray:
    """Index of the segment in the middle of each frame, int64 [num_frames]; -1 where none is."""
    middles = (np.arange(num_frames) + 0.5) / fps
    labels = np.full(num_frames, -1)
    for index, segment in enumerate(segments):
        labels[(segment.start <= middles) & (middles < segment.end)] = index
    return labels


def draw_blinks(rng: np.random.Generator, num_frames: int, fps: float) -> np.ndarray:
    """How far the lids are closed in each frame, float32 [num_frames] in [0, 1].

    Blinks come at random, 0.4 per second on average and at least 0.4 s apart; the lids fall in
    about 0.08 s, stay down a moment and rise in about 0.16 s.
    """
    times = (np.arange(num_frames * _STEPS) + 0.5) / (fps * _STEPS)
    closure = np.zeros_like(times)
    time, end = -1.0, num_frames / fps
    while (time := time + 0.6 + rng.exponential(1.9)) < end:
        fall, down, rise = rng.uniform((0.06, 0.02, 0.12), (0.1, 0.06, 0.2))
        corners = np.cumsum((time, fall, down, rise))
        closure = np.maximum(closure, np.interp(times, corners, (0, 1, 1, 0), left=0, right=0))
    return closure.reshape(num_frames, _STEPS).mean(axis=1).astype(np.float32)


def draw_dimples(rng: np.random.Generator, num_frames: int, fps: float) -> np.ndarray:
    """Strength of the dimpler (AU14), which no viseme moves: float32 [num_frames] in [0, 1].

    Events of 0.3 to 0.9 s, 0.3 per second on average.
    """
    times = (np.arange(num_frames) + 0.5) / fps
    strength = np.zeros(num_frames)
    time, end = -1.0, num_frames / fps
    while (time := time + 0.8 + rng.exponential(2.5)) < end:
        length, peak = rng.uniform((0.3, 0.5), (0.9, 1.0))
        phase = (times - time) / length
        during = (phase > 0) & (phase < 1)
        strength = np.maximum(strength, peak * np.where(during, np.sin(np.pi * phase) ** 2, 0))
    return strength.astype(np.float32)


def draw_drift(
    rng: np.random.Generator, num_frames: int, fps: float, seconds: float, deviation: float
) -> np.ndarray:
    """A smooth random motion around 0: float32 [num_frames].

    Args:
        rng: source of randomness.
        num_frames, fps: of the video.
        seconds: standard deviation of the Gaussian that smooths it.
        deviation: standard deviation over many clips.
    """
    sigma = seconds * fps
    margin = int(np.ceil(4 * sigma))
    noise = gaussian_filter1d(rng.standard_normal(num_frames + 2 * margin), sigma)
    scale = deviation * np.sqrt(2 * np.sqrt(np.pi) * sigma)
    return (scale * noise[margin : margin + num_frames]).astype(np.float32)


# Gap of the inner lips (landmarks 62 and 66) and weights of units that count as full intensity.
_FULL_GAP = 0.2  # of the distance of the outer eye corners
_UNIT_OF = {
    "AU10": "mouthUpperUp",
    "AU14": "mouthDimple",
    "AU20": "mouthStretch",
    "AU26": "jawOpen",
}
_FULL_WEIGHT = {"AU10": 0.5, "AU14": 1.0, "AU20": 0.5, "AU26": 0.6}
ACTIVE = 0.2
"""Least intensity of an action unit that counts as present."""


def action_units(
    weights: np.ndarray, unit_names: Sequence[str], landmarks: np.ndarray
) -> np.ndarray:
    """Intensities of `ACTION_UNITS`, float32 [T, 5] in [0, 1].

    AU25 (lips part) is the gap that is seen; the others are weights of expression units.

    Args:
        weights: [T, E] of the units.
        unit_names: the E units.
        landmarks: [T, 68, D] of the same frames, at any scale.
    """
    gap = np.linalg.norm(landmarks[:, 62] - landmarks[:, 66], axis=-1)
    gap /= np.linalg.norm(landmarks[:, 36] - landmarks[:, 45], axis=-1)
    columns = [
        gap / _FULL_GAP
        if name == "AU25"
        else weights[:, unit_names.index(_UNIT_OF[name])] / _FULL_WEIGHT[name]
        for name in ACTION_UNITS
    ]
    return np.clip(np.stack(columns, axis=1), 0, 1).astype(np.float32)

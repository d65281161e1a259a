"""What is measured of videos: the families of measures, and the columns that tables make of them.

A family looks at a batch of clips and returns, of each clip, a few arrays, its record; a column is
a number worked out from the records of all clips. So a measure that is no mean over clips (a median
over all blinks, a distance of distributions) is a column like any other, and records can be kept
and added to. The definitions are those of `flax_talk.metrics`; here they meet the networks that
judge and the detectors that find faces.
"""

import dataclasses
import functools
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from flax_talk.errors import UserError
from flax_talk.evaluation.validation import SHIPPED_SYNCNET
from flax_talk.images import to_float
from flax_talk.interop.inception import load_inception
from flax_talk.interop.vgg19 import load_vgg19
from flax_talk.losses import l1, lower_half
from flax_talk.metrics import (
    action_units,
    distribution,
    expression,
    geometry,
    identity,
    lip_reading,
    reconstruction,
    sharpness,
    synchrony,
)
from flax_talk.metrics.perceptual import perceptual_distance
from flax_talk.systems import action_units as units
from flax_talk.systems import check_config, get_system, lipnet, syncnet
from flax_talk.training.checkpoints import load_config, load_variables
from input_pipeline import faces

Record = Mapping[str, np.ndarray]
"""What is kept of one clip: arrays by "family/field", or of one family by "field"."""

_MOUTH = slice(48, 68)
_ALIGNED_SIZE = (128, 96)
_EVERY = 5  # of so many frames one is shown to the large networks (ours)


class Judges(NamedTuple):
    """Who judges.

    Attributes:
        syncnet, lipnet: checkpoints of the judges of synchrony and of words.
        au_classifier: checkpoint of the judge of action units.
        embedder: name in `flax_talk.metrics.identity.EMBEDDERS`.
        detector: name of a face detector.
        vgg19: file of VGG-19's weights, see `flax_talk.interop.vgg19`.
        inception: file of an Inception network's weights, see `flax_talk.interop.inception`.
    """

    syncnet: str | Path = SHIPPED_SYNCNET
    lipnet: str | Path = SHIPPED_SYNCNET.with_name("lipnet")
    au_classifier: str | Path = SHIPPED_SYNCNET.with_name("au_classifier")
    embedder: str = "dlib"
    detector: str = "dlib"
    vgg19: str | Path | None = None
    inception: str | Path | None = None


SHIPPED_JUDGES = Judges()
"""Those that come with this package; without the weights that do not."""


class Footage:
    """Videos of a batch, and what is found in them, which is found once.

    Args:
        frames: uint8 [B, T, H, W, 3], on the host or on devices; T = 1 is shown for as long as
            `mask` says.
        mask: bool [B, T'], valid frames.
        detector: name of a face detector.
        is_aligned: the frames are aligned faces already.
    """

    def __init__(
        self,
        frames: np.ndarray | jax.Array,
        mask: np.ndarray,
        detector: str = "dlib",
        is_aligned: bool = True,
    ):
        self.mask = np.asarray(mask)
        self._frames, self._detector, self._is_aligned = frames, detector, is_aligned

    @property
    def frames(self) -> jax.Array:
        """uint8 [B, T', H, W, 3] on the devices."""
        return jnp.broadcast_to(self._frames, self._shape(self._frames))

    @functools.cached_property
    def host(self) -> list[np.ndarray]:
        """Valid frames of each clip, uint8 [N, H, W, 3]; of a still the one."""
        frames = np.asarray(self._frames)
        return [
            clip if len(clip) == 1 else clip[valid]
            for clip, valid in zip(frames, self.mask, strict=True)
        ]

    @functools.cached_property
    def landmarks(self) -> list[np.ndarray | None]:
        """Landmarks float32 [N, 68, 2] of the frames of `host`; None of a clip without a face."""
        return [self._find(frames) for frames in self.host]

    @functools.cached_property
    def faces(self) -> jax.Array | np.ndarray:
        """Aligned faces uint8 [B, T', H', W', 3] for the judges; black where there is none."""
        if self._is_aligned:
            return self.frames
        shown = np.zeros((*self.mask.shape, *_ALIGNED_SIZE, 3), np.uint8)
        for clip, valid, frames, points in zip(
            shown, self.mask, self.host, self.landmarks, strict=True
        ):
            if points is not None:
                clip[valid] = faces.align(frames, points, _ALIGNED_SIZE)[0]
        return shown

    def _shape(self, frames: np.ndarray | jax.Array) -> tuple[int, ...]:
        return (*self.mask.shape, *frames.shape[2:])

    def _find(self, frames: np.ndarray) -> np.ndarray | None:
        if not len(frames):
            return None
        try:
            return faces.detect_video(frames, faces.get_detector(self._detector))
        except faces.ClipError:
            return None


@dataclasses.dataclass(frozen=True)
class Clips:
    """B clips that are to be measured.

    Attributes:
        video: what is shown, and `reference`, what should be.
        still: the first frame, or whatever the video was made from.
        mfcc: float32 [B, 4 T, 13] of `input_pipeline.audio.mfcc`; None without sound.
        text: what is said in each clip; None where that is not known.
        closure: how far the lids in `video` are truly closed, [N] of each clip; None where that
            is not known.
        units, true_units: action units by OpenFace of `video` and `reference`, None of a clip
            that lacks them; None altogether where a network is to find them.
    """

    video: Footage
    reference: Footage
    still: Footage
    mfcc: np.ndarray | None = None
    text: Sequence[str | None] | None = None
    closure: Sequence[np.ndarray] | None = None
    units: Sequence[action_units.OpenFaceUnits | None] | None = None
    true_units: Sequence[action_units.OpenFaceUnits | None] | None = None

    @property
    def mask(self) -> np.ndarray:
        """bool [B, T], valid frames."""
        return self.reference.mask


Fields = dict[str, np.ndarray | Sequence[np.ndarray | float]]
"""By field, one entry for each of the B clips."""

Family = Callable[[Clips], Fields]


@jax.jit
def _reconstruct(video: jax.Array, reference: jax.Array, mask: jax.Array) -> dict[str, jax.Array]:
    a, b = to_float(video), to_float(reference)
    lower_a, lower_b = lower_half(a), lower_half(b)
    return {
        "psnr": reconstruction.video_psnr(a, b, mask),
        "psnr_lower": reconstruction.video_psnr(lower_a, lower_b, mask),
        "psnr_frames": reconstruction.psnr(a, b),
        "ssim_frames": reconstruction.ssim(a, b),
        "ssim_uniform_frames": reconstruction.ssim_uniform(a, b),
        "ssim_lower_frames": reconstruction.ssim(lower_a, lower_b),
        "l1_lower_frames": l1(lower_a, lower_b),
    }


def _reconstruction(judges: Judges) -> Family:
    del judges

    def family(clips: Clips) -> Fields:
        video, reference = clips.video.frames, clips.reference.frames
        return _valid(_reconstruct(video, reference, clips.mask), clips.mask)

    return family


def _perceptual(judges: Judges) -> Family:
    if judges.vgg19 is None:
        raise UserError("needs the weights of VGG-19: give --vgg19 FILE")
    weights = load_vgg19(judges.vgg19)
    measure = jax.jit(perceptual_distance)

    def family(clips: Clips) -> Fields:
        values = measure(weights, clips.video.frames, clips.reference.frames)
        return _valid({"frames": values}, clips.mask)

    return family


_fdbm = jax.jit(sharpness.fdbm)


def _sharpness(judges: Judges) -> Family:
    del judges

    def family(clips: Clips) -> Fields:
        # Pictures smaller than a block of CPBD have none.
        large = min(clips.video.frames.shape[2:4]) >= sharpness.BLOCK
        cpbd = [np.mean(sharpness.cpbd(x)) if large else np.nan for x in clips.video.host]
        return {"cpbd": cpbd, **_valid({"fdbm_frames": _fdbm(clips.video.frames)}, clips.mask)}

    return family


def _identity(judges: Judges) -> Family:
    embed = identity.get_embedder(judges.embedder)

    def distance(still, still_points, frames, points):
        if still_points is None or points is None:
            return np.nan
        embeddings = embed(still, still_points), embed(frames[::_EVERY], points[::_EVERY])
        return identity.average_content_distance(embeddings[0][0], embeddings[1])

    def family(clips: Clips) -> Fields:
        still, video = clips.still, clips.video
        pairs = zip(still.host, still.landmarks, video.host, video.landmarks, strict=True)
        return {"acd": [distance(*pair) for pair in pairs]}

    return family


def _lip_reading(judges: Judges) -> Family:
    config, variables = _judge(judges.lipnet, lipnet)
    log_probs = jax.jit(functools.partial(lipnet.log_probs, config))

    def family(clips: Clips) -> Fields:
        said = clips.text or [None] * len(clips.mask)
        probabilities = np.asarray(log_probs(variables, clips.video.faces, clips.mask))
        read = lip_reading.read(probabilities, clips.mask, config.measure.beam_width)
        # Where nothing is known to be said, nothing can be read wrong.
        known = np.array([words is not None for words in said])
        texts = [words or "" for words in said]
        wer = np.where(known, lip_reading.word_error_rates(texts, read), np.nan)
        cer = np.where(known, lip_reading.character_error_rates(texts, read), np.nan)
        return {"wer": wer, "cer": cer}

    return family


def _synchrony(judges: Judges) -> Family:
    config, variables = _judge(judges.syncnet, syncnet)

    @jax.jit
    def measure(video, mfcc, mask):
        mask, shift = syncnet.window_mask(mask), config.measure.max_shift
        embeddings = syncnet.embed(config, variables, video, mfcc)
        result = synchrony.synchrony(*embeddings, mask, shift)
        distances = synchrony.shifted_distances(*embeddings, mask, shift)
        return {**result._asdict(), "distances": distances}

    def family(clips: Clips) -> Fields:
        count = len(clips.mask)
        if clips.mfcc is None:
            return {name: [np.nan] * count for name in ("offset", "confidence", "distance")}
        return jax.device_get(measure(clips.video.faces, clips.mfcc, clips.mask))

    return family


def _blinks(judges: Judges) -> Family:
    faces.get_detector(judges.detector)

    def family(clips: Clips) -> Fields:
        found = [
            np.zeros((0, 2), int) if points is None else _detect_blinks(points)
            for points in clips.video.landmarks
        ]
        # Seen: in frames without a face, no blink can be.
        seen = [
            0 if points is None else valid.sum()
            for points, valid in zip(clips.video.landmarks, clips.mask, strict=True)
        ]
        fields: Fields = {"found": found, "frames": seen}
        if clips.closure is not None:
            fields["true"] = [true_blinks(closure) for closure in clips.closure]
        return fields

    return family


def _detect_blinks(landmarks: np.ndarray) -> np.ndarray:
    return expression.detect_blinks(np.asarray(expression.eye_aspect_ratio(landmarks)))


def true_blinks(closure: np.ndarray) -> np.ndarray:
    """First and last frame of each blink in which the lids more than half close.

    Args:
        closure: [T], how far the lids are closed, 0 to 1.

    Returns:
        int [N, 2]: the last frame before and the first after in which the eye is open, as
        `expression.detect_blinks` has them.
    """
    moving = np.concatenate([[False], closure > 0, [False]])
    edges = np.flatnonzero(moving[1:] != moving[:-1]).reshape(-1, 2)
    deep = [(a, b) for a, b in edges if closure[a:b].max() > 0.5]
    blinks = np.array(deep, int).reshape(-1, 2) + np.array([-1, 0])
    return np.clip(blinks, 0, len(closure) - 1)


def _mouth(judges: Judges) -> Family:
    faces.get_detector(judges.detector)

    def motion(points):
        return np.nan if points is None else expression.mouth_motion(points)

    def error(points, true):
        if points is None or true is None:
            return np.nan
        return geometry.landmark_error(points[:, _MOUTH], true[:, _MOUTH]).mean()

    def family(clips: Clips) -> Fields:
        shown, true = clips.video.landmarks, clips.reference.landmarks
        pairs = zip(shown, true, strict=True)
        return {"motion": [motion(p) for p in shown], "error": [error(*pair) for pair in pairs]}

    return family


def _action_units(judges: Judges) -> Family:
    config, variables = _judge(judges.au_classifier, units)
    if units.CLASSIFIER not in variables:
        raise UserError(f"{judges.au_classifier} holds no AU classifier: train :au_classifier")
    classify = jax.jit(functools.partial(units.classify, config))

    def by_openface(found, true):
        if found is None or true is None:
            return np.zeros((2, 0, len(action_units.ACTION_UNITS)), bool)
        count = min(len(found.states), len(true.states))
        valid = found.valid[:count] & true.valid[:count]
        return np.stack([found.states[:count][valid], true.states[:count][valid]])

    def family(clips: Clips) -> Fields:
        if clips.units is not None:
            pairs = zip(clips.units, clips.true_units, strict=True)
            return {"states": [by_openface(*pair) for pair in pairs]}
        shown = (clips.video.faces, clips.reference.faces)
        found, true = (np.asarray(classify(variables, x)) for x in shown)
        each = zip(found, true, clips.mask, strict=True)
        return {"states": [np.stack([a[valid], b[valid]]) for a, b, valid in each]}

    return family


def _distribution(judges: Judges) -> Family:
    network = load_inception(judges.inception)
    variables = jax.device_put(network.variables)
    look = jax.jit(network.net.apply)

    def family(clips: Clips) -> Fields:
        frames = clips.video.frames[:, ::_EVERY]
        flat = to_float(frames.reshape(-1, *frames.shape[2:]))
        features, logits = look(variables, flat)
        both = {"features": features, "logits": logits}
        shape = frames.shape[:2]
        values = {name: value.reshape(*shape, -1) for name, value in both.items()}
        return _valid(values, clips.mask[:, ::_EVERY])

    return family


def _valid(values: Mapping[str, jax.Array], mask: np.ndarray) -> Fields:
    """Values [B], and of values [B, T, ...] those of the valid frames."""
    host = jax.device_get(dict(values))
    return {
        name: value if value.ndim == 1 else [clip[m] for clip, m in zip(value, mask, strict=True)]
        for name, value in host.items()
    }


def _judge(path: str | Path, system):
    """Config and variables of a judge."""
    config = load_config(Path(path))
    if get_system(config.system) is not system:
        wanted = system.__name__.rpartition(".")[2]
        raise UserError(f"{path} holds {config.system}: give a checkpoint of {wanted}")
    check_config(config, path)
    return config, load_variables(Path(path))[0]


FAMILIES: dict[str, Callable[[Judges], Family]] = {
    "reconstruction": _reconstruction,
    "perceptual": _perceptual,
    "sharpness": _sharpness,
    "identity": _identity,
    "lip_reading": _lip_reading,
    "synchrony": _synchrony,
    "blinks": _blinks,
    "mouth": _mouth,
    "action_units": _action_units,
    "distribution": _distribution,
}
"""How each family is made; a UserError says why it cannot be."""


class Column(NamedTuple):
    """A number of a table.

    Attributes:
        summarise: of the records of all clips, and of those of the real videos, by field.
        better: "up", "down", or "" where neither is.
        decimals: of its print.
        meaning: in a few words, with the unit.
        family: whose records it is worked out from.
    """

    summarise: Callable[[Sequence[Record], Sequence[Record]], float]
    better: str
    decimals: int
    meaning: str
    family: str = ""


def _mean(field: str):
    """Mean over the clips that have one, of a field of all frames first over these."""

    def summarise(records, real):
        del real
        means = np.array([np.mean(record[field]) for record in records])
        return _mean_or_nan(means[~np.isnan(means)])

    return summarise


def _mean_of_frames(field: str):
    """Mean over all frames of all clips but each clip's first, which the still is."""

    def summarise(records, real):
        del real
        return _mean_or_nan(np.concatenate([record[field][1:] for record in records]))

    return summarise


def _mean_or_nan(values: np.ndarray) -> float:
    return float(np.mean(values)) if len(values) else float("nan")


def _blink_statistic(name: str):
    def summarise(records, real):
        del real
        found = [record["found"] for record in records]
        frames = [int(record["frames"]) for record in records]
        return float(getattr(expression.blink_statistics(found, frames), name))

    return summarise


def _blink_score(name: str):
    """How well blinks are found where the true ones are known."""

    def summarise(records, real):
        del real
        known = [record for record in records if "true" in record]
        pairs = [record["found"] for record in known], [record["true"] for record in known]
        return float(getattr(expression.score_blinks(*pairs), name))

    return summarise


def _unit_score(score, unit: int | None = None):
    """F1 or accuracy over all frames, of one action unit or the mean over all."""

    def summarise(records, real):
        del real
        found, true = np.concatenate([record["states"] for record in records], axis=1)
        values = np.asarray(score(found, true))
        if unit is not None:
            return float(values[action_units.ACTION_UNITS.index(unit)])
        return _mean_or_nan(values[~np.isnan(values)])

    return summarise


def _frechet(records, real):
    groups = [np.concatenate([r["features"] for r in group]) for group in (records, real)]
    return float(distribution.frechet_distance(*groups))


def _inception_score(records, real):
    del real
    logits = np.concatenate([record["logits"] for record in records])
    # In an order without pattern, as parts are scored apart.
    order = np.random.default_rng(0).permutation(len(logits))
    return float(distribution.inception_score(logits[order], min(10, len(logits)))[0])


_BY_FAMILY = {
    "reconstruction": {
        "psnr": Column(_mean("psnr"), "up", 3, "dB, of each video's mean error"),
        "psnr_frame": Column(
            _mean_of_frames("psnr_frames"), "up", 3, "dB, mean over frames but the first"
        ),
        "psnr_lower": Column(_mean("psnr_lower"), "up", 3, "dB, as psnr, lower half"),
        "ssim": Column(_mean("ssim_frames"), "up", 4, "11 x 11 Gaussian, mean over videos"),
        "ssim_frame": Column(
            _mean_of_frames("ssim_frames"), "up", 4, "11 x 11 Gaussian, over frames but the first"
        ),
        "ssim_uniform": Column(_mean("ssim_uniform_frames"), "up", 4, "7 x 7 uniform"),
        "ssim_lower": Column(_mean("ssim_lower_frames"), "up", 4, "as ssim, lower half"),
        "l1_lower": Column(_mean("l1_lower_frames"), "down", 4, "lower half, units of [-1, 1]"),
    },
    "perceptual": {
        "perceptual": Column(_mean("frames"), "down", 4, "distance by VGG-19, equal weights"),
    },
    "sharpness": {
        "cpbd": Column(_mean("cpbd"), "up", 3, "share of edges without visible blur"),
        "fdbm": Column(_mean("fdbm_frames"), "up", 3, "share of strong frequencies"),
    },
    "identity": {
        "acd": Column(_mean("acd"), "down", 4, f"distance of embeddings, every {_EVERY}th frame"),
    },
    "lip_reading": {
        "wer": Column(_mean("wer"), "down", 3, "share of words that LipNet reads wrong"),
        "cer": Column(_mean("cer"), "down", 3, "share of characters that LipNet reads wrong"),
    },
    "synchrony": {
        "av_offset": Column(_mean("offset"), "", 2, "frames, positive: audio leads"),
        "av_confidence": Column(_mean("confidence"), "up", 3, "median less least distance"),
        "av_distance": Column(_mean("distance"), "down", 3, "least distance"),
    },
    "blinks": {
        "blinks_per_second": Column(_blink_statistic("per_second"), "", 3, ""),
        "blink_duration": Column(_blink_statistic("median_duration"), "", 2, "s, median"),
        "blink_precision": Column(_blink_score("precision"), "up", 3, "of the detector"),
        "blink_recall": Column(_blink_score("recall"), "up", 3, "of the detector"),
        "blink_start_error": Column(_blink_score("start_error"), "down", 2, "frames, detector's"),
        "blink_end_error": Column(_blink_score("end_error"), "down", 2, "frames, detector's"),
    },
    "mouth": {
        "mouth_motion": Column(_mean("motion"), "", 4, "deviation over time by eye distance"),
        "landmark_error": Column(_mean("error"), "down", 3, "pixels, mouth to the real one"),
    },
    "action_units": {
        f"{name}{suffix}": Column(_unit_score(score, unit), "up", 3, meaning)
        for name, score in (("au_f1", action_units.f1), ("au_accuracy", action_units.accuracy))
        for unit, suffix, meaning in (
            (None, "", "mean over units"),
            *((unit, f"_{unit}", f"of AU{unit}") for unit in action_units.ACTION_UNITS),
        )
    },
    "distribution": {
        "fid": Column(_frechet, "down", 2, f"to the real videos, every {_EVERY}th frame"),
        "inception_score": Column(_inception_score, "up", 2, f"every {_EVERY}th frame"),
    },
}

COLUMNS: dict[str, Column] = {
    name: column._replace(family=family)
    for family, columns in _BY_FAMILY.items()
    for name, column in columns.items()
}
"""Every column by its name."""


def choose(names: Sequence[str] = ()) -> list[str]:
    """The columns that a user asks for.

    Args:
        names: of columns or of families; none for all.

    Raises:
        UserError: a name of neither.
    """
    if unknown := [name for name in names if name not in COLUMNS and name not in FAMILIES]:
        raise UserError(
            f"no measure {', '.join(unknown)}: choose from {', '.join([*FAMILIES, *COLUMNS])}"
        )
    return [
        name
        for name, column in COLUMNS.items()
        if not names or name in names or column.family in names
    ]


def make_families(
    columns: Sequence[str], judges: Judges, optional: bool
) -> tuple[dict[str, Family], dict[str, str]]:
    """The families that columns need.

    Args:
        columns: names in `COLUMNS`.
        judges: who judges.
        optional: leave out a family that cannot be made, rather than fail.

    Returns:
        (families by name, why others are left out by name).

    Raises:
        UserError: a family cannot be made, unless `optional`.
    """
    families, left_out = {}, {}
    for name in dict.fromkeys(COLUMNS[column].family for column in columns):
        try:
            families[name] = FAMILIES[name](judges)
        except UserError as error:
            if not optional:
                raise UserError(f"{name}: {error}") from error
            left_out[name] = str(error)
    return families, left_out


def summarise(
    columns: Sequence[str], records: Sequence[Record], real: Sequence[Record]
) -> dict[str, float]:
    """The columns of a row.

    Args:
        columns: names in `COLUMNS`.
        records: of the row's clips.
        real: of the same clips as they were recorded.

    Returns:
        By column; NaN where no clip says anything.
    """

    def fields(records: Sequence[Record], family: str) -> list[Record]:
        prefix = f"{family}/"
        return [
            {key.removeprefix(prefix): r[key] for key in r if key.startswith(prefix)}
            for r in records
        ]

    return {
        name: COLUMNS[name].summarise(
            fields(records, COLUMNS[name].family), fields(real, COLUMNS[name].family)
        )
        for name in columns
    }

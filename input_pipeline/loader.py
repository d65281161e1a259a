"""From a prepared data set to batches, with Grain.

A batch is a flat dict of numpy arrays, B clips of T frames:

  still      uint8 [B, H, W, 3]        the identity image
  video      uint8 [B, T, H, W, 3]     RGB, aligned crops
  waveform   float32 [B, (T - 1) * stride + window] in [-1, 1], which `audio.cut_windows` cuts into
             the audio windows of the frames
  mask       bool [B, T]               False where a frame or clip is padding
  landmarks  float32 [B, T, 68, 2]     (x, y) in pixels of the crop, iBUG order

and, for systems whose config asks for them in `data.features`:

  mfcc       float32 [B, 4 T, 13]      "mfcc": of `audio.mfcc`, at 25 fps columns 4 t .. 4 t + 3
             begin while frame t is shown
  text       int32 [B, L]              "words": labels of `text.encode` of the words that are spoken
             wholly within the frames, L = `data.text_length`
  text_mask  bool [B, L]               False behind the end of the text
  spelling   int32 [B, T]              "words": the label that each frame spells if the letters of a
             word and the space behind it take equal parts of its time; outside words the blank
  action_units  float32 [B, T, 5]      "action_units": intensities, 0 to 1, of the units of speech,
             where the records have none from the files of `flax-talk label`; past the end of a clip
             those of its last frame
  geometry   float32 [B, G]            "face_parameters": of the default face model, see
             `flax_talk.face_model.model`; the truth of rendered people, else what `flax-talk fit`
             has found
  expression float32 [B, T, E]         "face_parameters": past the end of a clip of its last frame
  pose       float32 [B, T, 6]         "face_parameters": likewise, pixels of the crop
  speaker_index  int32 [B]             "speaker_index": place in `data.speakers`, -1 of others

Training draws windows of T frames without end, and mirrored copies as the temporal GAN papers do
(Vougioukas 2018, section 4.1). Which clip, mirrored or not, and which window come k-th is a
function of the seed alone: not of the number of workers or processes. Ours: a data set has one
split per speaker, so that who trains and who tests is chosen by the run's config.
"""

import bisect
import itertools
import re
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import grain
import ml_collections
import numpy as np
import tensorflow_datasets as tfds
from absl import flags, logging
from tensorflow_datasets.core.utils.version import list_all_versions

from flax_talk.errors import UserError
from flax_talk.interop.array_files import read_npz
from input_pipeline import audio, faces, media, text, unit_files

FITS = "fits"
"""Folder within a prepared data set of what `flax-talk fit` has found, `<clip id>.npz` each."""

TEXT_LENGTH = 40
"""Most characters of a text where a config does not say: that of GRID, and some."""

Example = Mapping[str, Any]
Batch = dict[str, np.ndarray]

# Landmark i of a mirrored face is landmark MIRRORED_LANDMARKS[i] of the face, in iBUG order.
MIRRORED_LANDMARKS = np.array(
    [
        *range(16, -1, -1),  # jaw
        *range(26, 16, -1),  # brows
        *range(27, 31),  # bridge of the nose
        *range(35, 30, -1),  # nostrils
        *(45, 44, 43, 42, 47, 46, 39, 38, 37, 36, 41, 40),  # eyes
        *range(54, 47, -1),  # outer lips, upper
        *range(59, 54, -1),  # outer lips, lower
        *range(64, 59, -1),  # inner lips, upper
        *range(67, 64, -1),  # inner lips, lower
    ]
)


def open_source(data_config: ml_collections.ConfigDict, split: str) -> Sequence[Example]:
    """Opens a split of one or several prepared data sets.

    Args:
        data_config: dataset, builder_config, data_dir, splits, image_size, audio_rate, video_rate.
        split: key of `data_config.splits`, whose value joins TFDS slices by `+`, such as
          "s1[:-30]+s4"; a slice of another data set is preceded by its name and config, such as
          "synthetic_grid/default/train". What comes twice weighs twice. Splits that a data set
          lacks are left out with a warning.

    Returns:
        Random-access sequence of examples: id (text), video (T JPEG images), waveform (int16 [S] at
        audio_rate), landmarks (float32 [T, 68, 2], pixels).

    Raises:
        UserError: a data set is not prepared, was prepared with other sizes or rates than the
          config's, or has none of its splits.
    """
    default = f"{data_config.dataset}/{data_config.builder_config}"
    parts = [
        (folder or default, part)
        for folder, _, part in (
            slice_.rpartition("/") for slice_ in re.split(r"\s*\+\s*", data_config.splits[split])
        )
    ]
    sources = [
        _open(Path(data_config.data_dir, folder), [part for _, part in group], data_config)
        for folder, group in itertools.groupby(parts, key=lambda item: item[0])
    ]
    return sources[0] if len(sources) == 1 else _Concatenation(sources)


class _Concatenation(Sequence):
    """Several sources as one, the first one's examples first."""

    def __init__(self, sources: list[Sequence[Example]]) -> None:
        self._sources = sources
        self._ends = np.cumsum([len(source) for source in sources]).tolist()

    def __len__(self) -> int:
        return self._ends[-1]

    def __getitem__(self, index: int) -> Example:
        number = bisect.bisect_right(self._ends, index)
        start = self._ends[number - 1] if number else 0
        return self._sources[number][index - start]


class Selection(Sequence):
    """Some of a source's examples, read when they are asked for.

    Args:
        source: from `open_source`.
        indices: of the examples, in their order here.
    """

    def __init__(self, source: Sequence[Example], indices: Sequence[int]) -> None:
        self._source, self._indices = source, indices

    def __len__(self) -> int:
        return len(self._indices)

    def __getitem__(self, index: int) -> Example:
        return self._source[self._indices[index]]


def _open(
    folder: Path, slices: list[str], data_config: ml_collections.ConfigDict
) -> Sequence[Example]:
    versions = list_all_versions(folder)
    if not versions:
        raise UserError(f"{folder}: no prepared data set: prepare it, or mend data_dir")
    builder = tfds.builder_from_directory(folder / str(versions[-1]))
    _check_prepared_as(builder.info.metadata, data_config, folder)
    expression = _present_splits(slices, set(builder.info.splits), folder)
    try:
        source = builder.as_data_source(split=expression)
    except ValueError as error:
        raise UserError(
            f"{folder}: cannot read split {expression!r} ({error}): mend its slices"
        ) from error
    features = data_config.get("features", ())
    if "action_units" in features:
        source = _Labelled(source, Path(builder.data_path))
    if "face_parameters" in features and "geometry" not in builder.info.features:
        source = _Fitted(source, Path(builder.data_path, FITS), folder)
    return source


class _Labelled(Sequence):
    """A source whose examples, where they have no action units, get those of files beside it.

    Args:
        source: of the records.
        path: folder of the data set's version.
    """

    def __init__(self, source: Sequence[Example], path: Path) -> None:
        self._source, self._path = source, path

    def __len__(self) -> int:
        return len(self._source)

    def __getitem__(self, index: int) -> Example:
        example = self._source[index]
        if len(example.get("action_units", ())):
            return example
        clip_id = example["id"].decode()
        found = unit_files.read(self._path, clip_id)
        if found is None:
            raise UserError(
                f"clip {clip_id} has no action units: run flax-talk label {self._path.parent}"
            )
        if len(found.action_units) != len(example["video"]):
            raise UserError(
                f"clip {clip_id} has {len(example['video'])} frames, but action units of "
                f"{len(found.action_units)}: run flax-talk label {self._path.parent}"
            )
        return {**example, "action_units": found.action_units}


class _Fitted(Sequence):
    """Examples with the face parameters that were fitted to them, read when they are asked for."""

    def __init__(self, source: Sequence[Example], fits: Path, data_set: Path) -> None:
        self._source, self._fits, self._data_set = source, fits, data_set
        if not fits.is_dir():
            raise self._error(fits)

    def __len__(self) -> int:
        return len(self._source)

    def __getitem__(self, index: int) -> Example:
        example = self._source[index]
        path = self._fits / f"{_text(example['id'])}.npz"
        try:
            fit = read_npz(path)
            return {**example, **{name: fit[name] for name in ("geometry", "expression", "pose")}}
        except (UserError, KeyError) as error:
            raise self._error(path) from error

    def _error(self, path: Path) -> UserError:
        return UserError(f"no face parameters in {path}: run flax-talk fit --data {self._data_set}")


def _check_prepared_as(
    metadata: Mapping[str, Any], data_config: ml_collections.ConfigDict, folder: Path
) -> None:
    wanted = {
        "image_size": list(data_config.image_size),
        "audio_rate": data_config.audio_rate,
        "video_rate": data_config.video_rate,
    }
    for name, value in wanted.items():
        if metadata[name] != value:
            raise UserError(
                f"{folder}: prepared with {name} {metadata[name]}, the config has {value}: change "
                f"the config's {name}, or prepare a builder_config with {value}"
            )


def _present_splits(slices: list[str], present: set[str], folder: Path) -> str:
    kept = [part for part in slices if part.partition("[")[0] in present]
    if not kept:
        raise UserError(
            f"{folder}: none of the splits {'+'.join(slices)!r} is prepared: "
            f"choose from {', '.join(sorted(present))}"
        )
    if absent := [part for part in slices if part not in kept]:
        logging.warning("%s lacks the splits %s: going on without", folder, ", ".join(absent))
    return "+".join(kept)


def make_loader(
    source: Sequence[Example],
    data_config: ml_collections.ConfigDict,
    *,
    train: bool,
    seed: int,
    process_index: int = 0,
    process_count: int = 1,
) -> grain.IterDataset:
    """Batches of a source, as described at the top of this module.

    With train, windows of `num_frames` frames are drawn for ever, reshuffled in each epoch.
    Otherwise every clip comes once, in order and whole: cut or padded to `eval_frames`; the last
    batches are filled up with clips whose mask is False throughout, so that all shapes and, over
    all processes, the numbers of batches are equal.

    Args:
        source: from `open_source`.
        data_config: num_frames, eval_frames, mirror, still, canonical_points, audio_rate,
          video_rate, window_seconds, features, text_length (for "words"), batch_size (over all
          processes), num_workers (processes that prepare batches; 0 for threads of this one),
          prefetch (batches prepared ahead, each by its own thread).
        train: training or evaluation.
        seed: all randomness comes from it.
        process_index, process_count: which share of each batch this process loads.

    Returns:
        Grain dataset; its iterator yields batches of batch_size / process_count clips and saves its
        place by get_state and set_state.

    Raises:
        UserError: batch_size is not a multiple of process_count, or audio_rate not of video_rate.
    """
    batch_size = data_config.batch_size
    if batch_size % process_count:
        raise UserError(
            f"batch_size {batch_size} cannot be shared by {process_count} processes: "
            "choose a multiple"
        )
    clips = (_training_clips if train else _evaluation_clips)(source, data_config, seed)
    # Shared last, in runs of neighbours: one behind the other, the processes' parts of a batch are
    # the batch of one process, in its order.
    parts = clips.batch(batch_size // process_count, drop_remainder=True)
    batches = parts[process_index::process_count]
    options = grain.ReadOptions(
        num_threads=data_config.prefetch, prefetch_buffer_size=data_config.prefetch
    )
    dataset = batches.to_iter_dataset(options)
    if not data_config.num_workers:
        return dataset
    # The workers are started through absl, which wants its flags parsed.
    if not flags.FLAGS.is_parsed():
        flags.FLAGS(sys.argv[:1])
    return dataset.mp_prefetch(grain.MultiprocessingOptions(num_workers=data_config.num_workers))


def _training_clips(
    source: Sequence[Example], data_config: ml_collections.ConfigDict, seed: int
) -> grain.MapDataset:
    num_clips = len(source)
    copies = 2 if data_config.mirror else 1
    num_frames = data_config.num_frames

    def draw(index: int, rng: np.random.Generator) -> Batch:
        example = _fetch(source, index % num_clips)
        length = len(example["video"])
        start = int(rng.integers(max(length - num_frames, 0) + 1))
        still = int(rng.integers(length)) if data_config.still == "random" else 0
        clip = _cut_clip(example, start, num_frames, still, data_config)
        return _mirrored(clip) if index >= num_clips else clip

    return grain.MapDataset.range(copies * num_clips).seed(seed).shuffle().repeat().random_map(draw)


def _evaluation_clips(
    source: Sequence[Example], data_config: ml_collections.ConfigDict, seed: int
) -> grain.MapDataset:
    del seed  # nothing is drawn
    num_clips = len(source)
    num_batches = -(-num_clips // data_config.batch_size)

    def read(index: int) -> Batch:
        example = _fetch(source, min(index, num_clips - 1))
        clip = _cut_clip(example, 0, data_config.eval_frames, 0, data_config)
        return clip if index < num_clips else {**clip, "mask": np.zeros_like(clip["mask"])}

    return grain.MapDataset.range(num_batches * data_config.batch_size).map(read)


def _fetch(source: Sequence[Example], index: int) -> Example:
    try:
        return source[index]
    except RuntimeError as error:  # what array_record raises for lost and damaged shards
        raise UserError(
            f"clip {index} of the data set cannot be read ({error}): prepare the data set again"
        ) from error


def _audio_sizes(data_config: ml_collections.ConfigDict) -> tuple[int, int]:
    return (
        audio.samples_per_frame(data_config.audio_rate, data_config.video_rate),
        audio.window_samples(data_config.audio_rate, data_config.window_seconds),
    )


def _read_waveform(example: Example, data_config: ml_collections.ConfigDict) -> np.ndarray:
    """float32 [S] in [-1, 1], no longer than the video."""
    stride, _ = _audio_sizes(data_config)
    samples = len(example["video"]) * stride
    return np.asarray(example["waveform"], np.float32)[:samples] / 32767


def _cut_clip(
    example: Example,
    start: int,
    num_frames: int,
    still: int,
    data_config: ml_collections.ConfigDict,
) -> Batch:
    """Frames start..start + num_frames of an example and frame `still`, without a batch axis.

    Past the end of a clip the last frame stands still, since black frames would spoil batch
    statistics; the sound there is zero.
    """
    stride, window = _audio_sizes(data_config)
    length = len(example["video"])
    wanted = np.arange(start, start + num_frames)
    shown = np.minimum(wanted, length - 1)
    valid = wanted[wanted < length]
    try:
        images = media.decode_frames([example["video"][i] for i in (still, *valid)])
    except UserError as error:
        raise UserError(f"clip {example['id']}: {error}") from error
    landmarks = np.asarray(example["landmarks"], np.float32)[shown]
    # Data are prepared with our canonical face; runs from before there was a choice have no field.
    if data_config.get("canonical_points"):
        images, landmarks = faces.realign(images, landmarks, faces.alignment_target(data_config))
    waveform = _read_waveform(example, data_config)
    padded = audio.pad_waveform(waveform, max(length, num_frames), stride, window)
    clip = {
        "still": images[0],
        "video": images[1 + shown - start],
        "waveform": audio.crop_padded(padded, start, num_frames, stride, window),
        "mask": wanted < length,
        "landmarks": landmarks,
    }
    # Runs that were made before there were features have no such field.
    for name in data_config.get("features", ()):
        if name not in _FEATURES:
            raise UserError(
                f"config.data.features has {name!r}: choose from {', '.join(_FEATURES)}"
            )
        try:
            clip |= _FEATURES[name](example, range(start, start + num_frames), data_config)
        except UserError as error:
            raise UserError(f"clip {example['id']}: {error}") from error
    return clip


def _mfcc(example: Example, frames: range, data_config: ml_collections.ConfigDict) -> Batch:
    columns = audio.samples_per_frame(audio.MFCC_RATE, data_config.video_rate)
    waveform = _read_waveform(example, data_config)
    whole = audio.mfcc(waveform, data_config.audio_rate, columns * frames.stop)
    return {"mfcc": whole[columns * frames.start :]}


def _words(example: Example, frames: range, data_config: ml_collections.ConfigDict) -> Batch:
    rate, length = data_config.video_rate, data_config.get("text_length", TEXT_LENGTH)
    words = example["words"]
    spoken = [
        _text(word)
        for word, begin, end in zip(*(words[k] for k in _WORD_FIELDS), strict=True)
        # Half a frame of tolerance: alignments are rounded.
        if begin * rate > frames.start - 0.5 and end * rate < frames.stop + 0.5
    ]
    labels = text.encode(" ".join(spoken))
    if len(labels) > length:
        raise UserError(f"its text has {len(labels)} characters: set config.data.text_length")
    padded = np.zeros(length, np.int32)
    padded[: len(labels)] = labels
    return {
        "text": padded,
        "text_mask": np.arange(length) < len(labels),
        "spelling": _spelling(words, frames, rate),
    }


def _spelling(words: Mapping[str, Any], frames: range, rate: float) -> np.ndarray:
    """What each frame spells, see the top of this module."""
    times = (np.arange(frames.start, frames.stop) + 0.5) / rate
    spelling = np.full(len(times), text.BLANK, np.int32)
    last = len(words["word"]) - 1
    for i, (word, begin, end) in enumerate(zip(*(words[k] for k in _WORD_FIELDS), strict=True)):
        labels = text.encode(_text(word) + " " * (i < last))
        place = (times - begin) / max(end - begin, 1e-6)
        during = (place >= 0) & (place < 1)
        spelling[during] = labels[(place[during] * len(labels)).astype(int)]
    return spelling


def _action_units(example: Example, frames: range, data_config: ml_collections.ConfigDict) -> Batch:
    if "action_units" not in example:
        raise UserError("it has no action units: run flax-talk label on its data set")
    shown = np.minimum(frames, len(example["video"]) - 1)
    return {"action_units": np.asarray(example["action_units"], np.float32)[shown]}


def _face_parameters(
    example: Example, frames: range, data_config: ml_collections.ConfigDict
) -> Batch:
    if data_config.mirror or data_config.get("canonical_points"):
        raise UserError(
            "face parameters are of the crops as prepared: set config.data.mirror=False "
            "and leave config.data.canonical_points empty"
        )
    if "geometry" not in example:
        raise UserError("it has no face parameters: run flax-talk fit --data on its data set")
    shown = np.minimum(frames, len(example["video"]) - 1)
    return {
        "geometry": np.asarray(example["geometry"], np.float32),
        "expression": np.asarray(example["expression"], np.float32)[shown],
        "pose": np.asarray(example["pose"], np.float32)[shown],
    }


def _speaker_index(
    example: Example, frames: range, data_config: ml_collections.ConfigDict
) -> Batch:
    del frames
    speakers = list(data_config.speakers)
    name = _text(example["speaker"])
    index = speakers.index(name) if name in speakers else -1
    return {"speaker_index": np.array(index, np.int32)}


def _text(word: bytes | str) -> str:
    return word.decode() if isinstance(word, bytes) else word


_WORD_FIELDS = ("word", "start", "end")


_FEATURES = {
    "mfcc": _mfcc,
    "words": _words,
    "action_units": _action_units,
    "face_parameters": _face_parameters,
    "speaker_index": _speaker_index,
}
"""What `data.features` can name, and the functions that cut it out of an example."""


def _mirrored(clip: Batch) -> Batch:
    width = clip["still"].shape[1]
    points = clip["landmarks"][:, MIRRORED_LANDMARKS]
    return {
        **clip,
        "still": clip["still"][:, ::-1],
        "video": clip["video"][:, :, ::-1],
        "landmarks": points * np.array([-1, 1], np.float32) + np.array([width - 1, 0], np.float32),
    }

"""Any folder of clips as a data set, with what is known of them in files beside them. All ours.

Speakers are the sub-folders, or what speakers.csv says; there is one TFDS split per speaker. Beside
NAME.mp4 may lie NAME.txt with what is said, NAME.align with the times of the words as in GRID, and
NAME.csv with the action units that OpenFace has found.
"""

import csv
import re
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow_datasets as tfds

from flax_talk.errors import UserError
from input_pipeline.datasets.clips import ClipOptions, process_clip
from input_pipeline.datasets.grid import read_words
from input_pipeline.datasets.recordings import (
    VIDEO_SUFFIXES,
    Clip,
    Recordings,
    aligned_configs,
    check_folder,
    read_lines,
)
from input_pipeline.faces import ClipError
from input_pipeline.synthetic.articulation import ACTION_UNITS

SPEAKERS = "speakers.csv"
_UNKNOWN = "unknown"
_LAYOUT = (
    f"expected <source>/SPEAKER/*{{{','.join(VIDEO_SUFFIXES)}}}, "
    f"or clips anywhere and <source>/{SPEAKERS} with columns file,speaker"
)
_PRESENT = 0.2  # as in `synthetic_grid`: a unit of this intensity, of 1, is there


def find_clips(source: str | Path) -> dict[str, list[Clip]]:
    """The clips below `source` by split, which is the speaker's name in letters that TFDS takes.

    A clip's speaker is what speakers.csv says of its path within `source`, else its topmost
    folder, else "unknown". Raises UserError when `source` does not exist or holds no clip, two
    clips get one id, or speakers.csv is damaged.
    """
    source = check_folder(source, "folder", _LAYOUT)
    named = _read_speakers(source / SPEAKERS)
    clips: dict[str, list[Clip]] = {}
    paths: dict[str, Path] = {}
    for path in sorted(source.rglob("[!.]*")):
        if path.suffix.lower() not in VIDEO_SUFFIXES:
            continue
        inside = path.relative_to(source)
        topmost = inside.parts[0] if len(inside.parts) > 1 else _UNKNOWN
        speaker = named.get(inside.as_posix(), topmost)
        clip_id = "_".join(inside.with_suffix("").parts)
        if clip_id in paths:
            raise UserError(f"{paths[clip_id]} and {path} are both {clip_id}: rename one")
        paths[clip_id] = path
        split = re.sub(r"\W", "_", speaker, flags=re.ASCII)
        clips.setdefault(split, []).append(Clip(clip_id, speaker, path))
    if not clips:
        raise UserError(f"no clip in {source}: {_LAYOUT}")
    return dict(sorted(clips.items()))


def _read_speakers(path: Path) -> dict[str, str]:
    """Speakers by the path of their clip; UserError where the file is not what it should be."""
    if not path.is_file():
        return {}
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            return {Path(row["file"]).as_posix(): row["speaker"] for row in csv.DictReader(file)}
    except (KeyError, TypeError, UnicodeDecodeError, csv.Error) as error:
        raise UserError(f"{path} must have the columns file,speaker: {error!r}") from error


def read_action_units(path: Path, num_frames: int) -> np.ndarray:
    """Action units of a clip's frames from OpenFace's CSV file: float32 [num_frames, 5] in [0, 1].

    Intensities are OpenFace's by 5, but at least 0.2 where it says that the unit is there and less
    where it says that it is not. Its rows, one for each frame of the file, are taken at the times
    of our frames, from the nearest in which the face was tracked.
    """
    # Needs JAX, which nothing else here does.
    from flax_talk.metrics.action_units import read_openface

    units = read_openface(path)
    tracked = np.flatnonzero(units.valid)
    if not len(tracked):
        raise ClipError(f"{path}: OpenFace has tracked the face in no frame")
    rows = len(units.valid)
    times = (np.arange(num_frames) + 0.5) * rows / num_frames - 0.5
    nearest = tracked[np.abs(tracked - times[:, None]).argmin(axis=1)]
    value = np.clip(units.intensities[nearest] / 5, 0, 1)
    absent = np.minimum(value, np.nextafter(np.float32(_PRESENT), np.float32(0)))
    present = np.maximum(value, _PRESENT)
    return np.where(units.states[nearest], present, absent).astype(np.float32)


def read_clip(clip: Clip, options: ClipOptions) -> dict[str, Any]:
    """One example, as `Folder` describes it; UserError where there is none."""
    alignment, transcript, openface = map(clip.path.with_suffix, (".align", ".txt", ".csv"))
    words = read_words(alignment) if alignment.is_file() else []
    text = [entry["word"] for entry in words]
    if transcript.is_file():
        text = [word for line in read_lines(transcript) for word in line]
    example = process_clip(clip.path, options)
    units = np.zeros((0, len(ACTION_UNITS)), np.float32)
    if openface.is_file():
        units = read_action_units(openface, len(example["video"]))
    return {
        "id": clip.id,
        "speaker": clip.speaker,
        "words": words,
        "text": " ".join(text),
        "action_units": units,
        **example,
    }


class Folder(Recordings, skip_registration=True):
    """Builder of the data set `folder`: a split for each speaker; see `Recordings`.

    An example also has text (what is said) and action_units (float32 [T, 5], `read_action_units`);
    they are empty, and action_units of no frame, where there is no file.
    """

    corpus = "folder"
    find_clips = staticmethod(find_clips)
    read_clip = staticmethod(read_clip)
    BUILDER_CONFIGS = aligned_configs()
    extra_metadata = {"action_units": list(ACTION_UNITS)}
    facts = {
        "description": "Talking faces of a folder of clips, aligned to a canonical face; one split "
        "per speaker.",
        "license": "that of the clips",
    }

    def extra_features(self) -> dict[str, Any]:
        shape = (None, len(ACTION_UNITS))
        return {
            "text": tfds.features.Text(),
            "action_units": tfds.features.Tensor(shape=shape, dtype=np.float32),
        }

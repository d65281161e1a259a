"""TCD-TIMIT: 59 volunteers, 98 phonetically rich sentences each (Harte and Gillen 2015).

Reads the volunteers' frontal recordings as they are distributed (sigmedia.tcd.ie), one TFDS split
per speaker; the three lip speakers, whom no paper uses here, are left out. `subject_split` spells
the splits of the papers. Ours: speakers and splits are called s1 to s59 by the number of a
volunteer, whose folder says the sex too (01M). It aligns phonemes, so that `words` stays empty.
"""

import dataclasses
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import tensorflow_datasets as tfds

from flax_talk.errors import UserError
from input_pipeline.datasets.clips import ClipOptions, process_clip, segment_features
from input_pipeline.datasets.recordings import (
    Clip,
    Recordings,
    aligned_configs,
    check_folder,
    read_lines,
    split_expression,
    videos,
)

_HTK_RATE = 10_000_000  # units per second of HTK's label files
_VOLUNTEER = re.compile(r"(\d\d)[MF]", re.IGNORECASE)
_LAYOUT = (
    "expected <source>/volunteers/01M/Clips/straightcam/*.mp4 "
    "and <source>/volunteer_labelfiles.mlf (or *.lab beside the clips)"
)

Segments = tuple[dict[str, Any], ...]

# fmt: off
_SPLITS = {
    "train": (
        1, 2, 3, 4, 5, 6, 7, 10, 11, 12, 13, 14, 16, 17, 19, 20, 21, 22, 23, 24, 26, 27, 29, 30,
        31, 32, 35, 37, 38, 39, 40, 42, 43, 46, 47, 48, 50, 51, 52, 53, 57, 59,
    ),
    "validation": (34, 36, 44, 45, 49, 54, 58),
    "test": (8, 9, 15, 18, 25, 28, 33, 41, 55, 56),
}
# fmt: on

# Listed in 2018; the paper of 2019 has the same test speakers and as many clips in each set.
# Validation speakers were taken out of the test set that the corpus recommends.
SUBJECT_SPLITS: dict[str, dict[str, tuple[int, ...]]] = {
    "recommended": {
        "train": _SPLITS["train"],
        "test": tuple(sorted(_SPLITS["validation"] + _SPLITS["test"])),
    },
    "temporal_gan_2018": _SPLITS,
    "temporal_gan_2019": _SPLITS,
}
"""Numbers of the volunteers of each paper's training, validation and test set, and those of the
corpus's own split."""


# Of the tables of both papers; half of their training clips are mirrored copies.
PAPER_COUNTS: dict[str, dict[str, tuple[int, float]]] = {
    "temporal_gan_2018": {"train": (4_109, 4.57), "validation": (686, 0.76), "test": (977, 1.09)},
    "temporal_gan_2019": {"train": (4_109, 4.55), "validation": (686, 0.8), "test": (977, 1.2)},
}
"""Clips and hours of each paper's training, validation and test set."""


def subject_split(name: str, split: str) -> str:
    """TFDS split expression of a paper's set, such as "s34+s36"; see `split_expression`."""
    return split_expression(SUBJECT_SPLITS, name, split, "TCD-TIMIT")


@dataclasses.dataclass(frozen=True)
class TcdTimitClip(Clip):
    """A recording: its id such as "s1_sa1", its phonemes by the corpus's list or in a file of its
    own, and the file of its sentence."""

    phonemes: Segments
    labels: Path | None
    transcript: Path | None


def read_segments(rows: Iterable[list[str]], path: Path) -> Segments:
    """Phonemes of HTK's lines "start end phoneme": dicts of phoneme (str), start and end (s).

    Times are whole numbers of 100 ns or, with a decimal point, seconds. UserError, which calls
    the file `path`, for other lines.
    """
    try:
        return tuple(
            {"phoneme": phoneme, "start": _seconds(start), "end": _seconds(end)}
            for start, end, phoneme, *_ in rows
        )
    except ValueError as error:
        raise UserError(f"{path} is not lines of 'start end phoneme': {error}") from error


def _seconds(time: str) -> float:
    return float(time) if "." in time else int(time) / _HTK_RATE


def read_label_file(path: Path) -> dict[tuple[int, str], Segments]:
    """Phonemes by (volunteer, clip) of an HTK master label file such as volunteer_labelfiles.mlf.

    An entry is a line with the path of a clip, whose folder and name count; its lines; a full stop.
    """
    entries: dict[tuple[int, str], list[list[str]]] = {}
    rows: list[list[str]] = []
    for row in read_lines(path):
        if row[0].startswith('"'):
            rows = []
            place = re.split(r"[/\\]", " ".join(row).strip('"'))
            if number := _volunteer(place):
                entries[number, place[-1].partition(".")[0].lower()] = rows
        elif row[0] not in (".", "#!MLF!#"):
            rows.append(row)
    return {key: read_segments(rows, path) for key, rows in entries.items()}


def _volunteer(parts: Iterable[str]) -> int | None:
    """The number of the volunteer in the parts of a path."""
    matches = (_VOLUNTEER.fullmatch(part) for part in parts)
    return next((int(match[1]) for match in matches if match), None)


def find_clips(source: str | Path) -> dict[str, list[TcdTimitClip]]:
    """The frontal clips of the volunteers below `source`, by speaker in the order of their numbers.

    Raises UserError when `source` does not exist, holds no clip, or has a damaged label file.
    """
    source = check_folder(source, "TCD-TIMIT", _LAYOUT)
    phonemes: dict[tuple[int, str], Segments] = {}
    for file in sorted(source.rglob("[!.]*.mlf")):
        phonemes |= read_label_file(file)
    found: dict[int, dict[str, TcdTimitClip]] = {}
    for folder in sorted(source.rglob("straightcam")):
        number = _volunteer(folder.relative_to(source).parts)
        for stem, path in videos(folder).items() if number else ():
            name = stem.lower()
            clip = TcdTimitClip(
                id=f"s{number}_{name}",
                speaker=f"s{number}",
                path=path,
                phonemes=phonemes.get((number, name), ()),
                labels=_beside(path, ".lab"),
                transcript=_beside(path, ".txt"),
            )
            found.setdefault(number, {}).setdefault(name, clip)
    if not found:
        raise UserError(f"no TCD-TIMIT clip in {source}: {_LAYOUT}")
    return {f"s{number}": list(found[number].values()) for number in sorted(found)}


def _beside(path: Path, suffix: str) -> Path | None:
    file = path.with_suffix(suffix)
    return file if file.is_file() else None


def read_clip(clip: TcdTimitClip, options: ClipOptions) -> dict[str, Any]:
    """One example, as `TcdTimit` describes it; UserError where there is none."""
    phonemes, text = clip.phonemes, []
    if clip.labels:
        phonemes = read_segments(read_lines(clip.labels), clip.labels)
    if clip.transcript:
        # As in TIMIT, numbers of samples may stand before the sentence.
        text = [word for line in read_lines(clip.transcript) for word in line if not word.isdigit()]
    return {
        "id": clip.id,
        "speaker": clip.speaker,
        "words": [],
        "phonemes": list(phonemes),
        "text": " ".join(text),
        **process_clip(clip.path, options),
    }


class TcdTimit(Recordings, skip_registration=True):
    """Builder of the data set `tcd_timit`: splits s1 to s59; see `Recordings`.

    An example also has phonemes (sequences phoneme, start, end; those of TIMIT with sil, seconds)
    and text (the sentence as the corpus writes it); both are empty where the corpus has no label.
    """

    corpus = "TCD-TIMIT"
    find_clips = staticmethod(find_clips)
    read_clip = staticmethod(read_clip)
    expected_clips = 5_782
    BUILDER_CONFIGS = aligned_configs()
    facts = {
        "description": "Talking faces of the volunteers of TCD-TIMIT, seen from the front, aligned "
        "to a canonical face; one split per speaker.",
        "homepage": "https://sigmedia.tcd.ie",
        "license": "as agreed with Trinity College Dublin: research, not to be passed on",
        "citation": """@article{harte2015tcd,
  title={{TCD-TIMIT}: An audio-visual corpus of continuous speech},
  author={Harte, Naomi and Gillen, Eoin},
  journal={IEEE Transactions on Multimedia},
  volume={17}, number={5}, pages={603--615}, year={2015}
}""",
    }

    def extra_features(self) -> dict[str, Any]:
        return {"phonemes": segment_features("phoneme"), "text": tfds.features.Text()}

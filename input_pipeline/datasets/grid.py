"""GRID: 33 speakers, 1000 six-word sentences each (Cooke, Barker, Cunningham, Shao 2006).

Reads the corpus as it is distributed (Zenodo 3625687) and writes one TFDS split per SPEAKER, so
that who trains and who tests is chosen by a run's config and never by preparing again;
`subject_split` spells the splits of the papers. Ours: the layout of an example (JPEG crops,
int16 waveform, landmarks, words), and leaving out of `words` the alignment's silence marks.
"""

import dataclasses
import re
from pathlib import Path
from typing import Any

from flax_talk.errors import UserError
from input_pipeline.datasets.clips import ClipOptions, process_clip
from input_pipeline.datasets.recordings import (
    Clip,
    RecordingConfig,
    Recordings,
    aligned_configs,
    check_folder,
    split_expression,
    videos,
)

_ALIGNMENT_RATE = 25_000  # units per second
_SILENCE = ("sil", "sp")
_LAYOUT = (
    "expected <source>/sN/*.mpg (or .mp4 .avi .mov .mkv, sub-folders too) "
    "and <source>/alignments/sN/*.align"
)

SUBJECT_SPLITS: dict[str, dict[str, tuple[int, ...]]] = {
    # As listed, speaker 24 is in no split.
    "temporal_gan_2018": {
        "train": (1, 3, 5, 6, 7, 8, 10, 12, 14, 16, 17, 22, 26, 28, 32),
        "validation": (9, 20, 23, 27, 29, 30, 34),
        "test": (2, 4, 11, 13, 15, 18, 19, 25, 31, 33),
    },
    # The test speakers are listed; training has 31 639 clips with mirrored copies, that is 16
    # speakers, which are all that validation and test leave.
    "temporal_gan_2019": {
        "train": (1, 3, 5, 6, 7, 8, 10, 12, 14, 16, 17, 22, 24, 26, 28, 32),
        "validation": (9, 20, 23, 27, 29, 30, 34),
        "test": (2, 4, 11, 13, 15, 18, 19, 25, 31, 33),
    },
}
"""Speaker numbers of each paper's training, validation and test set."""


# Of the tables of both papers; half of their training clips are mirrored copies.
PAPER_COUNTS: dict[str, dict[str, tuple[int, float]]] = {
    "temporal_gan_2018": {
        "train": (15_820, 13.18),
        "validation": (6_999, 5.83),
        "test": (9_976, 8.31),
    },
    "temporal_gan_2019": {
        "train": (15_820, 13.2),
        "validation": (6_999, 5.8),
        "test": (9_976, 8.31),
    },
}
"""Clips and hours of each paper's training, validation and test set."""


def subject_split(name: str, split: str) -> str:
    """TFDS split expression of a paper's set, such as "s9+s20+s23".

    `name` is a key of SUBJECT_SPLITS, `split` is "train", "validation" or "test"; UserError
    otherwise.
    """
    return split_expression(SUBJECT_SPLITS, name, split, "GRID")


@dataclasses.dataclass(frozen=True)
class GridClip(Clip):
    """One recording: id such as "s1_bbaf2n", speaker "s1", its media file and alignment."""

    alignment: Path | None


def find_clips(source: str | Path) -> dict[str, list[GridClip]]:
    """The clips below `source` by speaker, speakers by number and clips by name.

    Folders s1, s2, ... are searched with their sub-folders; of files with the same stem the
    first path counts. Raises UserError when `source` does not exist or holds no clip.
    """
    source = check_folder(source, "GRID", _LAYOUT)
    clips: dict[str, list[GridClip]] = {}
    folders = [path for path in source.iterdir() if re.fullmatch(r"s\d+", path.name)]
    for folder in sorted(folders, key=lambda path: int(path.name[1:])):
        speaker = folder.name
        places = (source / "alignments" / speaker, folder / "align")
        for stem, path in videos(folder).items():
            alignments = (place / f"{stem}.align" for place in places)
            alignment = next((file for file in alignments if file.is_file()), None)
            clip = GridClip(f"{speaker}_{stem}", speaker, path, alignment)
            clips.setdefault(speaker, []).append(clip)
    if not clips:
        raise UserError(f"no GRID clip in {source}: {_LAYOUT}")
    return clips


def read_words(path: str | Path) -> list[dict[str, Any]]:
    """Words of a GRID alignment: dicts of word (str), start and end (s), silences left out.

    Raises UserError for a file that is not lines of "start end word".
    """
    try:
        rows = [line.split() for line in Path(path).read_text().splitlines() if line.strip()]
        return [
            {"word": word, "start": int(start) / _ALIGNMENT_RATE, "end": int(end) / _ALIGNMENT_RATE}
            for start, end, word in rows
            if word not in _SILENCE
        ]
    except ValueError as error:
        raise UserError(f"alignment {path} is not lines of 'start end word': {error}") from error


def read_clip(clip: GridClip, options: ClipOptions) -> dict[str, Any]:
    """One example, as `clip_features` describes it; UserError where there is none."""
    words = read_words(clip.alignment) if clip.alignment else []
    return {
        "id": clip.id,
        "speaker": clip.speaker,
        "words": words,
        **process_clip(clip.path, options),
    }


GridConfig = RecordingConfig


class Grid(Recordings, skip_registration=True):
    """Builder of the data set `grid`: splits s1 to s34, no s21; see `Recordings`."""

    corpus = "GRID"
    find_clips = staticmethod(find_clips)
    read_clip = staticmethod(read_clip)
    expected_clips = 33_000
    BUILDER_CONFIGS = aligned_configs(length=3.0)
    facts = {
        "description": "Talking faces of the GRID audio-visual sentence corpus (CC BY 4.0), "
        "aligned to a canonical face; one split per speaker.",
        "homepage": "https://zenodo.org/records/3625687",
        "license": "CC BY 4.0",
        "citation": """@article{cooke2006audio,
  title={An audio-visual corpus for speech perception and automatic speech recognition},
  author={Cooke, Martin and Barker, Jon and Cunningham, Stuart and Shao, Xu},
  journal={The Journal of the Acoustical Society of America},
  volume={120}, number={5}, pages={2421--2424}, year={2006}
}""",
    }

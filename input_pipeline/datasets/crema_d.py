"""CREMA-D: 91 actors, 12 sentences, six emotions (Cao, Cooper, Keutmann, Gur, Nenkova, Verma 2014).

Reads the videos as they are distributed (github.com/CheyneyComputerScience/CREMA-D, folder
VideoFlash), one TFDS split per actor. Sentence, emotion and level are in a clip's name.
`subject_split` spells the split of the paper of 2019, which lists its test actors alone; the
validation actors are ours. The corpus aligns no words, so that `words` stays empty.
"""

import dataclasses
import re
from pathlib import Path
from typing import Any

import tensorflow_datasets as tfds

from flax_talk.errors import UserError
from input_pipeline.datasets.clips import ClipOptions, process_clip
from input_pipeline.datasets.recordings import (
    Clip,
    Recordings,
    aligned_configs,
    check_folder,
    split_expression,
    videos,
)

SENTENCES = {
    "IEO": "It's eleven o'clock",
    "TIE": "That is exactly what happened",
    "IOM": "I'm on my way to the meeting",
    "IWW": "I wonder what this is about",
    "TAI": "The airplane is almost full",
    "MTI": "Maybe tomorrow it will be cold",
    "IWL": "I would like a new alarm clock",
    "ITH": "I think I have a doctor's appointment",
    "DFA": "Don't forget a jacket",
    "ITS": "I think I've seen this before",
    "TSI": "The surface is slick",
    "WSI": "We'll stop in a couple of minutes",
}
EMOTIONS = {
    "ANG": "anger",
    "DIS": "disgust",
    "FEA": "fear",
    "HAP": "happy",
    "NEU": "neutral",
    "SAD": "sad",
}
LEVELS = {"LO": "low", "MD": "medium", "HI": "high", "XX": "unspecified", "X": "unspecified"}

_NAME = re.compile(
    rf"(1\d\d\d)_({'|'.join(SENTENCES)})_({'|'.join(EMOTIONS)})_({'|'.join(LEVELS)})"
)
_LAYOUT = "expected <source>/VideoFlash/1001_DFA_ANG_XX.flv and so on"
_LFS = b"version https://git-lfs"

# The actors of a set by the paper's numbers, 1 to 91; the corpus adds 1000.
_TEST = (15, 20, 21, 30, 33, 52, 62, 81, 82, 89)
# Ten, since validation has 819 clips in the paper: every eighth of those who are not in the test.
_VALIDATION = (5, 13, 24, 34, 42, 50, 59, 68, 76, 86)
_TRAIN = tuple(number for number in range(1, 92) if number not in (*_TEST, *_VALIDATION))

SUBJECT_SPLITS: dict[str, dict[str, tuple[int, ...]]] = {
    "temporal_gan_2019": {
        split: tuple(1000 + number for number in numbers)
        for split, numbers in (("train", _TRAIN), ("validation", _VALIDATION), ("test", _TEST))
    }
}
"""Numbers of the actors of the paper's training, validation and test set."""


# Of the paper's table; half of its training clips are mirrored copies.
PAPER_COUNTS: dict[str, dict[str, tuple[int, float]]] = {
    "temporal_gan_2019": {"train": (5_797, 4.85), "validation": (819, 0.7), "test": (820, 0.68)}
}
"""Clips and hours of each paper's training, validation and test set."""


def subject_split(name: str, split: str) -> str:
    """TFDS split expression of a paper's set, such as "s1015+s1020"; see `split_expression`."""
    return split_expression(SUBJECT_SPLITS, name, split, "CREMA-D")


@dataclasses.dataclass(frozen=True)
class CremaDClip(Clip):
    """A recording, its id such as "1001_DFA_ANG_XX", and the codes of its name."""

    sentence: str
    emotion: str
    level: str


def find_clips(source: str | Path) -> dict[str, list[CremaDClip]]:
    """The clips of <source>/VideoFlash, or of `source` itself, by actor; both in order.

    Raises UserError when `source` does not exist, holds no clip, or holds the pointers of Git
    Large File Storage in their place.
    """
    source = check_folder(source, "CREMA-D", _LAYOUT)
    folder = source / "VideoFlash"
    clips: dict[str, list[CremaDClip]] = {}
    for stem, path in videos(folder if folder.is_dir() else source).items():
        if match := _NAME.fullmatch(stem):
            actor, *codes = match.groups()
            clip = CremaDClip(stem, f"s{actor}", path, *codes)
            clips.setdefault(clip.speaker, []).append(clip)
    if not clips:
        raise UserError(f"no CREMA-D clip in {source}: {_LAYOUT}")
    first = next(iter(clips.values()))[0].path
    with first.open("rb") as file:
        if file.read(len(_LFS)) == _LFS:
            raise UserError(
                f"{first} is a pointer of git-lfs: run git lfs pull there, or clone the mirror"
            )
    return clips


def read_clip(clip: CremaDClip, options: ClipOptions) -> dict[str, Any]:
    """One example, as `CremaD` describes it; UserError where there is none."""
    return {
        "id": clip.id,
        "speaker": clip.speaker,
        "words": [],
        "text": SENTENCES[clip.sentence],
        "emotion": EMOTIONS[clip.emotion],
        "level": LEVELS[clip.level],
        **process_clip(clip.path, options),
    }


class CremaD(Recordings, skip_registration=True):
    """Builder of the data set `crema_d`: splits s1001 to s1091; see `Recordings`.

    An example also has text (the sentence), emotion and level (class labels: `EMOTIONS`, `LEVELS`).
    """

    corpus = "CREMA-D"
    find_clips = staticmethod(find_clips)
    read_clip = staticmethod(read_clip)
    expected_clips = 7_442
    BUILDER_CONFIGS = aligned_configs()
    facts = {
        "description": "Emotional talking faces of the Crowd-sourced Emotional Multimodal Actors "
        "Dataset, aligned to a canonical face; one split per actor.",
        "homepage": "https://github.com/CheyneyComputerScience/CREMA-D",
        "license": "Open Database License; contents: Database Contents License",
        "citation": """@article{cao2014crema,
  title={{CREMA-D}: Crowd-sourced emotional multimodal actors dataset},
  author={Cao, Houwei and Cooper, David G and Keutmann, Michael K and Gur, Ruben C and
    Nenkova, Ani and Verma, Ragini},
  journal={IEEE Transactions on Affective Computing},
  volume={5}, number={4}, pages={377--390}, year={2014}
}""",
    }

    def extra_features(self) -> dict[str, Any]:
        return {
            "text": tfds.features.Text(),
            "emotion": tfds.features.ClassLabel(names=list(EMOTIONS.values())),
            "level": tfds.features.ClassLabel(names=list(dict.fromkeys(LEVELS.values()))),
        }

"""LRW: 500 words in television broadcasts, up to 1000 clips each (Chung and Zisserman 2016).

Reads the corpus as it is distributed (lipread_mp4) and keeps its own training, validation and test
sets, since nobody knows who speaks. Of its clips only the nearly frontal ones are used, as in
Vougioukas 2019, section 4: roll, pitch and yaw under 10 degrees. Ours: the angles are those of
`faces.head_pose`, and it is their medians over a clip that count.
"""

import dataclasses
from pathlib import Path
from typing import Any

from flax_talk.errors import UserError
from input_pipeline.datasets.clips import ClipOptions, process_clip
from input_pipeline.datasets.recordings import (
    Clip,
    Recordings,
    aligned_configs,
    check_folder,
    read_lines,
    videos,
)

MAX_ANGLE = 10.0
"""Degrees of roll, pitch and yaw from which on a head is not frontal."""

# Of the paper's table: what the limit of the angle leaves in the paper.
PAPER_COUNTS: dict[str, dict[str, tuple[int, float]]] = {
    "temporal_gan_2019": {
        "train": (112_658, 36.3),
        "validation": (5_870, 1.9),
        "test": (5_980, 1.9),
    }
}
"""Clips and hours of each paper's training, validation and test set."""

_SPLITS = {"train": "train", "validation": "val", "test": "test"}
_LAYOUT = "expected <source>/ABOUT/{train,val,test}/ABOUT_00001.mp4 and .txt, and so on"


@dataclasses.dataclass(frozen=True)
class LrwClip(Clip):
    """A recording, its id such as "train_ABOUT_00001", its word and the file that times it."""

    word: str
    metadata: Path


def find_clips(source: str | Path) -> dict[str, list[LrwClip]]:
    """The clips of <source>, or of <source>/lipread_mp4, by split, in the order of their words.

    Raises UserError when `source` does not exist or holds no clip.
    """
    source = check_folder(source, "LRW", _LAYOUT)
    nested = source / "lipread_mp4"
    words = sorted((nested if nested.is_dir() else source).glob("[!.]*/"))
    clips: dict[str, list[LrwClip]] = {}
    for split, folder in _SPLITS.items():
        for word in words:
            for stem, path in videos(word / folder).items():
                metadata = path.with_suffix(".txt")
                clip = LrwClip(f"{split}_{stem}", "", path, word.name.lower(), metadata)
                clips.setdefault(split, []).append(clip)
    if not clips:
        raise UserError(f"no LRW clip in {source}: {_LAYOUT}")
    return clips


def read_duration(path: Path) -> float:
    """Seconds that the word takes, by its line "Duration: 0.53 seconds"; UserError without it."""
    rows = [row for row in read_lines(path) if row[0].lower() == "duration:"]
    try:
        return float(rows[0][1])
    except (IndexError, ValueError) as error:
        raise UserError(f"{path} has no line 'Duration: 0.53 seconds'") from error


def read_clip(clip: LrwClip, options: ClipOptions) -> dict[str, Any]:
    """One example, its word in the middle of the clip; UserError where there is none."""
    duration = read_duration(clip.metadata)
    example = process_clip(clip.path, options)
    middle = len(example["video"]) / options.video_rate / 2
    start, end = max(0.0, middle - duration / 2), min(2 * middle, middle + duration / 2)
    words = [{"word": clip.word, "start": start, "end": end}]
    return {"id": clip.id, "speaker": clip.speaker, "words": words, **example}


class Lrw(Recordings, skip_registration=True):
    """Builder of the data set `lrw`: splits train, validation and test; see `Recordings`.

    The speaker of an example is empty, its one word that of the clip, without the neighbours that
    are heard too.
    """

    corpus = "LRW"
    find_clips = staticmethod(find_clips)
    read_clip = staticmethod(read_clip)
    expected_clips = 538_766
    BUILDER_CONFIGS = aligned_configs(max_angle=MAX_ANGLE, length=1.16)
    facts = {
        "description": "Nearly frontal talking faces of Lip Reading in the Wild, aligned to a "
        "canonical face; the corpus's own splits.",
        "homepage": "https://www.robots.ox.ac.uk/~vgg/data/lip_reading/lrw1.html",
        "license": "as agreed with BBC Research & Development: research, not to be passed on",
        "citation": """@inproceedings{chung2016lip,
  title={Lip reading in the wild},
  author={Chung, Joon Son and Zisserman, Andrew},
  booktitle={Asian Conference on Computer Vision},
  year={2016}
}""",
    }

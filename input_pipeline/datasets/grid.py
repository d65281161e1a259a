"""GRID: 33 speakers, 1000 six-word sentences each (Cooke, Barker, Cunningham, Shao 2006).

Reads the corpus as it is distributed (Zenodo 3625687) and writes one TFDS split per SPEAKER, so
that who trains and who tests is chosen by a run's config and never by preparing again;
`subject_split` spells the splits of the papers. Ours: the layout of an example (JPEG crops,
int16 waveform, landmarks, words), and leaving out of `words` the alignment's silence marks.
"""

import dataclasses
import functools
import itertools
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import tensorflow_datasets as tfds

from flax_talk.errors import UserError
from input_pipeline import faces
from input_pipeline.datasets.clips import (
    ClipOptions,
    Result,
    clip_features,
    ignore,
    process_clip,
    process_clips,
)

_ALIGNMENT_RATE = 25_000  # units per second
_SILENCE = ("sil", "sp")
_SUFFIXES = (".mpg", ".mp4", ".avi", ".mov", ".mkv")
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


def subject_split(name: str, split: str) -> str:
    """TFDS split expression of a paper's set, such as "s9+s20+s23".

    `name` is a key of SUBJECT_SPLITS, `split` is "train", "validation" or "test"; UserError
    otherwise.
    """
    if split not in SUBJECT_SPLITS.get(name, {}):
        known = [f"{paper} {part}" for paper, parts in SUBJECT_SPLITS.items() for part in parts]
        raise UserError(f"unknown GRID subject split {name!r} {split!r}: choose one of {known}")
    return "+".join(f"s{number}" for number in SUBJECT_SPLITS[name][split])


@dataclasses.dataclass(frozen=True)
class GridClip:
    """One recording: id such as "s1_bbaf2n", speaker "s1", its media file and alignment."""

    id: str
    speaker: str
    path: Path
    alignment: Path | None


def find_clips(source: str | Path) -> dict[str, list[GridClip]]:
    """The clips below `source` by speaker, speakers by number and clips by name.

    Folders s1, s2, ... are searched with their sub-folders; of files with the same stem the
    first path counts. Raises UserError when `source` does not exist or holds no clip.
    """
    source = Path(source)
    if not source.is_dir():
        raise UserError(f"GRID source {source} is not a folder: {_LAYOUT}")
    clips: dict[str, list[GridClip]] = {}
    folders = [path for path in source.iterdir() if re.fullmatch(r"s\d+", path.name)]
    for folder in sorted(folders, key=lambda path: int(path.name[1:])):
        speaker = folder.name
        files = sorted(folder.rglob("[!.]*"), reverse=True)
        videos = {path.stem: path for path in files if path.suffix.lower() in _SUFFIXES}
        places = (source / "alignments" / speaker, folder / "align")
        for stem, path in sorted(videos.items()):
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


def _prepare(
    clips: list[GridClip],
    options: ClipOptions,
    jobs: int = 1,
    progress: Callable[[int], object] = ignore,
) -> Iterator[tuple[GridClip, Result]]:
    """Each clip with its example, or with the reason why there is none."""
    process = functools.partial(process_clip, options=options)
    results = process_clips([clip.path for clip in clips], process, jobs, progress)
    for clip, (_, result) in zip(clips, results, strict=True):
        if isinstance(result, dict):
            try:
                words = read_words(clip.alignment) if clip.alignment else []
                result = {"id": clip.id, "speaker": clip.speaker, "words": words, **result}
            except UserError as error:
                result = str(error)
        yield clip, result


@dataclasses.dataclass(eq=False, kw_only=True)
class GridConfig(tfds.core.BuilderConfig):
    """A TFDS config with the options of its clips."""

    options: ClipOptions = ClipOptions()


class Grid(tfds.core.GeneratorBasedBuilder):
    """Builder of the data set `grid`, written as array_record and read back without TensorFlow.

    An example holds what `clip_features` says. `info.metadata` holds image_size [H, W], video_rate,
    audio_rate and, once prepared, the number of frames.

    Args:
        source: folder of the corpus; needed to prepare, not to read.
        jobs: processes that prepare clips; the files written do not depend on it.
        progress: called with the number of clips done since its last call.

    `failures` lists the (id, reason) of clips that could not be used, once prepared.
    """

    VERSION = tfds.core.Version("1.0.0")
    BUILDER_CONFIGS = [
        GridConfig(
            name="aligned_128x96",
            description="Aligned 128x96 crops, 25 fps, audio at 50 kHz.",
        ),
        GridConfig(
            name="aligned_128x96_16khz",
            description="Aligned 128x96 crops, 25 fps, audio at 16 kHz.",
            options=ClipOptions(audio_rate=16_000),
        ),
        GridConfig(
            name="aligned_112x112",
            description="Aligned 112x112 crops, 25 fps, audio at 50 kHz.",
            options=ClipOptions(image_size=(112, 112)),
        ),
    ]

    def __init__(
        self,
        *,
        source: str | Path | None = None,
        jobs: int = 1,
        progress: Callable[[int], object] = ignore,
        **kwargs: Any,
    ) -> None:
        self.source = source
        self.jobs = jobs
        self.progress = progress
        self.failures: list[tuple[str, str]] = []
        super().__init__(file_format="array_record", **kwargs)

    @functools.cached_property
    def clips(self) -> dict[str, list[GridClip]]:
        """The clips of `source` by speaker; UserError where there are none."""
        if self.source is None:
            raise UserError("preparing GRID needs the folder of the corpus: pass source")
        return find_clips(self.source)

    def _info(self) -> tfds.core.DatasetInfo:
        options = self.builder_config.options
        return tfds.core.DatasetInfo(
            builder=self,
            description="Talking faces of the GRID audio-visual sentence corpus (CC BY 4.0), "
            "aligned to a canonical face; one split per speaker.",
            features=tfds.features.FeaturesDict(clip_features()),
            metadata=tfds.core.MetadataDict(
                image_size=list(options.image_size),
                video_rate=options.video_rate,
                audio_rate=options.audio_rate,
            ),
            homepage="https://zenodo.org/records/3625687",
            license="CC BY 4.0",
            citation="""@article{cooke2006audio,
  title={An audio-visual corpus for speech perception and automatic speech recognition},
  author={Cooke, Martin and Barker, Jon and Cunningham, Stuart and Shao, Xu},
  journal={The Journal of the Acoustical Society of America},
  volume={120}, number={5}, pages={2421--2424}, year={2006}
}""",
        )

    def _split_generators(
        self, dl_manager: tfds.download.DownloadManager
    ) -> dict[str, Iterator[tuple[str, dict[str, Any]]]]:
        del dl_manager  # the corpus is on disk
        faces.get_detector(self.builder_config.options.detector)  # fails now if not installed
        splits = {}
        for speaker, clips in self.clips.items():
            # TFDS cannot write an empty split, so look for the first usable clip beforehand; in
            # this process, because that is nearly always the first.
            outcomes = _prepare(clips, self.builder_config.options)
            failed = list(itertools.takewhile(lambda item: isinstance(item[1], str), outcomes))
            if len(failed) < len(clips):
                splits[speaker] = self._generate_examples(clips)
            else:
                self.failures += [(clip.id, reason) for clip, reason in failed]
                self.progress(len(failed))
        if not splits:
            clip_id, reason = self.failures[0]
            raise UserError(f"no usable GRID clip in {self.source}: {clip_id}: {reason}")
        return splits

    def _generate_examples(self, clips: list[GridClip]) -> Iterator[tuple[str, dict[str, Any]]]:
        options, metadata = self.builder_config.options, self.info.metadata
        for clip, result in _prepare(clips, options, self.jobs, self.progress):
            if isinstance(result, str):
                self.failures.append((clip.id, result))
            else:
                metadata["frames"] = metadata.get("frames", 0) + len(result["video"])
                yield clip.id, result

"""What the builders of recorded corpora share: a TFDS builder that a corpus fills in.

A corpus says where its clips are, how one of them becomes an example, and what is known of it:
who publishes it, its licence, its number of clips. Here are the splits, the report of the clips
that cannot be used, and the papers' subject splits. Ours: one TFDS split per SPEAKER wherever a
corpus says who speaks, so that who trains and who tests is chosen by a run's config and
never by preparing again.
"""

import dataclasses
import functools
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, ClassVar

import tensorflow_datasets as tfds
from absl import logging

from flax_talk.errors import UserError
from input_pipeline import faces
from input_pipeline.datasets.building import ClipBuilder
from input_pipeline.datasets.clips import ClipOptions, clip_features, cut

VIDEO_SUFFIXES = (".mpg", ".mp4", ".avi", ".mov", ".mkv", ".flv", ".webm")

Subjects = Mapping[str, Mapping[str, tuple[int, ...]]]
"""Speaker numbers by paper and by "train", "validation" or "test"."""


@dataclasses.dataclass(frozen=True)
class Clip:
    """One recording: an id of its own, who speaks, and its media file."""

    id: str
    speaker: str
    path: Path


@dataclasses.dataclass(eq=False, kw_only=True)
class RecordingConfig(tfds.core.BuilderConfig):
    """A TFDS config with the options of its clips."""

    options: ClipOptions = ClipOptions()


def aligned_configs(**options: Any) -> list[RecordingConfig]:
    """The configs of every recorded corpus; `options` are further ones of `ClipOptions`."""
    return [
        RecordingConfig(
            name="aligned_128x96",
            description="Aligned 128x96 crops, 25 fps, audio at 50 kHz.",
            options=ClipOptions(**options),
        ),
        RecordingConfig(
            name="aligned_128x96_16khz",
            description="Aligned 128x96 crops, 25 fps, audio at 16 kHz.",
            options=ClipOptions(audio_rate=16_000, **options),
        ),
        RecordingConfig(
            name="aligned_112x112",
            description="Aligned 112x112 crops, 25 fps, audio at 50 kHz.",
            options=ClipOptions(image_size=(112, 112), **options),
        ),
        RecordingConfig(
            name="aligned_128x96_split",
            description="As aligned_128x96, but clips are split where the face is lost for longer.",
            options=ClipOptions(on_gap="split", **options),
        ),
    ]


def split_expression(subjects: Subjects, name: str, split: str, corpus: str) -> str:
    """TFDS split expression of a paper's set, such as "s9+s20+s23".

    `name` is a key of `subjects`, `split` is "train", "validation" or "test"; UserError, which
    calls the corpus by its name, otherwise.
    """
    if split not in subjects.get(name, {}):
        known = [f"{paper} {part}" for paper, parts in subjects.items() for part in parts]
        raise UserError(f"unknown {corpus} subject split {name!r} {split!r}: choose one of {known}")
    return "+".join(f"s{number}" for number in subjects[name][split])


def videos(folder: Path) -> dict[str, Path]:
    """The video files of a folder and of those in it, by stem and in its order.

    Hidden files are left out; of files with the same stem the first path counts.
    """
    files = sorted(folder.rglob("[!.]*"), reverse=True)
    found = {path.stem: path for path in files if path.suffix.lower() in VIDEO_SUFFIXES}
    return dict(sorted(found.items()))


def check_folder(source: str | Path, corpus: str, layout: str) -> Path:
    """The folder of a corpus; UserError where there is none."""
    source = Path(source)
    if not source.is_dir():
        raise UserError(f"{corpus} source {source} is not a folder: {layout}")
    return source


def read_lines(path: Path) -> list[list[str]]:
    """The words of each line of a text file, empty lines left out.

    Raises:
        UserError: it cannot be read, or is not text.
    """
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path} cannot be read as text ({error}): mend the file") from error
    return [line.split() for line in lines if line.strip()]


class Recordings(ClipBuilder, skip_registration=True):
    """Builder of a recorded corpus; see `ClipBuilder` for its arguments.

    An example holds what `clip_features` says and the corpus's own features. `info.metadata` holds
    image_size [H, W], video_rate and audio_rate.

    A corpus defines what is marked (*); its two functions must be importable by name, since other
    processes run `read_clip`.

    Attributes:
        corpus: (*) its name for people.
        find_clips: (*) function of the source's path that returns its clips by split, and raises
            UserError where there are none.
        read_clip: (*) function of a clip and its options that returns the example.
        facts: (*) description, homepage, license and citation.
        expected_clips: (*) how many the whole corpus has; other counts give a warning; 0 for
            unknown.
        extra_metadata: (*) what its `info.metadata` holds beyond that.
    """

    corpus: ClassVar[str]
    find_clips: ClassVar["staticmethod[[str | Path], dict[str, list[Any]]]"]
    read_clip: ClassVar["staticmethod[[Any, ClipOptions], dict[str, Any]]"]
    facts: ClassVar[Mapping[str, str]]
    expected_clips: ClassVar[int] = 0
    extra_metadata: ClassVar[Mapping[str, Any]] = {}

    def extra_features(self) -> dict[str, Any]:
        """TFDS features that the corpus has beyond those of every data set."""
        return {}

    @functools.cached_property
    def clips(self) -> dict[str, list[Clip]]:
        """The clips of `source` by split; UserError where there are none."""
        if self.source is None:
            raise UserError(f"preparing {self.corpus} needs the folder of the corpus: pass source")
        clips = self.find_clips(self.source)
        count = sum(map(len, clips.values()))
        if self.expected_clips and count != self.expected_clips:
            logging.warning(
                "%s has %d clips, the whole of %s has %d: going on with these",
                *(self.source, count, self.corpus, self.expected_clips),
            )
        return clips

    def _info(self) -> tfds.core.DatasetInfo:
        options = self.builder_config.options
        return tfds.core.DatasetInfo(
            builder=self,
            features=tfds.features.FeaturesDict({**clip_features(), **self.extra_features()}),
            metadata=tfds.core.MetadataDict(
                image_size=list(options.image_size),
                video_rate=options.video_rate,
                audio_rate=options.audio_rate,
                **self.extra_metadata,
            ),
            **self.facts,
        )

    @property
    def read_examples(self) -> Callable[[Clip], list[dict[str, Any]]]:
        return functools.partial(
            _read_examples, read_clip=self.read_clip, options=self.builder_config.options
        )

    def settings(self) -> str:
        return f"{super().settings()} {self.builder_config.options}"

    def _split_generators(
        self, dl_manager: tfds.download.DownloadManager
    ) -> dict[str, Iterator[tuple[str, dict[str, Any]]]]:
        faces.get_detector(self.builder_config.options.detector)  # fails now if not installed
        return super()._split_generators(dl_manager)


def _read_examples(
    clip: Clip, read_clip: Callable[[Clip, ClipOptions], dict[str, Any]], options: ClipOptions
) -> list[dict[str, Any]]:
    return cut(read_clip(clip, options), options)

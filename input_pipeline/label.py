"""Gives the clips of a prepared data set action units, for which training asks. All ours.

They are OpenFace's, from the CSV files that it writes, or a proxy by MediaPipe's blendshapes
(`input_pipeline.blendshapes`), and go into files beside the records (`input_pipeline.unit_files`).
Clips that have their file already are not done again, so that the same command goes on where it
was interrupted.
"""

import functools
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow_datasets as tfds
from tqdm import tqdm

from flax_talk.errors import UserError
from input_pipeline import blendshapes, media, unit_files
from input_pipeline.datasets.building import write_report
from input_pipeline.datasets.clips import process_clips
from input_pipeline.datasets.folder import read_action_units
from input_pipeline.inspect import newest_version
from input_pipeline.synthetic.articulation import ACTION_UNITS
from input_pipeline.unit_files import UnitFile

OPENFACE = "openface"
"""What labels of OpenFace call themselves."""


@dataclass(frozen=True)
class Labelling:
    """What `label` did.

    Attributes:
        path: folder of the files.
        source: who found the units: `OPENFACE` or `blendshapes.SOURCE`.
        clips: with a file, of which done are new; frames: of them.
        failures: (id, reason) of the clips without one, as in report.csv of the folder.
        threshold: intensity from which on a unit is there.
        rates: share of the frames in which each is, by split and, as "all", of all.
    """

    path: Path
    source: str
    clips: int
    done: int
    frames: int
    failures: tuple[tuple[str, str], ...]
    threshold: float
    rates: dict[str, dict[str, float]]

    def __str__(self) -> str:
        lines = [
            f"{self.path}: {self.clips} clips by {self.source}, {self.done} of them new, "
            f"{len(self.failures)} failed",
            *(f"failed {clip}: {reason}" for clip, reason in self.failures[:1]),
            f"share of frames from {self.threshold:g} on",
        ]
        for split, rates in self.rates.items():
            text = ", ".join(f"{name} {rate:.4f}" for name, rate in rates.items())
            lines.append(f"{split}: {text}")
        return "\n".join(lines)


def label(
    folder: str | Path,
    model: str | Path | None = None,
    openface: str | Path | None = None,
    threshold: float = 0.2,
    jobs: int = 1,
) -> Labelling:
    """Writes the action units of every clip of a prepared data set.

    Args:
        folder: DATA_DIR/NAME/CONFIG, or a version in it.
        model: MediaPipe's Face Landmarker, for the proxy; or
        openface: folder with the CSV file of OpenFace's FeatureExtraction for each clip, by its id.
        threshold: intensity from which on a unit is counted as there, 0 to 1.
        jobs: processes; the files do not depend on it.

    Raises:
        UserError: not one of model and openface, no data set there, no such model or folder.
    """
    if (model is None) == (openface is None):
        raise UserError("give either --model, for the proxy by blendshapes, or --openface")
    builder = tfds.builder_from_directory(newest_version(Path(folder)))
    path = Path(builder.data_path)
    if model is not None:
        source = blendshapes.SOURCE
        blendshapes.get_labeller(str(model))  # fails now if something lacks
        find: Callable[[Mapping[str, Any]], dict[str, Any]] = functools.partial(
            _by_blendshapes, model=str(model)
        )
    else:
        source = OPENFACE
        if not Path(openface).is_dir():
            raise UserError(f"{openface} is not a folder: give that of OpenFace's CSV files")
        find = functools.partial(_by_openface, folder=str(openface))

    count = _Count(threshold)
    failures: list[tuple[str, str]] = []
    done = 0
    total = sum(split.num_examples for split in builder.info.splits.values())
    with tqdm(total=total, desc="label", unit="clip", mininterval=1) as bar:

        def waiting() -> Iterator[Mapping[str, Any]]:
            """The examples that have no file yet, with the split of each."""
            for split, example in _examples(builder, failures):
                units = _read(path, example, source)
                if units is None:
                    yield example | {"split": split}
                else:
                    count.add(split, units)
                    bar.update()

        for example, result in process_clips(waiting(), find, jobs, bar.update):
            clip_id = example["id"].decode()
            if isinstance(result, str):
                failures.append((clip_id, result))
                continue
            unit_files.write(path, clip_id, UnitFile(result["action_units"], source))
            count.add(example["split"], result["action_units"])
            done += 1
    files = path / unit_files.FOLDER
    files.mkdir(exist_ok=True)
    write_report(files / "report.csv", sorted(failures))
    return Labelling(
        path=files,
        source=source,
        clips=count.clips,
        done=done,
        frames=sum(count.frames.values()),
        failures=tuple(sorted(failures)),
        threshold=threshold,
        rates=count.rates(),
    )


def _examples(
    builder: tfds.core.DatasetBuilder, failures: list[tuple[str, str]]
) -> Iterator[tuple[str, dict[str, Any]]]:
    """All examples with their split; those that cannot be read go into the failures."""
    for split in builder.info.splits:
        source = builder.as_data_source(split=split)
        for index in range(len(source)):
            try:
                yield split, source[index]
            except RuntimeError as error:  # what array_record raises for damaged shards
                failures.append((f"{split}[{index}]", " ".join(str(error).split())))


def _read(path: Path, example: Mapping[str, Any], source: str) -> np.ndarray | None:
    """The units that a file of this source has for every frame of an example, if there is one."""
    try:
        found = unit_files.read(path, example["id"].decode())
    except UserError:  # damaged: it is written again
        return None
    if found is None or found.source != source or len(found.action_units) != len(example["video"]):
        return None
    return found.action_units


def _by_blendshapes(example: Mapping[str, Any], model: str) -> dict[str, Any]:
    frames = media.decode_frames(list(example["video"]))
    return {"action_units": blendshapes.get_labeller(model)(frames)}


def _by_openface(example: Mapping[str, Any], folder: str) -> dict[str, Any]:
    path = Path(folder, f"{example['id'].decode()}.csv")
    return {"action_units": read_action_units(path, len(example["video"]))}


class _Count:
    """Counts frames, and those in which a unit is there, by split."""

    def __init__(self, threshold: float) -> None:
        self._threshold = threshold
        self._present: dict[str, np.ndarray] = {}
        self.clips = 0
        self.frames: Counter[str] = Counter()

    def add(self, split: str, units: np.ndarray) -> None:
        """Counts the frames of a clip."""
        self.clips += 1
        self.frames[split] += len(units)
        # In their own precision: 0.2 is there from 0.2 on.
        present = (units >= np.float32(self._threshold)).sum(axis=0)
        self._present[split] = self._present.get(split, 0) + present

    def rates(self) -> dict[str, dict[str, float]]:
        """See `Labelling.rates`."""
        shares = {split: self._present[split] / self.frames[split] for split in self._present}
        if len(shares) > 1:
            shares["all"] = np.sum(list(self._present.values()), axis=0) / sum(self.frames.values())
        return {
            split: dict(zip(ACTION_UNITS, share.tolist(), strict=True))
            for split, share in sorted(shares.items(), key=lambda item: item[0] == "all")
        }

"""What a prepared data set holds: counts, hours, speakers, labels, and a contact sheet. All ours.

Everything is counted from the records themselves, in one pass, so that damaged ones are found too.
"""

import itertools
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import tensorflow_datasets as tfds
from tensorflow_datasets.core.utils.version import list_all_versions

from flax_talk.errors import UserError
from input_pipeline import media, unit_files
from input_pipeline.datasets import get_builder, paper_counts, subject_splits
from input_pipeline.datasets.building import read_report
from input_pipeline.synthetic.articulation import ACTION_UNITS

_PRESENT = 0.2  # intensity from which on an action unit counts as present, of 1
_SHEET_CLIPS = 16
_SHEET_FRAMES = 8
_CAPTION = 16  # pixels


@dataclass(frozen=True)
class Inspection:
    """What was found in a prepared data set.

    Attributes:
        path: its folder.
        image_size: (H, W) of the crops, pixels.
        video_rate, audio_rate: Hz.
        clips, hours: of all splits; failed: clips that could not be used when it was prepared.
        seconds: the shortest, the median and the longest clip.
        speakers: clips by speaker; empty where the corpus does not say who speaks.
        splits: clips, hours and number of speakers by split.
        overlap: the splits of each speaker who is in several.
        papers: clips, hours and speakers that are there and missing, by paper and its set, and the
            paper's own clips and hours where it says them.
        expected: clips of the whole corpus; 0 for unknown.
        labels: rates by feature: the share of clips that have it, and what there is to say of it;
            action units of files beside the records under the name of who found them.
        sheet: the picture that was drawn.
    """

    path: Path
    image_size: list[int]
    video_rate: float
    audio_rate: int
    clips: int
    hours: float
    failed: int
    seconds: list[float]
    speakers: dict[str, int]
    splits: dict[str, dict[str, float]]
    overlap: dict[str, list[str]]
    papers: dict[str, dict[str, dict[str, float]]]
    expected: int
    labels: dict[str, dict[str, float]]
    sheet: Path

    def __str__(self) -> str:
        height, width = self.image_size
        people = f"{len(self.speakers)} speakers" if self.speakers else "speakers unknown"
        shortest, median, longest = self.seconds
        lines = [
            f"{self.path}: {self.clips} clips, {self.hours:.2f} h, {people}, {self.failed} failed"
            + (f", {self.expected} expected" if self.expected else ""),
            f"crops {height}x{width} at {self.video_rate:g} fps, audio at {self.audio_rate} Hz, "
            f"clips of {shortest:.2f} to {longest:.2f} s, half of them up to {median:.2f} s",
            *self._split_lines(),
        ]
        for speaker, splits in self.overlap.items():
            lines.append(f"OVERLAP {speaker} is in {', '.join(splits)}")
        if self.speakers and not self.overlap:
            lines.append("overlap: no speaker is in two splits")
        for name, rates in self.labels.items():
            text = ", ".join(f"{key} {value:.3g}" for key, value in rates.items())
            lines.append(f"label {name}: {text}")
        return "\n".join([*lines, f"contact sheet {self.sheet}"])

    def _split_lines(self) -> Iterator[str]:
        for split, facts in self.splits.items():
            yield f"split {split}: {_counts(facts)}"
        for paper, sets in self.papers.items():
            for split, facts in sets.items():
                line = f"{paper} {split}: {_counts(facts)}, {facts['missing']} missing"
                if "paper_clips" in facts:
                    line += (
                        f"; in the paper {facts['paper_clips']} clips, {facts['paper_hours']:g} h"
                    )
                yield line


def _counts(facts: Mapping[str, float]) -> str:
    return f"{facts['clips']} clips, {facts['hours']:.2f} h, {facts['speakers']} speakers"


def inspect(folder: str | Path, sheet: str | Path | None = None) -> Inspection:
    """Reads all of a prepared data set and draws a contact sheet of it.

    Args:
        folder: DATA_DIR/NAME/CONFIG, or a version in it, or a folder above with no other data set.
        sheet: PNG to write: a row of frames for each of about 16 clips, spread over the splits, the
            last frame with its landmarks; contact_sheet.png in the folder of the config by default.

    Raises:
        UserError: no data set there, damaged records, or a sheet that cannot be written.
    """
    builder = tfds.builder_from_directory(newest_version(Path(folder)))
    path, info = Path(builder.data_path), builder.info
    rate = info.metadata["video_rate"]
    frames: dict[str, list[int]] = {split: [] for split in info.splits}
    speakers: dict[str, Counter[str]] = {split: Counter() for split in info.splits}
    labels = _Labels(path, info.features)
    shown = _spread({name: split.num_examples for name, split in info.splits.items()})
    rows = []
    for split, index, example in _examples(builder):
        frames[split].append(len(example["video"]))
        if speaker := example["speaker"].decode():
            speakers[split][speaker] += 1
        labels.add(example)
        if (split, index) in shown:
            rows.append(_row(example))
    sheet = Path(sheet) if sheet else path.parent / "contact_sheet.png"
    _write_sheet(sheet, rows)
    lengths = list(itertools.chain.from_iterable(frames.values()))
    counted = {split: _facts(frames[split], len(speakers[split]), rate) for split in info.splits}
    return Inspection(
        path=path,
        image_size=list(info.metadata["image_size"]),
        video_rate=rate,
        audio_rate=info.metadata["audio_rate"],
        clips=len(lengths),
        hours=sum(lengths) / rate / 3600,
        failed=len(read_report(path.parent / "report.csv")),
        seconds=[float(value / rate) for value in np.quantile(lengths, (0, 0.5, 1))],
        speakers=dict(sum(speakers.values(), Counter())),
        splits=counted,
        overlap=overlap(speakers),
        papers=_papers(builder.name, counted),
        expected=_expected(builder.name),
        labels=labels.rates(),
        sheet=sheet,
    )


def overlap(speakers: Mapping[str, Iterable[str]]) -> dict[str, list[str]]:
    """The splits of each speaker who is in several, by the different speakers of each split."""
    places: dict[str, list[str]] = defaultdict(list)
    for split, names in speakers.items():
        for name in names:
            places[name].append(split)
    return {name: splits for name, splits in places.items() if len(splits) > 1}


def newest_version(folder: Path) -> Path:
    """The newest version of the one data set in a folder, which may itself be one.

    Raises:
        UserError: there is none, or several.
    """
    if (folder / "dataset_info.json").is_file():
        return folder
    depths = ("*", "*/*", "*/*/*")
    found = [path for depth in depths for path in folder.glob(f"{depth}/dataset_info.json")]
    configs = sorted({path.parents[1] for path in found})
    if not configs:
        raise UserError(f"{folder}: no prepared data set: give DATA_DIR/NAME/CONFIG")
    if len(configs) > 1:
        raise UserError(
            f"{folder} has several data sets: give one of {', '.join(map(str, configs))}"
        )
    return configs[0] / str(list_all_versions(configs[0])[-1])


def _spread(counts: Mapping[str, int]) -> set[tuple[str, int]]:
    """The (split, index) of about as many clips as a sheet has, of as many splits as possible."""
    names = list(counts)
    chosen = [names[i] for i in _evenly(len(names), _SHEET_CLIPS)]
    each = -(-_SHEET_CLIPS // len(chosen))
    return {(name, i) for name in chosen for i in _evenly(counts[name], each)}


def _evenly(length: int, count: int) -> list[int]:
    """Up to `count` of the indices of a sequence, evenly spaced."""
    return np.linspace(0, length - 1, min(length, count)).round().astype(int).tolist()


def _examples(builder: tfds.core.DatasetBuilder) -> Iterator[tuple[str, int, Mapping[str, Any]]]:
    """All examples with their split and their index in it."""
    for split in builder.info.splits:
        source = builder.as_data_source(split=split)
        for index in range(len(source)):
            try:
                yield split, index, source[index]
            except RuntimeError as error:  # what array_record raises for damaged shards
                raise UserError(
                    f"clip {index} of {split} in {builder.data_path} cannot be read ({error}): "
                    "prepare the data set again"
                ) from error


def _facts(lengths: Sequence[int], speakers: int, rate: float) -> dict[str, float]:
    return {"clips": len(lengths), "hours": sum(lengths) / rate / 3600, "speakers": speakers}


def _expected(name: str) -> int:
    try:
        return getattr(get_builder(name), "expected_clips", 0)
    except UserError:  # a data set of somebody else
        return 0


def _papers(
    name: str, counted: Mapping[str, Mapping[str, float]]
) -> dict[str, dict[str, dict[str, float]]]:
    """See `Inspection.papers`; of a corpus with its own splits they have the same names."""
    counts = paper_counts(name)
    texts = subject_splits(name) or {
        paper: {split: split for split in sets} for paper, sets in counts.items()
    }
    found = {
        paper: {split: _join(counted, text.split("+")) for split, text in sets.items()}
        for paper, sets in texts.items()
    }
    for paper, sets in counts.items():
        for split, (clips, hours) in sets.items():
            found[paper][split] |= {"paper_clips": clips, "paper_hours": hours}
    return found


def _join(counted: Mapping[str, Mapping[str, float]], splits: Sequence[str]) -> dict[str, float]:
    """What a paper's set has of the splits, of which some may not be prepared."""
    present = [counted[split] for split in splits if split in counted]
    sums = {name: sum(facts[name] for facts in present) for name in ("clips", "hours", "speakers")}
    return {**sums, "missing": len(splits) - len(present)}


class _Labels:
    """Counts the labels of examples, of those kinds that a data set has."""

    def __init__(self, path: Path, features: Mapping[str, Any]) -> None:
        self._path = path
        self._features = features
        self._clips = 0
        self._labelled: Counter[str] = Counter()
        self._segments: Counter[str] = Counter()
        self._names: dict[str, set[bytes]] = defaultdict(set)
        self._classes: dict[str, Counter[str]] = defaultdict(Counter)
        self._units: dict[str, list[np.ndarray]] = defaultdict(list)

    def add(self, example: Mapping[str, Any]) -> None:
        """Counts one example."""
        self._clips += 1
        for plural, single in (("words", "word"), ("phonemes", "phoneme")):
            if plural in self._features:
                names = example[plural][single]
                self._labelled[plural] += len(names) > 0
                self._segments[plural] += len(names)
                self._names[plural].update(names)
        if "text" in self._features:
            self._labelled["text"] += len(example["text"]) > 0
        for name, feature in self._features.items():
            if isinstance(feature, tfds.features.ClassLabel):
                self._classes[name][feature.int2str(int(example[name]))] += 1
        if len(units := example.get("action_units", ())):
            self._units["action_units"].append(units)
        elif found := unit_files.read(self._path, example["id"].decode()):
            self._units[f"action_units, {found.source}"].append(found.action_units)

    def rates(self) -> dict[str, dict[str, float]]:
        """See `Inspection.labels`."""
        rates = {}
        for name in ("words", "phonemes", "text"):
            if name in self._features:
                rates[name] = {"clips": self._labelled[name] / self._clips}
        for name, names in self._names.items():
            rates[name] |= {
                "per_clip": self._segments[name] / self._clips,
                "distinct": len(names),
            }
        for name, counts in self._classes.items():
            rates[name] = {label: counts[label] / self._clips for label in sorted(counts)}
        if "action_units" in self._features and not self._units:
            rates["action_units"] = {"clips": 0.0}
        for name, units in self._units.items():
            present = (np.concatenate(units) >= np.float32(_PRESENT)).mean(axis=0)
            rates[name] = {
                "clips": len(units) / self._clips,
                **dict(zip(ACTION_UNITS, present.tolist(), strict=True)),
            }
        return rates


def _row(example: Mapping[str, Any]) -> np.ndarray:
    """Frames of a clip beside each other under its name, the last with its landmarks: BGR."""
    length = len(example["video"])
    indices = np.linspace(0, length - 1, _SHEET_FRAMES).round().astype(int)  # short clips repeat
    frames = media.decode_frames([example["video"][index] for index in indices])
    for x, y in example["landmarks"][-1].round().astype(int).tolist():
        cv2.circle(frames[-1], (x, y), 1, (0, 255, 0), -1)
    pictures = np.concatenate(frames, axis=1)[..., ::-1]
    row = np.pad(pictures, ((_CAPTION, 0), (0, 0), (0, 0)), constant_values=255)
    caption = f"{example['id'].decode()} ({length} frames)"
    cv2.putText(row, caption, (2, _CAPTION - 5), cv2.FONT_HERSHEY_SIMPLEX, 0.38, (0, 0, 0), 1)
    return row


def _write_sheet(path: Path, rows: Iterable[np.ndarray]) -> None:
    encoded = cv2.imencode(".png", np.concatenate(list(rows)))[1].tobytes()
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(encoded)
    except OSError as error:
        raise UserError(f"{path} cannot be written ({error.strerror}): set --out") from error

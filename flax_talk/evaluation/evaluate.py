"""Measures a checkpoint on a data set, or any videos against references.

Three rows are measured in the same way: the system's videos, the still frame repeated, and the real
videos. What is found in a clip is written at once, so that an evaluation that was stopped goes on
where it was, and a measure that is asked for later is added to those that are there. The noise of
a clip depends on its number, not on the batch that it comes in.
"""

import contextlib
import functools
import json
import time
import zlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict
from tqdm import tqdm

from flax_talk.errors import UserError
from flax_talk.evaluation import measures, plots, report
from flax_talk.evaluation.measures import SHIPPED_JUDGES, Clips, Family, Footage, Judges, Record
from flax_talk.evaluation.validation import Evaluator, generate
from flax_talk.interop.array_files import read_npz
from flax_talk.metrics.action_units import read_openface
from flax_talk.systems import check_config, get_system
from flax_talk.training import parallel
from flax_talk.training.checkpoints import load_config, load_variables
from input_pipeline import audio, media, text
from input_pipeline.datasets import grid, subject_splits
from input_pipeline.loader import Selection, make_loader, open_source

GENERATED, STILL, REAL = ROWS = ("generated", "still", "real")
"""What is measured, by row of the table."""

Rows = dict[str, Clips]

_VIDEOS = (".avi", ".m4v", ".mkv", ".mov", ".mp4", ".mpeg", ".mpg", ".webm")
_RATE = 25.0  # frames per second at which videos are measured
_AUDIO_RATE = 16_000  # samples per second: that of the judges' coefficients
_PADDING = 25  # frames, to a multiple of which videos are filled up, so that few lengths compile
_CODES_EVERY = 25  # of so many frames one is encoded for the map of identity codes


class Records:
    """What has been found in each clip so far; in a folder too, if there is one.

    Args:
        out: folder of the evaluation, or None.
        facts: what is evaluated, plain values.
        baselines: folder for the still's and the real videos' records, `out` by default: those of
            another checkpoint on the same clips are the same.

    Raises:
        UserError: the folder holds another evaluation.
    """

    def __init__(
        self,
        out: str | Path | None,
        facts: Mapping[str, Any],
        baselines: str | Path | None = None,
    ):
        self._folder = None if out is None else Path(out) / "records"
        self._baselines = self._folder if baselines is None else Path(baselines)
        self._found: dict[tuple[str, str], dict[str, np.ndarray]] = {}
        if self._folder is None:
            return
        file = self._folder / "evaluation.json"
        if not file.exists():
            report.write(self._folder, file.name, json.dumps(facts, indent=2) + "\n")
        elif other := _differences(json.loads(file.read_text()), json.loads(json.dumps(facts))):
            raise UserError(f"{out} holds another evaluation ({other}): give --out another folder")

    def get(self, row: str, clip: str) -> Record:
        """The fields of a clip in a row, none if nothing has been found."""
        if (row, clip) not in self._found:
            path = self._path(row, clip)
            found = {}
            if path is not None and path.exists():
                found = read_npz(path)
            self._found[row, clip] = found
        return self._found[row, clip]

    def has(self, row: str, clip: str, family: str) -> bool:
        """Whether a family has looked at a clip."""
        return any(key.startswith(f"{family}/") for key in self.get(row, clip))

    def lacks(self, clip: str, families: Sequence[str]) -> bool:
        """Whether a family has not looked at a clip in all rows."""
        return not all(self.has(row, clip, family) for row in ROWS for family in families)

    def add(self, row: str, clip: str, fields: Record) -> None:
        """Adds fields; they are in the folder when this returns."""
        found = self._found[row, clip] = {**self.get(row, clip), **fields}
        if (path := self._path(row, clip)) is not None:
            path.parent.mkdir(parents=True, exist_ok=True)
            partial = path.with_name(f".{path.name}.partial")
            with partial.open("wb") as file:
                np.savez_compressed(file, **found)
            partial.replace(path)

    def _path(self, row: str, clip: str) -> Path | None:
        folder = self._folder if row == GENERATED else self._baselines
        return None if folder is None else folder / row / f"{clip}.npz"


def _differences(one: Mapping[str, Any], other: Mapping[str, Any]) -> str:
    keys = [key for key in {**one, **other} if one.get(key) != other.get(key)]
    return ", ".join(f"{key} {one.get(key)!r}, not {other.get(key)!r}" for key in keys)


def evaluate(
    checkpoint: str | Path,
    data_dir: str | Path | None = None,
    dataset: str | None = None,
    split: str = "test",
    out: str | Path | None = None,
    metrics: Sequence[str] = (),
    judges: Judges = SHIPPED_JUDGES,
    limit: int = 0,
    batch_size: int = 0,
    baselines: str | Path | None = None,
) -> dict[str, Any]:
    """Measures the best checkpoint of a run on the clips of a split.

    Args:
        checkpoint: folder of a run, or exported.
        data_dir: prepared data, if not where the run's config says.
        dataset: DATASET[:CONFIG], if not the run's.
        split: "train", "validation" or "test" of the run's config, or of the paper on GRID where
            `dataset` is that; a split of the data set; or an expression such as "s1[-30:]+s4".
        out: folder for the results and, until they are there, for what has been found.
        metrics: columns or families of `flax_talk.evaluation.measures`; by default all that can
            be measured.
        judges: who judges.
        limit: the first so many clips only; 0 for all.
        batch_size: clips that are generated at once; 0 for as many as in training.
        baselines: folder for what is found in the stills and the real videos, which evaluations of
            other checkpoints on the same clips, by the same judges, can share.

    Returns:
        The report, see `flax_talk.evaluation.report`; of a judge, what its own `measure` says.

    Raises:
        UserError: no run, no such data, a measure that is unknown or cannot be taken, or `out` is
            of another evaluation.
    """
    config = load_config(Path(checkpoint))
    check_config(config, checkpoint)
    _choose_data(config, data_dir, dataset, split)
    if batch_size:
        config.data.batch_size = batch_size
    parallel.check_batch_size(config.data.batch_size)
    system = get_system(config.system)
    variables, step = load_variables(Path(checkpoint))
    mesh = parallel.make_mesh()
    facts = {
        "system": config.system,
        "step": step,
        "weights": _checksum(jax.tree.leaves(jax.device_get(variables))),
        "seed": config.seed,
        "data": f"{config.data.dataset}/{config.data.builder_config}",
        "split": config.data.splits[split],
    }
    if not hasattr(system, "generate"):
        return _evaluate_judge(config, variables, facts, split, out, limit)

    columns = measures.choose(metrics)
    families, left_out = measures.make_families(columns, judges, optional=not metrics)
    columns = [name for name in columns if measures.COLUMNS[name].family in families]
    families |= _codes_family(system, config, variables)
    # What training reads besides, such as action units, generating and measuring do without.
    config.data.features = ("mfcc",)
    source = open_source(config.data, split)
    source = Selection(source, range(min(limit or len(source), len(source))))
    if "words" in source[0]:
        config.data.features = ("mfcc", "words")
    records = Records(out, {**facts, **_named(judges)}, baselines)
    clips = [f"{i:06d}" for i in range(len(source))]
    todo = [i for i, clip in enumerate(clips) if records.lacks(clip, families)]
    make = jax.jit(functools.partial(generate, system, config))
    on_devices = parallel.replicate(mesh, variables)
    spent: dict[str, float] = {}

    def batches(wanted: list[int]) -> Iterator[tuple[list[str], Rows]]:
        loader = make_loader(Selection(source, wanted), config.data, train=False, seed=config.seed)
        size = config.data.batch_size
        for start, batch in zip(range(0, len(wanted), size), loader, strict=True):
            indices = wanted[start : start + size]
            with _timed(spent, "generation"):
                numbers = jnp.asarray(np.resize(indices, size))
                video = make(on_devices, parallel.shard_batch(mesh, batch), numbers)
                video.block_until_ready()
            examples = [source[i] for i in indices]
            yield [clips[i] for i in indices], _rows(batch, video, examples, judges)

    effort = _measure(batches(todo), len(todo), families, records, spent)
    rows = _rows_of(records, clips)
    result = {**report.make(facts, columns, left_out, rows), **effort}
    if out is not None:
        report.write_all(Path(out), result, [_text(example["id"]) for example in source], rows)
        speakers = [_text(example["speaker"]) for example in source]
        plots.draw_all(Path(out), _first(batches([0])), rows, speakers, config.data.video_rate)
    return result


def compare(
    videos: str | Path,
    references: str | Path,
    out: str | Path | None = None,
    metrics: Sequence[str] = (),
    judges: Judges = SHIPPED_JUDGES,
    is_aligned: bool = False,
) -> dict[str, Any]:
    """Measures videos, whoever made them, against references of the same names.

    A video is measured with its own sound, or else that of its reference; the first frame of the
    reference stands for the still. Beside a video there may be what is said, in `NAME.txt`
    or a GRID `NAME.align`, and the action units that OpenFace has found, in `NAME.csv`.

    Args:
        videos, references: folders.
        out, metrics, judges: as of `evaluate`.
        is_aligned: the frames are aligned faces already; otherwise the judges see faces that
            are found and aligned.

    Returns:
        The report, with `failures`: pairs that could not be measured, with the reason.

    Raises:
        UserError: no such folder, no pair, or as of `evaluate`.
    """
    pairs, failures = _pairs(Path(videos), Path(references))
    columns = measures.choose(metrics)
    families, left_out = measures.make_families(columns, judges, optional=not metrics)
    columns = [name for name in columns if measures.COLUMNS[name].family in families]
    facts = {"videos": Path(videos).name, "references": Path(references).name}
    records = Records(out, {**facts, "is_aligned": is_aligned, **_named(judges)})
    clips = {name: f"{name}.{_fingerprint(pair)}" for name, pair in pairs.items()}
    todo = [name for name, clip in clips.items() if records.lacks(clip, families)]
    spent: dict[str, float] = {}

    def batches(wanted: list[str]) -> Iterator[tuple[list[str], Rows]]:
        for name in wanted:
            try:
                rows = _read_pair(*pairs[name], judges, is_aligned)
            except UserError as error:
                failures[name] = str(error)
            else:
                yield [clips[name]], rows

    effort = _measure(batches(todo), len(todo), families, records, spent)
    names = [name for name in pairs if name not in failures]
    if not names:
        raise UserError(f"nothing in {videos} can be measured: " + "; ".join(failures.values()))
    rows = _rows_of(records, [clips[name] for name in names])
    result = {**report.make(facts, columns, left_out, rows), **effort, "failures": failures}
    if out is not None:
        report.write_all(Path(out), result, names, rows)
        plots.draw_all(Path(out), _first(batches(names[:1])), rows)
    return result


def _evaluate_judge(config, variables, facts, split, out, limit) -> dict[str, Any]:
    mesh = parallel.make_mesh()
    evaluator = Evaluator(get_system(config.system), config, mesh, split, limit)
    found = evaluator(parallel.replicate(mesh, variables), progress=True)
    result = {**facts, "clips": evaluator.num_clips, "metrics": found}
    if out is not None:
        report.write(Path(out), "metrics.json", report.to_json(result))
        report.write(Path(out), "table.md", report.table(result))
    return result


def _choose_data(
    config: ConfigDict, data_dir: str | Path | None, dataset: str | None, split: str
) -> None:
    """Changes the config's data to what is to be measured."""
    if data_dir is not None:
        config.data.data_dir = str(data_dir)
    if dataset is not None:
        name, _, builder_config = dataset.partition(":")
        if name != config.data.dataset or builder_config:
            config.data.builder_config = builder_config or _BUILDER_CONFIGS.get(name, "default")
        config.data.dataset = name
        config.data.splits[split] = split
        config.data.splits.update(subject_splits(name).get("temporal_gan_2019", {}))
    elif split not in config.data.splits:
        config.data.splits[split] = split


_BUILDER_CONFIGS = dict.fromkeys(
    ("crema_d", "folder", "grid", "lrw", "tcd_timit"), "aligned_128x96"
)


def _named(judges: Judges) -> dict[str, str | None]:
    return {name: None if value is None else str(value) for name, value in judges._asdict().items()}


def _checksum(arrays: Sequence[np.ndarray]) -> str:
    """Tells weights apart that have the same step."""
    value = 0
    for array in arrays:
        value = zlib.crc32(np.ascontiguousarray(array), value)
    return f"{value:08x}"


def _fingerprint(paths: Sequence[Path]) -> str:
    """Tells files apart that have the same name: those of a pair, and what is beside them."""
    beside = (path.with_suffix(end) for path in paths for end in (".txt", ".align", ".csv"))
    stats = [path.stat() for path in (*paths, *beside) if path.exists()]
    return f"{zlib.crc32(repr([(x.st_size, x.st_mtime_ns) for x in stats]).encode()):08x}"


def _text(value: bytes | str) -> str:
    return value.decode() if isinstance(value, bytes) else value


def _rows(
    batch: Mapping[str, np.ndarray],
    video: jax.Array,
    examples: Sequence[Mapping[str, Any]],
    judges: Judges,
) -> Rows:
    """What is to be measured of a batch, of which the examples come first."""
    count = len(examples)
    mask = batch["mask"][:count]

    def footage(frames):
        return Footage(frames[:count], mask, judges.detector)

    real, still = footage(batch["video"]), footage(batch["still"][:, None])
    common = dict(reference=real, still=still, mfcc=batch["mfcc"][:count])
    if "text" in batch:
        labels = zip(batch["text"][:count], batch["text_mask"], strict=False)
        common["text"] = [text.decode(row[valid]) for row, valid in labels]
    closure = None
    if "blink" in examples[0]:
        lengths = mask.sum(axis=1)
        closure = [e["blink"][:n] for e, n in zip(examples, lengths, strict=True)]
    return {
        GENERATED: Clips(video=footage(video), **common),
        STILL: Clips(video=still, **common),
        REAL: Clips(video=real, closure=closure, **common),
    }


def _pairs(videos: Path, references: Path) -> tuple[dict[str, tuple[Path, Path]], dict[str, str]]:
    """Videos and references by name, and why others have no part."""
    found = []
    for folder in (videos, references):
        if not folder.is_dir():
            raise UserError(f"{folder}: no such folder: give a folder of videos")
        files = sorted(file for file in folder.iterdir() if file.suffix.lower() in _VIDEOS)
        found.append({file.stem: file for file in files})
    ours, theirs = found
    failures = {
        name: f"{ours[name]}: no reference of that name" for name in ours if name not in theirs
    }
    pairs = {name: (file, theirs[name]) for name, file in ours.items() if name in theirs}
    if not pairs:
        raise UserError(f"no video in {videos} has the name of one in {references}")
    return pairs, failures


def _read_pair(video: Path, reference: Path, judges: Judges, is_aligned: bool) -> Rows:
    """What is to be measured of a pair of files."""
    shown, real = (media.read_video(path, _RATE).frames for path in (video, reference))
    if shown.shape[1:] != real.shape[1:]:
        sizes = ["x".join(map(str, frames.shape[1:3])) for frames in (shown, real)]
        raise UserError(
            f"{video} is {sizes[0]}, its reference {sizes[1]} pixels: scale one of them"
        )
    count = min(len(shown), len(real))
    length = -(-count // _PADDING) * _PADDING
    mask = np.arange(length)[None] < count

    def footage(frames):
        padded = np.concatenate([frames[:count], np.repeat(frames[-1:], length - count, axis=0)])
        return Footage(padded[None], mask, judges.detector, is_aligned)

    references = footage(real)
    still = Footage(real[None, :1], mask, judges.detector, is_aligned)
    common = dict(reference=references, still=still, text=[_said(video) or _said(reference)])
    common["mfcc"] = _sound(video, reference, length)
    seen: dict[str, Any] = {GENERATED: {}, STILL: {}, REAL: {}}
    files = [path.with_suffix(".csv") for path in (video, reference)]
    if all(file.exists() for file in files):
        units, true_units = ([read_openface(file)] for file in files)
        seen[GENERATED] = dict(units=units, true_units=true_units)
        seen[STILL] = dict(units=[None], true_units=true_units)
        seen[REAL] = dict(units=true_units, true_units=true_units)
    return {
        GENERATED: Clips(video=footage(shown), **seen[GENERATED], **common),
        STILL: Clips(video=still, **seen[STILL], **common),
        REAL: Clips(video=references, **seen[REAL], **common),
    }


def _said(path: Path) -> str | None:
    """What is said in a video, where a file beside it says so."""
    if (file := path.with_suffix(".align")).exists():
        return " ".join(word["word"] for word in grid.read_words(file))
    if (file := path.with_suffix(".txt")).exists():
        return " ".join(file.read_text().lower().split())
    return None


def _sound(video: Path, reference: Path, length: int) -> np.ndarray | None:
    """Coefficients [1, 4 T, 13] of the video's sound, or of the reference's."""
    for path in (video, reference):
        try:
            waveform = media.read_audio(path, _AUDIO_RATE)
        except UserError:
            continue
        return audio.mfcc(waveform, _AUDIO_RATE, 4 * length)[None]
    return None


@contextlib.contextmanager
def _timed(spent: dict[str, float], name: str) -> Iterator[None]:
    """Adds the seconds that pass to those of a name."""
    start = time.perf_counter()
    yield
    spent[name] = spent.get(name, 0.0) + time.perf_counter() - start


def _measure(
    batches: Iterator[tuple[list[str], Rows]],
    count: int,
    families: Mapping[str, Family],
    records: Records,
    spent: dict[str, float],
) -> dict[str, Any]:
    """Lets the families look at all clips.

    Returns:
        `measured_seconds` of video, and `cost`, the time that each part took for one of them.
    """
    seconds = 0.0
    with tqdm(total=count, desc="evaluate", unit="clip", disable=not count) as bar:
        for clips, rows in batches:
            for row, shown in rows.items():
                found: list[dict[str, np.ndarray]] = [{} for _ in clips]
                for name, family in families.items():
                    if all(records.has(row, clip, name) for clip in clips):
                        continue
                    with _timed(spent, name):
                        fields = family(shown)
                    for field, values in fields.items():
                        for record, value in zip(found, values, strict=True):
                            record[f"{name}/{field}"] = np.asarray(value)
                for clip, record in zip(clips, found, strict=True):
                    records.add(row, clip, record)
            seconds += float(rows[REAL].mask.sum()) / _RATE
            bar.update(len(clips))
    cost = {name: value / seconds for name, value in spent.items() if seconds}
    return {"measured_seconds": seconds, "cost": cost}


def _first(batches: Iterator[tuple[list[str], Rows]]) -> dict[str, np.ndarray]:
    """The first clip by row, uint8 [T, H, W, 3]."""
    _, rows = next(batches)
    valid = rows[REAL].mask[0]
    return {row: np.asarray(clips.video.frames[0])[valid] for row, clips in rows.items()}


def _codes_family(system, config: ConfigDict, variables: Any) -> dict[str, Family]:
    """What the generator takes a few frames of each clip for, of a system that says so."""
    if not hasattr(system, "identity_code"):
        return {}
    encode = jax.jit(functools.partial(system.identity_code, config, variables))

    def family(clips: Clips) -> measures.Fields:
        frames = clips.video.frames[:, ::_CODES_EVERY]
        codes = encode(frames.reshape(-1, *frames.shape[2:]))
        shape = frames.shape[:2]
        return {"codes": np.asarray(codes).reshape(*shape, -1)}

    return {"identity_codes": family}


def _rows_of(records: Records, clips: Sequence[str]) -> dict[str, list[Record]]:
    return {row: [records.get(row, clip) for clip in clips] for row in ROWS}

"""Prepare a data set once, from a corpus as distributed to records that training reads.

The work on a clip is in `datasets/clips.py` and the corpora's layouts in `datasets/`; here are
the progress bar, the report of the clips that could not be used, and the promise that a finished
data set is never touched again. TFDS writes into a temporary folder that it renames at the
end, so an interrupted run leaves no half data set.
"""

import contextlib
import csv
import io
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import tensorflow_datasets as tfds
from tqdm import tqdm

from flax_talk.errors import UserError
from input_pipeline.datasets import get_builder


@dataclass(frozen=True)
class Report:
    """What a preparation found and made.

    path is the folder of the prepared data set, failures the (id, reason) of the clips that
    could not be used, used the number of the others, hours their duration, clips_per_minute
    the speed (None when the data set was there already).
    """

    path: Path
    used: int
    failures: tuple[tuple[str, str], ...]
    hours: float
    clips_per_minute: float | None

    def __str__(self) -> str:
        failed = len(self.failures)
        counts = f"{self.used + failed} clips found, {self.used} used, {failed} failed"
        line = f"{self.path}: {counts}, {self.hours:.2f} h"
        if self.clips_per_minute is None:
            return f"{line}; already prepared, nothing changed"
        return f"{line}, {self.clips_per_minute:.0f} clips/minute"


def read_report(path: Path) -> tuple[tuple[str, str], ...]:
    """The (id, reason) of the clips that could not be used, from a report.csv."""
    if not path.exists():  # removed by hand: the data set is whole without it
        return ()
    with path.open(newline="") as file:
        return tuple((row["id"], row["reason"]) for row in csv.DictReader(file))


def write_report(path: Path, failures: list[tuple[str, str]]) -> None:
    """Writes a report.csv of the (id, reason) of clips that could not be used."""
    with path.open("w", newline="") as file:
        csv.writer(file).writerows([("id", "reason"), *failures])


def _build(builder: tfds.core.GeneratorBasedBuilder, title: str) -> float:
    """Run the builder under a progress bar; returns clips per minute."""
    total = sum(len(clips) for clips in builder.clips.values())
    start = time.perf_counter()
    # TFDS draws a bar for each split and shard and announces a download: one bar says more.
    tfds.disable_progress_bar()
    with (
        tqdm(total=total, desc=title, unit="clip", mininterval=1) as bar,
        contextlib.redirect_stdout(io.StringIO()),
        tempfile.TemporaryDirectory() as downloads,  # stays empty, TFDS insists on making one
    ):
        builder.progress = bar.update
        builder.download_and_prepare(download_dir=downloads)
    return 60 * total / (time.perf_counter() - start)


def prepare(
    dataset: str, data_dir: str | Path, source: str | Path | None = None, jobs: int = 1
) -> Report:
    """Prepare `dataset` and print a summary line.

    Writes the TFDS data set <data_dir>/<dataset>/<config>/<version> and, next to it,
    report.csv (id, reason) of the clips that could not be used. The files depend neither on `jobs`
    nor on the time of day. A data set that exists is left as it is.

    Args:
        dataset: name, or name:config, such as "grid" or "synthetic_grid:tiny".
        data_dir: folder of all prepared data sets; made if need be.
        source: folder of the corpus as distributed; none for what is rendered.
        jobs: processes that prepare clips.

    Raises:
        UserError: unknown data set or config, missing or empty source, no usable clip.
        KeyboardInterrupt: passed on after the unfinished data set is removed.
    """
    name, _, config = dataset.partition(":")
    builder_class = get_builder(name)
    configs = list(builder_class.builder_configs)
    if config and config not in configs:
        raise UserError(f"data set {name} has no config {config!r}: choose one of {configs}")

    builder = builder_class(source=source, jobs=jobs, config=config or None, data_dir=data_dir)
    report_path = Path(builder.data_path.parent) / "report.csv"
    if builder.data_path.exists():
        speed = None
    else:
        speed = _build(builder, f"prepare {dataset}")
        write_report(report_path, sorted(builder.failures))
    report = Report(
        path=Path(builder.data_path),
        used=sum(split.num_examples for split in builder.info.splits.values()),
        failures=read_report(report_path),
        hours=builder.info.metadata["frames"] / builder.info.metadata["video_rate"] / 3600,
        clips_per_minute=speed,
    )
    print(report)
    return report

"""Prepare a data set once, from a corpus as distributed to records that training reads.

The work on a clip is in `datasets/clips.py`, the corpora's layouts in `datasets/`, and how a run
survives its end in `datasets/building.py`; here are the progress bar, the summary, and the promise
that a finished data set is never touched again. TFDS writes into a temporary folder that it renames
at the end, so an interrupted run leaves no half data set.
"""

import contextlib
import functools
import io
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import tensorflow_datasets as tfds
from tqdm import tqdm

from flax_talk.errors import UserError
from input_pipeline.beam import run_on_beam
from input_pipeline.datasets import get_builder
from input_pipeline.datasets.building import ClipBuilder, read_report


@dataclass(frozen=True)
class Report:
    """What a preparation found and made.

    path is the folder of the prepared data set, failures the (id, reason) of the clips that
    could not be used, used the number of the others, examples that of the records made of them
    (more where clips were split), hours their duration, clips_per_minute the speed of this run
    (None when the data set was there already).
    """

    path: Path
    used: int
    examples: int
    failures: tuple[tuple[str, str], ...]
    hours: float
    clips_per_minute: float | None

    def __str__(self) -> str:
        failed = len(self.failures)
        counts = f"{self.used + failed} clips found, {self.used} used, {failed} failed"
        if self.examples != self.used:
            counts += f", split into {self.examples}"
        line = f"{self.path}: {counts}, {self.hours:.2f} h"
        if self.clips_per_minute is None:
            return f"{line}; already prepared, nothing changed"
        return f"{line}, {self.clips_per_minute:.0f} clips/minute"


def _build(builder: ClipBuilder, title: str) -> float:
    """Run the builder under a progress bar; returns clips per minute."""
    total = sum(len(clips) for clips in builder.clips.values())
    pending = len(builder.pending)
    start = time.perf_counter()
    # TFDS draws a bar for each split and shard and announces a download: one bar says more.
    tfds.disable_progress_bar()
    with (
        tqdm(total=total, initial=total - pending, desc=title, unit="clip", mininterval=1) as bar,
        contextlib.redirect_stdout(io.StringIO()),
        tempfile.TemporaryDirectory() as downloads,  # stays empty, TFDS insists on making one
    ):
        builder.progress = bar.update
        builder.download_and_prepare(download_dir=downloads)
        bar.update(total - bar.n)  # a Beam runner does not tell
    return 60 * pending / (time.perf_counter() - start)


def prepare(
    dataset: str,
    data_dir: str | Path,
    source: str | Path | None = None,
    jobs: int = 1,
    beam: Sequence[str] = (),
) -> Report:
    """Prepare `dataset` and print a summary line.

    Writes the TFDS data set <data_dir>/<dataset>/<config>/<version> and, next to it,
    report.csv (id, reason) of the clips that could not be used. The files depend neither on `jobs`
    nor on the time of day, nor on whether it was interrupted: what is done is kept and not done
    again. A data set that exists is left as it is.

    Args:
        dataset: name, or name:config, such as "grid" or "synthetic_grid:tiny".
        data_dir: folder of all prepared data sets; made if need be.
        source: folder of the corpus as distributed; none for what is rendered.
        jobs: processes that prepare clips.
        beam: options of Apache Beam, such as "runner=FlinkRunner"; with any, its workers prepare
          the clips, and see `source` and `data_dir` under the same paths.

    Raises:
        UserError: unknown data set or config, missing or empty source, no usable clip, a full disk.
        KeyboardInterrupt: passed on; as after any other end, the next run goes on from there.
    """
    name, _, config = dataset.partition(":")
    builder_class = get_builder(name)
    configs = list(builder_class.builder_configs)
    if config and config not in configs:
        raise UserError(f"data set {name} has no config {config!r}: choose one of {configs}")

    runner = None
    if beam:
        runner = functools.partial(run_on_beam, options=beam)
        # Its workers do not start where we are.
        source, data_dir = source and Path(source).absolute(), Path(data_dir).absolute()
    builder = builder_class(
        source=source, data_dir=data_dir, config=config or None, jobs=jobs, runner=runner
    )
    if builder.data_path.exists():
        speed = None
        builder.download_and_prepare()  # clears up after a run that was killed at its very end
    else:
        speed = _build(builder, f"prepare {dataset}")
    metadata = builder.info.metadata
    examples = sum(split.num_examples for split in builder.info.splits.values())
    report = Report(
        path=Path(builder.data_path),
        used=metadata.get("clips", examples),
        examples=examples,
        failures=read_report(builder.report_path),
        hours=metadata["frames"] / metadata["video_rate"] / 3600,
        clips_per_minute=speed,
    )
    print(report)
    return report

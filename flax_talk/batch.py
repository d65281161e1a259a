"""Thousands of videos in one go: rows of a table, each animated or dubbed as by one call.

Networks are read and compiled once. Some rows are under way at a time, in threads: while one is
generated another is decoded or written, and what is held does not grow with the table. A row that
fails is listed with its reason and ends nothing; one whose video exists is skipped, so that the
same call goes on after an interruption. No paper is behind it.
"""

import csv
import re
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from tqdm import tqdm

from flax_talk.errors import UserError

JOBS = 2
"""Rows under way at a time, by default: one is generated, another read or written."""

REPORT = "report.csv"


class Row(NamedTuple):
    """A row of a table: its number (2 is the first after the names), its cells, its video."""

    number: int
    cells: dict[str, str]
    out: Path


class Failure(NamedTuple):
    """A row that could not be made: its number, its video as the table has it, the reason."""

    row: int
    out: str
    reason: str


class Batch(NamedTuple):
    """What became of a table: where its videos are, how many were made now and were there already,
    what failed, the frames made and the seconds it took."""

    path: Path
    made: int
    skipped: int
    failures: tuple[Failure, ...]
    frames: int
    seconds: float

    def __str__(self) -> str:
        failed = f"{len(self.failures)} failed" + (f" ({REPORT})" if self.failures else "")
        speed = f"{60 * self.made / self.seconds:.3g} videos/minute"
        return (
            f"{self.path}: {self.made} videos made, {self.skipped} there already, {failed}; "
            f"{speed}, {self.frames / self.seconds:.3g} frames/s"
        )


def animate_batch(
    table: str | Path, out_dir: str | Path, *, checkpoint: Any = None, jobs: int = JOBS, **options
) -> Batch:
    """Animates every row of a table with the columns still, audio, text, voice and out.

    Args:
        table: CSV file. A row has a still, and either a recording (audio) or words (text, and
            voice if another than that of the options); their paths are relative to the table. `out`
            is relative to out_dir; without it the video is called after the still and the speech.
        out_dir: folder of the videos and of report.csv: row, out and reason of what failed.
        checkpoint, options: as of `flax_talk.animate.animate_files`.
        jobs: rows under way at a time.

    Returns:
        Batch; `failures` are rows that could not be read, found no face, and so on.

    Raises:
        UserError: a table without rows or with unknown columns, two rows that write one file, a
            checkpoint that cannot be read, or a folder that cannot be written.
    """
    from flax_talk.animate import SHIPPED, animate_files, load_generator

    rows = read_table(table, out_dir, ("still", "audio", "text", "voice"))
    model = load_generator(checkpoint or SHIPPED)

    def make(cells: dict[str, str], out: Path) -> int:
        files = _pop_files(cells, "still")
        return animate_files(*files, out, model, **options | cells).frames

    return run(rows, make, out_dir, jobs)


def dub_batch(
    table: str | Path,
    out_dir: str | Path,
    *,
    translation: Any = None,
    renderer: Any = None,
    jobs: int = JOBS,
    **options,
) -> Batch:
    """Dubs every row of a table with the columns video, audio, text, voice and out.

    Args:
        table, out_dir, jobs: as of `animate_batch`, with a video in the place of the still.
        translation, renderer, options: as of `flax_talk.dub.dub_files`.

    Returns, raises: as `animate_batch`.
    """
    from flax_talk import dub
    from flax_talk.systems import audio_to_expression, video_renderer

    rows = read_table(table, out_dir, ("video", "audio", "text", "voice"))
    options["translation"] = dub.load(translation or dub.TRANSLATION, audio_to_expression)
    options["renderer"] = dub.load(renderer or dub.RENDERER, video_renderer)

    def make(cells: dict[str, str], out: Path) -> int:
        return dub.dub_files(*_pop_files(cells, "video"), out, **options | cells).frames

    return run(rows, make, out_dir, jobs)


def read_table(table: str | Path, out_dir: str | Path, columns: Iterable[str]) -> list[Row]:
    """The rows of a CSV file, their paths complete.

    Args:
        table: file in UTF-8 whose first line has the names.
        out_dir: folder that `out` is relative to.
        columns: that it may have besides out; the first, a still or a video, it must have. Cells
            of those called text and voice are words, of others paths.

    Raises:
        UserError: no such file, not such a table, no rows, or two rows with one video.
    """
    table, columns = Path(table), tuple(columns)
    known = (*columns, "out")
    try:
        with table.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.DictReader(file, skipinitialspace=True)
            names, lines = reader.fieldnames or (), list(reader)
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise UserError(f"{table}: cannot be read as a table ({error}): give a CSV file") from error
    unknown = [name for name in names if name not in known]
    if unknown or columns[0] not in names:
        wrong = f"an unknown column {unknown[0]!r}" if unknown else f"no column {columns[0]}"
        raise UserError(f"{table}: {wrong}: its first line names some of {', '.join(known)}")
    rows: list[Row] = []
    writers: dict[Path, int] = {}
    for number, line in enumerate(lines, 2):
        if None in line:
            raise UserError(f"{table}: row {number} has more cells than the first line has names")
        cells = {name: cell.strip() for name, cell in line.items() if cell and cell.strip()}
        out = Path(out_dir, cells.pop("out", None) or _default_name(cells, columns[0]))
        for name in set(cells) - {"text", "voice"}:
            cells[name] = str(table.parent / cells[name])
        if (other := writers.setdefault(out, number)) != number:
            raise UserError(
                f"{table}: rows {other} and {number} both write {out}: name them in a column out"
            )
        rows.append(Row(number, cells, out))
    if not rows:
        raise UserError(f"{table}: no rows: give a line for each video")
    return rows


def _default_name(cells: dict[str, str], face: str) -> str:
    """A name after the face and the speech, such as me_voice.mp4."""
    said = Path(cells["audio"]).stem if "audio" in cells else cells.get("text", "")
    words = re.sub(r"[^\w.-]+", "_", f"{Path(cells.get(face, face)).stem}_{said}")
    return words[:80].strip("_") + ".mp4"


def _pop_files(cells: dict[str, str], face: str) -> tuple[str, str | None]:
    if face not in cells:
        raise UserError(f"the row has no {face}: give one")
    return cells.pop(face), cells.pop("audio", None)


def run(
    rows: list[Row],
    make: Callable[[dict[str, str], Path], int],
    out_dir: str | Path,
    jobs: int = JOBS,
) -> Batch:
    """Makes the rows of a table whose videos do not exist.

    Args:
        rows: of `read_table`.
        make: makes one video from its cells and returns how many frames it has; from some threads
            at a time.
        out_dir: folder of report.csv, which has a line for each row as soon as it has failed.
        jobs: rows under way at a time.

    Raises:
        UserError: the folder cannot be written.
        KeyboardInterrupt: passed on, when the rows that were under way are done.
    """
    out_dir = Path(out_dir)
    missing = [row for row in rows if not row.out.exists()]
    failures, frames, start = [], 0, time.perf_counter()
    try:
        out_dir.mkdir(parents=True, exist_ok=True)
        with (out_dir / REPORT).open("w", newline="", buffering=1) as file:
            report = csv.writer(file)
            report.writerow(Failure._fields)
            with tqdm(total=len(missing), desc="videos", unit="video", disable=None) as bar:
                for row, result in _attempts(missing, make, jobs):
                    if isinstance(result, str):
                        failures.append(Failure(row.number, str(row.out), result))
                        report.writerow(failures[-1])
                    else:
                        frames += result
                    bar.set_postfix(
                        failed=len(failures),
                        fps=f"{frames / (time.perf_counter() - start):.1f}",
                        refresh=False,
                    )
                    bar.update()
    except OSError as error:
        raise UserError(
            f"{out_dir}: cannot be written ({error.strerror}): check the folder and its free space"
        ) from error
    made = len(missing) - len(failures)
    seconds = time.perf_counter() - start
    return Batch(out_dir, made, len(rows) - len(missing), tuple(failures), frames, seconds)


def _attempts(
    rows: list[Row], make: Callable[[dict[str, str], Path], int], jobs: int
) -> Iterator[tuple[Row, int | str]]:
    """Each row, in order, with its frames, or one line that says why it failed."""
    remaining = iter(rows)
    # What the rows share is compiled by the first that works: alone, or all would.
    for row in remaining:
        result = _attempt(make, row)
        yield row, result
        if not isinstance(result, str):
            break
    left = list(remaining)
    pool = ThreadPoolExecutor(jobs)
    try:
        yield from zip(left, pool.map(partial(_attempt, make), left), strict=True)
    finally:
        pool.shutdown(cancel_futures=True)


def _attempt(make: Callable[[dict[str, str], Path], int], row: Row) -> int | str:
    try:
        return make(dict(row.cells), row.out)
    except UserError as error:
        reason = str(error)
    except Exception as error:
        reason = f"{type(error).__name__}: {error}"
    return " ".join(reason.split())

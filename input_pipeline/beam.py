"""Runs the work on clips on Apache Beam, for corpora of thousands of hours.

Beam's runner (Dataflow, Flink, Spark, or its own on one machine) only calls the function of a
clip; what it makes of a clip lies in files that every worker sees, and who asked for it goes on
from them. So the result is that of local processes, byte for byte, and an interrupted run resumes
alike. The package is an extra, imported when it is needed.
"""

import functools
import pickle
import shutil
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from flax_talk.errors import UserError

_CHUNK = 100  # clips in one file: the graph of a pipeline must stay small


def run_on_beam(
    clips: Sequence[Any], work: Callable[[Any], None], folder: Path, options: Sequence[str]
) -> None:
    """Calls `work(clip)` for each clip, on the workers of a Beam runner.

    Args:
        clips: anything that can be pickled.
        work: a function that can be pickled and returns nothing of interest.
        folder: where all workers can read what is written here.
        options: of the pipeline, without dashes, such as "runner=FlinkRunner".

    Raises:
        UserError: Apache Beam is not installed, or its runner gave up.
    """
    try:
        import apache_beam as beam
        from apache_beam.options.pipeline_options import PipelineOptions
    except ImportError as error:
        raise UserError("Apache Beam is not installed: pip install 'flax-talk[beam]'") from error
    todo = folder / "todo"
    todo.mkdir(parents=True, exist_ok=True)
    starts = range(0, len(clips), _CHUNK)
    for number, start in enumerate(starts):
        chunk = pickle.dumps((work, clips[start : start + _CHUNK]))
        (todo / str(number)).write_bytes(chunk)
    try:
        with beam.Pipeline(options=PipelineOptions([f"--{option}" for option in options])) as begin:
            _ = (
                begin
                | "chunks" >> beam.Create(range(len(starts)))
                | "spread chunks" >> beam.Reshuffle()
                | "read" >> beam.FlatMap(functools.partial(_tasks, str(todo)))
                | "spread clips" >> beam.Reshuffle()
                | "process" >> beam.Map(_call)
            )
    except RuntimeError as error:
        raise UserError(
            f"Apache Beam gave up ({_last_line(error)}): mend that and run again"
        ) from error
    finally:
        shutil.rmtree(todo, ignore_errors=True)


def _tasks(todo: str, number: int) -> Iterator[tuple[Callable[[Any], None], Any]]:
    work, clips = pickle.loads(Path(todo, str(number)).read_bytes())
    return ((work, clip) for clip in clips)


def _call(task: tuple[Callable[[Any], None], Any]) -> None:
    work, clip = task
    work(clip)


def _last_line(error: Exception) -> str:
    return next((line for line in reversed(str(error).splitlines()) if line.strip()), "no reason")

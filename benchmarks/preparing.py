"""How fast clips are prepared, beside a plain decode of the same clips.

    python benchmarks/preparing.py --source GRID/s26 --jobs 1 2

Prints a table: clips per minute, also per minute that a core was busy with them (which other work
on the machine hardly changes), and how many times as long a core needs as for the mere decoding by
PyAV (frames and sound, one thread). ffmpeg is timed too where there is one. The first clip of each
process, which loads the detector, is not timed.
"""

import argparse
import functools
import shutil
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import av
import psutil

from input_pipeline.datasets.clips import (
    ClipOptions,
    Process,
    process_clip,
    process_clips,
)
from input_pipeline.datasets.recordings import VIDEO_SUFFIXES


def main() -> None:
    """Prints one row for each way."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--source", type=Path, required=True, help="folder of clips")
    parser.add_argument("--clips", type=int, default=20, help="how many of them are timed")
    parser.add_argument("--jobs", type=int, nargs="+", default=[1, 2], help="processes")
    parser.add_argument("--detector", default="dlib", help="face detector")
    args = parser.parse_args()
    found = sorted(p for p in args.source.rglob("*") if p.suffix.lower() in VIDEO_SUFFIXES)
    clips = found[: args.clips]
    if not clips:
        parser.error(f"no clip in {args.source}")

    frames, *plain = measure(lambda: sum(map(decode, clips)))
    print(f"{len(clips)} clips of {frames / len(clips):.0f} frames")
    print("| | processes | clips/minute | clips/minute and core | times a PyAV decode |")
    print(f"|{'---|' * 5}")

    def row(name: str, jobs: int, seconds: float, busy: float) -> None:
        cells = (f"{60 * len(clips) / value:.0f}" for value in (seconds, busy))
        print(f"| {name} | {jobs} | {' | '.join(cells)} | {busy / plain[1]:.1f} |", flush=True)

    row("PyAV, decode only", 1, *plain)
    if program := shutil.which("ffmpeg"):
        row("ffmpeg, decode only", 1, *measure(lambda: [run(program, clip) for clip in clips])[1:])
    process = functools.partial(process_clip, options=ClipOptions(detector=args.detector))
    for jobs in args.jobs:
        row("prepared", jobs, *prepare(clips, process, jobs))


def measure(function: Callable[[], Any]) -> tuple[Any, float, float]:
    """What a function returns, the seconds it takes, and those for which it keeps a core busy."""
    start, busy = time.perf_counter(), cpu_seconds()
    result = function()
    return result, time.perf_counter() - start, cpu_seconds() - busy


def cpu_seconds() -> float:
    """CPU time of this process and all its children, also those that have ended."""
    this = psutil.Process()
    running = sum(sum(child.cpu_times()[:2]) for child in this.children(recursive=True))
    return running + sum(this.cpu_times())


def run(program: str, clip: Path) -> None:
    """Decodes with ffmpeg, in one thread."""
    command = [program, "-v", "error", "-threads", "1", "-i", str(clip), "-f", "null", "-"]
    subprocess.run(command, check=True)


def decode(path: Path) -> int:
    """Decodes all frames to RGB, and all sound, in one thread; returns the number of frames."""
    frames = 0
    with av.open(str(path)) as container:
        for stream in container.streams:
            stream.thread_type = "NONE"
        for frame in container.decode(*container.streams.video[:1], *container.streams.audio[:1]):
            if isinstance(frame, av.VideoFrame):
                frame.to_ndarray(format="rgb24")
                frames += 1
    return frames


def prepare(clips: list[Path], process: Process, jobs: int) -> tuple[float, float]:
    """Seconds and busy seconds of all clips; the first one of each process is not counted."""
    results = process_clips(clips[:jobs] + clips, process, jobs)
    for _ in range(jobs):
        next(results)
    failed, seconds, busy = measure(
        lambda: [f"{clip}: {result}" for clip, result in results if isinstance(result, str)]
    )
    if failed:
        raise SystemExit(failed[0])
    return seconds, busy


if __name__ == "__main__":
    main()

"""How fast clips are prepared, beside a plain decode of the same clips.

    python benchmarks/preparing.py --source GRID/s26 --jobs 1 2

Prints a table: clips per minute, also per process, and how many times as long a clip takes as its
mere decoding by PyAV (frames and sound, one thread; by the ffmpeg program too where there is one).
The first clips of each process, which load the detector, are not timed.
"""

import argparse
import functools
import shutil
import subprocess
import time
from pathlib import Path

import av

from input_pipeline.datasets.clips import ClipOptions, process_clip, process_clips
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

    start = time.perf_counter()
    frames = sum(map(decode, clips))
    plain = len(clips) / (time.perf_counter() - start)
    print(f"{len(clips)} clips of {frames / len(clips):.0f} frames")
    print("| | processes | clips/minute | per process | times a PyAV decode |")
    print(f"|{'---|' * 5}")
    row("PyAV, decode only", 1, plain, plain)
    if program := shutil.which("ffmpeg"):
        start = time.perf_counter()
        for clip in clips:
            command = [program, "-v", "error", "-threads", "1", "-i", clip, "-f", "null", "-"]
            subprocess.run(command, check=True)
        row("ffmpeg, decode only", 1, len(clips) / (time.perf_counter() - start), plain)
    process = functools.partial(process_clip, options=ClipOptions(detector=args.detector))
    for jobs in args.jobs:
        row("prepared", jobs, prepare_speed(clips, process, jobs), plain)


def row(name: str, jobs: int, speed: float, plain: float) -> None:
    """Prints a row; speeds in clips per second."""
    each = speed / jobs
    cells = (name, jobs, f"{60 * speed:.0f}", f"{60 * each:.0f}", f"{plain / each:.1f}")
    print(f"| {' | '.join(map(str, cells))} |", flush=True)


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


def prepare_speed(clips: list[Path], process, jobs: int) -> float:
    """Clips per second; the first one of each process is not counted."""
    start = time.perf_counter()
    for number, (clip, result) in enumerate(process_clips(clips[:jobs] + clips, process, jobs)):
        if isinstance(result, str):
            raise SystemExit(f"{clip}: {result}")
        if number == jobs - 1:
            start = time.perf_counter()
    return len(clips) / (time.perf_counter() - start)


if __name__ == "__main__":
    main()

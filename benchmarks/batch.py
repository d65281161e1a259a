"""How fast tables of files are animated: python benchmarks/batch.py --rows 24

Rendered faces say sentences with the checkpoint that ships: one table with 1, 2 and 3 rows under
way at a time, in turns, and the command called once for each file. CPU is the share of the cores
that may be used, of all processes. What is compiled before is in the persistent cache, if
JAX_COMPILATION_CACHE_DIR names one, for the table and for the command alike.
"""

import argparse
import csv
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import report


def main() -> None:
    """Prints a row for each way."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=24, help="of the table")
    parser.add_argument("--seconds", type=float, default=3.0, help="of speech in each")
    parser.add_argument("--single", type=int, default=3, help="calls of the command")
    parser.add_argument("--jobs", type=int, nargs="+", default=[1, 2, 3], help="rows at a time")
    parser.add_argument("--rounds", type=int, default=2, help="of all ways, in turns")
    parser.add_argument("--cores", type=int, default=2, help="that may be used")
    parser.add_argument("--detector", default="dlib", help="of faces")
    parser.add_argument("--out", help="JSON file")
    args = parser.parse_args()
    report.use_cores(args.cores)
    with tempfile.TemporaryDirectory() as folder:
        rows = compare(Path(folder), args)
    columns = ("way", "videos", "seconds", "videos/min", "frames/s", "CPU", "times the command")
    report.print_table(rows, columns)
    print(f"\nload of the machine: {os.getloadavg()[0]:.1f} processes")
    report.write(args.out, "batch", rows)


def compare(folder: Path, args: argparse.Namespace) -> list[dict[str, object]]:
    """The best round of each way."""
    table, pairs = write_table(folder, args.rows, args.seconds)
    best: dict[str, dict[str, object]] = {}
    for number in range(args.rounds):
        for jobs in args.jobs:
            out = folder / f"out{number}_{jobs}"
            name = f"--batch --jobs {jobs}"
            keep(best, name, timed(lambda out=out, jobs=jobs: batch(table, out, jobs, args), args))
        name = "a command for each"
        some = pairs[: args.single]
        keep(best, name, timed(lambda some=some: singly(some, folder, args.detector), args))
    command = best["a command for each"]["frames/s"]
    for row in best.values():
        row["times the command"] = row["frames/s"] / command
    return list(best.values())


def write_table(folder: Path, count: int, seconds: float) -> tuple[Path, list[tuple[str, str]]]:
    """A table of four rendered faces and as many recordings as rows."""
    import cv2
    import soundfile
    from inputs import portrait, speech

    rate = 16_000
    for face in range(4):
        cv2.imwrite(str(folder / f"face{face}.png"), portrait(3000 + face)[..., ::-1])
    pairs = []
    for number in range(count):
        name = f"speech{number}.wav"
        sound = speech(rate, seconds + 10, number)[number % 10 * rate :][: round(seconds * rate)]
        soundfile.write(folder / name, sound, rate)
        pairs.append((f"face{number % 4}.png", name))
    table = folder / "pairs.csv"
    with table.open("w", newline="") as file:
        csv.writer(file).writerows([("still", "audio"), *pairs])
    return table, pairs


def batch(table: Path, out: Path, jobs: int, args: argparse.Namespace) -> tuple[int, int]:
    """Videos and frames of one table."""
    from flax_talk.batch import animate_batch

    done = animate_batch(table, out, jobs=jobs, detector=args.detector)
    assert not done.failures, done.failures
    return done.made, done.frames


def singly(pairs: list[tuple[str, str]], folder: Path, detector: str) -> tuple[int, int]:
    """Videos and frames of as many calls of the command."""
    from input_pipeline import media

    frames = 0
    for still, audio in pairs:
        words = ["--still", still, "--audio", audio, "--out", "single.mp4", "--detector", detector]
        command = [sys.executable, "-m", "flax_talk.cli", "animate", *words]
        subprocess.run(command, cwd=folder, check=True, capture_output=True, env=environment())
        frames += len(media.read_video(folder / "single.mp4").frames)
    return len(pairs), frames


def environment() -> dict[str, str]:
    """Of a process that finds this checkout wherever it runs."""
    here = str(Path(__file__).resolve().parents[1])
    return {**os.environ, "PYTHONPATH": os.pathsep.join([here, os.environ.get("PYTHONPATH", "")])}


def timed(function, args: argparse.Namespace) -> dict[str, object]:
    """Throughput of a function that returns its videos and frames."""
    busy, start = cpu_seconds(), time.perf_counter()
    videos, frames = function()
    seconds = time.perf_counter() - start
    return {
        "videos": videos,
        "seconds": seconds,
        "videos/min": 60 * videos / seconds,
        "frames/s": frames / seconds,
        "CPU": (cpu_seconds() - busy) / seconds / args.cores,
    }


def cpu_seconds() -> float:
    """Of this process and of those that it started and that have ended."""
    return sum(os.times()[:4])


def keep(best: dict[str, dict[str, object]], name: str, row: dict[str, object]) -> None:
    """Keeps the faster of two rounds."""
    if name not in best or row["frames/s"] > best[name]["frames/s"]:
        best[name] = {"way": name, **row}


if __name__ == "__main__":
    main()

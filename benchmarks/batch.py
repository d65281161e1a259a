"""How fast tables of files are animated and dubbed: python benchmarks/batch.py --rows 24 --dubs 6

Rendered faces say sentences with the checkpoint that ships: one table with 1, 2 and 3 rows under
way at a time, in turns, and the command called once for each file. Then videos of rendered faces
are dubbed in the same ways, with no steps on each target. CPU is the share of the cores
that may be used, of all processes. What is compiled before is in the persistent cache, if
JAX_COMPILATION_CACHE_DIR names one, for the table and for the command alike.
"""

import argparse
import csv
import functools
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import report

FACES = {"animate": "still", "dub": "video"}
"""What a table calls the faces, by command."""


def main() -> None:
    """Prints a row for each way."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=24, help="of the table of stills")
    parser.add_argument("--dubs", type=int, default=0, help="rows of the table of videos")
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
        rows = compare(Path(folder), args, "animate", args.rows)
        if args.dubs:
            rows += compare(Path(folder), args, "dub", args.dubs)
    columns = ("way", "videos", "seconds", "videos/min", "frames/s", "CPU", "times the command")
    report.print_table(rows, columns)
    print(f"\nload of the machine: {os.getloadavg()[0]:.1f} processes")
    report.write(args.out, "batch", rows)


def compare(folder: Path, args: argparse.Namespace, command: str, count: int) -> list[dict]:
    """The best round of each way of a command."""
    pairs = write_pairs(folder, command, count, args.seconds)
    table = folder / f"{command}.csv"
    with table.open("w", newline="") as file:
        csv.writer(file).writerows([(FACES[command], "audio"), *pairs])
    best: dict[str, dict[str, object]] = {}
    for number in range(args.rounds):
        for jobs in args.jobs:
            out = folder / f"{command}{number}_{jobs}"
            name = f"{command} --batch --jobs {jobs}"
            run = functools.partial(batch, command, table, out, jobs, args.detector)
            keep(best, name, timed(run, args.cores))
        name = f"{command}, once for each"
        run = functools.partial(singly, command, pairs[: args.single], folder, args.detector)
        keep(best, name, timed(run, args.cores))
    alone = best[name]["frames/s"]
    for row in best.values():
        row["times the command"] = row["frames/s"] / alone
    return list(best.values())


def write_pairs(folder: Path, command: str, count: int, seconds: float) -> list[tuple[str, str]]:
    """Four rendered faces, and as many recordings as rows: names of files in the folder."""
    import cv2
    import soundfile
    from inputs import clip, portrait, speech

    from input_pipeline import media

    rate, names = 16_000, []
    for face in range(4):
        if command == "animate":
            names.append(f"face{face}.png")
            cv2.imwrite(str(folder / names[-1]), portrait(3000 + face)[..., ::-1])
        else:
            names.append(f"face{face}.mp4")
            media.write_video(folder / names[-1], clip(3000 + face, round(25 * seconds)), 25)
    pairs = []
    for number in range(count):
        name = f"speech{number}.wav"
        sound = speech(rate, seconds + 10, number)[number % 10 * rate :][: round(seconds * rate)]
        soundfile.write(folder / name, sound, rate)
        pairs.append((names[number % 4], name))
    return pairs


def batch(command: str, table: Path, out: Path, jobs: int, detector: str) -> tuple[int, int]:
    """Videos and frames of one table."""
    from flax_talk.batch import animate_batch, dub_batch

    if command == "animate":
        done = animate_batch(table, out, jobs=jobs, detector=detector)
    else:
        done = dub_batch(table, out, jobs=jobs, detector=detector, adaptation=0)
    assert not done.failures, done.failures
    return done.made, done.frames


def singly(command: str, pairs: list, folder: Path, detector: str) -> tuple[int, int]:
    """Videos and frames of as many calls of the command."""
    from input_pipeline import media

    frames = 0
    for face, audio in pairs:
        words = [f"--{FACES[command]}", face, "--audio", audio, "--out", "single.mp4"]
        words += ["--detector", detector, *(("--adapt", "0") if command == "dub" else ())]
        call = [sys.executable, "-m", "flax_talk.cli", command, *words]
        subprocess.run(call, cwd=folder, check=True, capture_output=True, env=environment())
        frames += len(media.read_video(folder / "single.mp4").frames)
    return len(pairs), frames


def environment() -> dict[str, str]:
    """Of a process that finds this checkout wherever it runs."""
    here = str(Path(__file__).resolve().parents[1])
    return {**os.environ, "PYTHONPATH": os.pathsep.join([here, os.environ.get("PYTHONPATH", "")])}


def timed(function, cores: int) -> dict[str, object]:
    """Throughput of a function that returns its videos and frames."""
    busy, start = cpu_seconds(), time.perf_counter()
    videos, frames = function()
    seconds = time.perf_counter() - start
    return {
        "videos": videos,
        "seconds": seconds,
        "videos/min": 60 * videos / seconds,
        "frames/s": frames / seconds,
        "CPU": (cpu_seconds() - busy) / seconds / cores,
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

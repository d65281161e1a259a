"""Frames per second that `synthetic_grid` renders, speech and JPEG included.

    python benchmarks/rendering.py --jobs 2

Prints a table; the first clip of each process, which compiles and draws a speaker, is not timed.
"""

import argparse
import dataclasses
import os
import time

from input_pipeline.datasets.clips import process_clips
from input_pipeline.datasets.synthetic_grid import RenderedClip, SyntheticGrid, render_clip


def main() -> None:
    """Prints one row for each framing and size."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="processes")
    parser.add_argument("--clips", type=int, default=10, help="clips timed, of each process")
    args = parser.parse_args()
    print(f"| framing | H x W | processes | frames/s |\n|{'---|' * 4}")
    for name, size in (("default", (128, 96)), ("default", (256, 192)), ("portrait", (256, 256))):
        config = SyntheticGrid.builder_configs[name]
        config = dataclasses.replace(config, image_size=size)
        speed = frames_per_second(config, args.jobs, args.clips)
        height, width = size
        print(f"| {config.framing} | {height} x {width} | {args.jobs} | {speed:.0f} |", flush=True)


def frames_per_second(config, jobs: int, clips: int) -> float:
    """Speed over `clips` clips of one speaker for each of `jobs` processes."""
    # The same speaker for all: drawing one costs as much as a clip and is done once for 50.
    numbers = range((clips + 1) * jobs)
    results = process_clips((RenderedClip(config, 1, n) for n in numbers), render_clip, jobs)
    frames = 0
    for number, (_, example) in enumerate(results):
        if number == jobs - 1:
            start = time.perf_counter()
        elif number >= jobs:
            frames += len(example["video"])
    return frames / (time.perf_counter() - start)


if __name__ == "__main__":
    main()

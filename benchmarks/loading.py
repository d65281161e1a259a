"""How fast the loader makes batches, and whether it keeps a training step fed.

    python benchmarks/loading.py --config configs/temporal_gan_2019_grid.py --data-dir data \\
        --splits s1 --step-seconds 0.5

Prints frames decoded per second, also per core that was busy with it, for each number of workers;
and, for a step of the given time, the share of the time for which the step would wait.
"""

import argparse
import importlib.util
import os
import time
from pathlib import Path

import psutil

from input_pipeline import loader


def main() -> None:
    """Prints one row for each number of workers."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--config", default="configs/temporal_gan_2019_grid.py", help="FILE[:VARIANT]"
    )
    parser.add_argument("--data-dir", required=True, help="prepared data sets")
    parser.add_argument("--dataset", help="in the place of the config's")
    parser.add_argument("--splits", help="in the place of the config's training split")
    parser.add_argument("--batches", type=int, default=20, help="how many are timed")
    parser.add_argument("--workers", type=int, nargs="+", default=[0, 1, 2], help="processes")
    parser.add_argument("--step-seconds", type=float, default=0.5, help="time of a training step")
    args = parser.parse_args()
    data = load_config(args.config).data
    data.data_dir = args.data_dir
    data.dataset = args.dataset or data.dataset
    data.splits.train = args.splits or data.splits.train
    height, width = data.image_size
    print(f"batches of {data.batch_size} x {data.num_frames} frames, {height} x {width}")
    step = f"a step of {args.step_seconds:g} s"
    print(f"| workers | frames/s | busy cores | frames/s per core | {step} |")
    print(f"|{'---|' * 5}")
    for workers in args.workers:
        data.num_workers = workers
        seconds, cores = measure(data, args.batches)
        # A clip has its frames and its still.
        frames = data.batch_size * (data.num_frames + 1) / seconds
        waits = max(0.0, 1 - args.step_seconds / seconds)
        verdict = f"waits {waits:.0%} of the time" if waits else "is fed"
        print(
            f"| {workers} | {frames:.0f} | {cores:.2f} | {frames / cores:.0f} | {verdict} |",
            flush=True,
        )


def load_config(text: str):
    """The config of FILE or FILE:VARIANT."""
    path, _, variant = text.partition(":")
    spec = importlib.util.spec_from_file_location("config", Path(path))
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.get_config(variant)


def measure(data, batches: int) -> tuple[float, float]:
    """Seconds of a batch, and the mean number of cores that were busy meanwhile."""
    source = loader.open_source(data, "train")
    iterator = iter(loader.make_loader(source, data, train=True, seed=0))
    # What is prefetched before the clock starts would flatter.
    for _ in range(data.prefetch + 2 * max(1, data.num_workers)):
        next(iterator)
    start, busy = time.perf_counter(), cpu_seconds()
    for _ in range(batches):
        next(iterator)
    seconds = time.perf_counter() - start
    return seconds / batches, (cpu_seconds() - busy) / seconds


def cpu_seconds() -> float:
    """CPU time of this process and its workers."""
    processes = [psutil.Process(os.getpid())]
    processes += processes[0].children(recursive=True)
    return sum(sum(process.cpu_times()[:2]) for process in processes)


if __name__ == "__main__":
    main()

"""What generation costs as it grows, and compilation: python benchmarks/cost.py

Time and memory of one call of the generator that ships, in its sizes and drawn weights for other
resolutions, against frames, clips and pixels; memory is what the compiled program holds besides its
weights (`memory_analysis`). Times are the best of some turns, all sizes in turns. Then the time
that compiling takes, and with the persistent cache.
"""

import argparse
import functools
import os
import tempfile
import time

import report

SIZES = (
    *((t, 1, (128, 96)) for t in (1, 5, 25, 75)),
    *((25, b, (128, 96)) for b in (2, 4)),
    *((25, 1, size) for size in ((64, 64), (256, 192))),
)


def main() -> None:
    """Prints a row for each size, and one for the compilation."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=3, help="of all sizes, in turns")
    parser.add_argument("--cores", type=int, default=2, help="that may be used")
    parser.add_argument("--full", action="store_true", help="the published size")
    parser.add_argument("--out", help="JSON file")
    args = parser.parse_args()
    report.use_cores(args.cores)

    # What is compiled here must not come from a cache.
    os.environ.pop("JAX_COMPILATION_CACHE_DIR", None)
    rows, calls = [], {}
    for size in SIZES:
        row, call = prepare(*size, args.full)
        rows.append(row)
        calls[size] = call
    for row, times in zip(rows, report.alternate(calls, args.rounds).values(), strict=True):
        row["ms"] = 1000 * min(times)
        row["ms/frame"] = row["ms"] / row["frames"] / row["clips"]
    columns = ("frames", "clips", "H x W", "ms", "ms/frame", "memory MB", "MB/frame", "compile s")
    report.print_table(rows, columns)
    found = [compilation(args.full)]
    print()
    report.print_table(found, list(found[0]))
    print(f"\nload of the machine: {os.getloadavg()[0]:.1f} processes")
    report.write(args.out, "cost", rows + found)


@functools.cache
def generator(size: tuple[int, int], full: bool):
    """A generator of a resolution, and the shapes that it has."""
    from inputs import drawn

    from configs import temporal_gan_2019_grid, temporal_gan_2019_synthetic_grid

    # The variant that ships, or the paper's.
    configs = temporal_gan_2019_grid if full else temporal_gan_2019_synthetic_grid
    config = configs.get_config("" if full else "shipped")
    config.data.image_size = size
    return drawn(config)


def prepare(frames: int, clips: int, size: tuple[int, int], full: bool):
    """A row with what compiling tells, and a function of no arguments that generates."""
    model = generator(size, full)
    start = time.perf_counter()
    compiled, inputs = compile_one(model, frames, clips)
    seconds = time.perf_counter() - start
    memory = compiled.memory_analysis()
    held = (memory.temp_size_in_bytes + memory.output_size_in_bytes) / 1e6
    row = {
        "frames": frames,
        "clips": clips,
        "H x W": f"{size[0]} x {size[1]}",
        "memory MB": held,
        "MB/frame": held / frames / clips,
        "compile s": seconds,
    }
    return row, functools.partial(compiled, *inputs)


def compile_one(model, frames: int, clips: int):
    """The program of some clips of some frames, and its inputs."""
    import jax
    import numpy as np

    from flax_talk.images import to_uint8
    from flax_talk.systems import get_system

    config, system = model.config, get_system(model.config.system)
    stride, window = system.audio_geometry(config)
    random = np.random.default_rng(0)
    samples = (clips, (frames - 1) * stride + window)
    inputs = (
        model.variables,
        random.integers(0, 256, (clips, *config.data.image_size, 3), dtype=np.uint8),
        random.uniform(-0.5, 0.5, samples).astype(np.float32),
        jax.random.split(jax.random.key(0), clips),
    )

    def generate(*inputs):
        video, carry = system.generate(config, *inputs)
        return to_uint8(video), carry

    return jax.jit(generate).lower(*inputs).compile(), inputs


def compilation(full: bool) -> dict[str, object]:
    """Seconds until the program of 25 frames is there: traced and compiled, or read."""
    import jax
    from jax.experimental.compilation_cache import compilation_cache

    model = generator((128, 96), full)
    found: dict[str, object] = {"program": "25 frames"}
    with tempfile.TemporaryDirectory() as folder:
        jax.config.update("jax_compilation_cache_dir", folder)
        jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
        compilation_cache.reset_cache()
        for name in ("compiled, s", "from the cache, s"):
            jax.clear_caches()
            start = time.perf_counter()
            compile_one(model, 25, 1)
            found[name] = time.perf_counter() - start
        size = sum(entry.stat().st_size for entry in os.scandir(folder))
        jax.config.update("jax_compilation_cache_dir", None)
        compilation_cache.reset_cache()
    found["saved"] = found["compiled, s"] - found["from the cache, s"]
    found["cache MB"] = size / 1e6
    return found


if __name__ == "__main__":
    main()

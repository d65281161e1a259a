"""How fast temporal_gan_2019 trains, beside the same step in PyTorch, and what it needs.

    python benchmarks/training_step.py --out out/benchmarks/training_step.json
    python benchmarks/training_step.py --alone --profile out/profile --batch 16 --frames 75

A step is the generator, its three discriminators, all their gradients and four updates by Adam, at
the published width, on noise. Ours and PyTorch's run on as many threads, in turns; ratios are of
the best turns, above 1 where ours is the faster. The difference between the two steps: ours judges
the generated video once with the discriminators as they were, PyTorch's, as is usual there, once
before and once after their update. Time to compile is shown apart. With `--alone` nothing is
compared; that needs no PyTorch, which `pip install 'flax-talk[bench]'` brings.

A second table holds what a step takes in memory beside parameters and batch, as the compiler plans
it, for `config.train.remat` and `config.train.accumulate`. `--profile DIR` writes a trace of one
step for TensorBoard or Perfetto and prints the five kinds of operation that take longest.
"""

import argparse
import collections
import functools
import re
import time
from pathlib import Path

import report


def main() -> None:
    """Prints a row for each way to run, and one for each way to save memory."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--threads", type=int, default=2, help="cores that both may use")
    parser.add_argument("--rounds", type=int, default=3, help="turns of each")
    parser.add_argument("--batch", type=int, default=2, help="clips")
    parser.add_argument("--frames", type=int, default=25, help="of each clip")
    parser.add_argument("--width", type=int, default=64, help="of all networks; published: 64")
    parser.add_argument("--dtype", default="float32", help="or bfloat16")
    parser.add_argument("--alone", action="store_true", help="without PyTorch")
    parser.add_argument("--memory", action="store_true", help="the second table only")
    parser.add_argument("--profile", type=Path, help="folder for a trace of one step")
    parser.add_argument("--out", type=Path, help="JSON file to write")
    args = parser.parse_args()
    if not args.alone:
        report.use_cores(args.threads)

    rows = [] if args.memory else compare(args)
    if rows:
        columns = ("run", "s per step", "frames per s", "times PyTorch's speed", "s to compile")
        report.print_table(rows, columns)
        print()
    memory = measure_memory(args)
    report.print_table(memory, ("remat", "accumulate", "MB of intermediate results"))
    report.write(args.out, "training_step", [*rows, *memory])


def make_config(args: argparse.Namespace):
    """The published config at the sizes asked for."""
    from configs.temporal_gan_2019_grid import get_config

    config = get_config()
    for part in ("generator", "frame_discriminator", "sync_discriminator"):
        config[part].width = args.width
    config.sequence_discriminator.width = args.width
    config.dtype = args.dtype
    config.data.update(dict(num_frames=args.frames, batch_size=args.batch))
    return config


def make_step(config):
    """(the step as a function of state and batch, a function that makes its state, a batch)."""
    import jax
    import numpy as np

    from flax_talk.systems import temporal_gan as system
    from flax_talk.training import optimizers, step

    data = config.data
    stride, window = system.audio_geometry(config)
    random = np.random.default_rng(0)
    b, t, size = data.batch_size, data.num_frames, data.image_size
    batch = {
        "still": random.integers(0, 256, (b, *size, 3), dtype=np.uint8),
        "video": random.integers(0, 256, (b, t, *size, 3), dtype=np.uint8),
        "waveform": random.uniform(-1, 1, (b, (t - 1) * stride + window)).astype(np.float32),
        "mask": np.ones((b, t), bool),
    }
    optimizer = optimizers.make_optimizer(config.optimizer, system.players(config), 1000)
    start = functools.partial(step.init_state, system, config, optimizer, batch)
    update = jax.jit(
        functools.partial(step.train_step, system, config, optimizer), donate_argnums=0
    )
    return update, jax.jit(start), batch


def compare(args: argparse.Namespace) -> list[dict]:
    """The rows of the first table."""
    import jax

    config = make_config(args)
    update, start, batch = make_step(config)
    batch = jax.device_put(batch)
    state = start()
    begin = time.perf_counter()
    compiled = update.lower(state, batch).compile()
    compiling = time.perf_counter() - begin
    held = {"state": state}

    def ours():
        held["state"], metrics = compiled(held["state"], batch)
        return metrics

    runs = {"ours": ours}
    if not args.alone:
        runs["PyTorch"] = torch_step(config, batch, args.threads)
    best = {name: min(seconds) for name, seconds in report.alternate(runs, args.rounds).items()}
    if args.profile:
        profile(ours, args.profile)
    frames = args.batch * args.frames
    rows = []
    for name, seconds in best.items():
        row = {"run": name, "s per step": seconds, "frames per s": frames / seconds}
        if "PyTorch" in best:
            row["times PyTorch's speed"] = best["PyTorch"] / seconds
        rows.append(row | vars(args) | {"profile": None, "out": None})
    rows[0]["s to compile"] = compiling
    return rows


def torch_step(config, batch, threads: int):
    """PyTorch's step on the same batch, as a function."""
    import numpy as np
    import torch
    import torch_models

    from flax_talk.systems.temporal_gan import audio_geometry
    from input_pipeline.audio import cut_windows

    torch.set_num_threads(threads)
    stride, window = audio_geometry(config)
    training = torch_models.Training(config, window)
    still, video = (
        torch.as_tensor(np.moveaxis(np.asarray(batch[name]), -1, -3) / np.float32(127.5) - 1)
        for name in ("still", "video")
    )
    windows = torch.as_tensor(np.array(cut_windows(batch["waveform"], stride, window)))
    b, t = video.shape[:2]
    loss, half = config.loss, config.loss.snippet_frames // 2

    def run():
        noise = loss.noise_std * torch.randn(b, t, config.generator.noise_dim)
        index = torch.randint(t, (b, loss.num_frames))
        centre, shifted = torch.randint(half, t - half, (2, b, loss.num_snippets))
        return training.step(still, video, windows, noise, index, centre, shifted)

    return run


def measure_memory(args: argparse.Namespace) -> list[dict]:
    """The rows of the second table."""
    import jax

    rows = []
    for remat, accumulate in ((False, 1), (True, 1), (False, 2)):
        if args.batch % accumulate:
            continue
        config = make_config(args)
        config.train.update(dict(remat=remat, accumulate=accumulate))
        update, start, batch = make_step(config)
        analysis = update.lower(jax.eval_shape(start), batch).compile().memory_analysis()
        rows.append(
            {
                "remat": remat,
                "accumulate": accumulate,
                "MB of intermediate results": analysis.temp_size_in_bytes / 1e6,
            }
        )
    return rows


def profile(run, folder: Path) -> None:
    """Traces one run and prints what took longest in it."""
    import jax

    with jax.profiler.trace(folder):
        jax.block_until_ready(run())
    newest = max(folder.glob("**/*.xplane.pb"), key=lambda path: path.stat().st_mtime)
    seconds = collections.Counter()
    for plane in jax.profiler.ProfileData.from_file(str(newest)).planes:
        for line in plane.lines:
            for event in line.events:
                # Operations of the compiled program, those that hold others left out.
                name = re.sub(r"[.\d]+$", "", event.name)
                held = name.startswith(("end:", "while", "call", "conditional"))
                if not held and any(key == "hlo_op" for key, _ in event.stats):
                    seconds[name] += event.duration_ns / 1e9
    total = sum(seconds.values())
    rows = [
        {"operation": name, "s": value, "share": value / total}
        for name, value in seconds.most_common(5)
    ]
    report.print_table(rows, ("operation", "s", "share"))
    print()


if __name__ == "__main__":
    main()

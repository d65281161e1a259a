"""How fast the generator of temporal_gan_2019 draws, beside the same network in PyTorch.

    python benchmarks/generation.py --out out/benchmarks/generation.json

The network of the published weights (128 x 96, a GRU of two layers) with drawn weights animates one
still with 3 s of noise: all frames at once, and in pieces as `flax_talk.animate` does. Both run on
as many threads, in turns; PyTorch in inference mode, with and without channels last. A ratio is of
the best turns, above 1 where ours is the faster. Asks for `pip install 'flax-talk[bench]'`.
"""

import argparse
import tempfile
from pathlib import Path

import report

FRAMES = 75


def main() -> None:
    """Prints a row for each way to run."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--threads", type=int, default=2, help="cores that both may use")
    parser.add_argument("--rounds", type=int, default=5, help="turns of each")
    parser.add_argument("--width", type=int, default=64, help="of the generator; published: 64")
    parser.add_argument("--out", type=Path, help="JSON file to write")
    args = parser.parse_args()
    report.use_cores(args.threads)
    rows = compare(args.width, args.threads, args.rounds)
    report.print_table(rows, ("run", "ms per frame", "times PyTorch's speed", "max difference"))
    report.write(args.out, "generation", rows)


def compare(width: int, threads: int, rounds: int) -> list[dict]:
    """The rows of the table; imports only now, when the cores are chosen."""
    import jax
    import numpy as np
    import torch
    import torch_models

    from configs.temporal_gan_2019_grid import get_config
    from flax_talk.interop.temporal_gan_2019 import save_temporal_gan
    from flax_talk.systems import temporal_gan as system
    from input_pipeline.audio import cut_windows

    torch.set_num_threads(threads)
    config = get_config()
    config.generator.update(dict(width=width, content_layers=2))
    stride, window = system.audio_geometry(config)
    random = np.random.default_rng(0)
    module = system.players(config)[system.GENERATOR]
    still = random.uniform(-1, 1, (1, *config.data.image_size, 3)).astype(np.float32)
    waveform = random.uniform(-1, 1, (1, (FRAMES - 1) * stride + window)).astype(np.float32)
    windows = np.array(cut_windows(waveform, stride, window))
    noise = random.normal(0, 0.33, (1, FRAMES, config.generator.noise_dim)).astype(np.float32)

    shapes = jax.eval_shape(module.init, jax.random.key(0), still, windows[:, :1], noise[:, :1])
    variables = {system.GENERATOR: draw(shapes, random)}
    theirs = torch_models.Generator(config, window).eval()
    with tempfile.TemporaryDirectory() as folder:
        path = save_temporal_gan(Path(folder, "drawn.dat"), config, variables)
        torch_models.load(theirs, path)
    channels_last = torch_models.Generator(config, window).eval()
    channels_last.load_state_dict(theirs.state_dict())
    channels_last.to(memory_format=torch.channels_last)
    inputs = [torch.as_tensor(x) for x in (still.transpose(0, 3, 1, 2), windows, noise)]

    @torch.inference_mode()
    def run_theirs(network):
        return network(*inputs)

    @jax.jit
    def generate(variables, windows, noise, carry=None):
        return module.apply(variables, still, windows, noise, carry)

    @jax.jit
    def remember(variables):
        return {"identity": module.apply(variables, still, method="remember")}

    def run_ours(variables, count):
        pieces, carry = [], zeros | remember(variables)
        for start in range(0, FRAMES, count):
            part = slice(start, start + count)
            piece, carry = generate(variables, windows[:, part], noise[:, part], carry)
            pieces.append(piece)
        return pieces

    prepared = system.prepare(config, variables)[system.GENERATOR]
    variables = jax.device_put(variables[system.GENERATOR])
    _, shapes = jax.eval_shape(generate, variables, windows, noise)
    zeros = jax.tree.map(lambda leaf: np.zeros(leaf.shape, leaf.dtype), shapes)
    runs = {
        "ours, 75 frames at once": lambda: run_ours(prepared, FRAMES),
        "ours, 25 frames at a time": lambda: run_ours(prepared, 25),
        "ours, kernels not prepared": lambda: run_ours(variables, FRAMES),
        "PyTorch": lambda: run_theirs(theirs),
        "PyTorch, channels last": lambda: run_theirs(channels_last),
    }
    expected = run_theirs(theirs).numpy().transpose(0, 1, 3, 4, 2)
    best = {name: min(times) for name, times in report.alternate(runs, rounds).items()}
    reference = min(seconds for name, seconds in best.items() if name.startswith("PyTorch"))

    def row(name, run):
        entry = {
            "run": name,
            "threads": threads,
            "width": width,
            "ms per frame": 1e3 * best[name] / FRAMES,
            "times PyTorch's speed": reference / best[name],
        }
        if name.startswith("ours"):
            video = np.concatenate(run(), axis=1)
            entry["max difference"] = float(np.abs(video - expected).max())
        return entry

    return [row(name, run) for name, run in runs.items()]


def draw(shapes, random):
    """Weights that keep the variance from layer to layer, and statistics near those of noise."""
    import jax
    import numpy as np

    def leaf(path, shape):
        name = path[-1].key
        if name in ("scale", "var"):
            values = random.uniform(0.8, 1.2, shape.shape)
        else:
            taps = 4 if "Upsample" in str(path) else 1
            fan_in = np.prod(shape.shape[:-1]) / taps if len(shape.shape) > 1 else 100
            values = random.normal(0, (1.5 / fan_in) ** 0.5, shape.shape)
        return values.astype(np.float32)

    return jax.tree_util.tree_map_with_path(leaf, shapes)


if __name__ == "__main__":
    main()

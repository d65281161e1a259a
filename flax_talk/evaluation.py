"""How well a system does on clips that it was not trained on, beside a trivial baseline.

`Evaluator` generates every clip of a split from its first frame and its audio and compares the
video with the real one; repeating the still frame is measured in the same way and named
`still/...`. The training loop validates with it, `flax-talk evaluate` reports it.
"""

import functools
import json
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh
from ml_collections import ConfigDict
from tqdm import tqdm

from flax_talk.images import to_float, to_uint8
from flax_talk.losses import l1, lower_half
from flax_talk.metrics import reconstruction
from flax_talk.systems import get_system
from flax_talk.training import parallel
from flax_talk.training.checkpoints import load_config, load_variables
from flax_talk.training.step import example_keys
from input_pipeline.loader import make_loader, open_source

Metrics = dict[str, float]
MEASURES = ("psnr", "ssim", "psnr_lower", "ssim_lower", "l1_lower")


class Samples(NamedTuple):
    """Generated clips and the real ones, uint8 [B, T, H, W, 3], and the sound of the first."""

    video: np.ndarray
    reference: np.ndarray
    waveform: np.ndarray


class Evaluator:
    """Measures a system on a split of `config.data`, on all devices.

    Args:
        system: a module of `flax_talk.systems`.
        config: of the run.
        mesh: of `parallel.make_mesh`.
        split: key of `config.data.splits`.
        limit: the first so many clips only; 0 for all.
    """

    def __init__(
        self, system: ModuleType, config: ConfigDict, mesh: Mesh, split: str, limit: int = 0
    ):
        self._config, self._mesh = config, mesh
        source: Sequence = open_source(config.data, split)
        if limit:
            source = [source[i] for i in range(min(limit, len(source)))]
        self.num_clips = len(source)
        self._loader = make_loader(
            source,
            config.data,
            train=False,
            seed=config.seed,
            process_index=jax.process_index(),
            process_count=jax.process_count(),
        )
        measure = functools.partial(_measure, system, config)
        self._measure = parallel.parallelize(measure, mesh, config.parallel)
        self._generate = jax.jit(functools.partial(system.generate, config))

    def __call__(self, variables: Any, progress: bool = False) -> Metrics:
        """Means over the clips of `MEASURES`, and of the same as `still/...`.

        Args:
            variables: by player, on all devices.
            progress: show a bar.
        """
        sums: dict[str, float] = {}
        batches = -(-self.num_clips // self._config.data.batch_size)
        bar = tqdm(self._loader, total=batches, desc="evaluate", disable=not progress)
        for batch in bar:
            batch = parallel.shard_batch(self._mesh, batch)
            for key, value in jax.device_get(self._measure(variables, batch)).items():
                sums[key] = sums.get(key, 0.0) + float(value)
        count = sums.pop("count")
        return {key: value / count for key, value in sums.items()}

    def samples(self, variables: Any, count: int = 3) -> Samples:
        """The first clips, generated on this process alone."""
        data = self._config.data
        batch = {key: value[:count] for key, value in next(iter(self._loader)).items()}
        keys = jax.random.split(jax.random.key(self._config.seed), len(batch["still"]))
        variables = jax.device_get(variables)
        video, _ = self._generate(variables, batch["still"], batch["waveform"], keys)
        video = np.asarray(to_uint8(video))
        # The waveform begins half a window before the first frame's middle.
        margin = round((data.window_seconds - 1 / data.video_rate) * data.audio_rate / 2)
        return Samples(video, batch["video"], batch["waveform"][0, margin:])


def _measure(
    system: ModuleType, config: ConfigDict, variables: Any, batch: dict[str, jax.Array]
) -> dict[str, jax.Array]:
    """Sums of the metrics over the valid clips of all devices, and their `count`."""
    mask = batch["mask"]
    keys = example_keys(jax.random.key(config.seed), mask.shape[0], parallel.AXIS)
    video, _ = system.generate(config, variables, batch["still"], batch["waveform"], keys)
    still, real = to_float(batch["still"]), to_float(batch["video"])
    clips = mask.any(axis=1)
    # A padded clip has no valid frame; with all of its frames it is finite, and then left out.
    frames = mask | ~clips[:, None]

    def over_frames(values):
        return values.mean(axis=1, where=frames)

    metrics = {}
    repeated = jnp.broadcast_to(still[:, None], real.shape)
    for prefix, fake in (("", video), ("still/", repeated)):
        for suffix, part in (("", lambda x: x), ("_lower", lower_half)):
            a, b = part(fake), part(real)
            metrics[f"{prefix}psnr{suffix}"] = reconstruction.video_psnr(a, b, frames)
            metrics[f"{prefix}ssim{suffix}"] = over_frames(reconstruction.ssim(a, b))
        metrics[f"{prefix}l1_lower"] = over_frames(l1(lower_half(fake), lower_half(real)))
    sums = {key: jnp.where(clips, value, 0).sum() for key, value in metrics.items()}
    return jax.lax.psum({**sums, "count": clips.sum().astype(jnp.float32)}, parallel.AXIS)


def evaluate(
    workdir: str | Path,
    data_dir: str | Path | None = None,
    split: str = "test",
    out: str | Path | None = None,
) -> dict[str, Any]:
    """Measures the best checkpoint of a run.

    Args:
        workdir: folder of the run.
        data_dir: prepared data, if not where the run's config says.
        split: "train", "validation" or "test" of the run's config, or an expression such as
            "s1[-30:]+s4".
        out: folder for `metrics.json` and `table.md`, if given.

    Returns:
        {"system", "step", "seed", "split", "clips", "metrics"}.

    Raises:
        UserError: no run, or no such data.
    """
    config = load_config(Path(workdir))
    if data_dir is not None:
        config.data.data_dir = str(data_dir)
    if split not in config.data.splits:
        config.data.splits[split] = split
    variables, step = load_variables(Path(workdir))
    mesh = parallel.make_mesh()
    evaluator = Evaluator(get_system(config.system), config, mesh, split)
    metrics = evaluator(parallel.replicate(mesh, variables), progress=True)
    result = {
        "system": config.system,
        "step": step,
        "seed": config.seed,
        "split": config.data.splits[split],
        "clips": evaluator.num_clips,
        "metrics": metrics,
    }
    if out is not None:
        _write(Path(out), "metrics.json", json.dumps(result, indent=2) + "\n")
        _write(Path(out), "table.md", table(result))
    return result


def table(result: dict[str, Any]) -> str:
    """The result of `evaluate` as a Markdown table: the system, and the still frame repeated."""
    head = f"| {result['split']}, {result['clips']} clips | " + " | ".join(MEASURES) + " |"
    lines = [head, "|---" * (len(MEASURES) + 1) + "|"]
    for name, prefix in ((f"{result['system']}, step {result['step']}", ""), ("still", "still/")):
        values = (f"{result['metrics'][prefix + measure]:.3f}" for measure in MEASURES)
        lines.append(f"| {name} | " + " | ".join(values) + " |")
    return "\n".join(lines) + "\n"


def _write(folder: Path, name: str, text: str) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    partial = folder / f".{name}.partial"
    partial.write_text(text)
    partial.replace(folder / name)

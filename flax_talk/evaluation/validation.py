"""How well a system does on clips that it was not trained on, beside a trivial baseline.

`Evaluator` generates every clip of a split from its first frame and its audio and compares the
video with the real one; repeating the still frame is measured in the same way and named
`still/...`. A system that generates nothing, a judge, measures the clips itself. What it measures
costs little beside the generating, so that the training loop can validate with it; all else is
measured by `flax_talk.evaluation.evaluate`.
"""

import functools
from collections.abc import Callable, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental.multihost_utils import process_allgather
from jax.sharding import Mesh
from ml_collections import ConfigDict
from tqdm import tqdm

import flax_talk
from flax_talk.images import to_float, to_uint8
from flax_talk.losses import l1, lower_half
from flax_talk.metrics import reconstruction
from flax_talk.systems import syncnet
from flax_talk.training import parallel
from flax_talk.training.checkpoints import load_config, load_variables
from flax_talk.training.step import example_keys
from input_pipeline.loader import Selection, make_loader, open_source

Metrics = dict[str, float]
Judge = Callable[[jax.Array, jax.Array, jax.Array], jax.Array]
MEASURES = ("psnr", "ssim", "psnr_lower", "ssim_lower", "l1_lower")
"""What every validation measures, on the devices."""

SYNCHRONY = "av_confidence"
"""What a validation measures besides where `config.early_stopping.metric` asks for it."""

SHIPPED_SYNCNET = Path(flax_talk.__file__).parent / "checkpoints" / "syncnet"
"""The judge of synchrony that comes with this package."""


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
            source = Selection(source, range(min(limit, len(source))))
        self.num_clips = len(source)
        self._system = system
        self.generates = hasattr(system, "generate")
        data, judge = config.data, None
        if self.generates and config.early_stopping.metric == SYNCHRONY:
            data, judge = ConfigDict(data), _synchrony_judge()
            data.features = (*data.get("features", ()), "mfcc")
        self._loader = make_loader(
            source,
            data,
            train=False,
            seed=config.seed,
            process_index=jax.process_index(),
            process_count=jax.process_count(),
        )
        self._generate = parallel.jit(functools.partial(generate, system, config))
        self._measure = parallel.jit(functools.partial(_measure, judge))
        self._judge = parallel.jit(functools.partial(_judge, system, config))
        # By one process, when it draws.
        self._sample = jax.jit(functools.partial(generate, system, config))

    def __call__(
        self,
        variables: Any,
        progress: bool = False,
        is_told_to_end: Callable[[], bool] = lambda: False,
    ) -> Metrics | None:
        """Means over the clips of `MEASURES`, and of `SYNCHRONY` if the config stops on it; or of a
        judge's measures.

        Args:
            variables: by player, on all devices.
            progress: show a bar.
            is_told_to_end: asked after every batch; if it is so, nothing is returned.

        Returns:
            Each measure of the generated videos by its name, and of the still frame repeated as
            `still/...`. Of a judge, what its `measure` and `measure_on_host` return, or what its
            `summarise` makes of that.
        """
        sums: dict[str, float] = {}
        batches = -(-self.num_clips // self._config.data.batch_size)
        bar = tqdm(self._loader, total=batches, desc="evaluate", disable=not progress)
        for batch in bar:
            sharded = parallel.shard_batch(self._mesh, batch)
            if self.generates:
                video = self._generate(variables, sharded, _places(sharded))
                values = jax.device_get(self._measure(video, sharded))
            else:
                values = self._sum_judged(self._judge(variables, sharded), batch)
            for key, value in values.items():
                sums[key] = sums.get(key, 0.0) + float(value)
            if is_told_to_end():
                return None
        count = sums.pop("count")
        means = {key: value / count for key, value in sums.items()}
        if not self.generates and hasattr(self._system, "summarise"):
            return self._system.summarise(self._config, means)
        return means

    def _sum_judged(self, outputs: dict[str, jax.Array], batch: dict[str, np.ndarray]) -> Metrics:
        """Sums of a judge's measures over the valid clips of all processes, and their `count`."""
        local = {name: _local(value) for name, value in outputs.items()}
        if hasattr(self._system, "measure_on_host"):
            local = self._system.measure_on_host(self._config, local, batch)
        clips = batch["mask"].any(axis=1)
        sums = {name: float(value[clips].sum()) for name, value in local.items()}
        sums["count"] = float(clips.sum())
        return {name: float(np.sum(process_allgather(value))) for name, value in sums.items()}

    def samples(self, variables: Any, count: int = 3) -> Samples:
        """The first clips, generated on this process alone; only of a system that generates."""
        data = self._config.data
        batch = {key: value[:count] for key, value in next(iter(self._loader)).items()}
        video = np.asarray(self._sample(jax.device_get(variables), batch, _places(batch)))
        # The waveform begins half a window before the first frame's middle.
        margin = round((data.window_seconds - 1 / data.video_rate) * data.audio_rate / 2)
        return Samples(video, batch["video"], batch["waveform"][0, margin:])


def generate(
    system: ModuleType,
    config: ConfigDict,
    variables: Any,
    batch: dict[str, jax.Array],
    numbers: jax.Array,
) -> jax.Array:
    """Videos of a batch from its stills and its sound.

    Args:
        system: a module of `flax_talk.systems`.
        config: of the run.
        variables: by player.
        batch: `still` [B, H, W, 3] and `waveform` as the loader yields them.
        numbers: int [B]; the noise of a clip depends on its number and on `config.seed`.

    Returns:
        uint8 [B, T, H, W, 3].
    """
    keys = jax.vmap(functools.partial(jax.random.fold_in, jax.random.key(config.seed)))(numbers)
    video, _ = system.generate(config, variables, batch["still"], batch["waveform"], keys)
    return to_uint8(video)


def _judge(
    system: ModuleType, config: ConfigDict, variables: Any, batch: dict[str, jax.Array]
) -> dict[str, jax.Array]:
    """A judge's measures of a batch, each [B, ...]."""
    keys = example_keys(jax.random.key(config.seed), batch["mask"].shape[0], None)
    return system.measure(config, variables, batch, keys)


def _places(batch: dict[str, Any]) -> np.ndarray:
    """In place of numbers: the clips' places in the batch, always the same in validations."""
    return np.arange(len(batch["still"]))


def _local(array: jax.Array) -> np.ndarray:
    """The examples that this process has loaded, of an array [B, ...] on all devices."""
    shards = sorted(array.addressable_shards, key=lambda shard: shard.index[0].start or 0)
    return np.concatenate([np.asarray(shard.data) for shard in shards])


def _synchrony_judge() -> Judge:
    """The confidence [B] of videos and their `mfcc` by the SyncNet that ships."""
    config = load_config(SHIPPED_SYNCNET)
    variables, _ = load_variables(SHIPPED_SYNCNET)
    return lambda *clips: syncnet.judge(config, variables, *clips).confidence


def _measure(
    judge: Judge | None, video: jax.Array, batch: dict[str, jax.Array]
) -> dict[str, jax.Array]:
    """Sums of the measures over the valid clips, and their `count`."""
    mask = batch["mask"]
    clips = mask.any(axis=1)
    # A padded clip has no valid frame; with all of its frames it is finite, and then left out.
    frames = mask | ~clips[:, None]
    fake, real, still = (to_float(x) for x in (video, batch["video"], batch["still"]))

    def over_frames(values):
        return values.mean(axis=1, where=frames)

    metrics = {}
    repeated = jnp.broadcast_to(still[:, None], real.shape)
    for prefix, shown in (("", fake), ("still/", repeated)):
        for suffix, part in (("", lambda x: x), ("_lower", lower_half)):
            a, b = part(shown), part(real)
            metrics[f"{prefix}psnr{suffix}"] = reconstruction.video_psnr(a, b, frames)
            metrics[f"{prefix}ssim{suffix}"] = over_frames(reconstruction.ssim(a, b))
        metrics[f"{prefix}l1_lower"] = over_frames(l1(lower_half(shown), lower_half(real)))
    if judge is not None:
        metrics[SYNCHRONY] = judge(video, batch["mfcc"], frames)
    sums = {key: jnp.where(clips, value, 0).sum() for key, value in metrics.items()}
    return {**sums, "count": clips.sum().astype(jnp.float32)}

"""Training from a config and a folder; the same call again goes on where the last one stopped.

The loop knows no system: it draws batches, steps, validates by reconstruction on held-out
clips beside repeating the still frame, keeps the best variables, writes logs and samples, and
saves state, loader and progress together. SIGTERM, which announces a preemption, saves
and returns.
"""

import functools
import importlib.metadata
import json
import math
import signal
import threading
from pathlib import Path
from types import ModuleType
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from absl import logging
from ml_collections import ConfigDict
from tqdm import tqdm

from flax_talk.errors import UserError
from flax_talk.losses import lower_half
from flax_talk.metrics import reconstruction
from flax_talk.systems import get_system
from flax_talk.training import checkpoints as ckpt
from flax_talk.training import optimizers, parallel
from flax_talk.training import step as steps
from flax_talk.training.logging import Writer
from input_pipeline.loader import make_loader, open_source

PACKAGES = ("flax-talk", "jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "grain", "numpy")
SAMPLE_CLIPS = 3


def train_and_evaluate(config: ConfigDict, workdir: str | Path) -> dict[str, float]:
    """Trains until the config's end, early stopping or SIGTERM.

    Args:
        config: of `configs/`.
        workdir: the run's folder; a run that it holds is continued.

    Returns:
        The validation metrics of the best step, and that `step`.

    Raises:
        UserError: data and config do not fit, or a loss is no longer finite.
    """
    workdir = Path(workdir)
    parallel.check_batch_size(config.data.batch_size)
    _claim(config, workdir)
    system = get_system(config.system)
    share = dict(process_index=jax.process_index(), process_count=jax.process_count())
    source = open_source(config.data, "train")
    loader = make_loader(source, config.data, train=True, seed=config.seed, **share)
    steps_per_epoch = max(
        1, len(source) * (2 if config.data.mirror else 1) // config.data.batch_size
    )
    total = config.train.max_steps or config.train.num_epochs * steps_per_epoch

    mesh = parallel.make_mesh()
    example = next(iter(loader))
    optimizer = optimizers.make_optimizer(
        config.optimizer, jax.eval_shape(_init(system, config), example), steps_per_epoch
    )
    state = jax.jit(functools.partial(steps.init_state, system, config, optimizer))(example)
    state = parallel.replicate(mesh, state)
    iterator = iter(loader)
    train_step = parallel.parallelize(
        functools.partial(steps.train_step, system, config, optimizer, axis_name=parallel.AXIS),
        mesh,
        config.parallel,
        donate_state=True,
    )
    validation = Validation(system, config, mesh, share)

    saved = ckpt.Checkpoints(workdir, config.train.keep_checkpoints)
    progress: dict[str, Any] = {"best": None, "best_step": 0, "since_best": 0, "stopped": False}
    if saved.latest_step is not None:
        state, progress = saved.restore(state, iterator)
        logging.info("going on from step %d of %s", saved.latest_step, workdir)
    writer = Writer(workdir) if jax.process_index() == 0 else None
    sigterm = _Sigterm()
    step = int(state.step)
    history: list[dict[str, jax.Array]] = []
    bar = tqdm(total=total, initial=step, desc=config.system, unit="step", smoothing=0.05)
    with sigterm, bar:
        while step < total and not progress["stopped"] and not sigterm.received:
            batch = parallel.shard_batch(mesh, next(iterator))
            state, metrics = train_step(state, batch)
            step += 1
            bar.update()
            history.append(metrics)
            if step % config.train.log_every == 0 or step == total:
                means = _means(history)
                history = []
                _check_finite(means, step)
                bar.set_postfix({k: f"{v:.3g}" for k, v in means.items() if k.endswith("/loss")})
                if writer:
                    writer.scalars(step, {f"train/{k}": v for k, v in means.items()})
            if writer and (step % config.train.samples_every == 0 or step == total):
                writer.samples(step, *validation.samples(state))
            if step % (config.train.validate_every * steps_per_epoch) == 0 or step == total:
                scores = validation(state)
                if writer:
                    writer.scalars(step, {f"validation/{k}": v for k, v in scores.items()})
                progress = _judge(config.early_stopping, progress, scores, step)
                if progress["best_step"] == step:
                    saved.save_best(state)
            if step % config.train.checkpoint_every == 0 or step == total:
                saved.save(state, iterator, progress)
    saved.save(state, iterator, progress)
    saved.close()
    if writer:
        writer.close()
    return {"step": progress["best_step"], **(progress["best"] or {})}


class Validation:
    """Reconstruction of held-out clips, and of the same clips by their still frame repeated.

    Calling it with a state gives the mean over clips of: `psnr` (of the whole video), `ssim`,
    their `_lower` forms on the lower half of the face, `l1_lower`, and each again as `still/...`.
    """

    def __init__(self, system: ModuleType, config: ConfigDict, mesh: Any, share: dict[str, int]):
        self._system, self._config, self._mesh = system, config, mesh
        source = open_source(config.data, "validation")
        if limit := config.train.validation_clips:
            source = [source[i] for i in range(min(limit, len(source)))]
        self._loader = make_loader(source, config.data, train=False, seed=0, **share)
        measure = functools.partial(_measure, system, config)
        self._measure = parallel.parallelize(measure, mesh, config.parallel)
        self._generate = jax.jit(functools.partial(system.generate, config))

    def __call__(self, state: steps.TrainState) -> dict[str, float]:
        """Mean metrics over the validation clips."""
        sums: dict[str, float] = {}
        for batch in self._loader:
            batch = parallel.shard_batch(self._mesh, batch)
            for key, value in jax.device_get(self._measure(state, batch)).items():
                sums[key] = sums.get(key, 0.0) + float(value)
        count = sums.pop("count")
        return {key: value / count for key, value in sums.items()}

    def samples(self, state: steps.TrainState) -> tuple:
        """(video, reference, fps, waveform, rate) of the first clips, for `Writer.samples`."""
        data = self._config.data
        batch = {key: value[:SAMPLE_CLIPS] for key, value in next(iter(self._loader)).items()}
        keys = jax.random.split(jax.random.key(0), len(batch["still"]))
        variables = jax.device_get(state.variables)
        video, _ = self._generate(variables, batch["still"], batch["waveform"], keys)
        video = np.asarray(jnp.round((video + 1) * 127.5).astype(jnp.uint8))
        margin = round((data.window_seconds - 1 / data.video_rate) * data.audio_rate / 2)
        waveform = batch["waveform"][0, margin:]
        return video, batch["video"], data.video_rate, waveform, data.audio_rate


def _measure(
    system: ModuleType, config: ConfigDict, state: steps.TrainState, batch: dict[str, jax.Array]
) -> dict[str, jax.Array]:
    """Sums of the metrics over the valid clips of all devices, and their `count`."""
    mask = batch["mask"]
    keys = steps.example_keys(jax.random.key(config.seed), mask.shape[0], parallel.AXIS)
    still, audio = batch["still"], batch["waveform"]
    video, _ = system.generate(config, state.variables, still, audio, keys)
    real = batch["video"].astype(jnp.float32) / 127.5 - 1
    repeated = jnp.broadcast_to(still[:, None].astype(jnp.float32) / 127.5 - 1, real.shape)
    clips = mask.any(axis=1)
    # A padded clip has no valid frame; with all of its frames it is finite, and then left out.
    frames = mask | ~clips[:, None]

    def over_frames(values):
        return values.mean(axis=1, where=frames)

    metrics = {}
    for prefix, fake in (("", video), ("still/", repeated)):
        for suffix, half in (("", lambda x: x), ("_lower", lower_half)):
            a, b = half(fake), half(real)
            metrics[f"{prefix}psnr{suffix}"] = reconstruction.video_psnr(a, b, frames)
            metrics[f"{prefix}ssim{suffix}"] = over_frames(reconstruction.ssim(a, b))
        error = jnp.abs(lower_half(fake) - lower_half(real)).mean(axis=(-3, -2, -1))
        metrics[f"{prefix}l1_lower"] = over_frames(error)
    sums = {key: jnp.where(clips, value, 0).sum() for key, value in metrics.items()}
    return jax.lax.psum({**sums, "count": clips.sum().astype(jnp.float32)}, parallel.AXIS)


def _init(system: ModuleType, config: ConfigDict):
    return lambda batch: system.init(config, jax.random.key(0), batch)


def _claim(config: ConfigDict, workdir: Path) -> None:
    """Writes config and versions into a new workdir; refuses one of another system."""
    if (workdir / ckpt.CONFIG_FILE).exists():
        there = ckpt.load_config(workdir).system
        if there != config.system:
            raise UserError(
                f"{workdir} holds a run of {there}, not of {config.system}: use another --workdir"
            )
    if jax.process_index() == 0:
        ckpt.save_config(config, workdir)
        versions = {name: importlib.metadata.version(name) for name in PACKAGES}
        (workdir / "versions.json").write_text(json.dumps(versions, indent=2) + "\n")


def _means(history: list[dict[str, jax.Array]]) -> dict[str, float]:
    values = jax.device_get(history)
    return {key: float(np.mean([entry[key] for entry in values])) for key in values[0]}


def _check_finite(means: dict[str, float], step: int) -> None:
    bad = [key for key, value in means.items() if not math.isfinite(value)]
    if bad:
        raise UserError(
            f"training diverged before step {step}: {', '.join(bad)} not finite; "
            "run again from the last checkpoint with a lower learning rate"
        )


def _judge(
    config: ConfigDict, progress: dict[str, Any], scores: dict[str, float], step: int
) -> dict[str, Any]:
    """Progress after a validation: is it the best, and has it been too long since one was?"""
    if config.metric not in scores:
        raise UserError(
            f"config.early_stopping.metric={config.metric!r} is not measured: "
            f"use one of {', '.join(sorted(scores))}"
        )
    sign = {"max": 1, "min": -1}[config.mode]
    best = progress["best"]
    if best is None or sign * scores[config.metric] > sign * best[config.metric]:
        return {**progress, "best": scores, "best_step": step, "since_best": 0}
    since = progress["since_best"] + 1
    stopped = bool(config.patience) and since >= config.patience
    return {**progress, "since_best": since, "stopped": stopped}


class _Sigterm:
    """Within it SIGTERM sets `received` instead of ending the process."""

    received = False

    def __enter__(self):
        # Only the main thread may set handlers; elsewhere (a notebook's worker) there is none.
        self._main = threading.current_thread() is threading.main_thread()
        if self._main:
            self._before = signal.signal(signal.SIGTERM, self._receive)
        return self

    def __exit__(self, *error):
        if self._main:
            signal.signal(signal.SIGTERM, self._before)

    def _receive(self, number, frame):
        self.received = True

"""Training from a config and a folder; the same call again goes on where the last one stopped.

The loop knows no system: it draws batches, steps, validates on held-out clips (a generator by
reconstruction, a judge by its own measures), keeps the best variables, writes logs and samples, and
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
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict
from tqdm import tqdm

from flax_talk.errors import UserError
from flax_talk.evaluation.validation import Evaluator
from flax_talk.systems import get_system
from flax_talk.training import checkpoints as ckpt
from flax_talk.training import optimizers, parallel
from flax_talk.training import step as steps
from flax_talk.training.logging import Writer
from input_pipeline.loader import make_loader, open_source
from input_pipeline.prepare import prepare

PACKAGES = ("flax-talk", "jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "grain", "numpy")


def train_and_evaluate(config: ConfigDict, workdir: str | Path) -> dict[str, float]:
    """Trains until the config's end, early stopping or SIGTERM.

    Args:
        config: of `configs/`.
        workdir: the run's folder; a run that it holds is continued.

    Returns:
        The validation metrics of the best step, that `step`, and whether the run has `finished`;
        else it was told to end, and the same call goes on.

    Raises:
        UserError: data and config do not fit, or a loss is no longer finite.
    """
    workdir = Path(workdir)
    parallel.check_batch_size(config.data.batch_size, config.train.get("accumulate", 1))
    _claim(config, workdir)
    system = get_system(config.system)
    share = dict(process_index=jax.process_index(), process_count=jax.process_count())
    if config.data.prepare:
        prepare(f"{config.data.dataset}:{config.data.builder_config}", config.data.data_dir)
    source = open_source(config.data, "train")
    loader = make_loader(source, config.data, train=True, seed=config.seed, **share)
    steps_per_epoch = max(
        1, len(source) * (2 if config.data.mirror else 1) // config.data.batch_size
    )
    total = config.train.max_steps or config.train.num_epochs * steps_per_epoch

    mesh = parallel.make_mesh()
    example = next(iter(loader))
    players = jax.eval_shape(functools.partial(system.init, config), jax.random.key(0), example)
    optimizer = optimizers.make_optimizer(config.optimizer, players, steps_per_epoch)
    state = jax.jit(functools.partial(steps.init_state, system, config, optimizer))(example)
    state = parallel.replicate(mesh, state)
    iterator = iter(loader)
    train_step = parallel.parallelize(
        functools.partial(steps.train_step, system, config, optimizer, axis_name=parallel.AXIS),
        mesh,
        config.parallel,
        donate_state=True,
    )
    validation = Evaluator(system, config, mesh, "validation", config.train.validation_clips)

    saved = ckpt.Checkpoints(workdir, config.train.keep_checkpoints)
    progress: dict[str, Any] = {"best": None, "best_step": 0, "since_best": 0, "stopped": False}
    if saved.latest_step is not None:
        state, progress = saved.restore(state, iterator)
        print(f"{workdir}: going on from step {saved.latest_step} of {total}")
    elif config.train.initialize_from:
        state = parallel.replicate(mesh, _initialize(state, config.train.initialize_from))
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
            # One step may run while the next batch is made; a longer queue would keep SIGTERM,
            # logs and the progress bar waiting for steps that were merely dispatched.
            jax.block_until_ready(history[-1:])
            history.append(metrics)
            if step % config.train.log_every == 0 or step == total:
                means = _means(history)
                history = []
                _check_finite(means, step)
                losses = {
                    k.removesuffix("/loss"): v for k, v in means.items() if k.endswith("/loss")
                }
                bar.set_postfix({k: f"{v:.3g}" for k, v in losses.items()})
                if writer:
                    writer.scalars(step, {f"train/{k}": v for k, v in means.items()})
            drawn = step % config.train.samples_every == 0 or step == total
            if writer and drawn:
                writer.histograms(step, state.params)
            if writer and drawn and validation.generates:
                samples = validation.samples(state.variables)
                writer.samples(step, samples, config.data.video_rate, config.data.audio_rate)
            if step % (config.train.validate_every * steps_per_epoch) == 0 or step == total:
                scores = validation(state.variables)
                if writer:
                    writer.scalars(step, {f"validation/{k}": v for k, v in scores.items()})
                progress = _judge(config.early_stopping, progress, scores, step)
                if progress["best_step"] == step:
                    saved.save_best(state)
            if step % config.train.checkpoint_every == 0:
                saved.save(state, iterator, progress)
    saved.save(state, iterator, progress)
    saved.close()
    if writer:
        writer.close()
    finished = step >= total or progress["stopped"]
    return {"finished": finished, "step": progress["best_step"], **(progress["best"] or {})}


def _initialize(state: steps.TrainState, workdir: str) -> steps.TrainState:
    """The state with the variables of another run, for each player that both have.

    Of several runs, separated by commas, the last that has a player counts.
    """
    first, _, others = workdir.partition(",")
    if others:
        return _initialize(_initialize(state, first.strip()), others.strip())
    variables, _ = ckpt.load_variables(workdir)
    common = {player: variables[player] for player in state.params if player in variables}
    params = {player: entry["params"] for player, entry in common.items()}
    stats = {player: entry.get("batch_stats") or {} for player, entry in common.items()}
    for player, entry in params.items():
        if jax.tree.map(jnp.shape, entry) != jax.tree.map(jnp.shape, state.params[player]):
            raise UserError(
                f"{workdir}: its {player} has other sizes than the config's: "
                "change config.train.initialize_from or the sizes"
            )
    return state.replace(
        params={**state.params, **params}, batch_stats={**state.batch_stats, **stats}
    )


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

"""Training from a config and a folder; the same call again goes on where the last one stopped.

The loop knows no system: it draws batches, steps, validates on held-out clips (a generator by
reconstruction, a judge by its own measures), keeps the best variables, writes logs and samples, and
saves state, loader and progress together. SIGTERM, which announces a preemption, saves
and returns, also in the middle of a validation, which then comes first when the run goes on.
"""

import contextlib
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
from jax.experimental import multihost_utils
from ml_collections import ConfigDict
from tqdm import tqdm

from flax_talk.errors import UserError
from flax_talk.evaluation.validation import Evaluator
from flax_talk.systems import get_system
from flax_talk.training import checkpoints as ckpt
from flax_talk.training import monitors, optimizers, parallel
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
        UserError: data and config do not fit, a loss or gradient is no longer finite, or the last
            state could not be saved.
    """
    workdir = Path(workdir)
    parallel.check_batch_size(config.data.batch_size, config.train.get("accumulate", 1))
    _claim(config, workdir)
    system = get_system(config.system)
    share = dict(process_index=jax.process_index(), process_count=jax.process_count())
    if config.data.prepare:
        _prepare(config.data)
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
        if jax.process_index() == 0:
            print(f"{workdir}: going on from step {int(state.step)} of {total}")
    elif config.train.initialize_from:
        state = parallel.replicate(mesh, _initialize(state, config.train.initialize_from))
    writer = Writer(workdir) if jax.process_index() == 0 else None
    sigterm = _Sigterm()
    step = int(state.step)
    # Runs from before validations could be cut short have finished them.
    progress.setdefault("validated", step)
    divergence = monitors.Divergence(config.train.get("on_divergence", "stop"))
    balance = monitors.Balance()
    history: list[dict[str, jax.Array]] = []

    def validation_is_due() -> bool:
        every = config.train.validate_every * steps_per_epoch
        return step > progress["validated"] and (step % every == 0 or step == total)

    def validate() -> dict[str, Any]:
        """Progress after a validation, unchanged where SIGTERM has cut it short."""
        scores = validation(state.variables, is_told_to_end=lambda: sigterm.received)
        if scores is None:
            return progress
        if writer:
            writer.scalars(step, {f"validation/{k}": v for k, v in scores.items()})
        judged = _judge(config.early_stopping, progress, scores, step) | {"validated": step}
        is_best = judged["best_step"] == step
        # What is not in the folder is not the best.
        return judged if not is_best or saved.save_best(state) else progress | {"validated": step}

    look = dict(desc=config.system, unit="step", smoothing=0.05, disable=jax.process_index() > 0)
    bar = tqdm(total=total, initial=step, **look)
    with sigterm, bar, contextlib.ExitStack() as stack:
        if writer:
            stack.callback(writer.close)
        # Also where the run fails: a save that is under way is ended.
        stack.callback(saved.close)
        if validation_is_due():
            progress = validate()
        while step < total and not progress["stopped"] and not sigterm.is_received_by_all(step):
            batch = parallel.shard_batch(mesh, next(iterator))
            state, metrics = train_step(state, batch)
            step += 1
            bar.update()
            # One step may run while the next batch is made; a longer queue would keep SIGTERM,
            # logs and the progress bar waiting for steps that were merely dispatched.
            jax.block_until_ready(history[-1:])
            history.append(metrics)
            if step % config.train.log_every == 0 or step == total:
                values = jax.device_get(history)
                history = []
                divergence.look(values, step)
                means = monitors.means(values)
                balance.look(means, step)
                saved.report()
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
            if validation_is_due():
                progress = validate()
            if step % config.train.checkpoint_every == 0:
                # Nothing is saved behind a step that diverged.
                divergence.look(jax.device_get(history), step)
                saved.save(state, iterator, progress)
        divergence.look(jax.device_get(history), step)
        saved.save(state, iterator, progress)
        is_saved = saved.settle()
    if not is_saved:
        raise UserError(
            f"{workdir}: the state of step {step} could not be saved: free some space, and the "
            "same command goes on from the checkpoint before"
        )
    finished = (step >= total or progress["stopped"]) and not validation_is_due()
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


def _prepare(data: ConfigDict) -> None:
    """Prepares the data set; of several processes the first goes ahead, and the others find what
    it has made, or make their own on disks that it does not see."""
    name = f"{data.dataset}:{data.builder_config}"
    if jax.process_index() == 0:
        prepare(name, data.data_dir)
    parallel.wait_for_all("prepared")
    if jax.process_index() > 0:
        prepare(name, data.data_dir)


def _claim(config: ConfigDict, workdir: Path) -> None:
    """Writes config and versions into a new workdir; refuses one of another system, or one whose
    checkpoints could not be read again."""
    # Orbax looks for what it has saved by a pattern, in which brackets are no letters.
    if "[" in str(workdir.absolute()):
        raise UserError(f"{workdir}: Orbax reads no path with a bracket: use another --workdir")
    if (workdir / ckpt.CONFIG_FILE).exists():
        there = ckpt.load_config(workdir).system
        if there != config.system:
            raise UserError(
                f"{workdir} holds a run of {there}, not of {config.system}: use another --workdir"
            )
    if jax.process_index() == 0:
        versions = {name: importlib.metadata.version(name) for name in PACKAGES}
        try:
            ckpt.save_config(config, workdir)
            (workdir / "versions.json").write_text(json.dumps(versions, indent=2) + "\n")
        except OSError as error:
            raise UserError(
                f"{workdir}: cannot be written ({error.strerror}): check the folder and its free "
                "space"
            ) from error


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
    best, score = progress["best"], sign * scores[config.metric]
    if not math.isnan(score) and (best is None or not score <= sign * best[config.metric]):
        return {**progress, "best": scores, "best_step": step, "since_best": 0}
    since = progress["since_best"] + 1
    stopped = bool(config.patience) and since >= config.patience
    return {**progress, "since_best": since, "stopped": stopped}


class _Sigterm:
    """Within it SIGTERM sets `received` instead of ending the process.

    Several processes must stop at the same step: there JAX's own service, which
    `jax.distributed.initialize` starts, tells all of them of the signal that one has got.
    """

    received = False

    def __enter__(self):
        # Only the main thread may set handlers; elsewhere (a notebook's worker) there is none.
        is_main = threading.current_thread() is threading.main_thread()
        self._handles = is_main and jax.process_count() == 1
        if self._handles:
            self._before = signal.signal(signal.SIGTERM, self._receive)
        return self

    def __exit__(self, *error):
        if self._handles:
            signal.signal(signal.SIGTERM, self._before)

    def is_received_by_all(self, step: int) -> bool:
        """Whether to stop before the step after `step`: the same in every process."""
        if jax.process_count() > 1:
            return multihost_utils.reached_preemption_sync_point(step)
        return self.received

    def _receive(self, number, frame):
        self.received = True

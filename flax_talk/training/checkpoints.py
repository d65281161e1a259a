"""Checkpoints of a run, in one Orbax save each: state, the loader's place, and progress.

`<workdir>/checkpoints` keeps the newest for resuming; `<workdir>/best` keeps the variables
alone of the step with the best validation metric, which is what `animate` reads.
`<workdir>/config.json` beside them says what they are of. A save that fails, on a full disk say, is
reported and leaves those before it as they are. Each has a checksum: one that was damaged is
found when it is read, and the one before it is taken. An exported checkpoint is the config and
`variables.npz`, small enough to be passed on; it is read like a run.
"""

import io
import json
import os
import re
import shutil
import zlib
from collections.abc import Sequence
from logging import Filter, LogRecord
from pathlib import Path
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp
from absl import logging
from flax import traverse_util
from ml_collections import ConfigDict

from flax_talk.errors import UserError
from flax_talk.interop.array_files import check_finite, read_npz
from flax_talk.systems import generating_players
from flax_talk.training import parallel
from flax_talk.training.step import TrainState

CONFIG_FILE = "config.json"
EXPORTED_FILE = "variables.npz"
DAMAGED = "damaged"
"""Folder of a run that takes the checkpoints which cannot be read."""


class Checkpoints:
    """Saves and restores one run.

    Args:
        workdir: the run's folder.
        keep: newest checkpoints kept.

    Raises:
        UserError: the folder cannot be written.
    """

    def __init__(self, workdir: Path, keep: int):
        self._workdir = Path(workdir).absolute()
        self._newest = _Saves(self._workdir / "checkpoints", keep)
        self._best = _Saves(self._workdir / "best", 1)

    @property
    def latest_step(self) -> int | None:
        """Step of the newest checkpoint, None if there is none."""
        return max(self._newest.steps, default=None)

    def save(self, state: TrainState, iterator: Any, progress: dict[str, Any]) -> None:
        """Saves in the background: the arrays are copied before this returns.

        What fails is logged in one line, at the next call of `save`, `report` or `settle`.

        Args:
            iterator: the loader's, whose next batch is the next to train on; its place is the same
                in every process.
            progress: plain values of the loop, for example of early stopping.
        """
        step = int(state.step)
        self._newest.settle()
        if step in self._newest.steps:
            return
        saved = ocp.args.Composite(
            state=ocp.args.StandardSave(state),
            data=ocp.args.JsonSave(iterator.get_state()),
            progress=ocp.args.JsonSave(progress),
        )
        self._newest.save(step, saved, _checksums(state))

    def restore(self, state: TrainState, iterator: Any) -> tuple[TrainState, dict[str, Any]]:
        """The newest checkpoint that can be read, in the shapes and on the devices of `state`.

        `iterator` is moved to its place; returns (state, progress). Newer ones that cannot be
        read are named in one line each and moved to `<workdir>/damaged`.

        Raises:
            UserError: none can be read, or they are of other sizes; then none is moved.
        """
        target = jax.tree.map(ocp.utils.to_shape_dtype_struct, state)
        wanted = ocp.args.Composite(
            state=ocp.args.StandardRestore(target),
            data=ocp.args.JsonRestore(),
            progress=ocp.args.JsonRestore(),
        )
        damaged: dict[int, str] = {}
        for step in sorted(self._newest.steps, reverse=True):
            try:
                restored = self._newest.manager.restore(step, args=wanted)
                _check(self._newest.manager, step, _checksums(restored["state"]))
                iterator.set_state(restored["data"])
            except Exception as error:  # Damaged files can fail in any way.
                damaged[step] = _reason(error)
                continue
            for other, reason in damaged.items():
                self._newest.set_aside(other, self._workdir / DAMAGED)
                logging.warning(
                    "checkpoint %d of %s is damaged (%s): moved to %s, %d is used",
                    *(other, self._workdir, reason, DAMAGED, step),
                )
            return restored["state"], restored["progress"]
        raise UserError(
            f"no checkpoint in {self._workdir} can be read ({damaged[max(damaged)]}): give the "
            "sizes that it was trained with, or another --workdir"
        )

    def save_best(self, state: TrainState) -> bool:
        """Keeps the variables of this step instead of the best before; waits until it does.

        Returns:
            Whether it does: else the failure is logged in one line, and the best before is kept.
        """
        if jax.process_count() > 1:
            # Processes that save together wait for each other by names that all saves share.
            self._newest.settle()
        checksums = {"variables": _checksum(state.variables)}
        self._best.save(int(state.step), ocp.args.StandardSave(state.variables), checksums)
        return self._best.settle()

    def report(self) -> None:
        """Logs the failure of a save in the background, if there is one by now; does not wait."""
        if not self._newest.manager.is_saving_in_progress():
            self._newest.settle()

    def settle(self) -> bool:
        """Waits for the save under way; False if the last one has failed."""
        return self._newest.settle()

    def close(self) -> None:
        """Waits and lets go of the folder."""
        for saves in (self._newest, self._best):
            saves.settle()
            saves.manager.close()


class _Saves:
    """The saves in one folder, of which one that fails leaves the others as they are."""

    def __init__(self, folder: Path, keep: int):
        self._folder, self._keep = folder, keep
        self._under_way: int | None = None
        self._failed = False
        self._open()

    def _open(self) -> None:
        # What a save that failed, or was killed, has written takes the place that is missing.
        if jax.process_index() == 0:
            for half in self._folder.glob("*.orbax-checkpoint-tmp*"):
                shutil.rmtree(half, ignore_errors=True)
        options = ocp.CheckpointManagerOptions(max_to_keep=self._keep)
        try:
            self.manager = ocp.CheckpointManager(self._folder, options=options)
        except OSError as error:
            raise UserError(f"{self._folder}: cannot be written ({_reason(error)})") from error

    @property
    def steps(self) -> list[int]:
        return list(self.manager.all_steps())

    def save(self, step: int, args: ocp.args.CheckpointArgs, checksums: dict[str, int]) -> None:
        """Begins a save, which `settle` ends; those of this step and later ones, from a run that
        went on from an earlier one, make place for it."""
        self.settle()
        self._under_way, self._failed = step, False
        try:
            for later in [other for other in self.steps if other >= step]:
                self.manager.delete(later)
            self.manager.save(step, args=args, custom_metadata={"checksums": checksums})
        except Exception as error:
            self._fail(error)

    def settle(self) -> bool:
        """Waits for the save under way; False if the last one has failed."""
        try:
            self.manager.wait_until_finished()
        except Exception as error:
            self._fail(error)
        return not self._failed

    def _fail(self, error: Exception) -> None:
        # Where several processes save together, one that gave up alone would wait for ever.
        if jax.process_count() > 1:
            raise error
        self._failed = True
        logging.warning(
            "checkpoint %s of %s could not be saved (%s): those before it are kept",
            *(self._under_way, self._folder, _reason(error)),
        )
        # The manager has lost count.
        self._open()

    def set_aside(self, step: int, folder: Path) -> None:
        """Moves a save away."""
        if jax.process_index() == 0:
            folder.mkdir(exist_ok=True)
            shutil.rmtree(folder / str(step), ignore_errors=True)
            (self._folder / str(step)).rename(folder / str(step))
        parallel.wait_for_all(f"{step} set aside")
        self.manager.reload()


class _WithoutTracebacks(Filter):
    """Of a failed save, Orbax logs a page; `Checkpoints` says it in one line."""

    def filter(self, record: LogRecord) -> bool:
        return not (record.exc_info and "orbax" in record.pathname)


logging.get_absl_logger().addFilter(_WithoutTracebacks())


def _checksums(state: TrainState) -> dict[str, int]:
    """Of the variables, and of all else in a state."""
    rest = state.step, state.opt_state, state.rng
    return {"variables": _checksum(state.variables), "rest": _checksum(rest)}


def _checksum(tree: Any) -> int:
    """CRC-32 of the arrays of a tree, in the order of its leaves."""
    total = 0
    for leaf in jax.tree.leaves(jax.device_get(tree)):
        total = zlib.crc32(np.ascontiguousarray(leaf).reshape(-1).view(np.uint8), total)
    return total


def _check(manager: ocp.CheckpointManager, step: int, found: dict[str, int]) -> None:
    """Raises ValueError where checksums differ from those saved; older saves have none."""
    saved = (manager.metadata(step).custom_metadata or {}).get("checksums", {})
    if any(saved.get(name, number) != number for name, number in found.items()):
        raise ValueError("its numbers are not those that were saved")


def _reason(error: Exception) -> str:
    """What went wrong, in a few words: TensorStore's errors are pages."""
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    if code := re.search(r"os_error_code='(\d+)'", str(error)):
        return os.strerror(int(code[1]))
    return " ".join(str(error).split())[:200] or type(error).__name__


def export(
    workdir: str | Path,
    out: str | Path,
    players: Sequence[str] = (),
    dtype: str = "float16",
) -> Path:
    """Writes the best variables of a run and its config into a small folder, for passing on.

    Args:
        workdir: folder of the run.
        out: folder to write; `load_variables` and `load_config` read it like a run's.
        players: those that are kept; by default the generator and what else animates, or all
            of a system that has none.
        dtype: of the stored parameters, "float16" or "float32"; batch statistics stay float32.

    Returns:
        The path of the file with the variables.

    Raises:
        UserError: the folder holds no run, it has saved nothing yet, or it lacks a player.
    """
    config = load_config(Path(workdir))
    variables, step = load_variables(Path(workdir))
    animating = [name for name in generating_players(config.system) if name in variables]
    players = players or animating or list(variables)
    if absent := [player for player in players if player not in variables]:
        raise UserError(f"{workdir} has no {', '.join(absent)}: it has {', '.join(variables)}")
    kept = {player: variables[player] for player in players}
    return save_exported(config, kept, step, out, dtype)


def save_exported(
    config: ConfigDict, variables: dict[str, Any], step: int, out: str | Path, dtype: str
) -> Path:
    """Writes an exported checkpoint, of a run or of published weights.

    Args:
        config: of the run; all that animates and evaluates is enough.
        variables: by player.
        step: that they are of; 0 if nobody knows.
        out, dtype: as in `export`.

    Returns:
        The path of the file with the variables.
    """
    arrays: dict[str, np.ndarray | np.int64] = {"step": np.int64(step)}
    for path, leaf in traverse_util.flatten_dict(jax.device_get(variables)).items():
        stored = np.float32 if "batch_stats" in path else dtype
        arrays["/".join(path)] = np.asarray(leaf).astype(stored)
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **arrays)
    save_config(config, Path(out))
    partial = Path(out, EXPORTED_FILE + ".partial")
    partial.write_bytes(buffer.getvalue())
    return partial.replace(Path(out, EXPORTED_FILE))


def _load_exported(path: Path) -> tuple[dict[str, Any], int]:
    arrays = read_npz(path)
    try:
        step = int(arrays.pop("step"))
        leaves = {tuple(name.split("/")): np.float32(array) for name, array in arrays.items()}
        tree = traverse_util.unflatten_dict(leaves)
    except Exception as error:  # Other contents can fail in any way.
        raise UserError(f"{path} holds no exported checkpoint ({error!r}): export again") from error
    check_finite(leaves, path)
    return tree, step


def save_config(config: ConfigDict, workdir: Path) -> None:
    """Writes the config into the run's folder, as JSON."""
    workdir.mkdir(parents=True, exist_ok=True)
    partial = workdir / (CONFIG_FILE + ".partial")
    partial.write_text(json.dumps(config.to_dict(), indent=2) + "\n")
    partial.replace(workdir / CONFIG_FILE)


def load_config(workdir: Path) -> ConfigDict:
    """The config of a run.

    Raises:
        UserError: the folder holds no run.
    """
    path = Path(workdir) / CONFIG_FILE
    try:
        fields = json.loads(path.read_text())
        if not (isinstance(fields, dict) and isinstance(fields.get("system"), str)):
            raise ValueError("it names no system")
        return ConfigDict(fields)
    except FileNotFoundError:
        raise UserError(
            f"no checkpoint in {workdir}: {CONFIG_FILE} is missing; give the --workdir of a run"
        ) from None
    except ValueError as error:
        raise UserError(f"{path} is damaged ({error}); restore it or train again") from None


def load_variables(workdir: Path) -> tuple[dict[str, Any], int]:
    """The best variables of a run (the newest if it was never validated) and their step.

    Raises:
        UserError: nothing was saved.
    """
    folder = Path(workdir).absolute()
    if (folder / EXPORTED_FILE).exists():
        return _load_exported(folder / EXPORTED_FILE)
    damaged = ""
    for name in ("best", "checkpoints"):
        if not (folder / name).is_dir():
            continue
        # Without them the sizes of what was saved are not known.
        handlers: Any = ocp.StandardCheckpointHandler()
        if name != "best":
            plain = dict.fromkeys(("data", "progress"), ocp.JsonCheckpointHandler())
            handlers = {"state": handlers, **plain}
        with ocp.CheckpointManager(folder / name, item_handlers=handlers) as manager:
            for step in sorted(manager.all_steps(), reverse=True):
                try:
                    variables = _restore_variables(manager, step, name)
                    _check(manager, step, {"variables": _checksum(variables)})
                    return variables, step
                except Exception as error:  # Damaged files can fail in any way.
                    damaged = f"{folder / name / str(step)} is damaged ({_reason(error)})"
                    logging.warning("%s: looking for another", damaged)
    if damaged:
        raise UserError(f"{damaged}, and there is no other: restore it or train again")
    raise UserError(f"no checkpoint in {workdir}: the run has not saved one yet; train longer")


def _restore_variables(manager: ocp.CheckpointManager, step: int, folder: str) -> dict[str, Any]:
    # Arrays on the host, whatever devices and processes they were saved by.
    def on_host(metadata):
        return ocp.args.StandardRestore(
            jax.tree.map(lambda leaf: np.empty(leaf.shape, leaf.dtype), metadata.tree)
        )

    metadata = manager.item_metadata(step)
    if folder == "best":
        return manager.restore(step, args=on_host(metadata))
    wanted = ocp.args.Composite(state=on_host(metadata["state"]))
    state = manager.restore(step, args=wanted)["state"]
    return {
        player: {"params": params, "batch_stats": state["batch_stats"].get(player) or {}}
        for player, params in state["params"].items()
    }

"""Checkpoints of a run, in one Orbax save each: state, the loader's place, and progress.

`<workdir>/checkpoints` keeps the newest for resuming; `<workdir>/best` keeps the variables
alone of the step with the best validation metric, which is what `animate` reads.
`<workdir>/config.json` beside them says what they are of. An exported checkpoint is that file and
`variables.npz`, small enough to be passed on; it is read like a run.
"""

import io
import json
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import grain
import jax
import numpy as np
import orbax.checkpoint as ocp
from flax import traverse_util
from ml_collections import ConfigDict

from flax_talk.errors import UserError
from flax_talk.systems import generating_players
from flax_talk.training.step import TrainState

CONFIG_FILE = "config.json"
EXPORTED_FILE = "variables.npz"


class Checkpoints:
    """Saves and restores one run.

    Args:
        workdir: the run's folder.
        keep: newest checkpoints kept.
    """

    def __init__(self, workdir: Path, keep: int):
        folder = Path(workdir).absolute()
        options = ocp.CheckpointManagerOptions(max_to_keep=keep)
        self._newest = ocp.CheckpointManager(folder / "checkpoints", options=options)
        options = ocp.CheckpointManagerOptions(max_to_keep=1)
        self._best = ocp.CheckpointManager(folder / "best", options=options)

    @property
    def latest_step(self) -> int | None:
        """Step of the newest checkpoint, None if there is none."""
        return self._newest.latest_step()

    def save(self, state: TrainState, iterator: Any, progress: dict[str, Any]) -> None:
        """Saves in the background: the arrays are copied before this returns.

        Args:
            iterator: the loader's, whose next batch is the next to train on.
            progress: plain values of the loop, for example of early stopping.
        """
        step = int(state.step)
        if step in self._newest.all_steps():
            return
        self._newest.save(
            step,
            args=ocp.args.Composite(
                state=ocp.args.StandardSave(state),
                data=grain.checkpoint.CheckpointSave(iterator),
                progress=ocp.args.JsonSave(progress),
            ),
        )

    def restore(self, state: TrainState, iterator: Any) -> tuple[TrainState, dict[str, Any]]:
        """The newest checkpoint in the shapes and on the devices of `state`.

        `iterator` is moved to its place; returns (state, progress).
        """
        target = jax.tree.map(ocp.utils.to_shape_dtype_struct, state)
        restored = self._newest.restore(
            self._newest.latest_step(),
            args=ocp.args.Composite(
                state=ocp.args.StandardRestore(target),
                data=grain.checkpoint.CheckpointRestore(iterator),
                progress=ocp.args.JsonRestore(),
            ),
        )
        return restored["state"], restored["progress"]

    def save_best(self, state: TrainState) -> None:
        """Keeps the variables of this step instead of the best before."""
        if int(state.step) not in self._best.all_steps():
            self._best.save(int(state.step), args=ocp.args.StandardSave(state.variables))

    def close(self) -> None:
        """Waits and lets go of the folder."""
        self._newest.close()
        self._best.close()


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
    arrays = {"step": np.int64(step)}
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
    try:
        with np.load(path) as file:
            arrays = dict(file)
        step = int(arrays.pop("step"))
    except (OSError, ValueError, KeyError, zipfile.BadZipFile) as error:
        raise UserError(f"{path} is damaged ({error}); export or download it again") from error
    leaves = {tuple(name.split("/")): np.float32(array) for name, array in arrays.items()}
    return traverse_util.unflatten_dict(leaves), step


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
        return ConfigDict(json.loads(path.read_text()))
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
    for name in ("best", "checkpoints"):
        if not (folder / name).is_dir():
            continue
        with ocp.CheckpointManager(folder / name) as manager:
            step = manager.latest_step()
            if step is None:
                continue
            if name == "best":
                return manager.restore(step, args=ocp.args.StandardRestore()), step
            state = manager.restore(
                step, args=ocp.args.Composite(state=ocp.args.StandardRestore())
            )["state"]
            stats = state["batch_stats"]
            return {
                player: {"params": params, "batch_stats": stats.get(player) or {}}
                for player, params in state["params"].items()
            }, step
    raise UserError(f"no checkpoint in {workdir}: the run has not saved one yet; train longer")

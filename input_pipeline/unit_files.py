"""Files of action units beside the records of a prepared data set, which the loader reads. Ours.

`<data set>/action_units/<clip id>.npz` holds action_units (float32 [T, 5] in [0, 1], in the order
of `ACTION_UNITS`) and source (text: who found them). `flax-talk label` writes them.
"""

import os
from pathlib import Path
from typing import NamedTuple

import numpy as np

from flax_talk.errors import UserError
from flax_talk.interop.array_files import read_npz
from input_pipeline.synthetic.articulation import ACTION_UNITS

FOLDER = "action_units"
"""Of the files, within the folder of a data set's version."""


class UnitFile(NamedTuple):
    """Action units of a clip, float32 [T, 5] in [0, 1], and who found them."""

    action_units: np.ndarray
    source: str


def read(data_set: str | Path, clip_id: str) -> UnitFile | None:
    """The action units of a clip of the data set (version) in a folder; None without a file.

    Raises:
        UserError: the file is damaged.
    """
    path = _path(data_set, clip_id)
    if not path.exists():
        return None
    try:
        file = read_npz(path)
        units, source = np.asarray(file["action_units"], np.float32), str(file["source"])
    except (UserError, KeyError, ValueError) as error:
        raise UserError(
            f"{path} is damaged ({error}): remove it and run flax-talk label again"
        ) from error
    if units.ndim != 2 or units.shape[1] != len(ACTION_UNITS):
        raise UserError(
            f"{path} has action units of shape {units.shape}: remove it and run flax-talk label "
            "again"
        )
    return UnitFile(units, source)


def write(data_set: str | Path, clip_id: str, units: UnitFile) -> None:
    """Writes the action units of a clip; an interruption leaves no half file."""
    path = _path(data_set, clip_id)
    path.parent.mkdir(exist_ok=True)
    unfinished = path.with_name(path.name + ".part")
    with unfinished.open("wb") as file:
        np.savez(file, **units._asdict())
    os.replace(unfinished, path)


def _path(data_set: str | Path, clip_id: str) -> Path:
    return Path(data_set, FOLDER, f"{clip_id}.npz")

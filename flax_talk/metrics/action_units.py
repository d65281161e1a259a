"""Facial action units: how well those of a generated video agree with those of the real one.

F1 score and accuracy of each unit, as in Tables 1 and 2 of Chen et al., "Talking Head Generation
with Audio and Speech Related Facial Action Units", 2021, section 4: the states (activated or not)
of five units in generated frames, detected by OpenFace 2.0 (Baltrusaitis et al. 2018), against
those that it detects in the real frames. `read_openface` reads what that program writes.
"""

import csv
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from flax_talk.errors import UserError

ACTION_UNITS = (10, 14, 20, 25, 26)
"""The units of speech, in the order of every array of action units."""


class OpenFaceUnits(NamedTuple):
    """Action units of T frames by OpenFace.

    Attributes:
        frames: int [T], numbers of the frames, from 1.
        valid: bool [T], whether the face was tracked; else the rest of the row says nothing.
        states: bool [T, U], whether each unit is activated.
        intensities: float32 [T, U], 0 (absent) to 5.
    """

    frames: np.ndarray
    valid: np.ndarray
    states: np.ndarray
    intensities: np.ndarray


def f1(predicted: jax.Array, true: jax.Array, mask: jax.Array | None = None) -> jax.Array:
    """F1 score of each unit: the harmonic mean of precision and recall of its activation.

    Args:
        predicted, true: bool or 0 and 1 [..., N, U], over N frames.
        mask: bool [..., N], valid frames; all by default.

    Returns:
        [..., U], 0 to 1; NaN where a unit is neither predicted nor true in any frame.
    """
    predicted, true, mask = _boolean(predicted, true, mask)
    both = (predicted & true & mask).sum(axis=-2)
    either = (predicted & mask).sum(axis=-2) + (true & mask).sum(axis=-2)
    return 2 * both / either


def accuracy(predicted: jax.Array, true: jax.Array, mask: jax.Array | None = None) -> jax.Array:
    """Share of the frames in which each unit is in the right state.

    Args:
        predicted, true, mask: as of `f1`.

    Returns:
        [..., U], 0 to 1 (the paper prints per cent); NaN without a valid frame.
    """
    predicted, true, mask = _boolean(predicted, true, mask)
    return ((predicted == true) & mask).sum(axis=-2) / mask.sum(axis=-2)


def read_openface(path: str | Path, units: Sequence[int] = ACTION_UNITS) -> OpenFaceUnits:
    """Reads the CSV file that OpenFace's FeatureExtraction writes for a video of one face.

    Args:
        path: the file; its columns `AU10_c` (state) and `AU10_r` (intensity) and so on are read,
            whether or not a space precedes their names.
        units: numbers of U units.

    Returns:
        See `OpenFaceUnits`.

    Raises:
        UserError: the file is missing, has no such columns, a row that is not complete, or several
            faces.
    """
    path = Path(path)
    columns = [f"AU{unit:02d}_{kind}" for kind in "cr" for unit in units]
    try:
        with path.open(newline="") as file:
            rows = [[cell.strip() for cell in row] for row in csv.reader(file) if row]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise UserError(f"cannot read {path}: {error}") from error
    header = rows[0] if rows else []
    missing = [name for name in ("frame", "success", *columns) if name not in header]
    if missing:
        raise UserError(
            f"no column {missing[0]} in {path}: give the CSV file of OpenFace's "
            "FeatureExtraction, run with -aus"
        )
    indices = [header.index(name) for name in ("frame", "success", *columns)]
    table = np.zeros((len(rows) - 1, len(indices)), np.float32)
    for line, row in enumerate(rows[1:]):
        try:
            table[line] = [float(row[index]) for index in indices]
        except (IndexError, ValueError) as error:
            raise UserError(
                f"row {line + 2} of {path} is not complete: run OpenFace again"
            ) from error
    frames = table[:, 0].astype(int)
    if len(np.unique(frames)) < len(frames):
        raise UserError(f"several faces in {path}: run FeatureExtraction on a video of one face")
    states, intensities = np.split(table[:, 2:], 2, axis=1)
    return OpenFaceUnits(frames, table[:, 1] > 0.5, states > 0.5, intensities)


def _boolean(
    predicted: jax.Array, true: jax.Array, mask: jax.Array | None
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """All three as bool, the mask as [..., N, 1]."""
    predicted, true = jnp.asarray(predicted, bool), jnp.asarray(true, bool)
    mask = jnp.ones(true.shape[:-1], bool) if mask is None else jnp.asarray(mask, bool)
    return predicted, true, mask[..., None]

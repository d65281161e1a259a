"""Files of arrays from anywhere, `.npz` and HDF5, read within limits and never as code.

What is not to be trusted in them: an archive of a few kilobytes that unpacks to terabytes, shapes
that no memory holds, pickled objects, links to other files, numbers that are not finite. Names in
them are keys and never become paths.
"""

import importlib.util
import math
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from flax_talk.errors import UserError

MAX_BYTES = 4 * 2**30
"""Of all arrays of a file together; the largest that is read, Inception v3, has 0.1 of 2**30."""
MAX_ARRAYS = 100_000


def read_npz(path: str | Path) -> dict[str, np.ndarray]:
    """The arrays of an `.npz` file, by name.

    Raises:
        UserError: the file is missing, damaged, holds objects, or is larger than `MAX_BYTES`
            unpacked or `MAX_ARRAYS`.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            members = archive.infolist()
        size = sum(member.file_size for member in members)
        if size > MAX_BYTES or len(members) > MAX_ARRAYS:
            raise ValueError(f"{len(members)} arrays of {size} bytes are more than is read")
        with np.load(path, allow_pickle=False) as file:
            return dict(file)
    except FileNotFoundError:
        raise UserError(f"no file {path}: check the path") from None
    except Exception as error:  # A damaged archive can fail in any way.
        raise UserError(f"{path} is not a whole .npz file: {_short(error)}") from error


def read_hdf5(path: Path, place: Callable[[str, int], str | None]) -> dict[str, np.ndarray]:
    """Some of the arrays of an HDF5 file.

    Args:
        path: of the file; what it links to in others is not read.
        place: name in the file, such as `conv1/conv1/kernel:0`, and rank to the key it gets, or
            None.

    Raises:
        UserError: h5py is missing, or the file is missing, damaged, or larger than `MAX_BYTES`.
    """
    if importlib.util.find_spec("h5py") is None:
        raise UserError(f"reading {path} takes h5py: pip install h5py")
    import h5py

    if not path.is_file():
        raise UserError(f"no file {path}: check the path")
    arrays: dict[str, np.ndarray] = {}
    total = 0

    def collect(name: str, node: Any) -> None:
        nonlocal total
        key = place(name, node.ndim) if isinstance(node, h5py.Dataset) else None
        if key is None:
            return
        total += node.size * node.dtype.itemsize
        if total > MAX_BYTES or len(arrays) >= MAX_ARRAYS:
            raise ValueError(f"{name} of shape {node.shape} is more than is read")
        if node.dtype.kind not in "fiu" or node.external or node.is_virtual:
            raise ValueError(f"{name} is no array of numbers of this file")
        arrays[key] = node[()]

    try:
        with h5py.File(path) as file:
            file.visititems(collect)
    except Exception as error:  # A damaged file can fail in any way.
        raise UserError(f"{path} is not a whole HDF5 file: {_short(error)}") from error
    return arrays


def check_finite(arrays: Any, path: str | Path) -> None:
    """Refuses weights that are not numbers, of a tree of arrays from a file.

    Raises:
        UserError: names the first array with NaN or infinity.
    """
    # Not at the top: data are prepared without JAX.
    import jax

    for place, array in jax.tree_util.tree_leaves_with_path(arrays):
        # The sum of finite numbers may overflow, but what is not finite never adds up to a number.
        if not math.isfinite(np.sum(array, dtype=np.float64)) and not np.isfinite(array).all():
            name = "/".join(map(_key, place))
            raise UserError(f"{name} of {path} is not finite: the weights are of no use")


def _key(key: Any) -> str:
    names = key.key if hasattr(key, "key") else key
    return "/".join(names) if isinstance(names, tuple) else str(names)


def _short(error: Exception) -> str:
    return " ".join(str(error).split())[:200] or type(error).__name__

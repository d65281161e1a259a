"""Files of PyTorch's `torch.save`, read without PyTorch and without running what they contain.

Such a file is a pickle whose tensors refer to storages: since PyTorch 1.6 a zip archive with one
member for each, before it (as most published weights are) five pickles in a row and the
storages behind them. A pickle can name any function to be called; here it can name those that
make tensors, arrays and ordered dictionaries, and the file is refused if it names another one.
"""

import collections
import pickle
import zipfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, BinaryIO

import ml_dtypes
import numpy as np

from flax_talk.errors import UserError

_MAGIC_NUMBER = 0x1950A86A20F9469CFC6C
_PROTOCOL = 1001
_STORAGES = {
    "Float": "<f4",
    "Double": "<f8",
    "Half": "<f2",
    "BFloat16": ml_dtypes.bfloat16,
    "Long": "<i8",
    "Int": "<i4",
    "Short": "<i2",
    "Char": "i1",
    "Byte": "u1",
    "Bool": "?",
}


def read_torch(path: str | Path) -> Any:
    """The object in a file of `torch.save`, its tensors as arrays.

    Args:
        path: the file, such as a state dict: dictionaries, lists, tuples, plain values, tensors and
            NumPy arrays.

    Returns:
        The object; arrays may be read-only and share memory, as the tensors did.

    Raises:
        UserError: the file is missing, damaged, of another kind, or names code of its own, as a
            whole pickled module does.
    """
    path = Path(path)
    try:
        with path.open("rb") as file:
            is_archive = file.read(4) == b"PK\x03\x04"
            file.seek(0)
            return _read_archive(file) if is_archive else _read_legacy(file)
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror or error}") from error
    except _ForeignCode as error:
        raise UserError(
            f"{path} calls {error}, which weights alone do not: save its state dict instead"
        ) from error
    except Exception as error:  # A damaged pickle can fail in any way.
        raise UserError(f"{path} is not a whole file of torch.save: {error}") from error


class _ForeignCode(Exception):
    """The name of what a pickle wants to call."""


class _Unpickler(pickle.Unpickler):
    """Makes arrays of tensors; `storage` gives the array [N] of (key, dtype, N)."""

    def __init__(self, file: BinaryIO, storage: Callable[[str, np.dtype, int], np.ndarray | None]):
        super().__init__(file)
        self._storage = storage

    def find_class(self, module: str, name: str) -> Any:
        if module == "torch" and name.endswith("Storage"):
            return np.dtype(_STORAGES[name.removesuffix("Storage")])
        if (module, name) not in _ALLOWED:
            raise _ForeignCode(f"{module}.{name}")
        return _ALLOWED[module, name]

    def persistent_load(self, saved: tuple) -> np.ndarray | None:
        kind, dtype, key, _, size, *view = saved
        if kind != "storage":
            raise pickle.UnpicklingError(f"no tensor but a {kind}")
        storage = self._storage(key, dtype, size)
        if storage is None or not view or view[0] is None:
            return storage
        _, start, length = view[0]
        return storage[start : start + length]


def _read_archive(file: BinaryIO) -> Any:
    with zipfile.ZipFile(file) as archive:
        (pickled,) = (name for name in archive.namelist() if name.endswith("/data.pkl"))
        folder = pickled.removesuffix("data.pkl")
        storages: dict[str, np.ndarray] = {}

        def storage(key, dtype, size):
            if key not in storages:
                storages[key] = np.ndarray(size, dtype, archive.read(f"{folder}data/{key}"))
            return storages[key]

        with archive.open(pickled) as stream:
            return _Unpickler(stream, storage).load()


def _read_legacy(file: BinaryIO) -> Any:
    found: dict[str, tuple[np.dtype, int]] = {}

    def note(key, dtype, size):
        found[key] = dtype, size

    head = [_Unpickler(file, note).load() for _ in range(3)]
    if head[:2] != [_MAGIC_NUMBER, _PROTOCOL]:
        raise pickle.UnpicklingError("no magic number")
    start = file.tell()
    # The storages lie behind the object that needs them: it is read twice.
    _Unpickler(file, note).load()
    storages = {}
    for key in _Unpickler(file, note).load():
        dtype, size = found[key]
        if int.from_bytes(file.read(8), "little") != size:
            raise pickle.UnpicklingError(f"storage {key} is not {size} long")
        storages[key] = np.ndarray(size, dtype, file.read(size * dtype.itemsize))
    file.seek(start)
    return _Unpickler(file, lambda key, dtype, size: storages[key]).load()


def _rebuild_tensor(
    storage: np.ndarray | None, offset: int, size: Sequence[int], stride: Sequence[int], *_: Any
) -> np.ndarray | None:
    """View of a storage [N], or None on the first of two readings."""
    if storage is None:
        return None
    last = offset + sum((n - 1) * step for n, step in zip(size, stride, strict=True))
    if min([offset, *size, *stride]) < 0 or (0 not in size and last >= len(storage)):
        raise pickle.UnpicklingError("a tensor reaches beyond its storage")
    steps = [step * storage.itemsize for step in stride]
    return np.lib.stride_tricks.as_strided(storage[offset:], size, steps, writeable=False)


def _rebuild_parameter(data: np.ndarray | None, *_: Any) -> np.ndarray | None:
    return data


_ALLOWED = {
    ("collections", "OrderedDict"): collections.OrderedDict,
    ("torch._utils", "_rebuild_tensor"): _rebuild_tensor,
    ("torch._utils", "_rebuild_tensor_v2"): _rebuild_tensor,
    ("torch._utils", "_rebuild_parameter"): _rebuild_parameter,
    ("torch", "Size"): tuple,
    ("_codecs", "encode"): lambda text, _: text.encode("latin1"),  # bytes in old pickles
    ("numpy", "ndarray"): np.ndarray,
    ("numpy", "dtype"): np.dtype,
    **{
        (f"numpy.{core}.multiarray", function.__name__): function
        for core in ("core", "_core")
        for function in (np._core.multiarray._reconstruct, np._core.multiarray.scalar)
    },
}
"""What a pickle may call, by module and name."""

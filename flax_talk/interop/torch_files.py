"""Files of PyTorch's `torch.save`, read and written without PyTorch, and read without running
what they contain.

Such a file is a pickle whose tensors refer to storages: since PyTorch 1.6 a zip archive with one
member for each, before it (as most published weights are) five pickles in a row and the
storages behind them. A pickle can name any function to be called; here it can name those that
make tensors, arrays and ordered dictionaries, and the file is refused if it names another one. What
it can name cannot be changed by it, arrays are of plain numbers, and neither sizes nor shapes
can ask for more memory than the file has bytes.
"""

import collections
import math
import os
import pickle
import zipfile
from collections.abc import Callable, Mapping, Sequence
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

MAX_BYTES = 4 * 2**30
"""Of a file; published weights have less than 1 GB."""

_NUMBERS = "biuf"  # kinds of NumPy's dtypes, without objects and what may hold them


def read_torch(path: str | Path) -> Any:
    """The object in a file of `torch.save`, its tensors as arrays.

    Args:
        path: the file, such as a state dict: dictionaries, lists, tuples, plain values, tensors and
            NumPy arrays.

    Returns:
        The object; arrays may be read-only and share memory, as the tensors did.

    Raises:
        UserError: the file is missing, cut off, damaged, of another kind (a git-lfs pointer and a
            web page are named as such), or names code of its own, as a whole pickled module does.
    """
    path = Path(path)
    try:
        with path.open("rb") as file:
            return _read(file)
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror or error}") from error
    except _ForeignCode as error:
        raise UserError(
            f"{path} calls {error}, which weights alone do not: save its state dict instead"
        ) from error
    except _OtherFile as error:
        raise UserError(f"{path} is {error}") from error
    except Exception as error:  # A damaged pickle can fail in any way.
        raise UserError(f"{path} is not a whole file of torch.save: {error}") from error


def write_torch(path: str | Path, value: Any) -> Path:
    """Writes a file that `torch.load` and `read_torch` read, an archive as of PyTorch 1.6.

    Args:
        path: the file, whose folder is created; it appears complete or not at all.
        value: dictionaries, lists, tuples, plain values, and arrays, which become tensors.

    Returns:
        The path.

    Raises:
        UserError: the file cannot be written.
    """
    path = Path(path)
    storages: list[np.ndarray] = []
    pickled = pickle.PROTO + b"\x02" + _pickled(value, storages) + pickle.STOP
    members = {"data.pkl": pickled, "version": b"3\n", "byteorder": b"little"}
    partial = path.with_name(path.name + ".partial")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with zipfile.ZipFile(partial, "w") as archive:
            # With a `ZipInfo`, which has a fixed date, equal weights make equal files.
            for name, content in members.items():
                archive.writestr(zipfile.ZipInfo(f"archive/{name}"), content)
            for key, array in enumerate(storages):
                little = array.astype(array.dtype.newbyteorder("<"), copy=False)
                archive.writestr(zipfile.ZipInfo(f"archive/data/{key}"), little.tobytes())
        return partial.replace(path)
    except OSError as error:
        if partial.is_file():
            partial.unlink()
        raise UserError(f"cannot write {path}: {error.strerror or error}") from error


class _ForeignCode(Exception):
    """The name of what a pickle wants to call."""


class _OtherFile(Exception):
    """What a file is instead of one of `torch.save`, and what to do."""


# The unpickler in Python: that in C makes room for as many objects as a pickle says it will have.
class _Unpickler(pickle._Unpickler):
    """Makes arrays of tensors; `storage` gives the array [N] of (key, dtype, N)."""

    def __init__(self, file: BinaryIO, storage: Callable[[str, np.dtype, int], np.ndarray | None]):
        super().__init__(file)
        self._storage = storage

    def load(self) -> Any:
        try:
            return super().load()
        except KeyError as error:
            raise pickle.UnpicklingError(f"invalid load key, {error}") from error

    def find_class(self, module: str, name: str) -> Any:
        if module == "torch" and name.endswith("Storage"):
            return name.removesuffix("Storage")
        if (module, name) not in _ALLOWED:
            raise _ForeignCode(f"{module}.{name}")
        return _ALLOWED[module, name]

    def persistent_load(self, saved: tuple) -> np.ndarray | None:
        kind, numbers, key, _, size, *view = saved
        if kind != "storage":
            raise pickle.UnpicklingError(f"no tensor but a {kind}")
        storage = self._storage(key, np.dtype(_STORAGES[numbers]), size)
        if storage is None or not view or view[0] is None:
            return storage
        _, start, length = view[0]
        return storage[start : start + length]


def _read(file: BinaryIO) -> Any:
    head = file.read(1024).lstrip(b"\xef\xbb\xbf \t\r\n")
    if head.startswith(b"version https://git-lfs"):
        raise _OtherFile("a git-lfs pointer: run 'git lfs pull', or download what it points to")
    if head.startswith(b"<"):
        raise _OtherFile("a web page: download the file itself, in a browser if it asks for more")
    is_archive = head.startswith(b"PK\x03\x04")
    size = file.seek(0, os.SEEK_END)
    cut = EOFError(f"it ends too soon, after {size} bytes: download or copy it again")
    # The table of contents of an archive is at its end.
    if is_archive and not zipfile.is_zipfile(file):
        raise cut
    if size > MAX_BYTES:
        raise _OtherFile(f"{size} bytes long, over the limit of {MAX_BYTES}: give weights alone")
    file.seek(0)
    try:
        return _read_archive(file) if is_archive else _read_legacy(file)
    except Exception as error:
        # A name that is cut is another name.
        if not is_archive and file.tell() == size:
            raise cut from error
        raise


def _read_archive(file: BinaryIO) -> Any:
    with zipfile.ZipFile(file) as archive:
        (pickled,) = (name for name in archive.namelist() if name.endswith("/data.pkl"))
        # PyTorch compresses nothing: what does may unpack to anything.
        members = archive.infolist()
        stored = sum(member.file_size for member in members)
        if stored > os.fstat(file.fileno()).st_size or any(m.compress_type for m in members):
            raise pickle.UnpicklingError("its members are compressed or overlap")
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
    if math.prod(size) > len(storage):
        raise pickle.UnpicklingError("a tensor is larger than its storage")
    steps = [step * storage.itemsize for step in stride]
    return np.lib.stride_tricks.as_strided(storage[offset:], size, steps, writeable=False)


def _rebuild_parameter(data: np.ndarray | None, *_: Any) -> np.ndarray | None:
    return data


class _Dtype:
    """The dtype of a pickled array: plain numbers, whatever the pickle says next."""

    def __init__(self, name: str, *_: Any):
        self.dtype = np.dtype(name)
        if self.dtype.kind not in _NUMBERS:
            raise pickle.UnpicklingError(f"an array of {name}")

    def __setstate__(self, state: tuple) -> None:
        if state[1] in ("<", ">"):
            self.dtype = self.dtype.newbyteorder(state[1])


class _Array(np.ndarray):
    """A pickled array, whose content comes last."""

    def __setstate__(self, state: tuple) -> None:
        _, shape, dtype, is_fortran, content = state
        super().__setstate__((1, shape, dtype.dtype, is_fortran, content))


def _reconstruct(*_: Any) -> np.ndarray:
    return np.zeros(0, np.uint8).view(_Array)


def _scalar(dtype: _Dtype, content: bytes) -> np.generic:
    return np.frombuffer(content, dtype.dtype, 1)[0]


class _Callable:
    """What a pickle may call, and not change as it may change what it makes."""

    __slots__ = ("_function",)

    def __init__(self, function: Callable[..., Any]):
        self._function = function

    def __call__(self, *arguments: Any) -> Any:
        return self._function(*arguments)

    def __setstate__(self, state: Any) -> None:
        raise _ForeignCode("for a change of what makes arrays")


_ALLOWED = {
    ("collections", "OrderedDict"): _Callable(collections.OrderedDict),
    ("torch._utils", "_rebuild_tensor"): _Callable(_rebuild_tensor),
    ("torch._utils", "_rebuild_tensor_v2"): _Callable(_rebuild_tensor),
    ("torch._utils", "_rebuild_parameter"): _Callable(_rebuild_parameter),
    ("torch", "Size"): _Callable(tuple),
    # bytes in old pickles
    ("_codecs", "encode"): _Callable(lambda text, _: text.encode("latin1")),
    ("numpy", "ndarray"): "numpy.ndarray",
    ("numpy", "dtype"): _Callable(_Dtype),
    **{
        (f"numpy.{core}.multiarray", name): _Callable(function)
        for core in ("core", "_core")
        for name, function in (("_reconstruct", _reconstruct), ("scalar", _scalar))
    },
}
"""What a pickle may name, by module and name."""


def _pickled(value: Any, storages: list[np.ndarray]) -> bytes:
    """Opcodes of protocol 2 that make a value; those of an array refer to what they add to the
    storages, and PyTorch's functions are only named, so that none of them is needed."""

    def all_pickled(values):
        return b"".join(_pickled(item, storages) for item in values)

    def name(module, attribute):
        return pickle.GLOBAL + f"{module}\n{attribute}\n".encode()

    def tuple_of(*opcodes):
        return pickle.MARK + b"".join(opcodes) + pickle.TUPLE

    if isinstance(value, Mapping):
        items = (part for item in value.items() for part in item)
        return pickle.EMPTY_DICT + pickle.MARK + all_pickled(items) + pickle.SETITEMS
    if isinstance(value, list):
        return pickle.EMPTY_LIST + pickle.MARK + all_pickled(value) + pickle.APPENDS
    if isinstance(value, tuple):
        return tuple_of(all_pickled(value))
    if not isinstance(value, np.ndarray):
        if type(value) not in (str, int, float, bool, type(None)):
            raise TypeError(f"neither an array nor a plain value: {value!r}")
        # Without the number of the protocol in front and the stop behind.
        return pickle.dumps(value, protocol=2)[2:-1]
    array = np.ascontiguousarray(value).reshape(value.shape)
    kinds = [kind for kind, dtype in _STORAGES.items() if np.dtype(dtype) == array.dtype]
    if not kinds:
        raise TypeError(f"PyTorch has no {array.dtype}")
    strides = tuple(step // array.itemsize for step in array.strides)
    key = str(len(storages))
    storages.append(array)
    storage = tuple_of(
        _pickled("storage", storages),
        name("torch", f"{kinds[0]}Storage"),
        all_pickled((key, "cpu", array.size)),
    )
    hooks = name("collections", "OrderedDict") + pickle.EMPTY_TUPLE + pickle.REDUCE
    arguments = tuple_of(
        storage + pickle.BINPERSID, all_pickled((0, array.shape, strides, False)), hooks
    )
    return name("torch._utils", "_rebuild_tensor_v2") + arguments + pickle.REDUCE

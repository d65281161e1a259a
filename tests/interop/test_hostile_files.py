"""Files of weights that are made to do harm: they end in one line, and nothing else happens."""

import io
import os
import pickle
import zipfile
import zlib

import numpy as np
import pytest

from flax_talk.errors import UserError
from flax_talk.interop import array_files, torch_files
from flax_talk.interop.array_files import read_hdf5, read_npz
from flax_talk.interop.syncnet import load_syncnet
from flax_talk.interop.torch_files import read_torch
from flax_talk.training.checkpoints import load_variables


def archive(path, pickled, members=(), compression=zipfile.ZIP_STORED):
    with zipfile.ZipFile(path, "w", compression) as file:
        file.writestr("archive/data.pkl", pickled)
        for name, content in members:
            file.writestr(name, content)
    return path


def refused(read, path, says):
    with pytest.raises(UserError, match=says) as caught:
        read(path)
    assert "\n" not in str(caught.value) and str(path) in str(caught.value)


def opcodes(*parts) -> bytes:
    return pickle.PROTO + b"\x02" + b"".join(parts) + pickle.STOP


def named(module, name):
    return pickle.GLOBAL + f"{module}\n{name}\n".encode()


def plain(value):
    return pickle.dumps(value, protocol=2)[2:-1]


def called(function, *arguments):
    return function + pickle.MARK + b"".join(arguments) + pickle.TUPLE + pickle.REDUCE


def dtype(name, *state):
    made = called(named("numpy", "dtype"), plain(name), plain(False), plain(True))
    return made + plain(state) + pickle.BUILD if state else made


def array(kind, content=b"", shape=(1,)):
    """A pickled NumPy array, as NumPy pickles it."""
    empty = called(
        named("numpy.core.multiarray", "_reconstruct"),
        named("numpy", "ndarray"),
        plain((0,)),
        plain(b"b"),
    )
    state = pickle.MARK + plain(1) + plain(shape) + kind + plain(False)
    content = called(named("_codecs", "encode"), plain(content.decode("latin1")), plain("latin1"))
    return empty + state + content + pickle.TUPLE + pickle.BUILD


POINTER = bytes(range(8))
SYSTEM = called(named("os", "system"), plain("touch witness"))
PICKLES = {
    "runs a command": (opcodes(SYSTEM), "calls os.system"),
    "imports code": (opcodes(named("builtins", "eval")), "calls builtins.eval"),
    "reaches through a name": (
        opcodes(named("torch._utils", "os.system")),
        "calls torch._utils.os",
    ),
    "objects of a dtype": (opcodes(array(dtype("O"), POINTER)), "an array of O"),
    "objects in a field": (
        opcodes(called(named("numpy", "dtype"), plain([("a", "O")]))),
        "an array of",
    ),
    "a dtype that becomes one of objects": (
        opcodes(array(dtype("V8", 3, "|", None, ("a",), {"a": 0}, 8, 1, 63), POINTER)),
        "an array of V8",
    ),
    "a scalar of objects": (
        opcodes(called(named("numpy.core.multiarray", "scalar"), dtype("O"), plain(POINTER))),
        "an array of O",
    ),
    "a change of what is called": (
        opcodes(named("torch._utils", "_rebuild_tensor_v2"), plain({"__code__": 1}), pickle.BUILD),
        "a change of",
    ),
    "an array of more than it holds": (
        opcodes(array(dtype("f8"), bytes(8), (10**6,))),
        "not a whole file",
    ),
    "a memo of billions": (
        opcodes(plain(1), pickle.LONG_BINPUT + (2**31 - 1).to_bytes(4, "little"))[:-1],
        "not a whole file",
    ),
    "lists in lists": (b"\x80\x02" + b"]" * 100_000 + b"a" * 99_999 + b".", None),
    "no pickle": (b"\x80\x02garbage", "not a whole file"),
}


@pytest.mark.parametrize("kind", ["archive", "legacy"])
@pytest.mark.parametrize("name", PICKLES)
def test_pickles_do_nothing_but_make_arrays(name, kind, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    pickled, says = PICKLES[name]
    path = tmp_path / "weights.pth"
    if kind == "archive":
        archive(path, pickled)
    else:
        path.write_bytes(pickled)
    if says is None and kind == "archive":
        assert isinstance(read_torch(path), list)
    else:
        refused(read_torch, path, says or "not a whole file")
    assert [found.name for found in tmp_path.iterdir()] == ["weights.pth"]
    # What reads is as it was.
    np.testing.assert_array_equal(torch_files._reconstruct().shape, (0,))
    assert np.dtype("<f4") == np.float32


def test_plain_arrays_in_a_pickle_are_read(tmp_path):
    state = {
        "face": np.arange(6.0).reshape(3, 2).T,
        "one": np.float32(2.5),
        "big": np.arange(3, dtype=">i2"),
    }
    path = archive(tmp_path / "weights.pth", pickle.dumps(state, protocol=2))
    got = read_torch(path)
    for name, value in state.items():
        np.testing.assert_array_equal(got[name], value)
        assert got[name].dtype == value.dtype.newbyteorder("=")


def tensor(shape, stride, size):
    """A tensor of a storage of so many float32."""
    storage = pickle.MARK + plain("storage") + named("torch", "FloatStorage") + plain("0")
    storage += plain("cpu") + plain(size) + pickle.TUPLE + pickle.BINPERSID
    hooks = called(named("collections", "OrderedDict"))
    shape, stride = plain(shape), plain(stride)
    rebuild = named("torch._utils", "_rebuild_tensor_v2")
    return opcodes(called(rebuild, storage, plain(0), shape, stride, plain(False), hooks))


def test_shapes_cannot_ask_for_more_than_the_file_has(tmp_path):
    stored = [("archive/data/0", bytes(40))]
    path = archive(tmp_path / "a.pth", tensor((2, 5), (5, 1), 10), stored)
    assert read_torch(path).shape == (2, 5)
    archive(path, tensor((10**6, 10**6), (0, 0), 10), stored)
    refused(read_torch, path, "larger than its storage")
    archive(path, tensor((10**12,), (1,), 10**12), stored)
    refused(read_torch, path, "not a whole file")


def test_a_zip_bomb_is_not_unpacked(tmp_path, monkeypatch):
    path = tmp_path / "a.pth"
    archive(
        path,
        tensor((10**7,), (1,), 10**7),
        [("archive/data/0", bytes(4 * 10**7))],
        zipfile.ZIP_DEFLATED,
    )
    assert path.stat().st_size < 100_000
    monkeypatch.setattr(zipfile.ZipFile, "read", lambda *_: pytest.fail("it was unpacked"))
    refused(read_torch, path, "compressed or overlap")
    monkeypatch.setattr(array_files, "MAX_BYTES", 10**6)
    np.savez_compressed(tmp_path / "a.npz", a=np.zeros(10**6))
    monkeypatch.setattr(np, "load", lambda *_, **__: pytest.fail("it was unpacked"))
    refused(read_npz, tmp_path / "a.npz", "more than is read")


def test_files_have_limits(tmp_path, monkeypatch):
    monkeypatch.setattr(torch_files, "MAX_BYTES", 10)
    refused(read_torch, archive(tmp_path / "a.pth", plain(1)), "over the limit of 10")
    monkeypatch.setattr(array_files, "MAX_ARRAYS", 3)
    np.savez(tmp_path / "a.npz", *range(4))
    refused(read_npz, tmp_path / "a.npz", "4 arrays")


def npy(header: str) -> bytes:
    head = header.encode().ljust(117) + b"\n"
    return b"\x93NUMPY\x01\x00" + len(head).to_bytes(2, "little") + head + bytes(16)


HEADERS = {
    "more than any memory": "{'descr': '<f8', 'fortran_order': False, 'shape': (10000000000000,)}",
    "objects": "{'descr': '|O', 'fortran_order': False, 'shape': (2,)}",
    "code": "{'descr': __import__('os').system('touch witness'), 'shape': (2,)}",
    "less than it says": "{'descr': '<f8', 'fortran_order': False, 'shape': (5,)}",
}


@pytest.mark.parametrize("name", HEADERS)
def test_arrays_that_lie_are_refused(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with zipfile.ZipFile("a.npz", "w") as file:
        file.writestr("a.npy", npy(HEADERS[name]))
    refused(read_npz, tmp_path / "a.npz", "a.npz is not a whole")
    assert not (tmp_path / "witness").exists()


def test_names_that_climb_out_write_nothing(tmp_path):
    folder = tmp_path / "deep" / "down"
    folder.mkdir(parents=True)
    with zipfile.ZipFile(folder / "variables.npz", "w") as file:
        for name in ("../../out.npy", "/tmp/flax_talk_out.npy", "step.npy"):
            buffer = io.BytesIO()
            np.save(buffer, np.float32(1))
            file.writestr(name, buffer.getvalue())
    load_variables(folder)
    before = sorted(path.name for path in tmp_path.rglob("*"))
    assert before == ["deep", "down", "variables.npz"] and not os.path.exists(
        "/tmp/flax_talk_out.npy"
    )


EXPORTS = {
    "flipped": "is not a whole",
    "no step": "holds no exported checkpoint",
    "texts": "holds no exported checkpoint",
    "a leaf within a leaf": "holds no exported checkpoint",
    "not numbers": "generator/params/a of .* is not finite",
}


@pytest.mark.parametrize("name", EXPORTS)
def test_exports_that_are_none_are_one_line(name, tmp_path):
    path = tmp_path / "variables.npz"
    numbers = np.random.default_rng(0).normal(size=2000).astype(np.float32)
    arrays = {"step": 3, "generator/params/a": numbers}
    if name == "no step":
        del arrays["step"]
    if name == "texts":
        arrays["generator/params/a"] = np.array(["a"])
    if name == "a leaf within a leaf":
        arrays["generator/params/a/b"] = numbers
    if name == "not numbers":
        numbers[77] = np.nan
    np.savez_compressed(path, **arrays)
    if name == "flipped":
        content = bytearray(path.read_bytes())
        content[len(content) // 2] ^= 255
        path.write_bytes(content)
    refused(lambda path: load_variables(path.parent), path, EXPORTS[name])


def test_hdf5_is_read_within_limits_and_no_link_is_followed(tmp_path):
    h5py = pytest.importorskip("h5py")
    secret, path = tmp_path / "secret.h5", tmp_path / "a.h5"
    with h5py.File(secret, "w") as file:
        file["conv1/kernel"] = np.ones(3)
    with h5py.File(path, "w") as file:
        file["conv2/kernel"] = np.arange(3.0)
        file["conv1"] = h5py.ExternalLink("secret.h5", "conv1")
    found = read_hdf5(path, lambda name, rank: name)
    assert list(found) == ["conv2/kernel"]
    (tmp_path / "raw").write_bytes(bytes(24))
    cases = {
        "more than is read": lambda file: file.create_dataset("a", (10**12,), "f8", chunks=(1000,)),
        "no array of numbers": lambda file: file.create_dataset("a", data="text"),
        "no array of numbers of": lambda file: file.create_dataset(
            "a", (3,), "f8", external=[(str(tmp_path / "raw"), 0, 24)]
        ),
    }
    for says, write in cases.items():
        with h5py.File(path, "w") as file:
            write(file)
        refused(lambda path: read_hdf5(path, lambda name, rank: name), path, says)


def test_weights_that_are_no_numbers_are_named(tmp_path, save_torch):
    tree = {"a": {"kernel": np.ones(3), "bias": np.array([1, np.inf, -np.inf])}}
    with pytest.raises(UserError, match="a/bias of w.pth is not finite"):
        array_files.check_finite(tree, "w.pth")
    array_files.check_finite({"a": np.full(4, 3e38, np.float32)}, "w.pth")
    path = save_torch(
        tmp_path / "w.pth", {"netcnnlip.0.weight": np.ones((2, 2)), "more": np.ones(1)}
    )
    refused(load_syncnet, path, "no netcnnlip")


def test_a_damaged_member_of_an_archive_is_one_line(tmp_path):
    """Zlib's error is neither an OSError nor one of zipfile."""
    path = tmp_path / "a.npz"
    np.savez_compressed(path, a=np.random.default_rng(0).normal(size=500))
    content = bytearray(path.read_bytes())
    start = content.index(b"a.npy") + 40
    content[start : start + 50] = bytes(50)
    path.write_bytes(content)
    with pytest.raises((zlib.error, zipfile.BadZipFile, ValueError)), np.load(path) as file:
        dict(file)
    refused(read_npz, path, "not a whole")

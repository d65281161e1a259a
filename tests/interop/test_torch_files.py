import base64
import os
import pickle
import zipfile
import zlib

import ml_dtypes
import numpy as np
import pytest

from flax_talk.errors import UserError
from flax_talk.interop.torch_files import read_torch, write_torch

# Both written by PyTorch 2.13 (then zlib, base64): an OrderedDict of
#   t = torch.arange(12.).reshape(3, 4)
#   weight=t[1:].t(), half=torch.tensor([0.5, -2.0], dtype=torch.bfloat16),
#   count=torch.tensor(3), shared=t, parameter=torch.nn.Parameter(torch.tensor([1.5])),
#   array=np.array([[1, 2], [3, 4]], np.int16)
LEGACY = (
    "eNp1U1tP1EAUnl64VVC8i1e8d72se6llUXQBEROrq9SXvpim2460prR72ikGE5J9YQF/gw8++jP4Kb76E0xM9EwLKHGd"
    "9px2Zs5835lvznTFT0r48/Pij8n3X19PlLviy+8S+nUgqjVOCOkkMYvdOLRXaZIGcQQCBlhjOBMGjIXUppEXOBGIW5aC"
    "g2ytQ+00+EhTkNZBVq0BHEz9OGEwYIiWhL0gYjBoyJbMMeJoGYYMOcuQ00WakLoMWVLlVeLRhHoLgcsUICUTBNUaxBUf"
    "aLDsMxBdFieuX7YzFoSpYie0nQWhZzMapXFir9YUkFTVGuLsGOksU5CLJcpiGDvsTTGowIB1GGOmtUpNq9Y1vVGdmtJh"
    "ME/U7WSY22iLwfCSIeMj9mDEEAy5B8q2z3M6xGDUhLF8K74TvoPDPrL6e0zzOVVV3yc78oesojW0il6p6jDuDxkikhxd"
    "MoghbsAxQ9iA4wXBCQYnTTiVq+jGGSp3+gDDC9RvH/3MAfRaQ9N0DSYQXUD0s4heKhWo5xicN+FCrmfqOygzXCxg/b5y"
    "XPILGSZ5hhLf/2VUQ+jBlQLvKoNrJly3Rni9OImzQhlN4MZ/jmg/QoGb/7Ji5nW90qjXQN3NvMRZUZJb3N0uGO8wuGtC"
    "eSvv3NuEignVXCQnSZw1qLlRttJZK9tunNDyShayIJ/gSbhYXSzJeFnVizAl8opZ0AyyAfddXOZRN1VoxH8U0C0Bodsw"
    "lSsWOiyIqtDowbQJDzbhoQkzKpaFyOvj0S6kxy+CAo8tkVd8DZrbW5swa8Kcakg52gzMt1qt57+w5c4gDJ60t33dGsZZ"
    "gYhEIjKBBR95npqwyOBZm1+St/xi9jlnoZ+EYr96k/odsUzLPCvepN3vXp+Qnaa499skO6Pk79ZtopvFF62L9gVtB+0b"
    "GpkjZBxtEq0y9xujhSs7"
)

ARCHIVE = (
    "eNqlVd1v21QUv3Y+Z0b6waBbgTIGgwS2NHGaOFm7pjXDDxiVzggpmpAix3FjC8fOcW46ioRUaWq78oYEPCHEC497hjf6"
    "L/A2pD0M7QnxwJ8A99pNZju0EetNru3E9/dxj8853pRjcYTSaTQ2ptEsUl3NMLf1xbaK1XzvM0sSM+hOaOyymuZYlq5h"
    "07H73EduW3f19i1TwxygnAJMtpEkZHd1s2NgYDXsEMp8c4BNq881Xb01MK12E+t233Gb2zwHsWy2kSKIPlmpdnSI+xBO"
    "shwVf+z/yUGiwZA1BUg2YuSs9QaQks9jSN+W4+TD7sM5mZHj+8AdGtTFcxjOK/B8g2wVGaq1BRmD6BhDbtEjL1ZG9FMe"
    "fRGmjZTMYpi5LSOZ3YNZmdmDF3zKCxheVOClRoLqOwMbw1yI80PH7oz4Lnp8PFwifAyGecKXy/k8L2N4RYFXvSj1DZUE"
    "DxZ8IiNhJA1vW69R/Rjdz2WyO2YfXvexVzC8ocCbjXME21Ndtatj3YWrJwR5tIKDt4YKnq8SvO37ylIdssUcPbzja7yL"
    "4ZoC1+97P/IHsKhAwdu06rrqDhQ1e9Dt7eSbmuPq+e7AwqZ3g8pqJCOwO6CpwPvLOLvt34WSjPZgSSOwtq71Od2mFxyU"
    "PUMtqHjxsFRs2kUQ9qGqQO0AbiiwnCUPlqVPeOWYso13egR5s8EShMnD6uH9A6grsJaVYx7bCqxvbGx88A8Z3kFGGMTW"
    "oVFu0KxnEItiKI7gPYPo3FLgfQxSa5DflFPp7+HJT78TWjo3TyyUOXRlVCj5Lcftqri5rbt9UhCSuBCpl+goUp2f/350"
    "j/G8nKYzj4SnOsfl0VQts2N3dRtLYmmC1H+OyhI1UL8Lf9LwsacamEH1kYHWDtYdWuySuPwsusNhmRhbOvWwd/PJJfrQ"
    "k6d6yKDVUFdaLEjijTMY8Fl36+SwRr5k7pL5I5lHZD4mE62TXkjmZTIL69Tp519urRZo+5ng9ELYaVESp8eckpAeUU7m"
    "17lvaXeKT+BcC3PykrhylvDfiR0zUw9fPXzwFxVNT/CwEvZQksQqevb4H9WptnP14aeT9z8VyMBRiZ0p/0ocVf/th84n"
    "k/N/AfFPC9Dbel93TVKBX6j07dc025KY/59migVBqFZ4ga8JtVq1vFSs8OVCTaiU+Wq1Qs5CqbZUE4QadZlZ3vkjS3xk"
    "PZcMNTvyGWxV02POo+/xKDrYgOZCyFwMndTcoiTBJjIfIvk6SDLWuaI8wUYwE+KZjaPxBhSFB6szE4J/F0eR3hHFBqsw"
    "jF1LRLDFKDZYPWHsN1EsH8UGsz+MvZiMYEtRbDB3p8K6AewJzyyYUgvhWKfQhGTflJPJa8PSiF0fIbnI+R7rn39JDVtN"
    "0rtaPl7gv/USSR/Deev9tf8C1fBucw=="
)


def unpacked(text):
    return zlib.decompress(base64.b64decode(text))


class Call:
    """Pickles as a call of a function."""

    def __init__(self, function, *arguments):
        self.call = function, arguments

    def __reduce__(self):
        return self.call


@pytest.mark.parametrize("text", [LEGACY, ARCHIVE], ids=["legacy", "archive"])
def test_files_of_pytorch_are_read(tmp_path, text):
    path = tmp_path / "weights.pth"
    path.write_bytes(unpacked(text))
    got = read_torch(path)
    expected = {
        "weight": np.arange(4, 12, dtype=np.float32).reshape(2, 4).T,
        "half": np.array([0.5, -2.0], ml_dtypes.bfloat16),
        "count": np.array(3),
        "shared": np.arange(12, dtype=np.float32).reshape(3, 4),
        "parameter": np.array([1.5], np.float32),
        "array": np.array([[1, 2], [3, 4]], np.int16),
    }
    assert list(got) == list(expected)
    for name, array in expected.items():
        assert got[name].dtype == array.dtype
        np.testing.assert_array_equal(got[name], array)
    assert np.shares_memory(got["weight"], got["shared"])


def test_state_dicts_are_read(tmp_path, save_torch):
    state = {"a.weight": np.random.default_rng(0).normal(size=(4, 3, 2)), "a.bias": np.zeros(0)}
    got = read_torch(save_torch(tmp_path / "weights.pth", state))
    assert list(got) == ["a.weight", "a.bias"]
    np.testing.assert_array_equal(got["a.weight"], state["a.weight"].astype(np.float32))
    assert got["a.bias"].shape == (0,)


@pytest.mark.parametrize("function", [os.system, eval, getattr, np.load])
def test_code_in_a_file_is_refused_and_not_run(tmp_path, function):
    witness = tmp_path / "witness"
    pickled = pickle.dumps({"a": Call(function, f"touch {witness}")}, protocol=2)
    path = tmp_path / "weights.pth"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("archive/data.pkl", pickled)
    with pytest.raises(UserError, match="weights.pth calls .*: save its state dict instead"):
        read_torch(path)
    path.write_bytes(pickled)
    with pytest.raises(UserError, match="weights.pth calls .*: save its state dict instead"):
        read_torch(path)
    assert not witness.exists()


@pytest.mark.parametrize("text", [LEGACY, ARCHIVE], ids=["legacy", "archive"])
@pytest.mark.parametrize("share", [0, 0.02, 0.3, 0.7, 0.97])
def test_a_cut_file_is_named(tmp_path, text, share):
    data = unpacked(text)
    data = data[: int(share * len(data))]
    path = tmp_path / "weights.pth"
    path.write_bytes(data)
    message = f"weights.pth is not a whole .* it ends too soon, after {len(data)} bytes: download"
    with pytest.raises(UserError, match=message):
        read_torch(path)


POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 221179358\n"


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (POINTER, "weights.pth is a git-lfs pointer: run 'git lfs pull'"),
        (b"\n<!DOCTYPE html><html><title>Sign in</title>", "weights.pth is a web page: download"),
        (b"\xef\xbb\xbf<html>", "weights.pth is a web page: download"),
        (b"GIF89a" + bytes(100), "weights.pth is not a whole file of torch.save: invalid load key"),
    ],
)
def test_what_came_instead_of_the_file_is_named(tmp_path, content, says):
    path = tmp_path / "weights.pth"
    path.write_bytes(content)
    with pytest.raises(UserError, match=says):
        read_torch(path)


def test_a_storage_of_another_length_is_refused(tmp_path):
    """Of a legacy file: the length in front of the twelve numbers of the first tensor."""
    numbers = np.arange(12, dtype="<f4").tobytes()
    data = unpacked(LEGACY)
    assert data.count((12).to_bytes(8, "little") + numbers) == 1
    path = tmp_path / "weights.pth"
    path.write_bytes(data.replace((12).to_bytes(8, "little") + numbers, bytes(8) + numbers))
    with pytest.raises(UserError, match="weights.pth is not a whole .* is not 12 long"):
        read_torch(path)


def test_what_is_written_is_read(tmp_path):
    state = {
        "a.weight": np.arange(12, dtype=np.float32).reshape(3, 4).T,
        "a.half": np.float16([0.5, -2]),
        "a.count": np.array(3),
    }
    value = {"state": state, "none": {}, "list": [1, 2.5, None], "size": (128, (), True), "é": "à"}
    path = write_torch(tmp_path / "new" / "weights.pth", value)
    got = read_torch(path)
    assert {**got, "state": 0} == {**value, "state": 0} and list(got) == list(value)
    for name, array in state.items():
        assert got["state"][name].dtype == array.dtype
        np.testing.assert_array_equal(got["state"][name], array)
    assert list(path.parent.iterdir()) == [path]
    again = write_torch(tmp_path / "again.pth", value)
    assert again.read_bytes() == path.read_bytes()
    # PyTorch takes no compressed members and none without a version.
    with zipfile.ZipFile(path) as archive:
        assert archive.read("archive/version") == b"3\n"
        assert {member.compress_type for member in archive.infolist()} == {zipfile.ZIP_STORED}


def test_what_cannot_be_written_leaves_nothing(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match="cannot write .*weights.pth"):
        write_torch(tmp_path / "file" / "weights.pth", {})
    for value in (np.float64(1), np.array(["text"]), {1}):
        with pytest.raises(TypeError):
            write_torch(tmp_path / "weights.pth", {"a": value})
    assert list(tmp_path.iterdir()) == [tmp_path / "file"]


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(UserError, match="cannot read .*none.pth: No such file"):
        read_torch(tmp_path / "none.pth")


def test_a_tensor_beyond_its_storage_is_refused(tmp_path, save_torch):
    """Sizes come from the file: without a check, they would read other memory."""
    path = save_torch(tmp_path / "weights.pth", {"a": np.zeros((7, 5))})
    with zipfile.ZipFile(path) as archive:
        pickled, data = archive.read("archive/data.pkl"), archive.read("archive/data/0")
    assert pickled.count(b"K\x07K\x05") == 1  # the two sizes, as the pickle holds them
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("archive/data.pkl", pickled.replace(b"K\x07K\x05", b"K\x08K\x05"))
        archive.writestr("archive/data/0", data)
    with pytest.raises(UserError, match="a tensor reaches beyond its storage"):
        read_torch(path)

"""Small files in the layouts of the Basel Face Models, with known contents."""

import sys

import jax
import numpy as np
import pytest
import scipy.io

from flax_talk.errors import UserError
from flax_talk.face_model import formats
from flax_talk.face_model import model as face

VERTICES = 80


@pytest.fixture
def contents():
    """What the small models hold, in dm: a dome that looks to the viewer, 6 + 4 directions."""
    random = np.random.default_rng(0)
    x, y = np.meshgrid(np.linspace(-1, 1, 10), np.linspace(-1, 1, 8))
    mean = np.stack([x, y, 1 - 0.3 * (x**2 + y**2)], axis=-1).reshape(-1, 3)
    corner = (10 * np.arange(7)[:, None] + np.arange(9)).ravel()
    lower = np.stack([corner, corner + 1, corner + 11], axis=1)
    upper = np.stack([corner, corner + 11, corner + 10], axis=1)
    return {
        "mean": mean,
        "triangles": np.concatenate([lower, upper]),
        "geometry": np.linalg.qr(random.normal(size=(3 * VERTICES, 6)))[0],
        "geometry_deviation": np.array([3.0, 2.0, 1.0, 0.5, 0.2, 0.1]),
        "expression": np.linalg.qr(random.normal(size=(3 * VERTICES, 4)))[0],
        "expression_deviation": np.array([1.0, 0.7, 0.4, 0.1]),
        "landmarks": random.permutation(VERTICES)[:68],
    }


@pytest.fixture
def bfm2009(tmp_path, contents):
    """Micrometres, vertices counted from 1, corners clockwise."""
    path = tmp_path / "01_MorphableModel.mat"
    scipy.io.savemat(
        path,
        {
            "shapeMU": (1e5 * contents["mean"]).reshape(-1, 1).astype(np.float32),
            "shapePC": contents["geometry"].astype(np.float32),
            "shapeEV": (1e5 * contents["geometry_deviation"])[:, None].astype(np.float32),
            "tl": contents["triangles"][:, ::-1].astype(np.int32) + 1,
        },
    )
    return path


def write_expression(folder, contents, ids):
    """The basis of the vertices `ids`, in a folder of its own."""
    folder.mkdir()
    basis = contents["expression"].reshape(VERTICES, 3, 4)[ids].reshape(-1, 4)
    unused_mean = np.full(3 * len(ids), 7.0)
    data = np.concatenate([unused_mean, basis.T.ravel()]).astype("<f4")
    (folder / "Exp_Pca.bin").write_bytes(np.array([4], "<i4").tobytes() + data.tobytes())
    deviations = " ".join(str(1e5 * d) for d in contents["expression_deviation"])
    (folder / "std_exp.txt").write_text(deviations + "\n")
    return folder


def check(model, contents, moving=slice(None)):
    """The model holds the contents and works with the functions of the default one."""
    np.testing.assert_allclose(model.mean, contents["mean"], atol=1e-5)
    np.testing.assert_array_equal(model.landmarks, contents["landmarks"])
    np.testing.assert_allclose(model.geometry_deviation, contents["geometry_deviation"], rtol=1e-5)
    s, e = np.arange(6) / 3 - 1, np.array([0.5, -1.0, 2.0, 0.3])[: model.expression.shape[-1]]
    expected = contents["geometry"] @ (contents["geometry_deviation"] * s)
    expected = contents["mean"] + expected.reshape(-1, 3)
    if len(e):
        moves = contents["expression"] @ (contents["expression_deviation"] * e)
        expected[moving] += moves.reshape(-1, 3)[moving]
    vertices = jax.jit(face.reconstruct)(model, s, e)
    np.testing.assert_allclose(vertices, expected, atol=1e-5)
    a, b, c = (model.mean[model.triangles[:, i]] for i in range(3))
    assert (np.cross(b - a, c - a)[:, 2] > 0).all()
    np.testing.assert_allclose(
        face.landmarks(model, s, e), expected[contents["landmarks"]], atol=1e-5
    )
    units = face.units_from_expression(model, e)
    np.testing.assert_allclose(units, e, atol=1e-6)


def test_bfm2009_without_expressions(bfm2009, contents):
    model = formats.load_bfm2009(bfm2009, contents["landmarks"])
    assert model.expression.shape == (VERTICES, 3, 0) and model.unit_names == ()
    check(model, contents)


def test_bfm2009_with_an_expression_basis(tmp_path, bfm2009, contents):
    folder = write_expression(tmp_path / "whole", contents, np.arange(VERTICES))
    model = formats.load_bfm2009(bfm2009, contents["landmarks"], folder)
    np.testing.assert_allclose(
        model.expression_deviation, contents["expression_deviation"], rtol=1e-5
    )
    assert model.unit_names == tuple(f"expression_{i}" for i in range(4))
    check(model, contents)


def test_bfm2009_with_a_basis_of_fewer_vertices(tmp_path, bfm2009, contents):
    ids = np.arange(VERTICES)[::2]
    folder = write_expression(tmp_path / "trimmed", contents, ids)
    index = tmp_path / "BFM_exp_idx.mat"
    scipy.io.savemat(index, {"trimIndex": ids[:, None].astype(np.int32) + 1})
    model = formats.load_bfm2009(bfm2009, contents["landmarks"], folder, index)
    check(model, contents, moving=ids)
    with pytest.raises(UserError, match=r"Exp_Pca\.bin: not an expression basis of 80 vertices"):
        formats.load_bfm2009(bfm2009, contents["landmarks"], folder)


@pytest.fixture
def front(contents):
    """The arrays of the cropped model, its directions scaled by their deviations."""
    return {
        "meanshape": contents["mean"].reshape(1, -1),
        "idBase": contents["geometry"] * contents["geometry_deviation"],
        "exBase": contents["expression"] * contents["expression_deviation"],
        "tri": contents["triangles"].astype(np.int32) + 1,
        "keypoints": contents["landmarks"][None].astype(np.uint16) + 1,
    }


def test_cropped_model(tmp_path, front, contents):
    scipy.io.savemat(tmp_path / "BFM_model_front.mat", front)
    check(formats.load_bfm_front(tmp_path / "BFM_model_front.mat"), contents)


def test_bfm2017(tmp_path, contents):
    h5py = pytest.importorskip("h5py", reason="h5py, which reads these files, is not installed")
    path = tmp_path / "model2017-1_bfm_nomouth.h5"
    mean_expression = np.full(3 * VERTICES, 5.0)
    with h5py.File(path, "w") as file:
        file["shape/model/mean"] = 100 * contents["mean"].ravel() - mean_expression
        file["shape/model/pcaBasis"] = contents["geometry"]
        file["shape/model/pcaVariance"] = (100 * contents["geometry_deviation"]) ** 2
        file["expression/model/mean"] = mean_expression
        file["expression/model/pcaBasis"] = contents["expression"]
        file["expression/model/pcaVariance"] = (100 * contents["expression_deviation"]) ** 2
        file["shape/representer/cells"] = contents["triangles"].T
    check(formats.load_bfm2017(path, contents["landmarks"]), contents)
    path.write_text("no HDF5")
    with pytest.raises(UserError, match="not an HDF5 file"):
        formats.load_bfm2017(path, contents["landmarks"])


def test_bfm2017_without_h5py_says_what_to_install(tmp_path, contents, monkeypatch):
    path = tmp_path / "model2019_fullHead.h5"
    path.touch()
    monkeypatch.setattr(formats.importlib.util, "find_spec", lambda name: None)
    monkeypatch.delitem(sys.modules, "h5py", raising=False)
    with pytest.raises(UserError, match="pip install h5py"):
        formats.load_bfm2017(path, contents["landmarks"])


def test_landmarks_from_files(tmp_path, contents):
    ids = contents["landmarks"]
    np.save(tmp_path / "ids.npy", ids)
    np.savetxt(tmp_path / "ids.txt", ids, fmt="%d")
    scipy.io.savemat(tmp_path / "ids.mat", {"keypoints": ids[None].astype(np.float64) + 1})
    for source in ("ids.npy", "ids.txt", "ids.mat"):
        np.testing.assert_array_equal(formats.read_landmarks(tmp_path / source), ids)
    np.testing.assert_array_equal(formats.read_landmarks(ids.tolist()), ids)


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("ids.txt", "1 2 3", "3 values, expected the 68 vertex ids"),
        ("ids.txt", "one two", "not a file of landmark ids"),
        ("ids.npy", "", "not a file of landmark ids"),
        ("ids.mat", "no MATLAB file" * 20, "not a MATLAB 5 file"),
        ("ids.mat", "", "not a MATLAB 5 file"),
    ],
)
def test_wrong_landmark_files_end_in_one_line(tmp_path, name, text, message):
    (tmp_path / name).write_text(text)
    with pytest.raises(UserError, match=message) as caught:
        formats.read_landmarks(tmp_path / name)
    assert "\n" not in str(caught.value) and name in str(caught.value)


def test_wrong_models_end_in_one_line(tmp_path, bfm2009, front, contents):
    ids = contents["landmarks"]
    with pytest.raises(UserError, match=r"nowhere\.mat: no such file"):
        formats.load_bfm2009(tmp_path / "nowhere.mat", ids)
    with pytest.raises(UserError, match="has no meanshape, idBase, exBase, tri, keypoints"):
        formats.load_bfm_front(bfm2009)
    with pytest.raises(UserError, match="vertex ids .* do they belong to another model"):
        formats.load_bfm2009(bfm2009, ids + 20)
    with pytest.raises(UserError, match=r"Exp_Pca\.bin: no such file"):
        formats.load_bfm2009(bfm2009, ids, tmp_path)
    folder = write_expression(tmp_path / "short", contents, np.arange(VERTICES))
    (folder / "std_exp.txt").write_text("1 2 3")
    with pytest.raises(UserError, match=r"std_exp\.txt: 3 deviations, expected 4"):
        formats.load_bfm2009(bfm2009, ids, folder)
    scipy.io.savemat(tmp_path / "cut.mat", front | {"idBase": front["idBase"][:-3]})
    with pytest.raises(UserError, match="directions .* do not fit 80 vertices"):
        formats.load_bfm_front(tmp_path / "cut.mat")

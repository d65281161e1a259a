"""Face models in the files that users hold: the Basel Face Model of 2009, 2017 and 2019.

Reads the Basel Face Model (Paysan et al. 2009; Gerig et al. 2018) as its licence holders download
it, the expression basis that Guo et al. 2018 transferred from FaceWarehouse (Cao et al. 2014) in
the layout of Deng et al. 2019 (`Exp_Pca.bin`, `std_exp.txt`), and the cropped model of the
latter (`BFM_model_front.mat`). All become the same `FaceModel` in dm, with as many directions as
the file has; its coefficients stand for standard deviations. These models name no expression units,
so each expression coefficient is a unit of its own.

Nothing of these models is part of this package: their licences forbid it.
"""

import importlib.util
from collections.abc import Container, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import scipy.io

from flax_talk.errors import UserError
from flax_talk.face_model.model import FaceModel, make_model

_MICROMETRES = 1e-5  # dm
_MILLIMETRES = 1e-2  # dm
_H5_ARRAYS = ("mean", "pcaBasis", "pcaVariance")


def load_bfm2009(
    path: str | Path,
    landmarks: str | Path | Sequence[int],
    expression: str | Path | None = None,
    expression_vertices: str | Path | None = None,
) -> FaceModel:
    """Loads the Basel Face Model of 2009, with an expression basis if one is given.

    Args:
        path: `01_MorphableModel.mat` (53490 vertices, 199 directions).
        landmarks: see `read_landmarks`; ids of the vertices of this file.
        expression: folder with `Exp_Pca.bin` and `std_exp.txt`, or None for a face without
            expression directions.
        expression_vertices: `BFM_exp_idx.mat`, whose `trimIndex` lists the vertices (from 1) that
            the expression basis has: the basis in circulation lacks those of the inner
            mouth, which then do not move. None where it has them all.

    Returns:
        The model.

    Raises:
        UserError: a file is missing or is not what it should be.
    """
    file = _read_mat(path, ["shapeMU", "shapePC", "shapeEV", "tl"])
    mean = file["shapeMU"].reshape(-1, 3) * _MICROMETRES
    directions = _directions(file["shapePC"], file["shapeEV"], len(mean), path) * _MICROMETRES
    moves = np.zeros((len(mean), 3, 0))
    if expression is not None:
        ids = np.arange(len(mean))
        if expression_vertices is not None:
            ids = _read_mat(expression_vertices, ["trimIndex"])["trimIndex"].ravel() - 1
            _check_ids(ids, len(mean), expression_vertices)
        basis = _read_expression(Path(expression), len(ids))
        moves = np.zeros((len(mean), 3, basis.shape[-1]))
        moves[ids] = basis
    return _model(mean, directions, moves, file["tl"] - 1, landmarks, path)


def load_bfm_front(path: str | Path) -> FaceModel:
    """Loads the cropped face of Deng et al. 2019: geometry, expression and landmarks in one file.

    Args:
        path: `BFM_model_front.mat` (35709 vertices, 80 + 64 directions).

    Returns:
        The model.

    Raises:
        UserError: the file is missing or is not what it should be.
    """
    file = _read_mat(path, ["meanshape", "idBase", "exBase", "tri", "keypoints"])
    mean = file["meanshape"].reshape(-1, 3)  # Its directions carry their deviations, in dm.
    geometry = _directions(file["idBase"], None, len(mean), path)
    expression = _directions(file["exBase"], None, len(mean), path)
    keypoints = file["keypoints"].ravel() - 1
    return _model(mean, geometry, expression, file["tri"] - 1, keypoints, path)


def load_bfm2017(path: str | Path, landmarks: str | Path | Sequence[int]) -> FaceModel:
    """Loads the Basel Face Model of 2017 or 2019, which has expressions of its own.

    Args:
        path: `model2017-1_bfm_nomouth.h5`, `model2019_fullHead.h5` or another of these files
            (199 + 100 directions).
        landmarks: see `read_landmarks`.

    Returns:
        The model. Its mean includes the mean expression.

    Raises:
        UserError: a file is missing or is not what it should be, or h5py is not installed.
    """
    names = [f"{part}/model/{name}" for part in ("shape", "expression") for name in _H5_ARRAYS]
    file = _read_h5(path, [*names, "shape/representer/cells"])
    mean = (file["shape/model/mean"] + file["expression/model/mean"]).reshape(-1, 3)
    geometry, expression = (
        _directions(
            file[f"{part}/model/pcaBasis"],
            np.sqrt(file[f"{part}/model/pcaVariance"]),
            len(mean),
            path,
        )
        for part in ("shape", "expression")
    )
    triangles = file["shape/representer/cells"].T
    mean, geometry, expression = (array * _MILLIMETRES for array in (mean, geometry, expression))
    return _model(mean, geometry, expression, triangles, landmarks, path)


def read_landmarks(source: str | Path | Sequence[int]) -> np.ndarray:
    """Reads the vertices at the 68 landmarks in iBUG order.

    Args:
        source: the ids themselves, from 0; or a file of them: `.npy` or text from 0, or `.mat`
            with an array `keypoints` from 1, as MATLAB counts.

    Returns:
        int64 [68], from 0.

    Raises:
        UserError: the file is missing or unreadable, or there are not 68 whole numbers.
    """
    where: str | Path = "the landmark ids"
    found: Any = source
    if isinstance(source, str | Path):
        where = path = _existing(source)
        try:
            if path.suffix == ".mat":
                found = _read_mat(path, ["keypoints"])["keypoints"] - 1
            else:
                found = np.load(path) if path.suffix == ".npy" else np.loadtxt(path)
        except (ValueError, OSError, EOFError) as error:
            raise UserError(f"{path}: not a file of landmark ids: {_one_line(error)}") from error
    ids = np.asarray(found, np.float64).ravel()
    if len(ids) != 68 or (ids != np.rint(ids)).any():
        raise UserError(f"{where}: {len(ids)} values, expected the 68 vertex ids of iBUG order")
    return ids.astype(np.int64)


def _read_expression(folder: Path, vertices: int) -> np.ndarray:
    """Scaled directions [vertices, 3, E] of `Exp_Pca.bin` and `std_exp.txt`, dm.

    The binary file holds the number of directions as int32, the mean expression (unused: the
    face at rest is the neutral one) and the directions, both float32.
    """
    path, deviations_path = _existing(folder / "Exp_Pca.bin"), _existing(folder / "std_exp.txt")
    data = path.read_bytes()
    count = int(np.frombuffer(data[:4], "<i4")[0]) if len(data) >= 4 else 0
    if count < 1 or len(data) != 4 + 4 * 3 * vertices * (count + 1):
        raise UserError(f"{path}: not an expression basis of {vertices} vertices: wrong size")
    directions = np.frombuffer(data[4:], "<f4").reshape(count + 1, vertices, 3)[1:]
    try:
        deviations = np.loadtxt(deviations_path).ravel()
    except ValueError as error:
        raise UserError(f"{deviations_path}: not a list of numbers: {_one_line(error)}") from error
    if len(deviations) != count:
        raise UserError(f"{deviations_path}: {len(deviations)} deviations, expected {count}")
    return np.moveaxis(directions, 0, -1) * deviations * _MICROMETRES


def _model(
    mean: np.ndarray,
    geometry: np.ndarray,
    expression: np.ndarray,
    triangles: np.ndarray,
    landmarks: str | Path | Sequence[int],
    path: str | Path,
) -> FaceModel:
    triangles = triangles.astype(np.int64)
    if triangles.ndim != 2 or triangles.shape[1] != 3:
        raise UserError(f"{path}: triangles of shape {triangles.shape}, expected [F, 3]")
    _check_ids(triangles, len(mean), path)
    ids = read_landmarks(landmarks)
    _check_ids(ids, len(mean), "the landmark ids")
    # These files disagree on the order of the corners; most of a face looks to the viewer.
    a, b, c = (mean[triangles[:, i]] for i in range(3))
    if np.cross(b - a, c - a)[:, 2].sum() < 0:
        triangles = triangles[:, ::-1]
    return make_model(
        mean=mean, geometry=geometry, expression=expression, triangles=triangles, landmarks=ids
    )


def _directions(
    basis: np.ndarray, deviations: np.ndarray | None, vertices: int, path: str | Path
) -> np.ndarray:
    """Columns [3 V, K], x y z of each vertex in turn, as [V, 3, K] times their deviations [K]."""
    if basis.ndim != 2 or len(basis) != 3 * vertices:
        raise UserError(f"{path}: directions {basis.shape} do not fit {vertices} vertices")
    if deviations is not None:
        if deviations.size != basis.shape[1]:
            raise UserError(f"{path}: {deviations.size} deviations for {basis.shape[1]} directions")
        basis = basis * deviations.ravel()
    return basis.reshape(vertices, 3, -1)


def _check_ids(ids: np.ndarray, vertices: int, where: str | Path) -> None:
    if ids.min() < 0 or ids.max() >= vertices:
        raise UserError(
            f"{where}: vertex ids {ids.min()} to {ids.max()} (from 0) of a mesh of "
            f"{vertices} vertices; do they belong to another model?"
        )


def _read_mat(path: str | Path, names: Sequence[str]) -> dict[str, np.ndarray]:
    """Arrays of a MATLAB file; whole numbers become int64, so that 1 can be subtracted."""
    path = _existing(path)
    try:
        file = scipy.io.loadmat(path, variable_names=names)
    except (ValueError, NotImplementedError, OSError, scipy.io.matlab.MatReadError) as error:
        raise UserError(f"{path}: not a MATLAB 5 file: {_one_line(error)}") from error
    _check_names(path, names, file)
    return {
        name: file[name].astype(np.int64) if file[name].dtype.kind in "ui" else file[name]
        for name in names
    }


def _read_h5(path: str | Path, names: Sequence[str]) -> dict[str, np.ndarray]:
    path = _existing(path)
    if importlib.util.find_spec("h5py") is None:
        raise UserError(f"{path}: reading it takes h5py; install it with `pip install h5py`")
    import h5py

    try:
        with h5py.File(path) as file:
            _check_names(path, names, file)
            return {name: file[name][()] for name in names}
    except OSError as error:
        raise UserError(f"{path}: not an HDF5 file: {_one_line(error)}") from error


def _check_names(path: Path, names: Sequence[str], file: Container[str]) -> None:
    missing = [name for name in names if name not in file]
    if missing:
        raise UserError(f"{path}: has no {', '.join(missing)}; is it another face model?")


def _existing(path: str | Path) -> Path:
    path = Path(path)
    if not path.is_file():
        raise UserError(f"{path}: no such file")
    return path


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())

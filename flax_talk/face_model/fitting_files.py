"""Fits face models to files: a video, or all clips of a prepared data set. All ours.

What is written appears complete or not at all, so that an interrupted run goes on where it was.
"""

import csv
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import cv2
import jax
import numpy as np
import tensorflow_datasets as tfds
from tqdm import tqdm

from flax_talk.errors import UserError
from flax_talk.face_model.fit import Fit, fit, load_fit, save_fit
from flax_talk.face_model.model import (
    FaceModel,
    load_default,
    projected_landmarks,
    reconstruct,
    transform,
)
from input_pipeline import faces, media
from input_pipeline.inspect import newest_version
from input_pipeline.loader import FITS

_DRAWN_PARTS = ("skin", "lips", "eyelids")
_MESH, _DETECTED, _FITTED = (150, 220, 150), (255, 60, 60), (255, 230, 0)  # RGB
_OVERLAY_HEIGHT = 720  # pixels that small videos are enlarged to, about
_ERROR = "error_px"


class FittedVideo(NamedTuple):
    """What `fit_video` wrote: the file, its frames, the mean error in pixels."""

    path: Path
    frames: int
    error: float


class FittedData(NamedTuple):
    """What `fit_data` found and made.

    Attributes:
        path: folder of the fits.
        fitted: clips fitted now.
        skipped: clips that were fitted before.
        failures: (id, reason) of the clips that cannot be fitted.
        error: mean error of all fits, crop pixels; NaN without one.
    """

    path: Path
    fitted: int
    skipped: int
    failures: tuple[tuple[str, str], ...]
    error: float


def fit_video(
    video: str | Path,
    out: str | Path,
    overlay: str | Path | None = None,
    detector: str = "dlib",
    fps: float = 25.0,
) -> FittedVideo:
    """Finds the face of a video, fits the default model to it and writes the fit.

    Args:
        video: file with one face throughout.
        out: npz to write, see `fit.save_fit`; pixels are those of the video.
        overlay: mp4 to write, if any: the video under the mesh, the landmarks that were found
            (red) and the fitted ones (yellow).
        detector: a name of `input_pipeline.faces.DETECTORS`.
        fps: frames per second at which the video is read.

    Raises:
        UserError: a file that cannot be read or written, or not one face throughout.
    """
    frames = media.read_video(video, fps=fps).frames
    try:
        landmarks = faces.detect_video(frames, faces.get_detector(detector))
    except faces.ClipError as error:
        raise UserError(f"{video}: {error}: give a video of one face") from error
    model = load_default()
    found = fit(model, landmarks)
    save_fit(out, found)
    if overlay is not None:
        media.write_video(overlay, draw_fit(model, found, frames, landmarks), fps)
    return FittedVideo(Path(out), len(frames), float(found.error.mean()))


def fit_data(folder: str | Path) -> FittedData:
    """Fits the default model to the stored landmarks of every clip of a prepared data set.

    Writes <version>/fits/<clip id>.npz for each clip that has none yet, in pixels of the crops,
    and <version>/fits/report.csv (id, error_px, reason) of all clips.

    Args:
        folder: DATA_DIR/NAME/CONFIG, or a version in it.

    Raises:
        UserError: no data set there, damaged records, or a folder that cannot be written.
    """
    builder = tfds.builder_from_directory(newest_version(Path(folder)))
    path = Path(builder.data_path) / FITS
    model = load_default()
    total = sum(split.num_examples for split in builder.info.splits.values())
    rows, skipped = [], 0
    for clip, landmarks in tqdm(_landmarks(builder), "fit", total, unit="clip", mininterval=1):
        file = path / f"{clip}.npz"
        try:
            if file.exists():
                found = load_fit(file)
                skipped += 1
            else:
                found = fit(model, landmarks)
                save_fit(file, found)
        except UserError as error:
            rows.append({"id": clip, _ERROR: "", "reason": str(error)})
        else:
            rows.append({"id": clip, _ERROR: f"{found.error.mean():.3f}", "reason": ""})
    _write_report(path / "report.csv", rows)
    errors = [float(row[_ERROR]) for row in rows if row[_ERROR]]
    return FittedData(
        path=path,
        fitted=len(errors) - skipped,
        skipped=skipped,
        failures=tuple((row["id"], row["reason"]) for row in rows if row["reason"]),
        error=float(np.mean(errors)) if errors else np.nan,
    )


def draw_fit(
    model: FaceModel, found: Fit, frames: np.ndarray, landmarks: np.ndarray | None = None
) -> Iterator[np.ndarray]:
    """Frames under the mesh and the landmarks of a fit.

    Args:
        model: that was fitted.
        found: of these frames.
        frames: uint8 [T, H, W, 3] RGB.
        landmarks: [T, 68, 2], pixels, those that were found; drawn red if given.

    Yields:
        uint8 [H', W', 3], enlarged by a whole number.
    """
    scale = max(1, round(_OVERLAY_HEIGHT / frames.shape[1]))
    triangles = np.asarray(model.triangles)[model.part_mask(*_DRAWN_PARTS)]
    given = [None] * len(frames) if landmarks is None else landmarks
    for frame, expression, pose, points in zip(
        frames, found.expression, found.pose, given, strict=True
    ):
        vertices, fitted = jax.device_get(_mesh(model, found.geometry, expression, pose))
        canvas = cv2.resize(frame, None, fx=scale, fy=scale, interpolation=cv2.INTER_CUBIC)
        mesh = canvas.copy()
        cv2.polylines(mesh, _front(vertices, triangles, scale), True, _MESH, 1, cv2.LINE_AA)
        canvas = cv2.addWeighted(canvas, 0.6, mesh, 0.4, 0)
        for dots, colour in ((points, _DETECTED), (fitted, _FITTED)):
            for x, y in [] if dots is None else _enlarged(dots, scale).tolist():
                cv2.circle(canvas, (x, y), 2, colour, -1, cv2.LINE_AA)
        yield canvas


@jax.jit
def _mesh(model, geometry, expression, pose):
    vertices = transform(reconstruct(model, geometry, expression), pose)
    return vertices, projected_landmarks(model, geometry, expression, pose)


def _front(vertices: np.ndarray, triangles: np.ndarray, scale: int) -> np.ndarray:
    """The corners [N, 3, 2] of the triangles that face the viewer, pixels of the enlarged frame."""
    corners = vertices[triangles, :2]
    a, b = corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]
    # Counter-clockwise with y up is clockwise with y down.
    facing = a[:, 0] * b[:, 1] - a[:, 1] * b[:, 0] < 0
    # The back of the head, too, has triangles that face the viewer when it is turned.
    near = vertices[triangles, 2].mean(axis=1) > 0
    return _enlarged(corners[facing & near], scale)


def _enlarged(points: np.ndarray, scale: int) -> np.ndarray:
    # Pixel centres are at whole numbers, hence the half pixels.
    return np.rint((points + 0.5) * scale - 0.5).astype(np.int32)


def _landmarks(builder: tfds.core.DatasetBuilder) -> Iterator[tuple[str, np.ndarray]]:
    """Id and landmarks [T, 68, 2] of every clip."""
    for split in builder.info.splits:
        source = builder.as_data_source(split=split)
        for index in range(len(source)):
            try:
                example = source[index]
            except RuntimeError as error:  # what array_record raises for damaged shards
                raise UserError(
                    f"clip {index} of {split} in {builder.data_path} cannot be read ({error}): "
                    "prepare the data set again"
                ) from error
            yield example["id"].decode(), example["landmarks"]


def _write_report(path: Path, rows: list[dict[str, str]]) -> None:
    partial = path.with_name(f".{path.name}.partial")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with partial.open("w", newline="") as file:
            writer = csv.DictWriter(file, ("id", _ERROR, "reason"))
            writer.writeheader()
            writer.writerows(rows)
        partial.replace(path)
    except OSError as error:
        raise UserError(
            f"{path}: cannot be written ({error.strerror}): check the folder and its free space"
        ) from error

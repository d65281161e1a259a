"""Faces: detection, the 68 landmarks (iBUG order), canonical alignment and crops.

Every frame is mapped to a canonical face by the similarity transform of five points that speech
does not move (Vougioukas et al., "Realistic Speech-Driven Facial Animation with GANs", section
4.1: "all faces are aligned to the canonical face"; the five points are those of the authors'
published inference code). Ours: the canonical face itself, measured on GRID; the bridging of
missed frames; the light smoothing of the landmarks over time.
"""

import functools
import importlib.util
import itertools
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple, Protocol

import cv2
import numpy as np
from ml_collections import ConfigDict
from scipy.ndimage import gaussian_filter1d

from flax_talk.errors import UserError

STABLE_POINTS = (33, 36, 39, 42, 45)
"""Base of the nose, then outer and inner corner of each eye, from the image's left to right."""

# The stable points of an average face in units of the distance between the outer eye corners,
# origin midway between them, y down: the mean over four GRID speakers, made symmetric.
_AVERAGE_FACE = np.array(
    [[0.0, 0.578], [-0.5, 0.0], [-0.209, 0.0166], [0.209, 0.0166], [0.5, 0.0]], np.float32
)
# Bridge and base of the nose, corners of the eyes and of the mouth: the points whose place on a
# head depends least on speech, and where they lie on the mean head of `flax_talk.face_model`, in
# the same unit; x to the right of an image of the face, y down, z away from the viewer.
_POSE_POINTS = (*range(27, 36), 36, 39, 42, 45, 48, 54)
_MEAN_HEAD = np.array(
    [
        *((0.0, -0.016, -0.172), (0.0, 0.138, -0.232), (0.0, 0.249, -0.293)),
        *((0.0, 0.377, -0.383), (-0.153, 0.491, -0.188), (-0.083, 0.513, -0.236)),
        *((0.0, 0.535, -0.264), (0.083, 0.513, -0.236), (0.153, 0.491, -0.188)),
        *((-0.5, 0.0, 0.0), (-0.208, 0.026, -0.04), (0.208, 0.026, -0.04), (0.5, 0.0, 0.0)),
        *((-0.265, 0.79, -0.118), (0.265, 0.79, -0.118)),
    ]
)
_SMOOTHING = 1.0  # frames, standard deviation
_DETECTION_SIZE = 640  # pixels, longest side of the image that is searched


class ClipError(UserError):
    """A clip that cannot be used; its text is the reason, without the clip's name."""


class Face(NamedTuple):
    """One face: box float32 [4] (left, top, right, bottom) and landmarks float32 [68, 2] (x, y).

    Both in pixels of the searched image.
    """

    box: np.ndarray
    landmarks: np.ndarray


class Detector(Protocol):
    """What finds faces. Calling it searches an image; `place` fits landmarks in a known box."""

    def __call__(self, image: np.ndarray) -> list[Face]:
        """Faces of image uint8 [H, W, 3], in no particular order; empty when there is none."""

    def place(self, image: np.ndarray, box: np.ndarray) -> np.ndarray:
        """Landmarks float32 [68, 2] of the face of image uint8 [H, W, 3] in box float32 [4]."""


def _dlib_weights(name: str) -> Path:
    """Path of a file of weights for dlib; UserError where dlib or its weights are not installed."""
    # The package that carries them is located, never imported: its import needs pkg_resources,
    # which new setuptools no longer have.
    models = importlib.util.find_spec("face_recognition_models")
    if models is None or importlib.util.find_spec("dlib") is None:
        raise UserError("dlib is not installed: pip install 'flax-talk[dlib]'")
    return Path(models.origin).parent / "models" / name


class DlibDetector:
    """dlib's frontal detector (HOG) and its 68-point regression trees (Kazemi, Sullivan 2014)."""

    def __init__(self) -> None:
        self._weights = _dlib_weights("shape_predictor_68_face_landmarks.dat")
        # It keeps what it works on, and lets other threads run meanwhile.
        self._searching = threading.Lock()

    # Read when they are first needed: that takes longer than to find a mistake of the user.
    @functools.cached_property
    def _search(self) -> Callable:
        import dlib

        return dlib.get_frontal_face_detector()

    @functools.cached_property
    def _predict(self) -> Callable:
        import dlib

        return dlib.shape_predictor(str(self._weights))

    def __call__(self, image: np.ndarray) -> list[Face]:
        scale = min(1.0, _DETECTION_SIZE / max(image.shape[:2]))
        small = cv2.resize(image, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
        # The detector sees faces from 80 pixels on; doubling the image halves that, slowly.
        with self._searching:
            boxes = self._search(small, 0) or self._search(small, 1)
        corners = [(b.left(), b.top(), b.right(), b.bottom()) for b in boxes]
        found = [np.array(corner, np.float32) / scale for corner in corners]
        return [Face(box, self.place(image, box)) for box in found]

    def place(self, image: np.ndarray, box: np.ndarray) -> np.ndarray:
        import dlib

        rectangle = dlib.rectangle(*np.rint(box).astype(int).tolist())
        shape = self._predict(np.ascontiguousarray(image), rectangle)
        return np.array([(point.x, point.y) for point in shape.parts()], np.float32)


DETECTORS: dict[str, Callable[[], Detector]] = {"dlib": DlibDetector}
"""Detector constructors by name; add to it to bring another one."""


@functools.cache
def get_detector(name: str = "dlib") -> Detector:
    """The detector registered under `name`, built at the first call and then shared.

    Raises UserError for an unknown name or a detector that is not installed.
    """
    if name not in DETECTORS:
        raise UserError(f"unknown face detector {name!r}: choose one of {sorted(DETECTORS)}")
    return DETECTORS[name]()


class Embedder(Protocol):
    """What tells people apart: embeddings of one person are near each other."""

    def __call__(self, frames: np.ndarray, landmarks: np.ndarray) -> np.ndarray:
        """Embeddings float32 [T, D] of the faces of frames uint8 [T, H, W, 3].

        `landmarks` [T, 68, 2] are (x, y) in pixels of the frames.
        """


class DlibEmbedder:
    """dlib's face recognition network (King 2017): 128 numbers, people mostly 0.6 or more apart.

    A residual network of 29 layers on the face, turned upright and scaled to 150 x 150.
    """

    def __init__(self) -> None:
        weights = _dlib_weights("dlib_face_recognition_resnet_model_v1.dat")
        import dlib

        self._dlib = dlib
        self._embed = dlib.face_recognition_model_v1(str(weights))

    def __call__(self, frames: np.ndarray, landmarks: np.ndarray) -> np.ndarray:
        images = [np.ascontiguousarray(frame) for frame in frames]
        faces = [self._dlib.full_object_detections([self._shape(points)]) for points in landmarks]
        found = self._embed.compute_face_descriptor(images, faces)
        return np.array(found, np.float32).reshape(len(images), 128)

    def _shape(self, landmarks: np.ndarray):
        # The network's crop follows from the landmarks alone; the box only has to be there.
        left, top = landmarks.min(axis=0).astype(int).tolist()
        right, bottom = landmarks.max(axis=0).astype(int).tolist()
        points = [self._dlib.point(x, y) for x, y in np.rint(landmarks).astype(int).tolist()]
        box = self._dlib.rectangle(left, top, right, bottom)
        return self._dlib.full_object_detection(box, points)


def _area(face: Face) -> float:
    return float(np.prod(face.box[2:] - face.box[:2]))


def _largest(faces: Sequence[Face]) -> Face:
    return max(faces, key=_area)


def _interpolate(values: np.ndarray, times: Sequence[int], length: int) -> np.ndarray:
    """values [K, ...] known at K increasing frames -> [length, ...], linear, ends held."""
    columns = values.reshape(len(times), -1).T
    filled = np.stack([np.interp(range(length), times, column) for column in columns], axis=-1)
    return filled.reshape(length, *values.shape[1:]).astype(np.float32)


def _long_gaps(missing: Sequence[int], max_gap: int) -> list[range]:
    """The runs of more than `max_gap` frames among those without a face."""
    # Frames of one run share the difference to their rank.
    runs = itertools.groupby(enumerate(sorted(missing)), key=lambda item: item[1] - item[0])
    frames = [[frame for _, frame in run] for _, run in runs]
    return [range(run[0], run[-1] + 1) for run in frames if len(run) > max_gap]


def detect_video(
    frames: np.ndarray, detector: Detector, detect_every: int = 5, max_gap: int = 10
) -> np.ndarray:
    """Landmarks of the one face of a video, which is there throughout.

    As `detect_stretches`, but a run of more than `max_gap` frames without a face is an error.

    Returns:
        float32 [T, 68, 2], (x, y) in pixels of the frames.

    Raises:
        ClipError: also for a longer gap.
    """
    landmarks, stretches = detect_stretches(frames, detector, detect_every, max_gap)
    first, *others = stretches
    if first != range(len(frames)):
        end = others[0].start if others else len(frames)
        gap = range(first.start) or range(first.stop, end)
        raise ClipError(f"no face in frames {gap[0]}..{gap[-1]}")
    return landmarks


def detect_stretches(
    frames: np.ndarray, detector: Detector, detect_every: int = 5, max_gap: int = 10
) -> tuple[np.ndarray, list[range]]:
    """Landmarks of the one face of a video, and the stretches of frames in which it is.

    The detector searches every `detect_every`-th frame and the last; in between the box is
    interpolated and only landmarks are placed. Where a search fails, every frame up to the
    neighbouring searches is searched too, and the landmarks of frames without a face are
    interpolated; over more than `max_gap` frames (0.4 s at 25 fps) they mean nothing, and a stretch
    ends there. The largest face counts. A Gaussian of one frame smooths the landmarks over time
    (ours), because the jitter of independent frames would shake the crops.

    Args:
        frames: uint8 [T, H, W, 3], T at least 1.
        detector: see `Detector`.
        detect_every: frames from one search to the next.
        max_gap: the longest run of frames without a face that is bridged.

    Returns:
        Landmarks float32 [T, 68, 2], (x, y) in pixels of the frames, and at least one range of
        frames.

    Raises:
        ClipError: no face at all, or a second face at least half as large as the first in most of
          the searched frames.
    """
    keys = sorted({*range(0, len(frames), detect_every), len(frames) - 1})
    faces = {t: detector(frames[t]) for t in keys}
    for start, end in itertools.pairwise(keys):
        if not (faces[start] and faces[end]):
            faces |= {t: detector(frames[t]) for t in range(start + 1, end)}
    largest = {t: _largest(faces[t]) for t in sorted(faces) if faces[t]}
    if not largest:
        raise ClipError("no face in the video")
    crowded = [sum(2 * _area(face) >= _area(largest[t]) for face in faces[t]) > 1 for t in largest]
    if 2 * sum(crowded) > len(crowded):
        raise ClipError("two faces of similar size")

    boxes = _interpolate(np.stack([f.box for f in largest.values()]), list(largest), len(frames))
    placed = {
        t: largest[t].landmarks if t in largest else detector.place(frame, boxes[t])
        for t, frame in enumerate(frames)
        if t in largest or t not in faces
    }
    landmarks = _interpolate(np.stack(list(placed.values())), list(placed), len(frames))
    gaps = _long_gaps([t for t, found in faces.items() if not found], max_gap)
    ends = [0, *itertools.chain.from_iterable((gap.start, gap.stop) for gap in gaps), len(frames)]
    stretches = [range(a, b) for a, b in zip(ends[::2], ends[1::2], strict=True) if a < b]
    return gaussian_filter1d(landmarks, _SMOOTHING, axis=0, mode="nearest"), stretches


def canonical_points(image_size: tuple[int, int] = (128, 96)) -> np.ndarray:
    """Where the stable points lie in an aligned crop: float32 [5, 2], (x, y) in pixels.

    `image_size` is (H, W). The eye line is at 0.36 of the height; the outer eye corners are half
    the width apart, or 0.375 of the height where that is less, so that brows, chin and jaw
    stay inside crops of any proportion. At 4:3 the base of the nose is at 0.577 of the height.
    """
    height, width = image_size
    unit = min(0.5 * width, 0.375 * height)
    return (unit * _AVERAGE_FACE + (0.5 * width, 0.36 * height)).astype(np.float32)


def alignment_target(data_config: ConfigDict) -> np.ndarray:
    """Where a run's crops have their stable points: float32 [5, 2], (x, y) in pixels.

    Args:
        data_config: image_size and canonical_points; where that is empty, or in older runs
          absent, they are our own.
    """
    other = data_config.get("canonical_points")
    return np.array(other, np.float32) if other else canonical_points(data_config.image_size)


def similarity_transform(source: np.ndarray, target: np.ndarray) -> np.ndarray:
    """Scale, rotation and shift that best map points to points in the least-squares sense.

    The solution of Umeyama (1991) without reflection, in the closed form it has in the plane:
    with points as complex numbers, rotation and scale are one complex factor.

    Args:
        source: [..., N, 2], N at least 2 points that do not all coincide.
        target: [..., N, 2], broadcast against `source`.

    Returns:
        float32 [..., 2, 3]: matrices M with target ~ M[:, :2] @ source + M[:, 2].
    """
    z, w = (np.asarray(p, np.float64) @ (1, 1j) for p in (source, target))
    z_mean, w_mean = z.mean(-1, keepdims=True), w.mean(-1, keepdims=True)
    z_centred = z - z_mean
    power = (np.abs(z_centred) ** 2).sum(-1)
    factor = (z_centred.conj() * (w - w_mean)).sum(-1) / power
    shift = w_mean[..., 0] - factor * z_mean[..., 0]
    rows = (factor.real, -factor.imag, shift.real, factor.imag, factor.real, shift.imag)
    return np.stack(rows, axis=-1).reshape(*factor.shape, 2, 3).astype(np.float32)


def transform_points(transforms: np.ndarray, points: np.ndarray) -> np.ndarray:
    """Apply transforms [..., 2, 3] to points [..., N, 2] -> [..., N, 2]."""
    return points @ np.swapaxes(transforms[..., :2], -1, -2) + transforms[..., None, :, 2]


def _warp(image: np.ndarray, transform: np.ndarray, image_size: tuple[int, int]) -> np.ndarray:
    """Crop [H, W, 3] of an image [h, w, 3] under a transform [2, 3] from image to crop pixels."""
    matrix = np.vstack([transform, (0, 0, 1)])
    # A warp reads a fixed number of neighbours and aliases below half size: halve by area first.
    while np.hypot(*matrix[:2, 0]) < 0.5 and min(image.shape[:2]) > 1:
        height, width = image.shape[:2]
        halved = (max(width // 2, 1), max(height // 2, 1))
        fx, fy = width / halved[0], height / halved[1]
        image = cv2.resize(image, halved, interpolation=cv2.INTER_AREA)
        # Pixel centres are at whole numbers, hence the half-pixel terms.
        matrix = matrix @ [[fx, 0, (fx - 1) / 2], [0, fy, (fy - 1) / 2], [0, 0, 1]]
    return cv2.warpAffine(
        image,
        matrix[:2],
        dsize=image_size[::-1],
        flags=cv2.INTER_CUBIC,
        borderMode=cv2.BORDER_REPLICATE,
    )


def head_pose(landmarks: np.ndarray) -> np.ndarray:
    """How the head is turned, by weak perspective from the landmarks of a mean head.

    The linear least-squares map from the head's points to the image and the scaled rotation
    nearest to it, which is the first step of POSIT (DeMenthon and Davis 1995); which points, and
    the head, are ours. Faces differ: over the speakers of `synthetic_grid` the angles are off by
    3.9 (pitch), 2.1 (yaw) and 0.7 degrees (roll; standard deviations).

    Args:
        landmarks: float [..., 68, 2], (x, y) in pixels of a frame, not of an aligned crop, which
            has lost its roll.

    Returns:
        float32 [..., 3]: pitch (positive down), yaw (positive to the right of the image) and roll
        (positive counter-clockwise), degrees.
    """
    points = np.asarray(landmarks, np.float64)[..., _POSE_POINTS, :]
    points = points - points.mean(axis=-2, keepdims=True)
    head = _MEAN_HEAD - _MEAN_HEAD.mean(axis=0)
    linear = np.swapaxes(points, -1, -2) @ np.linalg.pinv(head).T
    left, _, right = np.linalg.svd(linear, full_matrices=False)
    x, y = np.moveaxis(left @ right, -2, 0)
    z = np.cross(x, y)
    # y and z of the image point down and away, those of the angles up and towards the viewer.
    pitch = np.arctan2(z[..., 1], z[..., 2])
    yaw = np.arcsin(np.clip(z[..., 0], -1, 1))
    roll = np.arctan2(-y[..., 0], x[..., 0])
    return np.degrees(np.stack([pitch, yaw, roll], axis=-1)).astype(np.float32)


def align(
    frames: np.ndarray,
    landmarks: np.ndarray,
    image_size: tuple[int, int] = (128, 96),
    canonical: np.ndarray | None = None,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Crop each frame so that its stable points lie on the canonical ones.

    Args:
        frames: uint8 [T, h, w, 3].
        landmarks: float32 [T, 68, 2], (x, y) in pixels of the frames.
        image_size: (H, W) of the crops.
        canonical: float32 [5, 2] target of the `STABLE_POINTS` in crop pixels, such as those rows
          of the mean face of an imported checkpoint; `canonical_points(image_size)` by default.

    Returns:
        Crops uint8 [T, H, W, 3] (borders repeat the frame's edge), their landmarks float32
        [T, 68, 2] in crop pixels, and the transforms float32 [T, 2, 3] from frame to crop pixels.
    """
    target = canonical_points(image_size) if canonical is None else canonical
    transforms = similarity_transform(landmarks[:, STABLE_POINTS], target)
    crops = [_warp(frame, m, image_size) for frame, m in zip(frames, transforms, strict=True)]
    return np.stack(crops), transform_points(transforms, landmarks), transforms


def realign(
    crops: np.ndarray, landmarks: np.ndarray, target: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Move crops from our canonical face to another one.

    Args:
        crops: uint8 [T, H, W, 3], of `align` to `canonical_points((H, W))`.
        landmarks: float32 [..., 68, 2] in their pixels.
        target: float32 [5, 2], where the stable points shall lie instead.

    Returns:
        Crops of the same size, whose borders repeat the edge where they show more than the ones
        before, and the landmarks in their pixels.
    """
    size = crops.shape[1:3]
    transform = similarity_transform(canonical_points(size), target)
    moved = np.stack([_warp(crop, transform, size) for crop in crops])
    return moved, transform_points(transform, landmarks)


def align_still(
    image: np.ndarray,
    detector: Detector,
    image_size: tuple[int, int] = (128, 96),
    canonical: np.ndarray | None = None,
    name: str = "the still",
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Find and crop the largest face of one image.

    Args:
        image: uint8 [h, w, 3].
        detector: see `Detector`.
        image_size: (H, W) of the crop.
        canonical: as in `align`.
        name: what the error calls the image, such as its path.

    Returns:
        Crop uint8 [H, W, 3], its landmarks float32 [68, 2] in crop pixels, and the transform
        float32 [2, 3] from image to crop pixels.

    Raises:
        UserError: no face found.
    """
    faces = detector(image)
    if not faces:
        raise UserError(f"no face found in {name}: use a picture of a face seen from the front")
    landmarks = _largest(faces).landmarks
    crops, points, transforms = align(image[None], landmarks[None], image_size, canonical)
    return crops[0], points[0], transforms[0]

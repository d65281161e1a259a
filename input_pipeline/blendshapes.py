"""Action units of real faces by MediaPipe's blendshapes: a PROXY, not a detector of action units.

Chen et al. 2021, section 4, take the units of GRID from OpenFace 2.0, which is free for research
alone and no package to install. Ours, where it is not at hand: the networks of MediaPipe's Face
Landmarker, 478 points and from them 52 blendshapes, of which those that are named like the units
of `synthetic_grid` stand for them; AU25 is the gap of the lips between two points. They run by
themselves, without MediaPipe: a prepared crop is a face that fills its image, so that none has to
be searched for. At rest a blendshape differs from face to face by more than a unit changes it:
what counts is how far it rises within a clip, as OpenFace, too, takes a person's median away.
Nothing here imports JAX.
"""

import functools
import zipfile
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from flax_talk.errors import UserError
from input_pipeline.faces import ClipError
from input_pipeline.synthetic.articulation import ACTION_UNITS

SOURCE = "mediapipe blendshapes (proxy)"
"""What such labels call themselves."""

MODEL_URL = (
    "https://storage.googleapis.com/mediapipe-models/face_landmarker/face_landmarker/float16/1/"
    "face_landmarker.task"
)
"""Where Google publishes the Face Landmarker (Apache-2.0), 3.8 MB."""

_NETWORKS = ("face_landmarks_detector.tflite", "face_blendshapes.tflite")
_SIZE = 256  # pixels, side of the image in which the points are found
_POINTS = 478
_OUTER_EYES = (33, 263)
_INNER_LIPS = (13, 14)
# The points from which the blendshapes are worked out.
# fmt: off
_SUBSET = (
    0, 1, 4, 5, 6, 7, 8, 10, 13, 14, 17, 21, 33, 37, 39, 40, 46, 52, 53, 54, 55, 58, 61, 63, 65,
    66, 67, 70, 78, 80, 81, 82, 84, 87, 88, 91, 93, 95, 103, 105, 107, 109, 127, 132, 133, 136,
    144, 145, 146, 148, 149, 150, 152, 153, 154, 155, 157, 158, 159, 160, 161, 162, 163, 168, 172,
    173, 176, 178, 181, 185, 191, 195, 197, 234, 246, 249, 251, 263, 267, 269, 270, 276, 282, 283,
    284, 285, 288, 291, 293, 295, 296, 297, 300, 308, 310, 311, 312, 314, 317, 318, 321, 323, 324,
    332, 334, 336, 338, 356, 361, 362, 365, 373, 374, 375, 377, 378, 379, 380, 381, 382, 384, 385,
    386, 387, 388, 389, 390, 397, 398, 400, 402, 405, 409, 415, 454, 466, *range(468, 478),
)
# fmt: on
# Numbers of the blendshapes, left and right, whose mean stands for a unit.
_BLENDSHAPES = {
    "AU10": (48, 49),  # mouthUpperUp
    "AU14": (28, 29),  # mouthDimple
    "AU20": (46, 47),  # mouthStretch
    "AU26": (25,),  # jawOpen
}


_EXPONENT = 0.25  # spreads what is next to nothing: real faces hardly leave it
_REST = 0.25  # quantile of a clip's frames
_INTENSITIES = (0.2, 0.5)

LEVELS = {
    "AU10": (0.1765, 0.5267),
    "AU14": (0.0653, 0.0812),
    "AU20": (0.0771, 0.1942),
    "AU25": (0.0627, 0.1243),
    "AU26": (0.1306, 0.4338),
}
"""The `movements` that count as intensities 0.2 and 0.5.

As many frames of 70 rendered training clips are above them as have units above those intensities:
`scripts/calibrate_unit_proxy.py`.
"""


class Labeller:
    """The two networks of a Face Landmarker.

    Args:
        path: of the `.task` file, see `MODEL_URL`.

    Raises:
        UserError: ai-edge-litert is not installed, or the file is missing or something else.
    """

    def __init__(self, path: str | Path) -> None:
        try:
            from ai_edge_litert.interpreter import Interpreter
        except ImportError as error:
            raise UserError(
                "ai-edge-litert is not installed: pip install 'flax-talk[labels]'"
            ) from error
        try:
            with zipfile.ZipFile(path) as file:
                contents = [file.read(name) for name in _NETWORKS]
            # One thread: the clips are the parallelism.
            networks = [Interpreter(model_content=data, num_threads=1) for data in contents]
        except (OSError, KeyError, ValueError, zipfile.BadZipFile) as error:
            raise UserError(
                f"{path} is no Face Landmarker with blendshapes ({error}): download {MODEL_URL}"
            ) from error
        for network in networks:
            network.allocate_tensors()
        self._points, self._blendshapes = networks

    def __call__(self, frames: np.ndarray) -> np.ndarray:
        """Intensities of the units, a proxy.

        Args:
            frames: uint8 [T, H, W, 3], RGB, each a face that fills its image.

        Returns:
            float32 [T, 5] in [0, 1], in the order of `ACTION_UNITS`; in a frame without a face
            those of the nearest that has one.

        Raises:
            ClipError: there is a face in no frame.
        """
        return intensities(movements(self.raw(frames)))

    def raw(self, frames: np.ndarray) -> np.ndarray:
        """What stands for the units, as the networks have it.

        Args:
            frames: as of a call.

        Returns:
            float32 [T, 5]: means of blendshapes, 0 to 1; for AU25 the gap of the inner lips, in
            distances of the outer eye corners.

        Raises:
            ClipError: there is a face in no frame.
        """
        found = [self._look(frame) for frame in frames]
        seen = np.array([index for index, units in enumerate(found) if units is not None])
        if not len(seen):
            raise ClipError("the Face Landmarker finds a face in no frame")
        nearest = seen[np.abs(seen - np.arange(len(frames))[:, None]).argmin(axis=1)]
        return np.stack([found[index] for index in nearest])

    def _look(self, frame: np.ndarray) -> np.ndarray | None:
        """`raw` of one frame, float32 [5]; None where there is no face."""
        square = _padded_square(frame).astype(np.float32) / 255
        points, presence, _ = _run(self._points, square)
        if presence.item() < 0:  # a logit
            return None
        points = points.reshape(_POINTS, 3)[:, :2]
        [weights] = _run(self._blendshapes, points[list(_SUBSET)])
        gap, eyes = (
            np.linalg.norm(points[one] - points[other]) for one, other in (_INNER_LIPS, _OUTER_EYES)
        )
        values = [
            gap / eyes if name == "AU25" else weights[list(_BLENDSHAPES[name])].mean()
            for name in ACTION_UNITS
        ]
        return np.array(values, np.float32)


def movements(raw: np.ndarray) -> np.ndarray:
    """How far each unit moves in a clip.

    Args:
        raw: [T, 5] of `Labeller.raw`.

    Returns:
        [T, 5]: fourth roots of the blendshapes less the lower quartile of the clip, in which the
        face is at rest; the gap as it is, since closed lips are closed in every face.
    """
    roots = raw**_EXPONENT
    risen = roots - np.quantile(roots, _REST, axis=0)
    return np.where([name == "AU25" for name in ACTION_UNITS], raw, risen)


def intensities(moved: np.ndarray) -> np.ndarray:
    """Intensities of `movements` by `LEVELS`, straight lines in between: float32 in [0, 1]."""
    columns = []
    for name, column in zip(ACTION_UNITS, moved.T, strict=True):
        low, high = LEVELS[name]
        least, middle = _INTENSITIES
        full = low + (high - low) * (1 - least) / (middle - least)
        columns.append(np.interp(column, (0, low, high, full), (0, *_INTENSITIES, 1)))
    return np.stack(columns, axis=1).astype(np.float32)


@functools.cache
def get_labeller(path: str) -> Labeller:
    """The labeller of a file, read at the first call and then shared."""
    return Labeller(path)


def _padded_square(frame: np.ndarray) -> np.ndarray:
    """Frame uint8 [H, W, 3] in the middle of a black square of `_SIZE` pixels, as large as fits."""
    height, width = frame.shape[:2]
    scale = _SIZE / max(height, width)
    shift = (_SIZE - 1) / 2 - scale * (np.array([width, height]) - 1) / 2
    matrix = np.array([[scale, 0, shift[0]], [0, scale, shift[1]]])
    return cv2.warpAffine(frame, matrix, (_SIZE, _SIZE), flags=cv2.INTER_LINEAR)


def _run(network: Any, value: np.ndarray) -> list[np.ndarray]:
    """Outputs of a network for one input without its batch axis."""
    network.set_tensor(network.get_input_details()[0]["index"], value[None].astype(np.float32))
    network.invoke()
    return [network.get_tensor(output["index"]) for output in network.get_output_details()]

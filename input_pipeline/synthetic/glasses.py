"""Glasses fitted to a head: two rims, the temples that lead to the ears, and a bridge. Ours."""

import numpy as np

from flax_talk.face_model.model import load_default
from input_pipeline.synthetic.meshes import Mesh, merge, tube
from input_pipeline.synthetic.renderer import FRAME

_RIGHT_EYE, _LEFT_EYE, _NOSE_ROOT = slice(36, 42), slice(42, 48), 27  # landmarks
_RIM_CORNERS, _BAR_CORNERS = 28, 6
_EYE_RELIEF = 0.22  # dm, of the rims in front of the eyes
_EAR = (0.72, 0.08, -0.15)  # x and y from the middle between the eyes, depth; dm


def glasses_mesh(random: np.random.Generator, head: np.ndarray) -> Mesh:
    """Frames of a random form around both eyes of a head [V, 3]."""
    marks = head[load_default().landmarks]
    middle = (marks[_RIGHT_EYE].mean(0) + marks[_LEFT_EYE].mean(0)) / 2
    apart = marks[_LEFT_EYE].mean(0)[0] - middle[0]
    depth = max(marks[_NOSE_ROOT][2] - 0.02, middle[2] + _EYE_RELIEF)
    half_width, half_height = random.uniform(0.23, 0.27), random.uniform(0.15, 0.22)
    power = random.uniform(0.5, 1.0)  # 1 is an ellipse, less is nearer to a rectangle
    radius = random.uniform(0.011, 0.018)
    rim_x, rim_y = _rim(half_width, half_height, power)
    pieces, inner = [], []
    for side in (-1, 1):
        center = middle[0] + side * max(apart, half_width + 0.06)
        # The frame follows the face: further back at the temples.
        z = depth - 0.10 * np.maximum(side * rim_x + half_width, 0)
        rim = np.stack([center + rim_x, middle[1] - 0.03 + rim_y, z], axis=-1)
        pieces.append(tube(rim, radius, closed=True))
        outer = np.array([center + side * half_width, middle[1] + 0.06, z.min()])
        ear = np.array([middle[0] + side * _EAR[0], middle[1] + _EAR[1], _EAR[2]])
        pieces.append(tube(_bar(outer, ear, (side * 0.02, 0, 0)), radius, closed=False))
        inner.append(np.array([center - side * half_width * 0.97, middle[1] + 0.02, depth]))
    pieces.append(tube(_bar(inner[0], inner[1], (0, 0.05, 0.02)), radius, closed=False))
    vertices, triangles = merge(pieces)
    uv = np.zeros((len(triangles), 3, 2), np.float32)
    return Mesh(vertices, triangles, uv, FRAME, np.ones(len(vertices), np.float32))


def _rim(half_width: float, half_height: float, power: float) -> tuple[np.ndarray, np.ndarray]:
    """x and y [K] of a superellipse around the origin, dm."""
    turn = np.linspace(0, 2 * np.pi, _RIM_CORNERS, endpoint=False)
    x = half_width * np.sign(np.cos(turn)) * np.abs(np.cos(turn)) ** power
    y = half_height * np.sign(np.sin(turn)) * np.abs(np.sin(turn)) ** power
    return x, y


def _bar(start: np.ndarray, end: np.ndarray, bulge: tuple[float, float, float]) -> np.ndarray:
    """A line [K, 3] between two points that swings out by bulge in the middle."""
    share = np.linspace(0, 1, _BAR_CORNERS)[:, None]
    return start + share * (end - start) + np.array(bulge) * np.sin(np.pi * share)

"""What is behind a speaker: a sheet in a studio, a wall by a window, or a blurred room. Ours."""

import cv2
import numpy as np

from input_pipeline.synthetic.painting import smooth

_SIZE = 160  # pixels; out of focus, so few are enough
_WALLS = np.array(
    [
        (0.42, 0.41, 0.39),
        (0.30, 0.33, 0.36),
        (0.33, 0.30, 0.26),
        (0.20, 0.23, 0.22),
        (0.11, 0.12, 0.14),
        (0.50, 0.48, 0.44),
        (0.24, 0.27, 0.33),
    ]
)
_KINDS = ("studio", "window", "shelves", "room")
_DARKEST, _BRIGHTEST = 0.01, 0.95


def draw_background(random: np.random.Generator) -> np.ndarray:
    """A picture float32 [160, 160, 3], linear light."""
    wall = _WALLS[random.integers(len(_WALLS))] * random.uniform(0.7, 1.25)
    plain = np.broadcast_to(wall, (_SIZE, _SIZE, 3)).astype(np.float32)
    kind = _KINDS[random.integers(len(_KINDS))]
    if kind == "studio":
        picture = _spotlight(random, plain)
    elif kind == "window":
        picture = _light_from_a_side(random, plain)
    else:
        picture = _blurred_boxes(random, plain, tall=kind == "shelves")
    return np.ascontiguousarray(np.clip(picture, _DARKEST, _BRIGHTEST), np.float32)


def _grid() -> tuple[np.ndarray, np.ndarray]:
    """x and y, 0 to 1, of the pixels: [S, S] each."""
    y, x = np.mgrid[0:_SIZE, 0:_SIZE].astype(np.float32) / _SIZE
    return x, y


def _spotlight(random: np.random.Generator, picture: np.ndarray) -> np.ndarray:
    x, y = _grid()
    away = np.hypot(x - random.uniform(0.3, 0.7), y - random.uniform(0.3, 0.6))
    return picture * (1.25 - 0.8 * smooth(0, 0.9, away))[..., None]


def _light_from_a_side(random: np.random.Generator, picture: np.ndarray) -> np.ndarray:
    x, y = _grid()
    ramp = np.cos(random.uniform(0, 2 * np.pi)) * (x - 0.5) + 0.4 * (0.5 - y)
    return picture * (1 + 0.5 * ramp)[..., None]


def _blurred_boxes(random: np.random.Generator, picture: np.ndarray, tall: bool) -> np.ndarray:
    """Furniture, or with `tall` the backs of books, far out of focus."""
    picture = picture.copy()
    for _ in range(random.integers(10, 28)):
        width = random.uniform(0.03, 0.10 if tall else 0.45)
        height = random.uniform(0.15, 0.5)
        left, top = random.uniform(-0.1, 1), random.uniform(-0.1, 1)
        colour = _WALLS[random.integers(len(_WALLS))] * random.uniform(0.3, 1.6)
        colour = colour * (1 + 0.10 * random.standard_normal(3))
        box = tuple(int(_SIZE * value) for value in (left, top, left + width, top + height))
        cv2.rectangle(picture, box[:2], box[2:], np.clip(colour, 0, 0.9).tolist(), -1)
    return cv2.GaussianBlur(picture, (0, 0), random.uniform(4, 9))

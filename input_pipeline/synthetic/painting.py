"""Paint: soft steps, noise, blending and the stored form of a texture, for all that is coloured.

Ours. Textures are squares of `TEXTURE_SIZE` texels; colours are linear light, 0 to 1.
"""

import cv2
import numpy as np

TEXTURE_SIZE = 512

_CELLS_PER_GRAIN = 1.5  # below this noise is drawn at full size


def smooth(low: float, high: float, values: np.ndarray) -> np.ndarray:
    """0 below low, 1 above high, smooth between; falls where low is the greater one."""
    t = np.clip((values - low) / (high - low), 0, 1)
    return t * t * (3 - 2 * t)


def bell(distance: np.ndarray, width: float) -> np.ndarray:
    """1 at distance 0, 1 / e at a distance of width, on both sides."""
    return np.exp(-((distance / width) ** 2))


def noise(random: np.random.Generator, grain: tuple[float, float]) -> np.ndarray:
    """Smooth noise of mean 0 and deviation 1, float32 [S, S]; grain in texels (rows, columns)."""
    # Coarse grain is made small and enlarged: a wide blur would take most of the time.
    cells = [max(1, int(value / _CELLS_PER_GRAIN)) for value in grain]
    white = random.standard_normal([TEXTURE_SIZE // cell + 2 for cell in cells], dtype=np.float32)
    sigma = [value / cell for value, cell in zip(grain, cells, strict=True)]
    blurred = cv2.GaussianBlur(
        white, (0, 0), sigmaX=sigma[1], sigmaY=sigma[0], borderType=cv2.BORDER_REFLECT
    )
    large = cv2.resize(blurred, (TEXTURE_SIZE, TEXTURE_SIZE), interpolation=cv2.INTER_CUBIC)
    return large / max(float(large.std()), 1e-9)


def mix(low: np.ndarray, high: np.ndarray, share: np.ndarray) -> np.ndarray:
    """Colours [..., 3] from low, where share [S, S] is 0, to high, where it is 1."""
    return low + share[..., None] * (np.asarray(high, np.float32) - low)


def to_texture(colour: np.ndarray, fourth: np.ndarray | float) -> np.ndarray:
    """Linear colour [S, S, 3] and gloss or opacity [S, S], 0 to 1 -> uint8 [S, S, 4].

    Stores the square root of the colour, so that few steps are spent on highlights.
    """
    texture = np.empty((*colour.shape[:2], 4), np.uint8)
    texture[..., :3] = np.rint(255 * np.sqrt(np.clip(colour, 0, 1)))
    texture[..., 3] = np.rint(255 * np.clip(fourth, 0, 1))
    return texture

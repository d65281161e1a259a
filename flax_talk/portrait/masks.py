"""Where the mouth is hidden from the renderer, and where what it drew goes into the target.

Song et al., "Everybody's Talkin'", 2020, section 3.3.1: a square over lips, jaw and nasolabial
folds is filled with noise; what is drawn there is later put into the target through a soft mask,
the polygon of the outermost landmarks of the mouth, eroded and smoothed by a Gaussian. Ours: faces
are aligned (`input_pipeline.faces`), so that the square lies at the same place in every frame and
tells nothing of the mouth under it; the noise is uniform; and the polygon grows by default, since
an eroded one would show the lips of the target around the new ones.
"""

from collections.abc import Sequence
from typing import NamedTuple

import cv2
import jax
import jax.numpy as jnp
import numpy as np


class Square(NamedTuple):
    """Rows top..bottom and columns left..right of a picture, the ends not included."""

    top: int
    left: int
    bottom: int
    right: int

    def cut(self, video: jax.Array) -> jax.Array:
        """[..., H, W, C] to [..., bottom - top, right - left, C]."""
        return video[..., self.top : self.bottom, self.left : self.right, :]

    def paste(self, part: jax.Array, video: jax.Array) -> jax.Array:
        """`video` [..., H, W, C] with `part` [..., bottom - top, right - left, C] inside."""
        return (
            jnp.asarray(video).at[..., self.top : self.bottom, self.left : self.right, :].set(part)
        )


def mouth_square(image_size: Sequence[int]) -> Square:
    """The square of aligned crops of a size (H, W).

    In units of the distance between the outer corners of the eyes, as `faces.canonical_points` has
    it: 13/12 on each side, from 0.54 below the line of the eyes; at 128 x 96 52 pixels, from the
    base of the nose to below the chin.
    """
    height, width = image_size
    unit = min(0.5 * width, 0.375 * height)
    top, side = round(0.36 * height + 0.54 * unit), round(13 / 12 * unit)
    left = (width - side) // 2
    return Square(top, left, min(top + side, height), left + side)


def fill_with_noise(
    video: jax.Array, square: Square, rng: jax.Array, amplitude: float = 1.0
) -> jax.Array:
    """Hides a square of every frame behind uniform noise.

    Args:
        video: float [..., H, W, 3] in [-1, 1].
        square: of `mouth_square`.
        rng: [...] keys, one for each frame.
        amplitude: the noise is between minus and plus this.

    Returns:
        [..., H, W, 3], of which nothing depends on what was in the square.
    """
    shape = (square.bottom - square.top, square.right - square.left, 3)

    def draw(key):
        return jax.random.uniform(key, shape, video.dtype, -amplitude, amplitude)

    noise = jax.vmap(draw)(rng.reshape(-1)).reshape(*video.shape[:-3], *shape)
    return square.paste(noise, video)


def fill_from_around(video: jax.Array, square: Square) -> jax.Array:
    """Fills a square of every frame with the colours around it (ours).

    Each pixel in it becomes the mean of the pixels outside, weighted by a Gaussian of a sixth of
    the square's height.

    Args:
        video: float [..., H, W, 3].
        square: of `mouth_square`, with something of the frame around it.

    Returns:
        [..., H, W, 3], of which nothing depends on what was in the square.
    """
    height, width = video.shape[-3:-1]
    deviation = (square.bottom - square.top) / 6

    def weights(length):
        apart = jnp.arange(length)[:, None] - jnp.arange(length)
        return jnp.exp(-jnp.square(apart) / (2 * deviation**2))

    hole = jnp.zeros((square.bottom - square.top, square.right - square.left, 1))
    around = square.paste(hole, jnp.ones((height, width, 1)))
    # The weights of the pixels come as a fourth colour.
    known = around * jnp.concatenate([video, jnp.ones_like(video[..., :1])], axis=-1)
    total = jnp.einsum("ih,...hwc,jw->...ijc", weights(height), known, weights(width))
    return square.paste(square.cut(total[..., :3] / total[..., 3:]), video)


def soft_masks(
    landmarks: np.ndarray,
    image_size: Sequence[int],
    grow: float = 4.0,
    deviation: float = 2.0,
) -> np.ndarray:
    """The convex polygon around landmarks in each frame, grown or eroded, with soft edges.

    Args:
        landmarks: float [T, N, 2], (x, y) in pixels: the 20 of the mouth, or those of the new
            mouth and of the target's together [T, 40, 2], so that neither is cut.
        image_size: (H, W).
        grow: pixels by which the polygon is dilated; the paper's erosion is negative.
        deviation: of the Gaussian that smooths the edge, pixels; 0 leaves it hard.

    Returns:
        float32 [T, H, W] in [0, 1].
    """
    height, width = image_size
    steps = round(abs(grow))
    kernel = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * steps + 1, 2 * steps + 1))
    change = cv2.dilate if grow > 0 else cv2.erode
    masks = np.zeros((len(landmarks), height, width), np.float32)
    for mask, points in zip(masks, np.asarray(landmarks), strict=True):
        hull = cv2.convexHull(np.rint(points).astype(np.int32))
        cv2.fillConvexPoly(mask, hull, 1.0)
        if steps:
            # Beyond the picture the mask is the same as at its edge.
            mask[:] = change(mask, kernel, borderType=cv2.BORDER_REPLICATE)
        if deviation:
            mask[:] = cv2.GaussianBlur(mask, (0, 0), deviation, borderType=cv2.BORDER_REPLICATE)
    return masks

"""Landmarks as pictures that a network can see and a gradient can flow through.

Song et al., "Everybody's Talkin'", 2020, section 3.3.1: one grey heat map for each frame, of
Gaussians centred at the landmarks of the mouth. Ours is that a pixel has the largest of the
Gaussians, not their sum, so that lips that close stay as bright as a single point.
"""

from collections.abc import Sequence

import jax
import jax.numpy as jnp


def heat_maps(landmarks: jax.Array, image_size: Sequence[int], deviation: float) -> jax.Array:
    """max_n exp(-|u - l_n|^2 / (2 deviation^2)) at each pixel u.

    Args:
        landmarks: float [..., N, 2], (x, y) in pixels, whose centres are at whole numbers.
        image_size: (H, W).
        deviation: of the Gaussians, pixels.

    Returns:
        float32 [..., H, W] in [0, 1]; differentiable in the landmarks.
    """
    height, width = image_size
    x, y = landmarks[..., 0, None], landmarks[..., 1, None]
    across = -jnp.square(jnp.arange(width) - x) / (2 * deviation**2)
    down = -jnp.square(jnp.arange(height) - y) / (2 * deviation**2)
    # The largest exponent belongs to the largest Gaussian, and is the cheaper to find.
    return jnp.exp((down[..., :, None] + across[..., None, :]).max(axis=-3))

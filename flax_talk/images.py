"""Pixels between the two forms they have: uint8 in files and batches, float in networks; crops."""

from collections.abc import Sequence

import jax
import jax.numpy as jnp


def to_float(images: jax.Array) -> jax.Array:
    """uint8 0..255 to float32 in [-1, 1]; floats pass. Any shape."""
    if images.dtype == jnp.uint8:
        return images.astype(jnp.float32) / 127.5 - 1
    return images


def to_uint8(images: jax.Array) -> jax.Array:
    """Float in [-1, 1] to uint8 0..255, rounded. Any shape."""
    return jnp.round((images + 1) * 127.5).astype(jnp.uint8)


def crop_and_resize(
    images: jax.Array, box: Sequence[float] | jax.Array, size: Sequence[int]
) -> jax.Array:
    """A part of images at another size, by linear interpolation, smoothed where it shrinks.

    Args:
        images: float [..., H, W, C].
        box: (top, left, bottom, right) of the part, in shares of the image's height and width;
            beyond the image it is 0.
        size: (H', W') of the result, pixels.

    Returns:
        [..., H', W', C].
    """
    *lead, height, width, channels = images.shape
    corners = jnp.asarray(box, jnp.float32).reshape(2, 2) * jnp.array([height, width])
    scale = jnp.array(size) / (corners[1] - corners[0])
    shift = -corners[0] * scale
    flat = images.reshape(-1, height, width, channels)
    shape = (flat.shape[0], *size, channels)
    part = jax.image.scale_and_translate(flat, shape, (1, 2), scale, shift, "linear")
    return part.reshape(*lead, *size, channels)

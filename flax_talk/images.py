"""Pixels between the two forms they have: uint8 in files and batches, float in networks."""

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

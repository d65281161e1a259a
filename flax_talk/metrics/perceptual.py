"""Perceptual distance: how unlike a generated frame looks, by what a network sees in it.

The distance of Zhang et al., "The Unreasonable Effectiveness of Deep Features as a Perceptual
Metric", 2018, section 3.1, on VGG-19: activations are scaled to unit length over their channels,
and their squared differences averaged. Ours: the mean over channels and layers, all of equal
weight. It is NOT LPIPS, whose weights for each channel were learned from people's judgements;
values of the two do not compare.
"""

import functools
from collections.abc import Sequence

import jax
import jax.numpy as jnp

from flax_talk.images import to_float
from flax_talk.nets.perceptual import Vgg19Weights, vgg19_features

LAYERS = ("relu1_2", "relu2_2", "relu3_4", "relu4_4", "relu5_4")
"""The last activations of each block."""

_FRAMES_AT_ONCE = 8  # Their first activations take a hundred times the memory of the pixels.
_LEAST_LENGTH = 1e-10  # of an activation, relative to which it is scaled: where all are zero


@functools.partial(jax.jit, static_argnames="layers")
def perceptual_distance(
    weights: Vgg19Weights, video: jax.Array, reference: jax.Array, layers: Sequence[str] = LAYERS
) -> jax.Array:
    """Perceptual distance of each frame, 0 where they are equal.

    Args:
        weights: of `flax_talk.interop.vgg19.load_vgg19`.
        video, reference: [..., H, W, 3], uint8 or float in [-1, 1], H and W at least 16.
        layers: tuple of `flax_talk.nets.perceptual.ACTIVATIONS`.

    Returns:
        float32 [...].
    """

    def distance(frames):
        features = vgg19_features(weights, jnp.stack(frames), layers)
        return sum(_difference(*features[name]) for name in layers) / len(layers)

    pairs = [to_float(x).reshape(-1, *x.shape[-3:]) for x in (video, reference)]
    values = jax.lax.map(distance, tuple(pairs), batch_size=_FRAMES_AT_ONCE)
    return values.reshape(video.shape[:-3])


def _difference(x: jax.Array, y: jax.Array) -> jax.Array:
    """Mean squared difference of activations [H, W, C] of unit length over the channels."""
    x, y = (
        z * jax.lax.rsqrt(jnp.square(z).sum(axis=-1, keepdims=True) + _LEAST_LENGTH)
        for z in (x.astype(jnp.float32), y.astype(jnp.float32))
    )
    return jnp.square(x - y).mean()

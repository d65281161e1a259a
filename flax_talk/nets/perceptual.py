"""VGG-19: the network whose activations compare pictures as people do.

The convolutions of configuration E of Simonyan and Zisserman, "Very Deep Convolutional Networks
for Large-Scale Image Recognition", 2015, trained on ImageNet: features for perceptual losses and
distances. It has no classifier, is never trained here, and is a pure function of its weights, which
`flax_talk.interop.vgg19` reads. Ours: one form for weights of every origin, whose normalisation
of the pixels is part of them.
"""

from collections.abc import Sequence
from typing import NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

BLOCKS = ((2, 64), (2, 128), (4, 256), (4, 512), (4, 512))
"""Convolutions and channels of each block; the picture is halved between blocks."""

CONVOLUTIONS = tuple(
    f"conv{block}_{i}"
    for block, (count, _) in enumerate(BLOCKS, start=1)
    for i in range(1, count + 1)
)
"""Names of the 16 convolutions, in order."""

ACTIVATIONS = tuple(name.replace("conv", "relu") for name in CONVOLUTIONS)
"""Names of what `vgg19_features` can return, in order."""


class Vgg19Weights(NamedTuple):
    """What VGG-19 consists of.

    Attributes:
        mean: float32 [3], RGB, subtracted from pixels 0..255.
        scale: float32 [3], by which the difference is multiplied.
        kernels: float32 [3, 3, C, O] by the name of the convolution, the first for RGB.
        biases: float32 [O] by the same names.
    """

    mean: np.ndarray
    scale: np.ndarray
    kernels: dict[str, np.ndarray]
    biases: dict[str, np.ndarray]


def in_deviations(weights: Vgg19Weights) -> Vgg19Weights:
    """The same network for pixels in deviations, 58 of 255, as torchvision's sees them.

    A rectifier keeps factors, so that all activations are divided by one number: those of weights
    in Caffe's convention are about 58 times as large as torchvision's, for which papers give the
    weights of their losses. Of arrays on the host, as they are read, and to such.
    """
    factor = 58.0 * np.mean(weights.scale)
    biases = {name: bias / factor for name, bias in weights.biases.items()}
    return weights._replace(scale=weights.scale / factor, biases=biases)


def vgg19_features(
    weights: Vgg19Weights, images: jax.Array, names: Sequence[str]
) -> dict[str, jax.Array]:
    """Activations of VGG-19 behind the named rectifiers; layers after the last are left out.

    Args:
        weights: see `Vgg19Weights`.
        images: [N, H, W, 3] in [-1, 1], RGB; their dtype is that of the computation. H and W are
            at least 2 to the power of the blocks that are left behind, 16 for the fifth.
        names: of `ACTIVATIONS`.

    Returns:
        By name, [N, H', W', C]; H' and W' are halved and rounded down from block to block.

    Raises:
        ValueError: an unknown name.
    """
    last = max(ACTIVATIONS.index(name) for name in names)
    # Whole levels of 0..255 in bfloat16 would be off by a half in the upper range.
    x = ((images.astype(jnp.float32) + 1) * 127.5 - weights.mean) * weights.scale
    x = x.astype(images.dtype)
    found = {}
    for convolution, activation in zip(CONVOLUTIONS[: last + 1], ACTIVATIONS, strict=False):
        if convolution.endswith("_1") and convolution != "conv1_1":
            x = nn.max_pool(x, (2, 2), strides=(2, 2))
        kernel = weights.kernels[convolution].astype(x.dtype)
        x = jax.lax.conv_general_dilated(
            x, kernel, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")
        )
        x = jax.nn.relu(x + weights.biases[convolution].astype(x.dtype))
        if activation in names:
            found[activation] = x
    return found

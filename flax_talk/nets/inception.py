"""Inception v3: the network of whose features and classes FID and IS are statistics.

Szegedy et al., "Rethinking the Inception Architecture for Computer Vision", 2015, section 6:
blocks, in each of which branches of convolutions see the same input side by side. Sizes and names
are those of the two published sets of weights, which `flax_talk.interop.inception` reads; both see
pixels in [-1, 1]. There is no auxiliary classifier and no training. Ours: blocks as tables, and a
multiplier of the channels, which keeps tests small.
"""

from collections.abc import Mapping, Sequence

import flax.linen as nn
import jax
import jax.numpy as jnp

SIZE = 299
"""Height and width to which pictures are brought."""

Branches = Mapping[str, Sequence[tuple]]
"""By the name of a branch its layers (channels, kernel size): two sizes are two layers that see the
same input and are joined."""


def _block_35(pooled: int) -> Branches:
    return {
        "branch1x1": [(64, (1, 1))],
        "branch5x5": [(48, (1, 1)), (64, (5, 5))],
        "branch3x3dbl": [(64, (1, 1)), (96, (3, 3)), (96, (3, 3))],
        "branch_pool": [(pooled, (1, 1))],
    }


def _block_17(inner: int) -> Branches:
    row, column = (1, 7), (7, 1)
    return {
        "branch1x1": [(192, (1, 1))],
        "branch7x7": [(inner, (1, 1)), (inner, row), (192, column)],
        "branch7x7dbl": [
            (inner, (1, 1)),
            *((inner, size) for size in (column, row, column)),
            (192, row),
        ],
        "branch_pool": [(192, (1, 1))],
    }


_BLOCK_8: Branches = {
    "branch1x1": [(320, (1, 1))],
    "branch3x3": [(384, (1, 1)), (384, (1, 3), (3, 1))],
    "branch3x3dbl": [(448, (1, 1)), (384, (3, 3)), (384, (1, 3), (3, 1))],
    "branch_pool": [(192, (1, 1))],
}

BLOCKS: dict[str, Branches] = {
    "Mixed_5b": _block_35(32),
    "Mixed_5c": _block_35(64),
    "Mixed_5d": _block_35(64),
    "Mixed_6a": {
        "branch3x3": [(384, (3, 3))],
        "branch3x3dbl": [(64, (1, 1)), (96, (3, 3)), (96, (3, 3))],
    },
    "Mixed_6b": _block_17(128),
    "Mixed_6c": _block_17(160),
    "Mixed_6d": _block_17(160),
    "Mixed_6e": _block_17(192),
    "Mixed_7a": {
        "branch3x3": [(192, (1, 1)), (320, (3, 3))],
        "branch7x7x3": [(192, (1, 1)), (192, (1, 7)), (192, (7, 1)), (192, (3, 3))],
    },
    "Mixed_7b": _BLOCK_8,
    "Mixed_7c": _BLOCK_8,
}
"""Branches of each block by its published name, in order. Those without a branch behind their
pooling halve the picture."""


class _Layer(nn.Module):
    """Convolution without bias, normalisation by stored averages, ReLU."""

    features: int
    size: Sequence[int]
    stride: int = 1
    padded: bool = True

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        padding = [(k // 2, k // 2) if self.padded else (0, 0) for k in self.size]
        x = nn.Conv(self.features, self.size, self.stride, padding, use_bias=False, name="conv")(x)
        x = nn.BatchNorm(use_running_average=True, epsilon=1e-3, name="bn")(x)
        return nn.relu(x)


class InceptionBlock(nn.Module):
    """Branches side by side, the last of them behind a 3x3 pooling.

    Without a `branch_pool` the last convolution of each branch, and the pooling, which is then of
    maxima, have stride 2 and no padding.

    Attributes:
        branches: see `Branches`, such as one of `BLOCKS`.
        pool: "average" with zeros beyond the picture, "inside" for averages of what is inside the
            picture, or "max".
        width: multiplier of the channels.
    """

    branches: Branches
    pool: str = "average"
    width: float = 1.0

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """[N, H, W, C] to [N, H, W, C'], or to [N, (H - 1) // 2, (W - 1) // 2, C']."""
        halves = "branch_pool" not in self.branches
        outputs = []
        for branch, layers in self.branches.items():
            y = self._pooled(x) if branch == "branch_pool" else x
            for i, (features, *sizes) in enumerate(layers, start=1):
                name = f"{branch}_{i}" if len(layers) > 1 else branch
                names = [name] if len(sizes) == 1 else [f"{name}a", f"{name}b"]
                stride = 2 if halves and i == len(layers) else 1
                joined = [
                    _Layer(round(self.width * features), size, stride, stride == 1, name=name)(y)
                    for name, size in zip(names, sizes, strict=True)
                ]
                y = jnp.concatenate(joined, axis=-1)
            outputs.append(y)
        if halves:
            outputs.append(nn.max_pool(x, (3, 3), (2, 2)))
        return jnp.concatenate(outputs, axis=-1)

    def _pooled(self, x: jax.Array) -> jax.Array:
        if self.pool == "max":
            return nn.max_pool(x, (3, 3), padding=((1, 1), (1, 1)))
        zeros = self.pool == "average"
        return nn.avg_pool(x, (3, 3), padding=((1, 1), (1, 1)), count_include_pad=zeros)


class InceptionV3(nn.Module):
    """The network, for inference.

    Attributes:
        fid: that of the weights for FID, which were trained on 1008 classes: its averages leave out
            what is beyond the picture, and the last block pools maxima. Else that of torchvision.
        width: multiplier of the channels, 1 in published weights.
    """

    fid: bool = True
    width: float = 1.0

    @nn.compact
    def __call__(self, images: jax.Array) -> tuple[jax.Array, jax.Array]:
        """Features and classes of pictures.

        Args:
            images: float [N, H, W, 3] in [-1, 1], RGB, of any size: brought to 299 x 299 by linear
                interpolation between the centres of pixels, not smoothed where it shrinks.

        Returns:
            (features [N, 2048], the averages over the picture of the last block, logits [N, 1008]
            or [N, 1000] before the softmax), float32.
        """
        shape = (images.shape[0], SIZE, SIZE, 3)
        # Values of FID compare across machines: not in the half precision of some accelerators.
        with jax.default_matmul_precision("highest"):
            x = images.astype(jnp.float32)
            x = jax.image.resize(x, shape, "linear", antialias=False)
            x = self._layer("Conv2d_1a_3x3", 32, 3, stride=2, padded=False)(x)
            x = self._layer("Conv2d_2a_3x3", 32, 3, padded=False)(x)
            x = self._layer("Conv2d_2b_3x3", 64, 3)(x)
            x = nn.max_pool(x, (3, 3), (2, 2))
            x = self._layer("Conv2d_3b_1x1", 80, 1)(x)
            x = self._layer("Conv2d_4a_3x3", 192, 3, padded=False)(x)
            x = nn.max_pool(x, (3, 3), (2, 2))
            for name, branches in BLOCKS.items():
                pool = "average" if not self.fid else "max" if name == "Mixed_7c" else "inside"
                x = InceptionBlock(branches, pool, self.width, name=name)(x)
            features = x.mean(axis=(1, 2))
            return features, nn.Dense(1008 if self.fid else 1000, name="fc")(features)

    def _layer(self, name: str, features: int, size: int, **options) -> _Layer:
        return _Layer(round(self.width * features), (size, size), name=name, **options)

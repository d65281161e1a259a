"""Frame decoder: latent codes and the still's skips to frames.

From Vougioukas et al. 2020 (section 3.1.4): strided transposed convolutions in a U-Net with
the identity encoder; layer sizes as in the authors' published inference code. Ours is the form
of the 3x3 convolution that follows each concatenation: conv([x, skip]) = conv(x) + conv(skip),
and the skip is the same for every frame of a clip, so its half is computed once per clip. Ours
too is the choice of a fifth skip, which carries fine detail that a short training cannot learn,
and of frames as changes of the still. Without the latter the L1 loss of many people sees the
motion of a mouth only once its error on everything that stands still is smaller than that. On a
CPU the largest pictures of a video are decoded a few frames at a time, so that what is between
two layers stays in its cache.

The decoder of Chen et al. 2021 (section 3.1) is a fully connected layer and six transposed
convolutions with skips. Ours: four of them double the picture, the first and the last but one keep
its size; each skip is concatenated where the picture has its size, in the form of above.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple, cast

import flax.linen as nn
import jax
import jax.numpy as jnp

from flax_talk.nets.convolutions import PREPARED, Conv, Upsample, batch_norm, implementation

_WHOLE_BLOCKS = 2
"""Blocks that see all frames at once: their kernels are larger than their pictures."""

_CHUNK_BYTES = 2 * 2**20
"""Of the largest input of a block, for the frames that are decoded at a time."""

_UPSAMPLED = 4
"""Blocks that double the picture, before the last layer does."""


class SkipHalves(NamedTuple):
    """The skips' halves of the decoder's 3x3 convolutions, smallest first: of a still, for every
    frame of its video."""

    halves: tuple[jax.Array, ...]


class FrameDecoder(nn.Module):
    """Frames from one latent vector each and the skips of their clip.

    Attributes:
        num_skips: how many of the five skips are used, smallest first. The authors use 4; 5 adds
            a block in front of the last layer, for the skip of half the image's size.
        residual: add what is decoded, which starts at 0, to the still.
        channels: of the frames; a fourth can be a mask. Only without `residual`.
    """

    num_skips: int = 4
    residual: bool = False
    channels: int = 3
    dtype: jnp.dtype = jnp.float32
    axis_name: str | None = None

    @nn.compact
    def __call__(
        self,
        latent: jax.Array | None,
        still: jax.Array,
        skips: Sequence[jax.Array] | SkipHalves,
        train: bool,
    ) -> jax.Array:
        """Decodes frames.

        Args:
            latent: [B, T, D]; None is of use to `halves` alone.
            still: [B, H, W, 3] in [-1, 1], used by `residual` only.
            skips: the five activations of `IdentityEncoder`, largest first; each that is used
                meets the block of its size. Or their `halves`.

        Returns:
            [B, T, H, W, channels] in [-1, 1], float32.
        """
        if not isinstance(skips, SkipHalves):
            used = skips[: -self.num_skips - 1 : -1]
            skips = SkipHalves(tuple(self._conv(2 * i + 1, skip) for i, skip in enumerate(used)))
        if latent is None:
            return cast(Any, skips)
        fixed = skips.halves
        b, t, _ = latent.shape
        _, h, w, channels = fixed[0].shape
        x = latent.reshape(b * t, -1)
        x = nn.Dense(h * w * channels, use_bias=False, dtype=self.dtype, name="Dense_0")(x)
        x = self._activate(0, x.reshape(b * t, h, w, channels), train)
        x = x.reshape(b, t, h, w, channels)
        largest = max(half[0].size * half.dtype.itemsize for half in fixed)
        count = max(1, _CHUNK_BYTES // (b * largest))
        whole = train or self.is_initializing() or self.is_mutable_collection(PREPARED)
        if whole or implementation() != "cpu" or t <= count:
            x = self._blocks(x, fixed, 0, len(fixed), train)
            x = self._last(x)
        else:
            x = self._blocks(x, fixed, 0, _WHOLE_BLOCKS, train)
            x = self._rest(x, fixed, count)
        return jnp.clip(still[:, None] + x, -1, 1) if self.residual else jnp.tanh(x)

    def halves(self, still: jax.Array, skips: Sequence[jax.Array]) -> SkipHalves:
        """What a call makes of the skips first; later calls of the same still may take it."""
        return cast(SkipHalves, self(None, still, skips, False))

    def _activate(self, index, x, train):
        norm = batch_norm(train, self.dtype, self.axis_name, name=f"BatchNorm_{index}")
        return nn.relu(norm(x))

    def _conv(self, index, x):
        return Conv(x.shape[-1], (3, 3), (1, 1), (1, 1), dtype=self.dtype, name=f"Conv_{index}")(x)

    def _blocks(self, x, fixed, start, stop, train):
        """Frames [B, T, ...] through some blocks, given the skips' halves of their convolutions."""
        b, t = x.shape[:2]
        for i in range(start, min(stop, len(fixed))):
            x = self._conv(2 * i, x.reshape(b * t, *x.shape[2:]))
            x = x.reshape(b, t, *x.shape[1:]) + fixed[i][:, None]
            x = self._activate(2 * i + 1, x.reshape(b * t, *x.shape[2:]), train)
            # The fifth skip has the size of the last layer's input.
            if i < _UPSAMPLED:
                up = Upsample(x.shape[-1] // 2, dtype=self.dtype, name=f"Upsample_{i}")
                x = self._activate(2 * i + 2, up(x), train)
            x = x.reshape(b, t, *x.shape[1:])
        return x

    def _last(self, x):
        b, t = x.shape[:2]
        up = Upsample(
            self.channels, zero=self.residual, dtype=self.dtype, name=f"Upsample_{_UPSAMPLED}"
        )
        x = up(x.reshape(b * t, *x.shape[2:])).astype(jnp.float32)
        return x.reshape(b, t, *x.shape[1:])

    def _rest(self, x, fixed, count):
        """`_blocks` and `_last` of frames [B, T, ...], `count` or fewer of each clip at a time."""
        b, t = x.shape[:2]
        chunks = -(-t // count)
        count = -(-t // chunks)
        x = jnp.pad(x, ((0, 0), (0, chunks * count - t), *((0, 0),) * 3))
        x = jnp.moveaxis(x.reshape(b, chunks, count, *x.shape[2:]), 1, 0)

        def decode(decoder, _, x):
            x = decoder._blocks(x, fixed, _WHOLE_BLOCKS, len(fixed), train=False)
            return None, decoder._last(x)

        collections = ("params", "batch_stats", PREPARED)
        scan = nn.scan(decode, variable_broadcast=collections, split_rngs={"params": False})
        _, x = scan(self, None, x)
        x = jnp.moveaxis(x, 0, 1)
        return x.reshape(b, chunks * count, *x.shape[3:])[:, :t]


class SkipDecoder(nn.Module):
    """Frames from one latent vector each and the skips of their clip (Chen et al. 2021).

    Attributes:
        residual: add what is decoded, which starts at 0, to the still.
    """

    residual: bool = False
    dtype: jnp.dtype = jnp.float32
    axis_name: str | None = None

    @nn.compact
    def __call__(
        self, latent: jax.Array, still: jax.Array, skips: Sequence[jax.Array], train: bool
    ) -> jax.Array:
        """Decodes frames; with four skips through six transposed convolutions.

        Args:
            latent: [B, T, D].
            still: [B, H, W, 3] in [-1, 1], used by `residual` only.
            skips: activations of `IdentityEncoder`, largest first, two or more.

        Returns:
            [B, T, H, W, 3] in [-1, 1], float32.
        """
        b, t, _ = latent.shape

        def activate(x):
            return nn.relu(batch_norm(train, self.dtype, self.axis_name)(x))

        def keep(features):
            # Transposed with stride 1, a convolution is a convolution.
            return Conv(features, (3, 3), (1, 1), (1, 1), dtype=self.dtype)

        def double(features):
            return Upsample(features, dtype=self.dtype)

        def join(layer, features, x, skip):
            moving, fixed = layer(features)(x), layer(features)(skip)
            x = moving.reshape(b, t, *fixed.shape[1:]) + fixed[:, None]
            return activate(x.reshape(b * t, *fixed.shape[1:]))

        largest, *between, smallest = skips
        _, h, w, channels = smallest.shape
        x = latent.reshape(b * t, -1)
        x = nn.Dense(h * w * channels, use_bias=False, dtype=self.dtype)(x)
        x = activate(x.reshape(b * t, h, w, channels))
        x = join(keep, channels, x, smallest)
        x = activate(double(channels // 2)(x))
        for skip in reversed(between):
            x = join(double, skip.shape[-1] // 2, x, skip)
        x = join(keep, largest.shape[-1], x, largest)
        x = Upsample(3, zero=self.residual, dtype=self.dtype)(x).astype(jnp.float32)
        x = x.reshape(b, t, *x.shape[1:])
        return jnp.clip(still[:, None] + x, -1, 1) if self.residual else jnp.tanh(x)

"""Frame decoder: latent codes and the still's skips to frames.

From Vougioukas et al. 2020 (section 3.1.4): strided transposed convolutions in a U-Net with
the identity encoder; layer sizes as in the authors' published inference code. Ours is the form
of the 3x3 convolution that follows each concatenation: conv([x, skip]) = conv(x) + conv(skip),
and the skip is the same for every frame of a clip, so its half is computed once per clip. Ours
too is the choice of a fifth skip, which carries fine detail that a short training cannot learn,
and of frames as changes of the still. Without the latter the L1 loss of many people sees the
motion of a mouth only once its error on everything that stands still is smaller than that.

The decoder of Chen et al. 2021 (section 3.1) is a fully connected layer and six transposed
convolutions with skips. Ours: four of them double the picture, the first and the last but one keep
its size; each skip is concatenated where the picture has its size, in the form of above.
"""

from collections.abc import Sequence

import flax.linen as nn
import jax
import jax.numpy as jnp

from flax_talk.nets.convolutions import Conv, Upsample, batch_norm


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
        self, latent: jax.Array, still: jax.Array, skips: Sequence[jax.Array], train: bool
    ) -> jax.Array:
        """Decodes frames.

        Args:
            latent: [B, T, D].
            still: [B, H, W, 3] in [-1, 1], used by `residual` only.
            skips: the five activations of `IdentityEncoder`, largest first; each that is used
                meets the block of its size.

        Returns:
            [B, T, H, W, channels] in [-1, 1], float32.
        """
        b, t, _ = latent.shape

        def activate(x):
            return nn.relu(batch_norm(train, self.dtype, self.axis_name)(x))

        _, h, w, channels = skips[-1].shape
        x = latent.reshape(b * t, -1)
        x = nn.Dense(h * w * channels, use_bias=False, dtype=self.dtype)(x)
        x = activate(x.reshape(b * t, h, w, channels))
        for skip in reversed(skips[-self.num_skips :]):
            _, h, w, channels = skip.shape
            moving = Conv(channels, (3, 3), (1, 1), (1, 1), dtype=self.dtype)(x)
            fixed = Conv(channels, (3, 3), (1, 1), (1, 1), dtype=self.dtype)(skip)
            x = moving.reshape(b, t, h, w, channels) + fixed[:, None]
            x = activate(x.reshape(b * t, h, w, channels))
            if skip is not skips[0]:
                x = activate(Upsample(channels // 2, dtype=self.dtype)(x))
        x = Upsample(self.channels, zero=self.residual, dtype=self.dtype)(x).astype(jnp.float32)
        x = x.reshape(b, t, *x.shape[1:])
        return jnp.clip(still[:, None] + x, -1, 1) if self.residual else jnp.tanh(x)


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

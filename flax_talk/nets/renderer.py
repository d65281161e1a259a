"""The U-Net that draws a mouth into a masked frame, and its discriminator.

Song et al., "Everybody's Talkin': Let Me Talk as You Want", 2020, section 3.3.1: a U-Net sees
seven masked frames and seven heat maps of the mouth's landmarks, stacked, and completes the last
frame; skip connections carry fine structure, so that the heat maps guide what is drawn where. The
paper names the size of neither network; ours are five halvings by strided convolutions, 3x3
convolutions where the picture is smallest and behind each skip, and five transposed convolutions:
75.8 million parameters at a width of 64. Ours, too, is a discriminator that sees a frame
together with its heat map, without batch normalisation, which a penalty on its gradient rules out.
"""

import flax.linen as nn
import jax
import jax.numpy as jnp

from flax_talk.nets.convolutions import ConvBlock, Upsample, batch_norm
from flax_talk.nets.encoders import ImageEncoder


class Renderer(nn.Module):
    """Frames from windows of masked frames and heat maps.

    Attributes:
        width: channels of the first layer, doubled at each of the next.
        num_layers: L, strided layers.
        bottleneck_layers: 3x3 convolutions at the smallest size.
        residual: add what is drawn, which starts at 0, to a given picture (ours).
    """

    width: int = 64
    num_layers: int = 5
    bottleneck_layers: int = 3
    residual: bool = False
    dtype: jnp.dtype = jnp.float32
    axis_name: str | None = None

    @nn.compact
    def __call__(self, windows: jax.Array, base: jax.Array, train: bool) -> jax.Array:
        """Draws frames.

        Args:
            windows: [N, H, W, C], stacked over channels; H and W multiples of 2^L.
            base: [N, H, W, 3] in [-1, 1], used by `residual` only.
            train: normalise by the batch.

        Returns:
            [N, H, W, 3] in [-1, 1], float32.
        """
        shared = dict(dtype=self.dtype, axis_name=self.axis_name)

        def keep(features, x):
            return ConvBlock(features, (3, 3), (1, 1), (1, 1), **shared)(x, train)

        x, skips = windows, []
        for i in range(self.num_layers):
            halve = ConvBlock(
                self.width * 2**i,
                (4, 4),
                (2, 2),
                (1, 1),
                negative_slope=0.2,
                norm=i > 0,
                **shared,
            )
            x = halve(x, train)
            skips.append(x)
        for _ in range(self.bottleneck_layers):
            x = keep(x.shape[-1], x)
        for skip in reversed(skips):
            x = keep(skip.shape[-1], jnp.concatenate([x, skip], axis=-1))
            if skip is not skips[0]:
                x = Upsample(skip.shape[-1] // 2, dtype=self.dtype)(x)
                x = nn.relu(batch_norm(train, **shared)(x))
        x = Upsample(3, zero=self.residual, dtype=self.dtype)(x).astype(jnp.float32)
        return jnp.clip(base + x, -1, 1) if self.residual else jnp.tanh(x)


class RendererDiscriminator(nn.Module):
    """Is this frame real, with the mouth that its heat map asks for?

    Attributes:
        width, num_layers, negative_slope: of `ImageEncoder`.
    """

    width: int = 64
    num_layers: int = 5
    negative_slope: float = 0.2
    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, frames: jax.Array, maps: jax.Array, train: bool) -> jax.Array:
        """Frames [B, K, H, W, 3] in [-1, 1] and heat maps [B, K, H, W] to scores [B, K], near 1
        for real ones and near 0 for others."""
        b, k = frames.shape[:2]
        seen = jnp.concatenate([frames, maps[..., None]], axis=-1)
        trunk = ImageEncoder(
            1,
            self.num_layers,
            self.width,
            negative_slope=self.negative_slope,
            norm=False,
            dtype=self.dtype,
        )
        return trunk(seen.reshape(b * k, *seen.shape[2:]), train).reshape(b, k)

"""Identity and audio encoders.

From Vougioukas et al. 2018 (section 3.1) and 2020 (sections 3.1.1 and 3.1.2): a six-layer
strided CNN turns the still into an identity code and leaves its activations as U-Net skips;
a 1D CNN with a large first kernel turns the raw waveform around each frame into a code. The
papers give the layers in words only; channel numbers and paddings are those of the authors'
published inference code. The encoders of Chen et al. 2021 (section 3.1) are a shallower form of the
first and a 2D CNN on cepstral coefficients.
"""

import math
from collections.abc import Sequence

import flax.linen as nn
import jax
import jax.numpy as jnp

from flax_talk.nets.convolutions import Conv, ConvBlock, max_pool


class IdentityEncoder(nn.Module):
    """The still as a code and as skips for the decoder.

    Attributes:
        code_dim: length of the identity code (2018: 50, 2019: 128, Chen et al. 2021: 512).
        width: channels of the first layer (64), doubled at each of the next.
        num_layers: L, strided layers (5; 2021: 4).
        norm: batch normalisation (2021: none).
        tanh: the code goes through it (2021: no).
    """

    code_dim: int
    width: int = 64
    num_layers: int = 5
    norm: bool = True
    tanh: bool = True
    dtype: jnp.dtype = jnp.float32
    axis_name: str | None = None

    @nn.compact
    def __call__(self, still: jax.Array, train: bool) -> tuple[jax.Array, list[jax.Array]]:
        """Encodes stills.

        Args:
            still: [B, H, W, 3] in [-1, 1]; H and W multiples of 2^L (papers: 128 x 96, 112 x 112).

        Returns:
            (identity_code [B, code_dim], with `tanh` in (-1, 1), skips: L activations
            [B, H / 2^i, W / 2^i, width * 2^(i - 1)] for i = 1 .. L).
        """
        x, skips = still, []
        for i in range(self.num_layers):
            x = ConvBlock(
                self.width * 2**i,
                (4, 4),
                (2, 2),
                (1, 1),
                norm=self.norm,
                dtype=self.dtype,
                axis_name=self.axis_name,
            )(x, train)
            skips.append(x)
        code = Conv(self.code_dim, x.shape[1:3], (1, 1), (0, 0), dtype=self.dtype)(x)
        code = code[:, 0, 0].astype(jnp.float32)
        return jnp.tanh(code) if self.tanh else code, skips


def prime_factors(n: int) -> list[int]:
    """The prime factors of n, ascending: 200 -> [2, 2, 2, 5, 5]."""
    factors, candidate = [], 2
    while n > 1:
        while n % candidate == 0:
            factors.append(candidate)
            n //= candidate
        candidate += 1
    return factors


def audio_layers(window: int, audio_rate: int) -> list[tuple[int, int, int]]:
    """(kernel, stride, padding) of the strided layers for windows of `window` samples.

    The first kernel spans 5 ms at a stride of 1 ms (250 / 50 at 50 kHz). The later strides
    are the prime factors, ascending, of the steps that remain, with kernels twice as long; the
    last factor is left out, because one valid convolution takes the steps then left to the
    code. Paddings give ceil(n / stride) outputs.

    Example: 10 000 samples at 50 kHz -> 200 steps -> strides 50, 2, 2, 2, 5 and 5 steps left.
    """
    stride = audio_rate // 1000
    plan, steps = [(5 * stride, stride)], -(-window // stride)
    plan += [(2 * factor, factor) for factor in prime_factors(steps)[:-1]]
    layers, n = [], window
    for kernel, stride in plan:
        out = -(-n // stride)
        padding = math.ceil(((out - 1) * stride + kernel - n) / 2)
        layers.append((kernel, stride, padding))
        n = (n + 2 * padding - kernel) // stride + 1
    return layers


class AudioEncoder(nn.Module):
    """One code for each window of raw audio.

    Attributes:
        code_dim: length of the code (256).
        audio_rate: samples per second; fixes the first kernel.
        width: channels of the first layer (16), doubled at each strided layer.
    """

    code_dim: int
    audio_rate: int
    width: int = 16
    dtype: jnp.dtype = jnp.float32
    axis_name: str | None = None

    @nn.compact
    def __call__(self, audio_windows: jax.Array, train: bool) -> jax.Array:
        """Encodes windows [N, window] in [-1, 1] to codes [N, code_dim] in (-1, 1)."""
        x = audio_windows[..., None]
        layers = audio_layers(audio_windows.shape[-1], self.audio_rate)
        for i, (kernel, stride, padding) in enumerate(layers):
            x = ConvBlock(
                self.width * 2**i,
                (kernel,),
                (stride,),
                (padding,),
                conv_bias=True,
                dtype=self.dtype,
                axis_name=self.axis_name,
            )(x, train)
        code = Conv(self.code_dim, x.shape[1:2], (1,), (0,), use_bias=True, dtype=self.dtype)(x)
        return jnp.tanh(code[:, 0].astype(jnp.float32))


class CepstrumEncoder(nn.Module):
    """One code for each window of cepstral coefficients.

    Five 3x3 convolutions with batch normalisation and two fully connected layers, as in Chung et
    al. 2017, "You said that?", whose channels these are, and in Chen et al. 2021, section 3.1,
    which says no more. The normalisation and the strides are ours, and so are poolings that leave
    something of windows of any length.

    Attributes:
        code_dim: length of the code (256; 2021: 512).
        width: channels of the first layer (64); the last has eight times as many.
        hidden: width of the layer between convolutions and code; 0: that of the code.
        pool: max pooling behind the second and the fifth convolution (Chung et al.), for strides.
    """

    code_dim: int
    width: int = 64
    hidden: int = 0
    pool: bool = False
    dtype: jnp.dtype = jnp.float32
    axis_name: str | None = None

    @nn.compact
    def __call__(self, windows: jax.Array, train: bool) -> jax.Array:
        """Encodes windows [N, C, K] of K columns of C coefficients to codes [N, code_dim]; with
        `pool` both are 7 or more."""
        x = windows[..., None]
        strides = ((1, 1), (1, 2), (2, 2), (1, 1), (2, 2))
        pools = {1: (1, 2), 4: (2, 2)} if self.pool else {}
        for i, (factor, stride) in enumerate(zip((1, 2, 4, 4, 8), strides, strict=True)):
            x = ConvBlock(
                self.width * factor,
                (3, 3),
                (1, 1) if self.pool else stride,
                (1, 1),
                dtype=self.dtype,
                axis_name=self.axis_name,
            )(x, train)
            if i in pools:
                x = max_pool(x, (3, 3), pools[i], (0, 0))
        x = x.reshape(x.shape[0], -1)
        x = nn.relu(nn.Dense(self.hidden or self.code_dim, dtype=self.dtype)(x))
        return nn.Dense(self.code_dim)(x.astype(jnp.float32))


class ImageEncoder(nn.Module):
    """A strided CNN from an image to a vector, the trunk of every discriminator.

    Layers of 4x4 convolutions of stride 2 halve the image; one valid convolution over what is
    left then gives the vector. No normalisation of the first layer, and LeakyReLU where the paper
    names no activation, as is usual in discriminators since DCGAN.

    Attributes:
        features: length of the vector.
        num_layers: strided layers (5; with the last one, the papers' six).
        width: channels of the first layer, doubled at each of the next.
        kernel_time: odd size of the kernels over time for videos; 0 for images.
        negative_slope: 0.2 gives LeakyReLU, 0 the ReLU of the paper of 2018 (A.2).
        norm: batch normalisation behind all but the first layer.
    """

    features: int
    num_layers: int = 5
    width: int = 64
    kernel_time: int = 0
    negative_slope: float = 0.2
    norm: bool = True
    dtype: jnp.dtype = jnp.float32
    axis_name: str | None = None

    @nn.compact
    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        """[N, H, W, C] -> [N, features], or [N, T, H, W, C] -> [N, T, features]."""

        def with_time(size: Sequence[int], over_time: int) -> tuple[int, ...]:
            return (over_time, *size) if self.kernel_time else tuple(size)

        for i in range(self.num_layers):
            x = ConvBlock(
                self.width * 2**i,
                with_time((4, 4), self.kernel_time),
                with_time((2, 2), 1),
                with_time((1, 1), self.kernel_time // 2),
                negative_slope=self.negative_slope,
                norm=self.norm and i > 0,
                dtype=self.dtype,
                axis_name=self.axis_name,
            )(x, train)
        valid = with_time(x.shape[-3:-1], 1)
        zeros = (0,) * len(valid)
        ones = (1,) * len(valid)
        x = Conv(self.features, valid, ones, zeros, use_bias=True, dtype=self.dtype)(x)
        return x[..., 0, 0, :].astype(jnp.float32)

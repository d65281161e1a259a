"""Networks that know the action units of speech: by the sound, and by the picture.

From Chen et al., "Talking Head Generation with Audio and Speech Related Facial Action Units", 2021,
section 3.1. Audio-to-AU: one module for each unit, of convolutions over frequency and over time,
two LSTM layers and three fully connected ones, whose last but one leaves 64 numbers for the
generator. AU classifier: four convolutions with a max pooling behind every two, and three fully
connected layers, on the lower half of a face. Both return logits; the sigmoid is part of the
losses. Ours, as the paper gives no other size: channels, kernels, the widths of the other layers,
and ReLU.
"""

import flax.linen as nn
import jax
import jax.numpy as jnp

from flax_talk.nets.convolutions import Conv, max_pool
from flax_talk.nets.recurrent import LSTM


class _AudioToUnit(nn.Module):
    """The module of one unit: windows [N, 12, 28] to (logits [N], codes [N, code_dim])."""

    width: int
    hidden: int
    code_dim: int
    dtype: jnp.dtype

    @nn.compact
    def __call__(self, windows: jax.Array) -> tuple[jax.Array, jax.Array]:
        def conv(x, kernel_size, strides, padding):
            layer = Conv(self.width, kernel_size, strides, padding, use_bias=True, dtype=self.dtype)
            return nn.relu(layer(x))

        x = conv(windows[..., None], (5, 1), (2, 1), (2, 0))  # over frequency
        x = conv(x, (1, 5), (1, 2), (0, 2))  # over time
        x = jnp.swapaxes(x, 1, 2).reshape(x.shape[0], x.shape[2], -1)
        x = LSTM(self.hidden, num_layers=2)(x.astype(jnp.float32))[:, -1]
        x = nn.relu(nn.Dense(self.hidden)(x))
        code = nn.relu(nn.Dense(self.code_dim)(x))
        return nn.Dense(1)(code)[:, 0], code


class AudioToUnits(nn.Module):
    """The modules of all units, which share nothing but their input.

    Attributes:
        num_units: U.
        width: channels of both convolutions.
        hidden: width of the LSTM layers and of the first fully connected one.
        code_dim: length of a unit's code (64).
    """

    num_units: int = 5
    width: int = 32
    hidden: int = 128
    code_dim: int = 64
    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, windows: jax.Array) -> tuple[jax.Array, jax.Array]:
        """Hears units.

        Args:
            windows: [B, T, C, K], K columns of C coefficients around each frame, near 1 in size.

        Returns:
            (logits [B, T, U], codes of all units [B, T, U code_dim]).
        """
        b, t, *window = windows.shape
        every = nn.vmap(
            _AudioToUnit,
            in_axes=None,
            out_axes=1,
            axis_size=self.num_units,
            variable_axes={"params": 0},
            split_rngs={"params": True},
        )
        units = every(self.width, self.hidden, self.code_dim, self.dtype, name="units")
        logits, codes = units(windows.reshape(b * t, *window))
        return logits.reshape(b, t, -1), codes.reshape(b, t, -1)


class UnitClassifier(nn.Module):
    """Which units are activated in these lower faces?

    Attributes:
        num_units: U.
        width: channels of the first two convolutions; the others have twice as many.
        hidden: widths of the fully connected layers before the last.
    """

    num_units: int = 5
    width: int = 32
    hidden: tuple[int, int] = (256, 64)
    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, faces: jax.Array) -> jax.Array:
        """Lower halves of faces [..., H / 2, W, 3] in [-1, 1] to logits [..., U]."""
        x = faces.reshape(-1, *faces.shape[-3:])
        for width in (self.width, 2 * self.width):
            for _ in range(2):
                x = Conv(width, (3, 3), (1, 1), (1, 1), use_bias=True, dtype=self.dtype)(x)
                x = nn.relu(x)
            x = max_pool(x, (2, 2), (2, 2), (0, 0))
        x = x.reshape(x.shape[0], -1)
        for width in self.hidden:
            x = nn.relu(nn.Dense(width, dtype=self.dtype)(x))
        logits = nn.Dense(self.num_units)(x.astype(jnp.float32))
        return logits.reshape(*faces.shape[:-3], self.num_units)

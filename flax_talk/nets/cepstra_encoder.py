"""Cepstral coefficients of a window to a code.

The audio encoder of Chung, Jamaludin and Zisserman, "You said that?", 2017: five 3x3 convolutions
over coefficients and time and two matrices, after VGG-M. Ours: batch normalisation, and poolings
that leave something of windows of any length.
"""

from collections.abc import Sequence

import flax.linen as nn
import jax
import jax.numpy as jnp

from flax_talk.nets.convolutions import ConvBlock, max_pool


class CepstraEncoder(nn.Module):
    """One code for each window of coefficients.

    Attributes:
        code_dim: length of the code (256).
        features: channels of the five convolutions.
        hidden: width of the layer between convolutions and code.
    """

    code_dim: int = 256
    features: Sequence[int] = (64, 128, 256, 256, 512)
    hidden: int = 512
    dtype: jnp.dtype = jnp.float32
    axis_name: str | None = None

    @nn.compact
    def __call__(self, cepstra: jax.Array, train: bool) -> jax.Array:
        """Encodes windows [N, columns, coefficients], at least 7 each, to codes [N, code_dim]."""
        x = jnp.swapaxes(cepstra, 1, 2)[..., None]  # rows are coefficients, columns time
        for i, features in enumerate(self.features):
            shared = dict(dtype=self.dtype, axis_name=self.axis_name)
            x = ConvBlock(features, (3, 3), (1, 1), (1, 1), **shared)(x, train)
            if i == 1:
                x = max_pool(x, (3, 3), (1, 2), (0, 0))
        x = max_pool(x, (3, 3), (2, 2), (0, 0))
        x = nn.relu(nn.Dense(self.hidden, dtype=self.dtype)(x.reshape(x.shape[0], -1)))
        return nn.Dense(self.code_dim)(x.astype(jnp.float32))

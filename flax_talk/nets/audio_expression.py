"""From a second of sound to one face: the voice is made anybody's, then heard.

Song, Wu, Qian, He, Loy, "Everybody's Talkin': Let Me Talk as You Want", 2020, section 3.2. Audio
ID-removing network: x' = W x with W = I + sum_j lambda_j W^j (Eq. 1), the speaker adaptation of
speech recognition; an LSTM and a fully connected layer infer lambda from the coefficients, the
matrices W^j are free. Audio-to-expression network: an LSTM over the same second and a fully
connected layer. Ours, as the paper gives no sizes: widths, depths and the number of matrices; one
lambda for each window; lambda starts from 0, so that W starts from the identity; an LSTM may hear
several columns at a step.
"""

import flax.linen as nn
import jax
import jax.numpy as jnp

from flax_talk.nets.recurrent import LSTM


def stack_columns(windows: jax.Array, count: int) -> jax.Array:
    """[N, K, C] to [N, K // count, count C]; columns that are left over are the first ones."""
    n, columns, size = windows.shape
    steps = columns // count
    return windows[:, columns - steps * count :].reshape(n, steps, count * size)


class IdRemoving(nn.Module):
    """Coefficients of a speaker to those of nobody in particular.

    Attributes:
        hidden: width of the LSTM.
        num_matrices: k.
        stack: columns that the LSTM hears at a step.
    """

    hidden: int = 128
    num_matrices: int = 16
    stack: int = 1

    @nn.compact
    def __call__(self, windows: jax.Array) -> jax.Array:
        """Windows x [N, K, C], K columns of C coefficients near 1 in size, to x' [N, K, C]."""
        size = windows.shape[-1]
        # Of a tenth of the identity's size, so that a lambda near 1 is a change, not another sound.
        normal = nn.initializers.normal(0.1 / size**0.5)
        matrices = self.param("matrices", normal, (self.num_matrices, size, size))
        state = LSTM(self.hidden)(stack_columns(windows, self.stack))[:, -1]
        weights = nn.Dense(self.num_matrices, kernel_init=nn.initializers.zeros)(state)
        transform = jnp.eye(size) + jnp.einsum("nj,jde->nde", weights, matrices)
        return jnp.einsum("nde,nke->nkd", transform, windows)


class AudioToExpression(nn.Module):
    """What the face does at a moment, of the sound around it.

    Attributes:
        outputs: E, the numbers that describe the face.
        hidden: width of the LSTM layers.
        num_layers: how many.
        stack: columns that they hear at a step.
    """

    outputs: int = 29
    hidden: int = 256
    num_layers: int = 2
    stack: int = 1

    @nn.compact
    def __call__(self, windows: jax.Array) -> jax.Array:
        """Windows [N, K, C], K columns of C coefficients, to [N, E]."""
        state = LSTM(self.hidden, self.num_layers)(stack_columns(windows, self.stack))[:, -1]
        return nn.Dense(self.outputs)(state)

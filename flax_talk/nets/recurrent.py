"""Gated recurrent units as scans.

The GRU of Cho et al. 2014 in the variant that cuDNN and PyTorch compute (the reset gate
applies after the recurrent product and its bias), because published weights come in it. The
input projection does not depend on the state, so it is hoisted out of the scan as one
large matrix product; the carry goes in and out, so that a stream continues where it stopped.
"""

import flax.linen as nn
import jax
import jax.numpy as jnp


class GRU(nn.Module):
    """A stack of GRU layers over time.

    Attributes:
        features: width H of every layer.
        num_layers: L.
    """

    features: int
    num_layers: int = 1

    @nn.compact
    def __call__(self, x: jax.Array, carry: jax.Array | None = None) -> tuple[jax.Array, jax.Array]:
        """Runs the stack.

        Args:
            x: [B, T, F].
            carry: [B, L, H], the state before the first step; zeros if None.

        Returns:
            (outputs of the last layer [B, T, H], carry after the last step [B, L, H]).
        """
        if carry is None:
            carry = self.initial_carry(x.shape[0])
        states = []
        for layer in range(self.num_layers):
            x, state = self._layer(layer, x, carry[:, layer])
            states.append(state)
        return x, jnp.stack(states, axis=1)

    def initial_carry(self, batch_size: int) -> jax.Array:
        """Zeros [B, L, H]."""
        return jnp.zeros((batch_size, self.num_layers, self.features))

    def _layer(self, layer: int, x: jax.Array, state: jax.Array) -> tuple[jax.Array, jax.Array]:
        width = self.features
        input_kernel = self.param(
            f"input_kernel_{layer}", nn.initializers.lecun_normal(), (x.shape[-1], 3 * width)
        )
        recurrent_kernel = self.param(
            f"recurrent_kernel_{layer}", nn.initializers.orthogonal(), (width, 3 * width)
        )
        zeros = nn.initializers.zeros
        input_bias = self.param(f"input_bias_{layer}", zeros, (3 * width,))
        recurrent_bias = self.param(f"recurrent_bias_{layer}", zeros, (3 * width,))

        def step(h, projected):
            reset_in, update_in, new_in = jnp.split(projected, 3, axis=-1)
            reset_h, update_h, new_h = jnp.split(h @ recurrent_kernel + recurrent_bias, 3, axis=-1)
            update = nn.sigmoid(update_in + update_h)
            new = jnp.tanh(new_in + nn.sigmoid(reset_in + reset_h) * new_h)
            h = (1 - update) * new + update * h
            return h, h

        projected = x @ input_kernel + input_bias
        state, outputs = jax.lax.scan(step, state, jnp.swapaxes(projected, 0, 1))
        return jnp.swapaxes(outputs, 0, 1), state

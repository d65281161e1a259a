"""Recurrent layers as scans.

The GRU of Cho et al. 2014 in the variant that cuDNN and PyTorch compute (the reset gate
applies after the recurrent product and its bias), because published weights come in it; older
ones of Keras come in the paper's own variant, with the reset before the product. The
input projection does not depend on the state, so it is hoisted out of the scan as one
large matrix product; the carry goes in and out, so that a stream continues where it stopped. The
LSTM of Hochreiter and Schmidhuber 1997 with forget gates reads windows as a whole and carries
nothing on.
"""

from collections.abc import Callable

import flax.linen as nn
import jax
import jax.numpy as jnp


def hard_sigmoid(x: jax.Array) -> jax.Array:
    """min(max(0.2 x + 0.5, 0), 1), the gates of Keras before 2.3; `jax.nn` has another one."""
    return jnp.clip(0.2 * x + 0.5, 0, 1)


class GRU(nn.Module):
    """A stack of GRU layers over time.

    Attributes:
        features: width H of every layer.
        num_layers: L; with 0 the inputs pass as they are.
        reset_after: the reset gate applies after the recurrent product, or before it.
        gate: function of the reset and update gates.
    """

    features: int
    num_layers: int = 1
    reset_after: bool = True
    gate: Callable[[jax.Array], jax.Array] = nn.sigmoid

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
        return x, jnp.stack(states, axis=1) if states else carry

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
            if self.reset_after:
                from_h = h @ recurrent_kernel + recurrent_bias
                reset_h, update_h, new_h = jnp.split(from_h, 3, axis=-1)
                new_h = self.gate(reset_in + reset_h) * new_h
            else:
                gates, new_kernel = jnp.split(recurrent_kernel, [2 * width], axis=1)
                gates_bias, new_bias = jnp.split(recurrent_bias, [2 * width])
                reset_h, update_h = jnp.split(h @ gates + gates_bias, 2, axis=-1)
                new_h = (self.gate(reset_in + reset_h) * h) @ new_kernel + new_bias
            update = self.gate(update_in + update_h)
            new = jnp.tanh(new_in + new_h)
            h = (1 - update) * new + update * h
            return h, h

        projected = x @ input_kernel + input_bias
        state, outputs = jax.lax.scan(step, state, jnp.swapaxes(projected, 0, 1))
        return jnp.swapaxes(outputs, 0, 1), state


class LSTM(nn.Module):
    """A stack of LSTM layers over time, each of which starts from zeros.

    Attributes:
        features: width H of every layer.
        num_layers: L.
    """

    features: int
    num_layers: int = 1

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """Inputs [B, T, F] to the outputs of the last layer [B, T, H]."""
        for layer in range(self.num_layers):
            x = self._layer(layer, x)
        return x

    def _layer(self, layer: int, x: jax.Array) -> jax.Array:
        width = self.features
        input_kernel = self.param(
            f"input_kernel_{layer}", nn.initializers.lecun_normal(), (x.shape[-1], 4 * width)
        )
        recurrent_kernel = self.param(
            f"recurrent_kernel_{layer}", nn.initializers.orthogonal(), (width, 4 * width)
        )
        bias = self.param(f"bias_{layer}", nn.initializers.zeros, (4 * width,))

        def step(state, projected):
            h, cell = state
            entry, forget, new, output = jnp.split(projected + h @ recurrent_kernel, 4, axis=-1)
            # The constant lets a layer remember before it has learned to.
            cell = nn.sigmoid(forget + 1) * cell + nn.sigmoid(entry) * jnp.tanh(new)
            h = nn.sigmoid(output) * jnp.tanh(cell)
            return (h, cell), h

        zeros = jnp.zeros((x.shape[0], width))
        projected = x @ input_kernel + bias
        _, outputs = jax.lax.scan(step, (zeros, zeros), jnp.swapaxes(projected, 0, 1))
        return jnp.swapaxes(outputs, 0, 1)


class BidirectionalGRU(nn.Module):
    """A stack of layers, each of one GRU that runs forwards and one that runs backwards.

    Attributes:
        features: width H of every GRU.
        num_layers: L; every layer after the first sees both outputs of the one before.
        reset_after, gate: of `GRU`.
    """

    features: int
    num_layers: int = 1
    reset_after: bool = True
    gate: Callable[[jax.Array], jax.Array] = nn.sigmoid

    @nn.compact
    def __call__(self, x: jax.Array, mask: jax.Array) -> jax.Array:
        """Runs the stack.

        Args:
            x: [B, T, F].
            mask: bool [B, T], valid steps, which precede the others; what follows them changes no
                output of theirs.

        Returns:
            [B, T, 2 H], outputs of the last layer: forwards, backwards.
        """
        for layer in range(self.num_layers):
            forward, backward = (
                GRU(
                    self.features,
                    reset_after=self.reset_after,
                    gate=self.gate,
                    name=f"{direction}_{layer}",
                )
                for direction in ("forward", "backward")
            )
            reversed_outputs, _ = backward(reverse(x, mask))
            x = jnp.concatenate([forward(x)[0], reverse(reversed_outputs, mask)], axis=-1)
        return x


def reverse(x: jax.Array, mask: jax.Array) -> jax.Array:
    """[B, T, F] with the valid steps of bool [B, T] in reverse order, the others as they are."""
    length = mask.sum(axis=1, keepdims=True)
    time = jnp.arange(x.shape[1])
    source = jnp.where(time < length, length - 1 - time, time)
    return jnp.take_along_axis(x, source[..., None], axis=1)


def last_valid(outputs: jax.Array, mask: jax.Array) -> jax.Array:
    """The output [B, H] of [B, T, H] at the last of the valid steps of bool [B, T], which precede
    the others; the first where none is."""
    last = jnp.maximum(mask.sum(axis=1) - 1, 0)
    return jnp.take_along_axis(outputs, last[:, None, None], axis=1)[:, 0]

"""The sound without a speaker is the sound itself until it is learned what to change."""

import jax
import jax.numpy as jnp
import numpy as np

from flax_talk.nets.audio_expression import IdRemoving
from flax_talk.nets.recurrent import LSTM


def test_identity_is_removed_by_equation_1_from_the_identity_on():
    net = IdRemoving(hidden=4, num_matrices=3, stack=2)
    x = jnp.asarray(np.random.default_rng(0).normal(size=(2, 9, 5)), jnp.float32)
    variables, apply = jax.jit(net.init)(jax.random.key(0), x), jax.jit(net.apply)
    np.testing.assert_allclose(apply(variables, x), x, atol=1e-6)

    params = variables["params"]
    kernel = jax.random.normal(jax.random.key(1), params["Dense_0"]["kernel"].shape)
    params["Dense_0"] = {"kernel": kernel, "bias": jnp.array([0.5, -1.0, 2.0])}
    pairs = x[:, 1:].reshape(2, 4, 10)
    state = jax.jit(LSTM(4).apply)({"params": params["LSTM_0"]}, pairs)[:, -1]
    weights = np.asarray(state @ kernel) + np.float32([0.5, -1, 2])
    for row in range(2):
        transform = np.eye(5)
        for weight, matrix in zip(weights[row], params["matrices"], strict=True):
            transform += weight * np.asarray(matrix)
        expected = [transform @ column for column in x[row]]
        np.testing.assert_allclose(apply(variables, x)[row], expected, atol=1e-5)
    assert np.abs(weights[0] - weights[1]).max() > 1e-2

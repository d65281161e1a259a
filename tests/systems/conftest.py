"""What systems that generate have to do alike."""

import functools
from collections.abc import Callable, Iterator

import jax
import numpy as np
import optax
import pytest
from ml_collections import ConfigDict

from flax_talk.nets import convolutions
from flax_talk.systems import get_system
from flax_talk.training.optimizers import make_optimizer


@pytest.fixture(scope="module", autouse=True)
def native_convolutions() -> Iterator[None]:
    """XLA's own convolutions, which compile sooner; `tests/nets` shows that ours equal them."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(convolutions, "implementation", lambda: "native")
        yield


@pytest.fixture(scope="session")
def check_players(make_batch, draw_variables) -> Callable[..., dict[str, float]]:
    """Checks that each player learns from its own loss alone, and that its step lowers it.

    Takes a config and what batches of two clips have besides; returns the metrics.
    """

    def check(config, **features):
        system, frames = get_system(config.system), config.data.num_frames
        batch = make_batch(config, [frames, frames - 1]) | features
        keys = jax.random.split(jax.random.key(0))
        shapes = jax.eval_shape(lambda: system.init(config, jax.random.key(0), batch))
        variables = draw_variables(shapes)
        params = {player: entry["params"] for player, entry in variables.items()}

        def losses(params):
            entries = {player: {**variables[player], "params": params[player]} for player in params}
            values, _, metrics = system.losses(config, entries, batch, keys)
            return values, (values, metrics)

        optimizer = make_optimizer(config.optimizer, params, steps_per_epoch=1)

        @jax.jit
        def step(params):
            grads, (values, metrics) = jax.jacrev(losses, has_aux=True)(params)
            own = {player: grads[player][player] for player in params}
            updates, _ = optimizer.update(own, optimizer.init(params), params)
            return grads, values, metrics, optax.apply_updates(params, updates)

        grads, before, metrics, moved = step(params)
        assert set(before) == set(params)
        assert all(np.isfinite(value) for value in metrics.values())
        for player in params:
            for other, tree in grads[player].items():
                leaves = [np.asarray(leaf) for leaf in jax.tree.leaves(tree)]
                reached = np.mean([(leaf != 0).any() for leaf in leaves])
                assert all(np.isfinite(leaf).all() for leaf in leaves), (player, other)
                assert reached > 0.8 if player == other else reached == 0, (player, other)
            _, after, *_ = step({**params, player: moved[player]})
            assert after[player] < before[player], player
        return {name: float(value) for name, value in metrics.items()}

    return check


@pytest.fixture(scope="session")
def check_stream(make_batch, draw_variables) -> Callable[[ConfigDict], None]:
    """Checks that a stream in chunks is the whole, from zeros as from nothing, and that each frame
    hears its sound."""

    def check(config):
        system, (b, t) = get_system(config.system), (2, config.data.num_frames)
        batch, keys = make_batch(config, [t] * b), jax.random.split(jax.random.key(0))
        shapes = jax.eval_shape(lambda: system.init(config, jax.random.key(0), batch))
        variables = draw_variables(shapes)
        stride, window = system.audio_geometry(config)

        @jax.jit
        def generate(waveform, carry):
            return system.generate(config, variables, batch["still"], waveform, keys, carry)

        waveform = batch["waveform"]
        _, shape = jax.eval_shape(generate, waveform, None)
        start = jax.tree.map(lambda leaf: np.zeros(leaf.shape, leaf.dtype), shape)
        whole, last = generate(waveform, start)
        assert whole.shape == (b, t, *config.data.image_size, 3)
        half = t // 2
        first, carry = generate(waveform[:, : (half - 1) * stride + window], start)
        second, carry = generate(waveform[:, half * stride :], carry)
        compare = functools.partial(np.testing.assert_allclose, atol=1e-5)
        compare(np.concatenate([first, second], axis=1), whole)
        jax.tree.map(compare, carry, last)
        dull = np.cumsum(waveform, axis=1, dtype=np.float32) / 100
        other, _ = generate(dull, start)
        assert (np.abs(other - whole).max(axis=(0, 2, 3, 4)) > 1e-4).all()
        code = jax.jit(functools.partial(system.identity_code, config, variables))(batch["still"])
        assert code.shape == (b, config.generator.identity_dim)

    return check

"""What the configs of all systems have to do alike."""

from collections.abc import Callable

import jax
import numpy as np
import optax
import pytest

from flax_talk.systems import get_system
from flax_talk.training.optimizers import make_optimizer


@pytest.fixture(scope="session")
def check_players(make_batch, draw_variables) -> Callable[..., None]:
    """Checks that each player learns from its own loss alone, and that its step lowers it."""

    def check(config, **features):
        system, frames = get_system(config.system), config.data.num_frames
        batch, keys = make_batch(config, [frames, frames - 1]), jax.random.split(jax.random.key(0))
        batch |= features
        shapes = jax.eval_shape(lambda: system.init(config, jax.random.key(0), batch))
        variables = draw_variables(shapes)
        params = {player: entry["params"] for player, entry in variables.items()}

        def losses(params):
            entries = {player: {**variables[player], "params": params[player]} for player in params}
            values, _, metrics = system.losses(config, entries, batch, keys)
            return values, (values, metrics)

        jacobian = jax.jit(jax.jacrev(losses, has_aux=True))
        grads, (before, metrics) = jacobian(params)
        assert set(before) == set(params)
        assert all(np.isfinite(value) for value in metrics.values())
        optimizer = make_optimizer(config.optimizer, params, steps_per_epoch=1)
        own = {player: grads[player][player] for player in params}
        updates, _ = optimizer.update(own, optimizer.init(params), params)
        moved = optax.apply_updates(params, updates)
        for player in params:
            for other, tree in grads[player].items():
                leaves = [np.asarray(leaf) for leaf in jax.tree.leaves(tree)]
                reached = np.mean([(leaf != 0).any() for leaf in leaves])
                assert all(np.isfinite(leaf).all() for leaf in leaves), (player, other)
                assert reached > 0.8 if player == other else reached == 0, (player, other)
            _, (after, _) = jacobian({**params, player: moved[player]})
            assert after[player] < before[player], player

    return check

"""The train step: every player's gradient and one update, written per device.

A system returns one loss per player, each of which reaches that player's parameters only, so
the gradient of their sum is every player's own gradient from one forward pass of the
generator. Gradients and batch statistics are averaged over the `data` axis. A step with
a number that is not finite changes nothing but its count.
"""

from functools import partial
from types import ModuleType
from typing import Any

import flax
import jax
import jax.numpy as jnp
import optax
from ml_collections import ConfigDict

from flax_talk.training.monitors import SKIPPED


class TrainState(flax.struct.PyTreeNode):
    """All that a step changes.

    Attributes:
        step: number of updates made.
        params, batch_stats: by player.
        opt_state: of the partitioned optimizer.
        rng: data of the key from which every step's randomness derives.
    """

    step: jax.Array
    params: dict[str, Any]
    batch_stats: dict[str, Any]
    opt_state: optax.OptState
    rng: jax.Array

    @property
    def variables(self) -> dict[str, dict[str, Any]]:
        """By player, as the systems take them."""
        return {
            player: {"params": params, "batch_stats": self.batch_stats[player]}
            for player, params in self.params.items()
        }


def init_state(
    system: ModuleType,
    config: ConfigDict,
    optimizer: optax.GradientTransformation,
    batch: dict[str, jax.Array],
) -> TrainState:
    """The state before the first step, from `config.seed` and the shapes of `batch`."""
    init_rng, train_rng = jax.random.split(jax.random.key(config.seed))
    variables = system.init(config, init_rng, batch)
    params = {player: entry["params"] for player, entry in variables.items()}
    return TrainState(
        step=jnp.zeros((), jnp.int32),
        params=params,
        batch_stats={player: entry["batch_stats"] for player, entry in variables.items()},
        opt_state=optimizer.init(params),
        rng=jax.random.key_data(train_rng),
    )


def example_keys(rng: jax.Array, batch_size: int, axis_name: str | None) -> jax.Array:
    """One key for each example of this device, by its place in the whole batch: [B]."""
    first = 0 if axis_name is None else jax.lax.axis_index(axis_name) * batch_size
    return jax.vmap(lambda i: jax.random.fold_in(rng, i))(first + jnp.arange(batch_size))


def gradients(
    system: ModuleType,
    config: ConfigDict,
    state: TrainState,
    batch: dict[str, jax.Array],
    axis_name: str | None = None,
) -> tuple[dict[str, Any], dict[str, Any], dict[str, jax.Array]]:
    """(gradients by player, new batch statistics by player, metrics), averaged over devices.

    With `config.train.accumulate` above 1 the examples of a device go through in so many equal
    parts, one after the other, and gradients and metrics are averages over the parts. Batch
    normalisation sees a part at a time, and so does a mean over valid frames.
    """
    rng = jax.random.fold_in(jax.random.wrap_key_data(state.rng), state.step)
    keys = example_keys(rng, batch["mask"].shape[0], axis_name)

    def part(stats, batch, keys):
        def total(params):
            variables = state.replace(params=params, batch_stats=stats).variables
            losses, new, metrics = system.losses(config, variables, batch, keys, True, axis_name)
            return sum(losses.values()), (new, metrics)

        grads, (stats, metrics) = jax.grad(total, has_aux=True)(state.params)
        return stats, (grads, metrics)

    count = config.get("train", {}).get("accumulate", 1)
    if count == 1:
        stats, (grads, metrics) = part(state.batch_stats, batch, keys)
    else:

        def add(carry, inputs):
            stats, total = carry
            stats, results = part(stats, *inputs)
            return (stats, jax.tree.map(jnp.add, total, results)), None

        parts = jax.tree.map(lambda x: x.reshape(count, -1, *x.shape[1:]), (batch, keys))
        first = jax.tree.map(lambda x: x[0], parts)
        _, shapes = jax.eval_shape(part, state.batch_stats, *first)
        zeros = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), shapes)
        (stats, results), _ = jax.lax.scan(add, (state.batch_stats, zeros), parts)
        grads, metrics = jax.tree.map(lambda x: x / count, results)
    if axis_name is not None:
        grads, stats, metrics = jax.lax.pmean((grads, stats, metrics), axis_name)
    return grads, stats, metrics


def train_step(
    system: ModuleType,
    config: ConfigDict,
    optimizer: optax.GradientTransformation,
    state: TrainState,
    batch: dict[str, jax.Array],
    axis_name: str | None = None,
) -> tuple[TrainState, dict[str, jax.Array]]:
    """One update of every player; none, where a loss, a gradient or an update is not finite.

    Args:
        batch: of this device, see `flax_talk.systems`.
        axis_name: the device axis, or None.

    Returns:
        (new state, metrics of the system, each player's gradient norm, and whether the update was
        left out, `monitors.SKIPPED`).
    """
    grads, stats, metrics = gradients(system, config, state, batch, axis_name)
    updates, opt_state = optimizer.update(grads, state.opt_state, state.params)
    norms = {f"{player}/gradient_norm": optax.tree.norm(g) for player, g in grads.items()}
    losses = (value for name, value in metrics.items() if name.endswith("/loss"))
    numbers = jnp.stack([*losses, *norms.values(), optax.tree.norm(updates)])
    is_finite = jnp.isfinite(numbers).all()
    updated = state.replace(
        params=optax.apply_updates(state.params, updates), batch_stats=stats, opt_state=opt_state
    )
    state = jax.tree.map(partial(jnp.where, is_finite), updated, state)
    metrics |= norms | {SKIPPED: 1.0 - is_finite}
    return state.replace(step=state.step + 1), metrics

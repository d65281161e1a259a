import functools
import sys
import types

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.sharding import Mesh
from ml_collections import ConfigDict

from configs import common
from flax_talk.losses import masked_mean
from flax_talk.nets.convolutions import batch_norm
from flax_talk.systems import temporal_gan
from flax_talk.systems.step import Players
from flax_talk.training import optimizers, parallel, step

# Valid frames of the clip on each device; three are too few for a snippet.
LENGTHS = {"equal": [10, 10, 10, 10], "unequal": [10, 6, 9, 3]}


def assert_close(got, expected, tolerance):
    """Equal up to `tolerance` of the largest entry of each array.

    An array a thousand times smaller than the largest is rounding alone, as is the gradient of a
    bias in front of a normalisation: it counts as large as that.
    """
    largest = max(np.abs(leaf).max() for leaf in jax.tree.leaves(expected))

    def compare(path, one, other):
        scale = max(np.abs(other).max(), 1e-3 * largest)
        np.testing.assert_allclose(
            one, other, rtol=0, atol=tolerance * scale, err_msg=jax.tree_util.keystr(path)
        )

    jax.tree_util.tree_map_with_path(compare, got, expected)


# A system of two players, small enough to compile at once


class Toy(nn.Module):
    axis_name: str | None = None

    @nn.compact
    def __call__(self, x, train):
        x = nn.Dense(5, use_bias=False)(x)  # A bias would have a gradient of rounding alone.
        x = batch_norm(train, jnp.float32, self.axis_name)(x)
        return nn.Dense(1)(nn.tanh(x))[..., 0]


def toy_init(config, rng, batch):
    return {player: Toy().init(rng, batch["x"], False) for player in ("one", "two")}


def toy_losses(config, variables, batch, rng, train, axis_name):
    noise = jax.vmap(lambda key: jax.random.normal(key, batch["x"].shape[1:]))(rng)
    losses, stats = {}, {}
    for player, entry in variables.items():
        y, new = Toy(axis_name).apply(entry, batch["x"] + noise, train, mutable=["batch_stats"])
        losses[player] = masked_mean((y - batch["y"]) ** 2, batch["mask"], axis_name)
        stats[player] = new["batch_stats"]
    return losses, stats, {f"{player}/loss": value for player, value in losses.items()}


TOY = types.SimpleNamespace(init=toy_init, losses=toy_losses)


@pytest.fixture(scope="module")
def toy():
    """(config, optimizer, state, batch of 8 with unequal masks over 4 devices)."""
    config = ConfigDict(dict(seed=0))
    config.optimizer = ConfigDict(dict(one=common.adam(1e-2), two=common.adam(0.0)))
    random = np.random.default_rng(0)
    batch = {
        "x": random.normal(size=(8, 6, 4)).astype(np.float32),
        "y": random.normal(size=(8, 6)).astype(np.float32),
        "mask": np.arange(6) < np.array([6, 6, 1, 2, 0, 0, 6, 3])[:, None],
    }
    optimizer = optimizers.make_optimizer(config.optimizer, ["one", "two"], steps_per_epoch=1)
    return config, optimizer, step.init_state(TOY, config, optimizer, batch), batch


@pytest.fixture(scope="module")
def single(toy):
    """State and metrics after three steps on one device."""
    config, optimizer, state, batch = toy
    update = jax.jit(functools.partial(step.train_step, TOY, config, optimizer))
    for _ in range(3):
        state, metrics = update(state, batch)
    return state, metrics


@pytest.mark.parametrize("kind", ["shard_map", "pmap"])
def test_three_steps_on_four_devices_equal_those_on_one(toy, single, kind):
    config, optimizer, state, batch = toy
    mesh = parallel.make_mesh()
    assert mesh.size == 4
    function = functools.partial(step.train_step, TOY, config, optimizer, axis_name=parallel.AXIS)
    update = parallel.parallelize(function, mesh, kind, donate_state=True)
    # A copy: the state is donated.
    state = parallel.replicate(mesh, jax.tree.map(np.array, state))
    batch = parallel.shard_batch(mesh, batch)
    for _ in range(3):
        state, metrics = update(state, batch)
    expected, expected_metrics = single
    np.testing.assert_array_equal(state.rng, expected.rng)
    assert_close(state.params, expected.params, 1e-4)
    assert_close(state.batch_stats, expected.batch_stats, 1e-4)
    assert_close(metrics, expected_metrics, 1e-4)


def test_step_moves_the_players_by_their_optimizers(toy, single):
    _, _, before, _ = toy
    after, metrics = single
    assert after.step == 3
    np.testing.assert_array_equal(after.rng, before.rng)
    moved = jax.tree.map(lambda a, b: bool((a != b).all()), after.params, before.params)
    assert all(jax.tree.leaves(moved["one"]))
    assert not any(jax.tree.leaves(moved["two"]))
    named = {"one/loss", "two/loss", "one/gradient_norm", "two/gradient_norm", "skipped"}
    assert named == set(metrics) and metrics["skipped"] == 0


@pytest.mark.parametrize("spoilt", ["batch", "rate"])
def test_a_step_that_is_not_finite_changes_nothing(toy, spoilt):
    config, optimizer, state, batch = toy
    if spoilt == "batch":
        batch = {**batch, "y": np.where(np.arange(8)[:, None] == 2, np.nan, batch["y"])}
    else:
        bad = ConfigDict(dict(one=common.adam(1e-2), two=common.adam(float("inf"))))
        optimizer = optimizers.make_optimizer(bad, ["one", "two"], steps_per_epoch=1)
    update = jax.jit(functools.partial(step.train_step, TOY, config, optimizer))
    after, metrics = update(state, batch)
    assert metrics["skipped"] == 1
    assert np.isfinite(metrics["one/loss"]) == (spoilt == "rate")
    jax.tree.map(np.testing.assert_array_equal, after, state.replace(step=np.int32(1)))


def test_gradient_norm_is_that_of_the_player(toy):
    config, optimizer, state, batch = toy
    grads, _, _ = jax.jit(functools.partial(step.gradients, TOY, config))(state, batch)
    _, metrics = jax.jit(functools.partial(step.train_step, TOY, config, optimizer))(state, batch)
    for player, tree in grads.items():
        norm = np.sqrt(sum((np.asarray(leaf) ** 2).sum() for leaf in jax.tree.leaves(tree)))
        assert float(metrics[f"{player}/gradient_norm"]) == pytest.approx(norm, rel=1e-4)


def test_every_step_draws_anew_from_the_seed(toy):
    config, _, state, batch = toy
    gradients = jax.jit(functools.partial(step.gradients, TOY, config))
    first, again = (gradients(state, batch)[2]["one/loss"] for _ in range(2))
    later = gradients(state.replace(step=jnp.array(1)), batch)[2]["one/loss"]
    assert first == again != later


def test_keys_of_examples_do_not_depend_on_the_devices():
    rng = jax.random.key(3)
    whole = jax.random.key_data(step.example_keys(rng, 8, None))
    assert len({tuple(key) for key in whole.tolist()}) == 8

    def device(state, batch):
        keys = step.example_keys(rng, 2, parallel.AXIS)
        return jax.lax.all_gather(jax.random.key_data(keys), parallel.AXIS, tiled=True)

    spread = parallel.parallelize(device, parallel.make_mesh(), "shard_map")
    np.testing.assert_array_equal(spread(0, {"x": np.zeros(4)}), whole)


# What saves memory


class Plain(nn.Module):
    """Without normalisation, which sees one part of a batch at a time."""

    @nn.compact
    def __call__(self, x, train):
        self.variable("batch_stats", "calls", lambda: jnp.zeros(()))
        self.put_variable("batch_stats", "calls", self.get_variable("batch_stats", "calls") + 1)
        return nn.Dense(1)(nn.tanh(nn.Dense(5)(x)))[..., 0]


@pytest.mark.parametrize("devices", [1, 4])
def test_gradients_of_parts_add_up_to_those_of_the_batch(toy, monkeypatch, devices):
    config, _, _, batch = toy
    monkeypatch.setattr(sys.modules[__name__], "Toy", lambda axis_name=None: Plain())
    # Valid frames as many in each part as in the other, and drawn numbers by example.
    batch = {**batch, "mask": np.ones((8, 6), bool)}
    state = step.init_state(TOY, config, optax.identity(), batch)
    mesh = Mesh(np.array(jax.devices()[:devices]), (parallel.AXIS,))

    def run(count):
        parts = ConfigDict(dict(seed=0, train=dict(accumulate=count)))
        gradients = functools.partial(step.gradients, TOY, parts, axis_name=parallel.AXIS)
        return parallel.parallelize(gradients, mesh, "shard_map")(state, batch)

    grads, stats, metrics = run(1)
    got, moved, means = run(2)
    assert_close(got, grads, 1e-5)
    assert_close(means, metrics, 1e-5)
    # The second part goes on from the statistics of the first.
    assert float(stats["one"]["calls"]) + 1 == float(moved["one"]["calls"])


@pytest.mark.parametrize("remat", [False, True])
def test_what_is_worked_out_again_gives_the_same_gradients(toy, remat):
    _, _, state, batch = toy

    def loss(params, remat):
        variables = state.replace(params=params).variables
        config = ConfigDict(dict(train=dict(remat=remat)))
        turn = Players(config, {name: Toy() for name in variables}, variables, True)
        judged = turn.judge("two", turn.apply("one", batch["x"])[..., None] + batch["x"])
        return (judged**2).sum(), turn.stats

    def run(params, remat):
        return jax.grad(loss, has_aux=True)(params, remat)

    got, expected = (jax.jit(run, static_argnums=1)(state.params, x) for x in (remat, False))
    for one, other in zip(got, expected, strict=True):
        assert_close(one, other, 1e-5)
    again = str(jax.make_jaxpr(run, static_argnums=1)(state.params, remat)).count("remat")
    assert (again > 0) == remat


# The temporal GAN itself


@pytest.fixture(scope="module")
def gan(make_tiny, make_batch, draw_variables):
    """(make_batch of lengths, gradients on one device, gradients on four), compiled once."""
    config = make_tiny()
    batch = make_batch(config, LENGTHS["equal"])
    shapes = jax.eval_shape(lambda: temporal_gan.init(config, jax.random.key(0), batch))
    variables = draw_variables(shapes)
    state = step.TrainState(
        step=np.int32(0),
        params={player: entry["params"] for player, entry in variables.items()},
        batch_stats={player: entry["batch_stats"] for player, entry in variables.items()},
        opt_state=(),
        rng=np.array([1, 2], np.uint32),
    )
    mesh = parallel.make_mesh()
    gradients = functools.partial(step.gradients, temporal_gan, config)
    four = parallel.parallelize(
        functools.partial(gradients, axis_name=parallel.AXIS), mesh, "shard_map"
    )
    return (
        functools.partial(make_batch, config),
        functools.partial(jax.jit(gradients), jax.device_put(state)),
        lambda batch: four(parallel.replicate(mesh, state), parallel.shard_batch(mesh, batch)),
    )


@pytest.mark.parametrize("lengths", LENGTHS.values(), ids=LENGTHS)
def test_gradients_on_four_devices_equal_those_on_one(gan, lengths):
    """Float32 sums in another order, through some thirty normalised layers: 1 in 1000.

    An activation within rounding of 0 may fall on the other side of a LeakyReLU, and one alone
    changes a sum over so few by some 2 %. With native convolutions and the seed 0 one does, with
    other seeds none, and in double precision none: it is no error of either form.
    """
    make_batch, one, four = gan
    batch = make_batch(lengths)
    expected, got = one(batch), four(batch)
    for name, value in expected[2].items():
        assert float(got[2][name]) == pytest.approx(float(value), rel=1e-4, abs=1e-6), name
    for player in expected[0]:
        assert_close(got[1][player], expected[1][player], 1e-4)
        assert_close(got[0][player], expected[0][player], 1e-3)
    for player, tree in got[0].items():
        leaves = jax.tree.leaves(tree)
        assert all(np.isfinite(leaf).all() for leaf in leaves), player
        assert sum((np.asarray(leaf) != 0).any() for leaf in leaves) > len(leaves) / 2, player

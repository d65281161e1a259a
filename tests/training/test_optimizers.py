import jax
import numpy as np
import optax
import pytest

from configs import common, temporal_gan_2019_grid
from flax_talk.training.optimizers import make_optimizer, make_schedule


@pytest.mark.parametrize(
    ("player", "rate", "decay"),
    [
        ("generator", 1e-4, 0.98),
        ("frame_discriminator", 1e-4, 0.9),
        ("sync_discriminator", 1e-5, 0.9),
        ("sequence_discriminator", 1e-5, 0.9),
    ],
)
def test_rates_decay_every_ten_epochs_as_in_the_paper(player, rate, decay):
    config = temporal_gan_2019_grid.get_config().optimizer[player]
    schedule = make_schedule(config, steps_per_epoch=7)
    for step, decays in [(0, 0), (1, 0), (69, 0), (70, 1), (139, 1), (140, 2), (700, 10)]:
        assert float(schedule(step)) == pytest.approx(rate * decay**decays, rel=1e-5), step


def test_decay_can_start_late_and_stay_away():
    late = make_schedule(common.adam(1.0, decay=0.9, every=1, after=20), steps_per_epoch=3)
    for step, decays in [(0, 0), (60, 0), (62, 0), (63, 1), (66, 2)]:
        assert float(late(step)) == pytest.approx(0.9**decays, rel=1e-5), step
    constant = make_schedule(common.adam(0.5), steps_per_epoch=3)
    assert [float(constant(step)) for step in (0, 10, 1000)] == [0.5] * 3


def make_config(**players):
    config = temporal_gan_2019_grid.get_config().optimizer
    config = type(config)()
    for player, one in players.items():
        config[player] = one
    return config


def run(config, grads, steps):
    """Params after each step from zero, with steps of an epoch each."""
    optimizer = make_optimizer(config, config.keys(), steps_per_epoch=1)
    params = jax.tree.map(np.zeros_like, grads[0])
    state, path = optimizer.init(params), []
    update = jax.jit(optimizer.update)
    for grad in grads[:steps]:
        updates, state = update(grad, state, params)
        params = optax.apply_updates(params, updates)
        path.append(params)
    return path


def adam(grads, rates, b1, b2):
    """Kingma and Ba's Algorithm 1, on a vector from zero."""
    x = m = v = np.zeros_like(grads[0], np.float64)
    path = []
    for t, (grad, rate) in enumerate(zip(grads, rates, strict=True), start=1):
        m = b1 * m + (1 - b1) * grad
        v = b2 * v + (1 - b2) * grad**2
        x = x - rate * (m / (1 - b1**t)) / (np.sqrt(v / (1 - b2**t)) + 1e-8)
        path.append(x)
    return path


def test_each_player_has_its_own_adam():
    slow, fast = common.adam(1e-3, decay=0.5, every=2), common.adam(1e-1, decay=0.1, after=1)
    slow.b1, fast.b1 = 0.5, 0.9
    random = np.random.default_rng(0)
    draw = random.normal(size=(5, 2, 3)).astype(np.float32)
    grads = [{"slow": {"w": one}, "fast": {"w": other}} for one, other in draw]
    path = run(make_config(slow=slow, fast=fast), grads, 5)
    rates = {
        "slow": [1e-3, 1e-3, 5e-4, 5e-4, 2.5e-4],
        "fast": [1e-1, 1e-1, 1e-2, 1e-3, 1e-4],
    }
    for i, (player, b1) in enumerate((("slow", 0.5), ("fast", 0.9))):
        expected = adam(draw[:, i], rates[player], b1, 0.999)
        got = [params[player]["w"] for params in path]
        np.testing.assert_allclose(got, expected, rtol=1e-3, atol=1e-7)


def test_a_player_of_rate_zero_stays():
    config = make_config(still=common.adam(0.0), moving=common.adam(1e-2))
    grads = [{"still": {"w": np.ones(3)}, "moving": {"w": np.ones(3)}}] * 3
    last = run(config, grads, 3)[-1]
    np.testing.assert_array_equal(last["still"]["w"], np.zeros(3))
    assert (np.asarray(last["moving"]["w"]) < -0.02).all()


def test_clipping_is_to_the_players_own_norm():
    """Gradients of norm 5 and 50: only the clipped player sees the second as no larger."""
    clipped, free = common.adam(1e-2), common.adam(1e-2)
    clipped.clip_norm = 5.0
    grad = np.array([3.0, 4.0])
    grads = [{"clipped": {"w": grad}, "free": {"w": grad}}]
    grads.append(jax.tree.map(lambda x: 10 * x, grads[0]))
    last = run(make_config(clipped=clipped, free=free), grads, 2)[-1]
    b1, b2 = clipped.b1, clipped.b2
    rates = [1e-2] * 2
    expected = {
        "clipped": adam([grad, grad], rates, b1, b2)[-1],
        "free": adam([grad, 10 * grad], rates, b1, b2)[-1],
    }
    for player, value in expected.items():
        np.testing.assert_allclose(last[player]["w"], value, rtol=1e-3)
    assert np.abs(expected["clipped"] - expected["free"]).max() > 1e-3

"""ATVGnet: two stages that learn from their own terms, and a discriminator that regresses."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from configs import atvgnet_grid
from flax_talk.systems import atvgnet as system
from flax_talk.systems.hearing import window_seconds


@pytest.fixture
def tiny():
    config = atvgnet_grid.get_config("tiny")
    # The shortest window that the audio encoder can pool.
    config.mfcc.columns = 7
    config.data.update(dict(image_size=(32, 32), window_seconds=window_seconds(7), num_frames=4))
    return config


def draw_landmarks(config):
    random = np.random.default_rng(0)
    return random.uniform(0, 32, (2, config.data.num_frames, 68, 2)).astype(np.float32)


def test_sizes_at_full_size(make_batch):
    config = atvgnet_grid.get_config()
    config.data.num_frames = 2
    batch = make_batch(config, [2])
    assert jax.eval_shape(lambda: system.hear(config, batch["waveform"])).shape == (1, 2, 12, 28)
    variables = jax.eval_shape(lambda: system.init(config, jax.random.key(0), batch))
    assert set(variables) == {system.GENERATOR, system.DISCRIMINATOR}
    params = variables[system.GENERATOR]["params"]
    assert params["components"]["kernel"].shape == (256, 20)
    assert params["basis"]["kernel"].shape == (20, 136)
    assert params["decoder"]["Upsample_4"]["kernel"].shape == (4, 4, 64, 4)
    assert variables[system.DISCRIMINATOR]["params"]["Dense_0"]["kernel"].shape == (256, 136)


def test_each_player_learns_from_its_own_loss_alone(tiny, check_players):
    metrics = check_players(tiny, landmarks=draw_landmarks(tiny))
    names = {
        system.GENERATOR: ("reading", "landmarks", *system.FRAME_TERMS),
        system.DISCRIMINATOR: ("real", "fake", "regression"),
    }
    for player, terms in names.items():
        weighted = sum(metrics[f"{player}/{name}_weighted"] for name in terms)
        assert metrics[f"{player}/loss"] == pytest.approx(weighted, rel=1e-5)


def test_the_landmark_stage_can_learn_alone(make_batch):
    """And what it leaves is a whole generator, from which another run goes on."""
    config = atvgnet_grid.get_config("landmarks")
    config.generator = atvgnet_grid.get_config("tiny").generator
    config.data.update(dict(image_size=(32, 32), num_frames=4))
    batch = make_batch(config, [4, 4]) | {"landmarks": draw_landmarks(config)}

    def run():
        variables = system.init(config, jax.random.key(0), batch)
        return variables, *system.losses(config, variables, batch, None)

    variables, losses, stats, metrics = jax.eval_shape(run)
    assert set(variables) == set(losses) == {system.GENERATOR}
    assert "decoder" in variables[system.GENERATOR]["params"]
    assert jax.tree.map(jnp.shape, stats[system.GENERATOR]) == jax.tree.map(
        jnp.shape, variables[system.GENERATOR]["batch_stats"]
    )
    names = ("reading", "reading_weighted", "landmarks", "landmarks_weighted", "loss")
    assert set(metrics) == {f"generator/{name}" for name in names}


def test_attention_weighs_the_l1_and_learns_nothing_from_it():
    random = np.random.default_rng(0)
    fake, real = random.normal(size=(2, 5, 4, 4, 3))
    attention = random.uniform(size=(5, 4, 4, 1))
    loss, gradient = jax.value_and_grad(lambda a: system.pixel_loss(fake, real, a, 0.5).sum())(
        jnp.asarray(attention)
    )
    expected = ((attention + 0.5) * np.abs(fake - real)).mean(axis=(1, 2, 3)).sum()
    assert float(loss) == pytest.approx(expected, rel=1e-5)
    assert (gradient == 0).all()


def test_landmarks_are_in_units_of_half_the_picture():
    corners = np.zeros((68, 2), np.float32)
    corners[1] = 96, 128
    assert system.normalise(corners, (128, 96))[:4].tolist() == [-1, -1, 1, 1]


def test_a_stream_equals_the_whole(tiny, check_stream):
    tiny.loss.update(dict(adversarial=0.0, regression=0.0))
    check_stream(tiny)

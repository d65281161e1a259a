"""CRAN: one recurrent layer over image and sound, and judges of videos and of what lips say."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from configs import cran_grid
from flax_talk.systems import cran as system
from flax_talk.systems.hearing import window_seconds


@pytest.fixture
def tiny():
    config = cran_grid.get_config("tiny")
    # The shortest window that the audio encoder can pool.
    config.mfcc.columns = 7
    config.data.update(dict(image_size=(32, 32), window_seconds=window_seconds(7), num_frames=4))
    return config


def test_sizes_at_full_size(make_batch):
    config = cran_grid.get_config()
    config.data.num_frames = 3
    batch = make_batch(config, [3])
    variables = jax.eval_shape(lambda: system.init(config, jax.random.key(0), batch))
    assert set(variables) == {system.GENERATOR, system.SEQUENCE, system.LIPREADER}
    params = {player: entry["params"] for player, entry in variables.items()}
    recurrent = params[system.GENERATOR]["recurrent"]
    assert recurrent["input_kernel_0"].shape == (256 + 256, 3 * 512)
    assert params[system.GENERATOR]["decoder"]["Dense_0"]["kernel"].shape == (512, 4 * 3 * 1024)
    trunk = params[system.SEQUENCE]["ImageEncoder_0"]["ConvBlock_0"]["Conv_0"]
    assert trunk["kernel"].shape == (3, 4, 4, 3, 64)
    assert params[system.LIPREADER]["labels"]["kernel"].shape == (512, 28)


class ToyGenerator(nn.Module):
    """Sound to video; the real one is trained by the tests of Speech2Vid."""

    @nn.compact
    def __call__(self, still, cepstra, carry=None, train=False):
        heard = cepstra.reshape(*cepstra.shape[:2], -1)
        video = nn.Dense(still[0].size)(heard)
        return jnp.tanh(video.reshape(*heard.shape[:2], *still.shape[1:])), {}


def test_each_player_learns_from_its_own_loss_alone(tiny, monkeypatch, check_players):
    modules = {**system.players(tiny), system.GENERATOR: ToyGenerator()}
    monkeypatch.setattr(system, "players", lambda *_: modules)
    spelling = np.random.default_rng(0).integers(0, 28, (2, tiny.data.num_frames))
    metrics = check_players(tiny, spelling=spelling.astype(np.int32))
    terms = {
        system.GENERATOR: ("reconstruction", "sequence", "lip_reading"),
        system.SEQUENCE: ("real", "fake"),
        system.LIPREADER: ("spelling",),
    }
    for player, names in terms.items():
        weighted = sum(metrics[f"{player}/{name}_weighted"] for name in names)
        assert metrics[f"{player}/loss"] == pytest.approx(weighted, rel=1e-5)
    expected = 0.01 * metrics["generator/lip_reading"]
    assert metrics["generator/lip_reading_weighted"] == pytest.approx(expected, rel=1e-5)


def test_a_weight_of_zero_removes_a_judge(tiny):
    tiny.loss.lip_reading = 0.0
    assert set(system.players(tiny)) == {system.GENERATOR, system.SEQUENCE}


def test_a_stream_equals_the_whole(tiny, check_stream):
    tiny.loss.update(dict(sequence=0.0, lip_reading=0.0))
    check_stream(tiny)

"""The system of 2018 is the paper's by its sizes and rates, and its tiny form learns."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import pytest

from configs import temporal_gan_2018_grid
from flax_talk.systems import temporal_gan as system
from flax_talk.training.optimizers import make_schedule


@pytest.fixture(scope="module")
def full(make_batch):
    """Shapes of all parameters by player, at full size."""
    config = temporal_gan_2018_grid.get_config()
    assert system.audio_geometry(config) == (2000, 8000)
    config.data.num_frames = 2
    batch = make_batch(config, [2])
    variables = jax.eval_shape(lambda: system.init(config, jax.random.key(0), batch))
    return {
        player: jax.tree.map(lambda leaf: leaf.shape, entry["params"])
        for player, entry in variables.items()
    }


def kernels(encoder):
    """Of an encoder's layers, first to last."""
    blocks = [encoder[f"ConvBlock_{i}"]["Conv_0"] for i in range(len(encoder) - 1)]
    return [layer["kernel"] for layer in (*blocks, encoder["Conv_0"])]


def test_generator_has_the_sizes_of_the_paper(full):
    assert set(full) == {system.GENERATOR, system.FRAME, system.SEQUENCE}
    params = full[system.GENERATOR]
    # Six layers to 50 numbers (A.3.2), seven to 256 (A.3).
    widths = [3, 64, 128, 256, 512, 1024]
    expected = [(4, 4, *pair) for pair in zip(widths, widths[1:], strict=False)]
    assert kernels(params["identity_encoder"]) == [*expected, (4, 3, 1024, 50)]
    widths = [16, 32, 64, 128, 256, 512]
    expected = [(4, *pair) for pair in zip(widths, widths[1:], strict=False)]
    assert kernels(params["audio_encoder"]) == [(250, 1, 16), *expected, (5, 512, 256)]
    # Two layers of 256 (A.3), one of 10 (A.3.1).
    content, noise = params["content"], params["noise"]
    assert [content[f"recurrent_kernel_{i}"] for i in (0, 1)] == [(256, 3 * 256)] * 2
    assert len(content) == 2 * len(noise) == 8 and noise["recurrent_kernel_0"] == (10, 3 * 10)
    assert params["decoder"]["Dense_0"]["kernel"] == (256 + 10 + 50, 4 * 3 * 1024)


def test_discriminators_have_the_parts_of_the_paper(full):
    frame, sequence = full[system.FRAME]["ImageEncoder_0"], full[system.SEQUENCE]
    assert len(kernels(frame)) == 6
    assert kernels(frame)[0] == (4, 4, 6, 64) and kernels(frame)[-1] == (4, 3, 1024, 1)
    # A frame's CNN is not over time; it and the audio encoder lead into two GRU layers.
    assert kernels(sequence["ImageEncoder_0"])[0] == (4, 4, 3, 64)
    assert len(kernels(sequence["AudioEncoder_0"])) == 7
    assert sequence["GRU_0"]["input_kernel_0"] == (256 + 256, 3 * 256)
    assert sequence["GRU_0"]["input_kernel_1"] == (256, 3 * 256)
    assert [sequence[f"Dense_{i}"]["kernel"] for i in (0, 1)] == [(256, 256), (256, 1)]


@pytest.mark.parametrize(
    ("player", "rate", "decay"),
    [
        ("generator", 2e-4, 0.9),
        ("frame_discriminator", 1e-3, 0.9),
        ("sequence_discriminator", 5e-5, 1.0),
    ],
)
def test_rates_decay_with_each_epoch_after_twenty(player, rate, decay):
    schedule = make_schedule(temporal_gan_2018_grid.get_config().optimizer[player], 7)
    for epoch, decays in [(0, 0), (20, 0), (21, 1), (30, 10)]:
        for step in (7 * epoch, 7 * epoch + 6):
            assert float(schedule(step)) == pytest.approx(rate * decay**decays, rel=1e-5), epoch


def test_losses_and_stopping_rule_are_those_of_the_paper():
    config = temporal_gan_2018_grid.get_config()
    terms = (*system.WEIGHTS.values(), "reconstruction", *system.OPTIONAL_PARTS, "landmarks")
    weights = {name: config.loss[name] for name in terms if config.loss[name]}
    assert weights == {"reconstruction": 400, "frame": 1, "sequence": 1}
    assert (config.early_stopping.metric, config.early_stopping.patience) == ("psnr", 10)


class ToyGenerator(nn.Module):
    """Noise to video; the real one is trained by the tests of the other systems."""

    @nn.compact
    def teach(self, still, windows, noise, drawing=True, train=False):
        video = nn.Dense(still[0].size)(noise + windows[..., :1])
        return jnp.tanh(video.reshape(*noise.shape[:2], *still.shape[1:])), None


def test_each_player_learns_from_its_own_loss_alone(monkeypatch, check_players):
    config = temporal_gan_2018_grid.get_config("tiny")
    # Of a prime number of milliseconds: one strided audio layer.
    config.data.update(dict(image_size=(32, 32), window_seconds=0.041, num_frames=3))
    modules = {**system.players(config), system.GENERATOR: ToyGenerator()}
    monkeypatch.setattr(system, "players", lambda *_: modules)
    check_players(config)

"""The static baseline has no memory: a frame depends on the still, its sound and its noise."""

import jax
import numpy as np
import pytest

from configs import static_gan_grid
from flax_talk.systems import temporal_gan as system


@pytest.fixture
def tiny():
    config = static_gan_grid.get_config("tiny")
    # Of a prime number of milliseconds: one strided audio layer.
    config.data.update(dict(image_size=(32, 32), window_seconds=0.041, num_frames=6))
    return config


def test_generator_has_no_recurrent_layer_and_one_judge(make_batch):
    config = static_gan_grid.get_config()
    config.data.num_frames = 2
    batch = make_batch(config, [2])
    variables = jax.eval_shape(lambda: system.init(config, jax.random.key(0), batch))
    assert set(variables) == {system.GENERATOR, system.FRAME}
    params = variables[system.GENERATOR]["params"]
    assert set(params) == {"identity_encoder", "audio_encoder", "decoder"}
    # Audio 256, noise 10, identity 128.
    assert params["decoder"]["Dense_0"]["kernel"].shape == (394, 4 * 3 * 1024)


def test_the_generator_learns_from_its_loss(tiny, check_players):
    tiny.loss.frame = 0.0
    tiny.data.num_frames = 3
    check_players(tiny)


def test_a_frame_hears_its_own_window_alone_and_a_stream_equals_the_whole(
    tiny, make_batch, draw_variables
):
    tiny.loss.frame = 0.0
    batch, keys = make_batch(tiny, [6, 6]), jax.random.split(jax.random.key(0))
    shapes = jax.eval_shape(lambda: system.init(tiny, jax.random.key(0), batch))
    variables = draw_variables(shapes)
    stride, window = system.audio_geometry(tiny)

    @jax.jit
    def generate(waveform, carry):
        return system.generate(tiny, variables, batch["still"], waveform, keys, carry)

    def change(one, other):
        """The largest of each frame."""
        return np.abs(np.asarray(one) - np.asarray(other)).max(axis=(0, 2, 3, 4))

    # Nothing but the number of the next frame, which draws its noise, is carried on, and the still.
    start = {"content": np.zeros((2, 0, 8)), "noise": np.zeros((2, 0, 2))}
    start["frame"] = np.zeros(2, np.int32)
    waveform = batch["waveform"]
    video, last = generate(waveform, start)
    assert {*last} == {*start, "identity"}
    assert all(last[name].shape == state.shape for name, state in start.items())
    first, carry = generate(waveform[:, : 2 * stride + window], start)
    second, carry = generate(waveform[:, 3 * stride :], carry)
    np.testing.assert_allclose(np.concatenate([first, second], axis=1), video, atol=1e-5)
    np.testing.assert_array_equal(carry["frame"], last["frame"])

    for frame in range(6):
        kept = slice(frame * stride, frame * stride + window)
        other = np.roll(waveform, 501, axis=1)
        other[:, kept] = waveform[:, kept]
        changes = change(generate(other, start)[0], video)
        assert changes[frame] < 1e-6 and (np.delete(changes, frame) > 1e-3).all(), frame
    # Silence sounds the same in every frame: what differs is the noise.
    silent, _ = generate(np.zeros_like(waveform), start)
    assert (change(silent[:, 1:], silent[:, :-1]) > 1e-3).all()

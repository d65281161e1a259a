"""Speech2Vid has the sizes of its paper, and each frame is of its own window alone."""

import jax
import pytest

from configs import speech2vid_grid
from flax_talk.systems import speech2vid as system
from flax_talk.systems.hearing import window_seconds


@pytest.fixture
def tiny():
    config = speech2vid_grid.get_config("tiny")
    # The shortest window that the audio encoder can pool.
    config.mfcc.columns = 7
    config.data.update(dict(image_size=(32, 32), window_seconds=window_seconds(7), num_frames=4))
    return config


def test_sizes_are_those_of_the_paper(make_batch):
    config = speech2vid_grid.get_config()
    config.data.num_frames = 2
    batch = make_batch(config, [2])
    assert system.audio_geometry(config) == (2000, 19_250)
    heard = jax.eval_shape(lambda: system.hear(config, batch["waveform"]))
    assert heard.shape == (1, 2, 12, 35)
    variables = jax.eval_shape(lambda: system.init(config, jax.random.key(0), batch))
    assert set(variables) == {system.GENERATOR}
    params = jax.tree.map(lambda leaf: leaf.shape, variables[system.GENERATOR]["params"])
    assert set(params) == {"identity_encoder", "audio_encoder", "decoder"}
    audio = params["audio_encoder"]
    kernels = [audio[f"ConvBlock_{i}"]["Conv_0"]["kernel"] for i in range(5)]
    widths = [1, 64, 128, 256, 256, 512]
    assert kernels == [(3, 3, *pair) for pair in zip(widths, widths[1:], strict=False)]
    assert audio["Dense_0"]["kernel"] == (4 * 8 * 512, 512)
    assert audio["Dense_1"]["kernel"] == (512, 256)
    assert params["decoder"]["Dense_0"]["kernel"] == (256 + 256, 4 * 3 * 1024)


def test_the_generator_learns_from_l1_alone(tiny, check_players):
    metrics = check_players(tiny)
    names = ("loss", "reconstruction", "reconstruction_weighted")
    assert set(metrics) == {f"generator/{name}" for name in names}


def test_a_stream_equals_the_whole(tiny, check_stream):
    check_stream(tiny)

"""Pictures of networks: what flows where, and in which shape, as the paper has it."""

import importlib.util
from pathlib import Path

import pytest

from flax_talk import figures

SCRIPT = Path(__file__).parents[1] / "scripts" / "draw_architecture.py"


@pytest.fixture(scope="module")
def architecture():
    spec = importlib.util.spec_from_file_location("draw_architecture", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_what_reaches_what_is_what_the_paper_draws(architecture, tiny, tmp_path):
    tiny.data.image_size = (128, 96)
    tracer, edges = architecture.trace(tiny)
    part = "generator: "
    players = ("frame_discriminator", "sequence_discriminator", "sync_discriminator")
    parts = ("identity_encoder", "audio_encoder", "content", "noise", "decoder")
    assert set(tracer.kinds) == {*players, *(part + name for name in parts)}
    assert edges == {
        ("still", part + "identity_encoder"),
        ("waveform", part + "audio_encoder"),
        (part + "audio_encoder", part + "content"),
        (part + "identity_encoder", part + "decoder"),
        (part + "content", part + "decoder"),
        (part + "noise", part + "decoder"),
        *((part + "decoder", player) for player in players),
        *(("video", player) for player in players),
        ("still", "frame_discriminator"),
        ("waveform", "sync_discriminator"),
    }, edges
    *_, (kind, shape) = tracer.layers[part + "decoder"]
    assert (kind, shape[1:]) == ("Upsample", (128, 96, 3))
    figures.save(architecture.draw(tracer, edges), tmp_path / "picture.png")
    assert (tmp_path / "picture.png").stat().st_size > 10_000

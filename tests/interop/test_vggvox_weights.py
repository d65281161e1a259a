"""VGGVox reads MatConvNet's file, and hears what a plain implementation of it hears."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.io import savemat
from scipy.signal import correlate

from flax_talk.errors import UserError
from flax_talk.interop.vggvox import load_vggvox
from flax_talk.nets.speaker import VGGVox, spectrogram

WIDTHS = (2, 3, 2, 2, 3)
# Name, kernel, strides, padding and the pooling that follows.
LAYERS = (
    ("conv1", (7, 7, 1, 2), 2, 1, ((3, 3), (2, 2))),
    ("conv2", (5, 5, 2, 3), 2, 1, ((3, 3), (2, 2))),
    ("conv3", (3, 3, 3, 2), 1, 1, None),
    ("conv4", (3, 3, 2, 2), 1, 1, None),
    ("conv5", (3, 3, 2, 3), 1, 1, ((5, 3), (3, 2))),
    ("fc6", (9, 1, 3, 4), 1, 0, None),
    ("fc7", (1, 1, 4, 3), 1, 0, None),
    ("fc8", (1, 1, 3, 5), 1, 0, None),
)
NET = VGGVox(5, WIDTHS, hidden=4, code_dim=3)


def cell(items):
    array = np.empty((1, len(items)), object)
    array[0, :] = items
    return array


def draw(normalised):
    random, weights = np.random.default_rng(0), {}
    for name, shape, *_ in LAYERS:
        kernel = random.normal(size=shape) * (2 / np.prod(shape[:3])) ** 0.5
        weights[name] = [kernel, random.normal(size=(shape[-1], 1))]
        if normalised and name != "fc8":
            moments = np.stack([random.normal(size=shape[-1]), random.uniform(1, 2, shape[-1])], 1)
            scale, offset = random.normal(size=(2, shape[-1], 1))
            weights[f"bn{name[-1]}"] = [scale, offset, moments]
    return weights


def save(path, weights):
    layers = [{"name": name, "type": "x", "weights": cell(w)} for name, w in weights.items()]
    savemat(path, {"net": {"layers": cell([*layers, {"name": "relu", "type": "relu"}])}})


def reference(weights, picture):
    """Logits of one picture [rows, columns]."""
    x = picture[..., None]
    for name, shape, stride, pad, pooling in LAYERS:
        kernel, bias = weights[name]
        x = np.pad(x, ((pad, pad), (pad, pad), (0, 0)))
        maps = [correlate(x, kernel[..., o], "valid")[..., 0] for o in range(shape[-1])]
        x = np.stack(maps, axis=-1)[::stride, ::stride] + bias[:, 0]
        if f"bn{name[-1]}" in weights:
            scale, offset, moments = weights[f"bn{name[-1]}"]
            x = (x - moments[:, 0]) / moments[:, 1] * scale[:, 0] + offset[:, 0]
        if name == "fc8":
            return x[0, 0]
        x = np.maximum(x, 0)
        if pooling:
            views = np.lib.stride_tricks.sliding_window_view(x, pooling[0], axis=(0, 1))
            x = views.max(axis=(-2, -1))[:: pooling[1][0], :: pooling[1][1]]
        if name == "fc6":
            x = x.mean(axis=1, keepdims=True)


@pytest.mark.parametrize("normalised", [True, False])
def test_network_of_the_file_hears_as_matconvnet(tmp_path, normalised):
    weights, path = draw(normalised), tmp_path / "net.mat"
    save(path, weights)
    variables = load_vggvox(path, NET)
    picture = np.random.default_rng(1).normal(size=(512, 120))
    hear = jax.jit(lambda variables, x: NET.apply(variables, x, train=False))
    logits, code = hear(variables, np.float32(picture.T)[None])
    assert code.shape == (1, 3)
    expected = reference(weights, picture)
    assert np.ptp(expected) > 0.1
    np.testing.assert_allclose(logits[0], expected, rtol=1e-4, atol=1e-4)


def test_other_files_are_refused_in_one_line(tmp_path):
    path = tmp_path / "net.mat"
    with pytest.raises(UserError, match="no file"):
        load_vggvox(path)
    path.write_bytes(b"no network")
    with pytest.raises(UserError, match="no network of MatConvNet"):
        load_vggvox(path)
    weights = draw(normalised=True)
    save(path, weights)
    with pytest.raises(UserError, match="other sizes"):
        load_vggvox(path)
    del weights["conv3"]
    save(path, weights)
    with pytest.raises(UserError, match="no layer conv3"):
        load_vggvox(path, NET)


def test_spectrogram_has_the_tone_in_its_row_and_normal_rows():
    """The row of 2 kHz rises and falls with the tone, and its mirror image with it."""
    time = np.arange(16_000) / 16_000
    tone = (0.1 * np.sin(2 * np.pi * 2000 * time) * (time > 0.5)).astype(np.float32)
    noise = 1e-3 * np.random.default_rng(0).normal(size=16_000).astype(np.float32)
    x = np.asarray(spectrogram(jnp.asarray(tone + noise)))
    assert x.shape == (98, 512)
    np.testing.assert_allclose(x.mean(axis=0), 0, atol=1e-3)
    np.testing.assert_allclose(x.std(axis=0, ddof=1), 1, atol=1e-3)
    assert (x[52:, 64] > 0.9).all() and (x[:46, 64] < -0.9).all()
    np.testing.assert_allclose(x[:, 1:256], x[:, :256:-1], atol=1e-2)

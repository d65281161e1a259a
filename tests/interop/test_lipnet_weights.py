"""A narrow network in the published layout, computed from the file by Keras's definitions."""

import importlib.util

import jax
import numpy as np
import pytest

from configs import lipnet_grid
from flax_talk.errors import UserError
from flax_talk.interop.lipnet import PUBLISHED, load_lipnet
from flax_talk.nets.lipreader import LipReader
from flax_talk.systems.lipnet import players

# Of these pictures 2 x 3 pixels are left for the recurrent layers.
SIZE = (33, 50)
FEATURES, HIDDEN = (3, 4, 5), 6
NET = LipReader(FEATURES, HIDDEN, **PUBLISHED)
BOTH_BIASES = LipReader(FEATURES, HIDDEN, norm=False)


def draw(seed=0, reset_after=False):
    """Arrays by layer and kind, as Keras has them: time, width, height, channels."""
    random = np.random.default_rng(seed)
    arrays = {}

    def put(name, *shape):
        scale = np.sqrt(2 / np.prod(shape[:-1])) if len(shape) > 1 else 1
        arrays[name] = (scale * random.normal(size=shape)).astype(np.float32)

    channels = 3
    for i, (kernel, features) in enumerate(zip((5, 5, 3), FEATURES, strict=True), start=1):
        put(f"conv{i}/kernel", 3, kernel, kernel, channels, features)
        for kind in ("conv{}/bias", "batc{}/gamma", "batc{}/beta", "batc{}/moving_mean"):
            put(kind.format(i), features)
        # Small variances, so that the constant beside them counts.
        arrays[f"batc{i}/moving_variance"] = random.uniform(0.002, 0.5, features).astype(np.float32)
        channels = features
    for layer, inputs in ((1, 3 * 2 * channels), (2, 2 * HIDDEN)):
        for name in (f"forward_gru{layer}", f"backward_gru{layer}"):
            put(f"{name}/kernel", inputs, 3 * HIDDEN)
            put(f"{name}/recurrent_kernel", HIDDEN, 3 * HIDDEN)
            put(f"{name}/bias", *((2,) if reset_after else ()), 3 * HIDDEN)
    put("dense1/kernel", 2 * HIDDEN, 28)
    put("dense1/bias", 28)
    return arrays


def save(path, arrays, whole=False):
    """Writes a file as Keras 2 does; `whole` as of `model.save`, with numbered names."""
    h5py = pytest.importorskip("h5py")
    with h5py.File(path, "w") as file:
        root = file.create_group("model_weights") if whole else file
        for name, array in arrays.items():
            layer, kind = name.split("/")
            group = f"bidirectional_{layer[-1]}" if "gru" in layer else layer
            number = "_1" if whole and "gru" in layer else ""
            root[f"{group}/{group}/{layer}/{kind}{number}:0"] = array
            if whole:
                file[f"optimizer_weights/training/Adam/{layer}/{kind}:0"] = 0 * array
        root.create_group("max1")
    return path


def convolve(x, kernel, bias, strides):
    """Zero padding of half a kernel, [T, W, H, C]."""
    half = [(k // 2, k // 2) for k in kernel.shape[:3]]
    x = np.pad(x, [*half, (0, 0)])
    patches = np.lib.stride_tricks.sliding_window_view(x, kernel.shape[:3], (0, 1, 2))
    patches = patches[:: strides[0], :: strides[1], :: strides[2]]
    return np.einsum("twhcijk,ijkco->twho", patches, kernel, optimize=True) + bias


def pool(x):
    t, w, h, c = x.shape
    x = x[:, : w // 2 * 2, : h // 2 * 2].reshape(t, w // 2, 2, h // 2, 2, c)
    return x.max(axis=(2, 4))


def gru(x, kernel, recurrent_kernel, bias):
    """Keras 2 with reset_after=False and its hard_sigmoid, gates z, r, h: [T, F] -> [T, H]."""

    def gate(x):
        return np.clip(0.2 * x + 0.5, 0, 1)

    z_in, r_in, h_in = np.split(x @ kernel + bias, 3, axis=1)
    u_z, u_r, u_h = np.split(recurrent_kernel, 3, axis=1)
    state, outputs = np.zeros(HIDDEN), []
    for t in range(len(x)):
        z = gate(z_in[t] + state @ u_z)
        r = gate(r_in[t] + state @ u_r)
        new = np.tanh(h_in[t] + (r * state) @ u_h)
        state = z * state + (1 - z) * new
        outputs.append(state)
    return np.array(outputs)


def logits(arrays, x):
    """Of pictures [T, W, H, 3] in [0, 1]."""
    arrays = {name: array.astype(np.float64) for name, array in arrays.items()}
    for i in (1, 2, 3):
        strides = (1, 2, 2) if i == 1 else (1, 1, 1)
        x = convolve(x, arrays[f"conv{i}/kernel"], arrays[f"conv{i}/bias"], strides)
        gamma, beta, mean, variance = (
            arrays[f"batc{i}/{kind}"]
            for kind in ("gamma", "beta", "moving_mean", "moving_variance")
        )
        x = pool(np.maximum((x - mean) / np.sqrt(variance + 1e-3) * gamma + beta, 0))
    x = x.reshape(len(x), -1)
    for layer in (1, 2):
        there, back = (
            [
                arrays[f"{direction}_gru{layer}/{kind}"]
                for kind in ("kernel", "recurrent_kernel", "bias")
            ]
            for direction in ("forward", "backward")
        )
        x = np.concatenate([gru(x, *there), gru(x[::-1], *back)[::-1]], axis=1)
    return x @ arrays["dense1/kernel"] + arrays["dense1/bias"]


@pytest.mark.parametrize("whole", [False, True])
def test_logits_are_those_of_the_published_network(tmp_path, whole):
    arrays = draw()
    variables = load_lipnet(save(tmp_path / "lipnet.h5", arrays, whole), NET, SIZE)["lipreader"]
    assert {leaf.dtype for leaf in jax.tree.leaves(variables)} == {np.dtype(np.float32)}
    random = np.random.default_rng(1)
    video = random.uniform(size=(5, 3, 5, 3)).repeat(11, axis=1).repeat(10, axis=2)
    apply = jax.jit(lambda video: NET.apply(variables, video, np.ones((1, 5), bool)))
    expected = logits(arrays, video.swapaxes(1, 2))
    assert np.ptp(expected, axis=0).max() > 0.3
    np.testing.assert_allclose(apply(video[None].astype(np.float32))[0], expected, atol=1e-3)


def test_the_config_for_these_weights_has_their_network():
    assert players(lipnet_grid.get_config("published"))["lipreader"] == LipReader(**PUBLISHED)
    assert players(lipnet_grid.get_config())["lipreader"] == LipReader()


def test_both_biases_of_the_newer_grus_are_read(tmp_path):
    arrays = draw(reset_after=True)
    path = save(tmp_path / "new.h5", arrays)
    gru = load_lipnet(path, BOTH_BIASES, SIZE)["lipreader"]["params"]["gru"]["backward_1"]
    h = HIDDEN
    for ours, theirs in (("input_bias_0", 0), ("recurrent_bias_0", 1)):
        z, r, new = np.split(arrays["backward_gru2/bias"][theirs], [h, 2 * h])
        np.testing.assert_array_equal(gru[ours], np.concatenate([r, z, new]))
    # The two kinds of GRU compute different things: neither is taken for the other.
    with pytest.raises(UserError, match="no forward_gru1/bias in .*new.h5"):
        load_lipnet(path, NET, SIZE)
    with pytest.raises(UserError, match="no forward_gru1/bias in .*old.h5"):
        load_lipnet(save(tmp_path / "old.h5", draw()), BOTH_BIASES, SIZE)


def test_a_wrong_file_is_named(tmp_path, monkeypatch):
    arrays = draw()
    with pytest.raises(
        UserError, match="gru1 of .*a.h5 has 30 inputs, of pictures of 50 x 100 come"
    ):
        load_lipnet(save(tmp_path / "a.h5", arrays), NET)
    with pytest.raises(UserError, match=r"BatchNorm_0.* of .*a.h5 is \(3,\), in LipNet \(32,\)"):
        load_lipnet(tmp_path / "a.h5", size=SIZE)
    del arrays["batc2/moving_mean"]
    with pytest.raises(UserError, match="no batc2/moving_mean in .*b.h5"):
        load_lipnet(save(tmp_path / "b.h5", arrays), NET, SIZE)
    with pytest.raises(UserError, match="no file .*absent.h5"):
        load_lipnet(tmp_path / "absent.h5")
    (tmp_path / "c.h5").write_bytes(b"not what it should be")
    with pytest.raises(UserError, match="c.h5 is not a whole HDF5 file"):
        load_lipnet(tmp_path / "c.h5")
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(UserError, match="c.h5 takes h5py: pip install h5py"):
        load_lipnet(tmp_path / "c.h5")

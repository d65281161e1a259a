"""A narrow network in the published layout, computed from the file by its definition."""

import jax
import numpy as np
import pytest

from flax_talk.errors import UserError
from flax_talk.interop.syncnet import load_syncnet
from flax_talk.nets.syncnet import SyncNet

# Of these pictures 2 x 2 pixels are left for the last convolution.
SIZE = (83, 83)
VIDEO, AUDIO, HIDDEN, EMBEDDING = (3, 4, 5, 6, 7, 8), (4, 5, 6, 7, 8, 9), 10, 11
WIDTHS = {"lip": (3, *VIDEO), "aud": (1, *AUDIO)}
KERNELS = {
    "lip": [(5, 7, 7), (1, 5, 5), (1, 3, 3), (1, 3, 3), (1, 3, 3), (1, 2, 2)],
    "aud": [(3, 3)] * 5 + [(5, 4)],
}
PLACES = (0, 4, 8, 11, 14, 18)
NET = SyncNet(VIDEO, AUDIO, HIDDEN, EMBEDDING)


def draw_state(seed=0):
    """Names and arrays as in `syncnet_v2.model`."""
    random = np.random.default_rng(seed)
    state = {}

    def layer(name, shape):
        state[f"{name}.weight"] = random.normal(size=shape) / np.sqrt(np.prod(shape[1:]))
        state[f"{name}.bias"] = random.normal(size=shape[0])

    def norm(name, features):
        state[f"{name}.weight"] = random.uniform(0.5, 2, features)
        state[f"{name}.bias"] = random.normal(size=features)
        state[f"{name}.running_mean"] = random.normal(size=features)
        state[f"{name}.running_var"] = random.uniform(0.01, 2, features)

    for stream, widths in WIDTHS.items():
        for i, place in enumerate(PLACES):
            layer(f"netcnn{stream}.{place}", (widths[i + 1], widths[i], *KERNELS[stream][i]))
            norm(f"netcnn{stream}.{place + 1}", widths[i + 1])
        layer(f"netfc{stream}.0", (HIDDEN, widths[-1]))
        norm(f"netfc{stream}.1", HIDDEN)
        layer(f"netfc{stream}.3", (EMBEDDING, HIDDEN))
    # Pixels of 0..255 come in.
    state["netcnnlip.0.weight"] /= 100
    return {name: array.astype(np.float32) for name, array in state.items()}


def windows(x, size, strides, padding, fill):
    """[N, C, *out, *size] of [N, C, *spatial]."""
    pads = [(0, 0), (0, 0), *((p, p) for p in padding)]
    axes = tuple(range(2, x.ndim))
    view = np.lib.stride_tricks.sliding_window_view(
        np.pad(x, pads, constant_values=fill), size, axes
    )
    return view[(slice(None), slice(None), *(slice(None, None, s) for s in strides))]


class Reference:
    """The layers of the published network, channels first, in double precision."""

    def __init__(self, state):
        self.state = {name: array.astype(np.float64) for name, array in state.items()}

    def convolve(self, x, name, strides, padding):
        kernel = self.state[f"{name}.weight"]
        rank = kernel.ndim - 2
        patches = windows(x, kernel.shape[2:], strides, padding, 0)
        axes = [1, *range(patches.ndim - rank, patches.ndim)]
        y = np.tensordot(patches, kernel, (axes, [1, *range(2, kernel.ndim)]))
        return np.moveaxis(y + self.state[f"{name}.bias"], -1, 1)

    def normalise(self, x, name):
        weight, bias, mean, var = (
            self.state[f"{name}.{kind}"].reshape(-1, *(1,) * (x.ndim - 2))
            for kind in ("weight", "bias", "running_mean", "running_var")
        )
        return np.maximum((x - mean) / np.sqrt(var + 1e-5) * weight + bias, 0)

    def layer(self, x, stream, place, strides, padding):
        x = self.convolve(x, f"netcnn{stream}.{place}", strides, padding)
        return self.normalise(x, f"netcnn{stream}.{place + 1}")

    def head(self, x, stream):
        def matrix(x, name):
            return x @ self.state[f"{name}.weight"].T + self.state[f"{name}.bias"]

        name = f"netfc{stream}"
        x = self.normalise(matrix(x.reshape(len(x), -1), f"{name}.0"), f"{name}.1")
        return matrix(x, f"{name}.3")

    def lip(self, x):
        """[N, 3, 5, H, W], BGR 0..255."""
        x = self.layer(x, "lip", 0, (1, 2, 2), (0, 0, 0))
        x = pool(x, (1, 3, 3), (1, 2, 2), (0, 0, 0))
        x = self.layer(x, "lip", 4, (1, 2, 2), (0, 1, 1))
        x = pool(x, (1, 3, 3), (1, 2, 2), (0, 1, 1))
        for place in (8, 11, 14):
            x = self.layer(x, "lip", place, (1, 1, 1), (0, 1, 1))
        x = pool(x, (1, 3, 3), (1, 2, 2), (0, 0, 0))
        return self.head(self.layer(x, "lip", 18, (1, 1, 1), (0, 0, 0)), "lip")

    def aud(self, x):
        """[N, 1, 13, 20]."""
        x = self.layer(x, "aud", 0, (1, 1), (1, 1))
        x = pool(self.layer(x, "aud", 4, (1, 1), (1, 1)), (3, 3), (1, 2), (0, 0))
        for place in (8, 11, 14):
            x = self.layer(x, "aud", place, (1, 1), (1, 1))
        x = pool(x, (3, 3), (2, 2), (0, 0))
        return self.head(self.layer(x, "aud", 18, (1, 1), (0, 0)), "aud")


def pool(x, size, strides, padding):
    return windows(x, size, strides, padding, -np.inf).max(axis=tuple(range(-len(size), 0)))


def test_embeddings_are_those_of_the_published_network(tmp_path, save_torch):
    state = draw_state()
    path = save_torch(tmp_path / "syncnet_v2.model", state)
    variables = load_syncnet(path, NET, SIZE)["syncnet"]
    assert {leaf.dtype for leaf in jax.tree.leaves(variables)} == {np.dtype(np.float32)}
    random = np.random.default_rng(1)
    # Large patches, so that the layers have more to see than the mean of noise.
    pixels = random.integers(0, 256, (1, 6, 7, 7, 3)).repeat(12, axis=2).repeat(12, axis=3)
    pixels = pixels[:, :, : SIZE[0], : SIZE[1]]
    mfcc = random.normal(size=(1, 24, 13)).astype(np.float32)
    video = (pixels / 127.5 - 1).astype(np.float32)
    seen, heard = jax.jit(lambda v, m: NET.apply(variables, v, m, train=False))(video, mfcc)

    frames = pixels[0, ..., ::-1].transpose(3, 0, 1, 2).astype(np.float64)  # [BGR, T, H, W]
    reference = Reference(state)
    lips = reference.lip(np.stack([frames[:, t : t + 5] for t in range(2)]))
    sound = mfcc[0].T.astype(np.float64)
    sound = reference.aud(np.stack([sound[None, :, 4 * t : 4 * t + 20] for t in range(2)]))
    assert np.ptp(lips, axis=0).max() > 0.3 and np.ptp(sound, axis=0).max() > 0.3
    np.testing.assert_allclose(seen[0], lips, atol=1e-4 * np.abs(lips).max())
    np.testing.assert_allclose(heard[0], sound, atol=1e-4 * np.abs(sound).max())


def test_another_file_is_named(tmp_path, save_torch):
    state = draw_state()
    path = save_torch(tmp_path / "narrow.model", state)
    with pytest.raises(
        UserError, match=r"audio_conv1.* of .*narrow.model is \(4,\), in SyncNet \(64,"
    ):
        load_syncnet(path)
    with pytest.raises(UserError, match=r"video_conv6/conv/kernel of .* is \(2, 2, 7, 8\)"):
        load_syncnet(path, NET, (115, 115))
    del state["netcnnlip.9.running_var"]
    with pytest.raises(UserError, match="no netcnnlip.9.running_var in .*short.model"):
        load_syncnet(save_torch(tmp_path / "short.model", state), NET, SIZE)
    flat = draw_state() | {"netcnnlip.8.weight": np.zeros(4)}
    with pytest.raises(UserError, match="no netcnnlip.8.weight in .*flat.model"):
        load_syncnet(save_torch(tmp_path / "flat.model", flat), NET, SIZE)
    with pytest.raises(UserError, match="absent.model"):
        load_syncnet(tmp_path / "absent.model")

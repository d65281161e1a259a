"""Networks of one sixteenth of the width in the published layouts, computed by their definition."""

import jax
import numpy as np
import pytest

from flax_talk.errors import UserError
from flax_talk.interop.inception import load_inception

WIDTH = 1 / 16


class Reference:
    """The published network, channels first, in double precision.

    A layer's weights are drawn when it is computed, once: `state` then has the names and shapes of
    a published file.
    """

    def __init__(self, fid, seed=0):
        self.fid, self.state, self.random = fid, {}, np.random.default_rng(seed)

    def draw(self, name, kind, *args):
        self.state[name] = getattr(self.random, kind)(*args).astype(np.float32)
        return self.state[name].astype(np.float64)

    def layer(self, x, name, features, size=1, stride=1, padding=0):
        """A size, a padding: of both axes, or (rows, columns)."""
        size, padding = np.broadcast_to(size, 2), np.broadcast_to(padding, 2)
        shape = (features // 16, x.shape[1], *size)
        kernel = self.draw(f"{name}.conv.weight", "normal", 0, np.prod(shape[1:]) ** -0.5, shape)
        mean = self.draw(f"{name}.bn.running_mean", "normal", 0, 0.2, shape[0])
        variance = self.draw(f"{name}.bn.running_var", "uniform", 0.05, 1, shape[0])
        weight = self.draw(f"{name}.bn.weight", "uniform", 0.5, 1, shape[0])
        bias = self.draw(f"{name}.bn.bias", "normal", 0, 0.2, shape[0])
        self.state[f"{name}.bn.num_batches_tracked"] = np.zeros(())
        x = np.pad(x, ((0, 0), (0, 0), *((p, p) for p in padding)))
        patches = np.lib.stride_tricks.sliding_window_view(x, size, (2, 3))
        y = np.tensordot(patches[:, :, ::stride, ::stride], kernel, ((1, 4, 5), (1, 2, 3)))
        y = (y - mean) / np.sqrt(variance + 0.001) * weight + bias
        return np.moveaxis(np.maximum(y, 0), -1, 1)

    def chain(self, x, name, *layers):
        for i, layer in enumerate(layers, start=1):
            x = self.layer(x, f"{name}_{i}", *layer)
        return x

    def pooled(self, x, name, features, pool="average"):
        beyond = -np.inf if pool == "max" else np.nan if self.fid else 0
        x = np.pad(x, ((0, 0), (0, 0), (1, 1), (1, 1)), constant_values=beyond)
        patches = np.lib.stride_tricks.sliding_window_view(x, (3, 3), (2, 3))
        x = (np.max if pool == "max" else np.nanmean)(patches, axis=(4, 5))
        return self.layer(x, f"{name}.branch_pool", features)

    def a(self, x, name, pooled):
        return (
            self.layer(x, f"{name}.branch1x1", 64),
            self.chain(x, f"{name}.branch5x5", (48,), (64, 5, 1, 2)),
            self.chain(x, f"{name}.branch3x3dbl", (64,), (96, 3, 1, 1), (96, 3, 1, 1)),
            self.pooled(x, name, pooled),
        )

    def b(self, x, name):
        return (
            self.layer(x, f"{name}.branch3x3", 384, 3, 2),
            self.chain(x, f"{name}.branch3x3dbl", (64,), (96, 3, 1, 1), (96, 3, 2)),
            halved(x),
        )

    def c(self, x, name, c):
        row, column = ((1, 7), 1, (0, 3)), ((7, 1), 1, (3, 0))
        double = (c, *column), (c, *row), (c, *column), (192, *row)
        return (
            self.layer(x, f"{name}.branch1x1", 192),
            self.chain(x, f"{name}.branch7x7", (c,), (c, *row), (192, *column)),
            self.chain(x, f"{name}.branch7x7dbl", (c,), *double),
            self.pooled(x, name, 192),
        )

    def d(self, x, name):
        row, column = ((1, 7), 1, (0, 3)), ((7, 1), 1, (3, 0))
        seven = (192,), (192, *row), (192, *column), (192, 3, 2)
        return (
            self.chain(x, f"{name}.branch3x3", (192,), (320, 3, 2)),
            self.chain(x, f"{name}.branch7x7x3", *seven),
            halved(x),
        )

    def e(self, x, name, pool="average"):
        row, column = (384, (1, 3), 1, (0, 1)), (384, (3, 1), 1, (1, 0))
        three = self.chain(x, f"{name}.branch3x3", (384,))
        double = self.chain(x, f"{name}.branch3x3dbl", (448,), (384, 3, 1, 1))
        return (
            self.layer(x, f"{name}.branch1x1", 320),
            self.layer(three, f"{name}.branch3x3_2a", *row),
            self.layer(three, f"{name}.branch3x3_2b", *column),
            self.layer(double, f"{name}.branch3x3dbl_3a", *row),
            self.layer(double, f"{name}.branch3x3dbl_3b", *column),
            self.pooled(x, name, 192, pool),
        )

    def __call__(self, x):
        """(features, logits) of [N, 3, H, W] in [-1, 1]."""
        x = np.apply_along_axis(resized, 3, np.apply_along_axis(resized, 2, x))
        x = self.layer(x, "Conv2d_1a_3x3", 32, 3, 2)
        x = self.layer(x, "Conv2d_2a_3x3", 32, 3)
        x = halved(self.layer(x, "Conv2d_2b_3x3", 64, 3, 1, 1))
        x = self.layer(x, "Conv2d_3b_1x1", 80)
        x = halved(self.layer(x, "Conv2d_4a_3x3", 192, 3))
        blocks = [
            ("5b", self.a, 32),
            ("5c", self.a, 64),
            ("5d", self.a, 64),
            ("6a", self.b),
            ("6b", self.c, 128),
            ("6c", self.c, 160),
            ("6d", self.c, 160),
            ("6e", self.c, 192),
            ("7a", self.d),
            ("7b", self.e),
            ("7c", self.e, "max" if self.fid else "average"),
        ]
        for name, block, *args in blocks:
            x = np.concatenate(block(x, f"Mixed_{name}", *args), axis=1)
        features, classes = x.mean(axis=(2, 3)), 1008 if self.fid else 1000
        matrix = self.draw("fc.weight", "normal", 0, 0.1, (classes, features.shape[1]))
        return features, features @ matrix.T + self.draw("fc.bias", "normal", 0, 1, classes)


def resized(line):
    """Values between the centres of pixels, as they are beyond the outermost."""
    n = len(line)
    return np.interp((np.arange(299) + 0.5) * n / 299 - 0.5, np.arange(n), line)


def halved(x):
    patches = np.lib.stride_tricks.sliding_window_view(x, (3, 3), (2, 3))
    return patches[:, :, ::2, ::2].max(axis=(4, 5))


@pytest.fixture(scope="module")
def published():
    """By `fid`: a state dict, pictures, and their features and logits."""
    found = {}
    for fid in (True, False):
        reference = Reference(fid)
        # Wider than what the network sees, and less high.
        images = np.random.default_rng(1).uniform(-1, 1, (1, 40, 350, 3)).astype(np.float32)
        outputs = reference(images.transpose(0, 3, 1, 2).astype(np.float64))
        found[fid] = reference.state, images, outputs
    found[False][0]["AuxLogits.fc.bias"] = np.zeros(1000)
    return found


@pytest.mark.parametrize("fid", [True, False])
def test_outputs_are_those_of_the_published_network(tmp_path, save_torch, published, fid):
    state, images, expected = published[fid]
    name, net, variables = load_inception(save_torch(tmp_path / "inception.pth", state), WIDTH)
    assert name == ("inception fid" if fid else "inception_v3 torchvision") and net.fid == fid
    assert {leaf.dtype for leaf in jax.tree.leaves(variables)} == {np.dtype(np.float32)}
    # Sooner compiled.
    options = {"xla_backend_optimization_level": 0}
    got = jax.jit(net.apply, compiler_options=options)(variables, images)
    for ours, theirs in zip(got, expected, strict=True):
        assert ours.shape == theirs.shape and np.ptp(theirs) > 0.3
        np.testing.assert_allclose(ours, theirs, atol=1e-4 * np.abs(theirs).max())


def test_another_file_is_named(tmp_path, save_torch, published):
    state = published[True][0]
    files = ": give pt_inception-2015-12-05-.*.pth from .* or inception_v3_google-.*.pth from"

    def refused(name, match, **changes):
        path = save_torch(tmp_path / name, state | changes)
        with pytest.raises(UserError, match=match + files):
            load_inception(path, WIDTH)

    refused("a.pth", r"fc.bias of .*a.pth is \(10,\), not .*", **{"fc.bias": np.zeros(10)})
    wide = {"Mixed_7c.branch_pool.conv.weight": np.zeros((12, 9, 1, 1))}
    refused(
        "b.pth", r"Mixed_7c.branch_pool.conv.weight of .*b.pth is \(1, 1, 9, 12\), in .*", **wide
    )
    refused(
        "c.pth", "Mixed_8a.fc.bias of .*c.pth is no part of .*", **{"Mixed_8a.fc.bias": np.zeros(1)}
    )
    short = {name: x for name, x in state.items() if name != "Mixed_6d.branch1x1.bn.running_var"}
    with pytest.raises(UserError, match="no Mixed_6d.branch1x1.bn.running_var in .*d.pth" + files):
        load_inception(save_torch(tmp_path / "d.pth", short), WIDTH)
    with pytest.raises(UserError, match="no fc.bias in .*e.pth" + files):
        load_inception(save_torch(tmp_path / "e.pth", {}))
    with pytest.raises(UserError, match="absent.pth"):
        load_inception(tmp_path / "absent.pth")


def test_values_are_never_made_up_without_weights():
    with pytest.raises(
        UserError, match="FID and IS need the weights .*: give pt_inception"
    ) as error:
        load_inception(None)
    assert "\n" not in str(error.value)

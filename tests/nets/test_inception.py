"""Blocks of one sixteenth of their width, worked out layer by layer in NumPy."""

import jax
import numpy as np
import pytest

from flax_talk.nets.inception import BLOCKS, InceptionBlock, InceptionV3

WIDTH = 1 / 16


class Layers:
    """Layers of a block by name, and which of them were asked for."""

    def __init__(self, variables):
        self.params, self.stats = variables["params"], variables["batch_stats"]
        self.used = set()

    def __call__(self, x, name, size=(1, 1), stride=1, padded=True):
        kernel, norm, stats = (
            self.params[name]["conv"]["kernel"],
            self.params[name]["bn"],
            self.stats[name]["bn"],
        )
        assert kernel.shape[:2] == size
        self.used.add(name)
        x = np.pad(x, [(0, 0), *((k // 2 * padded,) * 2 for k in size), (0, 0)])
        patches = np.lib.stride_tricks.sliding_window_view(x, size, (1, 2))
        y = np.einsum("nhwcij,ijco->nhwo", patches[:, ::stride, ::stride], kernel)
        y = (y - stats["mean"]) / np.sqrt(stats["var"] + 0.001) * norm["scale"] + norm["bias"]
        return np.maximum(y, 0)


def neighbours(x, beyond):
    """[N, H, W, C] to [N, H, W, 9, C], all that lie around a pixel."""
    x = np.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)), constant_values=beyond)
    patches = np.lib.stride_tricks.sliding_window_view(x, (3, 3), (1, 2))
    return np.moveaxis(patches.reshape(*patches.shape[:4], 9), 3, 4)


POOLS = {
    "average": lambda x: neighbours(x, 0).sum(axis=3) / 9,
    "inside": lambda x: np.nanmean(neighbours(x, np.nan), axis=3),
    "max": lambda x: neighbours(x, -np.inf).max(axis=3),
}


def block_35(x, layer, pool):
    five = layer(layer(x, "branch5x5_1"), "branch5x5_2", (5, 5))
    three = layer(layer(x, "branch3x3dbl_1"), "branch3x3dbl_2", (3, 3))
    three = layer(three, "branch3x3dbl_3", (3, 3))
    return layer(x, "branch1x1"), five, three, layer(pool(x), "branch_pool")


def block_17(x, layer, pool):
    row, column = (1, 7), (7, 1)
    seven = layer(layer(x, "branch7x7_1"), "branch7x7_2", row)
    double = layer(x, "branch7x7dbl_1")
    for i, size in ((2, column), (3, row), (4, column), (5, row)):
        double = layer(double, f"branch7x7dbl_{i}", size)
    seven = layer(seven, "branch7x7_3", column)
    return layer(x, "branch1x1"), seven, double, layer(pool(x), "branch_pool")


def block_8(x, layer, pool):
    one = layer(x, "branch3x3_1")
    two = layer(layer(x, "branch3x3dbl_1"), "branch3x3dbl_2", (3, 3))
    return (
        layer(x, "branch1x1"),
        layer(one, "branch3x3_2a", (1, 3)),
        layer(one, "branch3x3_2b", (3, 1)),
        layer(two, "branch3x3dbl_3a", (1, 3)),
        layer(two, "branch3x3dbl_3b", (3, 1)),
        layer(pool(x), "branch_pool"),
    )


def halving(x, layer, pool):
    seven = layer(layer(x, "branch7x7x3_1"), "branch7x7x3_2", (1, 7))
    seven = layer(seven, "branch7x7x3_3", (7, 1))
    return (
        layer(layer(x, "branch3x3_1"), "branch3x3_2", (3, 3), stride=2, padded=False),
        layer(seven, "branch7x7x3_4", (3, 3), stride=2, padded=False),
        neighbours(x, 0)[:, 1:-1:2, 1:-1:2].max(axis=3),
    )


@pytest.mark.parametrize(
    "name, reference, pool",
    [
        ("Mixed_5c", block_35, "average"),
        ("Mixed_5c", block_35, "inside"),
        ("Mixed_6c", block_17, "inside"),
        ("Mixed_7a", halving, "average"),
        ("Mixed_7c", block_8, "max"),
    ],
)
def test_blocks_equal_those_worked_out_layer_by_layer(name, reference, pool, draw_variables):
    net = InceptionBlock(BLOCKS[name], pool, WIDTH)
    # Far from 0, so that what is beyond the picture counts.
    x = np.random.default_rng(1).normal(2, 1, (2, 5, 8, 4)).astype(np.float32)
    variables = draw_variables(jax.eval_shape(net.init, jax.random.key(0), x))
    random = np.random.default_rng(2)
    for norm in variables["batch_stats"].values():
        norm["bn"]["var"] = random.uniform(0.01, 2, norm["bn"]["var"].shape).astype(np.float32)
    layer = Layers(variables)
    expected = np.concatenate(reference(x, layer, POOLS[pool]), axis=-1)
    assert layer.used == set(variables["params"])
    got = jax.jit(net.apply)(variables, x)
    np.testing.assert_allclose(got, expected, atol=1e-5 * expected.max())


def test_sizes_are_the_published_ones():
    images = jax.ShapeDtypeStruct((2, 48, 64, 3), np.float32)
    (features, logits), variables = jax.eval_shape(
        InceptionV3(fid=False).init_with_output, jax.random.key(0), images
    )
    assert features.shape == (2, 2048) and logits.shape == (2, 1000)
    count = sum(np.prod(leaf.shape) for leaf in jax.tree.leaves(variables["params"]))
    auxiliary = 768 * 128 + 2 * 128 + 128 * 768 * 25 + 2 * 768 + 769 * 1000
    assert count == 27_161_264 - auxiliary

"""VGGVox has its published sizes, and sizes for few rows."""

import jax
import jax.numpy as jnp

from flax_talk.nets.speaker import SHORT_ROW_STRIDES, VGGVox


def shapes(net, *size):
    picture = jax.ShapeDtypeStruct((2, *size), jnp.float32)
    key = jax.eval_shape(lambda: jax.random.key(0))
    variables = jax.eval_shape(lambda key, x: net.init(key, x, train=False), key, picture)
    outputs = jax.eval_shape(lambda v, x: net.apply(v, x, train=False), variables, picture)
    return variables["params"], [output.shape for output in outputs]


def test_published_sizes_and_those_for_coefficients():
    params, outputs = shapes(VGGVox(), 300, 512)
    assert outputs == [(2, 1251), (2, 1024)]
    assert params["fc6"]["Conv_0"]["kernel"].shape == (9, 1, 256, 4096)
    params, outputs = shapes(VGGVox(14, row_strides=SHORT_ROW_STRIDES), 98, 13)
    assert outputs == [(2, 14), (2, 1024)]
    assert params["fc6"]["Conv_0"]["kernel"].shape == (1, 1, 256, 4096)

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import PartitionSpec as P

from flax_talk.nets import convolutions
from flax_talk.training import parallel

# (spatial size, kernel size, strides, padding): the layers of the networks, and odd ones.
CONVOLUTIONS = [
    ((23,), (5,), (1,), [(2, 2)]),
    ((25,), (10,), (5,), [(3, 3)]),
    ((400,), (250,), (50,), [(100, 100)]),
    ((9,), (4,), (2,), [(1, 1)]),
    ((11,), (3,), (2,), [(0, 3)]),
    ((10,), (1,), (2,), [(0, 0)]),
    ((8, 6), (4, 4), (2, 2), [(1, 1)] * 2),
    ((7, 5), (4, 4), (2, 2), [(1, 1)] * 2),
    ((5, 6), (3, 3), (1, 1), [(1, 1)] * 2),
    ((4, 3), (4, 3), (1, 1), [(0, 0)] * 2),
    ((9, 8), (2, 5), (5, 1), [(1, 2), (2, 0)]),
    ((5, 8, 6), (3, 4, 4), (1, 2, 2), [(1, 1)] * 3),
    ((3, 4, 3), (1, 4, 3), (1, 1, 1), [(0, 0)] * 3),
]


def draw(seed, *shapes):
    random = np.random.default_rng(seed)
    return [random.normal(size=shape).astype(np.float32) for shape in shapes]


def convolve(x, kernel, strides, padding):
    """The definition: a sum over the positions of the kernel, in double precision."""
    x = np.pad(x.astype(np.float64), [(0, 0), *padding, (0, 0)])
    rank = len(strides)
    size = kernel.shape[:rank]
    out = [(n - k) // s + 1 for n, k, s in zip(x.shape[1:-1], size, strides, strict=True)]
    total = 0
    for at in itertools.product(*map(range, size)):
        window = [
            slice(i, i + (o - 1) * s + 1, s) for i, o, s in zip(at, out, strides, strict=True)
        ]
        total += x[(slice(None), *window)] @ kernel[at].astype(np.float64)
    return total


def transpose_convolve(x, kernel):
    """ConvTranspose2d(4, 2, 1): each input pixel adds the kernel to 4 x 4 output pixels."""
    n, h, w, _ = x.shape
    full = np.zeros((n, 2 * h + 2, 2 * w + 2, kernel.shape[-1]))
    for i, j in itertools.product(range(h), range(w)):
        full[:, 2 * i : 2 * i + 4, 2 * j : 2 * j + 4] += np.einsum(
            "nc,hwco->nhwo", x[:, i, j], kernel
        )
    return full[:, 1:-1, 1:-1]


def run_forms(forms, x, kernel, weight):
    """(output, input gradient, kernel gradient) of each form, `weight` being the cotangent."""

    @jax.jit
    def run(x, kernel, weight):
        results = []
        for form in forms:
            output, vjp = jax.vjp(form, x, kernel)
            results.append((output, *vjp(weight)))
        return results

    return run(x, kernel, weight)


def assert_close(got, expected, tolerance=1e-5):
    expected = np.asarray(expected)
    scale = np.abs(expected).max()
    np.testing.assert_allclose(got, expected, rtol=0, atol=tolerance * scale)


@pytest.mark.parametrize(("spatial", "size", "strides", "padding"), CONVOLUTIONS)
def test_convolution_is_its_definition_in_all_forms_with_equal_gradients(
    spatial, size, strides, padding
):
    x, kernel = draw(0, (2, *spatial, 3), (*size, 3, 4))
    expected = convolve(x, kernel, strides, padding)
    [weight] = draw(1, expected.shape)
    forms = [convolutions.conv_native, convolutions.conv_matmul]
    # Taps that a stride leaves along each axis.
    if max(-(-n // s) for n, s in zip(size, strides, strict=True)) <= 3:
        forms.append(convolutions.conv_winograd)
    forms = [lambda x, k, form=form: form(x, k, strides, padding) for form in forms]
    native, *others = run_forms(forms, x, kernel, weight)
    assert_close(native[0], expected)
    for results in others:
        for one, other in zip(results, native, strict=True):
            assert_close(one, other)


@pytest.mark.parametrize(
    ("spatial", "size", "strides", "padding"),
    [
        ((7, 9, 8), (5, 7, 7), (1, 2, 2), [(0, 0)] * 3),
        ((4, 6, 5), (3, 5, 5), (1, 2, 2), [(1, 1), (2, 2), (2, 2)]),
        ((3, 4, 5), (3, 3, 3), (1, 1, 1), [(2, 0), (1, 1), (0, 1)]),
        ((3, 4, 5), (1, 2, 3), (1, 1, 1), [(0, 0)] * 3),
    ],
)
def test_convolution_frame_by_frame_is_the_same(spatial, size, strides, padding):
    x, kernel = draw(6, (2, *spatial, 3), (*size, 3, 4))
    expected = convolve(x, kernel, strides, padding)
    [weight] = draw(7, expected.shape)
    forms = [
        lambda x, kernel, form=form: form(x, kernel, strides, padding)
        for form in (convolutions.conv_frames_matmul, convolutions.conv_native)
    ]
    frames, native = run_forms(forms, x, kernel, weight)
    assert_close(frames[0], expected)
    for one, other in zip(frames, native, strict=True):
        assert_close(one, other)


@pytest.mark.parametrize(
    ("spatial", "window", "strides", "padding"),
    [
        ((7, 8), (3, 3), (2, 2), (0, 0)),
        ((7, 8), (3, 3), (1, 2), (1, 1)),
        ((4, 5, 6), (1, 2, 2), (1, 2, 2), (0, 0, 0)),
    ],
)
def test_pooling_is_its_definition_in_both_forms_with_equal_gradients(
    spatial, window, strides, padding
):
    [x] = draw(8, (2, *spatial, 3))
    x -= 5  # all negative: padding by zeros would show
    padded = np.pad(x, [(0, 0), *((p, p) for p in padding), (0, 0)], constant_values=-np.inf)
    out = [
        (n + 2 * p - k) // s + 1
        for n, k, s, p in zip(spatial, window, strides, padding, strict=True)
    ]
    expected = np.zeros((2, *out, 3), np.float32)
    for at in np.ndindex(*out):
        corner = [slice(i * s, i * s + k) for i, s, k in zip(at, strides, window, strict=True)]
        block = padded[(slice(None), *corner)]
        expected[(slice(None), *at)] = block.max(axis=tuple(range(1, len(at) + 1)))
    [weight] = draw(9, expected.shape)
    results = []
    for form in (convolutions.max_pool_shifts, convolutions.max_pool_native):
        output, vjp = jax.vjp(lambda x, form=form: form(x, window, strides, padding), x)
        np.testing.assert_array_equal(output, expected)
        results.append(vjp(weight)[0])
    assert_close(*results)


UPSAMPLINGS = (
    convolutions.upsample_native,
    convolutions.upsample_cpu,
    convolutions.upsample_matmul,
    convolutions.upsample_winograd,
    convolutions.upsample_overlap,
)


@pytest.mark.parametrize("spatial", [(4, 3), (1, 6), (5, 8)])
def test_upsampling_is_a_transposed_convolution_in_all_forms_with_equal_gradients(spatial):
    x, kernel = draw(2, (2, *spatial, 5), (4, 4, 5, 3))
    expected = transpose_convolve(x, kernel)
    [weight] = draw(3, expected.shape)
    native, *others = run_forms(UPSAMPLINGS, x, kernel, weight)
    assert_close(native[0], expected)
    for results in others:
        for one, other in zip(results, native, strict=True):
            assert_close(one, other)


@pytest.mark.parametrize(
    ("layer", "size", "channels", "form"),
    [
        (convolutions.Conv(64, (3, 3), (1, 1), (1, 1)), 32, 64, "conv_winograd"),
        (convolutions.Conv(64, (4, 4), (2, 2), (1, 1)), 64, 64, "conv_winograd"),
        # Too few tiles, too few channels, too many taps, half precision.
        (convolutions.Conv(64, (3, 3), (1, 1), (1, 1)), 16, 64, "conv_matmul"),
        (convolutions.Conv(64, (4, 4), (2, 2), (1, 1)), 64, 3, "conv_matmul"),
        (convolutions.Conv(64, (5, 5), (1, 1), (2, 2)), 32, 64, "conv_matmul"),
        (convolutions.Conv(64, (3, 3), (1, 1), (1, 1), dtype=jnp.bfloat16), 32, 64, "conv_matmul"),
        (convolutions.Upsample(64), 32, 64, "upsample_winograd"),
        (convolutions.Upsample(64), 16, 64, "upsample_matmul"),
        (convolutions.Upsample(3), 32, 64, "upsample_overlap"),
    ],
)
def test_form_on_a_cpu_suits_the_size(monkeypatch, layer, size, channels, form):
    """And kernels are prepared for the forms that have something to prepare."""
    calls = []

    def record(name):
        function = getattr(convolutions, name)
        monkeypatch.setattr(
            convolutions, name, lambda *inputs: calls.append(name) or function(*inputs)
        )

    forms = ("conv_matmul", "conv_winograd")
    forms += ("upsample_matmul", "upsample_winograd", "upsample_overlap")
    for name in forms:
        record(name)
    x = jax.ShapeDtypeStruct((1, size, size, channels), jnp.float32)
    variables = jax.eval_shape(lambda x: layer.init(jax.random.key(0), x), x)
    assert set(variables) == {"params"}
    calls.clear()
    y = jax.eval_shape(layer.apply, variables, x)
    assert calls == [form]

    def prepare(variables, x):
        return layer.apply(variables, x, mutable=[convolutions.PREPARED])[1]

    calls.clear()
    prepared = jax.eval_shape(prepare, variables, x)
    if prepared:
        assert calls == [] and y == jax.eval_shape(layer.apply, {**variables, **prepared}, x)
    else:
        assert form not in ("conv_winograd", "upsample_winograd")
        assert getattr(layer, "strides", (1, 1)) == (1, 1)


@pytest.mark.parametrize(
    "layer",
    [
        convolutions.Conv(65, (3, 3), (1, 1), (1, 1), use_bias=True),
        convolutions.Conv(65, (4, 4), (2, 2), (1, 1)),
        convolutions.Conv(3, (4, 4), (2, 2), (1, 1), dtype=jnp.bfloat16),
        convolutions.Upsample(17),
    ],
)
def test_prepared_kernels_change_the_result_by_rounding_alone(layer):
    [x] = draw(10, (3, 18, 19, 64))

    @jax.jit
    def run(x):
        expected, variables = layer.init_with_output(jax.random.key(0), x)
        _, prepared = layer.apply(variables, x, mutable=[convolutions.PREPARED])
        # What was not prepared is not looked at: other parameters change nothing.
        others = jax.tree.map(jnp.zeros_like, variables)
        return expected, prepared, layer.apply({**others, **prepared}, x[:1])

    expected, prepared, got = run(x)
    assert set(prepared) == {convolutions.PREPARED}
    assert got.dtype == expected.dtype
    assert_close(got.astype(jnp.float32), expected[:1].astype(jnp.float32))


def test_space_to_depth_orders_channels_by_block_position():
    x = np.arange(2 * 4 * 6 * 5).reshape(2, 4, 6, 5)
    got = convolutions.space_to_depth(jnp.asarray(x), (2, 3))
    assert got.shape == (2, 2, 2, 30)
    for i, j in itertools.product(range(2), range(3)):
        at = (i * 3 + j) * 5
        np.testing.assert_array_equal(got[..., at : at + 5], x[:, i::2, j::3])


@pytest.mark.parametrize(
    ("backend", "form"), [("cpu", "cpu"), ("gpu", "native"), ("tpu", "native")]
)
def test_layers_use_the_form_of_the_backend(monkeypatch, backend, form):
    monkeypatch.setattr(jax, "default_backend", lambda: backend)
    calls = []

    def record(name):
        return lambda x, *_: calls.append(name) or x

    tables = ("_CONV", "_CONV_FRAMES", "_MAX_POOL", "_UPSAMPLE")
    for table in (getattr(convolutions, table) for table in tables):
        for name in table:
            monkeypatch.setitem(table, name, record(name))

    def layers(x):
        convolutions.Conv(3, (4, 4), (2, 2), (1, 1)).init(jax.random.key(0), x)
        convolutions.Upsample(3).init(jax.random.key(0), x)
        convolutions.max_pool(x, (2, 2), (2, 2), (0, 0))
        by_frame = convolutions.Conv(3, (1, 1, 1), (1, 1, 1), (0, 0, 0), by_frame=True)
        by_frame.init(jax.random.key(0), x[:, None])

    jax.eval_shape(layers, jnp.zeros((1, 4, 4, 2)))
    assert calls == [form] * 4


@pytest.mark.parametrize(
    "layer",
    [convolutions.Conv(64, (4, 4), (2, 2), (1, 1)), convolutions.Upsample(64)],
    ids=["conv", "upsample"],
)
def test_initial_weights_keep_the_variance(layer):
    [x] = draw(5, (2, 16, 16, 64))
    y, _ = jax.jit(layer.init_with_output)(jax.random.key(1), x)
    # Away from the border, where zeros come in.
    assert 0.85 < np.asarray(y)[:, 2:-2, 2:-2].var() < 1.15


def test_bias_is_there_where_normalisation_is_not_or_on_demand():
    def parameters(**fields):
        block = convolutions.ConvBlock(3, (3,), (1,), (1,), **fields)
        shape = jax.ShapeDtypeStruct((2, 5, 4), jnp.float32)
        tree = jax.eval_shape(lambda x: block.init(jax.random.key(0), x, True), shape)["params"]
        return {f"{layer}/{name}" for layer, leaves in tree.items() for name in leaves}

    norm = {"BatchNorm_0/scale", "BatchNorm_0/bias"}
    assert parameters() == {"Conv_0/kernel"} | norm
    assert parameters(norm=False) == {"Conv_0/kernel", "Conv_0/bias"}
    assert parameters(conv_bias=True) == {"Conv_0/kernel", "Conv_0/bias"} | norm


def test_half_precision_computes_in_it_and_keeps_float32_parameters():
    layer = convolutions.Conv(3, (3,), (1,), (1,), use_bias=True, dtype=jnp.bfloat16)
    y, variables = layer.init_with_output(jax.random.key(0), jnp.ones((2, 5, 4)))
    assert y.dtype == jnp.bfloat16
    assert {leaf.dtype for leaf in jax.tree.leaves(variables)} == {jnp.dtype("float32")}


def test_block_normalises_the_whole_batch_over_devices():
    """Output, statistics and gradient on 4 devices against numpy and against 1 device."""
    [x, kernel, weight] = draw(4, (8, 6, 3), (3, 3, 5), (8, 6, 5))
    params = {
        "Conv_0": {"kernel": kernel},
        "BatchNorm_0": {"scale": np.full(5, 2.0, np.float32), "bias": np.ones(5, np.float32)},
    }
    stats = {"BatchNorm_0": {"mean": np.zeros(5, np.float32), "var": np.ones(5, np.float32)}}

    def run(params, batch, axis_name):
        block = convolutions.ConvBlock(5, (3,), (1,), (1,), axis_name=axis_name)

        def loss(params):
            variables = {"params": params, "batch_stats": stats}
            y, new = block.apply(variables, batch["x"], True, mutable=["batch_stats"])
            return (y * batch["weight"]).mean(), (y, new["batch_stats"])

        grads, (y, new) = jax.grad(loss, has_aux=True)(params)
        if axis_name:
            grads = jax.lax.pmean(grads, axis_name)
        return grads, new, y

    batch = {"x": x, "weight": weight}
    one = jax.jit(lambda p, b: run(p, b, None))(params, batch)
    mesh = parallel.make_mesh()
    assert mesh.size == 4
    four = jax.jit(
        jax.shard_map(
            lambda p, b: run(p, b, parallel.AXIS),
            mesh=mesh,
            in_specs=(P(), P(parallel.AXIS)),
            out_specs=(P(), P(), P(parallel.AXIS)),
            check_vma=False,
        )
    )(params, batch)
    jax.tree.map(assert_close, four, one)
    z = convolve(x, kernel, (1,), [(1, 1)])
    mean, var = z.mean((0, 1)), z.var((0, 1))
    assert_close(four[2], np.maximum(2 * (z - mean) / np.sqrt(var + 1e-5) + 1, 0))
    keep = convolutions.batch_norm(True, jnp.float32, None).momentum
    assert_close(four[1]["BatchNorm_0"]["mean"], (1 - keep) * mean)
    assert_close(four[1]["BatchNorm_0"]["var"], keep + (1 - keep) * var)

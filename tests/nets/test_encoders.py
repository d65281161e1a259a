import jax
import jax.numpy as jnp
import numpy as np
import pytest

from flax_talk.nets import encoders


def shapes_of(module, *inputs):
    """(outputs, variables with the output of each layer), as shapes: nothing is computed."""

    def run(*inputs):
        return module.init_with_output(
            jax.random.key(0), *inputs, train=False, capture_intermediates=True
        )

    inputs = [jax.ShapeDtypeStruct(shape, jnp.float32) for shape in inputs]
    return jax.eval_shape(run, *inputs)


def layer_outputs(variables, layer, count):
    captured = variables["intermediates"]
    return [captured[f"{layer}_{i}"]["__call__"][0].shape for i in range(count)]


def count_parameters(variables):
    return sum(leaf.size for leaf in jax.tree.leaves(variables["params"]))


@pytest.mark.parametrize("code_dim", [128, 50])
def test_identity_encoder_has_the_sizes_of_the_papers(code_dim):
    module = encoders.IdentityEncoder(code_dim)
    (code, skips), variables = shapes_of(module, (2, 128, 96, 3))
    assert code.shape == (2, code_dim)
    assert [skip.shape for skip in skips] == [
        (2, 64, 48, 64),
        (2, 32, 24, 128),
        (2, 16, 12, 256),
        (2, 8, 6, 512),
        (2, 4, 3, 1024),
    ]
    params = variables["params"]
    assert [params[f"ConvBlock_{i}"]["Conv_0"]["kernel"].shape for i in range(5)] == [
        (4, 4, 3, 64),
        (4, 4, 64, 128),
        (4, 4, 128, 256),
        (4, 4, 256, 512),
        (4, 4, 512, 1024),
    ]
    assert params["Conv_0"]["kernel"].shape == (4, 3, 1024, code_dim)
    # No biases but those of the normalisations.
    assert not any("bias" in params[f"ConvBlock_{i}"]["Conv_0"] for i in range(5))
    convolutions = 16 * (3 * 64 + 64 * 128 + 128 * 256 + 256 * 512 + 512 * 1024)
    norms = 2 * (64 + 128 + 256 + 512 + 1024)
    assert count_parameters(variables) == convolutions + norms + 12 * 1024 * code_dim


@pytest.mark.parametrize("number", [1, 2, 13, 160, 200, 201, 1764])
def test_prime_factors_are_ascending_primes_of_the_number(number):
    factors = encoders.prime_factors(number)
    assert np.prod(factors) == number
    assert factors == sorted(factors)
    assert all(factor % d for factor in factors for d in range(2, factor))


# (rate, seconds, kernels, strides, steps after each strided layer)
AUDIO = [
    (50_000, 0.2, [250, 4, 4, 4, 10], [50, 2, 2, 2, 5], [200, 100, 50, 25, 5]),
    (50_000, 0.16, [250, 4, 4, 4, 4, 4], [50, 2, 2, 2, 2, 2], [160, 80, 40, 20, 10, 5]),
    (16_000, 0.2, [80, 4, 4, 4, 10], [16, 2, 2, 2, 5], [200, 100, 50, 25, 5]),
    (16_000, 0.16, [80, 4, 4, 4, 4, 4], [16, 2, 2, 2, 2, 2], [160, 80, 40, 20, 10, 5]),
    (44_100, 0.2, [220, 6], [44, 3], [201, 67]),
]


@pytest.mark.parametrize(("rate", "seconds", "kernels", "strides", "steps"), AUDIO)
def test_audio_encoder_has_the_sizes_of_the_papers(rate, seconds, kernels, strides, steps):
    window = round(rate * seconds)
    layers = encoders.audio_layers(window, rate)
    assert [layer[0] for layer in layers] == kernels
    assert [layer[1] for layer in layers] == strides
    code, variables = shapes_of(encoders.AudioEncoder(256, rate), (3, window))
    assert code.shape == (3, 256)
    channels = [16 * 2**i for i in range(len(steps))]
    expected = [(3, n, c) for n, c in zip(steps, channels, strict=True)]
    assert layer_outputs(variables, "ConvBlock", len(steps)) == expected
    # Convolutions have biases, as the published weights do.
    inputs = [1, *channels[:-1]]
    strided = sum(k * i * o + o + 2 * o for k, i, o in zip(kernels, inputs, channels, strict=True))
    last = steps[-1] * channels[-1] * 256 + 256
    assert count_parameters(variables) == strided + last


@pytest.mark.parametrize("window", [2560, 3200, 7056, 8000, 8820, 9999, 10_000, 12_345])
@pytest.mark.parametrize("rate", [16_000, 44_100, 50_000])
def test_every_strided_layer_gives_the_steps_rounded_up(window, rate):
    n = window
    for kernel, stride, padding in encoders.audio_layers(window, rate):
        out = (n + 2 * padding - kernel) // stride + 1
        assert out == -(-n // stride)
        # Every sample is read.
        assert (out - 1) * stride + kernel >= n + padding
        n = out


@pytest.mark.parametrize("kernel_time", [0, 3])
def test_image_encoder_halves_the_image_five_times(kernel_time):
    module = encoders.ImageEncoder(256, kernel_time=kernel_time)
    time = (7,) if kernel_time else ()
    vector, variables = shapes_of(module, (2, *time, 128, 96, 6))
    assert vector.shape == (2, *time, 256)
    assert layer_outputs(variables, "ConvBlock", 5) == [
        (2, *time, 64, 48, 64),
        (2, *time, 32, 24, 128),
        (2, *time, 16, 12, 256),
        (2, *time, 8, 6, 512),
        (2, *time, 4, 3, 1024),
    ]
    params = variables["params"]
    depth = (kernel_time,) if kernel_time else ()
    assert params["ConvBlock_0"]["Conv_0"]["kernel"].shape == (*depth, 4, 4, 6, 64)
    # The first layer has a bias in place of a normalisation, the others the reverse.
    assert "bias" in params["ConvBlock_0"]["Conv_0"]
    assert "BatchNorm_0" not in params["ConvBlock_0"]
    assert all("BatchNorm_0" in params[f"ConvBlock_{i}"] for i in range(1, 5))


def test_codes_are_between_minus_one_and_one():
    still = 10 * np.random.default_rng(0).normal(size=(2, 32, 32, 3)).astype(np.float32)
    audio = 10 * np.random.default_rng(1).normal(size=(2, 200)).astype(np.float32)

    @jax.jit
    def run(still, audio):
        key = jax.random.key(0)
        (identity, _), _ = encoders.IdentityEncoder(8, width=2).init_with_output(
            key, still, train=True
        )
        sound, _ = encoders.AudioEncoder(8, 1000, width=2).init_with_output(key, audio, train=True)
        return identity, sound

    for code in run(still, audio):
        assert code.dtype == jnp.float32
        assert 0.1 < np.abs(code).max() <= 1

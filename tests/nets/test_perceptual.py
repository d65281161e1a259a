import jax
import jax.numpy as jnp
import numpy as np
import pytest
from skimage.measure import block_reduce

from flax_talk.nets import perceptual
from flax_talk.nets.perceptual import (
    ACTIVATIONS,
    CONVOLUTIONS,
    Vgg19Weights,
    in_deviations,
    vgg19_features,
)

CHANNELS = (4, 5, 6, 7, 8)  # of narrower blocks, which the function takes as well


@pytest.fixture(scope="module")
def weights():
    random = np.random.default_rng(0)
    kernels, biases, channels = {}, {}, 3
    for name in CONVOLUTIONS:
        features = CHANNELS[int(name[4]) - 1]
        kernel = random.normal(size=(3, 3, channels, features)) * (2 / (9 * channels)) ** 0.5
        kernels[name], channels = kernel.astype(np.float32), features
        biases[name] = random.normal(size=features).astype(np.float32) * 0.1
    mean, scale = random.uniform(100, 130, 3), random.uniform(0.01, 0.03, 3)
    return Vgg19Weights(mean.astype(np.float32), scale.astype(np.float32), kernels, biases)


def step_by_step(weights, image):
    """Activations of one image [H, W, 3], in NumPy: C for a convolution, M for max pooling."""
    x = ((image.astype(np.float64) + 1) * 127.5 - weights.mean) * weights.scale
    block, i, found = 1, 1, {}
    for layer in "CCMCCMCCCCMCCCCMCCCC":
        if layer == "M":
            h, w = (size // 2 * 2 for size in x.shape[:2])
            x = block_reduce(x[:h, :w], (2, 2, 1), np.max)
            block, i = block + 1, 1
            continue
        padded = np.pad(x, ((1, 1), (1, 1), (0, 0)))
        windows = np.lib.stride_tricks.sliding_window_view(padded, (3, 3), axis=(0, 1))
        x = np.einsum("hwcij,ijco->hwo", windows, weights.kernels[f"conv{block}_{i}"])
        x = np.maximum(x + weights.biases[f"conv{block}_{i}"], 0)
        found[f"relu{block}_{i}"] = x
        i += 1
    return found


def test_activations_equal_those_worked_out_layer_by_layer(weights):
    images = np.random.default_rng(1).uniform(-1, 1, (2, 37, 22, 3)).astype(np.float32)
    got = jax.jit(vgg19_features, static_argnums=2)(weights, images, ACTIVATIONS)
    expected = [step_by_step(weights, image) for image in images]
    assert set(got) == set(expected[0]) and len(got) == 16
    for name, features in got.items():
        one = np.stack([features_of[name] for features_of in expected])
        assert one.max() > 0
        np.testing.assert_allclose(features, one, atol=1e-4 * one.max())
    assert got["relu5_4"].shape == (2, 2, 1, 8)


def test_activations_in_deviations_are_those_of_before_divided_by_one_number(weights):
    weights = weights._replace(scale=np.ones(3, np.float32))
    images = np.random.default_rng(2).uniform(-1, 1, (1, 16, 16, 3)).astype(np.float32)
    before = vgg19_features(weights, images, ("relu1_1", "relu5_4"))
    after = vgg19_features(in_deviations(weights), images, ("relu1_1", "relu5_4"))
    for name, features in after.items():
        assert features.max() > 0
        np.testing.assert_allclose(58 * features, before[name], rtol=1e-4, atol=1e-4)


def test_only_what_is_asked_for_is_computed(weights):
    images = jnp.zeros((1, 4, 4, 3))  # too small for the fourth block
    got = vgg19_features(weights, images, ("relu3_1", "relu1_2"))
    assert {name: x.shape for name, x in got.items()} == {
        "relu1_2": (1, 4, 4, 4),
        "relu3_1": (1, 1, 1, 6),
    }
    program = jax.make_jaxpr(vgg19_features, static_argnums=2)(weights, images, ("relu2_1",))
    assert str(program).count("conv_general_dilated[") == 3
    with pytest.raises(ValueError):
        vgg19_features(weights, images, ("relu1_3",))


def test_the_dtype_of_the_images_is_that_of_the_computation(weights):
    images = jnp.asarray(np.random.default_rng(2).uniform(-1, 1, (1, 16, 16, 3)), jnp.float32)
    exact = vgg19_features(weights, images, ("relu3_4",))["relu3_4"]
    rough = vgg19_features(weights, images.astype(jnp.bfloat16), ("relu3_4",))["relu3_4"]
    assert rough.dtype == jnp.bfloat16 and exact.dtype == jnp.float32
    np.testing.assert_allclose(rough.astype(jnp.float32), exact, atol=0.05 * exact.max())


def test_names_and_sizes_are_those_of_the_paper():
    """Configuration E has 16 convolutions with 20 million weights."""
    assert perceptual.CONVOLUTIONS[2:5] == ("conv2_1", "conv2_2", "conv3_1")
    assert ACTIVATIONS[-1] == "relu5_4" and len(ACTIVATIONS) == 16
    channels, count = 3, 0
    for convolutions, features in perceptual.BLOCKS:
        for _ in range(convolutions):
            count, channels = count + 9 * channels * features + features, features
    assert count == 20_024_384

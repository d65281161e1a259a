import jax
import jax.numpy as jnp
import numpy as np
import pytest

from flax_talk.metrics import perceptual
from flax_talk.nets.perceptual import CONVOLUTIONS, Vgg19Weights, vgg19_features


@pytest.fixture(scope="module")
def weights():
    """A narrow VGG-19 with random weights."""
    random = np.random.default_rng(0)
    kernels, biases, channels = {}, {}, 3
    for name in CONVOLUTIONS:
        features = 4 + int(name[4])
        kernel = random.normal(size=(3, 3, channels, features)) * (2 / (9 * channels)) ** 0.5
        kernels[name], channels = kernel.astype(np.float32), features
        biases[name] = np.full(features, 0.05, np.float32)
    scale = np.full(3, 0.02, np.float32)
    return Vgg19Weights(np.full(3, 120, np.float32), scale, kernels, biases)


def draw(seed, shape):
    return np.random.default_rng(seed).uniform(-1, 1, shape).astype(np.float32)


@pytest.mark.parametrize("layers", [perceptual.LAYERS, ("relu2_1",)])
def test_distance_equals_the_definition(weights, layers):
    video, reference = draw(0, (2, 3, 20, 16, 3))
    got = perceptual.perceptual_distance(weights, video, reference, layers)
    expected = np.zeros(3)
    for name in layers:
        x, y = (
            np.asarray(vgg19_features(weights, images, (name,))[name], np.float64)
            for images in (video, reference)
        )
        for t in range(3):
            terms = [
                (a / (np.linalg.norm(a) or 1) - b / (np.linalg.norm(b) or 1)) ** 2
                for a, b in zip(
                    x[t].reshape(-1, x.shape[-1]), y[t].reshape(-1, x.shape[-1]), strict=True
                )
            ]
            expected[t] += np.mean(terms) / len(layers)
    assert (expected > 1e-3).all()
    np.testing.assert_allclose(got, expected, rtol=1e-3)


def test_equal_frames_are_at_no_distance_and_order_does_not_matter(weights):
    video, reference = draw(1, (2, 2, 16, 16, 3))
    same = perceptual.perceptual_distance(weights, video, video)
    # Two passes may round apart on some processors.
    np.testing.assert_allclose(same, 0, atol=1e-12)
    there = perceptual.perceptual_distance(weights, video, reference)
    back = perceptual.perceptual_distance(weights, reference, video)
    np.testing.assert_allclose(there, back, rtol=1e-5)


def test_leading_axes_are_frames_in_any_number_and_bytes_equal_floats(weights):
    video, reference = np.random.default_rng(2).integers(0, 256, (2, 3, 5, 16, 16, 3), np.uint8)
    got = perceptual.perceptual_distance(weights, video, reference)
    assert got.shape == (3, 5) and got.dtype == jnp.float32
    one = perceptual.perceptual_distance(weights, video[1, 2], reference[1, 2])
    assert one.shape == () and float(one) == pytest.approx(float(got[1, 2]), rel=1e-4)
    floats = (x.astype(np.float32) / 127.5 - 1 for x in (video, reference))
    np.testing.assert_allclose(perceptual.perceptual_distance(weights, *floats), got, rtol=1e-4)


def test_gradients_are_finite_where_nothing_is_active(weights):
    """Rectified activations may all be zero, where a length has no gradient."""
    dead = weights._replace(biases={name: b - 100 for name, b in weights.biases.items()})
    video, reference = draw(3, (2, 1, 16, 16, 3))
    for parts in (weights, dead):
        total = jax.grad(lambda x, w=parts: perceptual.perceptual_distance(w, x, reference).sum())
        gradient = total(video)
        assert np.isfinite(gradient).all()
        assert (np.abs(gradient).max() > 0) == (parts is weights)

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from flax_talk import losses
from flax_talk.training import parallel
from input_pipeline.faces import canonical_points


def test_masked_mean_counts_only_the_valid():
    values = jnp.array([[1.0, 2.0, jnp.nan], [4.0, jnp.inf, 6.0]])
    mask = jnp.array([[True, True, False], [True, False, False]])
    assert losses.masked_mean(values, mask) == pytest.approx(7 / 3)


def test_masked_mean_of_nothing_is_zero_with_a_zero_gradient():
    def mean(values):
        return losses.masked_mean(values, jnp.zeros((2, 3), bool))

    value, grad = jax.value_and_grad(mean)(jnp.ones((2, 3)))
    assert value == 0
    np.testing.assert_array_equal(grad, np.zeros((2, 3)))


@pytest.mark.parametrize("kind", ["shard_map", "pmap"])
def test_masked_mean_over_devices_is_that_of_the_whole_batch(kind):
    random = np.random.default_rng(0)
    values = random.normal(size=(8, 5)).astype(np.float32)
    lengths = np.array([5, 5, 3, 1, 0, 0, 2, 4])  # The third device has nothing valid.
    mask = np.arange(5) < lengths[:, None]
    weight = np.float32(1.5)

    def device(weight, batch):
        def mean(weight):
            return losses.masked_mean(
                weight**2 * batch["values"], batch["mask"], axis_name=parallel.AXIS
            )

        return jax.lax.pmean(jax.value_and_grad(mean)(weight), parallel.AXIS)

    mesh = parallel.make_mesh()
    assert mesh.size == 4
    batch = {"values": values, "mask": mask}
    if kind == "shard_map":
        batch = parallel.shard_batch(mesh, batch)
    value, grad = parallel.parallelize(device, mesh, kind)(weight, batch)
    expected = values[mask].mean()
    assert float(value) == pytest.approx(weight**2 * expected, rel=1e-5)
    assert float(grad) == pytest.approx(2 * weight * expected, rel=1e-5)


def test_l1_is_the_mean_absolute_difference_of_each_frame():
    random = np.random.default_rng(1)
    video, target = random.uniform(-1, 1, (2, 2, 3, 4, 6, 3)).astype(np.float32)
    expected = [[np.abs(video[b, t] - target[b, t]).mean() for t in range(3)] for b in range(2)]
    np.testing.assert_allclose(losses.l1(video, target), expected, rtol=1e-5)


def test_the_mouth_region_holds_the_mouth_of_an_aligned_face():
    places = np.stack(np.meshgrid(np.arange(128), np.arange(96), indexing="ij"), axis=-1)
    region = np.asarray(losses.mouth_region(places[None])[0])
    assert region.shape == (40, 48, 2)
    (top, left), (bottom, right) = region[0, 0], region[-1, -1]
    corners = canonical_points((128, 96))
    nose, middle, eyes = corners[0, 1], corners[[1, 4], 0].mean(), corners[4, 0] - corners[1, 0]
    # Between the nose and half an eye distance below it, two thirds of that distance wide.
    assert top <= nose + 2 and bottom >= nose + 0.5 * eyes
    assert left <= middle - eyes / 3 and right >= middle + eyes / 3


def test_mouth_shape_is_the_squared_error_of_motion_over_valid_frames():
    random = np.random.default_rng(2)
    mouth = random.normal(size=(2, 4, 20, 2)).astype(np.float32)
    landmarks = random.normal(size=(2, 4, 68, 2)).astype(np.float32)
    mask = np.arange(4) < np.array([[4], [3]])
    result = np.asarray(losses.mouth_shape(mouth, landmarks, mask))
    for clip, length in ((0, 4), (1, 3)):
        error = mouth[clip, :length] - landmarks[clip, :length, 48:]
        error -= error.mean(axis=0)
        np.testing.assert_allclose(result[clip, :length], (error**2).mean(axis=(1, 2)), rtol=1e-4)


def test_halves_are_split_at_the_middle_row():
    video = np.broadcast_to(np.arange(6)[:, None, None], (2, 5, 6, 4, 3))
    lower, upper = losses.lower_half(video), losses.upper_half(video)
    assert lower.shape == upper.shape == (2, 5, 3, 4, 3)
    np.testing.assert_array_equal(lower[0, 0, :, 0, 0], [3, 4, 5])
    np.testing.assert_array_equal(upper[0, 0, :, 0, 0], [0, 1, 2])


@pytest.mark.parametrize("logit", [-3.0, 0.0, 0.7, 4.0])
def test_adversarial_losses_are_the_log_losses_of_the_probability(logit):
    probability = 1 / (1 + np.exp(-logit))
    values = jnp.array([logit])
    assert float(losses.real_loss(values)[0]) == pytest.approx(-np.log(probability), rel=1e-5)
    assert float(losses.fake_loss(values)[0]) == pytest.approx(-np.log(1 - probability), rel=1e-5)
    assert float(losses.generator_loss(values)[0]) == pytest.approx(-np.log(probability), rel=1e-5)


@pytest.mark.parametrize("loss", [losses.real_loss, losses.fake_loss, losses.generator_loss])
def test_adversarial_losses_stay_finite_for_a_sure_discriminator(loss):
    values, grads = jax.vmap(jax.value_and_grad(loss))(jnp.array([-1e4, 1e4]))
    assert np.isfinite(values).all() and np.isfinite(grads).all()
    # The side that is wrong still learns.
    np.testing.assert_allclose(np.abs(grads).max(), 1)

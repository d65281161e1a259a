import jax
import numpy as np
import pytest
from scipy.spatial import distance

from flax_talk.metrics import geometry


@pytest.fixture(params=[False, True], ids=["eager", "jit"])
def compiled(request):
    return jax.jit if request.param else lambda function: function


@pytest.mark.parametrize("seed", range(3))
def test_errors_equal_scipy(compiled, seed):
    random = np.random.default_rng(seed)
    size = random.integers(3, 30)
    predicted, true = random.normal(size=(2, 2, 4, size, 2)).astype(np.float32) * 50
    got = compiled(geometry.landmark_error)(predicted, true)
    assert got.shape == (2, 4)
    for index in np.ndindex(2, 4):
        expected = np.diagonal(distance.cdist(predicted[index], true[index])).mean()
        assert float(got[index]) == pytest.approx(expected, rel=1e-5)
    got = compiled(geometry.expression_error)(predicted[..., 0], true[..., 0])
    assert got.shape == (2, 4)
    for index in np.ndindex(2, 4):
        expected = distance.cityblock(predicted[..., 0][index], true[..., 0][index]) / size
        assert float(got[index]) == pytest.approx(expected, rel=1e-5)


def test_errors_by_hand(compiled):
    assert (
        float(compiled(geometry.expression_error)(np.array([1.0, -2, 3]), np.array([0.0, 0, 3])))
        == 1
    )
    one, other = np.zeros((2, 2)), np.array([[3.0, 4], [0, 1]])
    assert float(compiled(geometry.landmark_error)(one, other)) == 3

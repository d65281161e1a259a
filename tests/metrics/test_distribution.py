import numpy as np
import pytest
from scipy import linalg, special, stats

from flax_talk.errors import UserError
from flax_talk.metrics import distribution


@pytest.mark.parametrize("count", [200, 8])
@pytest.mark.parametrize("seed", range(3))
def test_frechet_distance_equals_scipy(seed, count):
    """By the root of a matrix that is not symmetric; with 8 samples it is singular."""
    random = np.random.default_rng(seed)
    size = random.integers(2, 12) if count > 8 else 12
    mix = random.normal(size=(2, size, size))
    one, other = (random.normal(size=(count, size)) @ m + random.normal(size=size) for m in mix)
    c1, c2 = np.cov(one, rowvar=False), np.cov(other, rowvar=False)
    root = linalg.sqrtm(c1 @ c2 + (1e-10 * np.eye(size) if count < size else 0))
    expected = np.square(one.mean(0) - other.mean(0)).sum() + np.trace(c1 + c2 - 2 * root.real)
    tolerance = 1e-6 if count > size else 1e-3
    assert distribution.frechet_distance(one, other) == pytest.approx(expected, rel=tolerance)


def test_frechet_distance_by_hand():
    """Independent columns: each adds (difference of means)^2 + (difference of deviations)^2."""
    unit = np.array([[-1.0, 0], [1, 0], [0, -1], [0, 1]]) * np.sqrt(3 / 2)  # covariance is I
    np.testing.assert_allclose(np.cov(unit, rowvar=False), np.eye(2), atol=1e-12)
    other = unit * [3, 0.5] + [4, -1]
    expected = 4**2 + 1**2 + (3 - 1) ** 2 + (1 - 0.5) ** 2
    assert distribution.frechet_distance(unit, other) == pytest.approx(expected)
    assert distribution.frechet_distance(other, unit) == pytest.approx(expected)
    assert distribution.frechet_distance(other, other) == pytest.approx(0, abs=1e-9)
    one = distribution.frechet_distance(unit[:, :1], other[:, :1])
    assert one == pytest.approx(4**2 + (3 - 1) ** 2)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("splits", [1, 10, 7])
def test_inception_score_equals_scipy(seed, splits):
    random = np.random.default_rng(seed)
    logits = random.normal(size=(50, 6)) * random.uniform(0.5, 4) + 100
    scores = []
    for part in np.array_split(special.softmax(logits, axis=1), splits):
        scores.append(np.exp(stats.entropy(part, part.mean(0)[None], axis=1).mean()))
    got = distribution.inception_score(logits, splits)
    assert got == pytest.approx((np.mean(scores), np.std(scores)), rel=1e-9, abs=1e-12)


def test_inception_score_is_one_to_the_number_of_classes():
    same = np.tile([3.0, 1, -2], (20, 1))
    assert distribution.inception_score(same, splits=2) == pytest.approx((1, 0))
    # Certain of each class in turn, and of the fourth never: no logarithm of zero.
    certain = np.tile(np.eye(4)[:3] * 1e4, (10, 1))
    assert distribution.inception_score(certain, splits=5) == pytest.approx((3, 0))


@pytest.mark.filterwarnings("error")
def test_inputs_of_another_kind_are_refused():
    good = np.random.default_rng(0).normal(size=(5, 3))
    for bad in (good[0], good[:1], good[None], good.astype(str)):
        with pytest.raises(UserError, match=r"features of shape .* give numbers \[N, D\]"):
            distribution.frechet_distance(good, bad)
        with pytest.raises(UserError, match=r"logits of shape .* give numbers \[N, D\]"):
            distribution.inception_score(bad)
    with pytest.raises(UserError, match="features has values that are not finite"):
        distribution.frechet_distance(good, np.where(good > 0, np.nan, good))
    with pytest.raises(UserError, match="features of 3 and of 2 numbers do not compare"):
        distribution.frechet_distance(good, good[:, :2])
    with pytest.raises(UserError, match="inception score in 10 parts of 5 frames: give more"):
        distribution.inception_score(good)

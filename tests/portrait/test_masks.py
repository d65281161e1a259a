"""Where the mouth is hidden, and the soft mask of what is drawn there."""

import jax
import numpy as np
import pytest

from flax_talk.portrait.masks import fill_from_around, fill_with_noise, mouth_square, soft_masks
from input_pipeline.faces import canonical_points


@pytest.mark.parametrize("size", [(128, 96), (112, 112), (256, 192), (64, 32)])
def test_the_square_lies_below_the_base_of_the_nose_and_inside_the_crop(size):
    square, points = mouth_square(size), canonical_points(size)
    outer = np.ptp(points[:, 0])
    assert square.bottom - square.top == pytest.approx(13 / 12 * outer, abs=1)
    assert square.right - square.left == pytest.approx(13 / 12 * outer, abs=1)
    assert abs(square.top - points[:, 1].max()) < 0.1 * outer
    assert square.left > 0 and square.bottom <= size[0]
    assert square.left + square.right == pytest.approx(size[1], abs=1)


def test_noise_hides_the_square_and_nothing_else():
    random = np.random.default_rng(0)
    video = random.uniform(-1, 1, (2, 3, 32, 24, 3)).astype(np.float32)
    square = mouth_square((32, 24))
    keys = jax.random.split(jax.random.key(0), (2, 3))
    hidden = np.asarray(fill_with_noise(video, square, keys))
    other = video.copy()
    other[..., square.top : square.bottom, square.left : square.right, :] = 0
    np.testing.assert_array_equal(fill_with_noise(other, square, keys), hidden)
    changed = (hidden != video).all(axis=(0, 1, 4))
    assert changed.sum() == (square.bottom - square.top) * (square.right - square.left)
    inside = square.cut(hidden)
    assert changed[square.top, square.left] and -0.1 < inside.mean() < 0.1 and inside.std() > 0.5
    assert (inside[0, 0] != inside[0, 1]).all() and (inside[0, 0] != inside[1, 0]).all()


def test_a_square_is_filled_from_around():
    video = np.zeros((2, 32, 24, 3), np.float32) + np.linspace(-1, 1, 24, dtype=np.float32)[:, None]
    square = mouth_square((32, 24))
    other = video.copy()
    square.cut(other)[:] = 9
    filled = np.asarray(fill_from_around(other, square))
    rows, columns = slice(square.top, square.bottom), slice(square.left, square.right)
    around = np.ones((32, 24), bool)
    around[rows, columns] = False
    np.testing.assert_array_equal(filled[:, around], video[:, around])
    # Colours go over from those on the left to those on the right.
    assert (np.diff(filled[:, rows, columns], axis=2) > 0).all()
    assert np.abs(square.cut(filled) - square.cut(video)).mean() < 0.2
    np.testing.assert_allclose(fill_from_around(np.full_like(video, 0.4), square), 0.4, rtol=1e-5)


def test_a_soft_mask_covers_the_landmarks_grows_and_falls_off():
    mouth = np.array([[[20, 20], [30, 16], [40, 20], [30, 26], [30, 20]]], np.float32)
    hard = soft_masks(mouth, (48, 64), grow=0, deviation=0)[0]
    assert set(np.unique(hard)) == {0, 1} and hard[20, 20:41].all() and not hard[20, :20].any()
    assert hard.sum() == pytest.approx(20 * 10 / 2, rel=0.25)
    grown, eroded = (soft_masks(mouth, (48, 64), grow, 0)[0] for grow in (3, -2))
    assert eroded.sum() < hard.sum() < grown.sum()
    assert grown[20, 17:44].all() and not grown[20, :17].any()
    soft = soft_masks(mouth, (48, 64), 3, 2)[0]
    row = soft[20, 30:56]
    assert (np.diff(row) <= 1e-6).all() and row[0] > 0.9 and row[-1] == 0
    assert ((soft > 0.05) & (soft < 0.95)).any()

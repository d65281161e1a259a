"""Poisson blending: what stays, what changes, and masks that are no polygon in the middle."""

import cv2
import numpy as np
import pytest

from flax_talk.portrait.blending import poisson_blend
from flax_talk.portrait.masks import soft_masks

SIZE = (64, 48)


def picture(seed, low=60, high=190):
    noise = np.random.default_rng(seed).normal(size=(*SIZE, 3)).astype(np.float32)
    smooth = cv2.GaussianBlur(noise, (0, 0), 1.5)
    smooth = (smooth - smooth.min()) / np.ptp(smooth)
    return (low + (high - low) * smooth).astype(np.uint8)


def mouth(centre=(24, 34), radius=9):
    angles = np.linspace(0, 2 * np.pi, 20, endpoint=False)
    return np.array(centre) + radius * np.stack([np.cos(angles), np.sin(angles)], axis=-1)


def test_outside_the_mask_is_the_target_and_inside_is_drawn():
    target, drawn = picture(0)[None], picture(1)[None]
    masks = soft_masks(mouth()[None], SIZE)
    blended = poisson_blend(drawn, target, masks)
    outside = masks == 0
    assert outside.mean() > 0.4
    np.testing.assert_array_equal(blended[outside], target[outside])
    inside = masks[0] > 0.95
    assert inside.sum() > 100

    def detail(image):
        return cv2.Laplacian(image[0].astype(np.float32), cv2.CV_32F)[inside].ravel()

    # Gradients are the drawn frame's: the two agree there, and not with the target's.
    assert np.corrcoef(detail(blended), detail(drawn))[0, 1] > 0.9
    assert np.corrcoef(detail(blended), detail(target))[0, 1] < 0.5


def test_another_light_on_the_drawn_frame_is_taken_away():
    target = picture(0)[None]
    blended = poisson_blend(target + np.uint8(40), target, soft_masks(mouth()[None], SIZE))
    assert np.abs(blended.astype(int) - target).max() <= 2


@pytest.mark.parametrize("centre", [(0, 0), (47, 63), (24, 63), (-30, -30)])
def test_masks_at_the_edge_outside_of_it_or_everywhere(centre):
    target, drawn = picture(0)[None], picture(1)[None]
    masks = soft_masks(mouth(centre)[None], SIZE)
    blended = poisson_blend(drawn, target, masks)
    np.testing.assert_array_equal(blended[masks == 0], target[masks == 0])
    assert (blended != target).any() == masks.any()
    same = poisson_blend(target, target, np.ones_like(masks))
    assert np.abs(same.astype(int) - target).max() <= 2

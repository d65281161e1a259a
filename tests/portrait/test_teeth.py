"""The teeth proxy: which frame it is, and where its detail goes."""

import numpy as np
import pytest

from flax_talk.portrait.teeth import add_teeth, opening, teeth_proxy


def mouth(height, centre=(24, 30)):
    """Outer and inner lips on ellipses, in iBUG's order: from the left corner over the top."""
    outer = np.pi - np.linspace(0, 2 * np.pi, 12, endpoint=False)
    inner = np.pi - np.linspace(0, 2 * np.pi, 8, endpoint=False)
    circles = [(outer, 14, height / 2 + 4), (inner, 10, height / 2)]
    points = [np.stack([a * np.cos(w), -b * np.sin(w)], axis=-1) for w, a, b in circles]
    return np.concatenate(points) + centre


def test_the_proxy_is_the_frame_whose_mouth_is_open_widest():
    mouths = np.stack([mouth(h) for h in (2, 9, 14, 0)])
    areas = opening(mouths)
    assert areas[3] == 0 and areas[2] == pytest.approx(np.pi * 10 * 7, rel=0.15)
    assert teeth_proxy(mouths) == 2


def test_detail_goes_between_the_lips_and_follows_them():
    proxy = np.full((64, 48, 3), 128, np.uint8)
    proxy[:, ::4] = 220  # Gaps between teeth, and the same all over the face.
    video = np.full((3, 64, 48, 3), 128, np.uint8)
    mouths = np.stack([mouth(12), mouth(12, (26, 33)), mouth(0)])
    shown = add_teeth(video, mouths, proxy, mouth(14)).astype(int)
    change = shown - 128
    assert (change[0] > 20).any() and (change[0] < -5).any()
    np.testing.assert_array_equal(change[2], 0)
    rows, columns = np.nonzero(change[0].any(axis=-1))
    assert columns.min() >= 14 and columns.max() <= 34 and rows.min() >= 24 and rows.max() <= 36
    moved = np.roll(change[0], (3, 2), axis=(0, 1))
    assert np.abs(change[1] - moved).max() <= 2
    np.testing.assert_array_equal(add_teeth(video, mouths, proxy, mouth(14), strength=0), video)

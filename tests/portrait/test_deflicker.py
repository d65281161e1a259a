"""Eq. 7: flicker goes, steady and moving pictures stay."""

import cv2
import numpy as np

from flax_talk.portrait.deflicker import deflicker

RESTING = np.zeros((12, 20, 2))


def still(seed=0):
    noise = np.random.default_rng(seed).normal(size=(48, 64, 3)).astype(np.float32)
    return np.clip(120 + 250 * cv2.GaussianBlur(noise, (0, 0), 2), 20, 220).astype(np.uint8)


def flicker(frame):
    offsets = np.random.default_rng(1).integers(-8, 9, (12, 1, 1, 3))
    return np.clip(frame + offsets, 0, 255).astype(np.uint8)


def unrest(video):
    return video.astype(float).std(axis=0).mean()


def test_a_flickering_picture_comes_to_rest_and_keeps_its_detail():
    video = flicker(still())
    calm = deflicker(video, RESTING)
    np.testing.assert_array_equal(calm[0], video[0])
    assert unrest(calm) < 0.2 * unrest(video)

    def detail(frame):
        return cv2.Laplacian(frame.astype(np.float32), cv2.CV_32F)

    error = np.abs(detail(calm[-1]) - detail(video[-1])).mean()
    assert error < 0.15 * np.abs(detail(video[-1])).mean()


def test_a_wave_is_drawn_to_the_frame_before_as_equation_7_says():
    """A wave without motion: O_t = P_t + w / (w + 4 pi^2 f^2) (O_(t-1) - P_t)."""
    grey = np.full((48, 64, 3), 128.0)
    wave = np.cos(np.pi * 6 / 64 * (np.arange(64) + 0.5))[:, None]
    video = np.rint(np.stack([grey, grey + 40 * wave])).astype(np.uint8)
    for moved, strength in ((0.0, 1.0), (1.5, 1.0), (0.0, 0.3), (0.0, 0.0)):
        mouths = np.zeros((2, 20, 2))
        mouths[1, :, 0] = moved
        weight = strength * np.exp(-moved)
        share = weight / (weight + 4 * np.pi**2 * (3 / 64) ** 2)
        got = deflicker(video, mouths, strength)[1]
        expected = video[1] + share * (video[0].astype(float) - video[1])
        # Optical flow finds a little motion in a wave that grows.
        assert np.abs(got - expected).mean() < 1.5, (moved, strength)


def test_a_steady_picture_stays():
    video = np.repeat(still()[None], 12, axis=0)
    np.testing.assert_array_equal(deflicker(video, RESTING), video)


def test_a_picture_that_moves_goes_on_moving():
    frame = cv2.resize(still(), (128, 48))
    video = np.stack([frame[:, t : t + 64] for t in range(12)])
    calm = deflicker(video, RESTING)
    apart = np.abs(calm[-1].astype(int) - video[-1])[8:-8, 8:-8].mean()
    assert apart < 0.25 * np.abs(video[0].astype(int) - video[-1])[8:-8, 8:-8].mean()

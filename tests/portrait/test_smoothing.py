"""Algorithm 1 beside a direct evaluation."""

import math

import numpy as np

from flax_talk.portrait.smoothing import smooth_landmarks


def test_it_is_algorithm_1_of_the_smoothed_frame_before():
    random = np.random.default_rng(0)
    walk = np.cumsum(random.normal(scale=0.6, size=(30, 1, 2)), axis=0)
    landmarks = (40 + walk + random.normal(scale=0.2, size=(30, 25, 2))).astype(np.float32)
    threshold, strength = 0.8, 1.5
    expected, kept = [landmarks[0]], 0
    for now in landmarks[1:]:
        before = expected[-1]
        # The mouth's are the last 20; the first 5 only follow.
        distance = math.dist(before[5:].mean(axis=0), now[5:].mean(axis=0))
        if distance > threshold:
            expected.append(now)
            kept += 1
        else:
            alpha = math.exp(-strength * distance)
            expected.append(alpha * before + (1 - alpha) * now)
    assert 3 < kept < 26
    got = smooth_landmarks(landmarks, threshold, strength)
    np.testing.assert_allclose(got, expected, atol=1e-4)


def test_a_trembling_mouth_rests_and_a_slow_one_arrives():
    random = np.random.default_rng(1)
    mouth = random.uniform(30, 60, (20, 2)).astype(np.float32)
    trembling = mouth + random.normal(scale=0.3, size=(40, 20, 2)).astype(np.float32)
    smooth = np.asarray(smooth_landmarks(trembling))
    assert np.diff(smooth, axis=0).std() < 0.3 * np.diff(trembling, axis=0).std()
    slow = mouth + np.linspace(0, 4, 40)[:, None, None].astype(np.float32)
    np.testing.assert_allclose(smooth_landmarks(slow)[-1], slow[-1], atol=1.0)

import jax
import numpy as np
import pytest

from flax_talk.metrics import expression

OPEN = 0.31


def trace(blinks, length=75, depth=0.6, level=OPEN):
    """Ratios of open eyes with blinks (first, lowest, last frame), linear in between."""
    frames, values = [-1, length], [1.0, 1.0]
    for first, lowest, last in blinks:
        frames += [first, lowest, last]
        values += [1.0, 1 - depth, 1.0]
    order = np.argsort(frames, kind="stable")
    return level * np.interp(np.arange(length), np.array(frames)[order], np.array(values)[order])


def eye(width, height):
    """Points p1 to p6 of an eye around the origin."""
    x, y = width / 2, height / 2
    return np.array([(-x, 0), (-x / 3, -y), (x / 3, -y), (x, 0), (x / 3, y), (-x / 3, y)])


@pytest.mark.parametrize("compiled", [False, True], ids=["eager", "jit"])
def test_eye_aspect_ratio_is_height_by_width_wherever_the_face_is(compiled):
    random = np.random.default_rng(0)
    measure = jax.jit(expression.eye_aspect_ratio) if compiled else expression.eye_aspect_ratio
    landmarks = random.normal(size=(2, 5, 68, 2)).astype(np.float32)
    expected = np.zeros((2, 5))
    for index in np.ndindex(2, 5):
        angle, scale = random.uniform(0, 2 * np.pi), random.uniform(1, 50)
        turn = scale * np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
        for points in (slice(36, 42), slice(42, 48)):
            width, height = random.uniform(0.8, 1.2), random.uniform(0, 0.5)
            landmarks[index][points] = eye(width, height) @ turn + random.normal(size=2) * 100
            expected[index] += height / width / 2
    np.testing.assert_allclose(measure(landmarks), expected, atol=1e-4)


@pytest.mark.parametrize("seed", range(10))
def test_blinks_are_found_with_their_first_and_last_frames(seed):
    """Up to three blinks of random depth, steepness and distance, and a light noise."""
    random = np.random.default_rng(seed)
    blinks, first = [], random.integers(2, 12)
    while first < 55 and len(blinks) < seed % 4:
        lowest = first + random.integers(2, 7)
        blinks.append((first, lowest, lowest + random.integers(2, 9)))
        first = blinks[-1][2] + random.integers(4, 15)
    ratios = trace(blinks, depth=random.uniform(0.4, 0.8), level=random.uniform(0.15, 0.5))
    expected = [(first, last) for first, _, last in blinks]
    assert expression.detect_blinks(ratios).tolist() == [list(blink) for blink in expected]
    noisy = expression.detect_blinks(ratios * (1 + random.uniform(-0.01, 0.01, len(ratios))))
    assert noisy.shape == (len(blinks), 2)
    np.testing.assert_allclose(noisy, np.reshape(expected, (-1, 2)), atol=1)


def test_the_least_drop_is_relative_to_the_open_eyes():
    for depth, count in ((0.28, 0), (0.32, 1)):
        for level in (0.2, 0.4):
            ratios = trace([(20, 24, 30)], depth=depth, level=level)
            assert len(expression.detect_blinks(ratios)) == count
    assert len(expression.detect_blinks(trace([(20, 24, 30)], depth=0.28), drop=0.25)) == 1


def test_lids_that_sink_slowly_do_not_blink():
    lowered = trace([(10, 30, 36)])
    assert len(expression.detect_blinks(lowered)) == 0
    assert expression.detect_blinks(lowered, fall_frames=20).tolist() == [[10, 36]]


def test_eyes_that_open_halfway_blink_twice():
    frames, values = (0, 20, 24, 28, 32, 38, 75), (1, 1, 0.4, 0.75, 0.4, 1, 1)
    ratios = OPEN * np.interp(np.arange(75), frames, values)
    assert expression.detect_blinks(ratios).tolist() == [[20, 28], [28, 38]]
    # The second drop is too small, but the first has ended.
    values = (1, 1, 0.4, 0.65, 0.4, 1, 1)
    ratios = OPEN * np.interp(np.arange(75), frames, values)
    assert expression.detect_blinks(ratios).tolist() == [[20, 28]]
    # Reopened by less than a third of the drop, it is one.
    values = (1, 1, 0.4, 0.49, 0.42, 1, 1)
    ratios = OPEN * np.interp(np.arange(75), frames, values)
    assert expression.detect_blinks(ratios).tolist() == [[20, 38]]


def test_lids_that_pause_on_their_way_have_not_begun_or_ended_the_blink():
    frames, values = (0, 20, 22, 24, 26, 28, 30, 32, 75), (1, 1, 0.7, 0.7, 0.4, 0.6, 0.6, 1, 1)
    ratios = OPEN * np.interp(np.arange(75), frames, values)
    assert expression.detect_blinks(ratios).tolist() == [[20, 32]]


def test_wide_eyes_for_a_moment_are_not_the_level_of_open_ones():
    ratios = trace([(20, 24, 30)], depth=0.35)
    ratios[50:62] *= 1.3
    assert expression.detect_blinks(ratios)[0].tolist() == [20, 30]


def test_a_blink_may_be_cut_by_the_end_of_the_video():
    ratios = trace([(20, 24, 30)])
    assert expression.detect_blinks(ratios[:27]).tolist() == [[20, 26]]
    assert expression.detect_blinks(ratios[:25]).tolist() == [[20, 24]]
    assert expression.detect_blinks(ratios[21:]).tolist() == [[0, 9]]
    assert expression.detect_blinks(ratios[24:]).tolist() == []  # It did not drop here.


@pytest.mark.parametrize("ratios", [[], [0.3], [0.0] * 10, [0.3] * 10])
def test_no_blink_where_nothing_drops(ratios):
    blinks = expression.detect_blinks(np.array(ratios))
    assert blinks.shape == (0, 2) and blinks.dtype == int


def test_statistics_of_several_videos():
    blinks = [np.array([[3, 13], [20, 25]]), np.zeros((0, 2), int), np.array([[0, 8]])]
    got = expression.blink_statistics(blinks, lengths=[75, 75, 50])
    assert got.per_second == pytest.approx(3 / 8)
    assert got.median_duration == pytest.approx(8 / 25)
    np.testing.assert_array_equal(got.counts, [2, 0, 1])
    np.testing.assert_allclose(got.durations, [10 / 25, 5 / 25, 8 / 25])
    faster = expression.blink_statistics(blinks, lengths=[75, 75, 50], video_rate=50)
    assert faster.per_second == pytest.approx(3 / 4)
    assert faster.median_duration == pytest.approx(8 / 50)


def test_statistics_that_do_not_exist_are_not_a_number():
    none = expression.blink_statistics([np.zeros((0, 2), int)], lengths=[75])
    assert none.per_second == 0 and np.isnan(none.median_duration)
    assert np.isnan(expression.blink_statistics([], lengths=[]).per_second)


def test_scores_by_hand():
    """Two of three detections are true, two of four blinks are found; starts and ends are off."""
    true = [[[10, 20], [40, 50]], [[5, 9], [30, 33]]]
    detected = [[[9, 23], [60, 66]], [[33, 33]]]
    scores = expression.score_blinks(detected, true)
    assert scores.precision == pytest.approx(2 / 3)
    assert scores.recall == pytest.approx(2 / 4)
    assert scores.start_error == pytest.approx((1 + 3) / 2)
    assert scores.end_error == pytest.approx((3 + 0) / 2)


def test_a_blink_is_paired_once_and_with_the_one_it_shares_most_with():
    one_for_two = expression.score_blinks([[[10, 30]]], [[[10, 14], [16, 30]]])
    assert one_for_two == (1, 0.5, 6, 0)
    two_for_one = expression.score_blinks([[[10, 14], [16, 30]]], [[[10, 30]]])
    assert two_for_one == (0.5, 1, 6, 0)
    # Taking the largest overlap first would leave the second pair without a partner.
    chain = expression.score_blinks([[[0, 9], [5, 30]]], [[[8, 20], [21, 30]]])
    assert chain.precision == chain.recall == 1


def test_scores_without_blinks_are_not_a_number():
    nothing = np.zeros((0, 2), int)
    assert np.isnan(expression.score_blinks([nothing], [nothing])).all()
    missed = expression.score_blinks([nothing], [[[3, 9]]])
    assert np.isnan(missed.precision) and missed.recall == 0
    false_alarm = expression.score_blinks([[[3, 9]]], [nothing])
    assert false_alarm.precision == 0 and np.isnan(false_alarm.recall)


def test_mouth_motion_is_the_spread_of_the_mouth_alone():
    rng = np.random.default_rng(0)
    landmarks = np.tile(rng.uniform(0, 100, (68, 2)), (50, 1, 1))
    landmarks[:, 36], landmarks[:, 45] = (20, 40), (60, 40)
    assert expression.mouth_motion(landmarks) < 1e-5
    landmarks[:, :36] += rng.normal(0, 5, (50, 36, 2))
    assert expression.mouth_motion(landmarks) < 1e-5
    phase = np.sin(np.linspace(0, 20 * np.pi, 5000))[:, None]
    moving = np.tile(landmarks[:1], (5000, 1, 1))
    moving[:, 48:, 1] += 4 * phase
    assert expression.mouth_motion(moving) == pytest.approx(4 / np.sqrt(2) / 40, rel=1e-3)
    np.testing.assert_allclose(
        expression.mouth_motion(np.stack([moving, 2 * moving])),
        np.full(2, expression.mouth_motion(moving)),
        rtol=1e-5,
    )

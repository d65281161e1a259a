"""What holds for any input of windows, alignment, masks, retiming and measures."""

import jax
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flax_talk.errors import UserError
from flax_talk.metrics import distribution, expression, geometry, lip_reading, reconstruction
from flax_talk.portrait import masks, retiming
from input_pipeline import audio, faces

few = settings(max_examples=25, deadline=None, derandomize=True)
seeds = st.integers(0, 2**32 - 1)
lengths = st.integers(1, 40)


def draws(seed):
    return np.random.default_rng(seed)


# Windows


@few
@given(seeds, lengths, st.integers(1, 30), st.integers(0, 30), st.integers(0, 1500))
def test_every_window_is_centred_on_its_frame(seed, frames, stride, more, samples):
    waveform = draws(seed).normal(size=samples).astype(np.float32)
    window = stride + more
    padded = audio.pad_waveform(waveform, frames, stride, window)
    windows = audio.cut_windows(padded, stride, window)
    assert windows.shape == (frames, window)
    heard = np.zeros(frames * stride, np.float32)
    heard[: len(waveform)] = waveform[: len(heard)]
    before = more // 2
    np.testing.assert_array_equal(windows[:, before : before + stride].ravel(), heard)
    # Together the windows hold the sound of the frames and nothing else.
    assert np.abs(windows).max(initial=0) == np.abs(heard).max(initial=0)


@few
@given(seeds, lengths, st.integers(1, 9), st.integers(0, 20), st.data())
def test_windows_of_a_part_are_part_of_the_windows(seed, frames, stride, more, data):
    window = stride + more
    padded = draws(seed).normal(size=(2, (frames - 1) * stride + window))
    start = data.draw(st.integers(0, frames - 1))
    count = data.draw(st.integers(1, frames - start))
    part = audio.crop_padded(padded, start, count, stride, window)
    np.testing.assert_array_equal(
        audio.cut_windows(part, stride, window),
        audio.cut_windows(padded, stride, window)[:, start : start + count],
    )


@few
@given(st.integers(1, 10**6), st.floats(0.1, 240))
def test_a_stride_is_exact_or_refused(rate, fps):
    try:
        assert audio.samples_per_frame(rate, fps) * fps == pytest.approx(rate)
    except UserError:
        assert not (rate / fps).is_integer()


rates = st.sampled_from([8_000, 16_000, 22_050, 44_100, 48_000, 50_000])


@few
@given(seeds, st.integers(1, 4000), rates, rates, st.floats(-2, 2))
def test_resampling_keeps_time_and_is_linear(seed, samples, rate, other, factor):
    waveform = draws(seed).uniform(-1, 1, samples).astype(np.float32)
    found = audio.resample(waveform, rate, other)
    assert abs(len(found) / other - samples / rate) <= 1 / min(rate, other)
    scaled = audio.resample(np.float32(factor) * waveform, rate, other)
    np.testing.assert_allclose(scaled, np.float32(factor) * found, atol=1e-4)


# Alignment


def similarity(random):
    """[2, 3]: any turn, scales and shifts as between pictures and crops."""
    angle, scale = random.uniform(-np.pi, np.pi), np.exp(random.uniform(-2, 2))
    turn = scale * np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    return np.column_stack([turn, random.uniform(-300, 300, 2)])


@few
@given(seeds, st.integers(2, 20))
def test_a_similarity_is_found_again(seed, count):
    random = draws(seed)
    points, transform = random.normal(0, 50, (count, 2)), similarity(random)
    found = faces.similarity_transform(points, faces.transform_points(transform, points))
    np.testing.assert_allclose(found, transform, rtol=1e-3, atol=1e-2)


@few
@given(seeds, st.integers(2, 20))
def test_the_best_transform_moves_with_its_target_and_none_is_better(seed, count):
    random = draws(seed)
    source, target = random.normal(0, 50, (2, count, 2))
    further = similarity(random)
    whole = np.vstack([further, (0, 0, 1)])
    best = faces.similarity_transform(source, target)
    moved = faces.similarity_transform(source, faces.transform_points(further, target))
    expected = (whole @ np.vstack([best, (0, 0, 1)]))[:2]
    np.testing.assert_allclose(moved, expected, rtol=1e-3, atol=0.02)

    def error(transform):
        return np.square(faces.transform_points(transform, source) - target).sum()

    nudged = best + random.normal(0, 0.01, (1, 3)) * [[0, 0, 1]]
    assert error(best) <= error(nudged) * (1 + 1e-5)


@few
@given(seeds, st.sampled_from([(128, 96), (64, 32), (96, 96), (50, 100)]))
def test_aligned_landmarks_lie_on_the_canonical_face(seed, size):
    """Of a face that is the canonical one, turned, scaled and shifted."""
    random = draws(seed)
    transform = similarity(random)
    landmarks = np.zeros((1, 68, 2), np.float32)
    canonical = faces.canonical_points(size)
    landmarks[0, faces.STABLE_POINTS] = faces.transform_points(transform, canonical)
    frames = random.integers(0, 256, (1, 40, 30, 3), dtype=np.uint8)
    crops, points, found = faces.align(frames, landmarks, size)
    assert crops.shape == (1, *size, 3) and crops.dtype == np.uint8
    np.testing.assert_allclose(points[0, faces.STABLE_POINTS], canonical, atol=0.1)
    assert np.isfinite(found).all()


@few
@given(seeds, st.floats(-40, 40), st.floats(0.2, 5))
def test_turning_and_scaling_a_picture_rolls_the_head_alone(seed, degrees, scale):
    random = draws(seed)
    landmarks = np.zeros((68, 2))
    head = faces._MEAN_HEAD[:, :2] + random.normal(0, 0.01, (len(faces._POSE_POINTS), 2))
    landmarks[list(faces._POSE_POINTS)] = 100 * head
    angle = np.radians(degrees)
    # y points down: a positive angle turns the picture clockwise, roll counts the other way.
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    pitch, yaw, roll = faces.head_pose(landmarks)
    turned = faces.head_pose(scale * landmarks @ turn.T + 7)
    distance = (turned[2] + degrees - roll + 180) % 360 - 180
    assert abs(distance) < 0.1
    assert np.hypot(turned[0] - pitch, turned[1] - yaw) < np.hypot(pitch, yaw) * 2 + 0.1


@few
@given(st.sets(st.integers(0, 60)), st.integers(1, 12))
def test_long_gaps_are_the_long_runs_of_missing_frames(missing, longest):
    gaps = faces._long_gaps(sorted(missing), longest)
    within = {frame for gap in gaps for frame in gap}
    assert within <= missing and all(len(gap) > longest for gap in gaps)
    for gap in gaps:
        assert gap.start - 1 not in missing and gap.stop not in missing
    rest, run = missing - within, 0
    for frame in range(62):
        run = run + 1 if frame in rest else 0
        assert run <= longest


@few
@given(seeds, st.integers(1, 30), st.data())
def test_interpolation_keeps_what_is_known(seed, length, data):
    times = sorted(data.draw(st.sets(st.integers(0, length - 1), min_size=1)))
    values = draws(seed).normal(size=(len(times), 3, 2)).astype(np.float32)
    filled = faces._interpolate(values, times, length)
    np.testing.assert_allclose(filled[times], values, rtol=1e-6)
    assert (filled <= values.max(0) + 1e-6).all() and (filled >= values.min(0) - 1e-6).all()


# Masks


@few
@given(st.integers(16, 600), st.integers(16, 600))
def test_the_mouth_square_is_in_the_picture(height, width):
    top, left, bottom, right = masks.mouth_square((height, width))
    assert 0 <= top < bottom <= height and 0 <= left < right <= width
    assert abs((left + right) / 2 - width / 2) <= 1
    assert bottom - top <= right - left


@few
@given(seeds)
def test_noise_and_filling_depend_on_nothing_in_the_square(seed):
    random = draws(seed)
    square = masks.mouth_square((24, 16))
    video = random.uniform(-1, 1, (24, 16, 3)).astype(np.float32)
    part = random.uniform(-1, 1, (square.bottom - square.top, square.right - square.left, 3))
    other = np.asarray(square.paste(part.astype(np.float32), video))
    key = jax.random.key(seed)[None]
    for hide in (
        lambda picture: masks.fill_with_noise(picture[None], square, key)[0],
        lambda picture: masks.fill_from_around(picture, square),
    ):
        hidden = hide(video), hide(other)
        np.testing.assert_array_equal(*hidden)
        outside = np.ones((24, 16), bool)
        outside[square.top : square.bottom, square.left : square.right] = False
        np.testing.assert_array_equal(np.asarray(hidden[0])[outside], video[outside])
        assert np.abs(hidden[0]).max() <= 1 + 1e-5


@few
@given(seeds, st.integers(3, 40), st.floats(-6, 6), st.floats(0, 4))
def test_soft_masks_are_shares_and_move_with_the_landmarks(seed, count, grow, deviation):
    random = draws(seed)
    points = random.uniform(30, 60, (1, count, 2))
    mask = masks.soft_masks(points, (90, 90), grow, deviation)
    assert mask.shape == (1, 90, 90) and mask.min() >= 0 and mask.max() <= 1 + 1e-6
    moved = masks.soft_masks(points + [5, -3], (90, 90), grow, deviation)
    np.testing.assert_allclose(moved[0, 10:70, 20:80], mask[0, 13:73, 15:75], atol=1e-6)
    larger = masks.soft_masks(points, (90, 90), grow + 2, deviation)
    assert (larger >= mask - 1e-6).all()


@few
@given(seeds, st.floats(1, 1e5))
def test_soft_masks_of_landmarks_far_outside_are_masks(seed, far):
    mask = masks.soft_masks(draws(seed).normal(0, far, (2, 20, 2)), (20, 30))
    assert np.isfinite(mask).all() and mask.min() >= 0 and mask.max() <= 1 + 1e-6


# Retiming


@few
@given(seeds, st.sampled_from([1, 2, 9]), st.sampled_from([1, 2, 3, 8]))
def test_a_path_moves_on_by_at_most_two_frames_and_never_freezes(seed, outputs, targets):
    random = draws(seed)
    speech = random.integers(0, 2, outputs)
    motion, blinks = random.exponential(size=targets), random.integers(0, 2, targets)
    path = retiming.retime(speech, motion, blinks)
    assert path.shape == (outputs,) and path.min() >= 0 and path.max() < targets
    assert np.abs(np.diff(path)).max(initial=0) <= 2
    if targets > 3:
        assert not ((np.diff(path)[:-1] == 0) & (np.diff(path)[1:] == 0)).any() or (
            {0, targets - 1} & set(path.tolist())
        )
    np.testing.assert_array_equal(path, retiming.retime(speech, 8 * motion, blinks))


@few
@given(st.integers(1, 80), lengths)
def test_frames_in_order_run_to_the_end_and_back(outputs, targets):
    path = retiming.identity(outputs, targets)
    assert path[0] == 0 and len(path) == outputs
    assert set(path) == set(range(min(outputs, targets)))
    assert (np.abs(np.diff(path)) == (1 if targets > 1 else 0)).all()


@few
@given(seeds, lengths, st.floats(0.01, 1))
def test_speech_is_where_it_is_loud_at_any_level(seed, frames, level):
    random = draws(seed)
    spoken = random.integers(0, 2, frames).astype(bool)
    waveform = np.repeat(np.where(spoken, 1.0, 0.0), 640) * np.sin(np.arange(640 * frames) / 3)
    found = retiming.speech_activity(level * waveform, 16_000, frames)
    assert found.shape == (frames,) and set(found) <= {0.0, 1.0}
    # Short silences count as speech: nothing that is spoken is left out.
    assert (found[spoken] == 1).all()
    assert spoken.any() or not found.any()


# Measures


psnr, ssim = jax.jit(reconstruction.psnr), jax.jit(reconstruction.ssim)


def images(seed):
    image, other = draws(seed).uniform(-1, 1, (2, 12, 13, 3)).astype(np.float32)
    return image, other


@few
@given(seeds, st.floats(0.05, 0.9))
def test_psnr_and_ssim_know_which_is_nearer(seed, share):
    image, other = images(seed)
    mixed = image + np.float32(share) * (other - image)
    for measure in (psnr, ssim):
        assert float(measure(image, other)) == pytest.approx(float(measure(other, image)), abs=1e-4)
        assert float(measure(mixed, image)) > float(measure(other, image)) - 1e-6
    nearer = float(psnr(mixed, image)) + 20 * np.log10(share)
    assert nearer == pytest.approx(float(psnr(other, image)), abs=0.01)
    assert -1 <= float(ssim(image, other)) <= 1
    assert float(ssim(image, image)) == pytest.approx(1, abs=1e-5)


@few
@given(seeds)
def test_landmark_errors_are_a_distance(seed):
    a, b, c = draws(seed).normal(size=(3, 5, 20, 2)).astype(np.float32)
    error = geometry.landmark_error
    np.testing.assert_allclose(error(a, b), error(b, a), rtol=1e-5)
    assert (np.asarray(error(a, c)) <= np.asarray(error(a, b) + error(b, c)) + 1e-5).all()
    assert not np.asarray(error(a, a)).any()
    np.testing.assert_allclose(error(a + 3, b + 3), error(a, b), rtol=1e-3)


@few
@given(seeds)
def test_eyes_are_as_open_in_any_picture(seed):
    random = draws(seed)
    landmarks, transform = random.normal(size=(4, 68, 2)), similarity(random)
    moved = faces.transform_points(transform, landmarks)
    ratios = [expression.eye_aspect_ratio(x.astype(np.float32)) for x in (landmarks, moved)]
    np.testing.assert_allclose(*ratios, rtol=2e-2)


@few
@given(seeds, st.integers(2, 30), st.integers(1, 6))
def test_frechet_distance_is_none_to_itself_and_counts_a_shift(seed, count, width):
    random = draws(seed)
    features, shift = random.normal(size=(count, width)), random.normal(size=width)
    assert abs(distribution.frechet_distance(features, features)) < 1e-5
    other = random.normal(size=(count + 3, width))
    one = distribution.frechet_distance(features, other)
    assert one == pytest.approx(distribution.frechet_distance(other, features), abs=1e-5)
    assert one > -1e-6
    shifted = distribution.frechet_distance(features + shift, features)
    assert shifted == pytest.approx(np.square(shift).sum(), abs=1e-4)


words = st.lists(st.sampled_from(["bin", "blue", "at", "a", "two", "now"]), min_size=1, max_size=6)


@few
@given(words, words, words)
def test_word_errors_are_counted_as_a_distance(one, other, third):
    def distance(a, b):
        (rate,) = lip_reading.word_error_rates([" ".join(a)], [" ".join(b)])
        return rate * len(a)

    assert distance(one, one) == 0
    assert distance(one, other) == pytest.approx(distance(other, one))
    assert distance(one, third) <= distance(one, other) + distance(other, third) + 1e-6
    assert (
        abs(len(one) - len(other)) <= distance(one, other) + 1e-6 <= max(len(one), len(other)) + 1
    )


@few
@given(st.lists(st.tuples(st.integers(0, 9), st.integers(0, 5)), min_size=1, max_size=6))
def test_blinks_that_are_all_found_score_one(found):
    """Blinks of 1 to 6 frames, that do not overlap."""
    blinks = np.array([(20 * i + a, 20 * i + a + b) for i, (a, b) in enumerate(found)])
    scores = expression.score_blinks([blinks], [blinks])
    assert scores == (1, 1, 0, 0)
    fewer = expression.score_blinks([blinks[1:]], [blinks])
    assert fewer.recall == pytest.approx((len(blinks) - 1) / len(blinks))


@few
@given(seeds, st.integers(1, 12), st.integers(2, 6))
def test_no_reading_has_a_blank_or_more_labels_than_frames(seed, frames, labels):
    scores = draws(seed).normal(size=(frames, labels))
    log_probs = scores - np.log(np.exp(scores).sum(-1, keepdims=True))
    for read in (lip_reading.greedy(log_probs), lip_reading.beam(log_probs, 8)):
        assert len(read) <= frames and labels - 1 not in read

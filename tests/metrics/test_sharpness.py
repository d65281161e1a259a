import math

import cv2
import numpy as np
import pytest
from skimage import feature

from flax_talk.errors import UserError
from flax_talk.metrics import sharpness


def colour(grey):
    """Grey levels [..., H, W] -> uint8 [..., H, W, 3]."""
    return np.repeat(np.asarray(grey, np.uint8)[..., None], 3, axis=-1)


def draw(seed, size=(70, 131)):
    """A textured picture uint8 [H, W, 3]: smooth noise in blotches of random contrast."""
    random = np.random.default_rng(seed)
    noise = random.normal(size=size)
    picture = cv2.GaussianBlur(noise, (0, 0), random.uniform(0.7, 2))
    contrast = cv2.GaussianBlur(random.uniform(0, 1, size), (0, 0), 20)
    contrast = (contrast - contrast.min()) / np.ptp(contrast)
    grey = 128 + random.uniform(40, 90) * contrast * picture / picture.std()
    noise = random.normal(size=(*size, 3)) * 2
    return np.clip(grey[..., None] + noise, 0, 255).astype(np.uint8)


def ramps(starts, length, contrast, size=(64, 64), base=20):
    """Grey levels: from each start, `contrast` levels up or down in turn in `length` pixels."""
    row = np.full(size[1], float(base))
    for i, start in enumerate(starts):
        row += (-1) ** i * contrast * np.clip((np.arange(size[1]) - start) / length, 0, 1)
    return np.tile(row, (size[0], 1))


def step_by_step(frame):
    """CPBD as the original program computes it, one pixel after the other."""
    grey = np.rint(frame.astype(float) @ (0.2989, 0.587, 0.114))
    h, w = grey.shape
    padded = np.pad(grey, 1, mode="edge")
    gx, gy = np.zeros((2, h, w))
    for r in range(h):
        for c in range(w):
            near = padded[r : r + 3, c : c + 3]
            gx[r, c] = abs((near[:, 2] - near[:, 0]) @ (1, 2, 1)) / 8
            gy[r, c] = abs((near[2] - near[0]) @ (1, 2, 1)) / 8
    sigma = math.sqrt(2)
    canny = feature.canny(grey, sigma, 0.5, 2.0)
    widths = np.zeros((h, w))
    for r in range(1, h - 1):
        for c in range(1, w - 1):
            along = gx[r, c - 1] <= gx[r, c] > gx[r, c + 1] and gx[r, c] >= gy[r, c]
            across = gx[r - 1, c] <= gx[r, c] > gx[r + 1, c]
            if gx[r, c] <= 2 or not (along or across):
                continue
            dx, dy = grey[r, c + 1] - grey[r, c - 1], grey[r + 1, c] - grey[r - 1, c]
            angle = math.degrees(math.atan2(dy, dx)) if dx else 0.0
            if abs(angle) < 22.5:
                sign = 1
            elif abs(angle) > 157.5:
                sign = -1
            else:
                continue
            left = right = 1
            while c - left - 1 >= 0 and sign * (grey[r, c - left] - grey[r, c - left - 1]) > 0:
                left += 1
            while c + right + 1 < w and sign * (grey[r, c + right + 1] - grey[r, c + right]) > 0:
                right += 1
            widths[r, c] = left + right
    histogram = np.zeros(101)
    for top in range(0, h // 64 * 64, 64):
        for left in range(0, w // 64 * 64, 64):
            block = np.s_[top : top + 64, left : left + 64]
            if canny[block].sum() <= 0.002 * 64 * 64:
                continue
            limit = 5 if grey[block].max() - grey[block].min() < 51 else 3
            for width in widths[block][widths[block] > 0]:
                histogram[round(100 * (1 - math.exp(-((width / limit) ** 3.6))))] += 1
    return histogram[:64].sum() / max(histogram.sum(), 1)


@pytest.mark.parametrize("step", [1, 32])
@pytest.mark.parametrize("seed", range(5))
def test_cpbd_equals_the_definition_followed_pixel_by_pixel(seed, step):
    frame = draw(seed) // step * step  # In few levels, equal neighbours are common.
    expected = step_by_step(frame)
    assert 0.01 < expected < 0.99  # else the comparison says little
    assert float(sharpness.cpbd(frame)) == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize("contrast, limit", [(40, 5), (50, 5), (51, 3), (150, 3)])
@pytest.mark.parametrize("length", range(1, 9))
def test_cpbd_of_ramps_turns_on_the_just_noticeable_width(length, contrast, limit):
    """A ramp of n pixels is n wide (at least 2); seen as sharp if P_blur(n) <= 0.63 or so."""
    width = max(length, 2)
    probability = 1 - math.exp(-((width / limit) ** 3.6))
    expected = float(round(100 * probability) <= 63)
    assert expected == (width <= limit)
    grey = np.rint(ramps([10, 40], length, contrast))
    assert float(sharpness.cpbd(colour(grey))) == expected
    assert float(sharpness.cpbd(colour(255 - grey))) == expected


def test_cpbd_is_the_share_of_sharp_edge_pixels():
    """Three ramps of 2 pixels and one of 8."""
    grey = ramps([8, 20, 32], 2, 120) + ramps([44], 8, 96, base=0)
    assert float(sharpness.cpbd(colour(grey))) == 0.75


def test_cpbd_measures_along_rows_only():
    grey = ramps([8, 20, 32], 2, 120)
    assert float(sharpness.cpbd(colour(grey))) == 1
    assert float(sharpness.cpbd(colour(grey.T))) == 0


def test_cpbd_leaves_out_what_does_not_fill_a_block():
    wide = ramps([10, 40], 8, 120)
    sharp = ramps([5, 20], 1, 120, (64, 32))
    assert float(sharpness.cpbd(colour(np.hstack([wide, sharp])))) == 0
    two_of_three = colour(np.hstack([sharp, wide[:, :32]]))
    assert float(sharpness.cpbd(two_of_three)) == pytest.approx(2 / 3)
    below = np.vstack([wide, wide[:2], np.hstack([sharp, sharp])[:61]])
    assert float(sharpness.cpbd(colour(below))) == 0


@pytest.mark.parametrize("rows, counts", [(8, False), (9, True)])
def test_cpbd_leaves_out_blocks_almost_without_edges(rows, counts):
    """An edge of 8 pixels is under 0.2 % of a block's 4096, one of 9 is above."""
    wide, other = ramps([10, 40], 8, 120), np.full((64, 64), 20.0)
    canny = sharpness._canny_edges
    other[:rows] = ramps([30], 1, 120)[:rows]
    frame = np.hstack([wide, other])

    def edges(grey):
        # The corner of the edge is rounded, which would cost it a pixel or two.
        found = canny(grey)
        found[:, 64:] = 0
        found[:rows, 94] = 1
        return found

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sharpness, "_canny_edges", edges)
        assert (float(sharpness.cpbd(colour(frame))) > 0) == counts


@pytest.mark.parametrize("seed", range(3))
def test_canny_edges_lie_where_scikit_image_finds_them(seed):
    """Equal gradients and equal thresholds; the two differ in how they thin diagonal edges."""
    grey = cv2.GaussianBlur(draw(seed), (0, 0), 2)[..., 0].astype(np.float32)
    ours = sharpness._canny_edges(grey) > 0
    outside = feature.canny(grey, math.sqrt(2), 0.4 * 0.7, 0.7, use_quantiles=True)
    near = cv2.dilate(ours.astype(np.uint8), np.ones((3, 3))) > 0
    assert (outside & near).sum() > 0.9 * outside.sum()
    assert 0.5 < ours.sum() / outside.sum() < 2


@pytest.mark.parametrize("metric", [sharpness.cpbd, sharpness.fdbm])
@pytest.mark.parametrize("seed", range(3))
def test_blur_lowers_sharpness(metric, seed):
    frame = draw(seed, (128, 128))
    blurred = [cv2.GaussianBlur(frame, (0, 0), sigma) for sigma in (0.6, 1, 1.5, 2.5)]
    values = [float(metric(x)) for x in (frame, *blurred)]
    assert values == sorted(values, reverse=True) and values[0] > 1.2 * values[-1]


@pytest.mark.parametrize("metric", [sharpness.cpbd, sharpness.fdbm])
def test_flat_frames_have_no_sharpness(metric):
    """For FDBM one frequency, the mean, of 64 x 64."""
    expected = 0 if metric is sharpness.cpbd else 1 / 4096
    assert float(metric(np.full((64, 64, 3), 90, np.uint8))) == pytest.approx(expected)


@pytest.mark.parametrize("metric", [sharpness.cpbd, sharpness.fdbm])
def test_leading_axes_are_frames_and_floats_equal_bytes(metric):
    video = np.stack([draw(i, (64, 70)) for i in range(6)]).reshape(2, 3, 64, 70, 3)
    got = np.asarray(metric(video))
    assert got.shape == (2, 3) and got.dtype == np.float32
    expected = [[float(metric(frame)) for frame in clip] for clip in video]
    np.testing.assert_allclose(got, expected, rtol=1e-6)
    assert len(np.unique(got)) == 6
    np.testing.assert_allclose(metric((video / 127.5 - 1).astype(np.float32)), got, atol=1e-3)


@pytest.mark.parametrize("seed", range(3))
def test_fdbm_equals_the_definition(seed):
    frame = draw(seed, (48, 60))
    magnitudes = np.abs(np.fft.fft2(frame.astype(float) @ (0.2989, 0.587, 0.114)))
    expected = (magnitudes > magnitudes.max() / 1000).mean()
    # A frequency within rounding of the threshold may fall to either side.
    assert float(sharpness.fdbm(frame)) == pytest.approx(expected, abs=1.5 / magnitudes.size)


@pytest.mark.parametrize("amplitude, seen", [(0.3, True), (0.15, False)])
def test_fdbm_counts_a_wave_above_a_thousandth_of_the_mean(amplitude, seen):
    """A wave a cos(...) on a mean m has two frequencies of magnitude a / 2 beside that of m."""
    wave = 100 + amplitude * np.cos(2 * np.pi * 5 * np.arange(64) / 64)
    frame = np.broadcast_to(wave[:, None] / 127.5 - 1, (64, 64))
    frame = np.repeat(frame[..., None], 3, axis=-1).astype(np.float32)
    assert float(sharpness.fdbm(frame)) == pytest.approx((3 if seen else 1) / 4096)


def test_frames_smaller_than_a_block_are_refused():
    with pytest.raises(UserError, match="64 x 64 pixels, the frames are 63 x 80"):
        sharpness.cpbd(np.zeros((2, 63, 80, 3), np.uint8))

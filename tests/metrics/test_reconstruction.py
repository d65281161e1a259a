"""PSNR and SSIM equal those of two outside libraries, scikit-image and PIX."""

import dm_pix
import jax
import numpy as np
import pytest
from skimage import metrics as outside

from flax_talk.metrics import reconstruction


def draw(seed):
    """Two images of random size, noise and contrast, in [-1, 1]: [2, H, W, C]."""
    random = np.random.default_rng(seed)
    size = (*random.integers(11, 40, 2), random.choice([1, 3]))
    smooth = np.cumsum(random.normal(size=size), axis=0)
    image = np.tanh(random.uniform(0.05, 1) * smooth)
    noise = random.normal(size=size) * random.uniform(0.01, 0.5)
    other = np.clip(random.uniform(0.5, 1) * image + noise, -1, 1)
    return np.stack([image, other]).astype(np.float32)


@pytest.fixture(params=[False, True], ids=["eager", "jit"])
def compiled(request):
    """Wraps a metric, or not."""
    return jax.jit if request.param else lambda function: function


@pytest.mark.parametrize("seed", range(4))
def test_psnr_equals_scikit_image(compiled, seed):
    image, other = draw(seed)
    expected = outside.peak_signal_noise_ratio(image, other, data_range=2)
    assert float(compiled(reconstruction.psnr)(other, image)) == pytest.approx(expected, abs=1e-3)


@pytest.mark.parametrize("seed", range(4))
def test_ssim_equals_scikit_image_over_valid_positions(compiled, seed):
    image, other = draw(seed)
    _, similarity = outside.structural_similarity(
        image.astype(np.float64) + 1,
        other.astype(np.float64) + 1,
        data_range=2,
        channel_axis=-1,
        gaussian_weights=True,
        sigma=1.5,
        use_sample_covariance=False,
        full=True,
    )
    expected = similarity[5:-5, 5:-5].mean()
    assert float(compiled(reconstruction.ssim)(other, image)) == pytest.approx(expected, abs=1e-4)


@pytest.mark.parametrize("seed", range(4))
def test_psnr_and_ssim_equal_pix(seed):
    image, other = draw(seed)
    # PIX expects [0, 1].
    pair = (image + 1) / 2, (other + 1) / 2
    assert float(reconstruction.psnr(other, image)) == pytest.approx(
        float(dm_pix.psnr(*pair)), abs=1e-3
    )
    # Its window is applied to each channel, at valid positions.
    expected = float(dm_pix.ssim(*pair, max_val=1.0))
    assert float(reconstruction.ssim(other, image)) == pytest.approx(expected, abs=2e-4)


@pytest.mark.parametrize("seed", range(4))
def test_uniform_ssim_is_the_default_of_scikit_image(compiled, seed):
    image, other = draw(seed)
    expected = outside.structural_similarity(
        image.astype(np.float64) + 1, other.astype(np.float64) + 1, data_range=2, channel_axis=-1
    )
    got = float(compiled(reconstruction.ssim_uniform)(other, image))
    assert got == pytest.approx(expected, abs=1e-4)


def test_equal_images_are_perfect(compiled):
    image = draw(0)[0]
    assert float(compiled(reconstruction.psnr)(image, image)) == np.inf
    assert float(compiled(reconstruction.ssim)(image, image)) == pytest.approx(1, abs=1e-6)
    assert float(compiled(reconstruction.ssim_uniform)(image, image)) == pytest.approx(1, abs=1e-6)


def test_flat_images_have_the_similarity_of_their_means(compiled):
    """No structure: what remains is the luminance term, worked out here."""
    one, other = np.full((12, 12, 3), 0.5, np.float32), np.full((12, 12, 3), -0.2, np.float32)
    c1 = 0.02**2
    expected = (2 * 1.5 * 0.8 + c1) / (1.5**2 + 0.8**2 + c1)
    assert float(compiled(reconstruction.ssim)(one, other)) == pytest.approx(expected, rel=1e-3)


@pytest.mark.parametrize("metric", [reconstruction.psnr, reconstruction.ssim])
def test_leading_axes_are_frames(metric):
    video = np.random.default_rng(0).uniform(-1, 1, (2, 2, 3, 16, 14, 3)).astype(np.float32)
    got = metric(video[0], video[1])
    assert got.shape == (2, 3)
    expected = [[metric(video[0, b, t], video[1, b, t]) for t in range(3)] for b in range(2)]
    np.testing.assert_allclose(got, np.array(expected), rtol=1e-4, atol=1e-6)


def test_video_psnr_is_over_the_valid_frames_of_each_video():
    random = np.random.default_rng(1)
    video, reference = random.uniform(-1, 1, (2, 2, 4, 8, 8, 3)).astype(np.float32)
    video[0, 0] = reference[0, 0]
    mask = np.arange(4) < np.array([[3], [4]])
    expected = [
        outside.peak_signal_noise_ratio(reference[b, :n], video[b, :n], data_range=2)
        for b, n in enumerate((3, 4))
    ]
    got = reconstruction.video_psnr(video, reference, mask)
    np.testing.assert_allclose(got, expected, rtol=1e-5)

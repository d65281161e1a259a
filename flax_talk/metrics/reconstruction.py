"""Reconstruction measures: how near a generated frame is to the real one.

PSNR and SSIM as in the papers' tables. SSIM is that of Wang, Bovik, Sheikh, Simoncelli 2004: an
11 x 11 Gaussian window of standard deviation 1.5, valid positions only, mean over channels; a
variant has the uniform window that scikit-image uses by default. Images in [-1, 1] have a range
of 2.
"""

import jax
import jax.numpy as jnp

RANGE = 2.0


def psnr(video: jax.Array, reference: jax.Array) -> jax.Array:
    """Peak signal-to-noise ratio in dB of each frame; infinite where they are equal.

    Args:
        video, reference: [..., H, W, C] in [-1, 1].

    Returns:
        [...].
    """
    error = jnp.square(video - reference).mean(axis=(-3, -2, -1))
    return 10 * jnp.log10(RANGE**2 / error)


def ssim(video: jax.Array, reference: jax.Array) -> jax.Array:
    """Structural similarity of each frame, 1 where they are equal: Wang's, with the Gaussian.

    Args:
        video, reference: [..., H, W, C] in [-1, 1], H and W at least 11.

    Returns:
        [...].
    """
    offsets = jnp.arange(11) - 5.0
    window = jnp.exp(-jnp.square(offsets) / (2 * 1.5**2))
    return _ssim(video, reference, window / window.sum(), correction=1.0)


def ssim_uniform(video: jax.Array, reference: jax.Array) -> jax.Array:
    """As `ssim`, with a window of 7 x 7 equal weights and unbiased variances.

    This is what scikit-image computes unless told otherwise, and so what many tables have.

    Args:
        video, reference: [..., H, W, C] in [-1, 1], H and W at least 7.

    Returns:
        [...].
    """
    return _ssim(video, reference, jnp.full(7, 1 / 7), correction=49 / 48)


def _ssim(
    video: jax.Array, reference: jax.Array, window: jax.Array, correction: float
) -> jax.Array:
    """Similarity at the valid positions of a separable window, its variances times `correction`.

    Of intensities from 0 on, as those of files: the term of luminance knows where black is.
    """

    def band(length):
        """The window at each of its valid positions, as rows of a matrix."""
        positions = length - len(window) + 1
        return sum(window[i] * jnp.eye(positions, length, i) for i in range(len(window)))

    def blur(x):
        """The window over the last two axes, as two matrix products."""
        rows, columns = band(x.shape[-2]), band(x.shape[-1])
        return jnp.einsum("ih,...hw,jw->...ij", rows, x, columns, precision="highest")

    x, y = jnp.moveaxis(video + 1, -1, -3), jnp.moveaxis(reference + 1, -1, -3)
    mean_x, mean_y = blur(x), blur(y)
    var_x = correction * (blur(x * x) - mean_x**2)
    var_y = correction * (blur(y * y) - mean_y**2)
    covariance = correction * (blur(x * y) - mean_x * mean_y)
    c1, c2 = (0.01 * RANGE) ** 2, (0.03 * RANGE) ** 2
    luminance = (2 * mean_x * mean_y + c1) / (mean_x**2 + mean_y**2 + c1)
    structure = (2 * covariance + c2) / (var_x + var_y + c2)
    return (luminance * structure).mean(axis=(-3, -2, -1))


def video_psnr(video: jax.Array, reference: jax.Array, mask: jax.Array) -> jax.Array:
    """Peak signal-to-noise ratio in dB of each video, from its mean error over valid frames.

    Finite as soon as one frame differs, where the mean of `psnr` is infinite as soon as one
    frame is equal (a still repeated equals its own first frame).

    Args:
        video, reference: [B, T, H, W, C] in [-1, 1].
        mask: [B, T], at least one valid frame in each video.

    Returns:
        [B].
    """
    error = jnp.square(video - reference).mean(axis=(-3, -2, -1))
    return 10 * jnp.log10(RANGE**2 / error.mean(axis=-1, where=mask))

"""Sharpness measures: how sharp a frame is, without a reference; larger is sharper.

CPBD, the cumulative probability of blur detection (Narvekar and Karam, "A No-Reference Image Blur
Metric Based on the Cumulative Probability of Blur Detection", 2011), follows what the authors'
published program does where the paper leaves a choice: Canny edges decide which blocks count,
thinned vertical Sobel edges are measured, and only along the rows. FDBM is the frequency domain
blurriness measure of De and Masilamani, "Image Sharpness Measure for Blurred Images in Frequency
Domain", 2013. Ours: the vectorised search for edge widths, and OpenCV's rule for thinning Canny
edges, which only decides whether a block counts.
"""

import cv2
import jax
import jax.numpy as jnp
import numpy as np

from flax_talk.errors import UserError
from flax_talk.images import to_float

BLOCK = 64
"""Side in pixels of the blocks of CPBD."""

_LUMA = np.array([0.2989, 0.5870, 0.1140], np.float32)  # ITU-R BT.601
_EDGE_SHARE = 0.002  # of the pixels of a block that counts
_BETA = 3.6
_JUST_NOTICEABLE = 0.63  # probability of seeing the blur of an edge of just noticeable width
_SOBEL_THRESHOLD = 2.0  # grey levels per pixel
_LONGEST_SIDE = 101  # pixels that an edge may reach to each side
_CANNY_DEVIATION = np.sqrt(2)  # pixels
_CANNY_FLAT_SHARE = 0.7  # of the pixels lie below the upper threshold
_CANNY_LOW = 0.4  # lower threshold by upper one
_CANNY_SCALE = 2**14  # largest gradient as an integer whose square still fits


def cpbd(video: np.ndarray) -> np.ndarray:
    """Cumulative probability of blur detection of each frame, 0 (blurred) to 1 (sharp).

    The share of edge pixels whose blur is probably not seen: P_blur = 1 - exp(-(w / w_jnb)^3.6) at
    most 0.63, w the width of the edge in pixels, w_jnb 5 in blocks of contrast up to 50 grey
    levels and 3 in others. Runs on the host, in NumPy and OpenCV.

    As in the original, only whole blocks count, from the top left corner: of a 128 x 96 frame the
    right third plays no part. A frame without a measurable edge has 0.

    Args:
        video: uint8 [..., H, W, 3] or float in [-1, 1], which is rounded to 8 bits first; H and W
            at least 64.

    Returns:
        float32 [...].

    Raises:
        UserError: the frames are smaller than one block.
    """
    video = np.asarray(video)
    *leading, height, width, _ = video.shape
    if min(height, width) < BLOCK:
        raise UserError(
            f"CPBD measures blocks of {BLOCK} x {BLOCK} pixels, the frames are {height} x {width}: "
            "give larger frames or leave out CPBD"
        )
    frames = video.reshape(-1, height, width, 3)
    values = [_frame_cpbd(_grey(frame)) for frame in frames]
    return np.array(values, np.float32).reshape(leading)


@jax.jit
def fdbm(video: jax.Array) -> jax.Array:
    """Frequency domain blurriness measure of each frame: larger is sharper.

    The share of the frequencies of the grey image whose magnitude is above a thousandth of the
    largest one.

    Args:
        video: uint8 [..., H, W, 3] or float in [-1, 1].

    Returns:
        [...], 0 to 1.
    """
    # The largest frequency is the mean of the image, so black has to be zero.
    grey = ((to_float(video).astype(jnp.float32) + 1) * 127.5 * _LUMA).sum(axis=-1)
    magnitudes = jnp.abs(jnp.fft.fft2(grey))
    threshold = magnitudes.max(axis=(-2, -1), keepdims=True) / 1000
    return (magnitudes > threshold).mean(axis=(-2, -1))


def _grey(frame: np.ndarray) -> np.ndarray:
    """uint8 or float [H, W, 3] -> whole grey levels 0..255 as float32 [H, W]."""
    if frame.dtype != np.uint8:
        frame = np.rint(np.clip((frame + 1) * 127.5, 0, 255))
    return np.rint(frame.astype(np.float32) @ _LUMA)


def _frame_cpbd(grey: np.ndarray) -> float:
    """CPBD of grey levels float32 [H, W]."""
    widths = _edge_widths(grey) * _sobel_edges(grey)
    canny = _canny_edges(grey)
    sharp = total = 0
    for top in range(0, grey.shape[0] - BLOCK + 1, BLOCK):
        for left in range(0, grey.shape[1] - BLOCK + 1, BLOCK):
            block = np.s_[top : top + BLOCK, left : left + BLOCK]
            if np.count_nonzero(canny[block]) <= _EDGE_SHARE * BLOCK**2:
                continue
            just_noticeable = 5 if np.ptp(grey[block]) <= 50 else 3
            found = widths[block][widths[block] > 0]
            probability = 1 - np.exp(-((found / just_noticeable) ** _BETA))
            # The original sums a histogram in steps of a hundredth: 0.632 counts as 0.63.
            below = np.rint(100 * probability) <= round(100 * _JUST_NOTICEABLE)
            sharp += int(np.count_nonzero(below))
            total += found.size
    return sharp / total if total else 0.0


def _sobel_edges(grey: np.ndarray) -> np.ndarray:
    """Thinned edges of strong horizontal gradient, bool [H, W].

    The gradient has to be largest along its row, where it is more horizontal than vertical, or
    along its column; of equals the last counts. The outermost pixels are no edges.
    """
    horizontal, vertical = (
        np.abs(cv2.Sobel(grey, cv2.CV_32F, *order, scale=1 / 8, borderType=cv2.BORDER_REPLICATE))
        for order in ((1, 0), (0, 1))
    )
    inner = horizontal[1:-1, 1:-1]
    in_row = (horizontal[1:-1, :-2] <= inner) & (inner > horizontal[1:-1, 2:])
    in_column = (horizontal[:-2, 1:-1] <= inner) & (inner > horizontal[2:, 1:-1])
    in_row &= inner >= vertical[1:-1, 1:-1]
    return np.pad((inner > _SOBEL_THRESHOLD) & (in_row | in_column), 1)


def _edge_widths(grey: np.ndarray) -> np.ndarray:
    """Widths in pixels that an edge at each pixel would have, int [H, W].

    Where the gradient is within 22.5 degrees of the row, the distance along the row between the
    extrema on either side (Marziliano et al. 2002), counted from the neighbours of the pixel on, so
    that it is at least 2; elsewhere 0.
    """
    across, down = np.empty_like(grey), np.empty_like(grey)
    across[:, 1:-1], down[1:-1] = grey[:, 2:] - grey[:, :-2], grey[2:] - grey[:-2]
    across[:, [0, -1]], down[[0, -1]] = 0, 0
    along_row = np.abs(down) < np.tan(np.pi / 8) * np.abs(across)
    steps = np.diff(grey, axis=1)
    # The original has angle zero, thus rising, wherever nothing changes across the pixel.
    rising = ((across > 0) & along_row) | (across == 0)
    falling = (across < 0) & along_row
    return rising * _extents(steps > 0) + falling * _extents(steps < 0)


def _extents(steps: np.ndarray) -> np.ndarray:
    """Pixels to both sides that an edge reaches, from which steps [H, W - 1] go its way.

    Step i leads from pixel i to pixel i + 1. To each side of pixel c it is one more than the
    unbroken steps that end at pixel c - 1, or start at c + 1.
    """

    def run_lengths(steps):
        """Number of unbroken steps up to each one."""
        indices = np.arange(steps.shape[1])
        return indices - np.maximum.accumulate(np.where(steps, -1, indices), axis=1)

    left = np.pad(run_lengths(steps)[:, :-1], ((0, 0), (2, 0)))
    right = np.pad(run_lengths(steps[:, ::-1])[:, ::-1][:, 1:], ((0, 0), (0, 2)))
    return np.minimum(left + 1, _LONGEST_SIDE) + np.minimum(right + 1, _LONGEST_SIDE)


def _canny_edges(grey: np.ndarray) -> np.ndarray:
    """Canny edges [H, W], nonzero where there is one, with thresholds relative to the image."""
    radius = int(np.ceil(4 * _CANNY_DEVIATION))
    offsets = np.arange(-radius, radius + 1)
    smooth = np.exp(-(offsets**2) / (2 * _CANNY_DEVIATION**2))
    derive = offsets * smooth
    across, down = (
        cv2.sepFilter2D(grey, cv2.CV_32F, *kernels, borderType=cv2.BORDER_REPLICATE)
        for kernels in ((derive, smooth), (smooth, derive))
    )
    magnitudes = np.hypot(across, down)
    largest = magnitudes.max()
    if largest == 0:
        return np.zeros(grey.shape, np.uint8)
    counts = np.bincount(np.rint(63 / largest * magnitudes).astype(int).ravel(), minlength=64)
    flat = np.argmax(np.cumsum(counts) > _CANNY_FLAT_SHARE * grey.size)
    high = _CANNY_SCALE * (flat + 1) / 64
    across, down = (
        np.rint(_CANNY_SCALE / largest * gradient).astype(np.int16) for gradient in (across, down)
    )
    return cv2.Canny(across, down, _CANNY_LOW * high, high, L2gradient=True)

"""Takes flicker of colour out of frames that were drawn one by one.

Song et al., "Everybody's Talkin'", 2020, appendix B, Eq. 7, after Bonneel et al., "Blind Video
Temporal Consistency", 2015: of each frame the fine detail is kept, which high frequencies carry,
and the colours are drawn towards those of the frame before, warped by optical flow; the less the
mouth moves, the more. Ours: frames are mirrored at their edges, where a Fourier transform would
join the left to the right, so that it becomes a cosine transform; and the flow is OpenCV's DIS.
"""

import cv2
import numpy as np
from scipy import fft


def deflicker(video: np.ndarray, mouth_landmarks: np.ndarray, strength: float = 1.0) -> np.ndarray:
    """Eq. 7: F(O_t) = (4 pi^2 f^2 F(P_t) + w_t F(warp(O_(t-1)))) / (4 pi^2 f^2 + w_t).

    Here w_t = strength exp(-d_t), d_t is how far the mouth's centre moves from frame to frame in
    pixels, and f the frequency in cycles per pixel. At rest and at strength 1 all that is coarser
    than six pixels comes mostly from the frame before, and the mean colour, at f = 0, always: it
    costs likeness (the paper's Table 6: about 1 dB of PSNR), and light that changes is lost.

    Args:
        video: P, uint8 [T, H, W, 3], H and W at least 16.
        mouth_landmarks: float [T, 20, 2], pixels.
        strength: 1 in the paper; below that less of the frame before, 0 changes nothing.

    Returns:
        O, uint8 [T, H, W, 3]; its first frame is that of `video`.
    """
    if strength == 0:
        return video
    height, width = video.shape[1:3]
    # The cosine transform's k-th frequency is k half waves in the length of the frame.
    down, across = np.arange(height) / (2 * height), np.arange(width) / (2 * width)
    detail = 4 * np.pi**2 * (down[:, None] ** 2 + across**2)[..., None]
    centres = np.asarray(mouth_landmarks).mean(axis=1)
    moved = np.linalg.norm(np.diff(centres, axis=0), axis=-1)
    search = cv2.DISOpticalFlow_create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)
    shown = [video[0].astype(np.float32)]
    for t, weight in enumerate(strength * np.exp(-moved), start=1):
        before = _warp(shown[-1], _flow(search, video[t], video[t - 1]))
        change = fft.dctn(before - video[t], axes=(0, 1))
        shown.append(video[t] + fft.idctn(weight / (detail + weight) * change, axes=(0, 1)))
    return np.clip(np.rint(shown), 0, 255).astype(np.uint8)


def _flow(search: cv2.DISOpticalFlow, frame: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Where the pixels of a frame were in another: float32 [H, W, 2], (x, y) in pixels."""
    grey = (cv2.cvtColor(image, cv2.COLOR_RGB2GRAY) for image in (frame, other))
    return search.calc(*grey, None)


def _warp(image: np.ndarray, flow: np.ndarray) -> np.ndarray:
    """image [H, W, 3] read at each pixel plus its flow [H, W, 2]."""
    x, y = np.meshgrid(np.arange(flow.shape[1]), np.arange(flow.shape[0]))
    places = np.stack([x, y], axis=-1).astype(np.float32) + flow
    return cv2.remap(
        image.astype(np.float32), places, None, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE
    )

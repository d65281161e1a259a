"""The fine detail of teeth, which a renderer blurs, from a frame of the target that shows them.

Song et al., "Everybody's Talkin'", 2020, add such detail by a teeth proxy and refer to Suwajanakorn
et al., "Synthesizing Obama", 2017, where it is the high frequencies of a frame with visible teeth.
How they do it in detail is not said; all of this is our reading: one proxy frame, the one whose
mouth is open widest; moved to the place of the upper lip, whose teeth do not move against the
head; added inside the inner lips alone. It knows neither lower teeth nor tongue.
"""

import cv2
import numpy as np

from input_pipeline.faces import similarity_transform

INNER = slice(12, 20)
"""The inner lips among the 20 landmarks of a mouth."""

UPPER = slice(12, 17)
"""The upper edge of the inner lips among them, from corner to corner."""


def opening(mouth_landmarks: np.ndarray) -> np.ndarray:
    """Area between the inner lips, square pixels: [T, 20, 2] to [T]."""
    x, y = np.moveaxis(np.asarray(mouth_landmarks, np.float64)[:, INNER], -1, 0)
    return abs((x * np.roll(y, -1, axis=1) - y * np.roll(x, -1, axis=1)).sum(axis=1)) / 2


def teeth_proxy(mouth_landmarks: np.ndarray) -> int:
    """The frame of a video whose mouth is open widest: landmarks [T, 20, 2] to its number."""
    return int(opening(mouth_landmarks).argmax())


def add_teeth(
    video: np.ndarray,
    mouth_landmarks: np.ndarray,
    proxy: np.ndarray,
    proxy_landmarks: np.ndarray,
    strength: float = 1.0,
    deviation: float = 2.0,
) -> np.ndarray:
    """O_t = P_t + strength m_t warp(R - blur(R)), R the proxy and m_t the inside of both mouths.

    Args:
        video: P, uint8 [T, H, W, 3].
        mouth_landmarks: of it, float [T, 20, 2], pixels.
        proxy: R, uint8 [H', W', 3], see `teeth_proxy`.
        proxy_landmarks: of it, float [20, 2].
        strength: 0 changes nothing.
        deviation: of the blur, pixels: detail finer than that is copied.

    Returns:
        uint8 [T, H, W, 3], equal to `video` outside the inner lips.
    """
    proxy = proxy.astype(np.float32)
    detail = proxy - cv2.GaussianBlur(proxy, (0, 0), deviation)
    detail *= _inside(proxy_landmarks, proxy.shape[:2])[..., None]
    points = np.asarray(mouth_landmarks)
    transforms = similarity_transform(np.asarray(proxy_landmarks)[UPPER], points[:, UPPER])
    height, width = video.shape[1:3]
    shown = []
    for frame, mouth, transform in zip(video, points, transforms, strict=True):
        moved = cv2.warpAffine(detail, transform, (width, height), flags=cv2.INTER_LINEAR)
        change = strength * _inside(mouth, (height, width))[..., None] * moved
        shown.append(np.clip(np.rint(frame + change), 0, 255).astype(np.uint8))
    return np.stack(shown)


def _inside(mouth: np.ndarray, image_size: tuple[int, int]) -> np.ndarray:
    """1 inside the inner lips of landmarks [20, 2], falling to 0 at their edge: [H, W]."""
    hard = np.zeros(image_size, np.uint8)
    cv2.fillPoly(hard, [np.rint(mouth[INNER]).astype(np.int32)], 1)
    distance = cv2.distanceTransform(hard, cv2.DIST_L2, 3)
    # A closed mouth is drawn as a line of pixels, whose distance from the outside is 1.
    return np.clip((distance - 1) / 2, 0, 1)

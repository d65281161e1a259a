"""Puts what was drawn into the target without a seam.

Song et al., "Everybody's Talkin'", 2020, section 3.3.1: Poisson blending (Perez, Gangnet and
Blake 2003) through a soft mask. OpenCV solves for pixels that have the gradients of the drawn frame
inside and the colours of the target around it. Ours is how the mask's softness comes in: it mixes
the solution with the target, so that pixels whose mask is 0 are the target's, bit for bit.
"""

import cv2
import numpy as np

_SHRINK = 3
"""Pixels by which OpenCV shrinks a mask before it solves."""

_BORDER = _SHRINK + 2
"""Pixels that are added around a frame, so that no mask ends at its edge."""


def poisson_blend(drawn: np.ndarray, target: np.ndarray, masks: np.ndarray) -> np.ndarray:
    """Blends drawn frames into those of the target.

    Args:
        drawn, target: uint8 [T, H, W, 3].
        masks: float [T, H, W] in [0, 1], such as `masks.soft_masks` makes; empty ones and such
            that reach the edge are fine.

    Returns:
        uint8 [T, H, W, 3], equal to `target` wherever the mask is 0.
    """
    frames = zip(drawn, target, masks, strict=True)
    return np.stack([_blend(*frame) for frame in frames])


def _blend(drawn: np.ndarray, target: np.ndarray, mask: np.ndarray) -> np.ndarray:
    if not mask.any():
        return target

    def extend(image, *mode):
        return cv2.copyMakeBorder(image, _BORDER, _BORDER, _BORDER, _BORDER, *mode)

    kernel = np.ones((2 * _SHRINK + 1, 2 * _SHRINK + 1), np.uint8)
    hard = extend(np.where(mask > 0, 255, 0).astype(np.uint8), cv2.BORDER_CONSTANT)
    hard = cv2.dilate(hard, kernel)
    left, top, width, height = cv2.boundingRect(hard)
    # The middle of the mask's box lies where it is: nothing is shifted.
    centre = (left + width // 2, top + height // 2)
    wide = (extend(image, cv2.BORDER_REPLICATE) for image in (drawn, target))
    solved = cv2.seamlessClone(*wide, hard, centre, cv2.NORMAL_CLONE)
    solved = solved[_BORDER:-_BORDER, _BORDER:-_BORDER].astype(np.float32)
    share = mask[..., None].astype(np.float32)
    mixed = np.rint(share * solved + (1 - share) * target).astype(np.uint8)
    return np.where(share > 0, mixed, target)

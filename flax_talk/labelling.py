"""Says of a video that it is synthetic: in its tags always, in its picture if asked.

Song et al., "Everybody's Talkin'", 2020, ask in section 1 that edited videos be distinctly
labelled; `docs/consent.md` says why. How it is done is ours.
"""

from collections.abc import Iterable, Iterator

import cv2
import numpy as np

import flax_talk

_TEXT = "SYNTHETIC"
_SHARE, _LEAST = 0.28, 60  # of the width that the mark takes, and in pixels


def synthetic_tags(system: str) -> dict[str, str]:
    """Tags of a generated file, which say so to any player: title and comment.

    Args:
        system: name of the system that has made it.
    """
    text = f"Synthetic: made by flax_talk {flax_talk.__version__}, {system}"
    return {"title": text, "comment": text}


def mark(frames: Iterable[np.ndarray]) -> Iterator[np.ndarray]:
    """Frames with the word SYNTHETIC in the lower left corner, white on a dark ground.

    Args:
        frames: uint8 [H, W, 3] each; they are not changed.

    Yields:
        uint8 [H, W, 3]; of frames under 16 pixels, the frames as they are.
    """
    for frame in frames:
        yield _mark(frame)


def _mark(frame: np.ndarray) -> np.ndarray:
    height, width = frame.shape[:2]
    if min(height, width) < 16:
        return frame
    font = cv2.FONT_HERSHEY_SIMPLEX
    (unit, _), _ = cv2.getTextSize(_TEXT, font, 1.0, 1)
    scale = min(max(_SHARE * width, _LEAST), width - 4) / unit
    thickness = max(1, round(2 * scale))
    (w, h), below = cv2.getTextSize(_TEXT, font, scale, thickness)
    margin = max(2, h // 2)
    marked = np.ascontiguousarray(frame).copy()
    ground = marked[height - h - below - 2 * margin :, : w + 2 * margin]
    ground //= 3
    at = (margin, height - margin - below)
    cv2.putText(marked, _TEXT, at, font, scale, (255, 255, 255), thickness, cv2.LINE_AA)
    return marked

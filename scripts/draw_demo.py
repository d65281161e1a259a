"""Draws docs/pictures/demo.jpg: what `make demo` made, every few frames.

python scripts/draw_demo.py --videos out --out docs/pictures/demo.jpg
"""

import argparse
from pathlib import Path

import cv2
import numpy as np

from input_pipeline import media

FRAMES = 10
FIRST, STEP = 4, 6


def main() -> None:
    """Writes one row of frames for each video, its still in front."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--videos", type=Path, default=Path("out"), help="folder of the demo")
    parser.add_argument("--out", type=Path, default=Path("docs/pictures/demo.jpg"))
    args = parser.parse_args()
    rows = []
    for name in ("rendered", "photograph"):
        frames = media.read_video(args.videos / f"demo_{name}.mp4").frames
        frames = frames[FIRST : FIRST + STEP * FRAMES : STEP]
        height = frames.shape[1]
        still = media.read_still(args.videos / f"{name}.png")
        still = cv2.resize(still, (height, height), interpolation=cv2.INTER_AREA)
        rows.append(np.concatenate([still, *frames], axis=1))
    cv2.imwrite(str(args.out), np.concatenate(rows)[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 90])


if __name__ == "__main__":
    main()

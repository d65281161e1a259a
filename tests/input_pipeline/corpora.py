"""Small corpora, and a detector that needs no time, for runs in several processes.

Run as a script it prepares the data set `folder`: SOURCE DATA_DIR JOBS.
"""

import dataclasses
import sys
import time
from pathlib import Path

import numpy as np

from input_pipeline import faces, media, prepare
from input_pipeline.datasets import folder

RATE = 16_000
PAUSE = 0.02  # s that the detector takes, so that there is time to be killed


class WholeFace:
    """A face that fills every image in the same way; none in an image that is black."""

    def __call__(self, image):
        if image.mean() < 5:
            return []
        height, width = image.shape[:2]
        return [faces.Face(np.float32([0, 0, width, height]), self.place(image, None))]

    def place(self, image, box):
        time.sleep(PAUSE)
        size = image.shape[:2]
        landmarks = np.full((68, 2), (size[1] / 2, size[0] / 2), np.float32)
        landmarks[list(faces.STABLE_POINTS)] = faces.canonical_points(size)
        return landmarks


# Here, and not in a fixture: what other processes unpickle makes them import this module.
faces.DETECTORS["whole"] = WholeFace


def read_clip(clip, options):
    """As `folder.read_clip`, with the detector of this module."""
    return folder.read_clip(clip, dataclasses.replace(options, detector="whole"))


def write_clip(path: Path, seed: int, num_frames: int = 10, black=()) -> None:
    """A clip of noise at 25 fps, some frames of which are black."""
    random = np.random.default_rng(seed)
    frames = random.integers(60, 200, (num_frames, 48, 48, 3), np.uint8)
    frames[list(black)] = 0
    sound = random.uniform(-0.1, 0.1, num_frames * RATE // 25).astype(np.float32)
    media.write_video(path, frames, 25.0, sound, RATE)


def write_folder(source: Path, clips: int) -> Path:
    """Clips of two speakers, the last of them damaged."""
    for number in range(clips - 1):
        write_clip(source / "AB"[number % 2] / f"{number}.mp4", number)
    damaged = source / "A" / "damaged.mp4"
    damaged.write_bytes(b"no video " * 500)
    return source


if __name__ == "__main__":
    # By its name, under which the workers import it.
    import corpora

    faces.DETECTORS["dlib"] = WholeFace
    folder.Folder.read_clip = staticmethod(corpora.read_clip)
    prepare.prepare("folder", sys.argv[2], sys.argv[1], jobs=int(sys.argv[3]))

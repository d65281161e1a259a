"""A small prepared data set of drawn clips, and a run's config for it."""

import numpy as np
import pytest
from ml_collections import ConfigDict

from input_pipeline import faces, media
from input_pipeline.datasets.clips import ClipOptions
from input_pipeline.datasets.grid import Grid, GridConfig

SIZE = (64, 32)
RATE = 50_000


class FixedFace:
    """A detector for drawings: the face fills every image in the same way."""

    def __call__(self, image):
        height, width = image.shape[:2]
        landmarks = np.full((68, 2), (width / 2, height / 2), np.float32)
        landmarks[list(faces.STABLE_POINTS)] = faces.canonical_points((height, width))
        return [faces.Face(np.float32([0, 0, width, height]), landmarks)]

    def place(self, image, box):
        return self(image)[0].landmarks


def draw_clip(seed: int, num_frames: int = 20) -> tuple[np.ndarray, np.ndarray]:
    """A face-coloured card whose mouth opens with the loudness of a buzz."""
    random = np.random.default_rng(seed)
    time = np.arange(num_frames * RATE // 25) / RATE
    loudness = np.abs(np.sin(2 * np.pi * random.uniform(1, 3) * time + random.uniform(0, 6)))
    waveform = (0.5 * loudness * np.sin(2 * np.pi * 150 * time)).astype(np.float32)
    frames = np.full((num_frames, *SIZE, 3), random.integers(60, 200, 3), np.uint8)
    for frame, level in zip(frames, loudness[:: RATE // 25], strict=True):
        opening = round(8 * level)
        frame[44 - opening : 45 + opening, 8:24] = (120, 20, 20)
    return frames, waveform


@pytest.fixture(scope="session")
def drawn_data(tmp_path_factory) -> str:
    """The data_dir of a prepared data set: speaker s1 with 8 clips, s2 with 3."""
    source, data_dir = (tmp_path_factory.mktemp(name) for name in ("corpus", "data"))
    for speaker, count in (("s1", 8), ("s2", 3)):
        for i in range(count):
            frames, waveform = draw_clip(10 * count + i)
            path = source / speaker / f"clip{i}.mp4"
            media.write_video(path, frames, 25.0, waveform, RATE)
    faces.DETECTORS["fixed"] = FixedFace
    options = ClipOptions(image_size=SIZE, audio_rate=RATE, detector="fixed")
    config = GridConfig(name="drawn", options=options)
    builder = Grid(source=source, config=config, data_dir=data_dir)
    builder.download_and_prepare(download_dir=tmp_path_factory.mktemp("downloads"))
    return str(data_dir)


@pytest.fixture
def config(drawn_data, make_tiny) -> ConfigDict:
    """The tiny variant on the drawn clips, four in a step: one for each device."""
    config = make_tiny()
    splits = dict(train="s1", validation="s2", test="s2")
    data = dict(data_dir=drawn_data, builder_config="drawn", splits=splits, batch_size=4)
    config.data.update(data)
    config.train.update(
        dict(max_steps=6, log_every=1, samples_every=100, checkpoint_every=2, validation_clips=0)
    )
    return config

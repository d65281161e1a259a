"""Fixtures shared by all tests, and the devices that they see."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

# Before jax is imported: four virtual devices, and compilation that saves time on programs
# that run only once or twice.
os.environ.setdefault(
    "XLA_FLAGS", "--xla_force_host_platform_device_count=4 --xla_backend_optimization_level=0"
)
os.environ.setdefault(
    "JAX_COMPILATION_CACHE_DIR", str(Path(__file__).resolve().parents[1] / ".cache" / "jax")
)
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0.5")

import jax
import numpy as np
import pytest
from ml_collections import ConfigDict

from configs import temporal_gan_2019_grid
from input_pipeline.audio import samples_per_frame, window_samples


@pytest.fixture(scope="session")
def real_media() -> Path:
    """Folder with real recordings (`grid/s26/*.mpg` and so on), which are not in the repository."""
    default = Path(__file__).resolve().parents[2] / "shared" / "real_media"
    folder = Path(os.environ.get("FLAX_TALK_REAL_MEDIA", default))
    if not folder.is_dir():
        pytest.skip(f"no real recordings in {folder}: set FLAX_TALK_REAL_MEDIA to their folder")
    return folder


@pytest.fixture(scope="session")
def make_tiny() -> Callable[[], ConfigDict]:
    """Makes the tiny config of the temporal GAN, with less to compile."""

    def make():
        config = temporal_gan_2019_grid.get_config("tiny")
        # The lower half is 32 x 32, the least that five halvings leave something of; shorter
        # windows need fewer audio layers.
        config.data.update(dict(image_size=(64, 32), window_seconds=0.05))
        return config

    return make


@pytest.fixture
def tiny(make_tiny) -> ConfigDict:
    """A tiny config of the test's own."""
    return make_tiny()


@pytest.fixture(scope="session")
def make_batch() -> Callable[[ConfigDict, list[int]], dict[str, np.ndarray]]:
    """Makes a batch of random clips of the given lengths; what follows their ends is noise."""

    def make(config, lengths, seed=0):
        random = np.random.default_rng(seed)
        data, b = config.data, len(lengths)
        t, (h, w) = data.num_frames, data.image_size
        stride = samples_per_frame(data.audio_rate, data.video_rate)
        samples = (t - 1) * stride + window_samples(data.audio_rate, data.window_seconds)
        return {
            "still": random.integers(0, 256, (b, h, w, 3), dtype=np.uint8),
            "video": random.integers(0, 256, (b, t, h, w, 3), dtype=np.uint8),
            "waveform": random.uniform(-1, 1, (b, samples)).astype(np.float32),
            "mask": np.arange(t) < np.array(lengths)[:, None],
        }

    return make


@pytest.fixture(scope="session")
def draw_variables() -> Callable[[Any], Any]:
    """Draws variables of given shapes: sooner than an init compiles, and no bias is zero."""

    def make(shapes, seed=0):
        random = np.random.default_rng(seed)

        def draw(path, leaf):
            if path[-1].key in ("var", "scale"):
                return np.ones(leaf.shape, leaf.dtype)
            # Kernels keep the variance from layer to layer, so that nothing is saturated.
            fan_in = np.prod(leaf.shape[:-1]) if len(leaf.shape) > 1 else 100
            return (random.normal(size=leaf.shape) * (2 / fan_in) ** 0.5).astype(leaf.dtype)

        return jax.tree_util.tree_map_with_path(draw, shapes)

    return make

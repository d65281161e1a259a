"""Fixtures shared by all tests, and the devices that they see."""

import fcntl
import os
from collections.abc import Callable
from functools import partial
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
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from ml_collections import ConfigDict

from configs import temporal_gan_2019_grid
from flax_talk.systems import get_system
from flax_talk.training.checkpoints import Checkpoints, save_config
from flax_talk.training.step import init_state
from input_pipeline import faces, media
from input_pipeline.audio import samples_per_frame, window_samples
from input_pipeline.datasets.clips import ClipOptions
from input_pipeline.datasets.grid import Grid, GridConfig
from input_pipeline.prepare import prepare

DRAWN_SIZE = (64, 32)
DRAWN_RATE = 50_000


# Files whose tests take minutes: first, so that no worker waits for another at the end.
LONGEST = ("test_loop", "test_ablation", "test_app", "test_dub", "test_step", "test_evaluate")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    items.sort(key=lambda item: item.path.stem not in LONGEST)


@pytest.fixture(scope="session")
def real_media() -> Path:
    """Folder with real recordings (`grid/s26/*.mpg` and so on), which are not in the repository."""
    default = Path(__file__).resolve().parents[2] / "shared" / "real_media"
    folder = Path(os.environ.get("FLAX_TALK_REAL_MEDIA", default))
    if not folder.is_dir():
        pytest.skip(f"no real recordings in {folder}: set FLAX_TALK_REAL_MEDIA to their folder")
    return folder


@pytest.fixture(scope="session")
def rendered_data(tmp_path_factory) -> Path:
    """A data_dir with `synthetic_grid/tiny`, rendered once for all workers."""
    # Workers have folders of their own beside one another.
    shared = tmp_path_factory.getbasetemp()
    shared = shared.parent if "PYTEST_XDIST_WORKER" in os.environ else shared
    with (shared / "rendered.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        prepare("synthetic_grid:tiny", shared / "rendered")
    return shared / "rendered"


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


@pytest.fixture(scope="session")
def tiny_run(tmp_path_factory) -> Path:
    """A run of the tiny config whose best step was 3, its weights random."""
    workdir = tmp_path_factory.mktemp("run")
    config = temporal_gan_2019_grid.get_config("tiny")
    system = get_system(config.system)
    stride, window = system.audio_geometry(config)
    batch = {
        "still": jnp.zeros((1, 128, 96, 3), jnp.uint8),
        "video": jnp.zeros((1, 5, 128, 96, 3), jnp.uint8),
        "waveform": jnp.zeros((1, 4 * stride + window)),
    }
    # Shapes alone, filled here: compiling the initialisation would be the slowest part.
    init = partial(init_state, system, config, optax.identity())
    state = jax.eval_shape(init, batch)
    rng = np.random.default_rng(0)

    def weight(x):
        # As large as it takes for sound and noise to reach the picture.
        scale = np.sqrt(2 / np.prod(x.shape[:-1])) if len(x.shape) > 1 else 0.5
        return rng.normal(scale * (len(x.shape) == 1), scale, x.shape).astype(np.float32)

    def statistic(path, x):
        return np.full(x.shape, path[-1].key == "var", np.float32)

    params = jax.tree.map(weight, state.params)
    stats = jax.tree_util.tree_map_with_path(statistic, state.batch_stats)
    save_config(config, workdir)
    saved = Checkpoints(workdir, keep=1)
    saved.save_best(state.replace(step=3, params=params, batch_stats=stats))
    saved.close()
    return workdir


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
    time = np.arange(num_frames * DRAWN_RATE // 25) / DRAWN_RATE
    loudness = np.abs(np.sin(2 * np.pi * random.uniform(1, 3) * time + random.uniform(0, 6)))
    waveform = (0.5 * loudness * np.sin(2 * np.pi * 150 * time)).astype(np.float32)
    frames = np.full((num_frames, *DRAWN_SIZE, 3), random.integers(60, 200, 3), np.uint8)
    for frame, level in zip(frames, loudness[:: DRAWN_RATE // 25], strict=True):
        opening = round(8 * level)
        frame[44 - opening : 45 + opening, 8:24] = (120, 20, 20)
    return frames, waveform


@pytest.fixture(scope="session")
def drawn_clip() -> Callable[..., tuple[np.ndarray, np.ndarray]]:
    """`draw_clip`: frames at 25 fps and a waveform at `DRAWN_RATE`, by seed."""
    return draw_clip


@pytest.fixture(scope="session")
def drawn_face() -> type[FixedFace]:
    """The detector of drawings."""
    return FixedFace


@pytest.fixture
def fixed_face(monkeypatch) -> type[FixedFace]:
    """The detector of drawings in the place of dlib's, for as long as a test lasts."""
    monkeypatch.setitem(faces.DETECTORS, "dlib", FixedFace)
    monkeypatch.setattr(faces, "get_detector", lambda name="dlib": faces.DETECTORS[name]())
    return FixedFace


@pytest.fixture(scope="session")
def drawn_data(tmp_path_factory) -> str:
    """The data_dir of a prepared data set: speaker s1 with 8 clips, s2 with 3."""
    source, data_dir = (tmp_path_factory.mktemp(name) for name in ("corpus", "data"))
    for speaker, count in (("s1", 8), ("s2", 3)):
        for i in range(count):
            frames, waveform = draw_clip(10 * count + i)
            path = source / speaker / f"clip{i}.mp4"
            media.write_video(path, frames, 25.0, waveform, DRAWN_RATE)
    faces.DETECTORS["fixed"] = FixedFace
    options = ClipOptions(image_size=DRAWN_SIZE, audio_rate=DRAWN_RATE, detector="fixed")
    config = GridConfig(name="drawn", options=options)
    builder = Grid(source=source, config=config, data_dir=data_dir)
    builder.download_and_prepare(download_dir=tmp_path_factory.mktemp("downloads"))
    return str(data_dir)

"""What the benchmarks of generation run on, made from nothing: weights, faces and speech."""

from functools import partial

import cv2
import jax
import numpy as np
from ml_collections import ConfigDict

from flax_talk.animate import Generator, make_generator
from flax_talk.errors import UserError
from flax_talk.face_model.model import load_default
from flax_talk.systems import generating_players, get_system
from input_pipeline.audio import resample
from input_pipeline.speech import say
from input_pipeline.synthetic.appearance import make_speaker
from input_pipeline.synthetic.renderer import Renderer, portrait_pose

SENTENCES = (
    "place blue at f two now",
    "hello, I am a picture that learned to speak",
    "my mother baked five apple pies for everybody",
    "set green by k nine again, and then lay white with u zero please",
)


def drawn(config: ConfigDict, seed: int = 0) -> Generator:
    """A generator of any config with drawn weights: as fast as a trained one, and as large."""
    system, data = get_system(config.system), config.data
    stride, window = system.audio_geometry(config)
    t, (h, w) = data.num_frames, data.image_size
    batch = {
        "still": np.zeros((1, h, w, 3), np.uint8),
        "video": np.zeros((1, t, h, w, 3), np.uint8),
        "waveform": np.zeros((1, (t - 1) * stride + window), np.float32),
    }
    shapes = jax.eval_shape(partial(system.init, config), jax.random.key(0), batch)
    random = np.random.default_rng(seed)

    def draw(path, leaf):
        if path[-1].key in ("var", "scale"):
            return np.ones(leaf.shape, leaf.dtype)
        fan_in = np.prod(leaf.shape[:-1]) if len(leaf.shape) > 1 else 100
        return (random.standard_normal(leaf.shape, np.float32) * (2 / fan_in) ** 0.5).astype(
            leaf.dtype
        )

    wanted = generating_players(config.system)
    shapes = {player: entry for player, entry in shapes.items() if player in wanted}
    return make_generator(config, jax.tree_util.tree_map_with_path(draw, shapes))


def portrait(seed: int, size: tuple[int, int] = (256, 256)) -> np.ndarray:
    """A rendered person at rest: uint8 [H, W, 3]."""
    speaker = make_speaker(seed)
    pose = portrait_pose(speaker, size)[None]
    return Renderer(size).render(speaker, np.zeros((1, 29), np.float32), pose)[0]


def clip(seed: int, count: int, size: tuple[int, int] = (256, 256)) -> np.ndarray:
    """A rendered person who opens and closes the mouth: uint8 [T, H, W, 3]."""
    speaker, model = make_speaker(seed), load_default()
    opened = np.abs(np.sin(np.arange(count) / 4))[:, None] * model.unit_weights(jawOpen=0.5)
    pose = np.tile(portrait_pose(speaker, size), (count, 1))
    return Renderer(size).render(speaker, opened @ model.units_to_expression, pose)


def crop(config: ConfigDict, seed: int = 0) -> np.ndarray:
    """A rendered person in the config's size, about aligned: uint8 [H, W, 3]."""
    height, width = config.data.image_size
    face = portrait(seed)[30:226, 54:202]
    return cv2.resize(face, (width, height), interpolation=cv2.INTER_AREA)


def speech(rate: int, seconds: float, seed: int = 0) -> np.ndarray:
    """Sentences one after the other: float32 [S]; a buzz where espeak-ng is not installed."""
    try:
        spoken = [say(sentence) for sentence in SENTENCES]
    except UserError:
        time = np.arange(round(rate * seconds)) / rate
        return (0.5 * np.sin(600 * time + 40 * np.sin(20 * time))).astype(np.float32)
    said = [resample(part.waveform, part.sample_rate, rate) for part in spoken]
    once = np.concatenate(np.roll(np.array(said, object), seed).tolist())
    return np.resize(once, round(rate * seconds)).astype(np.float32)

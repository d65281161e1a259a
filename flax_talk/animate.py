"""Animates a still with a voice: the generator of a trained run, from files to a file.

The generator runs over chunks of a fixed number of frames, each continuing the recurrent state of
the one before, so that one compiled program serves any length and the memory in use does not
grow with it. Ours: what is written says in its tags that it is synthetic, as the ethics of the
papers ask.
"""

import itertools
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import flax.errors
import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict, FrozenConfigDict

from flax_talk.errors import UserError
from flax_talk.images import to_uint8
from flax_talk.labelling import mark, synthetic_tags
from flax_talk.systems import generating_players, get_system
from flax_talk.training.checkpoints import load_config, load_variables
from input_pipeline import faces, media
from input_pipeline.audio import crop_padded, pad_waveform, resample
from input_pipeline.speech import say

CHUNK_FRAMES = 25
SHIPPED = Path(__file__).parent / "checkpoints" / "temporal_gan_2019"
"""The checkpoint that comes with the package; `docs/results/shipped.md` is its card."""

DEFAULT_VOICE = "en-us"
"""Of `animate_files` for text; `input_pipeline.speech` explains the names."""

ALIGNED = "none"
"""The detector's name for stills that are aligned crops already."""


class Generator(NamedTuple):
    """A trained generator: config of its run, variables of what generates, the step they are of."""

    config: FrozenConfigDict
    variables: dict[str, Any]
    step: int


class Animation(NamedTuple):
    """What `animate_files` wrote: the file, its frames, frames per second, and the step used."""

    path: Path
    frames: int
    fps: float
    step: int


def load_generator(workdir: str | Path = SHIPPED) -> Generator:
    """The best generator of a run (the newest if the run was never validated).

    Args:
        workdir: folder that a run was trained in, or an exported checkpoint.

    Raises:
        UserError: the folder holds no run, or the run has saved nothing yet.
    """
    config = load_config(Path(workdir))
    variables, step = load_variables(Path(workdir))
    return make_generator(config, variables, step)


def make_generator(config: ConfigDict, variables: dict[str, Any], step: int = 0) -> Generator:
    """A generator from variables in memory, such as a train state's; other players are left out."""
    needed = [name for name in generating_players(config.system) if name in variables]
    generator = jax.device_put({name: variables[name] for name in needed})
    return Generator(FrozenConfigDict(config), generator, step)


def animate(
    model: Generator,
    still: np.ndarray,
    waveform: np.ndarray,
    seed: int = 0,
    chunk_frames: int = CHUNK_FRAMES,
) -> np.ndarray:
    """The face of `still`, saying `waveform`.

    Args:
        model: of `load_generator`.
        still: uint8 [H, W, 3] RGB, a crop of the config's image_size, aligned to the points of
            `input_pipeline.faces.alignment_target(config.data)`.
        waveform: float [S] mono in [-1, 1] at the config's audio_rate.
        seed: of the noise that moves what speech does not; same seed, same video.
        chunk_frames: frames generated at a time; changes memory and speed, not the video.

    Returns:
        uint8 [T, H, W, 3] RGB at the config's video_rate; T = S audio_rate / video_rate rounded,
        at least 1.

    Raises:
        UserError: a still or waveform of another shape or dtype.
    """
    return np.concatenate(list(animate_chunks(model, still, waveform, seed, chunk_frames)))


def animate_chunks(
    model: Generator,
    still: np.ndarray,
    waveform: np.ndarray,
    seed: int = 0,
    chunk_frames: int = CHUNK_FRAMES,
) -> Iterator[np.ndarray]:
    """The video of `animate` in pieces of `chunk_frames`, the last one shorter.

    Arguments and errors are those of `animate`; each piece is made when it is asked for.
    """
    config = model.config
    size = tuple(config.data.image_size)
    if still.dtype != np.uint8 or still.shape != (*size, 3):
        raise UserError(
            f"the still must be uint8 {[*size, 3]}, not {still.dtype} {list(still.shape)}: "
            "align it with input_pipeline.faces.align_still"
        )
    if waveform.ndim != 1 or not np.issubdtype(waveform.dtype, np.floating):
        raise UserError(
            f"the waveform must be float [S], not {waveform.dtype} {list(waveform.shape)}: "
            "read it with input_pipeline.media.read_audio"
        )
    if chunk_frames < 1:
        raise UserError(f"chunk_frames={chunk_frames}: generate at least 1 frame at a time")

    stride, window = get_system(config.system).audio_geometry(config)
    total = num_frames(config, waveform)
    padded_total = -(-total // chunk_frames) * chunk_frames
    # Cut to the frames first: sound after the last frame must not reach its window.
    padded = pad_waveform(waveform[: total * stride], padded_total, stride, window)
    constants = (config, model.variables, still[None], jax.random.key(seed)[None])
    carry = _initial_carry(*constants, padded[None, :window])
    for start in range(0, total, chunk_frames):
        audio = crop_padded(padded, start, chunk_frames, stride, window)
        video, carry = _generate(*constants, audio[None], carry)
        yield np.asarray(video)[: total - start]


def animate_files(
    still: str | Path,
    audio: str | Path | None,
    out: str | Path,
    checkpoint: str | Path = SHIPPED,
    *,
    text: str | None = None,
    voice: str = DEFAULT_VOICE,
    seed: int = 0,
    detector: str = "dlib",
    chunk_frames: int = CHUNK_FRAMES,
    visible_mark: bool = False,
) -> Animation:
    """Animates the face of a picture with recorded or synthetic speech, into an mp4 file.

    The video (H.264 and AAC) shows the aligned face, is as long as the speech to the nearest
    frame, and has a `title` and a `comment` that call it synthetic. It appears complete or not
    at all.

    Args:
        still: image file, or video file, whose first frame is taken.
        audio: audio file, or video file with sound; None where `text` is given.
        out: file to write, ending in .mp4; its folder is created.
        checkpoint: folder that a run was trained in, or an exported checkpoint.
        text: words to speak instead of `audio`.
        voice: of the text, see `input_pipeline.speech.say`.
        seed, chunk_frames: as in `animate`.
        detector: name of a face detector, or "none" for a still that is an aligned crop already
            and is only resized.
        visible_mark: write SYNTHETIC into every frame.

    Raises:
        UserError: a file that is missing or cannot be read, no face, no run in the folder, an
            unknown detector, nothing to say or nobody to say it, or a place that cannot be
            written.
    """
    out = Path(out)
    if out.suffix.lower() != ".mp4":
        raise UserError(f"{out}: only mp4 is written: give --out a name that ends in .mp4")
    inputs = [Path(path) for path in (still, audio) if path is not None]
    if out.exists() and any(path.exists() and out.samefile(path) for path in inputs):
        raise UserError(f"{out}: would overwrite its own input: give --out another name")
    # What is quick to find wrong comes first; the weights are the slowest to read.
    config = load_config(Path(checkpoint))
    fps, rate = config.data.video_rate, config.data.audio_rate
    crop = _aligned_still(still, detector, config.data)
    waveform = read_speech(audio, text, voice, rate)
    model = load_generator(checkpoint)

    chunks = animate_chunks(model, crop, waveform, seed, chunk_frames)
    frames = itertools.chain.from_iterable(chunks)
    frames = mark(frames) if visible_mark else frames
    media.write_video(out, frames, fps, waveform, rate, synthetic_tags(config.system))
    return Animation(out, num_frames(config, waveform), fps, model.step)


def read_speech(audio: str | Path | None, text: str | None, voice: str, rate: int) -> np.ndarray:
    """The waveform float [S] of a recording, or of a text that espeak-ng speaks.

    Args:
        audio, text, voice: as of `animate_files`.
        rate: Hz of what is returned.

    Raises:
        UserError: neither or both given, or what cannot be read or said.
    """
    if (audio is None) == (text is None):
        raise UserError("give either a recording (--audio) or words to speak (--text)")
    if text is None:
        return media.read_audio(audio, rate)
    speech = say(text, voice)
    return resample(speech.waveform, speech.sample_rate, rate)


def num_frames(config: ConfigDict, waveform: np.ndarray) -> int:
    """Frames T that last as long as a waveform [S] at the config's audio_rate, at least 1."""
    stride, _ = get_system(config.system).audio_geometry(config)
    return max(1, round(len(waveform) / stride))


def _aligned_still(path: str | Path, detector: str, data_config: ConfigDict) -> np.ndarray:
    # The detector first: its absence is known before the image is read.
    find = None if detector == ALIGNED else faces.get_detector(detector)
    image = media.read_still(path)
    size = tuple(data_config.image_size)
    if find is None:
        return cv2.resize(image, size[::-1], interpolation=cv2.INTER_AREA)
    return faces.align_still(image, find, size, faces.alignment_target(data_config), str(path))[0]


@partial(jax.jit, static_argnums=0)
def _generate(config, variables, still, rng, audio, carry):
    """One chunk, uint8 [T, H, W, 3], and the carry for the next."""
    video, carry = get_system(config.system).generate(config, variables, still, audio, rng, carry)
    return to_uint8(video[0]), carry


def _initial_carry(config, variables, still, rng, audio):
    """The zeros from which a video starts: with them the first chunk is like any other."""
    generate = partial(get_system(config.system).generate, config)
    try:
        _, carry = jax.eval_shape(generate, variables, still, audio, rng)
    except (flax.errors.FlaxError, KeyError) as error:  # lacks weights, or has others
        raise UserError(
            f"the weights do not fit their config ({' '.join(str(error).split())[:150]}): export "
            "the checkpoint again"
        ) from error
    return jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), carry)

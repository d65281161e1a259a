"""Animates a still with a voice: the generator of a trained run, from sound or files to a file.

Sound is a stream: the generator runs over chunks of a fixed number of frames as soon as their
sound is there, each continuing the recurrent state of the one before, so that one compiled program
serves any length and the memory in use does not grow with it. A whole file is a stream in one
piece. Ours: what is written says in its tags that it is synthetic, as the ethics of the papers ask.
"""

import itertools
from collections.abc import Iterable, Iterator
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import cv2
import flax.errors
import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict, FrozenConfigDict

from flax_talk.errors import UserError
from flax_talk.images import to_uint8
from flax_talk.labelling import mark, synthetic_tags
from flax_talk.systems import check_config, generating_players, get_system
from flax_talk.training.checkpoints import load_config, load_variables
from input_pipeline import faces, media
from input_pipeline.audio import pad_chunks, resample
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
        UserError: the folder holds no run, the run has saved nothing yet, or generates no video.
    """
    config = load_config(Path(workdir))
    if not hasattr(get_system(config.system), "generate"):
        raise UserError(
            f"{workdir} holds a run of {config.system}, which generates no video: "
            "give one of a system that does, such as temporal_gan_2019"
        )
    check_config(config, workdir)
    variables, step = load_variables(Path(workdir))
    return make_generator(config, variables, step)


def make_generator(config: ConfigDict, variables: dict[str, Any], step: int = 0) -> Generator:
    """A generator from variables in memory, such as a train state's; other players are left out."""
    needed = [name for name in generating_players(config.system) if name in variables]
    generator = jax.device_put({name: variables[name] for name in needed})
    prepare = getattr(get_system(config.system), "prepare", None)
    if prepare is not None:
        generator = prepare(config, generator)
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
    return np.concatenate(list(stream(model, still, [waveform], seed, chunk_frames)))


def stream(
    model: Generator,
    still: np.ndarray,
    chunks: Iterable[np.ndarray],
    seed: int = 0,
    chunk_frames: int = CHUNK_FRAMES,
) -> Iterator[np.ndarray]:
    """The video of `animate`, made while its sound arrives.

    A frame needs the sound of half a window after its middle, and `chunk_frames` frames are made at
    once: with windows of 0.2 s and one frame at a time it follows 80 ms after the last sound of its
    own. No more sound is held than that.

    Args:
        model, still, seed: as of `animate`.
        chunks: float [S] mono in [-1, 1] at the config's audio_rate, of any lengths; asked for one
            by one, when the sound before is used up.
        chunk_frames: frames generated at a time.

    Yields:
        uint8 [chunk_frames, H, W, 3] RGB, the last one shorter. Together, and up to the rounding
        of single pixels, they are what `animate` makes of the whole sound, however it is cut.

    Raises:
        UserError: as `animate`.
    """
    config = model.config
    size = tuple(config.data.image_size)
    if still.dtype != np.uint8 or still.shape != (*size, 3):
        raise UserError(
            f"the still must be uint8 {[*size, 3]}, not {still.dtype} {list(still.shape)}: "
            "align it with input_pipeline.faces.align_still"
        )
    if chunk_frames < 1:
        raise UserError(f"chunk_frames={chunk_frames}: generate at least 1 frame at a time")

    stride, window = get_system(config.system).audio_geometry(config)
    constants = (config, model.variables, jnp.asarray(still)[None], jax.random.key(seed)[None])
    carry = None
    for audio, count in pad_chunks(map(_checked, chunks), chunk_frames, stride, window):
        if carry is None:
            carry = _initial_carry(*constants, audio[None, :window])
        video, carry = _generate(*constants, audio[None], carry)
        yield np.asarray(video)[:count]


def _checked(waveform: np.ndarray) -> np.ndarray:
    if waveform.ndim != 1 or not np.issubdtype(waveform.dtype, np.floating):
        raise UserError(
            f"the waveform must be float [S], not {waveform.dtype} {list(waveform.shape)}: "
            "read it with input_pipeline.media.read_audio"
        )
    return waveform


def animate_files(
    still: str | Path,
    audio: str | Path | BinaryIO | None,
    out: str | Path,
    checkpoint: str | Path | Generator = SHIPPED,
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
    at all. Sound is read and frames are written as they come: an hour takes no more memory than a
    minute.

    Args:
        still: image file, or video file, whose first frame is taken.
        audio: audio file, or video file with sound, or such a file opened for reading bytes, which
            may be a pipe; None where `text` is given.
        out: file to write, ending in .mp4; its folder is created.
        checkpoint: folder that a run was trained in, or an exported checkpoint; or what
            `load_generator` made of it.
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
    inputs = [Path(path) for path in (still, audio) if isinstance(path, str | Path)]
    if out.exists() and any(path.exists() and out.samefile(path) for path in inputs):
        raise UserError(f"{out}: would overwrite its own input: give --out another name")
    # What is quick to find wrong comes first; the weights are the slowest to read.
    given = checkpoint if isinstance(checkpoint, Generator) else None
    config = given.config if given else load_config(Path(checkpoint))
    fps, rate = config.data.video_rate, config.data.audio_rate
    crop = aligned_still(still, detector, config.data)
    heard, written = itertools.tee(speech_chunks(audio, text, voice, rate))
    model = given or load_generator(checkpoint)

    frames: Iterator[np.ndarray] = itertools.chain.from_iterable(
        stream(model, crop, heard, seed, chunk_frames)
    )
    frames = mark(frames) if visible_mark else frames
    count = media.write_video(out, frames, fps, written, rate, synthetic_tags(config.system))
    return Animation(out, count, fps, model.step)


def read_speech(
    audio: str | Path | BinaryIO | None, text: str | None, voice: str, rate: int
) -> np.ndarray:
    """The waveform float [S] of a recording, or of a text that espeak-ng speaks.

    Arguments and errors are those of `speech_chunks`.
    """
    return np.concatenate(list(speech_chunks(audio, text, voice, rate)))


def speech_chunks(
    audio: str | Path | BinaryIO | None, text: str | None, voice: str, rate: int
) -> Iterator[np.ndarray]:
    """The pieces of a recording as they are decoded, or the speech of a text in one piece.

    Args:
        audio, text, voice: as of `animate_files`.
        rate: Hz of what is returned.

    Returns:
        Pieces float [S], of which the first is decoded already.

    Raises:
        UserError: neither or both given, or what cannot be read or said.
    """
    if (audio is None) == (text is None):
        raise UserError("give either a recording (--audio) or words to speak (--text)")
    if text is None:
        pieces = media.read_audio_chunks(audio, rate)
        return itertools.chain([next(pieces)], pieces)
    speech = say(text, voice)
    return iter([resample(speech.waveform, speech.sample_rate, rate)])


def aligned_still(
    still: str | Path | np.ndarray, detector: str, data_config: ConfigDict
) -> np.ndarray:
    """The crop of a picture that a generator takes: its largest face, aligned.

    Args:
        still: file as of `animate_files`, or uint8 [h, w, 3] RGB.
        detector: as of `animate_files`.
        data_config: of the generator's config.

    Returns:
        uint8 [H, W, 3].

    Raises:
        UserError: a picture that cannot be read, no face, or an unknown detector.
    """
    # The detector first: its absence is known before the image is read.
    find = None if detector == ALIGNED else faces.get_detector(detector)
    if isinstance(still, str | Path):
        image, name = media.read_still(still), str(still)
    else:
        image, name = np.asarray(still), "the still"
        if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3 or not image.size:
            raise UserError(
                f"the still must be uint8 [h, w, 3], not {image.dtype} {list(image.shape)}: "
                "convert it to RGB of 8 bits, or give a file"
            )
    size = tuple(data_config.image_size)
    if find is None:
        return cv2.resize(image, size[::-1], interpolation=cv2.INTER_AREA)
    return faces.align_still(image, find, size, faces.alignment_target(data_config), name)[0]


@partial(jax.jit, static_argnums=0)
def _generate(config, variables, still, rng, audio, carry):
    """One chunk, uint8 [T, H, W, 3], and the carry for the next."""
    video, carry = get_system(config.system).generate(config, variables, still, audio, rng, carry)
    return to_uint8(video[0]), carry


@partial(jax.jit, static_argnums=0)
def _initial_carry(config, variables, still, rng, audio):
    """Zeros, from which a video starts, and what its system remembers of the still: with them the
    first chunk is like any other."""
    system = get_system(config.system)
    generate = partial(system.generate, config)
    try:
        _, carry = jax.eval_shape(generate, variables, still, audio, rng)
    except (flax.errors.FlaxError, KeyError) as error:  # lacks weights, or has others
        raise UserError(
            f"the weights do not fit their config ({' '.join(str(error).split())[:150]}): export "
            "the checkpoint again"
        ) from error
    carry = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), carry)
    remember = getattr(system, "remember", None)
    return carry | remember(config, variables, still) if remember else carry

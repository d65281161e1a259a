"""The library in three lines: load a checkpoint, call it with a still and a voice, keep the video.

    talk = flax_talk.load()
    video = talk("me.jpg", "voice.wav")
    video.save("me.mp4")

No paper is behind it. What is here holds and passes on; the work is done by the functions of
`flax_talk.animate`, which whoever builds on the library calls instead (`docs/api.md`).
"""

import base64
import tempfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from ml_collections import FrozenConfigDict

from flax_talk import animate, labelling
from flax_talk.animate import DEFAULT_VOICE, SHIPPED, Generator
from flax_talk.errors import UserError
from input_pipeline import media
from input_pipeline.audio import resample, resample_chunks

Still = str | Path | np.ndarray
Audio = str | Path | BinaryIO | tuple[np.ndarray, int]

DEFAULT = "default"
"""The name of the checkpoint that comes with the package."""

STREAM_FRAMES = 5
"""Frames made at a time by `Talker.stream`: 0.2 s at 25 frames per second."""


@dataclass(frozen=True, eq=False, repr=False)
class Video:
    """A synthetic video in memory; a notebook shows it as a player.

    Attributes:
        frames: uint8 [T, H, W, 3] RGB.
        waveform: float32 [S] mono in [-1, 1], as long as the frames to within half of one.
        rate: samples per second of the waveform.
        fps: frames per second.
        system: name of the system that made it, for its tags.
    """

    frames: np.ndarray
    waveform: np.ndarray
    rate: int
    fps: float
    system: str

    @property
    def seconds(self) -> float:
        """How long it lasts."""
        return len(self.frames) / self.fps

    def save(self, path: str | Path, mark: bool = False) -> Path:
        """Writes an mp4 (H.264 and AAC), whose title and comment call it synthetic.

        Args:
            path: file to write, ending in .mp4; its folder is created.
            mark: write SYNTHETIC into every frame.

        Returns:
            The path.

        Raises:
            UserError: another ending, or a place that cannot be written.
        """
        path = Path(path)
        if path.suffix.lower() != ".mp4":
            raise UserError(f"{path}: only mp4 is written: give a name that ends in .mp4")
        frames = labelling.mark(self.frames) if mark else self.frames
        tags = labelling.synthetic_tags(self.system)
        media.write_video(path, frames, self.fps, self.waveform, self.rate, tags)
        return path

    def to_bytes(self, mark: bool = False) -> bytes:
        """The content of the file that `save` writes."""
        with tempfile.TemporaryDirectory() as folder:
            return self.save(Path(folder) / "video.mp4", mark).read_bytes()

    def _repr_html_(self) -> str:
        content = base64.b64encode(self.to_bytes()).decode()
        return (
            f'<video controls src="data:video/mp4;base64,{content}"></video>'
            f"<br><small>Synthetic: made by {self.system}</small>"
        )

    def __repr__(self) -> str:
        count, height, width, _ = self.frames.shape
        return f"Video({count} frames of {height}x{width}, {self.seconds:.2f} s, {self.system})"


class Talker:
    """A trained generator that is called with a still and speech.

    Args:
        model: of `flax_talk.animate.load_generator`, or of `make_generator` for variables in
            memory, such as those of a training that goes on.
    """

    def __init__(self, model: Generator):
        self.model = model

    @property
    def config(self) -> FrozenConfigDict:
        """Of the run that the generator is of."""
        return self.model.config

    def __call__(
        self,
        still: Still,
        audio: Audio | None = None,
        *,
        text: str | None = None,
        voice: str = DEFAULT_VOICE,
        seed: int = 0,
        detector: str = "dlib",
    ) -> Video:
        """The face of a picture, saying a recording or a text.

        Args:
            still: image file; video file, whose first frame is taken; or uint8 [h, w, 3] RGB. The
                largest face is aligned and cropped as the generator knows faces.
            audio: sound file, video file with sound, or such a file opened for reading bytes; or
                (waveform, rate): float [S] or [S, channels] in [-1, 1], or whole numbers of 16 or
                32 bits, and samples per second.
            text: words to speak instead, see `input_pipeline.speech.say`.
            voice: of the text, such as "en-us+f2".
            seed: of the noise that moves what speech does not; same seed, same video.
            detector: name of a face detector, or "none" for a still that is an aligned crop
                already and is only resized.

        Returns:
            Video, as long as the speech to the nearest frame.

        Raises:
            UserError: what cannot be read, no face, an unknown detector, or neither or both of
                audio and text.
        """
        data = self.config.data
        crop = animate.aligned_still(still, detector, data)
        waveform = _waveform(audio, text, voice, data.audio_rate)
        frames = animate.animate(self.model, crop, waveform, seed)
        return Video(frames, waveform, data.audio_rate, data.video_rate, self.config.system)

    def stream(
        self,
        still: Still,
        chunks: Iterable[np.ndarray],
        *,
        rate: int | None = None,
        seed: int = 0,
        detector: str = "dlib",
        chunk_frames: int = STREAM_FRAMES,
    ) -> Iterator[np.ndarray]:
        """Frames while the sound arrives; they carry no tags or mark (`flax_talk.labelling.mark`).

        Args:
            still, seed, detector: as of a call.
            chunks: float [S] mono in [-1, 1], of any lengths.
            rate: samples per second of the chunks; by default the config's audio_rate.
            chunk_frames: frames made at a time: fewer come sooner, more cost less.

        Returns:
            An iterator of uint8 [chunk_frames, H, W, 3], the last one shorter; together the frames
            of a call, up to the rounding of single pixels.

        Raises:
            UserError: as a call.
        """
        wanted = self.config.data.audio_rate
        if rate is not None and rate <= 0:
            raise UserError(f"a rate of {rate} samples per second: give one above 0")
        crop = animate.aligned_still(still, detector, self.config.data)
        heard = resample_chunks(map(_checked, chunks), rate or wanted, wanted)
        return animate.stream(self.model, crop, heard, seed, chunk_frames)

    def batch(
        self, pairs: Iterable[tuple[Still, Audio]], **options: Any
    ) -> Iterator[Video | UserError]:
        """A video for each pair of a still and a recording, made when it is asked for.

        A pair that cannot be animated ends nothing: its `UserError` comes in place of its video.

        Args:
            pairs: what a call takes.
            options: seed and detector, as of a call.
        """
        for still, audio in pairs:
            try:
                made: Video | UserError = self(still, audio, **options)
            except UserError as error:
                made = error
            yield made

    def __repr__(self) -> str:
        height, width = self.config.data.image_size
        return f"Talker({self.config.system}, step {self.model.step}, {height}x{width})"


def load(checkpoint: str | Path = DEFAULT) -> Talker:
    """A trained generator.

    Args:
        checkpoint: "default" for the one that comes with the package, the folder of a run of
            train.py, or a folder of `flax-talk export`.

    Raises:
        UserError: the folder holds no run, nothing saved yet, or what generates no video.
    """
    return Talker(animate.load_generator(SHIPPED if checkpoint == DEFAULT else checkpoint))


def _waveform(audio: Audio | None, text: str | None, voice: str, rate: int) -> np.ndarray:
    """float32 [S] at `rate` of what a call takes."""
    if not isinstance(audio, tuple) or text is not None:
        return animate.read_speech(audio, text, voice, rate)
    if len(audio) != 2 or not np.ndim(audio[0]) or np.ndim(audio[1]) or audio[1] <= 0:
        raise UserError(
            "sound in memory is (waveform, rate): give samples, then samples per second"
        )
    waveform, rate_in = np.asarray(audio[0]), int(audio[1])
    if np.issubdtype(waveform.dtype, np.signedinteger):
        waveform = waveform / np.float32(-np.iinfo(waveform.dtype).min)
    if waveform.ndim == 2:
        waveform = waveform.mean(axis=1)
    if not waveform.size:
        raise UserError("the waveform is empty: give at least one sample")
    return np.clip(resample(_checked(waveform), rate_in, rate), -1, 1)


def _checked(waveform: np.ndarray) -> np.ndarray:
    waveform = np.asarray(waveform)
    if waveform.ndim != 1 or not np.issubdtype(waveform.dtype, np.floating):
        raise UserError(
            f"the waveform must be float [S], not {waveform.dtype} {list(waveform.shape)}: "
            "average its channels and scale it to [-1, 1]"
        )
    if not np.isfinite(waveform).all():
        raise UserError("the waveform holds values that are not finite: repair the recording")
    return waveform

"""What a run leaves for people: TensorBoard events, metrics as JSON lines, sample videos.

Events are written with the `tensorboard` package alone, which needs no TensorFlow; it has no
video summary, so a video becomes an animated GIF in an image summary, its sound an audio summary.
What cannot be written, on a full disk say, is reported in one line: it does not end a run.
"""

import contextlib
import io
import json
import socket
import time
import wave
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

import jax
import numpy as np
from absl import logging
from PIL import Image
from tensorboard.compat.proto.event_pb2 import Event
from tensorboard.compat.proto.summary_pb2 import HistogramProto, Summary
from tensorboard.summary.writer.record_writer import RecordWriter

from flax_talk.errors import UserError
from flax_talk.evaluation.validation import Samples
from flax_talk.labelling import synthetic_tags
from input_pipeline import media

_BINS = 30
_COUNTED = 50_000  # of the entries of an array, evenly spread: a histogram needs no more


class Writer:
    """Writes into `<workdir>/tensorboard`, `<workdir>/metrics.jsonl` and `<workdir>/samples`."""

    def __init__(self, workdir: Path):
        self._workdir = workdir
        self._events: BinaryIO | None = None
        with self._reported("samples"):
            (workdir / "samples").mkdir(parents=True, exist_ok=True)

    def scalars(self, step: int, values: dict[str, float]) -> None:
        """Named numbers at a step."""
        self._add(step, [Summary.Value(tag=k, simple_value=v) for k, v in values.items()])
        with self._reported("metrics.jsonl"), (self._workdir / "metrics.jsonl").open("ab+") as file:
            # A full disk may have cut the line before.
            is_cut = file.tell() > 0 and file.seek(-1, io.SEEK_END) and file.read(1) != b"\n"
            line = json.dumps({"step": step, **values}) + "\n"
            file.write(("\n" * is_cut + line).encode())

    def samples(self, step: int, samples: Samples, fps: float, rate: int) -> None:
        """Generated clips below the real ones: a picture strip, a GIF and an mp4 with sound.

        Args:
            samples: of `Evaluator.samples`.
            fps: frames per second.
            rate: samples per second.
        """
        pairs = np.concatenate([samples.reference, samples.video], axis=2)
        frames = np.concatenate(list(pairs), axis=2)
        every = pairs[0][:: max(1, pairs.shape[1] // 10)]
        strip = np.concatenate(list(every), axis=1)
        # A GIF frame lasts hundredths of a second; every other frame at half the rate is exact.
        gif = [Image.fromarray(frame) for frame in frames[::2]]
        self._add(
            step,
            [
                _image_value("samples/strip", [Image.fromarray(strip)], "PNG"),
                _image_value("samples/video", gif, "GIF", duration=2000 / fps),
                _audio_value("samples/sound", samples.waveform, rate),
            ],
        )
        name = self._workdir / "samples" / f"step_{step:07d}"
        tags = synthetic_tags("samples of a run")
        with self._reported("samples"):
            Image.fromarray(strip).save(name.with_suffix(".png"))
            media.write_video(name.with_suffix(".mp4"), frames, fps, samples.waveform, rate, tags)

    def histograms(self, step: int, params: Any) -> None:
        """How the entries of each array of a tree are spread, such as a player's parameters."""
        leaves = jax.tree_util.tree_leaves_with_path(params)
        self._add(step, [_histogram_value(_tag(path), np.asarray(x)) for path, x in leaves])

    def close(self) -> None:
        """Closes the file of events."""
        with self._reported("tensorboard"):
            self._close_events()

    def _add(self, step: int, values: list) -> None:
        event = Event(wall_time=time.time(), step=step, summary=Summary(value=values))
        with self._reported("tensorboard"):
            try:
                self._events = self._events or self._open_events()
                RecordWriter(self._events).write(event.SerializeToString())
                self._events.flush()
            except OSError:
                # Nothing behind half an event is read: the next begins another file.
                with contextlib.suppress(OSError):
                    self._close_events()
                raise

    def _open_events(self) -> BinaryIO:
        now, folder = time.time(), self._workdir / "tensorboard"
        folder.mkdir(parents=True, exist_ok=True)
        # The name is what TensorBoard looks for; nanoseconds tell the files of a run apart.
        file = (folder / f"events.out.tfevents.{time.time_ns()}.{socket.gethostname()}").open("wb")
        RecordWriter(file).write(
            Event(wall_time=now, file_version="brain.Event:2").SerializeToString()
        )
        return file

    def _close_events(self) -> None:
        file, self._events = self._events, None
        if file is not None:
            file.close()

    @contextlib.contextmanager
    def _reported(self, what: str) -> Iterator[None]:
        try:
            yield
        except (OSError, UserError) as error:
            reason = getattr(error, "strerror", None) or error
            logging.warning("%s of %s not written: %s", what, self._workdir, reason)


def _image_value(tag: str, frames: list[Image.Image], kind: str, duration: float = 0):
    buffer = io.BytesIO()
    several = dict(save_all=True, append_images=frames[1:], loop=0, duration=duration)
    frames[0].save(buffer, kind, **(several if len(frames) > 1 else {}))
    width, height = frames[0].size
    image = Summary.Image(
        height=height, width=width, colorspace=3, encoded_image_string=buffer.getvalue()
    )
    return Summary.Value(tag=tag, image=image)


def _audio_value(tag: str, waveform: np.ndarray, rate: int):
    buffer = io.BytesIO()
    samples = np.rint(np.clip(waveform, -1, 1) * 32767).astype("<i2")
    with wave.open(buffer, "wb") as file:
        file.setparams((1, 2, rate, 0, "NONE", ""))
        file.writeframes(samples.tobytes())
    audio = Summary.Audio(
        sample_rate=rate,
        num_channels=1,
        length_frames=len(samples),
        encoded_audio_string=buffer.getvalue(),
        content_type="audio/wav",
    )
    return Summary.Value(tag=tag, audio=audio)


def _histogram_value(tag: str, array: np.ndarray):
    values = array.ravel()
    values = values[:: max(1, values.size // _COUNTED)].astype(np.float64)
    values = values[np.isfinite(values)]
    counts, edges = np.histogram(values, _BINS)
    histogram = HistogramProto(
        min=values.min(initial=0),
        max=values.max(initial=0),
        num=values.size,
        sum=values.sum(),
        sum_squares=np.square(values).sum(),
        bucket_limit=edges[1:],
        bucket=counts,
    )
    return Summary.Value(tag=tag, histo=histogram)


def _tag(path: tuple) -> str:
    return "/".join(["parameters", *(str(entry.key) for entry in path)])

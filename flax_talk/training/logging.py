"""What a run leaves for people: TensorBoard events, metrics as JSON lines, sample videos.

Events are written with the `tensorboard` package alone, which needs no TensorFlow; it has no
video summary, so a video becomes an animated GIF in an image summary.
"""

import io
import json
import time
from pathlib import Path

import numpy as np
from PIL import Image
from tensorboard.compat.proto.event_pb2 import Event
from tensorboard.compat.proto.summary_pb2 import Summary
from tensorboard.summary.writer.event_file_writer import EventFileWriter

from flax_talk.evaluation.validation import Samples
from input_pipeline import media


class Writer:
    """Writes into `<workdir>/tensorboard`, `<workdir>/metrics.jsonl` and `<workdir>/samples`."""

    def __init__(self, workdir: Path):
        self._workdir = workdir
        (workdir / "samples").mkdir(parents=True, exist_ok=True)
        self._events = EventFileWriter(str(workdir / "tensorboard"))

    def scalars(self, step: int, values: dict[str, float]) -> None:
        """Named numbers at a step."""
        self._add(step, [Summary.Value(tag=k, simple_value=v) for k, v in values.items()])
        with (self._workdir / "metrics.jsonl").open("a") as file:
            file.write(json.dumps({"step": step, **values}) + "\n")

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
            ],
        )
        name = self._workdir / "samples" / f"step_{step:07d}"
        Image.fromarray(strip).save(name.with_suffix(".png"))
        media.write_video(name.with_suffix(".mp4"), frames, fps, samples.waveform, rate)

    def close(self) -> None:
        """Flushes the events."""
        self._events.close()

    def _add(self, step: int, values: list) -> None:
        event = Event(wall_time=time.time(), step=step, summary=Summary(value=values))
        self._events.add_event(event)
        self._events.flush()


def _image_value(tag: str, frames: list[Image.Image], kind: str, duration: float = 0):
    buffer = io.BytesIO()
    several = dict(save_all=True, append_images=frames[1:], loop=0, duration=duration)
    frames[0].save(buffer, kind, **(several if len(frames) > 1 else {}))
    width, height = frames[0].size
    image = Summary.Image(
        height=height, width=width, colorspace=3, encoded_image_string=buffer.getvalue()
    )
    return Summary.Value(tag=tag, image=image)

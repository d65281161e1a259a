"""Clips, one by one or spread over processes, and what every recorded data set does to one.

`process_clips` runs a function of one clip over many; `process_clip` is that function for
recordings: decode, find and align the face, encode. Such functions are pure, so that the result
does not depend on the number of processes. Nothing here imports JAX: a worker process holds a
decoder and a face detector, no more.
"""

import itertools
import multiprocessing
import os
import signal
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import tensorflow_datasets as tfds

from flax_talk.errors import UserError
from input_pipeline import faces, media
from input_pipeline.faces import ClipError

_MAX_GAP = 0.4  # s without a face that are bridged
_MAX_SILENCE = 0.5  # s of padding at the end of a clip whose audio is shorter than its video
_AHEAD = 4  # clips in flight per worker: bounds the memory when writing is slower than reading


def clip_features() -> dict[str, Any]:
    """TFDS features that every data set has: those which the loader and the measures read.

    An example holds id and speaker (text), video (T JPEG images of the aligned face),
    waveform (int16 [S], S = T * audio_rate / video_rate), landmarks (float32 [T, 68, 2], (x, y)
    in crop pixels) and words (sequences word, start, end; seconds).
    """
    return {
        "id": tfds.features.Text(),
        "speaker": tfds.features.Text(),
        "video": tfds.features.Sequence(tfds.features.Tensor(shape=(), dtype=np.bytes_)),
        "waveform": tfds.features.Tensor(shape=(None,), dtype=np.int16),
        "landmarks": tfds.features.Tensor(shape=(None, 68, 2), dtype=np.float32),
        "words": segment_features("word"),
    }


def segment_features(name: str) -> tfds.features.Sequence:
    """The feature of named stretches of time: sequences `name` (text), start and end (s)."""
    fields = {name: tfds.features.Text(), "start": np.float32, "end": np.float32}
    return tfds.features.Sequence(fields)


@dataclass(frozen=True)
class ClipOptions:
    """How clips are prepared.

    image_size is the (H, W) of the crops in pixels, video_rate in frames per second, audio_rate
    in Hz, detector a name of `faces.DETECTORS`, jpeg_quality 1..100. max_angle, in degrees, leaves
    out clips whose head is turned further (the median of pitch, yaw or roll); None takes all.
    """

    image_size: tuple[int, int] = (128, 96)
    video_rate: float = 25.0
    audio_rate: int = 50_000
    detector: str = "dlib"
    jpeg_quality: int = 95
    max_angle: float | None = None


Result = dict[str, Any] | str
"""What became of a clip: its arrays, or the reason why it could not be used."""

Process = Callable[[Any], dict[str, Any]]
"""A function of a clip (such as its path), both of which can be pickled."""


def process_clip(path: str | Path, options: ClipOptions = ClipOptions()) -> dict[str, Any]:
    """Prepare one media file.

    Returns a dict of
      video: T JPEG images (bytes) of the aligned crops [H, W, 3], at options.video_rate;
      waveform: int16 [S] mono at options.audio_rate, S = T * audio_rate / video_rate;
      landmarks: float32 [T, 68, 2], (x, y) in crop pixels.

    Raises UserError where the file cannot be decoded, and ClipError (a UserError) where there is
    not one face throughout, the head is turned too far or the audio ends more than 0.5 s before
    the video.
    """
    frames = media.read_video(path, fps=options.video_rate).frames
    max_gap = round(_MAX_GAP * options.video_rate)
    found = faces.detect_video(frames, faces.get_detector(options.detector), max_gap=max_gap)
    _check_frontal(found, options.max_angle)
    crops, landmarks, _ = faces.align(frames, found, options.image_size)

    samples = round(len(frames) * options.audio_rate / options.video_rate)
    waveform = media.read_audio(path, options.audio_rate)[:samples]
    padding = samples - len(waveform)
    if padding > _MAX_SILENCE * options.audio_rate:
        lack = padding / options.audio_rate
        raise ClipError(f"the audio ends {lack:.2f} s before the video")
    waveform = np.pad(np.clip(waveform, -1, 1), (0, padding))
    return {
        "video": media.encode_frames(crops, quality=options.jpeg_quality),
        "waveform": np.rint(32767 * waveform).astype(np.int16),
        "landmarks": landmarks.astype(np.float32),
    }


def _check_frontal(landmarks: np.ndarray, max_angle: float | None) -> None:
    """ClipError where the head is turned too far, by landmarks [T, 68, 2] in frame pixels."""
    if max_angle is None:
        return
    angles = np.median(faces.head_pose(landmarks), axis=0)
    if np.abs(angles).max() >= max_angle:
        pitch, yaw, roll = angles.round().astype(int)
        raise ClipError(
            f"the head is turned: pitch {pitch}, yaw {yaw}, roll {roll} degrees, "
            f"of which none may reach {max_angle:g}"
        )


def _attempt(process: Process, clip: Any) -> Result:
    """`process(clip)`, or one line that says why it failed: no clip may end a long run."""
    try:
        return process(clip)
    except UserError as error:
        reason = str(error)
    except Exception as error:
        reason = f"{type(error).__name__}: {error}"
    return " ".join(reason.split())


def _start_worker() -> None:
    # One thread per worker: the clips are the parallelism. An interrupt is the parent's to handle.
    cv2.setNumThreads(1)
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def _pool(workers: int) -> ProcessPoolExecutor:
    # "spawn": a forked worker would inherit the threads and locks of whatever the parent runs.
    context = multiprocessing.get_context("spawn")
    return ProcessPoolExecutor(workers, mp_context=context, initializer=_start_worker)


def _attempt_alone(process: Process, clip: Any) -> Result:
    """`_attempt` in a process of its own, for clips of which one has killed its worker."""
    with _pool(1) as pool:
        try:
            pool.submit(os.getpid).result()
        except BrokenProcessPool as error:
            raise UserError(
                "worker processes cannot start: put the call under if __name__ == '__main__', "
                "or use jobs=1"
            ) from error
        try:
            return pool.submit(_attempt, process, clip).result()
        except BrokenProcessPool:
            return "the decoder crashed: the file is probably corrupt"


def _submit(pool: ProcessPoolExecutor, process: Process, clip: Any) -> Future:
    """A future even from a pool that has just broken, so that no clip is lost."""
    try:
        return pool.submit(_attempt, process, clip)
    except BrokenProcessPool as error:
        future: Future = Future()
        future.set_exception(error)
        return future


def _run_parallel(
    process: Process, clips: Iterable[Any], jobs: int
) -> Iterator[tuple[Any, Result]]:
    waiting: deque[tuple[Any, Future]] = deque()
    remaining = iter(clips)
    pool = _pool(jobs)
    try:
        while True:
            for clip in itertools.islice(remaining, _AHEAD * jobs - len(waiting)):
                waiting.append((clip, _submit(pool, process, clip)))
            if not waiting:
                return
            clip, future = waiting.popleft()
            try:
                result = future.result()
            except BrokenProcessPool:
                # A native crash takes the whole pool with it and does not say whose it was.
                pool.shutdown()
                suspects = [clip, *(other for other, _ in waiting)]
                waiting.clear()
                yield from ((suspect, _attempt_alone(process, suspect)) for suspect in suspects)
                pool = _pool(jobs)
            else:
                yield clip, result
    finally:
        pool.shutdown(cancel_futures=True)


def ignore(count: int) -> None:
    """The progress callback of those who do not watch."""


def process_clips(
    clips: Iterable[Any],
    process: Process,
    jobs: int = 1,
    progress: Callable[[int], object] = ignore,
) -> Iterator[tuple[Any, Result]]:
    """Process many clips, `jobs` at a time.

    Yields (clip, result) in the order of `clips`, whatever `jobs` is; a result is the dict of
    `process`, or a line (str) with the reason why the clip cannot be used: a clip that
    fails, or even crashes its decoder, never ends the run. With jobs=1 all work is done in
    this process; more need a main module that can be imported (`if __name__ == "__main__"`), or
    UserError is raised. `progress(1)` is called after each clip.
    """
    if jobs > 1:
        results = _run_parallel(process, clips, jobs)
    else:
        results = ((clip, _attempt(process, clip)) for clip in clips)
    for clip, result in results:
        progress(1)
        yield clip, result

"""The work on one clip, shared by every data set: decode, find and align the face, encode.

Pure functions of a path and frozen options, so that clips can be spread over processes and the
result does not depend on how many there are. Nothing here imports JAX: a worker process holds a
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

from flax_talk.errors import UserError
from input_pipeline import faces, media
from input_pipeline.faces import ClipError

_MAX_GAP = 0.4  # s without a face that are bridged
_MAX_SILENCE = 0.5  # s of padding at the end of a clip whose audio is shorter than its video
_AHEAD = 4  # clips in flight per worker: bounds the memory when writing is slower than reading


@dataclass(frozen=True)
class ClipOptions:
    """How clips are prepared.

    image_size is the (H, W) of the crops in pixels, video_rate in frames per second, audio_rate
    in Hz, detector a name of `faces.DETECTORS`, jpeg_quality 1..100.
    """

    image_size: tuple[int, int] = (128, 96)
    video_rate: float = 25.0
    audio_rate: int = 50_000
    detector: str = "dlib"
    jpeg_quality: int = 95


Result = dict[str, Any] | str
"""What became of a clip: its arrays, or the reason why it could not be used."""


def process_clip(path: str | Path, options: ClipOptions) -> dict[str, Any]:
    """Prepare one media file.

    Returns a dict of
      video: T JPEG images (bytes) of the aligned crops [H, W, 3], at options.video_rate;
      waveform: int16 [S] mono at options.audio_rate, S = T * audio_rate / video_rate;
      landmarks: float32 [T, 68, 2], (x, y) in crop pixels.

    Raises UserError where the file cannot be decoded, and ClipError (a UserError) where there is
    not one face throughout or the audio ends more than 0.5 s before the video.
    """
    frames = media.read_video(path, fps=options.video_rate).frames
    max_gap = round(_MAX_GAP * options.video_rate)
    found = faces.detect_video(frames, faces.get_detector(options.detector), max_gap=max_gap)
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


def _attempt(path: str | Path, options: ClipOptions) -> Result:
    """`process_clip`, or one line that says why it failed: no clip may end a long run."""
    try:
        return process_clip(path, options)
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


def _attempt_alone(path: str | Path, options: ClipOptions) -> Result:
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
            return pool.submit(_attempt, path, options).result()
        except BrokenProcessPool:
            return "the decoder crashed: the file is probably corrupt"


def _submit(pool: ProcessPoolExecutor, path: str | Path, options: ClipOptions) -> Future:
    """A future even from a pool that has just broken, so that no path is lost."""
    try:
        return pool.submit(_attempt, path, options)
    except BrokenProcessPool as error:
        future: Future = Future()
        future.set_exception(error)
        return future


def _run_parallel(
    paths: Iterable[str | Path], options: ClipOptions, jobs: int
) -> Iterator[tuple[str | Path, Result]]:
    waiting: deque[tuple[str | Path, Future]] = deque()
    remaining = iter(paths)
    pool = _pool(jobs)
    try:
        while True:
            for path in itertools.islice(remaining, _AHEAD * jobs - len(waiting)):
                waiting.append((path, _submit(pool, path, options)))
            if not waiting:
                return
            path, future = waiting.popleft()
            try:
                result = future.result()
            except BrokenProcessPool:
                # A native crash takes the whole pool with it and does not say whose it was.
                pool.shutdown()
                suspects = [path, *(other for other, _ in waiting)]
                waiting.clear()
                yield from ((suspect, _attempt_alone(suspect, options)) for suspect in suspects)
                pool = _pool(jobs)
            else:
                yield path, result
    finally:
        pool.shutdown(cancel_futures=True)


def ignore(count: int) -> None:
    """The progress callback of those who do not watch."""


def process_clips(
    paths: Iterable[str | Path],
    options: ClipOptions,
    jobs: int = 1,
    progress: Callable[[int], object] = ignore,
) -> Iterator[tuple[str | Path, Result]]:
    """Prepare many media files, `jobs` at a time.

    Yields (path, result) in the order of `paths`, whatever `jobs` is; a result is the dict of
    `process_clip`, or a line (str) with the reason why the clip cannot be used: a clip that
    fails, or even crashes its decoder, never ends the run. With jobs=1 all work is done in
    this process; more need a main module that can be imported (`if __name__ == "__main__"`), or
    UserError is raised. `progress(1)` is called after each clip.
    """
    if jobs > 1:
        results = _run_parallel(paths, options, jobs)
    else:
        results = ((path, _attempt(path, options)) for path in paths)
    for path, result in results:
        progress(1)
        yield path, result

"""Clips, one by one or spread over processes, and what every recorded data set does to one.

`process_clips` runs a function of one clip over many; `process_clip` is that function for
recordings: decode, find and align the face, encode. Such functions are pure, so that the result
does not depend on the number of processes. Nothing here imports JAX: a worker process holds a
decoder and a face detector, no more. What a clip is refused for, and by how much, is ours.
"""

import itertools
import multiprocessing
import os
import signal
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import cv2
import numpy as np
import tensorflow_datasets as tfds

from flax_talk.errors import UserError
from input_pipeline import faces, media
from input_pipeline.faces import ClipError

_MAX_SILENCE = 0.5  # s of padding at the end of a clip whose audio is shorter than its video
_MAX_LACK = 0.5  # s that a file may be shorter than it says
_MAX_LENGTH_ERROR = 0.2  # s
_MAX_UNSTEADY = 0.1  # share of the intervals between frames that may be half off the usual one
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


class StorageError(UserError):
    """What is prepared cannot be written, such as on a full disk."""


@dataclass(frozen=True)
class ClipOptions:
    """How clips are prepared.

    image_size is the (H, W) of the crops in pixels, video_rate in frames per second, audio_rate
    in Hz, detector a name of `faces.DETECTORS`, jpeg_quality 1..100. max_angle, in degrees, leaves
    out clips whose head is turned further (the median of pitch, yaw or roll); None takes all.
    length, in seconds, is what every clip of the corpus lasts, to 0.2 s; None takes all of at least
    min_length. Up to max_gap seconds without a face are bridged; on_gap says what becomes of clips
    with longer gaps: "drop" them, or "split" them into stretches of at least min_length.
    """

    image_size: tuple[int, int] = (128, 96)
    video_rate: float = 25.0
    audio_rate: int = 50_000
    detector: str = "dlib"
    jpeg_quality: int = 95
    max_angle: float | None = None
    length: float | None = None
    min_length: float = 0.2
    max_gap: float = 0.4
    on_gap: Literal["drop", "split"] = "drop"


Result = dict[str, Any] | str
"""What became of a clip: its arrays, or the reason why it could not be used."""

Process = Callable[[Any], dict[str, Any]]
"""A function of a clip (such as its path), both of which can be pickled."""


def process_clip(path: str | Path, options: ClipOptions = ClipOptions()) -> dict[str, Any]:
    """Prepare one media file.

    Returns a dict of
      video: T JPEG images (bytes) of the aligned crops [H, W, 3], at options.video_rate;
      waveform: int16 [S] mono at options.audio_rate, S = T * audio_rate / video_rate;
      landmarks: float32 [T, 68, 2], (x, y) in crop pixels;
      stretches: the ranges of frames with a face, all of them in one unless options.on_gap is
        "split"; see `cut`.

    Raises UserError where the file cannot be decoded, and ClipError (a UserError) where it is
    truncated, has another length than it should or a variable frame rate, where there is not one
    face throughout, the head is turned too far or the audio ends more than 0.5 s before the video.
    """
    video = media.read_video(path, fps=options.video_rate)
    waveform = media.read_audio(path, options.audio_rate)
    frames = video.frames
    _check_whole(video, len(waveform) / options.audio_rate, options)

    detector = faces.get_detector(options.detector)
    max_gap = round(options.max_gap * options.video_rate)
    if options.on_gap == "split":
        found, stretches = faces.detect_stretches(frames, detector, max_gap=max_gap)
        min_frames = options.min_length * options.video_rate
        stretches = [stretch for stretch in stretches if len(stretch) >= min_frames]
        if not stretches:
            raise ClipError(f"a face for no more than {options.min_length:g} s at a time")
    else:
        found = faces.detect_video(frames, detector, max_gap=max_gap)
        stretches = [range(len(frames))]
    _check_frontal(found, options.max_angle)
    crops, landmarks, _ = faces.align(frames, found, options.image_size)

    samples = round(len(frames) * options.audio_rate / options.video_rate)
    waveform = np.clip(waveform[:samples], -1, 1)
    waveform = np.pad(waveform, (0, samples - len(waveform)))
    return {
        "video": media.encode_frames(crops, quality=options.jpeg_quality),
        "waveform": np.rint(32767 * waveform).astype(np.int16),
        "landmarks": landmarks.astype(np.float32),
        "stretches": stretches,
    }


def cut(example: dict[str, Any], options: ClipOptions) -> list[dict[str, Any]]:
    """The examples of the stretches of a clip's example, which has `stretches` of `process_clip`.

    One that goes on throughout stays what it is. Of others the ids are counted, -1, -2 and so on,
    per-frame arrays are cut, and words, phonemes and the like stay where they lie wholly inside;
    text is that of the words, since the whole sentence is not spoken.
    """
    example = dict(example)
    stretches, length = example.pop("stretches"), len(example["video"])
    if stretches == [range(length)]:
        return [example]
    return [
        {
            name: _cut_feature(name, value, stretch, length, options)
            for name, value in example.items()
        }
        | {"id": f"{example['id']}-{number}"}
        | _cut_text(example, stretch, options)
        for number, stretch in enumerate(stretches, 1)
    ]


def _cut_feature(name: str, value: Any, stretch: range, length: int, options: ClipOptions) -> Any:
    if name == "waveform":
        per_frame = options.audio_rate / options.video_rate
        return value[round(stretch.start * per_frame) : round(stretch.stop * per_frame)]
    if isinstance(value, list) and value and isinstance(value[0], dict):
        return _cut_segments(value, stretch, options)
    if isinstance(value, list | np.ndarray) and len(value) == length:
        return value[stretch.start : stretch.stop]
    return value


def _cut_segments(
    segments: list[dict[str, Any]], stretch: range, options: ClipOptions
) -> list[dict[str, Any]]:
    start, end = stretch.start / options.video_rate, stretch.stop / options.video_rate
    inside = [s for s in segments if start <= s["start"] and s["end"] <= end]
    return [{**s, "start": s["start"] - start, "end": s["end"] - start} for s in inside]


def _cut_text(example: dict[str, Any], stretch: range, options: ClipOptions) -> dict[str, str]:
    if "text" not in example:
        return {}
    words = _cut_segments(example["words"], stretch, options)
    return {"text": " ".join(entry["word"] for entry in words)}


def _check_whole(video: media.Video, sound: float, options: ClipOptions) -> None:
    """ClipError where a file lacks something; `sound` is its duration in seconds."""
    seconds = len(video.frames) / options.video_rate
    if video.declared and (lack := video.declared - max(seconds, sound)) > _MAX_LACK:
        raise ClipError(f"truncated: {lack:.2f} s of {video.declared:.2f} s are missing")
    if options.length and abs(seconds - options.length) > _MAX_LENGTH_ERROR:
        raise ClipError(f"wrong length: {seconds:.2f} s where {options.length:g} s were expected")
    if seconds < options.min_length:
        raise ClipError(f"wrong length: {seconds:.2f} s, less than {options.min_length:g} s")
    intervals = np.diff(video.times)
    usual = np.median(intervals) if len(intervals) else 0.0
    unsteady = np.abs(intervals - usual) > usual / 2
    if unsteady.sum() > _MAX_UNSTEADY * len(intervals):
        low, high = (round(1000 * value) for value in np.quantile(intervals, (0, 1)))
        raise ClipError(f"variable frame rate: {low} to {high} ms from frame to frame")
    if len(intervals) and intervals.max() > max(options.max_gap, 2 * usual):
        raise ClipError(f"frames are missing for {intervals.max():.2f} s")
    if seconds - sound > _MAX_SILENCE:
        raise ClipError(f"the audio ends {seconds - sound:.2f} s before the video")


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


def attempt(process: Process, clip: Any) -> Result:
    """`process(clip)`, or one line that says why it failed: no clip may end a long run.

    A StorageError is raised: the clip is not to blame.
    """
    try:
        return process(clip)
    except StorageError:
        raise
    except UserError as error:
        reason = str(error)
    except Exception as error:
        reason = f"{type(error).__name__}: {error}"
    return " ".join(reason.split())


def _start_worker() -> None:
    # One thread per worker: the clips are the parallelism. An interrupt is the parent's to handle.
    cv2.setNumThreads(1)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_leave_with_parent, daemon=True).start()


def _leave_with_parent() -> None:
    # Nobody tells a worker that its parent was killed: it would wait for work for ever.
    if (parent := multiprocessing.parent_process()) is not None:
        parent.join()
        os._exit(1)


def _pool(workers: int) -> ProcessPoolExecutor:
    # "spawn": a forked worker would inherit the threads and locks of whatever the parent runs.
    context = multiprocessing.get_context("spawn")
    return ProcessPoolExecutor(workers, mp_context=context, initializer=_start_worker)


def _attempt_alone(process: Process, clip: Any) -> Result:
    """`attempt` in a process of its own, for clips of which one has killed its worker."""
    with _pool(1) as pool:
        try:
            pool.submit(os.getpid).result()
        except BrokenProcessPool as error:
            raise UserError(
                "worker processes cannot start: put the call under if __name__ == '__main__', "
                "or use jobs=1"
            ) from error
        try:
            return pool.submit(attempt, process, clip).result()
        except BrokenProcessPool:
            return "the decoder crashed: the file is probably corrupt"


def _submit(pool: ProcessPoolExecutor, process: Process, clip: Any) -> Future:
    """A future even from a pool that has just broken, so that no clip is lost."""
    try:
        return pool.submit(attempt, process, clip)
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
    UserError is raised. `progress(1)` is called after each clip. A StorageError of `process` is
    passed on.
    """
    if jobs > 1:
        results = _run_parallel(process, clips, jobs)
    else:
        results = ((clip, attempt(process, clip)) for clip in clips)
    for clip, result in results:
        progress(1)
        yield clip, result

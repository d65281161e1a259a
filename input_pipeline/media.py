"""Decodes and encodes media: the only module that knows containers and image files.

Video and audio go through PyAV (no ffmpeg program is needed), image files through Pillow. Whatever
the container, codec, frame rate or sampling rate of a file, it comes out as RGB frames at a given
rate and a mono waveform that share one time zero, the instant of the first frame. No paper is
behind it; frames are chosen by the nearest presentation time, so that lips stay on their sound.
Files are not trusted: what is damaged, larger than the memory, or made to do harm ends in one line.
"""

import contextlib
import io
import itertools
import os
import uuid
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from fractions import Fraction
from pathlib import Path
from typing import BinaryIO, NamedTuple

import av
import cv2
import numpy as np
from av.stream import Disposition
from PIL import Image, ImageOps, UnidentifiedImageError

from flax_talk.errors import UserError
from input_pipeline.audio import resample_chunks

Source = str | Path | bytes | BinaryIO

MAX_IMAGE_PIXELS = 100_000_000
LONGEST_HOLD = 60.0
"""Seconds that one frame may be shown, or sound be missing: more are damaged time stamps."""

AUDIO_RATES = range(1_000, 768_001)
"""Samples per second that a file may have."""

# Formats that hold what they show: no playlists, which name other files, and nothing that is run.
_IMAGE_FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "TIFF", "GIF", "PPM", "JPEG2000")
_CONTAINERS = (
    *("aac", "ac3", "aiff", "amr", "asf", "au", "avi", "caf", "dv", "eac3", "flac", "flv", "gif"),
    *("h264", "hevc", "ivf", "m4v", "matroska", "mjpeg", "mov", "mp3", "mpeg", "mpegts"),
    *("mpegvideo", "mxf", "nut", "ogg", "rm", "w64", "wav"),
)
# Sound whose time stamps jump by more than this has a hole; less is rounding of the stamps.
_AUDIO_HOLE_SECONDS = 0.05
# Without this tag players take large videos for BT.709, and skin turns slightly green.
_BT601 = 6
_FALLBACK_AUDIO_RATE = 48_000


class Video(NamedTuple):
    """Frames at a steady rate, and what the file itself had.

    frames: uint8 [T, H, W, 3] RGB. fps: frames per second. times: seconds at which the frames of
    the file are shown, float [N], as far as they were read. declared: seconds that the file says it
    lasts, sound included, or None.
    """

    frames: np.ndarray
    fps: float
    times: np.ndarray
    declared: float | None


def read_video(source: Source, fps: float = 25.0, max_frames: int | None = None) -> Video:
    """Reads the frames of a video file, at `fps` whatever the rate of the file.

    Frame k is the one whose presentation time is nearest to k / fps after the first frame, so
    that a file at `fps` comes through one to one. Display rotation is applied.

    Args:
        source: path of the file, or its content.
        fps: frames per second wanted.
        max_frames: reads no further than this many frames.

    Returns:
        Video with contiguous uint8 frames [T, H, W, 3], T >= 1.

    Raises:
        UserError: no such file, no video stream, not one frame that can be decoded, or more than
            fits into the memory.
    """
    with _open(source) as container:
        stream = _video_stream(container)
        if stream is None:
            raise UserError(f"{_name(source)}: no video stream: give a video file")
        declared = container.duration / av.time_base if container.duration else None
        times: list[float] = []
        interval = float(1 / stream.average_rate) if stream.average_rate else 1 / fps
        chosen = _nearest_in_time(_decode(container, stream), interval, fps, times)
        size = stream.width, stream.height
        _check_pixels(size, source)
        # Once in the list, and once more when they are put together.
        frames, room = [], _free_memory() // 2
        for frame in itertools.islice(chosen, max_frames):
            frames.append(_upright_rgb(frame, size))
            if len(frames) * frames[0].nbytes > room:
                raise UserError(
                    f"{_name(source)}: after {len(frames)} frames of {size[0]}x{size[1]} the "
                    "memory is full: give a shorter or a smaller video"
                )
    if not frames:
        raise UserError(f"{_name(source)}: no frame can be decoded: replace the damaged file")
    return Video(np.stack(frames), fps, np.array(times), declared)


def read_audio(source: Source, rate: int) -> np.ndarray:
    """Reads the first audio stream as a mono waveform.

    Time zero is the first video frame where the file has video, else the first sound: a stream
    that starts later is preceded by zeros, one that starts earlier is cut.

    Args:
        source: path of an audio or video file, or its content.
        rate: samples per second wanted.

    Returns:
        float32 [S] in [-1, 1], the mean of all channels, S >= 1.

    Raises:
        UserError: no such file, no audio stream, no sound that can be decoded, samples that are
            no numbers, or more than fits into the memory.
    """
    # The pieces, and what they are put together into.
    room, pieces = _free_memory() // 8, []
    for piece in read_audio_chunks(source, rate):
        pieces.append(piece)
        room -= len(piece)
        if room < 0:
            seconds = sum(map(len, pieces)) / rate
            raise UserError(
                f"{_name(source)}: after {seconds:.0f} s of sound the memory is full: give a "
                "shorter file"
            )
    return np.concatenate(pieces)


def read_audio_chunks(source: Source, rate: int) -> Iterator[np.ndarray]:
    """The waveform of `read_audio` in pieces, as they are decoded; none of them is held.

    Args:
        source: as of `read_audio`, or what can be read once, such as standard input; that has its
            first sound at time zero, also beside video.
        rate: samples per second wanted.

    Yields:
        float32 [S], S >= 1, a fraction of a second each; at least one.

    Raises:
        UserError: as `read_audio`, where the piece is asked for that shows it.
    """
    with _open(source) as container:
        if not container.streams.audio:
            raise UserError(f"{_name(source)}: no audio stream: give a file with sound")
        stream = container.streams.audio[0]
        if stream.rate not in AUDIO_RATES:
            raise ValueError(f"{stream.rate} samples per second")
        has_video = _video_stream(container) is not None
        zero = _first_frame_time(source) if has_video and not hasattr(source, "read") else None
        frames = _decode(container, stream)
        pieces = ((frame.time or 0.0, _mono(frame, stream.rate)) for frame in frames)
        joined = _join(pieces, zero, stream.rate, _name(source))
        is_silent = True
        for piece in filter(len, resample_chunks(joined, stream.rate, rate)):
            if not np.isfinite(piece).all():
                raise UserError(
                    f"{_name(source)}: its sound has samples that are no numbers: make it again"
                )
            is_silent = False
            yield np.clip(piece, -1, 1)
        if is_silent:
            raise UserError(f"{_name(source)}: no sound can be decoded: replace the damaged file")


def read_image(path: str | Path) -> np.ndarray:
    """Reads an image file, upright by its EXIF orientation; transparency is ignored.

    Returns:
        uint8 [H, W, 3] RGB; 16 bits are scaled to 8 and grey becomes three equal channels.

    Raises:
        UserError: no such file, not an image, one that is cut off or damaged, or more than
            `MAX_IMAGE_PIXELS` pixels.
    """
    with _open_image(path) as image:
        if image is None:
            raise UserError(f"{path}: not an image file: give a JPEG or PNG")
        _check_pixels(image.size, path)
        try:
            return _rgb(ImageOps.exif_transpose(image))
        except Exception as error:  # A damaged file can fail in any way.
            raise UserError(
                f"{path}: the image cannot be decoded ({error}): replace the damaged file"
            ) from error


def read_still(path: str | Path) -> np.ndarray:
    """Reads an image file, or the first frame of a video file, as uint8 [H, W, 3] RGB.

    Raises:
        UserError: no such file, or neither an image nor a video.
    """
    with _open_image(path) as image:
        is_image = image is not None
    if is_image:
        return read_image(path)
    try:
        return read_video(path, max_frames=1).frames[0]
    except _NotMedia as error:
        raise UserError(f"{path}: neither an image nor a video: give a JPEG or PNG") from error


def write_video(
    path: str | Path,
    frames: Iterable[np.ndarray],
    fps: float,
    waveform: np.ndarray | Iterable[np.ndarray] | None = None,
    rate: int | None = None,
    metadata: Mapping[str, str] | None = None,
) -> int:
    """Writes an mp4 (H.264 and AAC) that appears complete or not at all.

    Odd sizes grow by one repeated row or column, which the codec needs; the sound is cut or
    followed by silence to last as long as the frames.

    Args:
        path: file to write; its folder is created.
        frames: uint8 [T, H, W, 3] RGB, or an iterator of [H, W, 3], of which only one at a time is
          held.
        fps: frames per second.
        waveform: float [S] mono in [-1, 1], or an iterator of such pieces, of which no more is held
          than the frames ask for.
        rate: samples per second of `waveform`.
        metadata: tags for the file.

    Returns:
        How many frames it has.

    Raises:
        UserError: no frames, frames or waveform of a wrong shape or dtype, a waveform without rate,
          or a place that cannot be written.
    """
    path = Path(path)
    partial = path.with_name(f".{uuid.uuid4().hex}.partial")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            with _create_mp4(partial, metadata) as container:
                count = _encode(container, _even_frames(frames, path), fps, waveform, rate)
            os.replace(partial, path)
        finally:
            partial.unlink(missing_ok=True)
    except (av.error.FFmpegError, OSError) as error:
        raise UserError(
            f"{path}: cannot be written ({error.strerror}): check the folder and its free space"
        ) from error
    return count


def encode_frames(frames: np.ndarray, quality: int = 95) -> list[bytes]:
    """Encodes frames as JPEG images, chroma in full resolution.

    Args:
        frames: uint8 [T, H, W, 3] RGB.
        quality: 1..100.

    Returns:
        T encoded images.
    """
    full_chroma = cv2.IMWRITE_JPEG_SAMPLING_FACTOR_444
    options = [
        *(cv2.IMWRITE_JPEG_QUALITY, quality),
        *(cv2.IMWRITE_JPEG_SAMPLING_FACTOR, full_chroma),
    ]
    return [
        cv2.imencode(".jpg", cv2.cvtColor(frame, cv2.COLOR_RGB2BGR), options)[1].tobytes()
        for frame in frames
    ]


def decode_frames(images: Sequence[bytes]) -> np.ndarray:
    """Decodes JPEG images of one size to uint8 [T, H, W, 3] RGB.

    Raises:
        UserError: no images, or one that cannot be decoded.
    """
    if not len(images):
        raise UserError("no frames to decode: prepare the data again")
    return np.stack([_decode_image(image, index) for index, image in enumerate(images)])


def _decode_image(image: bytes, index: int) -> np.ndarray:
    # OpenCV refuses an empty buffer with an exception of its own.
    buffer = np.frombuffer(image or b"\0", np.uint8)
    decoded = cv2.imdecode(buffer, cv2.IMREAD_COLOR_RGB)
    if decoded is None:
        raise UserError(f"frame {index} is not a JPEG image: prepare the damaged data again")
    return decoded


def _name(source: Source) -> str:
    if isinstance(source, bytes):
        return f"{len(source)} bytes"
    return str(source if isinstance(source, str | Path) else getattr(source, "name", source))


def _check_exists(path: str | Path) -> None:
    if not Path(path).is_file():
        raise UserError(f"{path}: no such file: check the path")


def _check_pixels(size: tuple[int, int], source: Source) -> None:
    if size[0] * size[1] > MAX_IMAGE_PIXELS:
        raise UserError(
            f"{_name(source)}: {size[0]}x{size[1]} is over the limit of {MAX_IMAGE_PIXELS} "
            "pixels: give a smaller one"
        )


def _free_memory() -> int:
    """Bytes that can be had without swapping; a guess where the system does not tell."""
    try:
        with open("/proc/meminfo") as file:
            fields = dict(line.split(":") for line in file)
        return 1024 * int(fields["MemAvailable"].split()[0])
    except (OSError, KeyError, ValueError):
        return 8 * 2**30


@contextlib.contextmanager
def _open_image(path: str | Path) -> Iterator[Image.Image | None]:
    """An image file by its header, whatever its name, without decoding; None if it is none."""
    _check_exists(path)
    # What Pillow warns of, large images and odd tags, is judged here.
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            image = Image.open(path, formats=_IMAGE_FORMATS)
        except Image.DecompressionBombError as error:
            raise UserError(f"{path}: too many pixels ({error}): give a smaller image") from error
        except UnidentifiedImageError:
            image = None
        except Exception as error:  # A damaged header can fail in any way.
            raise UserError(
                f"{path}: cannot be read ({error}): replace the damaged file"
            ) from error
        with image or contextlib.nullcontext():
            yield image


def _rgb(image: Image.Image) -> np.ndarray:
    """uint8 [H, W, 3] of any mode of Pillow's."""
    if image.mode == "F":
        raise ValueError("its pixels are not whole numbers")
    if image.mode.startswith("I"):  # 16 bits of grey
        grey = np.rint(np.clip(np.asarray(image, np.float32), 0, 65535) / 257)
        return np.repeat(grey.astype(np.uint8)[..., None], 3, axis=-1)
    return np.array(image.convert("RGB"))


class _NotMedia(UserError):
    """Neither video nor sound as far as the decoder can tell."""


@contextlib.contextmanager
def _open(source: Source) -> Iterator[av.container.InputContainer]:
    if isinstance(source, str | Path):
        _check_exists(source)
        source = str(source)
    opened = io.BytesIO(source) if isinstance(source, bytes) else source
    options = {"format_whitelist": ",".join(_CONTAINERS)}
    try:
        with av.open(opened, "r", options=options, metadata_errors="replace") as container:
            yield container
    except UserError:
        raise
    except Exception as error:  # A damaged file can fail in any way.
        reason = getattr(error, "strerror", None) or error
        raise _NotMedia(
            f"{_name(source)}: cannot be read as video or audio ({reason}): give another file"
        ) from error


def _video_stream(container: av.container.InputContainer) -> av.VideoStream | None:
    """The first video stream; the cover picture of a song is none."""
    streams = container.streams.video
    return next((s for s in streams if not s.disposition & Disposition.attached_pic), None)


def _decode(container: av.container.InputContainer, stream: av.stream.Stream) -> Iterator:
    """Frames in presentation order; damaged packets are left out."""
    for packet in container.demux(stream):
        with contextlib.suppress(av.error.InvalidDataError):
            yield from packet.decode()


def _nearest_in_time(
    frames: Iterable[av.VideoFrame], interval: float, fps: float, times: list[float]
) -> Iterator[av.VideoFrame]:
    """For each instant k / fps, the frame presented nearest to it; the earlier of a gap holds.

    `interval` is that of the source's frames in seconds; their times are added to `times`.
    """
    shown, shown_time, count = None, 0.0, 0
    for index, frame in enumerate(frames):
        # Raw streams have no time stamps, only a rate.
        time = index * interval if frame.time is None else frame.time
        times.append(time)
        if shown is None:
            zero = shown_time = time
        if time - shown_time > LONGEST_HOLD:
            raise ValueError(f"its time stamps jump from {shown_time:.6g} to {time:.6g} s")
        while shown is not None and count / fps < (shown_time + time) / 2 - zero:
            yield shown
            count += 1
        shown, shown_time = frame, time
    if shown is not None:
        unit = shown.time_base
        last = float(shown.duration * unit) if shown.duration and unit else interval
        total = max(1, round((shown_time + min(last, LONGEST_HOLD) - zero) * fps))
        yield from itertools.repeat(shown, total - count)


def _upright_rgb(frame: av.VideoFrame, size: tuple[int, int]) -> np.ndarray:
    rgb = frame.reformat(width=size[0], height=size[1], format="rgb24").to_ndarray()
    return np.rot90(rgb, frame.rotation // 90)


def _first_frame_time(source: Source) -> float | None:
    """Presentation time in seconds of the first frame that `read_video` would return."""
    with _open(source) as container:
        stream = _video_stream(container)
        frame = stream and next(_decode(container, stream), None)
        return (frame.time or 0.0) if frame else None


def _mono(frame: av.AudioFrame, rate: int) -> np.ndarray:
    # A converter for each frame, since some broadcasts change their layout midway.
    converter = av.AudioResampler(format="fltp", rate=rate)
    planes = [*converter.resample(frame), *converter.resample(None)]
    return np.concatenate([part.to_ndarray().mean(axis=0) for part in planes])


def _join(
    pieces: Iterable[tuple[float, np.ndarray]], zero: float | None, rate: int, name: str
) -> Iterator[np.ndarray]:
    """Pieces of sound, (seconds, float32 [S]), from the time zero on, without holes.

    Pieces follow each other; only at a hole does a piece go where its time stamp says, since the
    stamps of some containers are rounded to milliseconds. Zero is the first stamp where it is None;
    `name` is the file's, for the error where a hole is too long to be one.
    """
    end, before = None, 0.0
    for time, samples in pieces:
        zero = time if zero is None else zero
        time -= zero
        if time - before > LONGEST_HOLD:
            raise UserError(
                f"{name}: its sound has a hole of more than {LONGEST_HOLD:.0f} s: write the file "
                "again"
            )
        start, before = round(time * rate), time
        if end is not None and start - end <= _AUDIO_HOLE_SECONDS * rate:
            start = end
        if (silence := start - max(0, end or 0)) > 0:
            yield np.zeros(silence, np.float32)
        end = start + len(samples)
        if end > max(0, start):
            yield samples[max(0, -start) :]


def _even_frames(frames: Iterable[np.ndarray], path: Path) -> Iterator[np.ndarray]:
    """Checks the frames and repeats the last row or column of odd sizes."""
    shape = None
    for frame in map(np.asarray, frames):
        shape = shape or frame.shape
        if frame.dtype != np.uint8 or frame.shape != shape or frame.shape[2:] != (3,):
            raise UserError(
                f"{path}: frames must be uint8 [H, W, 3] of one size, not "
                f"{frame.dtype} {list(frame.shape)}: convert them"
            )
        height, width, _ = frame.shape
        yield np.pad(frame, ((0, height % 2), (0, width % 2), (0, 0)), mode="edge")
    if shape is None:
        raise UserError(f"{path}: no frames to write: give at least one")


def _create_mp4(path: Path, metadata: Mapping[str, str] | None) -> av.container.OutputContainer:
    # faststart: playable in a browser before it is fully loaded.
    flags = "faststart+use_metadata_tags"
    container = av.open(str(path), "w", format="mp4", options={"movflags": flags})
    container.metadata.update(metadata or {})
    return container


def _encode(
    container: av.container.OutputContainer,
    frames: Iterator[np.ndarray],
    fps: float,
    waveform: np.ndarray | Iterable[np.ndarray] | None,
    rate: int | None,
) -> int:
    first = next(frames)
    frame_rate = Fraction(fps).limit_denominator(1001)
    video = container.add_stream("libx264", rate=frame_rate)
    video.height, video.width = first.shape[:2]
    video.pix_fmt = "yuv420p"
    video.options = {"crf": "18"}
    video.codec_context.colorspace = _BT601
    if waveform is not None:
        pieces, rate = _encodable(waveform, rate)
        audio = container.add_stream("aac", rate=rate, layout="mono")
        sounds = _sounds(pieces, rate, frame_rate)
    for index, frame in enumerate(itertools.chain([first], frames)):
        picture = av.VideoFrame.from_ndarray(frame, format="rgb24")
        picture.pts, picture.time_base = index, 1 / frame_rate
        container.mux(video.encode(picture))
        # Sound goes in along with its frame: neither stream is held back in memory.
        if waveform is not None:
            container.mux(audio.encode(next(sounds)))
    container.mux(video.encode(None))
    if waveform is not None:
        container.mux(audio.encode(None))
    return index + 1


def _encodable(
    waveform: np.ndarray | Iterable[np.ndarray], rate: int | None
) -> tuple[Iterable[np.ndarray], int]:
    """Pieces of a waveform, at a rate that AAC takes."""
    pieces = [waveform] if hasattr(waveform, "ndim") else waveform
    if rate is None:
        raise UserError("sound must come with its rate: give the samples per second")
    pieces = map(_mono_piece, pieces)
    if rate in (av.Codec("aac", "w").audio_rates or ()):
        return pieces, rate
    return resample_chunks(pieces, rate, _FALLBACK_AUDIO_RATE), _FALLBACK_AUDIO_RATE


def _mono_piece(piece: np.ndarray) -> np.ndarray:
    piece = np.asarray(piece, np.float32)
    if piece.ndim != 1:
        raise UserError(
            f"sound must be a mono waveform [S], not {list(piece.shape)}: average the channels"
        )
    if not np.isfinite(piece).all():
        raise UserError("the sound has samples that are no numbers: make it again")
    return piece


def _sounds(pieces: Iterable[np.ndarray], rate: int, fps: Fraction) -> Iterator[av.AudioFrame]:
    """The sound of each frame of a video; silence follows the end of the pieces."""
    pieces, held = iter(pieces), np.zeros(0, np.float32)
    for index in itertools.count():
        start, end = (round(count * rate / fps) for count in (index, index + 1))
        while len(held) < end - start and (piece := next(pieces, None)) is not None:
            held = np.concatenate([held, np.clip(piece, -1, 1)])
        samples = np.zeros((1, end - start), np.float32)
        part, held = held[: end - start], held[end - start :]
        samples[0, : len(part)] = part
        frame = av.AudioFrame.from_ndarray(samples, format="fltp", layout="mono")
        frame.sample_rate, frame.pts, frame.time_base = rate, start, Fraction(1, rate)
        yield frame

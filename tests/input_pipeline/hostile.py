"""Files as strangers send them, each made on the fly and tiny.

`IMAGES`, `SOUNDS` and `VIDEOS` hold, by name, a function that writes the file and what reading it
must give: a check of the result, or a text that the one line of the error has.
"""

import io
import struct
import zlib
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import NamedTuple

import av
import numpy as np
from PIL import Image

from input_pipeline import media

RED = (200, 30, 60)


class Case(NamedTuple):
    name: str
    write: Callable[[Path], None]
    expected: Callable[[np.ndarray], bool] | str


def _is_red(shape):
    """Of a size, red at the top and black below."""

    def check(image):
        top, bottom = image[: shape[0] // 3].mean((0, 1)), image[-(shape[0] // 3) :].mean((0, 1))
        return image.shape == (*shape, 3) and np.abs(top - RED).max() < 12 and bottom.max() < 12

    return check


def _red(height=24, width=16) -> Image.Image:
    pixels = np.zeros((height, width, 3), np.uint8)
    pixels[: height // 2] = RED
    return Image.fromarray(pixels)


def _saved(image: Image.Image, kind: str, **options) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def _content(make: Callable[[], bytes]) -> Callable[[Path], None]:
    return lambda path: path.write_bytes(make())


def _turned() -> bytes:
    exif = Image.Exif()
    exif[0x0112] = 8  # turned by a quarter
    return _saved(_red().rotate(-90, expand=True), "JPEG", exif=exif, quality=98)


def _deep() -> bytes:
    grey = (np.asarray(_red())[..., 0].astype(np.uint16) * 257).astype(np.uint16)
    return _saved(Image.fromarray(grey), "PNG")


def _is_grey(image):
    return image.shape == (24, 16, 3) and (image[:12] == 200).all() and not image[12:].any()


def _transparent() -> bytes:
    image = _red().convert("RGBA")
    image.putalpha(0)
    return _saved(image, "PNG")


def _bomb(width=50_000, height=50_000) -> bytes:
    """A PNG whose header claims more than memory holds, of a few bytes."""

    def chunk(kind, body):
        return (
            struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
        )

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    body = zlib.compress(bytes(1000))
    parts = chunk(b"IHDR", header), chunk(b"IDAT", body), chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


def _cut(make: Callable[[], bytes], share: float = 0.6) -> Callable[[], bytes]:
    return lambda: make()[: int(share * len(make()))]


def _noise(size=(64, 48)) -> Image.Image:
    return Image.fromarray(np.random.default_rng(0).integers(0, 256, (*size, 3), dtype=np.uint8))


IMAGES = [
    Case("bomb.png", _content(_bomb), "too many pixels|over the limit"),
    Case("wide_bomb.png", _content(lambda: _bomb(100_000_001, 1)), "over the limit"),
    Case("claims.png", _content(lambda: _bomb(5000, 5000)), "cannot be decoded"),
    Case("empty.png", _content(bytes), "not an image|cannot be read"),
    Case("jpeg_named.png", _content(lambda: _saved(_red(), "JPEG", quality=98)), _is_red((24, 16))),
    Case("png_named.txt", _content(lambda: _saved(_red(), "PNG")), _is_red((24, 16))),
    Case("text.jpg", _content(lambda: b"not an image"), "not an image|cannot be read"),
    Case("cut.jpg", _content(_cut(lambda: _saved(_noise(), "JPEG"))), "cannot be decoded.*trunc"),
    Case("cut.png", _content(_cut(lambda: _saved(_noise(), "PNG"))), "cannot be decoded"),
    Case(
        "cmyk.jpg",
        _content(lambda: _saved(_red().convert("CMYK"), "JPEG", quality=98)),
        _is_red((24, 16)),
    ),
    Case("deep.png", _content(_deep), _is_grey),
    Case("float.tiff", _content(lambda: _saved(_red().convert("F"), "TIFF")), "whole numbers"),
    Case("transparent.png", _content(_transparent), _is_red((24, 16))),
    Case("palette.gif", _content(lambda: _saved(_red(), "GIF")), _is_red((24, 16))),
    Case("turned.jpg", _content(_turned), _is_red((24, 16))),
    Case(
        "postscript.png",
        _content(lambda: b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\n"),
        "not an image|cannot be read",
    ),
    Case("pixel.png", _content(lambda: _saved(_red(1, 1), "PNG")), lambda x: x.shape == (1, 1, 3)),
    Case(
        "huge.png",
        _content(lambda: _saved(Image.new("L", (20_000, 300)), "PNG", compress_level=1)),
        lambda image: image.shape == (300, 20_000, 3),
    ),
]


def write_sound(path: Path, samples: np.ndarray, rate=16_000, codec="pcm_s16le", form=None):
    """`samples` [channels, S] in [-1, 1]; the container is that of the name."""
    form = form or {"pcm_s16le": "s16", "pcm_s24le": "s32", "pcm_f32le": "flt"}.get(codec, "fltp")
    scale = {"s16": 32_767, "s32": 2**31 - 1}.get(form, 1)
    kind = {"s16": np.int16, "s32": np.int32}.get(form, np.float32)
    layout = "stereo" if len(samples) == 2 else "mono"
    data = (scale * np.asarray(samples, np.float64)).astype(kind)
    data = data if form.endswith("p") else data.T.reshape(1, -1)
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=rate, layout=layout)
        stream.codec_context.format = form
        frame = av.AudioFrame.from_ndarray(data, format=form, layout=layout)
        frame.sample_rate, frame.pts, frame.time_base = rate, 0, Fraction(1, rate)
        container.mux(stream.encode(frame))
        container.mux(stream.encode(None))


def tone(seconds=0.5, rate=16_000, loudness=0.5) -> np.ndarray:
    return loudness * np.sin(2 * np.pi * 200 * np.arange(round(seconds * rate)) / rate)[None]


def _sounds(seconds, loudness):
    """Of a length and a peak, at 16 kHz."""

    def check(waveform):
        peak = np.abs(waveform).max(initial=0)
        return abs(len(waveform) / 16_000 - seconds) < 0.06 and abs(peak - loudness) < 0.03

    return check


def _spoilt(value) -> np.ndarray:
    samples = tone()
    samples[0, 4000] = value
    return samples


def _cut_mp3(path: Path) -> None:
    write_sound(path, tone(2.0), codec="libmp3lame")
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def _foreign_tags(path: Path) -> None:
    """A title in Latin-1, where UTF-8 is expected."""
    write_sound(path, tone())
    title = b"INAM" + struct.pack("<I", 4) + b"\xe9t\xe9\0"
    info = b"LIST" + struct.pack("<I", 4 + len(title)) + b"INFO" + title
    content = bytearray(path.read_bytes())
    content[36:36] = info
    content[4:8] = struct.pack("<I", len(content) - 8)
    path.write_bytes(content)


def _header(rate: int, samples: int = 100) -> bytes:
    form = struct.pack("<HHIIHH", 1, 1, rate, 2 * rate, 2, 16)
    body = bytes(2 * samples)
    chunks = b"fmt " + struct.pack("<I", 16) + form + b"data" + struct.pack("<I", len(body)) + body
    return b"RIFF" + struct.pack("<I", 4 + len(chunks)) + b"WAVE" + chunks


SOUNDS = [
    Case("silence.wav", lambda p: write_sound(p, np.zeros((1, 8000))), _sounds(0.5, 0)),
    Case("8k.wav", lambda p: write_sound(p, tone(rate=8000), 8000), _sounds(0.5, 0.5)),
    Case("stereo.wav", lambda p: write_sound(p, np.repeat(tone(), 2, 0)), _sounds(0.5, 0.5)),
    Case("24.wav", lambda p: write_sound(p, tone(), codec="pcm_s24le"), _sounds(0.5, 0.5)),
    Case(
        "loud.wav",
        lambda p: write_sound(p, tone(loudness=3.0), codec="pcm_f32le"),
        _sounds(0.5, 1.0),
    ),
    Case("nan.wav", lambda p: write_sound(p, _spoilt(np.nan), codec="pcm_f32le"), "no numbers"),
    Case("inf.wav", lambda p: write_sound(p, _spoilt(np.inf), codec="pcm_f32le"), "no numbers"),
    Case("short.wav", lambda p: write_sound(p, tone(0.01)), lambda w: 100 < len(w) < 300),
    Case("sample.wav", _content(lambda: _header(48_000, 1)), "no sound can be decoded"),
    Case("cut.mp3", _cut_mp3, lambda w: 0.3 < len(w) / 16_000 < 1.7),
    Case("latin.wav", _foreign_tags, _sounds(0.5, 0.5)),
    Case("slow.wav", _content(lambda: _header(1)), "1 samples per second"),
    Case("fast.wav", _content(lambda: _header(2**31 - 1)), "samples per second|cannot be read"),
    Case("none.wav", _content(lambda: _header(16_000, 0)), "no sound can be decoded|cannot be"),
    Case("text.wav", _content(lambda: b"RIFF not a sound"), "text.wav"),
]


def counting(count: int, height=64, width=96) -> np.ndarray:
    """Frames that get lighter, red at the top."""
    frames = np.zeros((count, height, width, 3), np.uint8)
    frames[:, : height // 2] = RED
    frames[:, height // 2 :, : width // 2] = (np.arange(count) * 4)[:, None, None, None]
    return frames


def write_frames(path: Path, times, codec="libx264", pixels="yuv420p", damage=None) -> None:
    """Frames at `times` in milliseconds, into the container of the name."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=25)
        stream.width, stream.height, stream.pix_fmt = 96, 64, pixels
        stream.codec_context.time_base = Fraction(1, 1000)
        if codec == "libx264":
            stream.options = {"bf": "0"}
        for picture, time in zip(counting(len(times)), times, strict=True):
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
            frame.pts, frame.time_base = time, Fraction(1, 1000)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())


def _damaged(path: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 255, (30, 64, 96, 3), dtype=np.uint8)
    media.write_video(path, noise, 25)
    content = bytearray(path.read_bytes())
    middle = len(content) // 2
    content[middle : middle + 2000] = bytes(2000)
    path.write_bytes(content)


def _playlist(path: Path) -> None:
    """A text that asks the reader to open another file."""
    secret = path.with_name("secret.mp4")
    media.write_video(secret, counting(3), 25)
    path.write_text(f"ffconcat version 1.0\nfile {secret.name}\n")


def _hls(path: Path) -> None:
    secret = path.with_name("secret.ts")
    write_frames(secret, range(0, 400, 40))
    path.write_text(
        f"#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:0.4,\n{secret.name}\n#EXT-X-ENDLIST\n"
    )


def _frames(count):
    def check(frames):
        return (
            len(frames) == count
            and frames.shape[1:] == (64, 96, 3)
            and np.abs(frames[:, :20].mean((0, 1, 2)) - RED).max() < 15
        )

    return check


VIDEOS = [
    Case("mute.mp4", lambda p: media.write_video(p, counting(10), 25), _frames(10)),
    Case("sound.wav", lambda p: write_sound(p, tone()), "no video stream"),
    Case(
        "varying.mkv", lambda p: write_frames(p, [0, 33, 200, 240, 290, 480]), lambda f: len(f) > 9
    ),
    Case("60.mp4", lambda p: media.write_video(p, counting(60), 60), _frames(25)),
    Case(
        "deep.mkv", lambda p: write_frames(p, range(0, 400, 40), pixels="yuv420p10le"), _frames(10)
    ),
    Case("damaged.mp4", _damaged, lambda frames: 1 <= len(frames) <= 30),
    Case("jump.mkv", lambda p: write_frames(p, [0, 40, 10**9]), "time stamps jump"),
    Case("playlist.mp4", _playlist, "cannot be read as video"),
    Case("hls.mp4", _hls, "cannot be read as video"),
    Case("empty.mp4", _content(bytes), "empty.mp4"),
]

import struct
import subprocess
from fractions import Fraction

import av
import cv2
import numpy as np
import pytest
import soundfile
from PIL import Image

from flax_talk.errors import UserError
from input_pipeline import media


def counting_frames(count, height=64, width=96):
    """Frames that write their number in six black or white columns, as bits."""
    bits = (np.arange(count)[:, None] >> np.arange(6)) & 1
    columns = np.repeat(bits * 255, width // 6, axis=1).astype(np.uint8)
    return np.ascontiguousarray(
        np.broadcast_to(columns[:, None, :, None], (count, height, width, 3))
    )


def numbers(frames):
    columns = frames.mean((1, 3)).reshape(len(frames), 6, -1).mean(2)
    return ((columns > 128) << np.arange(6)).sum(1)


def stream_seconds(path):
    with av.open(str(path)) as container:
        return {s.type: float(s.duration * s.time_base) for s in container.streams}


@pytest.mark.parametrize("fps", [25, 30, 60, 30_000 / 1001, 12.5])
def test_any_rate_is_read_at_25_by_nearest_time(tmp_path, fps):
    count = round(fps)
    total = round(25 * count / fps)
    media.write_video(tmp_path / "a.mp4", counting_frames(count), fps)
    video = media.read_video(tmp_path / "a.mp4")
    assert video.fps == 25
    assert video.frames.dtype == np.uint8 and video.frames.flags.c_contiguous
    assert video.frames.shape == (total, 64, 96, 3)
    instants = np.arange(total) / 25
    distance = np.abs(numbers(video.frames) / fps - instants)
    nearest = np.abs(np.arange(count) / fps - instants[:, None]).min(1)
    np.testing.assert_allclose(distance, nearest, atol=1e-3)


def test_round_trip_at_one_rate_is_one_to_one_and_close(tmp_path):
    ramp = np.linspace(20, 235, 96).astype(np.uint8)
    frames = np.full((20, 64, 96, 3), 60, np.uint8)
    frames[..., 0] = ramp
    frames[..., 1] = 10 * np.arange(20)[:, None, None]
    path = tmp_path / "a.mp4"
    media.write_video(path, frames, 30)
    got = media.read_video(path, fps=30).frames
    assert got.shape == frames.shape
    assert np.abs(got.astype(int) - frames).mean() < 2
    np.testing.assert_array_equal(media.read_video(path, 30, max_frames=7).frames, got[:7])
    np.testing.assert_array_equal(media.read_video(path.read_bytes(), 30).frames, got)


def test_variable_rate(tmp_path):
    path = tmp_path / "a.mkv"
    milliseconds = [0, 33, 200, 240, 290, 480]
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=25)
        stream.width, stream.height, stream.pix_fmt = 96, 64, "yuv420p"
        for pixels, time in zip(counting_frames(6), milliseconds, strict=True):
            frame = av.VideoFrame.from_ndarray(pixels, format="rgb24")
            frame.pts, frame.time_base = time, Fraction(1, 1000)
            stream.codec_context.time_base = frame.time_base
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    got = numbers(media.read_video(path).frames)
    # At 0, 40, 80, 120, ... milliseconds.
    assert got[:13].tolist() == [0, 1, 1, 2, 2, 2, 3, 4, 4, 4, 5, 5, 5]


@pytest.mark.parametrize("rate", [16_000, 44_100, 48_000, 50_000])
def test_flash_and_click_stay_together(tmp_path, rate):
    frames = np.zeros((50, 64, 64, 3), np.uint8)
    frames[20] = 255
    waveform = np.zeros(2 * rate, np.float32)
    waveform[round(0.8 * rate)] = 1
    media.write_video(tmp_path / "a.mp4", frames, 25, waveform, rate)
    flash = media.read_video(tmp_path / "a.mp4").frames.mean((1, 2, 3)).argmax()
    click = np.abs(media.read_audio(tmp_path / "a.mp4", 50_000)).argmax() / 50_000
    assert flash == 20
    assert abs(click - 0.8) < 0.002


@pytest.mark.parametrize("seconds", [0.0, 0.3, 5.0])
def test_sound_lasts_as_long_as_the_frames(tmp_path, seconds):
    waveform = np.full(round(seconds * 16_000), 0.5, np.float32)
    media.write_video(tmp_path / "a.mp4", counting_frames(33), 25, waveform, 16_000)
    lasts = stream_seconds(tmp_path / "a.mp4")
    assert lasts["video"] == pytest.approx(33 / 25)
    assert lasts["audio"] == pytest.approx(33 / 25, abs=1 / 25)


@pytest.mark.parametrize(("start", "place"), [(0.5, 0.7), (-0.1, 0.1)])
def test_sound_is_placed_by_its_time_stamps(tmp_path, start, place):
    """The click is 0.2 s into a sound that starts at `start` on the video's clock."""
    path = tmp_path / "a.mkv"
    video_start = max(0.0, -start)
    with av.open(str(path), "w") as container:
        video = container.add_stream("libx264", rate=25)
        video.width, video.height, video.pix_fmt = 96, 64, "yuv420p"
        sound = container.add_stream("pcm_s16le", rate=16_000, layout="mono")
        for index, pixels in enumerate(counting_frames(25)):
            frame = av.VideoFrame.from_ndarray(pixels, format="rgb24")
            frame.time_base = Fraction(1, 1000)
            frame.pts = round(1000 * video_start) + 40 * index
            video.codec_context.time_base = frame.time_base
            container.mux(video.encode(frame))
        samples = np.zeros((1, 16_000), np.int16)
        samples[0, 3200] = 20_000
        frame = av.AudioFrame.from_ndarray(samples, format="s16", layout="mono")
        frame.sample_rate, frame.time_base = 16_000, Fraction(1, 16_000)
        frame.pts = round(16_000 * (start + video_start))
        container.mux(sound.encode(frame))
        container.mux([*video.encode(), *sound.encode()])
    waveform = media.read_audio(path, 16_000)
    assert abs(np.abs(waveform).argmax() / 16_000 - place) < 0.002
    assert len(waveform) == pytest.approx(16_000 * (1 + start), abs=32)


@pytest.mark.parametrize(
    ("suffix", "codec", "sample_format"),
    [
        ("wav", "pcm_s16le", "s16"),
        ("flac", "flac", "s16"),
        ("mp3", "libmp3lame", "fltp"),
        ("m4a", "aac", "fltp"),
        ("ogg", "libopus", "flt"),
    ],
)
def test_audio_files_are_averaged_to_mono(tmp_path, suffix, codec, sample_format):
    tone = 0.8 * np.sin(2 * np.pi * 300 * np.arange(48_000) / 48_000)
    stereo = np.stack([tone, np.zeros_like(tone)]).astype(np.float32)
    if sample_format == "s16":
        stereo = (32_767 * stereo).astype(np.int16)
    if not sample_format.endswith("p"):  # samples of both channels in turn
        stereo = stereo.T.reshape(1, -1)
    path = tmp_path / f"a.{suffix}"
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=48_000, layout="stereo")
        frame = av.AudioFrame.from_ndarray(stereo, format=sample_format, layout="stereo")
        frame.sample_rate, frame.pts = 48_000, 0
        frame.time_base = Fraction(1, 48_000)
        container.mux(stream.encode(frame))
        container.mux(stream.encode())
    waveform = media.read_audio(path, 16_000)
    assert waveform.dtype == np.float32 and waveform.ndim == 1
    assert len(waveform) == pytest.approx(16_000, abs=1_000)
    assert np.abs(waveform[4000:12_000]).max() == pytest.approx(0.4, abs=0.02)


def test_frames_may_be_an_iterator_of_odd_sizes(tmp_path):
    frames = counting_frames(10, height=63, width=90)[:, :, :-1]
    media.write_video(tmp_path / "new" / "a.mp4", iter(frames), 25, metadata={"seed": "7"})
    got = media.read_video(tmp_path / "new" / "a.mp4").frames
    assert got.shape == (10, 64, 90, 3)
    np.testing.assert_array_equal(numbers(got), range(10))
    # The added row and column repeat their neighbours.
    assert np.abs(got[:, -1].astype(int) - got[:, -2]).max() < 12
    with av.open(str(tmp_path / "new" / "a.mp4")) as container:
        assert container.metadata["seed"] == "7"


def test_sound_may_come_and_go_in_pieces(tmp_path):
    sound = np.random.default_rng(0).uniform(-1, 1, 50_000).astype(np.float32)
    pieces = (piece for piece in np.split(sound, [10, 10, 30_000]))
    assert media.write_video(tmp_path / "pieces.mp4", counting_frames(25), 25, pieces, 50_000) == 25
    media.write_video(tmp_path / "whole.mp4", counting_frames(25), 25, sound, 50_000)
    heard = [media.read_audio(tmp_path / f"{name}.mp4", 48_000) for name in ("pieces", "whole")]
    np.testing.assert_array_equal(*heard)
    read = list(media.read_audio_chunks(tmp_path / "whole.mp4", 48_000))
    assert len(read) > 20
    np.testing.assert_array_equal(np.concatenate(read), heard[1])
    content = (tmp_path / "whole.mp4").read_bytes()
    np.testing.assert_array_equal(media.read_audio(content, 48_000), heard[1])


def test_no_more_sound_is_asked_for_than_frames_need(tmp_path):
    asked = 0

    def endless():
        nonlocal asked
        while True:
            asked += 1
            yield np.zeros(1_000, np.float32)

    media.write_video(tmp_path / "a.mp4", counting_frames(5), 25, endless(), 16_000)
    assert asked == 4  # 3200 samples


def test_sound_is_read_from_a_pipe(tmp_path):
    sound = np.random.default_rng(0).uniform(-1, 1, 100_000).astype(np.float32)
    soundfile.write(tmp_path / "a.wav", sound, 16_000)
    with subprocess.Popen(["cat", tmp_path / "a.wav"], stdout=subprocess.PIPE) as cat:
        read = np.concatenate(list(media.read_audio_chunks(cat.stdout, 16_000)))
    np.testing.assert_array_equal(read, media.read_audio(tmp_path / "a.wav", 16_000))
    # Less than one sample at the rate that is asked for.
    soundfile.write(tmp_path / "a.wav", sound[:1], 48_000)
    with pytest.raises(UserError, match=f"{tmp_path}/a.wav: no sound can be decoded"):
        media.read_audio(tmp_path / "a.wav", 16_000)


def test_failed_writing_leaves_nothing(tmp_path):
    def breaks():
        yield from counting_frames(5)
        raise RuntimeError("generator failed")

    with pytest.raises(RuntimeError, match="generator failed"):
        media.write_video(tmp_path / "a.mp4", breaks(), 25, np.zeros(16_000), 16_000)
    with pytest.raises(UserError, match="a.mp4: no frames"):
        media.write_video(tmp_path / "a.mp4", [], 25)
    with pytest.raises(UserError, match="a.mp4: frames must be uint8.*float32"):
        media.write_video(tmp_path / "a.mp4", np.zeros((3, 8, 8, 3), np.float32), 25)
    with pytest.raises(UserError, match="with its rate"):
        media.write_video(tmp_path / "a.mp4", counting_frames(3), 25, np.zeros(100))
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match="cannot be written"):
        media.write_video(tmp_path / "file" / "a.mp4", counting_frames(3), 25)


def test_rotation_of_the_display_is_applied(tmp_path):
    path = tmp_path / "a.mp4"
    frames = counting_frames(3)
    frames[:, :20, :30] = [200, 30, 30]
    media.write_video(path, frames, 25)
    content = bytearray(path.read_bytes())
    identity = struct.pack(">9i", 1 << 16, 0, 0, 0, 1 << 16, 0, 0, 0, 1 << 30)
    quarter = struct.pack(">9i", 0, 1 << 16, 0, -1 << 16, 0, 0, 64 << 16, 0, 1 << 30)
    at = content.index(identity, content.index(b"tkhd"))
    content[at : at + 36] = quarter
    path.write_bytes(content)
    capture = cv2.VideoCapture(str(path))
    expected = capture.read()[1][..., ::-1]
    got = media.read_video(path).frames[0]
    assert got.shape == expected.shape == (96, 64, 3)
    assert np.abs(got.astype(int) - expected).mean() < 3


def test_files_without_what_is_asked_for(tmp_path):
    media.write_video(tmp_path / "silent.mp4", counting_frames(3), 25)
    (tmp_path / "text.mp4").write_text("this is not a video")
    (tmp_path / "empty.mp4").touch()
    with pytest.raises(UserError, match="silent.mp4: no audio stream"):
        media.read_audio(tmp_path / "silent.mp4", 16_000)
    for read in (media.read_video, lambda path: media.read_audio(path, 16_000), media.read_still):
        with pytest.raises(UserError, match="absent.mp4: no such file"):
            read(tmp_path / "absent.mp4")
        for name in ("text.mp4", "empty.mp4"):
            with pytest.raises(UserError, match=name) as caught:
                read(tmp_path / name)
            assert "\n" not in str(caught.value)
    with pytest.raises(UserError, match="text.mp4: neither an image nor a video"):
        media.read_still(tmp_path / "text.mp4")
    with pytest.raises(UserError, match="4 bytes"):
        media.read_video(b"junk")


def test_sound_with_a_cover_picture_is_no_video(tmp_path):
    path = tmp_path / "song.mp3"
    with av.open(str(path), "w") as container:
        sound = container.add_stream("libmp3lame", rate=44_100, layout="mono")
        cover = container.add_stream("mjpeg", rate=1)
        cover.width, cover.height, cover.pix_fmt = 64, 64, "yuvj420p"
        cover.disposition = media.Disposition.attached_pic
        picture = av.VideoFrame.from_ndarray(np.zeros((64, 64, 3), np.uint8), format="rgb24")
        container.mux(cover.encode(picture))
        container.mux(cover.encode())
        frame = av.AudioFrame.from_ndarray(
            np.zeros((1, 44_100), np.float32), format="fltp", layout="mono"
        )
        frame.sample_rate, frame.pts = 44_100, 0
        container.mux(sound.encode(frame))
        container.mux(sound.encode())
    with pytest.raises(UserError, match="no video stream"):
        media.read_video(path)
    assert len(media.read_audio(path, 16_000)) == pytest.approx(16_000, abs=1_000)


def test_damage_in_the_middle_loses_no_more_than_what_is_damaged(tmp_path):
    path = tmp_path / "a.mp4"
    noise = np.random.default_rng(0).integers(0, 255, (50, 64, 96, 3), dtype=np.uint8)
    media.write_video(path, noise, 25)
    content = bytearray(path.read_bytes())
    middle = len(content) // 2
    content[middle : middle + 3000] = bytes(3000)
    assert 1 <= len(media.read_video(bytes(content)).frames) <= 50
    start = content.index(b"mdat") + 4
    content[start:] = bytes(len(content) - start)
    with pytest.raises(UserError, match="no frame can be decoded"):
        media.read_video(bytes(content))


def test_images_become_8_bit_rgb(tmp_path):
    red = np.zeros((20, 30, 3), np.uint8)
    red[..., 0] = 200
    Image.fromarray(red).save(tmp_path / "rgb.png")
    np.testing.assert_array_equal(media.read_image(tmp_path / "rgb.png"), red)
    alpha = np.concatenate([red, np.full((20, 30, 1), 255, np.uint8)], -1)
    Image.fromarray(alpha).save(tmp_path / "rgba.png")
    np.testing.assert_array_equal(media.read_image(tmp_path / "rgba.png"), red)
    cv2.imwrite(str(tmp_path / "deep.png"), red[..., ::-1].astype(np.uint16) * 257)
    np.testing.assert_array_equal(media.read_image(tmp_path / "deep.png"), red)
    Image.fromarray(red[..., 0]).save(tmp_path / "grey.png")
    grey = red[..., :1].repeat(3, -1)
    np.testing.assert_array_equal(media.read_image(tmp_path / "grey.png"), grey)


def test_image_is_turned_upright(tmp_path):
    image = np.zeros((20, 30, 3), np.uint8)
    image[:10, :15] = 255
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned clockwise
    Image.fromarray(image).save(tmp_path / "a.jpg", exif=exif, quality=95)
    got = media.read_image(tmp_path / "a.jpg").astype(int)
    assert np.abs(got - np.rot90(image, -1)).mean() < 3


def test_bad_images_are_refused(tmp_path, monkeypatch):
    (tmp_path / "text.png").write_text("this is not an image")
    with pytest.raises(UserError, match="text.png: not an image"):
        media.read_image(tmp_path / "text.png")
    Image.fromarray(np.zeros((20, 30, 3), np.uint8)).save(tmp_path / "a.png")
    (tmp_path / "cut.png").write_bytes((tmp_path / "a.png").read_bytes()[:40])
    with pytest.raises(UserError, match="cut.png"):
        media.read_image(tmp_path / "cut.png")
    monkeypatch.setattr(media, "MAX_IMAGE_PIXELS", 599)
    with pytest.raises(UserError, match="a.png: 30x20 is over the limit"):
        media.read_image(tmp_path / "a.png")


def test_still_is_an_image_or_the_first_frame(tmp_path):
    frames = counting_frames(5)
    media.write_video(tmp_path / "a.mp4", frames[3:], 25)
    assert numbers(media.read_still(tmp_path / "a.mp4")[None]) == [3]
    Image.fromarray(frames[4]).save(tmp_path / "a.png")
    np.testing.assert_array_equal(media.read_still(tmp_path / "a.png"), frames[4])


def test_jpeg_frames_keep_their_colours():
    # One-pixel colour stripes survive only with chroma in full resolution.
    frames = np.zeros((2, 16, 24, 3), np.uint8)
    frames[:, :, ::2] = [220, 30, 60]
    frames[1, :, 1::2] = [30, 60, 220]
    got = media.decode_frames(media.encode_frames(frames))
    assert got.shape == frames.shape and got.dtype == np.uint8
    assert np.abs(got.astype(int) - frames).max() < 30
    small, large = (len(media.encode_frames(frames, quality=q)[0]) for q in (30, 95))
    assert small < large
    for images in ([b"junk"], [b""], []):
        with pytest.raises(UserError, match="prepare"):
            media.decode_frames(images)


@pytest.mark.parametrize("speaker", ["s26", "s1", "s4"])
def test_grid_clips_come_through_one_to_one(real_media, speaker):
    path = sorted((real_media / "grid" / speaker).iterdir())[0]
    frames = media.read_video(path).frames
    assert len(frames) == 75
    with av.open(str(path)) as container:
        for got, frame in zip(frames, container.decode(video=0), strict=True):
            np.testing.assert_array_equal(got, frame.to_ndarray(format="rgb24"))
    waveform = media.read_audio(path, 50_000)
    assert len(waveform) == pytest.approx(150_000, abs=2_000)
    assert 0.05 < np.abs(waveform).max() <= 1

"""Whatever a file is, reading it ends in a right result or in one clear line."""

import hostile
import numpy as np
import pytest

from flax_talk.errors import UserError
from input_pipeline import faces, media


def check(case, path, read):
    case.write(path)
    if not isinstance(case.expected, str):
        assert case.expected(read(path))
        return
    with pytest.raises(UserError, match=case.expected) as caught:
        read(path)
    assert "\n" not in str(caught.value) and str(path) in str(caught.value)


def named(cases):
    return pytest.mark.parametrize("case", cases, ids=[case.name for case in cases])


@named(hostile.IMAGES)
def test_images(case, tmp_path):
    check(case, tmp_path / case.name, media.read_image)


@named(hostile.SOUNDS)
def test_sounds(case, tmp_path):
    check(case, tmp_path / case.name, lambda path: media.read_audio(path, 16_000))


@named(hostile.VIDEOS)
def test_videos(case, tmp_path):
    check(case, tmp_path / case.name, lambda path: media.read_video(path).frames)


def test_a_video_or_sound_larger_than_the_memory_is_one_line(tmp_path, monkeypatch):
    path = tmp_path / "a.mp4"
    frames = hostile.counting(50)
    media.write_video(path, frames, 25, np.zeros(32_000, np.float32), 16_000)
    monkeypatch.setattr(media, "_free_memory", lambda: 40 * frames[0].nbytes)
    with pytest.raises(UserError, match="after 21 frames of 96x64 the memory is full"):
        media.read_video(path)
    assert len(media.read_video(path, max_frames=10).frames) == 10
    monkeypatch.setattr(media, "_free_memory", lambda: 100_000)
    with pytest.raises(UserError, match="s of sound the memory is full"):
        media.read_audio(path, 16_000)


def test_a_hole_in_the_sound_is_one_line(tmp_path, monkeypatch):
    path = tmp_path / "a.wav"
    hostile.write_sound(path, hostile.tone(3.0))
    monkeypatch.setattr(media, "LONGEST_HOLD", 0.01)
    with pytest.raises(UserError, match="hole"):
        media.read_audio(path, 16_000)


def test_sound_that_is_no_number_is_not_written(tmp_path):
    waveform = np.full(16_000, np.nan, np.float32)
    with pytest.raises(UserError, match="no numbers"):
        media.write_video(tmp_path / "a.mp4", hostile.counting(5), 25, waveform, 16_000)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("size", [(1, 1), (1, 20_000), (20_000, 1), (3, 2000)])
def test_no_face_is_found_in_slivers(size):
    pytest.importorskip("dlib")
    picture = np.zeros((*size, 3), np.uint8)
    with pytest.raises(UserError, match="no face found in me.jpg"):
        faces.align_still(picture, faces.get_detector("dlib"), name="me.jpg")

"""A still and a voice become a video: in chunks as in one go, and from files to a file."""

import subprocess
import sys

import av
import numpy as np
import pytest
import soundfile

from configs.temporal_gan_2019_grid import get_config
from flax_talk.animate import animate, animate_files, load_generator, stream
from flax_talk.errors import UserError
from flax_talk.training.checkpoints import export
from input_pipeline.media import read_audio, read_video, write_video
from input_pipeline.speech import say

RATE = 50_000
STRIDE = 2_000
SECONDS = 1.3


@pytest.fixture(scope="session")
def voice():
    """1.3 s and a little of a loud buzz with a melody."""
    time = np.arange(int(SECONDS * RATE) + 700) / RATE
    return (0.8 * np.sin(600 * time + 40 * np.sin(20 * time))).astype(np.float32)


@pytest.fixture(scope="session")
def picture():
    return np.random.default_rng(0).integers(0, 256, (128, 96, 3), dtype=np.uint8)


@pytest.fixture(scope="session")
def model(tiny_run):
    return load_generator(tiny_run)


def test_loads_the_generator_alone_with_its_step(model):
    assert set(model.variables) == {"generator"}
    assert model.step == 3
    assert model.config.generator.to_dict() == get_config("tiny").generator.to_dict()


def test_chunks_equal_one_whole_run(model, picture, voice):
    whole = animate(model, picture, voice, chunk_frames=33)
    chunked = animate(model, picture, voice)
    assert whole.shape == (33, 128, 96, 3) and whole.dtype == np.uint8
    assert (whole[24] != whole[25]).any()
    # Float sums may differ in their last bit, which can tip a rounding.
    assert np.abs(whole.astype(int) - chunked).max() <= 1


def test_chunks_share_one_program(model, picture, voice):
    from flax_talk import animate as module

    animate(model, picture, voice)
    compiled = module._generate._cache_size()
    animate(model, picture, np.tile(voice, 3))
    assert module._generate._cache_size() == compiled


def test_chunks_come_one_by_one(model, picture, voice):
    sizes = [len(chunk) for chunk in stream(model, picture, [voice])]
    assert sizes == [25, 8]


@pytest.mark.parametrize("chunk_frames", [1, 25])
def test_a_stream_is_the_video_of_the_whole_sound(model, picture, voice, chunk_frames):
    pieces = np.split(voice, [700, 700, 9_000, 9_001, 41_000])
    streamed = np.concatenate(list(stream(model, picture, iter(pieces), 3, chunk_frames)))
    whole = animate(model, picture, voice, seed=3)
    assert len(streamed) == len(whole)
    difference = np.abs(streamed.astype(int) - whole)
    assert difference.max() <= (0 if chunk_frames == 25 else 1)


def test_a_frame_is_there_as_soon_as_its_sound_is(model, picture):
    asked = 0

    def arriving():
        nonlocal asked
        for _ in range(10):
            asked += 1
            yield np.zeros(STRIDE, np.float32)

    waits = [asked - number for number, _ in enumerate(stream(model, picture, arriving(), 0, 1), 1)]
    # A window of 0.2 s reaches two frames beyond its own, 80 ms.
    assert waits == [2] * 8 + [1, 0]


def test_same_seed_same_video(model, picture, voice):
    first, again, other = (animate(model, picture, voice, seed) for seed in (1, 1, 2))
    np.testing.assert_array_equal(first, again)
    assert (first != other).any()


def test_video_depends_on_still_and_voice(model, picture, voice):
    video = animate(model, picture, voice)
    assert (video != animate(model, picture, 0 * voice)).any()
    assert (video != animate(model, 255 - picture, voice)).any()


@pytest.mark.parametrize("samples", [0, 1, 500, STRIDE])
def test_any_speech_gives_a_frame(model, picture, samples):
    assert animate(model, picture, np.zeros(samples, np.float32)).shape == (1, 128, 96, 3)


def test_refuses_what_it_would_misread(model, picture, voice):
    with pytest.raises(UserError, match="still must be uint8"):
        animate(model, picture / np.float32(255), voice)
    with pytest.raises(UserError, match=r"not uint8 \[64, 48, 3\]"):
        animate(model, picture[::2, ::2], voice)
    with pytest.raises(UserError, match="waveform must be float"):
        animate(model, picture, (32767 * voice).astype(np.int16))
    with pytest.raises(UserError, match="chunk_frames=0"):
        animate(model, picture, voice, chunk_frames=0)
    with pytest.raises(UserError, match=r"not float32 \[1, 2000\]"):
        list(stream(model, picture, [voice[:STRIDE], voice[None, :STRIDE]]))


@pytest.fixture(scope="session")
def recording(tmp_path_factory, picture, voice):
    """A video with sound, both still and voice."""
    path = tmp_path_factory.mktemp("recording") / "clip.mp4"
    write_video(path, np.stack([picture] * 33), 25, voice, RATE)
    return path


def test_from_files_to_a_file(tiny_run, recording, tmp_path):
    out = tmp_path / "new" / "out.mp4"
    done = animate_files(recording, recording, out, tiny_run, detector="none")
    assert (done.path, done.frames, done.fps, done.step) == (out, 33, 25, 3)
    with av.open(str(out)) as container:
        (video,), (audio,) = container.streams.video, container.streams.audio
        assert (video.codec.name, audio.codec.name) == ("h264", "aac")
        assert (video.width, video.height, video.average_rate) == (96, 128, 25)
        assert "Synthetic: made by flax_talk" in container.metadata["title"]
        assert "temporal_gan_2019" in container.metadata["comment"]
    speech = len(read_audio(recording, 16_000)) / 16_000
    assert len(read_video(out).frames) == 33
    assert abs(33 / 25 - speech) <= 1 / 25
    assert abs(len(read_audio(out, 16_000)) / 16_000 - 33 / 25) <= 1 / 25
    assert list(out.parent.iterdir()) == [out]


def test_the_file_shows_what_animate_returns(tiny_run, model, recording, tmp_path):
    out, direct = tmp_path / "out.mp4", tmp_path / "direct.mp4"
    animate_files(recording, recording, out, tiny_run, seed=4, detector="none")
    still, voice = read_video(recording).frames[0], read_audio(recording, RATE)
    write_video(direct, animate(model, still, voice, seed=4), 25)
    np.testing.assert_array_equal(read_video(out).frames, read_video(direct).frames)


@pytest.mark.soak
def test_memory_does_not_grow_with_the_sound(tiny_run, recording, tmp_path):
    script = """
import resource, sys
from flax_talk.animate import animate_files
still, checkpoint, *sounds = sys.argv[1:]
for sound in sounds:
    animate_files(still, sound, sound + ".mp4", checkpoint, detector="none", chunk_frames=5)
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)
"""
    sounds = [tmp_path / f"{seconds}.wav" for seconds in (10, 240)]
    for path in sounds:
        noise = np.random.default_rng(0).uniform(-0.5, 0.5, 16_000 * int(path.stem))
        soundfile.write(path, noise, 16_000)
    words = [sys.executable, "-c", script, recording, tiny_run, *sounds]
    short, long = map(float, subprocess.check_output(words, text=True).split())
    # The waveform alone, at the two rates it is needed at, would be 94 MB.
    assert long - short < 30


def test_speaks_a_text(tiny_run, recording, tmp_path):
    pytest.importorskip("espeakng_loader")
    out = tmp_path / "out.mp4"
    done = animate_files(recording, None, out, tiny_run, text="hello there", detector="none")
    sound = read_audio(out, 16_000)
    assert done.frames == round(len(say("hello there").waveform) / 22_050 * 25)
    assert np.abs(sound).max() > 0.1


@pytest.mark.parametrize("given", [{}, {"audio": "a.wav", "text": "hello"}])
def test_wants_either_a_recording_or_a_text(tiny_run, recording, tmp_path, given):
    given = {"audio": None, **given}
    with pytest.raises(UserError, match="either a recording"):
        animate_files(
            recording, out=tmp_path / "out.mp4", checkpoint=tiny_run, detector="none", **given
        )


def test_an_exported_generator_makes_the_same_video(tiny_run, model, picture, voice, tmp_path):
    export(tiny_run, tmp_path / "whole", dtype="float32")
    whole = load_generator(tmp_path / "whole")
    assert (whole.step, whole.config) == (model.step, model.config)
    np.testing.assert_array_equal(animate(whole, picture, voice), animate(model, picture, voice))
    export(tiny_run, tmp_path / "half")
    half = load_generator(tmp_path / "half")
    difference = animate(half, picture, voice).astype(float) - animate(model, picture, voice)
    assert 0 < np.abs(difference).mean() < 1
    sizes = [(tmp_path / name / "variables.npz").stat().st_size for name in ("half", "whole")]
    assert sizes[0] < 0.6 * sizes[1]


def test_a_damaged_export_is_one_line(tiny_run, tmp_path):
    path = export(tiny_run, tmp_path)
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(UserError, match="is damaged"):
        load_generator(tmp_path)
    with pytest.raises(UserError, match="has no teacher"):
        export(tiny_run, tmp_path, players=("teacher",))


def test_finds_the_face_of_a_real_recording(tiny_run, real_media, tmp_path):
    pytest.importorskip("dlib")
    clip = real_media / "grid" / "s1" / "bbaf2n.mp4"
    done = animate_files(clip, clip, tmp_path / "out.mp4", tiny_run)
    assert done.frames == 75

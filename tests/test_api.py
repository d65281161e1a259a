"""Three lines of Python give what the command gives; the snippets of the page on it run."""

import base64
import re
import subprocess
import sys
from pathlib import Path

import av
import cv2
import numpy as np
import pytest
import soundfile

import flax_talk
from flax_talk import api
from flax_talk.animate import animate_files
from flax_talk.training.checkpoints import export
from input_pipeline import media

DOCS = Path(__file__).parents[1] / "docs"
RATE = 16_000


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """Folder with a still that is a crop already, and 0.48 s of speech."""
    folder = tmp_path_factory.mktemp("files")
    random = np.random.default_rng(0)
    cv2.imwrite(str(folder / "me.png"), random.integers(0, 256, (128, 96, 3), np.uint8))
    time = np.arange(int(0.48 * RATE)) / RATE
    sound = 0.8 * np.sin(600 * time + 40 * np.sin(20 * time))
    soundfile.write(folder / "voice.wav", sound, RATE, "PCM_16")
    return folder


@pytest.fixture(scope="module")
def talk(tiny_run):
    return flax_talk.load(tiny_run)


@pytest.fixture(scope="module")
def video(talk, files):
    return talk(files / "me.png", files / "voice.wav", seed=3, detector="none")


def test_importing_the_library_brings_no_jax():
    script = (
        "import sys, flax_talk; assert 'load' in dir(flax_talk)\n"
        "print(sorted({'jax', 'numpy', 'flax'} & set(sys.modules)))\n"
        "try: flax_talk.nothing\n"
        "except AttributeError: print('no nothing')"
    )
    output = subprocess.check_output([sys.executable, "-c", script], text=True)
    assert output.splitlines() == ["[]", "no nothing"]


def test_a_call_makes_what_the_command_writes(video, files, tiny_run, tmp_path):
    assert repr(video) == "Video(12 frames of 128x96, 0.48 s, temporal_gan_2019)"
    made = video.save(tmp_path / "new" / "out.mp4")
    still, sound = files / "me.png", files / "voice.wav"
    animate_files(still, sound, tmp_path / "command.mp4", tiny_run, seed=3, detector="none")
    assert made.read_bytes() == (tmp_path / "command.mp4").read_bytes()
    with av.open(str(made)) as container:
        assert "Synthetic: made by flax_talk" in container.metadata["comment"]


def test_arrays_are_as_good_as_files(talk, video, files):
    still = media.read_image(files / "me.png")
    samples, rate = soundfile.read(files / "voice.wav", dtype="int16")
    stereo = np.stack([samples, samples], axis=1)
    for sound in (samples, stereo, samples / 32768):
        again = talk(still, (sound, rate), seed=3, detector="none")
        np.testing.assert_allclose(again.waveform, video.waveform, atol=1e-6)
        # Sound that differs in its last bit can tip a rounding.
        assert np.abs(again.frames.astype(int) - video.frames).max() <= 1


def test_a_notebook_shows_a_player(video):
    content = re.search('src="data:video/mp4;base64,([^"]+)"', video._repr_html_())[1]
    shown = media.read_video(base64.b64decode(content))
    assert len(shown.frames) == 12 and "Synthetic" in video._repr_html_()


def test_a_mark_is_in_the_picture_of_the_file_alone(video):
    plain, marked = (media.read_video(video.to_bytes(mark)).frames for mark in (False, True))
    changed = np.abs(plain.astype(int) - marked).mean(axis=(0, 3))
    assert changed[100:, :60].mean() > 20 * changed[:64].mean()


def test_a_stream_in_pieces_of_another_rate_is_the_video(talk, video, files):
    sound = media.read_audio(files / "voice.wav", RATE)
    pieces = iter(np.array_split(sound, 7))
    stream = talk.stream(files / "me.png", pieces, rate=RATE, seed=3, detector="none")
    made = list(stream)
    assert [len(frames) for frames in made] == [5, 5, 2]
    assert np.abs(np.concatenate(made).astype(int) - video.frames).max() <= 2


def test_a_pair_that_fails_does_not_end_a_batch(talk, video, files):
    still, sound = files / "me.png", files / "voice.wav"
    pairs = [(still, sound), (files / "nobody.png", sound), (still, sound)]
    first, failed, last = talk.batch(iter(pairs), seed=3, detector="none")
    assert isinstance(failed, flax_talk.UserError) and "nobody.png: no such file" in str(failed)
    np.testing.assert_array_equal(first.frames, video.frames)
    np.testing.assert_array_equal(first.frames, last.frames)


def test_checkpoints_by_name_run_and_export(tiny_run, tmp_path):
    shipped = flax_talk.load("default")
    assert repr(shipped).startswith("Talker(temporal_gan_2019, step ")
    export(tiny_run, tmp_path)
    assert flax_talk.load(tmp_path).model.step == 3
    with pytest.raises(flax_talk.UserError, match="syncnet, which generates no video"):
        flax_talk.load(api.SHIPPED.parent / "syncnet")


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"still": np.zeros((8, 8), np.uint8)}, r"uint8 \[h, w, 3\], not uint8 \[8, 8\]"),
        ({"still": np.zeros((8, 8, 3))}, "not float64"),
        ({"audio": None}, "either a recording"),
        ({"text": "hello"}, "either a recording"),
        ({"audio": (np.zeros(0), RATE)}, "waveform is empty"),
        ({"audio": (np.full(9, np.nan), RATE)}, "not finite"),
        ({"audio": (np.zeros(9, np.uint8), RATE)}, "must be float"),
        ({"audio": (RATE, np.zeros(9))}, "give samples, then samples per second"),
        ({"audio": (np.zeros(9), 0)}, "give samples, then samples per second"),
    ],
)
def test_mistakes_are_one_line(talk, files, given, says):
    given = {"still": files / "me.png", "audio": files / "voice.wav", **given}
    with pytest.raises(flax_talk.UserError, match=says):
        talk(**given, detector="none")


def test_a_video_is_saved_as_mp4_alone(video, tmp_path):
    with pytest.raises(flax_talk.UserError, match="ends in .mp4"):
        video.save(tmp_path / "out.avi")


def test_the_snippets_of_the_page_run(tiny_run, files, fixed_face, tmp_path, monkeypatch, capsys):
    pytest.importorskip("espeakng_loader")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(api, "SHIPPED", tiny_run)
    (tmp_path / "runs").mkdir()
    (tmp_path / "runs" / "small").symlink_to(tiny_run)
    cv2.imwrite("me.jpg", cv2.imread(str(files / "me.png")))
    (tmp_path / "voice.wav").write_bytes((files / "voice.wav").read_bytes())
    snippets = re.findall(r"```python\n(.*?)```", (DOCS / "api.md").read_text(), re.S)
    names = {}
    for snippet in snippets:
        exec(compile(snippet, "docs/api.md", "exec"), names)
    told = capsys.readouterr().out
    assert len(snippets) == 7 and "1: nobody.jpg: no such file" in told
    assert "frame_discriminator" in told and "(1, 5, 128, 96, 3) float32" in told
    assert {path.name for path in tmp_path.rglob("*.mp4")} == {"me.mp4", "marked.mp4", "0.mp4"}

"""Preparation whatever happens: workers, kills, full disks, damaged clips, lost faces."""

import errno
import os
import random
import signal
import subprocess
import sys
import time
from fractions import Fraction
from pathlib import Path

import av
import corpora
import numpy as np
import pytest
import tensorflow_datasets as tfds

from flax_talk.errors import UserError
from input_pipeline import faces, media, prepare
from input_pipeline.datasets import store
from input_pipeline.datasets.clips import ClipOptions, process_clip
from input_pipeline.datasets.folder import Folder

ROOT = Path(prepare.__file__).parents[1]
CLIPS = 6


def contents(folder):
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


@pytest.fixture
def whole_face(monkeypatch):
    """The data set `folder` finds a face that fills the image, in this and all its processes."""
    monkeypatch.setattr(Folder, "read_clip", staticmethod(corpora.read_clip))
    monkeypatch.setitem(faces.DETECTORS, "dlib", corpora.WholeFace)
    faces.get_detector.cache_clear()
    yield
    faces.get_detector.cache_clear()


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    return corpora.write_folder(tmp_path_factory.mktemp("corpus"), CLIPS)


@pytest.fixture
def expected(source, tmp_path, whole_face):
    """The files of an undisturbed run."""
    prepare.prepare("folder", tmp_path / "expected", source)
    return contents(tmp_path / "expected")


def start(source, data_dir, jobs):
    """A preparation in a process of its own."""
    command = [sys.executable, corpora.__file__, *map(str, (source, data_dir, jobs))]
    return subprocess.Popen(
        command, env={**os.environ, "PYTHONPATH": str(ROOT)}, stderr=subprocess.DEVNULL
    )


def workers_of(process):
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children")
    return [int(word) for word in children.read_text().split()] if children.exists() else []


def has_ended(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except OSError:
        return True


def wait_until(condition, seconds=120):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.01)


def test_shards_do_not_depend_on_the_number_of_workers(source, tmp_path, expected):
    assert len([name for name in expected if "array_record" in name]) == 2
    # Two in another process too, since some orders differ between processes alone.
    assert start(source, tmp_path / "2", jobs=2).wait() == 0
    prepare.prepare("folder", tmp_path / "4", source, jobs=4)
    for jobs in "24":
        assert contents(tmp_path / jobs) == expected


def test_a_killed_run_goes_on_and_leaves_no_worker(source, tmp_path, expected):
    data_dir = tmp_path / "killed"
    run = start(source, data_dir, jobs=2)
    wait_until(lambda: list(data_dir.rglob("*.examples")) or run.poll() is not None)
    workers = workers_of(run)
    os.kill(run.pid, signal.SIGKILL)
    assert run.wait() == -signal.SIGKILL
    wait_until(lambda: all(map(has_ended, workers)))
    done = {path: path.stat().st_mtime_ns for path in data_dir.rglob("*.examples")}
    assert 0 < len(done) < CLIPS - 1
    # As if it had been killed while TFDS was writing.
    (data_dir / "folder" / "aligned_128x96" / "incomplete.ABCDEF_1.0.0").mkdir()

    saved, write = [], store._write
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(store, "_write", lambda *args: (saved.append(args[0]), write(*args)))
        prepare.prepare("folder", data_dir, source)
    assert len(saved) == CLIPS - len(done) and not set(saved) & set(done)
    assert contents(data_dir) == expected


def test_a_full_disk_is_told_and_what_is_done_is_kept(source, tmp_path, expected, monkeypatch):
    calls = []

    def sync(file):
        calls.append(file)
        if len(calls) > 2:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    data_dir = tmp_path / "full"
    with monkeypatch.context() as patch, pytest.raises(UserError, match=r"No space left.*again"):
        patch.setattr(store.os, "fsync", sync)
        prepare.prepare("folder", data_dir, source)
    assert len(list(data_dir.rglob("*.examples"))) == 2

    def refuse(*args, **kwargs):  # as array_record says it
        raise RuntimeError("write() failed: No space left on device; writing folder-A")

    with monkeypatch.context() as patch, pytest.raises(UserError, match=r"No space left.*again"):
        patch.setattr("tensorflow_datasets.core.writer.Writer.finalize", refuse)
        prepare.prepare("folder", data_dir, source)
    assert len(list(data_dir.rglob("*.examples"))) == CLIPS - 1
    prepare.prepare("folder", data_dir, source)
    assert contents(data_dir) == expected


def test_two_runs_at_a_time_are_refused(source, tmp_path, whole_face, monkeypatch):
    def again(*args, **kwargs):
        prepare.prepare("folder", tmp_path, source)

    monkeypatch.setattr(prepare, "run_on_beam", again)
    with pytest.raises(UserError, match="being prepared by another process"):
        prepare.prepare("folder", tmp_path, source, beam=["runner=other"])


def test_beam_makes_the_same_shards(source, tmp_path, expected):
    pytest.importorskip("apache_beam", reason="needs the extra beam")
    prepare.prepare("folder", tmp_path / "beam", source, beam=["runner=DirectRunner"])
    assert contents(tmp_path / "beam") == expected


def test_beam_that_is_not_installed_is_named(source, tmp_path, whole_face, monkeypatch):
    monkeypatch.setitem(sys.modules, "apache_beam", None)
    with pytest.raises(UserError, match=r"pip install 'flax-talk\[beam\]'"):
        prepare.prepare("folder", tmp_path, source, beam=["runner=DirectRunner"])


# Damaged clips


def truncated(path):
    """Half the bytes of a file whose header comes first."""
    noise = np.random.default_rng(0).integers(0, 255, (50, 48, 48, 3), np.uint8)
    media.write_video(path, noise, 25.0, np.full(32_000, 0.1, np.float32), 16_000)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def of_a_variable_rate(path):
    with av.open(str(path), "w") as container:
        video = container.add_stream("libx264", rate=25)
        video.width = video.height = 48
        video.pix_fmt, video.codec_context.time_base = "yuv420p", Fraction(1, 1000)
        sound = container.add_stream("aac", rate=16_000, layout="mono")
        shown = np.cumsum([40, 40, 90, 40, 10, 80, 20, 40, 100, 40])
        for time_ in shown:
            frame = av.VideoFrame.from_ndarray(np.full((48, 48, 3), 100, np.uint8))
            frame.pts, frame.time_base = int(time_), video.codec_context.time_base
            container.mux(video.encode(frame))
        silence = av.AudioFrame.from_ndarray(np.zeros((1, 8_000), np.float32), "fltp", "mono")
        silence.sample_rate = 16_000
        container.mux(sound.encode(silence))
        for stream in (video, sound):
            container.mux(stream.encode(None))


def without_sound(path):
    media.write_video(path, np.full((10, 48, 48, 3), 100, np.uint8), 25.0)


def without_a_face(path):
    corpora.write_clip(path, 0, black=range(10))


def too_short(path):
    corpora.write_clip(path, 0, num_frames=4)


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        (truncated, r"truncated: \S+ s of 2\.\d\d s are missing"),
        (of_a_variable_rate, "variable frame rate: 10 to 100 ms"),
        (without_sound, "no audio stream"),
        (without_a_face, "no face"),
        (too_short, "wrong length: 0.16 s, less than 0.2 s"),
    ],
)
def test_a_damaged_clip_has_its_reason(tmp_path, damage, reason):
    damage(tmp_path / "a.mp4")
    options = ClipOptions(detector="whole")
    with pytest.raises(UserError, match=reason):
        process_clip(tmp_path / "a.mp4", options)


def test_a_clip_is_dropped_or_split_where_the_face_is_lost(tmp_path, whole_face):
    # Faces in frames 0..11 and 24..33; the gap in 3..5 is short enough to be bridged, the last
    # stretch is too short to be used.
    black = (*range(3, 6), *range(12, 24), *range(34, 46))
    corpora.write_clip(tmp_path / "corpus" / "A" / "one.mp4", 0, 48, black)
    words = "0 10000 bin\n10000 14000 blue\n25000 32000 at\n33000 40000 f\n"  # 1/25000 s
    (tmp_path / "corpus" / "A" / "one.align").write_text(words)
    with pytest.raises(UserError, match=r"no face in frames 12\.\.23"):
        prepare.prepare("folder", tmp_path, tmp_path / "corpus")

    report = prepare.prepare("folder:aligned_128x96_split", tmp_path, tmp_path / "corpus")
    assert (report.used, report.examples, report.failures) == (1, 2, ())
    assert report.hours == pytest.approx(22 / 25 / 3600)
    found = {e["id"]: e for e in tfds.builder_from_directory(report.path).as_data_source("A")}
    assert sorted(found) == [b"A_one-1", b"A_one-2"]
    first, second = (found[name] for name in sorted(found))
    assert (len(first["video"]), len(second["video"])) == (12, 10)
    assert first["landmarks"].shape == (12, 68, 2) and second["waveform"].shape == (20_000,)
    assert (first["text"], second["text"]) == (b"bin", b"at")
    np.testing.assert_allclose([second["words"]["start"], second["words"]["end"]], [[0.04], [0.32]])


@pytest.mark.soak
def test_ten_kills_at_random_end_in_the_same_bytes(source, tmp_path, expected):
    data_dir, kills = tmp_path / "killed", 0
    draw = random.Random(0)
    begun = time.monotonic()
    assert start(source, tmp_path / "timed", jobs=2).wait() == 0
    whole = time.monotonic() - begun
    while kills < 10:
        run = start(source, data_dir, jobs=2)
        try:
            run.wait(draw.uniform(0, whole))
        except subprocess.TimeoutExpired:
            run.kill()
            run.wait()
            kills += 1
        else:
            assert contents(data_dir) == expected
            data_dir = tmp_path / f"killed after {kills}"
    assert start(source, data_dir, jobs=2).wait() == 0
    assert contents(data_dir) == expected

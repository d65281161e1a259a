"""From the GRID corpus as distributed to records that can be read back."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import tensorflow_datasets as tfds

from flax_talk.errors import UserError
from input_pipeline import faces, media, prepare
from input_pipeline.datasets import get_builder, grid
from input_pipeline.datasets.clips import ClipOptions, process_clip, process_clips

CLIPS = {"s26": ["bgbsza.mpg", "bwaq8s.mpg"], "s31": ["bgiq6p.mpg"]}


class Deadly(str):
    """A path that kills whichever process it is sent to."""

    def __reduce__(self):
        return os._exit, (1,)


class Counted:
    """A function that counts its calls."""

    def __init__(self, function):
        self.function, self.count = function, 0

    def __call__(self, *args, **kwargs):
        self.count += 1
        return self.function(*args, **kwargs)


def touch(path):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch()
    return path


def contents(folder):
    return {
        path.relative_to(folder): (path.read_bytes(), path.stat().st_mtime_ns)
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


@pytest.fixture(scope="module")
def corpus(real_media, tmp_path_factory) -> Path:
    """Three real clips, one damaged, and a speaker with nothing but a damaged one."""
    pytest.importorskip("dlib")
    source = tmp_path_factory.mktemp("corpus")
    for speaker, names in CLIPS.items():
        (source / speaker).mkdir()
        (source / "alignments" / speaker).mkdir(parents=True)
        for name in names:
            shutil.copy(real_media / "grid" / speaker / name, source / speaker)
    words = real_media / "grid" / "alignments" / "s26" / "bgbsza.align"
    shutil.copy(words, source / "alignments" / "s26")
    for speaker in ("s26", "s7"):
        touch(source / speaker / "damaged.mpg").write_bytes(b"no video " * 500)
    return source


@pytest.fixture(scope="module")
def prepared(corpus, tmp_path_factory) -> tuple[Path, prepare.Report]:
    data_dir = tmp_path_factory.mktemp("data")
    return data_dir, prepare.prepare("grid", data_dir, corpus)


def test_clips_are_found_as_distributed(tmp_path):
    plain = touch(tmp_path / "s2" / "bbaf2n.mpg")
    nested = touch(tmp_path / "s10" / "video" / "mpg_6000" / "bbaf3s.MPG")
    beside = touch(tmp_path / "alignments" / "s2" / "bbaf2n.align")
    inside = touch(tmp_path / "s10" / "align" / "bbaf3s.align")
    lone = touch(tmp_path / "s2" / "bbaf9z.mp4")
    for other in ("s2/._bbaf2n.mpg", "s2/notes.txt", "extras/lwae8n.mpg", "s2/z/bbaf2n.mp4"):
        touch(tmp_path / other)
    clips = grid.find_clips(tmp_path)
    assert list(clips) == ["s2", "s10"]
    assert clips["s2"] == [
        grid.GridClip("s2_bbaf2n", "s2", plain, beside),
        grid.GridClip("s2_bbaf9z", "s2", lone, None),
    ]
    assert clips["s10"] == [grid.GridClip("s10_bbaf3s", "s10", nested, inside)]


@pytest.mark.parametrize("folder", ["absent", "empty"])
def test_a_source_without_clips_says_what_was_expected(tmp_path, folder):
    (tmp_path / "empty" / "s1").mkdir(parents=True)
    with pytest.raises(UserError, match=rf"{folder}.*expected <source>/sN/\*\.mpg"):
        prepare.prepare("grid", tmp_path / "data", tmp_path / folder)


@pytest.mark.parametrize("dataset", ["gird", "grid:huge"])
def test_unknown_data_sets_and_configs_are_named(tmp_path, dataset):
    with pytest.raises(UserError, match=dataset.split(":")[-1]):
        prepare.prepare(dataset, tmp_path / "data", tmp_path)


def test_words_are_in_seconds_and_silence_is_left_out(tmp_path):
    path = tmp_path / "a.align"
    path.write_text("0 25000 sil\n25000 30000 bin\n30000 31000 sp\n31000 50000 blue\n")
    assert grid.read_words(path) == [
        {"word": "bin", "start": 1.0, "end": 1.2},
        {"word": "blue", "start": 1.24, "end": 2.0},
    ]
    path.write_text("bin blue\n")
    with pytest.raises(UserError, match=r"a\.align is not lines of"):
        grid.read_words(path)


@pytest.mark.parametrize("name", grid.SUBJECT_SPLITS)
def test_subject_splits_share_no_speaker(name):
    parts = grid.SUBJECT_SPLITS[name]
    speakers = [number for part in parts.values() for number in part]
    assert len(speakers) == len(set(speakers)) == {"2018": 32, "2019": 33}[name[-4:]]
    assert set(speakers) <= set(range(1, 35)) - {21}
    assert [len(parts[part]) for part in ("validation", "test")] == [7, 10]


def test_subject_split_is_an_expression():
    expected = "s9+s20+s23+s27+s29+s30+s34"
    assert grid.subject_split("temporal_gan_2019", "validation") == expected
    with pytest.raises(UserError, match="'dev'"):
        grid.subject_split("temporal_gan_2019", "dev")


def test_a_clip_that_kills_its_worker_does_not_end_the_run(tmp_path):
    pytest.importorskip("dlib")
    paths = [tmp_path / "first.mpg", Deadly("second.mpg"), tmp_path / "third.mpg"]
    results = list(process_clips(paths, process_clip, jobs=2))
    assert [path for path, _ in results] == paths
    assert "first.mpg" in results[0][1] and "third.mpg" in results[2][1]
    assert "crashed" in results[1][1]


def test_a_script_that_workers_cannot_import_is_told_so(tmp_path):
    script = tmp_path / "unguarded.py"
    script.write_text(
        "from input_pipeline.datasets.clips import process_clip, process_clips\n"
        "list(process_clips(['a.mpg', 'b.mpg'], process_clip, jobs=2))\n"
    )
    root = str(Path(grid.__file__).parents[2])
    run = subprocess.run(
        [sys.executable, script], env={**os.environ, "PYTHONPATH": root}, stderr=subprocess.PIPE
    )
    assert run.returncode == 1
    assert b"UserError: worker processes cannot start" in run.stderr


def test_sound_is_as_long_as_the_pictures(corpus):
    clip = process_clip(corpus / "s26" / "bgbsza.mpg", ClipOptions(audio_rate=16_000))
    assert clip["waveform"].shape == (len(clip["video"]) * 640,)
    assert clip["waveform"].dtype == np.int16 and np.abs(clip["waveform"]).max() > 1000


def test_sound_that_stops_early_is_a_reason(corpus, monkeypatch):
    monkeypatch.setattr(media, "read_audio", lambda path, rate: np.zeros(rate, np.float32))
    ((_, reason),) = process_clips([corpus / "s26" / "bgbsza.mpg"], process_clip)
    assert reason == "the audio ends 2.00 s before the video"


def test_records_read_back_without_tensorflow(prepared):
    _, report = prepared
    builder = tfds.builder_from_directory(report.path)
    metadata = builder.info.metadata
    assert {key: metadata[key] for key in ("image_size", "video_rate", "audio_rate")} == {
        "image_size": [128, 96],
        "video_rate": 25.0,
        "audio_rate": 50_000,
    }
    assert list(builder.info.splits) == ["s26", "s31"]
    assert len(builder.as_data_source(split="s26[:-1]")) == 1
    examples = {e["id"].decode(): e for e in builder.as_data_source(split="s26+s31")}
    assert sorted(examples) == ["s26_bgbsza", "s26_bwaq8s", "s31_bgiq6p"]
    for example in examples.values():
        assert example["id"].startswith(example["speaker"] + b"_")
        frames = media.decode_frames(example["video"])
        assert frames.shape == (75, 128, 96, 3) and frames.dtype == np.uint8
        assert example["waveform"].shape == (75 * 2000,)
        landmarks = example["landmarks"]
        assert landmarks.shape == (75, 68, 2) and landmarks.dtype == np.float32
        assert landmarks.min() > 0 and (landmarks < [96, 128]).all()
        stable = landmarks[:, faces.STABLE_POINTS] - faces.canonical_points()
        assert np.linalg.norm(stable, axis=-1).mean() < 2
    words = examples["s26_bgbsza"]["words"]
    assert words["word"] == [b"bin", b"green", b"by", b"s", b"zero", b"again"]
    assert np.all(np.diff(np.stack([words["start"], words["end"]]), axis=0) > 0)
    assert examples["s26_bwaq8s"]["words"]["word"] == []
    assert "tensorflow" not in sys.modules


def test_crops_are_steady(prepared):
    _, report = prepared
    for example in tfds.builder_from_directory(report.path).as_data_source(split="s26"):
        # The bridge of the nose is rigid but not among the aligned points: what moves there is
        # the crop. Second differences leave slow turns of the head out.
        bridge = example["landmarks"][:, 27:30]
        assert np.sqrt(np.mean(np.diff(bridge, 2, axis=0) ** 2)) < 0.25


def test_damaged_clips_are_reported(prepared):
    data_dir, report = prepared
    assert report.used == 3 and report.hours == pytest.approx(9 / 3600)
    assert [clip for clip, _ in report.failures] == ["s26_damaged", "s7_damaged"]
    assert all("cannot be read" in reason for _, reason in report.failures)
    lines = (data_dir / "grid" / "aligned_128x96" / "report.csv").read_text().splitlines()
    assert lines[0] == "id,reason" and len(lines) == 3


def test_files_do_not_depend_on_the_number_of_jobs(prepared, corpus, tmp_path):
    data_dir, _ = prepared
    prepare.prepare("grid", tmp_path, corpus, jobs=2)
    expected = {path: data for path, (data, _) in contents(data_dir).items()}
    assert {path: data for path, (data, _) in contents(tmp_path).items()} == expected


def test_a_second_run_changes_nothing(prepared, corpus, capsys):
    data_dir, first = prepared
    before = contents(data_dir)
    second = prepare.prepare("grid:aligned_128x96", data_dir, corpus)
    assert contents(data_dir) == before
    assert (second.used, second.failures) == (first.used, first.failures)
    assert "5 clips found, 3 used, 2 failed" in (out := capsys.readouterr().out)
    assert "already prepared, nothing changed" in out


def test_an_interrupted_run_goes_on_where_it_was(prepared, corpus, tmp_path, monkeypatch):
    class Interrupted(prepare.tqdm):
        def update(self, count=1):
            super().update(count)
            if self.n == 3:
                raise KeyboardInterrupt

    with monkeypatch.context() as context, pytest.raises(KeyboardInterrupt):
        context.setattr(prepare, "tqdm", Interrupted)
        prepare.prepare("grid", tmp_path, corpus)
    assert not list(tmp_path.rglob("1.0.0")) and not list(tmp_path.rglob("incomplete*"))
    done = {path.stem for path in tmp_path.rglob("*.examples")}
    assert len(done) == 2
    monkeypatch.setattr(media, "read_video", (reads := Counted(media.read_video)))
    prepare.prepare("grid", tmp_path, corpus)
    assert reads.count == 2
    data_dir, _ = prepared
    expected = {path: data for path, (data, _) in contents(data_dir).items()}
    assert {path: data for path, (data, _) in contents(tmp_path).items()} == expected


def test_a_corpus_without_a_usable_clip_gives_a_reason(tmp_path):
    pytest.importorskip("dlib")
    touch(tmp_path / "s1" / "bbaf2n.mpg").write_bytes(b"no video " * 500)
    with pytest.raises(UserError, match=r"no usable clip in .*s1_bbaf2n.*cannot be read"):
        prepare.prepare("grid", tmp_path / "data", tmp_path)


def test_builders_are_found_by_name():
    assert get_builder("grid") is grid.Grid

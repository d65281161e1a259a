"""From tiny corpora in the layouts of their owners to batches."""

import dataclasses
import functools
import json

import av
import jax
import numpy as np
import pytest
import tensorflow_datasets as tfds
from ml_collections import ConfigDict

from configs import syncnet_grid
from flax_talk import cli
from flax_talk.errors import UserError
from flax_talk.face_model.model import load_default
from flax_talk.systems import get_system
from flax_talk.training import optimizers, step
from input_pipeline import faces, loader, media, prepare
from input_pipeline.datasets import crema_d, folder, get_builder, lrw, subject_splits, tcd_timit
from input_pipeline.datasets.clips import ClipOptions
from input_pipeline.inspect import inspect, overlap

pytestmark = pytest.mark.usefixtures("fixed_face")

FRAMES = 12
RATE = 50_000

LABELS = """#!MLF!#
"Q:/Videos/TCD-TIMIT/volunteers/01M/Clips/straightcam/SA1.rec"
0 1000000 sil
1000000 2500000 sh
.
"Q:\\\\Videos\\\\TCD-TIMIT\\\\volunteers\\\\08F\\\\Clips\\\\straightcam\\\\sa1.rec"
0 3200000 iy
.
"""


def write(path, content=""):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content)
    return path


@functools.cache
def render(seed):
    """Frames uint8 [75, 256, 256, 3] of a rendered person, and the sound at `RATE`."""
    pytest.importorskip("espeakng_loader")
    from input_pipeline.datasets import synthetic_grid

    config = dataclasses.replace(
        synthetic_grid.SyntheticGrid.builder_configs["portrait"], audio_rate=RATE
    )
    clip = synthetic_grid.render_clip(synthetic_grid.RenderedClip(config, 1, seed))
    return media.decode_frames(clip["video"]), clip["waveform"].astype(np.float32) / 32767


@pytest.fixture(params=["drawn", pytest.param("rendered", marks=pytest.mark.soak)])
def draw(request, drawn_clip, monkeypatch):
    """Writes a clip as mp4, or as the flv files of CREMA-D: drawn, or rendered for dlib to find."""
    if request.param == "rendered":
        pytest.importorskip("dlib")
        monkeypatch.setitem(faces.DETECTORS, "dlib", functools.cache(faces.DlibDetector))

    def write_clip(path, seed=0, frames=FRAMES):
        if request.param == "drawn":
            frames, waveform = drawn_clip(seed, frames)
        else:
            shown, heard = render(seed)
            start = min(30, len(shown) - frames)  # a sentence begins with silence
            part = slice(start * RATE // 25, (start + frames) * RATE // 25)
            frames, waveform = shown[start : start + frames], heard[part]
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.suffix != ".flv":
            media.write_video(path, frames, 25.0, waveform, RATE)
            return path
        with av.open(str(path), "w", format="flv") as container:
            video = container.add_stream("flv", rate=25)
            video.height, video.width, video.pix_fmt = *frames.shape[1:3], "yuv420p"
            sound = container.add_stream("libmp3lame", rate=44_100, layout="mono")
            for frame in frames:
                container.mux(video.encode(av.VideoFrame.from_ndarray(frame)))
            spoken = av.AudioFrame.from_ndarray(waveform[None], format="fltp", layout="mono")
            spoken.sample_rate = RATE
            for piece in av.AudioResampler("s16p", "mono", 44_100, 1152).resample(spoken):
                container.mux(sound.encode(piece))
            for stream in (video, sound):
                container.mux(stream.encode(None))
        return path

    return write_clip


def prepared(name, source, tmp_path):
    """The examples by id, and the report."""
    report = prepare.prepare(name, tmp_path / "data", source)
    builder = tfds.builder_from_directory(report.path)
    examples = [e for source in builder.as_data_source().values() for e in source]
    return {example["id"].decode(): example for example in examples}, report


@functools.cache
def training(config_text):
    """A state of a small judge, the quickest system to compile, and its train step."""
    config = ConfigDict(json.loads(config_text))
    system = get_system(config.system)
    optimizer = optimizers.make_optimizer(config.optimizer, ["syncnet"], steps_per_epoch=1)
    init = functools.partial(step.init_state, system, config, optimizer)
    train = functools.partial(step.train_step, system, config, optimizer, axis_name=None)
    return jax.jit(init), jax.jit(train)


def train_on(name, tmp_path, split):
    """A training step on the first batch of a split; returns the batch."""
    config = syncnet_grid.get_config("tiny")
    config.train.seed = 0
    init, train = training(config.to_json())
    config.data.update(dataset=name, data_dir=str(tmp_path / "data"))
    config.data.update(builder_config="aligned_128x96", batch_size=1, num_workers=0)
    config.data.splits.train = split
    source = loader.open_source(config.data, "train")
    batch = next(iter(loader.make_loader(source, config.data, train=True, seed=0)))
    before = init(batch)
    after, metrics = train(before, batch)
    changes = jax.tree.map(lambda a, b: np.abs(a - b).max(), before.params, after.params)
    assert np.isfinite(metrics["syncnet/loss"]) and max(jax.tree.leaves(changes)) > 0
    return batch


def test_tcd_timit(draw, tmp_path, caplog):
    source = tmp_path / "corpus"
    clips = source / "volunteers" / "01M" / "Clips"
    draw(clips / "straightcam" / "sa1.mp4")
    write(clips / "straightcam" / "sa1.txt", "0 46797 She had your dark suit\n")
    draw(clips / "straightcam" / "si453.mp4", 1)
    write(clips / "straightcam" / "si453.lab", "0.0 0.1 b\n")
    draw(clips / "30degcam" / "sa1.mp4")
    draw(source / "volunteers" / "08F" / "Clips" / "straightcam" / "sa1.mp4", 2)
    write(source / "volunteers" / "08F" / "Clips" / "straightcam" / "sa2.mp4", "no video")
    draw(source / "lipspeakers" / "Lipspkr1" / "Clips" / "straightcam" / "sa1.mp4")
    write(source / "volunteer_labelfiles.mlf", LABELS.replace("\\\\", "\\"))

    examples, report = prepared("tcd_timit", source, tmp_path)
    assert sorted(examples) == ["s1_sa1", "s1_si453", "s8_sa1"]
    assert "has 4 clips, the whole of TCD-TIMIT has 5782" in caplog.text
    ((failed, reason),) = report.failures
    assert failed == "s8_sa2" and "cannot be read" in reason
    assert report.used == 3

    first = examples["s1_sa1"]
    assert first["text"] == b"She had your dark suit" and first["speaker"] == b"s1"
    assert first["phonemes"]["phoneme"] == [b"sil", b"sh"]
    np.testing.assert_allclose(first["phonemes"]["end"], [0.1, 0.25])
    assert examples["s1_si453"]["phonemes"]["phoneme"] == [b"b"]
    assert examples["s8_sa1"]["phonemes"]["phoneme"] == [b"iy"]

    test = tcd_timit.subject_split("temporal_gan_2019", "test")
    assert train_on("tcd_timit", tmp_path, test)["video"].shape == (1, FRAMES, 128, 96, 3)


def test_grid(draw, tmp_path):
    source = tmp_path / "corpus"
    for name, frames in (("bbaf2n", 75), ("bbaf3s", 75), ("bbaf4p", 50)):
        draw(source / "s1" / "video" / f"{name}.mp4", frames=frames)
    write(source / "alignments" / "s1" / "bbaf2n.align", "0 25000 sil\n25000 30000 bin\n")
    examples, report = prepared("grid", source, tmp_path)
    assert sorted(examples) == ["s1_bbaf2n", "s1_bbaf3s"]
    assert examples["s1_bbaf2n"]["words"]["word"] == [b"bin"]
    ((failed, reason),) = report.failures
    assert failed == "s1_bbaf4p"
    assert reason == "wrong length: 2.00 s where 3 s were expected"
    assert train_on("grid", tmp_path, "s1")["mask"].all()


def test_a_damaged_label_file_is_named(tmp_path):
    path = write(tmp_path / "a.mlf", '"x/01M/straightcam/sa1.rec"\n0 later sil\n.\n')
    with pytest.raises(UserError, match=r"a\.mlf is not lines of 'start end phoneme'"):
        tcd_timit.read_label_file(path)


def test_crema_d(draw, tmp_path):
    videos = tmp_path / "corpus" / "VideoFlash"
    draw(videos / "1015_DFA_ANG_XX.flv")
    draw(videos / "1001_IEO_SAD_HI.flv", 1)
    draw(videos / "1001_ITH_FEA_X.flv", 2)
    write(videos / "1001_XYZ_FEA_XX.flv")
    examples, report = prepared("crema_d", tmp_path / "corpus", tmp_path)
    assert sorted(examples) == ["1001_IEO_SAD_HI", "1001_ITH_FEA_X", "1015_DFA_ANG_XX"]
    assert not report.failures
    features = tfds.builder_from_directory(report.path).info.features
    angry = examples["1015_DFA_ANG_XX"]
    assert angry["text"] == b"Don't forget a jacket"
    assert features["emotion"].int2str(angry["emotion"]) == "anger"
    assert features["level"].int2str(angry["level"]) == "unspecified"
    assert features["level"].int2str(examples["1001_IEO_SAD_HI"]["level"]) == "high"
    assert np.abs(angry["waveform"]).max() > 1000

    splits = subject_splits("crema_d")["temporal_gan_2019"]
    assert train_on("crema_d", tmp_path, splits["train"])["mask"].all()


def test_pointers_of_large_files_are_told_from_videos(tmp_path):
    write(tmp_path / "VideoFlash" / "1001_IEO_SAD_HI.flv", "version https://git-lfs.github.com\n")
    with pytest.raises(UserError, match="git lfs pull"):
        crema_d.find_clips(tmp_path)


def model_landmarks(angles, size=40, centre=(32, 30)):
    """Landmarks float [68, 2] of the mean head of the face model, its angles in degrees."""
    pitch, yaw, roll = np.radians(angles)
    turn_x = [[1, 0, 0], [0, np.cos(pitch), -np.sin(pitch)], [0, np.sin(pitch), np.cos(pitch)]]
    turn_y = [[np.cos(yaw), 0, np.sin(yaw)], [0, 1, 0], [-np.sin(yaw), 0, np.cos(yaw)]]
    turn_z = [[np.cos(roll), -np.sin(roll), 0], [np.sin(roll), np.cos(roll), 0], [0, 0, 1]]
    model = load_default()
    turned = model.mean[model.landmarks] @ (np.array(turn_z) @ turn_y @ turn_x).T
    return turned[:, :2] * (size, -size) + centre


@pytest.mark.parametrize("angles", [(0, 0, 0), (9, -20, 5), (-15, 30, -25), (5, 3, 60)])
def test_head_pose_is_that_of_the_face_model(angles):
    pose = faces.head_pose(np.stack([model_landmarks(angles)] * 2))
    assert pose.shape == (2, 3) and pose.dtype == np.float32
    np.testing.assert_allclose(pose, [angles] * 2, atol=0.5)


def test_lrw_keeps_the_nearly_frontal(tmp_path, monkeypatch, fixed_face):
    class TurnedFace(fixed_face):
        """Turned by an angle that the file's brightness says."""

        def __call__(self, image):
            yaw = 8 if image[0].mean() < 128 else 12
            return [faces.Face(np.float32([0, 0, 32, 64]), model_landmarks((2, yaw, -3)))]

    monkeypatch.setitem(faces.DETECTORS, "dlib", TurnedFace)
    source = tmp_path / "corpus" / "lipread_mp4" / "ABOUT"
    seconds = "Text:  ABOUT\nConf:  3\nDuration: 0.20 seconds\n"
    grey = np.full((29, 64, 32, 3), 60, np.uint8)
    sound = np.full(29 * 2000, 0.1, np.float32)
    for split, number, frames in (
        ("train", 1, grey),
        ("train", 2, grey + 120),
        ("val", 1, grey),
        ("test", 1, grey),
        ("test", 2, grey),
        ("test", 3, grey[:20]),
    ):
        path = source / split / f"ABOUT_{number:05d}.mp4"
        media.write_video(path, frames, 25.0, sound, RATE)
        write(
            path.with_suffix(".txt"), seconds if (split, number) != ("test", 2) else "Text: ABOUT"
        )

    examples, report = prepared("lrw", tmp_path / "corpus", tmp_path)
    assert sorted(examples) == ["test_ABOUT_00001", "train_ABOUT_00001", "validation_ABOUT_00001"]
    reasons = dict(report.failures)
    assert "head is turned: pitch 2, yaw 12, roll -3 degrees" in reasons["train_ABOUT_00002"]
    assert "no line 'Duration" in reasons["test_ABOUT_00002"]
    assert reasons["test_ABOUT_00003"] == "wrong length: 0.80 s where 1.16 s were expected"
    words = examples["train_ABOUT_00001"]["words"]
    assert words["word"] == [b"about"]
    np.testing.assert_allclose([words["start"], words["end"]], [[0.48], [0.68]], atol=1e-6)
    assert train_on("lrw", tmp_path, "validation")["mask"].all()
    options = ClipOptions(audio_rate=16_000, max_angle=10, length=1.16)
    assert lrw.Lrw.BUILDER_CONFIGS[1].options == options


@pytest.mark.soak
@pytest.mark.parametrize("draw", ["rendered"], indirect=True)
def test_lrw_of_rendered_clips(draw, tmp_path):
    source = tmp_path / "corpus" / "lipread_mp4" / "ABOUT"
    for seed in range(3):
        path = draw(source / "train" / f"ABOUT_{seed:05d}.mp4", seed, frames=29)
        write(path.with_suffix(".txt"), "Duration: 0.20 seconds\n")
    examples, report = prepared("lrw", source.parents[1], tmp_path)
    assert examples and all("turned" in reason for _, reason in report.failures)
    assert train_on("lrw", tmp_path, "train")["mask"].all()


def openface(rows):
    header = ["frame", "success"]
    header += [f"AU{unit:02d}_{kind}" for kind in "cr" for unit in (10, 14, 20, 25, 26)]
    return "\n".join(", ".join(map(str, row)) for row in [header, *rows])


def test_folder_and_its_inspection(draw, tmp_path, capsys):
    source = tmp_path / "corpus"
    draw(source / "Ann Lee" / "one.mp4")
    write(source / "Ann Lee" / "one.align", "0 2500 sil\n2500 5000 hello\n")
    write(source / "Ann Lee" / "one.txt", "Hello,\nthere\n")
    # Twice the frame rate; the face is lost in the first half. AU25 is there, AU26 barely not.
    lost = [(n, 0, *[0] * 10) for n in range(FRAMES)]
    found = [(n, 1, 0, 0, 0, 1, 0, 0, 0, 0, 2.5, 1.5) for n in range(FRAMES, 2 * FRAMES)]
    write(source / "Ann Lee" / "one.csv", openface(lost + found))
    draw(source / "Bob" / "takes" / "two.mp4", 1)
    draw(source / "three.mp4", 2)
    write(source / "Bob" / "four.mp4", "no video")
    write(source / "speakers.csv", "file,speaker\nthree.mp4,Bob\n")

    examples, report = prepared("folder", source, tmp_path)
    assert sorted(examples) == ["Ann Lee_one", "Bob_takes_two", "three"]
    assert [clip for clip, _ in report.failures] == ["Bob_four"]
    one = examples["Ann Lee_one"]
    assert one["speaker"] == b"Ann Lee" and one["text"] == b"Hello, there"
    assert one["words"]["word"] == [b"hello"]
    below = np.nextafter(np.float32(0.2), np.float32(0))
    np.testing.assert_array_equal(one["action_units"], np.float32([[0, 0, 0, 0.5, below]] * FRAMES))
    assert examples["three"]["action_units"].shape == (0, 5)
    assert train_on("folder", tmp_path, "Ann_Lee + Bob")["mask"].all()

    config = str(report.path.parent)
    capsys.readouterr()
    assert cli.main(["inspect", config, "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert (told["clips"], told["failed"]) == (3, 1)
    assert told["hours"] == pytest.approx(3 * FRAMES / 25 / 3600)
    assert told["speakers"] == {"Ann Lee": 1, "Bob": 2} and told["overlap"] == {}
    assert told["splits"]["Bob"]["clips"] == 2
    third = pytest.approx(1 / 3)
    assert told["labels"]["words"] == {"clips": third, "per_clip": third, "distinct": 1}
    units = {"AU10": 0, "AU14": 0, "AU20": 0, "AU25": 1, "AU26": 0}
    assert told["labels"]["action_units"] == {"clips": third, **units}
    assert media.read_image(told["sheet"]).shape == (3 * (128 + 16), 8 * 96, 3)
    assert cli.main(["inspect", str(tmp_path / "data"), "--out", str(tmp_path / "s.png")]) == 0
    assert "split Bob: 2 clips, 0.00 h, 1 speakers" in capsys.readouterr().out
    assert (tmp_path / "s.png").read_bytes()[1:4] == b"PNG"


def test_files_of_one_name_are_refused(tmp_path):
    for name in ("one.mp4", "one.avi"):
        write(tmp_path / "Ann" / name)
    with pytest.raises(UserError, match="are both Ann_one"):
        folder.find_clips(tmp_path)


def test_speakers_in_two_splits_are_found():
    speakers = {"train": ["s1", "s2"], "validation": ["s3"], "test": ["s2"]}
    assert overlap(speakers) == {"s2": ["train", "test"]}


def test_inspection_tells_what_a_papers_sets_have(drawn_data, tmp_path):
    found = inspect(f"{drawn_data}/grid/drawn", tmp_path / "sheet.png")
    assert found.speakers == {"s1": 8, "s2": 3} and found.overlap == {}
    papers = found.papers["temporal_gan_2019"]
    assert (papers["train"]["clips"], papers["train"]["missing"]) == (8, 15)
    assert (papers["test"]["clips"], papers["validation"]["clips"]) == (3, 0)
    assert (papers["test"]["paper_clips"], papers["test"]["paper_hours"]) == (9976, 8.31)
    assert found.expected == 33_000 and "no speaker is in two splits" in str(found)


def test_an_inspection_of_several_data_sets_asks_which(tmp_path):
    for name in ("grid", "lrw"):
        write(tmp_path / name / "aligned_128x96" / "1.0.0" / "dataset_info.json")
    with pytest.raises(UserError, match=r"give one of .*grid/aligned_128x96, .*lrw/aligned"):
        inspect(tmp_path)


@pytest.mark.parametrize("name", ["tcd_timit", "crema_d", "lrw", "folder"])
def test_a_source_without_clips_says_what_was_expected(name, tmp_path):
    for source in (tmp_path, tmp_path / "absent"):
        with pytest.raises(UserError, match="expected <source>/"):
            get_builder(name).find_clips(source)


@pytest.mark.parametrize(("name", "speakers"), [("tcd_timit", 59), ("crema_d", 91)])
def test_subject_splits_share_no_speaker(name, speakers):
    for sets in subject_splits(name).values():
        parts = [text.split("+") for text in sets.values()]
        assert len(set().union(*parts)) == sum(map(len, parts)) == speakers
        assert len(sets["test"].split("+")) == (10 if "validation" in sets else 17)

"""The rendered corpus: equal bytes on any number of processes, and truth that is true."""

import hashlib
from pathlib import Path

import numpy as np
import pytest
import tensorflow_datasets as tfds

from flax_talk.face_model import model as face
from input_pipeline import audio, faces, loader, media, prepare
from input_pipeline.datasets import synthetic_grid
from input_pipeline.datasets.synthetic_grid import RenderedClip, SyntheticGrid, render_clip
from input_pipeline.synthetic import articulation

pytest.importorskip("espeakng_loader")


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    data_dir = tmp_path_factory.mktemp("data")
    return data_dir, prepare.prepare("synthetic_grid:tiny", data_dir, jobs=1)


@pytest.fixture(scope="module")
def examples(prepared):
    builder = tfds.builder_from_directory(prepared[1].path)
    return {split: list(builder.as_data_source(split)) for split in builder.info.splits}


@pytest.fixture(scope="module")
def clip(examples):
    return examples["train"][0]


def digests(folder: Path) -> dict[str, str]:
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in files
    }


def test_two_builds_are_byte_equal(prepared, tmp_path):
    data_dir, report = prepared
    assert (report.used, report.failures) == (8, ())
    prepare.prepare("synthetic_grid:tiny", tmp_path, jobs=2)
    first = digests(data_dir)
    assert first == digests(tmp_path) and any("array_record" in name for name in first)


def test_splits_share_no_speaker(examples):
    speakers = {split: {one["speaker"] for one in part} for split, part in examples.items()}
    assert speakers == {"train": {b"r1", b"r2"}, "validation": {b"r3"}, "test": {b"r4"}}


def test_every_config_fits_the_loader_and_shares_no_speaker():
    for config in SyntheticGrid.builder_configs.values():
        audio.samples_per_frame(config.audio_rate, synthetic_grid.FPS)
        builder = SyntheticGrid(config=config.name)
        parts = [{clip.speaker for clip in clips} for clips in builder.clips.values()]
        assert len(set.union(*parts)) == sum(map(len, parts)) == sum(config.speakers)


def test_a_clip_has_three_seconds_of_everything(clip):
    assert len(clip["video"]) == 75
    assert clip["waveform"].shape == (150_000,) and clip["waveform"].dtype == np.int16
    shapes = {
        "landmarks": (75, 68, 2),
        "visemes": (75,),
        "geometry": (199,),
        "expression": (75, 29),
        "pose": (75, 6),
        "action_units": (75, 5),
        "blink": (75,),
    }
    assert {name: np.shape(clip[name]) for name in shapes} == shapes
    assert media.decode_frames(clip["video"][:1]).shape == (1, 128, 96, 3)


def test_the_words_are_a_sentence_of_the_grammar_and_hold_the_sound(clip):
    words = clip["words"]
    for word, choices in zip(words["word"], synthetic_grid.GRAMMAR, strict=True):
        assert word.decode() in choices
    waveform = clip["waveform"].astype(float)

    def level(start, end):
        return np.sqrt(np.mean(waveform[round(start * 50_000) : round(end * 50_000)] ** 2))

    first, last = words["start"][0], words["end"][-1]
    silence = max(level(0, first - 0.03), level(last + 0.03, 3))
    for start, end in zip(words["start"], words["end"], strict=True):
        assert level(start, end) > 5 * silence


def test_geometry_expression_and_pose_give_the_landmarks(clip):
    points = face.projected_landmarks(
        face.load_default(), clip["geometry"], clip["expression"], clip["pose"]
    )
    np.testing.assert_allclose(points, clip["landmarks"], atol=1e-2)


def test_aligned_frames_are_aligned(clip):
    stable = clip["landmarks"][:, faces.STABLE_POINTS]
    target = faces.canonical_points((128, 96))
    # No similarity transform could bring them nearer: heads differ, alignment does not.
    transform = faces.similarity_transform(stable, target)
    identity = np.broadcast_to(np.eye(2, 3, dtype=np.float32), transform.shape)
    np.testing.assert_allclose(transform[..., :2], identity[..., :2], atol=1e-3)
    np.testing.assert_allclose(transform[..., 2], identity[..., 2], atol=0.05)


def test_the_mouth_moves_with_the_sound_and_rests_in_silence(clip):
    frames = np.abs(clip["waveform"].reshape(75, -1).astype(float)).mean(axis=1)
    jaw = clip["action_units"][:, articulation.ACTION_UNITS.index("AU26")]
    spoken = slice(*(round(t * 25) for t in (clip["words"]["start"][0], clip["words"]["end"][-1])))
    shifts = range(-6, 7)
    matches = [np.corrcoef(np.roll(frames, shift), jaw)[0, 1] for shift in shifts]
    assert abs(shifts[int(np.argmax(matches))]) <= 2
    assert jaw[spoken].max() > 0.3 and jaw[: spoken.start - 3].max(initial=0) < 0.05


def test_the_same_clip_is_rendered_again_alike_and_another_is_not(clip):
    config = SyntheticGrid.builder_configs["tiny"]
    speaker, number = clip["id"].decode()[1:].split("_")
    again = render_clip(RenderedClip(config, int(speaker), int(number)))
    np.testing.assert_array_equal(again["waveform"], clip["waveform"])
    assert again["video"] == list(clip["video"])
    other = render_clip(RenderedClip(config, int(speaker), int(number) + 1))
    assert other["video"] != list(clip["video"])


def test_lids_are_closed_in_the_picture_when_the_truth_says_so(examples):
    clips = [one for part in examples.values() for one in part]

    def aspect(points):
        height = np.linalg.norm(points[:, [37, 43]] - points[:, [41, 47]], axis=-1)
        return (height / np.linalg.norm(points[:, [36, 42]] - points[:, [39, 45]], axis=-1)).mean(1)

    ratios = np.concatenate([aspect(one["landmarks"]) for one in clips])
    blink = np.concatenate([one["blink"] for one in clips])
    assert (blink > 0.9).any()
    assert ratios[blink > 0.9].max() < 0.6 * np.median(ratios[blink == 0])


def test_the_loader_reads_it(prepared):
    from configs.temporal_gan_2019_synthetic_grid import get_config

    config = get_config("tiny")
    config.data.data_dir = str(prepared[0])
    source = loader.open_source(config.data, "train")
    batch = next(iter(loader.make_loader(source, config.data, train=True, seed=0)))
    assert batch["video"].shape == (2, 10, 128, 96, 3) and batch["mask"].all()


def test_a_portrait_moves_in_its_frame():
    config = SyntheticGrid.builder_configs["portrait"]
    one = render_clip(RenderedClip(config, 1, 0))
    assert media.decode_frames(one["video"][:1]).shape == (1, 256, 256, 3)
    eyes = one["landmarks"][:, [36, 45]]
    assert np.linalg.norm(eyes[:, 1] - eyes[:, 0], axis=-1).mean() == pytest.approx(56, rel=0.1)
    assert eyes.mean(axis=1).std(axis=0).min() > 0.3
    assert (one["landmarks"] > 0).all() and (one["landmarks"] < 256).all()

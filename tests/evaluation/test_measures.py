"""Spoilt videos: each measure moves when what it measures is spoilt, and the right way."""

import math

import cv2
import numpy as np
import pytest

from flax_talk.evaluation import measures
from flax_talk.evaluation.measures import Clips, Footage, Judges
from input_pipeline import audio, media
from input_pipeline.datasets.synthetic_grid import RenderedClip, SyntheticGridConfig, render_clip

CORPUS = SyntheticGridConfig(name="default", speakers=(14, 2, 4), sentences=50)
RATE = CORPUS.audio_rate

SHIPPED = pytest.mark.skipif(
    not all(path.is_dir() for path in measures.SHIPPED_JUDGES[:2]),
    reason="the judges are not there",
)


@pytest.fixture(scope="module")
def clip():
    """A rendered clip of a person on whom no judge was trained."""
    example = render_clip(RenderedClip(CORPUS, 17, 1))
    frames = media.decode_frames(list(example["video"]))
    words = " ".join(word["word"] for word in example["words"])
    return frames, np.asarray(example["waveform"], np.float32) / 32767, words, example["blink"]


@pytest.fixture(scope="module")
def families():
    """Made once: the networks compile for a shape only once."""
    made = {}

    def get(name):
        if name not in made:
            made[name] = measures.FAMILIES[name](Judges())
        return made[name]

    return get


@pytest.fixture(scope="module")
def measured(clip, families):
    """Columns of a family, of the clip or of what is made of it."""

    def measure(family, *columns, change=lambda frames: frames, delay=0):
        frames, waveform, words, closure = clip
        mask = np.ones((1, len(frames)), bool)
        moved = np.roll(waveform, delay * RATE // 25)
        clips = Clips(
            video=Footage(change(frames)[None], mask),
            reference=Footage(frames[None], mask),
            still=Footage(frames[None, :1], mask),
            mfcc=audio.mfcc(moved, RATE, 4 * len(frames))[None],
            text=[words],
            closure=[closure],
        )
        fields = families(family)(clips)
        record = {f"{family}/{name}": np.asarray(value[0]) for name, value in fields.items()}
        return list(measures.summarise(columns, [record], [record]).values())

    return measure


def blurred(frames):
    return np.stack([cv2.GaussianBlur(frame, (0, 0), 2) for frame in frames])


def shuffled(frames):
    return frames[np.random.default_rng(0).permutation(len(frames))]


def frozen_mouth(frames):
    """The mouth of the first frame, for good."""
    changed = frames.copy()
    changed[:, 70:118, 20:76] = frames[:1, 70:118, 20:76]
    return changed


def test_blur_costs_sharpness_and_likeness(measured):
    for family, columns in (
        ("sharpness", ("cpbd", "fdbm")),
        ("reconstruction", ("psnr", "ssim", "ssim_uniform", "psnr_lower", "ssim_lower")),
    ):
        sharp, soft = measured(family, *columns), measured(family, *columns, change=blurred)
        for name, before, after in zip(columns, sharp, soft, strict=True):
            assert after < 0.95 * before, name
    assert measured("reconstruction", "psnr", "ssim") == [math.inf, pytest.approx(1, abs=1e-6)]


def test_frames_out_of_order_cost_likeness_but_no_sharpness(measured):
    assert measured("reconstruction", "psnr", change=shuffled)[0] < 35
    sharp = measured("sharpness", "cpbd", "fdbm")
    assert measured("sharpness", "cpbd", "fdbm", change=shuffled) == pytest.approx(sharp, rel=1e-6)


def test_a_frozen_mouth_does_not_move_and_misses_the_real_one(measured):
    moving = measured("mouth", "mouth_motion", "landmark_error")
    frozen = measured("mouth", "mouth_motion", "landmark_error", change=frozen_mouth)
    assert moving[1] == 0 and frozen[1] > 0.5
    assert frozen[0] < 0.4 * moving[0]


def test_identity_is_that_of_the_still_until_another_person_comes_in(measured, clip):
    own = measured("identity", "acd")[0]
    other = render_clip(RenderedClip(CORPUS, 18, 0))
    stranger = media.decode_frames(list(other["video"]))
    assert 0 < own < 0.35
    assert measured("identity", "acd", change=lambda frames: stranger)[0] > own + 0.15


@SHIPPED
def test_the_offset_follows_the_sound_and_a_frozen_mouth_has_no_confidence(measured):
    columns = ("av_offset", "av_confidence")
    offset, confidence = measured("synchrony", *columns)
    assert offset == 0
    for frames in (-7, 5):
        # Sound that comes later is behind the picture: a negative offset.
        assert measured("synchrony", *columns, delay=frames)[0] == -frames
    assert measured("synchrony", *columns, change=frozen_mouth)[1] < 0.5 * confidence
    assert measured("synchrony", *columns, change=shuffled)[1] < 0.5 * confidence


@SHIPPED
def test_words_are_not_read_from_lips_that_do_not_speak_them(measured):
    wer, cer = measured("lip_reading", "wer", "cer")
    for change in (frozen_mouth, shuffled):
        spoilt = measured("lip_reading", "wer", "cer", change=change)
        assert spoilt[0] >= wer and spoilt[1] > cer


def test_true_blinks_are_deep_ones_from_open_to_open():
    closure = np.zeros(30)
    closure[4:9] = [0.2, 0.8, 1, 0.5, 0.1]
    closure[15:17] = 0.4
    closure[27:] = [0.3, 0.9, 1]
    assert measures.true_blinks(closure).tolist() == [[3, 9], [26, 29]]
    assert measures.true_blinks(np.zeros(5)).shape == (0, 2)


def test_blinks_of_the_reference_are_scored_where_they_are_known(measured, clip):
    true = measures.true_blinks(clip[-1])
    assert len(true)
    rate, precision, recall = measured(
        "blinks", "blinks_per_second", "blink_precision", "blink_recall"
    )
    assert precision == 1 and recall > 0.5 and rate == pytest.approx(recall * len(true) / 3)


def test_columns_are_chosen_by_name_or_family():
    assert measures.choose(["sharpness", "psnr"]) == ["psnr", "cpbd", "fdbm"]
    assert measures.choose() == list(measures.COLUMNS)


def test_clips_without_a_face_do_not_count():
    nothing = np.full((1, 4, 64, 64, 3), 128, np.uint8)
    mask = np.ones((1, 4), bool)
    footage = Footage(nothing, mask, is_aligned=False)
    assert footage.landmarks == [None]
    assert footage.faces.shape == (1, 4, 128, 96, 3) and not footage.faces.any()
    clips = Clips(video=footage, reference=footage, still=Footage(nothing[:, :1], mask))
    fields = measures.FAMILIES["mouth"](Judges())(clips)
    records = [{f"mouth/{name}": np.asarray(value[0]) for name, value in fields.items()}]
    seen = {"mouth/motion": np.array(0.25), "mouth/error": np.array(1.0)}
    assert math.isnan(measures.summarise(["mouth_motion"], records, records)["mouth_motion"])
    together = measures.summarise(["mouth_motion"], [*records, seen], records)
    assert together == {"mouth_motion": 0.25}

"""Offset, confidence and sign of the evaluation of SyncNet, and the judge that ships."""

from functools import partial
from pathlib import Path

import jax
import numpy as np
import pytest

import flax_talk
from flax_talk.metrics.synchrony import shifted_distances, synchrony
from flax_talk.systems.syncnet import judge
from flax_talk.training.checkpoints import load_config, load_variables
from input_pipeline import audio, faces, media

N, D = 60, 8
measured = jax.jit(synchrony, static_argnames=("max_shift", "zero_padding"))


def draw(seed, count=N):
    return np.random.default_rng(seed).normal(size=(count, D)).astype(np.float32)


def published(video, audio, max_shift):
    """Offset, confidence, least distance and averaged distances, as the published evaluation
    has them: the sound padded with zeros, one window after the other, in double precision."""
    padded = np.pad(audio.astype(np.float64), ((max_shift, max_shift), (0, 0)))
    rows = [
        np.linalg.norm(window - padded[i : i + 2 * max_shift + 1], axis=1)
        for i, window in enumerate(video)
    ]
    averaged = np.mean(rows, axis=0)
    at = averaged.argmin()
    return max_shift - at, np.median(averaged) - averaged[at], averaged[at], averaged


def delay(audio, shift):
    """The sound `shift` windows later (negative: earlier); silence, unlike all, comes in."""
    moved = np.full_like(audio, 3.0)
    if shift >= 0:
        moved[shift:] = audio[: len(audio) - shift]
    else:
        moved[:shift] = audio[-shift:]
    return moved


@pytest.mark.parametrize("shift", [-15, -4, 0, 1, 15])
def test_measures_are_those_of_the_published_evaluation(shift):
    video = draw(0)
    audio = delay(video + 0.5 * draw(1), shift)
    offset, confidence, distance, averaged = published(video, audio, 15)
    got = measured(video, audio)
    assert int(got.offset) == offset
    assert float(got.confidence) == pytest.approx(confidence, rel=1e-5)
    assert float(got.distance) == pytest.approx(distance, rel=1e-5)
    np.testing.assert_allclose(shifted_distances(video, audio), averaged, rtol=1e-5)


@pytest.mark.parametrize("zero_padding", [True, False])
@pytest.mark.parametrize("early", range(-10, 11))
def test_offset_is_positive_where_the_audio_leads(early, zero_padding):
    video = draw(2)
    audio = delay(video + 0.5 * draw(3), -early)
    assert int(measured(video, audio, zero_padding=zero_padding).offset) == early


def test_padded_windows_count_for_nothing():
    """A batch of unequal lengths measures what its videos do alone."""
    lengths = [60, 41, 17]
    video, audio = np.stack([draw(4)] * 3), np.stack([draw(5)] * 3)
    mask = np.arange(N) < np.array(lengths)[:, None]
    for zero_padding in (True, False):
        got = measured(video, audio, mask, max_shift=6, zero_padding=zero_padding)
        for row, length in enumerate(lengths):
            own = video[row, :length], audio[row, :length]
            alone = measured(*own, max_shift=6, zero_padding=zero_padding)
            np.testing.assert_allclose(
                [x[row] for x in got], list(alone), rtol=1e-5, err_msg=str(length)
            )


def test_without_padding_a_shift_is_measured_on_the_windows_that_it_leaves():
    video, audio = draw(6, 9), draw(7, 9)
    got = shifted_distances(video, audio, max_shift=10, zero_padding=False)
    for shift in range(-8, 9):
        pairs = [(i, i + shift) for i in range(9) if 0 <= i + shift < 9]
        expected = np.mean([np.linalg.norm(video[i] - audio[j]) for i, j in pairs])
        assert float(got[10 + shift]) == pytest.approx(expected, rel=1e-5)
    # No window is left at ten frames: that is no least distance, and no part of the median.
    assert np.isinf(np.asarray(got)[[0, 1, 19, 20]]).all()
    result = synchrony(video, audio, max_shift=10, zero_padding=False)
    finite = np.asarray(got)[2:19]
    assert float(result.confidence) == pytest.approx(np.median(finite) - finite.min(), rel=1e-5)


def test_equal_embeddings_are_in_sync_by_padding_only():
    """What `zero_padding` is off for in the validation of a judge that has not learnt yet."""
    video = np.ones((N, D), np.float32)
    assert int(synchrony(video, video).offset) == 0
    assert int(synchrony(video, video, zero_padding=False).offset) == 15


CHECKPOINT = Path(flax_talk.__file__).parent / "checkpoints" / "syncnet"


@pytest.mark.parametrize("speaker", [pytest.param("s26", marks=pytest.mark.soak), "s31"])
def test_the_judge_that_ships_measures_shifts_of_real_clips(real_media, speaker):
    """The sound of people whom it has not seen, early and late by up to ten frames.

    Half of the recordings of s26 are measured a frame apart as they are, and where that is nearly
    one and a half, a shift may be measured one frame off.
    """
    config, (variables, _) = load_config(CHECKPOINT), load_variables(CHECKPOINT)
    rate, size = config.data.audio_rate, tuple(config.data.image_size)
    stride = audio.samples_per_frame(rate, 25)
    detector = faces.get_detector("dlib")
    shifts = np.arange(-10, 11)
    measure = jax.jit(partial(judge, config))
    for path in sorted((real_media / "grid" / speaker).glob("*.mpg"))[:2]:
        frames = media.read_video(path).frames
        crops, _, _ = faces.align(frames, faces.detect_video(frames, detector), size)
        waveform = media.read_audio(path, rate)[: len(frames) * stride]
        offsets = []
        for shift in shifts:
            moved = np.roll(waveform, -shift * stride)
            if shift > 0:
                moved[-shift * stride :] = 0
            elif shift < 0:
                moved[: -shift * stride] = 0
            mfcc = audio.mfcc(moved, rate, 4 * len(frames))
            result = measure(variables, crops[None], mfcc[None])
            offsets.append(int(result.offset[0]))
            assert float(result.confidence[0]) > 0.5
        errors = np.array(offsets) - shifts
        if speaker == "s31":
            assert not errors.any(), path.name
        else:
            own = errors[len(shifts) // 2]
            assert abs(own) <= 1 and (np.abs(errors - own) <= 1).all(), path.name
            assert (errors == own).mean() > 0.75, path.name

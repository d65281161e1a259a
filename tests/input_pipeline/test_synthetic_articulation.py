"""Articulation: lips that close for a p, anticipate a w, and rest in silence; blinks at random."""

import numpy as np
import pytest

from flax_talk.face_model.model import load_default
from input_pipeline.speech import Segment
from input_pipeline.synthetic import articulation

FPS = 25.0
UNITS = load_default().unit_names
JAW, PUCKER = UNITS.index("jawOpen"), UNITS.index("mouthPucker")


def track(phonemes, seconds=1.0):
    visemes = articulation.segment_visemes(phonemes, seconds)
    return articulation.coarticulate(visemes, UNITS, round(seconds * FPS), FPS)


def gap(weights):
    """Gap of the inner lips over the distance of the outer eye corners, [T]."""
    model = load_default()
    shape = model.mean[model.landmarks] + np.einsum(
        "vik,tk->tvi", model.expression[model.landmarks], weights @ model.units_to_expression
    )
    width = np.linalg.norm(shape[:, 36] - shape[:, 45], axis=-1)
    return np.linalg.norm(shape[:, 62] - shape[:, 66], axis=-1) / width


def test_every_unit_of_a_viseme_exists_and_every_phoneme_has_a_viseme():
    names = {unit for viseme in articulation.VISEMES.values() for unit in viseme.units}
    assert names <= set(UNITS)
    used = {name for names in articulation.PHONEME_VISEMES.values() for name in names}
    assert used == set(articulation.VISEMES)


def test_visemes_fill_the_clip():
    phonemes = [Segment("aI", 0.2, 0.4), Segment("_", 0.5, 0.6)]
    segments = articulation.segment_visemes(phonemes, 1.0)
    names = ["silence", "open", "close_front", "silence", "silence", "silence"]
    assert [segment.name for segment in segments] == names
    assert segments[0].start == 0 and segments[-1].end == 1
    assert all(a.end == b.start for a, b in zip(segments, segments[1:], strict=False))
    labels = articulation.frame_labels(segments, 25, FPS)
    np.testing.assert_array_equal(labels[[0, 4, 5, 8, 9, 12, 24]], [0, 0, 1, 2, 2, 4, 5])


def test_plosives_close_before_they_are_heard():
    phonemes = [Segment("A:", 0.2, 0.4), Segment("p", 0.4, 0.5), Segment("A:", 0.5, 0.7)]
    vowel, closure, *_ = articulation.segment_visemes(phonemes, 1.0)[1:]
    assert vowel.end == closure.start == pytest.approx(0.35) and closure.end == 0.5


def test_silence_is_the_face_at_rest():
    weights = track([Segment("A:", 0.4, 0.6)], seconds=2.0)
    assert np.abs(weights[:4]).max() < 0.01 and np.abs(weights[25:]).max() < 0.01
    assert weights[12, JAW] > 0.3


@pytest.mark.parametrize("closed", ["p", "b", "m"])
def test_lips_meet_between_open_vowels(closed):
    vowel, burst = 0.2, 0.5
    weights = track(
        [
            Segment("A:", burst - vowel, burst),
            Segment(closed, burst, burst + 0.08),
            Segment("A:", burst + 0.08, burst + 0.28),
        ]
    )
    openings = gap(weights)
    rest = gap(np.zeros((1, len(UNITS))))[0]
    assert openings.max() > rest + 0.08
    around = openings[round(burst * FPS) - 1 : round(burst * FPS) + 2]
    assert around.min() < rest + 0.02


def test_rounding_is_anticipated():
    after_open = track([Segment("k", 0.4, 0.46), Segment("A:", 0.46, 0.7)])
    after_round = track([Segment("k", 0.4, 0.46), Segment("u:", 0.46, 0.7)])
    assert after_round[10, PUCKER] > after_open[10, PUCKER] + 0.15


def test_the_jaw_follows_the_sound_without_delay():
    weights = track([Segment("a", 0.4, 0.64)])
    centre = (weights[:, JAW] * (np.arange(25) + 0.5)).sum() / weights[:, JAW].sum() / FPS
    assert centre == pytest.approx(0.52, abs=0.02)


def test_blinks_come_at_the_stated_rate_and_end():
    closure = articulation.draw_blinks(np.random.default_rng(0), 25 * 600, FPS)
    starts = np.flatnonzero((closure[1:] > 0) & (closure[:-1] == 0))
    assert len(starts) / 600 == pytest.approx(0.4, rel=0.15)
    assert closure.min() == 0 and closure.max() > 0.9
    assert np.diff(starts).min() >= 0.4 * FPS


def test_dimples_and_drift_have_the_stated_size():
    rng = np.random.default_rng(0)
    strength = articulation.draw_dimples(rng, 25 * 600, FPS)
    starts = np.flatnonzero((strength[1:] > 0.02) & (strength[:-1] <= 0.02))
    assert len(starts) / 600 == pytest.approx(0.3, rel=0.2)
    assert 0.5 < strength.max() <= 1 and np.median(strength) == 0
    drift = articulation.draw_drift(rng, 25 * 600, FPS, 0.35, 0.05)
    assert drift.std() == pytest.approx(0.05, rel=0.1)
    assert np.abs(np.diff(drift)).max() < 0.02


def test_action_units_of_single_movements():
    model = load_default()
    weights = np.stack(
        [model.unit_weights(), model.unit_weights(jawOpen=0.6), model.unit_weights(mouthDimple=1.0)]
    )
    points = model.mean[model.landmarks] + np.einsum(
        "vik,tk->tvi", model.expression[model.landmarks], weights @ model.units_to_expression
    )
    rest, jaw, dimple = articulation.action_units(weights, UNITS, points)
    assert (rest < articulation.ACTIVE).all()
    active = dict(zip(articulation.ACTION_UNITS, jaw > articulation.ACTIVE, strict=True))
    assert [name for name, on in active.items() if on] == ["AU25", "AU26"]
    active = dict(zip(articulation.ACTION_UNITS, dimple > articulation.ACTIVE, strict=True))
    assert [name for name, on in active.items() if on] == ["AU14"]

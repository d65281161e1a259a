"""Decoders against the sum over every path, and error rates against counts by hand."""

import itertools

import numpy as np
import pytest

from flax_talk.metrics.lip_reading import (
    beam,
    character_error_rates,
    greedy,
    read,
    word_error_rates,
)
from input_pipeline.text import ALPHABET, BLANK, encode


def draw(seed, frames=5, labels=3):
    """Log-probabilities [T, K] of a few frames."""
    logits = 2 * np.random.default_rng(seed).normal(size=(frames, labels))
    return logits - np.logaddexp.reduce(logits, axis=1, keepdims=True)


def collapse(path, blank):
    return tuple(label for label, _ in itertools.groupby(path) if label != blank)


def texts_of(log_probs):
    """{labels: probability}, summed over all paths."""
    frames, labels = log_probs.shape
    sums = {}
    for path in itertools.product(range(labels), repeat=frames):
        key = collapse(path, labels - 1)
        sums[key] = sums.get(key, 0) + np.exp(log_probs[range(frames), path].sum())
    return sums


SEEDS = range(12)


@pytest.mark.parametrize("seed", SEEDS)
def test_a_wide_beam_finds_the_most_probable_text(seed):
    sums = texts_of(draw(seed))
    assert sum(sums.values()) == pytest.approx(1)
    assert tuple(beam(draw(seed), 1000)) == max(sums, key=sums.get)


@pytest.mark.parametrize("seed", SEEDS)
def test_greedy_collapses_the_most_probable_path(seed):
    log_probs = draw(seed, frames=20, labels=4)
    assert tuple(greedy(log_probs)) == collapse(log_probs.argmax(axis=1), 3)


def test_the_beam_is_more_than_greedy_and_its_width_counts():
    """Two frames, of which "a" is the text in three paths, and the blank in the one best path."""
    log_probs = np.log([[0.4, 0.6], [0.4, 0.6]])
    assert greedy(log_probs) == []
    assert beam(log_probs, 4) == [0]
    assert any(beam(draw(s), 1000) != greedy(draw(s)) for s in SEEDS)
    assert any(beam(draw(s), 1000) != beam(draw(s), 1) for s in SEEDS)


@pytest.mark.parametrize("beam_width", [1, 3])
def test_clips_are_read_within_their_masks(beam_width):
    frames = [[0, 0, BLANK, 0, 26, 1], [25, BLANK, 2, 2, 2, 2]]
    log_probs = np.log(np.where(np.eye(28)[frames] > 0, 0.973, 0.001)).astype(np.float32)
    mask = np.array([[True] * 6, [True, True, False, False, False, False]])
    assert read(log_probs, mask, beam_width) == ["aa b", "z"]
    assert read(log_probs, np.zeros_like(mask), beam_width) == ["", ""]


def test_error_rates_are_those_counted_by_hand():
    said = ["bin blue at f two now", "set red", "lay", "", "", "a b"]
    read = ["bin blew at f now", "set  red ", "lay it down now", "", "a", ""]
    np.testing.assert_allclose(word_error_rates(said, read), [2 / 6, 0, 3, 0, 1, 1])
    # "ue" for "ew", and " two" left out, of 21; " it down now" put in to 3.
    np.testing.assert_allclose(character_error_rates(said, read), [6 / 21, 0, 12 / 3, 0, 1, 1])


def test_labels_are_those_of_the_texts():
    assert len(ALPHABET) == BLANK == 27
    path = np.repeat(encode("place red"), 2)
    log_probs = np.where(np.eye(28)[path] > 0, 0.0, -50.0)[None]
    assert read(log_probs, np.ones((1, len(path)), bool)) == ["place red"]

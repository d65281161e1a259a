"""Lip reading: what a lip reader has read, and the share of words and letters that are wrong.

The papers' tables have the word error rate of LipNet (Assael, Shillingford, Whiteson and de
Freitas, 2016). Texts are decoded from the label probabilities of connectionist temporal
classification (Graves et al. 2006): greedily, or by the prefix beam search of Hannun et al. 2014,
"First-Pass Large Vocabulary Continuous Speech Recognition using Bi-Directional Recurrent DNNs",
here without its language model, so that letters that are not seen are not guessed. On the host, in
NumPy. The blank is the last label.
"""

from collections.abc import Sequence

import numpy as np

from input_pipeline import text

NOTHING = -np.inf
"""Logarithm of the probability 0."""


def greedy(log_probs: np.ndarray) -> list[int]:
    """Labels of the most probable path: the best of each frame, repetitions and blanks taken out.

    Args:
        log_probs: [T, K], log-probabilities of the labels; the blank is label K - 1.

    Returns:
        Labels, none of them the blank.
    """
    best = np.argmax(log_probs, axis=-1)
    changed = np.diff(best, prepend=-1) != 0
    return best[changed & (best != log_probs.shape[-1] - 1)].tolist()


def beam(log_probs: np.ndarray, width: int) -> list[int]:
    """The most probable labels, each the sum of all of its paths, by prefix beam search.

    Args:
        log_probs: [T, K], as in `greedy`.
        width: prefixes kept after each frame; exact where it is as large as their number.

    Returns:
        Labels, none of them the blank.
    """
    blank = log_probs.shape[-1] - 1
    # Of each prefix: log-probability of the paths that end in the blank, and of the others.
    beams: dict[tuple[int, ...], tuple[float, float]] = {(): (0.0, NOTHING)}
    for frame in np.asarray(log_probs, np.float64):
        scores: dict[tuple[int, ...], list[float]] = {}

        def add(prefix, kind, value, scores=scores):
            entry = scores.setdefault(prefix, [NOTHING, NOTHING])
            entry[kind] = np.logaddexp(entry[kind], value)

        for prefix, (in_blank, in_label) in beams.items():
            total = np.logaddexp(in_blank, in_label)
            add(prefix, 0, total + frame[blank])
            if prefix:
                add(prefix, 1, in_label + frame[prefix[-1]])
            for label in range(blank):
                # A label twice in a row is two letters only with a blank in between.
                before = in_blank if prefix[-1:] == (label,) else total
                add((*prefix, label), 1, before + frame[label])
        ranked = sorted(scores.items(), key=lambda item: -np.logaddexp(item[1][0], item[1][1]))
        beams = {prefix: (a, b) for prefix, (a, b) in ranked[:width]}
    best = max(beams, key=lambda prefix: np.logaddexp(*beams[prefix]))
    return list(best)


def read(log_probs: np.ndarray, mask: np.ndarray, beam_width: int = 1) -> list[str]:
    """What is said in clips.

    Args:
        log_probs: [B, T, 28], log-probabilities of the labels of `input_pipeline.text`.
        mask: bool [B, T], valid frames.
        beam_width: of `beam`; 1 decodes greedily.

    Returns:
        B texts.
    """
    clips = (frames[valid] for frames, valid in zip(log_probs, mask, strict=True))
    labels = (greedy(clip) if beam_width == 1 else beam(clip, beam_width) for clip in clips)
    return [text.decode(clip) for clip in labels]


def word_error_rates(references: Sequence[str], texts: Sequence[str]) -> np.ndarray:
    """Words put in, left out and replaced, over the words that were said, of each clip.

    Args:
        references: what was said.
        texts: what was read, in the same order.

    Returns:
        float64 [B], from 0, above 1 where much was put in; of a clip in which nothing was said 1
        where anything was read.
    """
    import jiwer

    return _rates(jiwer.wer, references, texts)


def character_error_rates(references: Sequence[str], texts: Sequence[str]) -> np.ndarray:
    """As `word_error_rates`, of the characters, among them the spaces between words."""
    import jiwer

    return _rates(jiwer.cer, references, texts)


def _rates(rate, references: Sequence[str], texts: Sequence[str]) -> np.ndarray:
    # A path may begin with a space or have two of them: neither is a letter nor a word.
    pairs = (
        (" ".join(reference.split()), " ".join(read.split()))
        for reference, read in zip(references, texts, strict=True)
    )
    return np.array(
        [rate(reference, read) if reference else bool(read) for reference, read in pairs],
        np.float64,
    )

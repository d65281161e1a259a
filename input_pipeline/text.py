"""Sentences as the labels of a lip reader: letters, spaces, and no more.

The 28 classes of LipNet (Assael, Shillingford, Whiteson, de Freitas, "LipNet: End-to-End
Sentence-level Lipreading", 2016, section 3.2) in the order of the published Keras weights: a to z,
the space, and last the blank of connectionist temporal classification, which is no character.
"""

from collections.abc import Iterable

import numpy as np

from flax_talk.errors import UserError

ALPHABET = "abcdefghijklmnopqrstuvwxyz "
"""Characters by label."""

BLANK = len(ALPHABET)
"""Label of the blank."""


def encode(text: str) -> np.ndarray:
    """Labels int32 [L] of a text.

    Raises:
        UserError: it has other characters than those of `ALPHABET`.
    """
    if foreign := sorted(set(text) - set(ALPHABET)):
        raise UserError(
            f"text {text!r} has {foreign[0]!r}: write it in the letters a to z and spaces"
        )
    return np.array([ALPHABET.index(character) for character in text], np.int32)


def decode(labels: Iterable[int]) -> str:
    """The text of labels, none of which is the blank."""
    return "".join(ALPHABET[label] for label in labels)

"""The mark can be seen, changes nothing else, and fits any frame."""

import numpy as np
import pytest

from flax_talk.labelling import mark


@pytest.mark.parametrize("size", [(128, 96), (288, 360), (1080, 1920), (40, 24)])
def test_the_mark_is_white_on_dark_in_the_lower_left_corner(size):
    frame = np.full((*size, 3), 128, np.uint8)
    (marked,) = mark([frame])
    assert marked.shape == frame.shape and (frame == 128).all()
    changed = np.argwhere((marked != 128).any(axis=-1))
    low, high = changed.min(axis=0), changed.max(axis=0)
    assert low[1] == 0 and high[0] == size[0] - 1 and low[0] > size[0] // 2
    assert marked.max() > 180 and marked.min() < 60
    assert 0.25 < (high[1] + 1) / size[1] <= 1


def test_a_frame_too_small_for_words_stays_as_it_is():
    frame = np.arange(8 * 8 * 3, dtype=np.uint8).reshape(8, 8, 3)
    assert (next(mark([frame])) == frame).all()

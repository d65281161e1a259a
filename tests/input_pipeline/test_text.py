import pytest

from flax_talk.errors import UserError
from input_pipeline import text


def test_labels_are_letters_in_order_the_space_and_the_blank():
    assert text.encode("az b").tolist() == [0, 25, 26, 1]
    assert text.BLANK == 27
    assert text.encode("").shape == (0,)


def test_decode_undoes_encode():
    sentence = "bin blue at f two now"
    assert text.decode(text.encode(sentence)) == sentence


def test_other_characters_are_named():
    with pytest.raises(UserError, match="'two 2' has '2'"):
        text.encode("two 2")

"""Speech from text: the same bytes each time, and times that fit the sound."""

import subprocess
import sys
import time

import numpy as np
import pytest

from flax_talk.errors import UserError
from input_pipeline.speech import say

pytest.importorskip("espeakng_loader")


@pytest.fixture(scope="module")
def speech():
    return say("bin blue at f two now", rate=140)


def test_words_and_phonemes_cover_the_sound(speech):
    assert [word.name for word in speech.words] == ["bin", "blue", "at", "f", "two", "now"]
    starts = [segment.start for segment in speech.phonemes]
    ends = [segment.end for segment in speech.phonemes]
    assert starts == sorted(starts) and starts[1:] == ends[:-1]
    assert ends[-1] == pytest.approx(len(speech.waveform) / speech.sample_rate)
    assert [segment.name for segment in speech.phonemes[:3]] == ["b", "I", "n"]
    # The words share out the phonemes without overlap, and the final pause is no word's.
    assert all(a.end <= b.start for a, b in zip(speech.words, speech.words[1:], strict=False))
    assert speech.phonemes[-1].name == "_" and speech.words[-1].end == speech.phonemes[-1].start


def test_sound_is_loud_in_words_and_quiet_in_the_final_pause(speech):
    def level(segment):
        part = slice(*(round(t * speech.sample_rate) for t in (segment.start, segment.end)))
        return np.sqrt(np.mean(speech.waveform[part] ** 2))

    quiet = level(speech.phonemes[-1])
    assert all(level(word) > 10 * quiet for word in speech.words)
    assert np.abs(speech.waveform).max() <= 1


def test_equal_requests_give_equal_samples(speech):
    say("something else, to have spoken before", voice="en-us+f2")
    again = say("bin blue at f two now", rate=140)
    np.testing.assert_array_equal(again.waveform, speech.waveform)
    assert again.phonemes == speech.phonemes


def test_random_breath_does_not_depend_on_the_time_of_day():
    first = say("set white with e five soon", voice="en-us+f2")
    time.sleep(1.1)  # espeak would seed it by the second
    second = say("set white with e five soon", voice="en-us+f2")
    np.testing.assert_array_equal(first.waveform, second.waveform)


def test_voice_rate_and_pitch_change_the_sound(speech):
    fast = say("bin blue at f two now", rate=220)
    assert len(fast.waveform) < 0.8 * len(speech.waveform)
    other = say("bin blue at f two now", voice="en-us+f2", rate=140)
    assert len(other.waveform) != len(speech.waveform)


def test_a_word_bound_to_the_one_before_starts_with_its_own_sound():
    speech = say("in x two")
    sounds = {phoneme.start: phoneme.name for phoneme in speech.phonemes}
    assert [sounds[word.start] for word in speech.words] == ["I", "E", "t"]


@pytest.mark.parametrize("text", ["", "  ", "..."])
def test_nothing_to_say_is_one_line(text):
    with pytest.raises(UserError, match="give some words"):
        say(text)


def test_unknown_voice_is_one_line():
    with pytest.raises(UserError, match="no voice nowhere"):
        say("hello", voice="nowhere")


def test_without_espeak_the_message_names_the_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "espeakng_loader", None)
    with pytest.raises(UserError, match=r"flax-talk\[speech\]"):
        say("hello")


def test_a_library_that_does_not_load_is_one_line(monkeypatch):
    import espeakng_loader

    monkeypatch.setattr(espeakng_loader, "get_library_path", lambda: "/nowhere.so")
    with pytest.raises(UserError, match="nowhere.so"):
        say("hello")


def test_the_program_needs_the_standard_library_alone():
    code = "import sys, input_pipeline.espeak; print('numpy' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"

"""Speech from text with espeak-ng, and when each phoneme and word of it is heard.

The voice of `flax-talk animate --text` and of the rendered corpus. espeak-ng is GPL-3 and comes
as an extra (`pip install 'flax-talk[speech]'`); the sound it makes is free to use. It runs in a
process of its own (`espeak.py`), so that equal calls give equal samples.
"""

import json
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from flax_talk.errors import UserError

_PROGRAM = Path(__file__).with_name("espeak.py")
_TIMEOUT = 60  # s
_PAUSE = "_"  # what the names of espeak's pauses begin with


@dataclass(frozen=True)
class Segment:
    """A phoneme (espeak's mnemonic, without stress marks) or a word, from start to end in s."""

    name: str
    start: float
    end: float


@dataclass(frozen=True)
class Speech:
    """A spoken text.

    waveform is float32 [S] in [-1, 1] at sample_rate Hz and ends with a short pause, as `phonemes`
    does, whose pauses are called "_"; a plosive starts with its burst, so that its closure lies
    before. `words` are the words of the text by their spelling, empty where espeak split them
    otherwise (numbers, abbreviations).
    """

    waveform: np.ndarray
    sample_rate: int
    phonemes: tuple[Segment, ...]
    words: tuple[Segment, ...]


def say(
    text: str, voice: str = "en-us", rate: int = 160, pitch: int = 50, pitch_range: int = 50
) -> Speech:
    """Speaks a text.

    Args:
        text: what to say; phonemes can be spelled in double brackets, such as "[['eI]]".
        voice: language and variant of espeak-ng, such as "en-us+f2".
        rate: words per minute.
        pitch, pitch_range: 0..100, how high and how lively; 50 is the voice's own.

    Raises:
        UserError: espeak-ng is not installed, has no such voice, or finds nothing to say.
    """
    if not text.strip():
        raise UserError("no text to speak: give some words")
    try:
        import espeakng_loader
    except ImportError as error:
        raise UserError(
            "speech from text needs espeak-ng: pip install 'flax-talk[speech]', or give a recording"
        ) from error
    library, data = espeakng_loader.get_library_path(), espeakng_loader.get_data_path()
    request = dict(text=text, voice=voice, rate=rate, pitch=pitch, pitch_range=pitch_range)
    done = subprocess.run(
        [sys.executable, "-I", "-S", str(_PROGRAM), str(library), str(data)],
        input=json.dumps(request).encode(),
        capture_output=True,
        timeout=_TIMEOUT,
    )
    if done.returncode:
        lines = done.stderr.decode(errors="replace").strip().splitlines()
        reason = lines[-1] if lines else f"espeak-ng ended with code {done.returncode}"
        raise UserError(f"cannot speak {text!r} with voice {voice!r}: {reason}")
    facts, _, pcm = done.stdout.partition(b"\n")
    waveform = np.frombuffer(pcm, np.int16).astype(np.float32) / 32768
    facts = json.loads(facts)
    sample_rate = facts["sample_rate"]
    events = [(kind, sample / sample_rate, name) for kind, sample, name in facts["events"]]
    phonemes = _phonemes(events, len(waveform) / sample_rate)
    if all(phoneme.name == _PAUSE for phoneme in phonemes):
        raise UserError(f"there is nothing to say in {text!r}: give some words")
    return Speech(waveform, sample_rate, phonemes, _words(events, text, phonemes))


def _phonemes(events: list[tuple[str, float, str]], end: float) -> tuple[Segment, ...]:
    heard = [(start, _plain(name)) for kind, start, name in events if kind == "phoneme"]
    heard = [(start, name) for start, name in heard if name]
    ends = [start for start, _ in heard[1:]] + [end]
    return tuple(
        Segment(name, start, stop)
        for (start, name), stop in zip(heard, ends, strict=True)
        if stop > start
    )


def _plain(mnemonic: str) -> str:
    """A mnemonic without marks of stress, syllable and palatalisation; any pause is "_"."""
    plain = "".join(letter for letter in mnemonic if letter not in "',%=;|!")
    return _PAUSE if plain.startswith(_PAUSE) else plain


def _words(
    events: list[tuple[str, float, str]], text: str, phonemes: tuple[Segment, ...]
) -> tuple[Segment, ...]:
    # A word begins with the phoneme that follows its event: the event's own time can lie a
    # phoneme earlier, where a final consonant is bound to the next word.
    starts, pending = [], 0
    for kind, time, _ in events:
        if kind == "word":
            pending += 1
        elif kind == "phoneme" and pending:
            starts += [time] * pending
            pending = 0
    names = text.split()
    if len(starts) != len(names):
        return ()
    pauses = [segment.start for segment in phonemes if segment.name == _PAUSE]
    ends = [
        min([stop, *(pause for pause in pauses if start < pause < stop)])
        for start, stop in zip(starts, [*starts[1:], phonemes[-1].end], strict=True)
    ]
    return tuple(map(Segment, names, starts, ends))

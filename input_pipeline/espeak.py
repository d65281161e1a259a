"""The program that `speech` runs for each sentence: espeak-ng through ctypes, in a new process.

espeak-ng keeps global state: what it has said before changes what it says next, by a sample or
by a little noise. A process for each sentence makes equal requests give equal bytes.
It imports the standard library alone, so that it starts in a few hundredths of a second, and is
called by its path: python espeak.py LIBRARY DATA, with the request as JSON on standard input.
"""

import ctypes
import json
import sys

_SYNCHRONOUS_OUTPUT = 2
_PHONEME_EVENTS, _DONT_EXIT = 0x0001, 0x8000
_RATE, _PITCH, _RANGE = 1, 3, 4  # espeak_PARAMETER
_UTF8, _PHONEME_INPUT = 0x0001, 0x0100  # text in [[ ]] is phonemes
_WORD, _END, _PHONEME = 1, 5, 7  # espeak_EVENT_TYPE


class _Identity(ctypes.Union):
    _fields_ = [
        ("number", ctypes.c_int),
        ("name", ctypes.c_char_p),
        ("string", ctypes.c_char * 8),
    ]


class _Event(ctypes.Structure):
    _fields_ = [
        ("type", ctypes.c_int),
        ("unique_identifier", ctypes.c_uint),
        ("text_position", ctypes.c_int),
        ("length", ctypes.c_int),
        ("audio_position", ctypes.c_int),
        ("sample", ctypes.c_int),
        ("user_data", ctypes.c_void_p),
        ("id", _Identity),
    ]


_Callback = ctypes.CFUNCTYPE(
    ctypes.c_int, ctypes.POINTER(ctypes.c_short), ctypes.c_int, ctypes.POINTER(_Event)
)


def synthesize(library: str, data: str, request: dict) -> tuple[dict, bytes]:
    """Speaks one text.

    Args:
        library: path of the shared library.
        data: folder of its voices.
        request: text, voice (such as "en-us+f2"), rate (words per minute), pitch and pitch_range
            (0..100).

    Returns:
        {"sample_rate", "events"}, an event being (kind, sample, name) with kind "word", "phoneme"
        or "end"; and the samples, 16 bits each in the machine's byte order.

    Raises:
        OSError: the library cannot be loaded.
        RuntimeError: its data or the voice is missing.
    """
    espeak = ctypes.CDLL(library)
    sample_rate = espeak.espeak_Initialize(
        _SYNCHRONOUS_OUTPUT, 0, data.encode(), _PHONEME_EVENTS | _DONT_EXIT
    )
    if sample_rate <= 0:
        raise RuntimeError(f"espeak-ng finds no data in {data}")
    # Breath and jitter of some voices are random, and seeded by the time of day otherwise.
    espeak.espeak_ng_SetRandSeed(ctypes.c_long(1))
    samples, events = bytearray(), []

    def receive(wave, count, event):
        if wave and count > 0:
            samples.extend(ctypes.string_at(wave, 2 * count))
        index = 0
        while event[index].type:
            entry = event[index]
            if entry.type == _PHONEME:
                name = bytes(entry.id.string).split(b"\0")[0].decode("utf-8", "replace")
                events.append(("phoneme", entry.sample, name))
            elif entry.type == _WORD:
                events.append(("word", entry.sample, ""))
            elif entry.type == _END:
                events.append(("end", entry.sample, ""))
            index += 1
        return 0

    callback = _Callback(receive)  # kept alive until the speech is made
    espeak.espeak_SetSynthCallback(callback)
    if espeak.espeak_SetVoiceByName(request["voice"].encode()):
        raise RuntimeError(f"espeak-ng has no voice {request['voice']}")
    for parameter, name in ((_RATE, "rate"), (_PITCH, "pitch"), (_RANGE, "pitch_range")):
        espeak.espeak_SetParameter(parameter, int(request[name]), 0)
    text = request["text"].encode() + b"\0"
    if espeak.espeak_Synth(
        text, ctypes.c_size_t(len(text)), 0, 1, 0, _UTF8 | _PHONEME_INPUT, None, None
    ):
        raise RuntimeError("espeak-ng could not speak the text")
    espeak.espeak_Synchronize()
    return {"sample_rate": sample_rate, "events": events}, bytes(samples)


if __name__ == "__main__":
    facts, pcm = synthesize(sys.argv[1], sys.argv[2], json.load(sys.stdin))
    sys.stdout.buffer.write(json.dumps(facts).encode() + b"\n" + pcm)

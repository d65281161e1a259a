"""A rendered corpus: made-up people who speak sentences of the GRID grammar, with exact truth.

For tests, for the demo and for a first model without any download: the face model of
`flax_talk.face_model`, spoken to by espeak-ng and drawn by `input_pipeline.synthetic`. All of it
is ours. What a recording can only estimate is known here for each frame: phonemes, visemes,
geometry, expression, pose, landmarks, action units, blinks. A clip is a function of the config's
seed, its speaker and its number, whichever process makes it; three splits share no speaker.
"""

import dataclasses
import functools
import itertools
from typing import Any

import numpy as np
import tensorflow_datasets as tfds

from flax_talk.face_model.model import load_default
from input_pipeline import audio, media
from input_pipeline.datasets.building import ClipBuilder
from input_pipeline.datasets.clips import clip_features, segment_features
from input_pipeline.speech import Segment, Speech, say
from input_pipeline.synthetic import articulation
from input_pipeline.synthetic.appearance import Speaker, make_speaker
from input_pipeline.synthetic.renderer import Renderer, aligned_pose, landmarks, portrait_pose

# Command, colour, preposition, letter, digit, adverb (Cooke et al. 2006); w has too many syllables.
GRAMMAR = (
    ("bin", "lay", "place", "set"),
    ("blue", "green", "red", "white"),
    ("at", "by", "in", "with"),
    tuple("abcdefghijklmnopqrstuvxyz"),
    ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"),
    ("again", "now", "please", "soon"),
)
_SPELLED = {"a": "[['eI]]"}  # the letter; espeak would say the article

ACCENTS = ("en-us", "en-gb-x-rp", "en-gb-scotland")
# Variants of espeak-ng that sound like people, and unlike each other.
# fmt: off
VOICES = {
    "female": (
        "f1", "f2", "f3", "f4", "f5", "Annie", "Alicia", "linda", "belinda", "steph", "steph2",
        "aunty", "shelby",
    ),
    "male": (
        "m1", "m2", "m3", "m4", "m5", "m6", "m7", "m8", "Hugo", "paul", "Denis", "Alex", "Lee",
        "Andy", "Gene", "Gene2", "Michael", "Mike", "Reed", "adam", "ed", "edward", "ian", "john",
        "max", "pablo", "robert", "travis", "victor", "benjamin", "boris", "gustave",
    ),
}
# fmt: on

FPS = 25.0
_CLIP_SECONDS = 3.0
_MARGIN = 0.12  # s of silence at least before and after the speech


@dataclasses.dataclass(eq=False, kw_only=True)
class SyntheticGridConfig(tfds.core.BuilderConfig):
    """A TFDS config with what is rendered.

    Attributes:
        speakers: how many of train, validation and test.
        sentences: of each speaker.
        image_size: (H, W) in pixels, up to (256, 256).
        framing: "aligned" as `faces.align` crops, each frame on the canonical face; "portrait":
            head and shoulders, the head moving freely.
        audio_rate: Hz.
        seed: another seed is another set of people and sentences.
    """

    speakers: tuple[int, int, int]
    sentences: int
    image_size: tuple[int, int] = (128, 96)
    framing: str = "aligned"
    audio_rate: int = 50_000
    seed: int = 0


@dataclasses.dataclass(frozen=True)
class RenderedClip:
    """Sentence number `sentence` of speaker number `speaker` of a corpus."""

    config: SyntheticGridConfig
    speaker: int
    sentence: int

    @property
    def id(self) -> str:
        """Such as "r3_0012"."""
        return f"r{self.speaker}_{self.sentence:04d}"


@dataclasses.dataclass(frozen=True)
class Voice:
    """How a speaker speaks: voice, rate, pitch and pitch_range of `speech.say`; how much the
    mouth moves (1 as in `articulation.VISEMES`); how loud (RMS of the speech, full scale 1)."""

    voice: str
    rate: int
    pitch: int
    pitch_range: int
    effort: float
    loudness: float


def _rng(config: SyntheticGridConfig, *keys: int) -> np.random.Generator:
    return np.random.default_rng([config.seed, *keys])


@functools.lru_cache(maxsize=2)
def corpus_speaker(seed: int, speaker: int) -> tuple[Speaker, Voice]:
    """The face and the voice of a speaker of the corpus with a seed."""
    face = make_speaker(int(np.random.SeedSequence([seed, speaker]).generate_state(1)[0]))
    rng = np.random.default_rng([seed, speaker, 1])
    voice = Voice(
        voice=f"{rng.choice(ACCENTS)}+{rng.choice(VOICES[face.sex])}",
        rate=int(rng.integers(120, 155)),
        pitch=int(rng.integers(38, 63)),
        pitch_range=int(rng.integers(30, 70)),
        effort=float(rng.uniform(0.85, 1.2)),
        loudness=float(rng.uniform(0.04, 0.1)),
    )
    return face, voice


def draw_sentence(rng: np.random.Generator) -> list[str]:
    """Six words of the grammar."""
    return [str(rng.choice(words)) for words in GRAMMAR]


def speak(words: list[str], voice: Voice, seconds: float) -> Speech:
    """Says the words within a time, faster than is the voice's habit if need be."""
    text = " ".join(_SPELLED.get(word, word) for word in words)
    rate = voice.rate
    while True:
        speech = say(text, voice.voice, rate, voice.pitch, voice.pitch_range)
        length = speech.words[-1].end
        if length <= seconds:
            return speech
        rate = int(rate * max(1.05, length / seconds))


def render_clip(clip: RenderedClip) -> dict[str, Any]:
    """One example with its truth, as `SyntheticGrid` describes it."""
    config, model = clip.config, load_default()
    speaker, voice = corpus_speaker(config.seed, clip.speaker)
    rng = _rng(config, clip.speaker, clip.sentence, 2)
    num_frames = round(_CLIP_SECONDS * FPS)

    words = draw_sentence(rng)
    speech = speak(words, voice, _CLIP_SECONDS - 2 * _MARGIN)
    slack = _CLIP_SECONDS - 2 * _MARGIN - speech.words[-1].end
    offset = _MARGIN + slack * rng.uniform(0.2, 0.8)
    phonemes = _shifted(speech.phonemes, offset)
    visemes = articulation.segment_visemes(phonemes, _CLIP_SECONDS)

    blink = articulation.draw_blinks(rng, num_frames, FPS)
    weights = voice.effort * articulation.coarticulate(visemes, model.unit_names, num_frames, FPS)
    _add_movement(weights, model.unit_names, blink, rng, num_frames)
    expression = weights @ model.units_to_expression
    pose = _draw_pose(config, speaker, expression, rng, num_frames)

    renderer = _renderer(config.image_size)
    points = landmarks(speaker, expression, pose)
    viseme_names = list(articulation.VISEMES)
    labels = articulation.frame_labels(visemes, num_frames, FPS)
    return {
        "id": clip.id,
        "speaker": f"r{clip.speaker}",
        "video": media.encode_frames(renderer.render(speaker, expression, pose)),
        "waveform": _place(speech, voice, offset, config.audio_rate, rng),
        "landmarks": points,
        "words": [
            {"word": word, "start": segment.start + offset, "end": segment.end + offset}
            for word, segment in zip(words, speech.words, strict=True)
        ],
        "phonemes": [{"phoneme": p.name, "start": p.start, "end": p.end} for p in phonemes],
        "visemes": np.array([viseme_names.index(visemes[i].name) for i in labels], np.uint8),
        "geometry": speaker.geometry,
        "expression": expression,
        "pose": pose,
        "action_units": articulation.action_units(weights, model.unit_names, points),
        "blink": blink,
    }


@functools.cache
def _renderer(image_size: tuple[int, int]) -> Renderer:
    return Renderer(image_size)


def _shifted(segments: tuple[Segment, ...], offset: float) -> tuple[Segment, ...]:
    return tuple(Segment(s.name, s.start + offset, s.end + offset) for s in segments)


def _add_movement(
    weights: np.ndarray,
    unit_names: tuple[str, ...],
    blink: np.ndarray,
    rng: np.random.Generator,
    num_frames: int,
) -> None:
    """Adds to the weights [T, E] what a face does whether it speaks or not."""
    for unit in ("eyeBlinkLeft", "eyeBlinkRight"):
        weights[:, unit_names.index(unit)] = blink
    weights[:, unit_names.index("mouthDimple")] += articulation.draw_dimples(rng, num_frames, FPS)
    brows = np.clip(articulation.draw_drift(rng, num_frames, FPS, 0.25, 0.25), 0, 1)
    for unit in ("browInnerUp", "browOuterUpLeft", "browOuterUpRight"):
        weights[:, unit_names.index(unit)] = brows


# Standard deviations of head motion: a habit for each clip, and a drift around it.
_ANGLE_HABITS = (0.05, 0.08, 0.03)  # pitch, yaw, roll; radians
_ANGLE_DRIFTS = (0.03, 0.05, 0.02)
_SHIFT_DRIFT = 0.012  # of the image's width
_DRIFT_SECONDS = 0.35


def _draw_pose(
    config: SyntheticGridConfig,
    speaker: Speaker,
    expression: np.ndarray,
    rng: np.random.Generator,
    num_frames: int,
) -> np.ndarray:
    """Pose of each frame in the config's framing, float32 [T, 6]."""

    def drift(deviation: float) -> np.ndarray:
        return articulation.draw_drift(rng, num_frames, FPS, _DRIFT_SECONDS, deviation)

    angles = np.stack([drift(deviation) for deviation in _ANGLE_DRIFTS], axis=1)
    angles += rng.normal(0, _ANGLE_HABITS)
    shift = np.stack([drift(_SHIFT_DRIFT), drift(_SHIFT_DRIFT)], axis=1)
    if config.framing == "aligned":
        return aligned_pose(speaker, expression, angles[:, :2], config.image_size)
    pose = np.tile(portrait_pose(speaker, config.image_size), (num_frames, 1))
    pose[:, :3] = angles
    pose[:, 3:5] += shift * config.image_size[1]
    return pose


def _place(
    speech: Speech, voice: Voice, offset: float, audio_rate: int, rng: np.random.Generator
) -> np.ndarray:
    """The sound of a clip, int16 [3 s * audio_rate]: the speech from `offset` s on.

    Half of the clips have the faint hiss of a recording, half the silence of a studio.
    """
    level = np.sqrt(np.mean(np.square(speech.waveform)))
    sound = audio.resample(speech.waveform * voice.loudness / level, speech.sample_rate, audio_rate)
    waveform = np.zeros(round(_CLIP_SECONDS * audio_rate), np.float32)
    start = round(offset * audio_rate)
    sound = sound[: len(waveform) - start]
    waveform[start : start + len(sound)] = sound
    hiss = 10 ** rng.uniform(-4, -2.7) * rng.integers(2)
    waveform += hiss * rng.standard_normal(len(waveform), np.float32)
    return np.rint(32767 * np.clip(waveform, -1, 1)).astype(np.int16)


def _render_examples(clip: RenderedClip) -> list[dict[str, Any]]:
    return [render_clip(clip)]


class SyntheticGrid(ClipBuilder):
    """Builder of the data set `synthetic_grid`: splits train, validation, test, no speaker in two.

    An example holds what `clip_features` says and its truth: phonemes (sequences phoneme, start,
    end; espeak's mnemonics, "_" a pause), visemes (uint8 [T], indices into
    `info.metadata["visemes"]`), geometry (float32 [199]), expression (float32 [T, 29]) and pose
    (float32 [T, 6]) of the default face model, from which the landmarks follow exactly,
    action_units (float32 [T, 5] in [0, 1], `articulation.ACTION_UNITS`) and blink (float32 [T], how
    far the lids are closed). `info.metadata` holds image_size [H, W], video_rate and audio_rate
    too. Nothing is read, so `ClipBuilder`'s source is not used.
    """

    VERSION = tfds.core.Version("1.1.0")
    RELEASE_NOTES = {
        "1.0.0": "The dimpler (AU14) only widens the mouth.",
        "1.1.0": "It folds the skin beside the corners of the mouth; all else is the same bytes.",
    }

    BUILDER_CONFIGS = [
        SyntheticGridConfig(
            name="default",
            description="20 speakers x 50 sentences, aligned 128x96 crops, audio at 50 kHz.",
            speakers=(14, 2, 4),
            sentences=50,
        ),
        SyntheticGridConfig(
            name="tiny",
            description="Four speakers x 2 sentences, for tests.",
            speakers=(2, 1, 1),
            sentences=2,
        ),
        SyntheticGridConfig(
            name="large",
            description="300 speakers x 50 sentences, aligned 128x96 crops, audio at 50 kHz.",
            speakers=(240, 20, 40),
            sentences=50,
        ),
        SyntheticGridConfig(
            name="crowd",
            description="190 speakers x 2 sentences, none of those of the other configs.",
            speakers=(160, 10, 20),
            sentences=2,
            seed=1,
        ),
        SyntheticGridConfig(
            name="square",
            description="20 speakers x 50 sentences, aligned 112x112 crops, audio at 50 kHz.",
            speakers=(14, 2, 4),
            sentences=50,
            image_size=(112, 112),
        ),
        SyntheticGridConfig(
            name="portrait",
            description="20 speakers x 10 sentences, head and shoulders, 256x256, audio at 16 kHz.",
            speakers=(14, 2, 4),
            sentences=10,
            image_size=(256, 256),
            framing="portrait",
            audio_rate=16_000,
        ),
    ]

    @functools.cached_property
    def clips(self) -> dict[str, list[RenderedClip]]:
        """The clips of each split, speaker by speaker."""
        config = self.builder_config
        numbers = itertools.count(1)
        return {
            split: [
                RenderedClip(config, speaker, sentence)
                for speaker in itertools.islice(numbers, count)
                for sentence in range(config.sentences)
            ]
            for split, count in zip(("train", "validation", "test"), config.speakers, strict=True)
        }

    def _info(self) -> tfds.core.DatasetInfo:
        config = self.builder_config

        def per_frame(*shape: int, dtype: type = np.float32) -> tfds.features.Tensor:
            return tfds.features.Tensor(shape=(None, *shape), dtype=dtype)

        return tfds.core.DatasetInfo(
            builder=self,
            description="Rendered people who speak sentences of the GRID grammar with the voices "
            "of espeak-ng; exact truth for every frame.",
            features=tfds.features.FeaturesDict(
                {
                    **clip_features(),
                    "phonemes": segment_features("phoneme"),
                    "visemes": per_frame(dtype=np.uint8),
                    "geometry": tfds.features.Tensor(shape=(199,), dtype=np.float32),
                    "expression": per_frame(29),
                    "pose": per_frame(6),
                    "action_units": per_frame(len(articulation.ACTION_UNITS)),
                    "blink": per_frame(),
                }
            ),
            metadata=tfds.core.MetadataDict(
                image_size=list(config.image_size),
                video_rate=FPS,
                audio_rate=config.audio_rate,
                visemes=list(articulation.VISEMES),
                action_units=list(articulation.ACTION_UNITS),
            ),
            license="CC0 1.0",
        )

    read_examples = staticmethod(_render_examples)

    def settings(self) -> str:
        return f"{super().settings()} {self.builder_config}"

"""CRAN: a recurrent generator against a discriminator of videos and one that reads lips.

Song, Zhu, Li, Wang and Qi, "Talking Face Generation by Conditional Recurrent Adversarial Network",
2018, the baseline of Chen et al. 2021. The features of the still and of each frame's sound go
together through a recurrent layer into a decoder; a spatio-temporal discriminator judges the
frames, and a lip reader, which learns from real videos what is said, asks the same of generated
ones. Ours: the encoders and the decoder are those of `flax_talk.systems.speech2vid`; and the lip
reader is LipNet's network and names the letter that each frame spells, where the paper's names the
one word of a clip, because the corpora here are of sentences.
"""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import optax
from ml_collections import ConfigDict

from flax_talk import losses as terms
from flax_talk.images import crop_and_resize, to_float
from flax_talk.nets.discriminators import SequenceDiscriminator
from flax_talk.nets.lipreader import LipReader
from flax_talk.systems import step
from flax_talk.systems.hearing import audio_geometry
from flax_talk.systems.speech2vid import Variables, generate, hear, identity_code, make_generator
from flax_talk.systems.step import GENERATOR

__all__ = [
    "audio_geometry",
    "generate",
    "identity_code",
    "init",
    "losses",
    "players",
]

SEQUENCE = "sequence_discriminator"
LIPREADER = "lipreader"
WEIGHTS = {SEQUENCE: "sequence", LIPREADER: "lip_reading"}
"""Each discriminator's weight in the generator's loss is the field of config.loss so named."""


def players(config: ConfigDict, axis_name: str | None = None) -> dict[str, nn.Module]:
    """The modules by player; a loss weight of 0 leaves a discriminator out."""
    shared = dict(dtype=jnp.dtype(config.dtype), axis_name=axis_name)
    discriminators = {
        SEQUENCE: SequenceDiscriminator(**config.sequence_discriminator, **shared),
        LIPREADER: LipReader(**config.lipreader, **shared),
    }
    used = {name: d for name, d in discriminators.items() if config.loss[WEIGHTS[name]] > 0}
    return {GENERATOR: make_generator(config, axis_name), **used}


def view(config: ConfigDict, video: jax.Array) -> jax.Array:
    """What the lip reader sees: the part `config.view.box` of [B, T, H, W, 3], as large as
    `config.view.size` says, in [-1, 1]."""
    return crop_and_resize(video, config.view.box, config.view.size)


def init(config: ConfigDict, rng: jax.Array, batch: dict[str, jax.Array]) -> Variables:
    """Initial variables of every player.

    Args:
        rng: one key.
        batch: as the loader yields it; only shapes matter.
    """
    still, video = to_float(batch["still"]), to_float(batch["video"])
    mask = jnp.ones(video.shape[:2], bool)
    inputs = {
        GENERATOR: (still, hear(config, batch["waveform"])),
        SEQUENCE: (video, None, mask),
        LIPREADER: (view(config, video), mask),
    }
    return step.init(players(config), rng, inputs)


def losses(
    config: ConfigDict,
    variables: Variables,
    batch: dict[str, jax.Array],
    rng: jax.Array,
    train: bool = True,
    axis_name: str | None = None,
) -> tuple[dict[str, jax.Array], dict[str, Any], dict[str, jax.Array]]:
    """Losses of every player on one batch.

    Args:
        variables: of `init`.
        batch: `still` [B, H, W, 3], `video` [B, T, H, W, 3] (uint8, or float in [-1, 1]),
            `waveform` [B, (T - 1) stride + window], `mask` [B, T], and `spelling` [B, T] where the
            lip reader has a weight.
        rng: not used.
        train: batch normalisation by the batch.
        axis_name: device axis of the batch, if it is spread.

    Returns:
        (losses by player, new batch statistics by player, metrics by name).
    """
    del rng
    modules = players(config, axis_name)
    turn = step.Players(config, modules, variables, train)
    video, mask = to_float(batch["video"]), batch["mask"]

    def mean(values, mask):
        return terms.masked_mean(values, mask, axis_name)

    cepstra = hear(config, batch["waveform"])
    fake, _ = turn.apply(GENERATOR, to_float(batch["still"]), cepstra)
    generator = {"reconstruction": mean(terms.l1(fake, video), mask)}
    values, metrics = {GENERATOR: generator}, {}

    if SEQUENCE in modules:
        valid = mask.any(axis=1)
        real = turn.apply(SEQUENCE, video, None, mask)
        false = turn.apply(SEQUENCE, jax.lax.stop_gradient(fake), None, mask)
        judged = turn.judge(SEQUENCE, fake, None, mask)
        values[SEQUENCE] = {
            "real": mean(terms.real_loss(real), valid),
            "fake": mean(terms.fake_loss(false), valid),
        }
        generator["sequence"] = mean(terms.generator_loss(judged), valid)
        for name, right in (("real", real > 0), ("fake", false < 0)):
            metrics[f"{SEQUENCE}/accuracy_{name}"] = mean(right.astype(jnp.float32), valid)

    if LIPREADER in modules:
        spelling = batch["spelling"]

        def spelt(logits):
            each = optax.softmax_cross_entropy_with_integer_labels(logits, spelling)
            return mean(each, mask)

        # It learns to read from real videos alone; of what it cannot read it says nothing.
        real = turn.apply(LIPREADER, view(config, video), mask)
        judged = turn.judge(LIPREADER, view(config, fake), mask)
        values[LIPREADER] = {"spelling": spelt(real)}
        generator["lip_reading"] = spelt(judged)
        for name, logits in (("real", real), ("fake", judged)):
            right = (logits.argmax(axis=-1) == spelling).astype(jnp.float32)
            metrics[f"{LIPREADER}/accuracy_{name}"] = mean(right, mask)

    total, named = step.total(config.loss, values)
    return total, turn.stats, metrics | named

"""LipNet, a judge: which words do these lips speak?

Assael, Shillingford, Whiteson and de Freitas, "LipNet: End-to-End Sentence-level Lipreading", 2016.
One network (`flax_talk.nets.lipreader`) is trained with connectionist temporal classification
(Graves et al. 2006), whose loss sums over all ways in which the letters may fall on the frames;
`flax_talk.metrics.lip_reading` decodes what it reads and counts what is wrong. Ours: the mouth is
cut from the aligned face, on the device, where the paper cuts it from the frame by its landmarks;
and, off unless asked for, a loss that tells each frame which letter is being said, as the corpora
know when their words are said, for runs too short to find that out.
"""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
from ml_collections import ConfigDict

from flax_talk.images import crop_and_resize, to_float
from flax_talk.losses import masked_mean
from flax_talk.metrics import lip_reading
from flax_talk.nets.lipreader import LipReader
from input_pipeline import text

Variables = dict[str, dict[str, Any]]

LIPREADER = "lipreader"


def players(config: ConfigDict, axis_name: str | None = None) -> dict[str, nn.Module]:
    """The one module, by its player's name."""
    dtype = jnp.dtype(config.dtype)
    return {LIPREADER: LipReader(**config.lipreader, dtype=dtype, axis_name=axis_name)}


def view(config: ConfigDict, video: jax.Array) -> jax.Array:
    """What the network sees: the part `config.view.box` of [B, T, H, W, 3], as large as
    `config.view.size` says, less the mean and over the deviation of each colour."""
    seen = crop_and_resize(to_float(video), config.view.box, config.view.size)
    return (seen - jnp.array(config.view.mean)) / jnp.array(config.view.deviation)


def init(config: ConfigDict, rng: jax.Array, batch: dict[str, jax.Array]) -> Variables:
    """Initial variables.

    Args:
        rng: one key.
        batch: as the loader yields it; only shapes matter.
    """
    module = players(config)[LIPREADER]
    entry = module.init(rng, view(config, batch["video"]), batch["mask"])
    return {LIPREADER: {"batch_stats": {}, **entry}}


def log_probs(
    config: ConfigDict, variables: Variables, video: jax.Array, mask: jax.Array | None = None
) -> jax.Array:
    """What the network reads in clips, for `flax_talk.metrics.lip_reading.read`.

    Args:
        variables: of `init`, of a checkpoint, or of `flax_talk.interop.lipnet`.
        video: [B, T, H, W, 3] aligned faces, uint8 or float in [-1, 1], at 25 fps.
        mask: bool [B, T], valid frames, which precede the others; all by default.

    Returns:
        Log-probabilities [B, T, 28] of the labels of `input_pipeline.text`.
    """
    if mask is None:
        mask = jnp.ones(video.shape[:2], bool)
    logits = players(config)[LIPREADER].apply(variables[LIPREADER], view(config, video), mask)
    return jax.nn.log_softmax(logits)


def ctc(logits: jax.Array, batch: dict[str, jax.Array]) -> jax.Array:
    """-log of the probability of each clip's text: [B].

    Args:
        logits: [B, T, 28].
        batch: `mask` [B, T], `text` and `text_mask` [B, L].
    """
    return optax.ctc_loss(
        logits,
        1.0 - batch["mask"],
        batch["text"],
        1.0 - batch["text_mask"],
        blank_id=text.BLANK,
    )


def spelt(batch: dict[str, jax.Array]) -> jax.Array:
    """Clips with a text that their frames can spell, bool [B]: each letter takes a frame, and a
    letter twice in a row a blank in between."""
    labels, valid = batch["text"], batch["text_mask"]
    twice = ((labels[:, 1:] == labels[:, :-1]) & valid[:, 1:]).sum(axis=1)
    length = valid.sum(axis=1)
    return (length > 0) & (length + twice <= batch["mask"].sum(axis=1))


def losses(
    config: ConfigDict,
    variables: Variables,
    batch: dict[str, jax.Array],
    rng: jax.Array,
    train: bool = True,
    axis_name: str | None = None,
) -> tuple[dict[str, jax.Array], dict[str, Any], dict[str, jax.Array]]:
    """The mean of `ctc` over the clips that are `spelt`, and with a weight that of the `spelling`.

    Args:
        variables: of `init`.
        batch: `video` [B, T, H, W, 3], `mask` [B, T], `text` and `text_mask` [B, L], `spelling`
            [B, T].
        rng: [B] keys, of the dropout.
        train: with dropout, and batch normalisation, if there is any, by the batch.
        axis_name: device axis of the batch, if it is spread.

    Returns:
        (loss by player, new batch statistics by player, metrics by name).
    """
    module = players(config, axis_name)[LIPREADER]
    entry = variables[LIPREADER]
    video = view(config, batch["video"])
    logits, new = module.apply(
        entry,
        video,
        batch["mask"],
        keys=rng if train else None,
        train=train,
        mutable=["batch_stats"],
    )
    terms = {"ctc": masked_mean(ctc(logits, batch), spelt(batch), axis_name)}
    if config.loss.spelling > 0:
        each = optax.softmax_cross_entropy_with_integer_labels(logits, batch["spelling"])
        terms["spelling"] = masked_mean(each, batch["mask"], axis_name)
    weighted = {name: config.loss[name] * value for name, value in terms.items()}
    loss = sum(weighted.values())
    metrics = {f"{LIPREADER}/loss": loss}
    metrics |= {f"{LIPREADER}/{name}": value for name, value in terms.items()}
    metrics |= {f"{LIPREADER}/{name}_weighted": value for name, value in weighted.items()}
    return {LIPREADER: loss}, {LIPREADER: new.get("batch_stats", {})}, metrics


def measure(
    config: ConfigDict, variables: Variables, batch: dict[str, jax.Array], rng: jax.Array
) -> dict[str, jax.Array]:
    """What `measure_on_host` goes on from.

    Args:
        variables: of `init`.
        batch: see `losses`.
        rng: not used.

    Returns:
        `ctc` [B] and `log_probs` [B, T, 28].
    """
    del rng
    result = log_probs(config, variables, batch["video"], batch["mask"])
    return {"ctc": ctc(result, batch), "log_probs": result}


def measure_on_host(
    config: ConfigDict, outputs: dict[str, np.ndarray], batch: dict[str, np.ndarray]
) -> dict[str, np.ndarray]:
    """How much of the clips' words the network reads wrong: each measure [B].

    Args:
        outputs: of `measure`.
        batch: `mask` [B, T], `text` and `text_mask` [B, L].

    Returns:
        `ctc`, `wer` and `cer` of `flax_talk.metrics.lip_reading`.
    """
    read = lip_reading.read(outputs["log_probs"], batch["mask"], config.measure.beam_width)
    said = [
        text.decode(labels[valid])
        for labels, valid in zip(batch["text"], batch["text_mask"], strict=True)
    ]
    return {
        "ctc": outputs["ctc"],
        "wer": lip_reading.word_error_rates(said, read),
        "cer": lip_reading.character_error_rates(said, read),
    }

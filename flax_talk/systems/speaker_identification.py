"""Who speaks: the judge that everybodys_talkin_2020 makes its sound anonymous against.

VGGVox (`flax_talk.nets.speaker`), trained to name the speakers of a data set. Song et al.,
"Everybody's Talkin': Let Me Talk as You Want", 2020, section 3.2.1, let the published network judge
cepstral coefficients x' although it has learned on spectrograms; ours learns on the coefficients x
that the other networks hear, so that x' is a picture of its own kind: 13 of them, the log energy
first, over the second around a frame, divided by a constant. A judge: it generates nothing.
"""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from ml_collections import ConfigDict

from flax_talk import losses as terms
from flax_talk.errors import UserError
from flax_talk.nets.cepstra import mfcc
from flax_talk.nets.speaker import VGGVox
from flax_talk.systems.hearing import audio_geometry
from input_pipeline.audio import MFCC_RATE, cut_windows, samples_per_frame

Variables = dict[str, dict[str, Any]]

SPEAKER = "speaker"

COLUMNS = 98
"""Columns of coefficients, 10 ms apart and 25 ms long: 0.795 s before the middle of a frame to
0.2 s after it."""

_MARGIN = 1
"""Columns of sound in front of a window, which the change of the sampling rate looks at."""

_BEFORE = 0.795

WINDOW_SECONDS = 2 * (_BEFORE + _MARGIN / MFCC_RATE)
"""What `config.data.window_seconds` has to be: the loader's windows are centred on frames."""


def players(config: ConfigDict, axis_name: str | None = None) -> dict[str, nn.Module]:
    """The network, for the speakers of `config.data.speakers`."""
    module = VGGVox(
        len(config.data.speakers),
        **config.speaker,
        dtype=jnp.dtype(config.dtype),
        axis_name=axis_name,
    )
    return {SPEAKER: module}


def mfcc_windows(config: ConfigDict, waveform: jax.Array) -> jax.Array:
    """Coefficients of the second around each frame, divided by `config.mfcc.deviation`.

    Args:
        waveform: float32 [B, (T - 1) stride + window] in [-1, 1], as of the loader.

    Returns:
        float32 [B, T, 98, C]; window t hears 0.8 s before the middle of frame t, 0.2 s after it,
        and nothing else.

    Raises:
        UserError: the config's window is not the one that 98 columns need.
    """
    stride, window = audio_geometry(config)
    rate = config.data.audio_rate
    if window != round(WINDOW_SECONDS * rate):
        raise UserError(
            f"config.data.window_seconds is {config.data.window_seconds}: "
            f"set it to {WINDOW_SECONDS}, which {COLUMNS} columns of coefficients need"
        )
    step = samples_per_frame(MFCC_RATE, config.data.video_rate)
    frames = (waveform.shape[-1] - window) // stride + 1
    columns = _MARGIN + (frames - 1) * step + COLUMNS
    heard = mfcc(waveform, rate, columns, config.mfcc.coefficients)
    heard = jnp.swapaxes(heard[:, _MARGIN:], 1, 2) / config.mfcc.deviation
    return jnp.moveaxis(cut_windows(heard, step, COLUMNS), 1, 3)


def init(config: ConfigDict, rng: jax.Array, batch: dict[str, jax.Array]) -> Variables:
    """Initial variables.

    Args:
        rng: one key.
        batch: as the loader yields it; only shapes matter.
    """
    windows = mfcc_windows(config, batch["waveform"])[:, 0]
    return {SPEAKER: dict(players(config)[SPEAKER].init(rng, windows, train=False))}


def losses(
    config: ConfigDict,
    variables: Variables,
    batch: dict[str, jax.Array],
    rng: jax.Array,
    train: bool = True,
    axis_name: str | None = None,
) -> tuple[dict[str, jax.Array], dict[str, Any], dict[str, jax.Array]]:
    """Cross entropy of the windows of all valid frames.

    Args:
        variables: of `init`.
        batch: `waveform` [B, (T - 1) stride + window], `mask` [B, T], `speaker_index` [B].
        rng: not used.
        train: normalise by the batch.
        axis_name: device axis of the batch, if it is spread.

    Returns:
        (loss by player, new batch statistics by player, metrics by name).
    """
    del rng
    windows = mfcc_windows(config, batch["waveform"])
    flat = windows.reshape(-1, *windows.shape[2:])
    (logits, _), new = players(config, axis_name)[SPEAKER].apply(
        variables[SPEAKER], flat, train=train, mutable=["batch_stats"]
    )
    logits = logits.reshape(*batch["mask"].shape, -1)
    label = batch["speaker_index"][:, None]
    known = batch["mask"] & (label >= 0)
    log_p = jax.nn.log_softmax(logits)
    entropy = -jnp.take_along_axis(log_p, jnp.maximum(label, 0)[..., None], axis=-1)[..., 0]
    loss = terms.masked_mean(entropy, known, axis_name)
    right = (logits.argmax(axis=-1) == label).astype(jnp.float32)
    metrics = {
        f"{SPEAKER}/loss": loss,
        f"{SPEAKER}/cross_entropy": loss,
        f"{SPEAKER}/accuracy": terms.masked_mean(right, known, axis_name),
    }
    return {SPEAKER: loss}, {SPEAKER: new["batch_stats"]}, metrics


def log_probabilities(config: ConfigDict, variables: Variables, windows: jax.Array) -> jax.Array:
    """log p(c | x): windows [..., K, C] to [..., N]."""
    flat = windows.reshape(-1, *windows.shape[-2:])
    logits, _ = players(config)[SPEAKER].apply(variables[SPEAKER], flat, train=False)
    return jax.nn.log_softmax(logits).reshape(*windows.shape[:-2], -1)


def measure(
    config: ConfigDict, variables: Variables, batch: dict[str, jax.Array], rng: jax.Array
) -> dict[str, jax.Array]:
    """What `summarise` goes on from: each [B], of clips whose speaker is known.

    Args:
        variables: of `init`.
        batch: see `losses`.
        rng: not used.

    Returns:
        `right`, the share of a clip's windows that are named rightly; `clip_right`, whether the
        clip is, by the sum of their log probabilities; and whether each speaker is the true one.
        One window in `config.speaker_every` frames is heard.
    """
    del rng
    every = slice(None, None, config.speaker_every)
    log_p = log_probabilities(config, variables, mfcc_windows(config, batch["waveform"])[:, every])
    mask, label = batch["mask"][:, every], batch["speaker_index"]
    count = jnp.maximum(mask.sum(axis=1), 1)
    right = (mask & (log_p.argmax(axis=-1) == label[:, None])).sum(axis=1) / count
    whole = jnp.where(mask[..., None], log_p, 0).sum(axis=1)
    outputs = {
        "right": right,
        "clip_right": (whole.argmax(axis=-1) == label).astype(jnp.float32),
    }
    for i in range(len(config.data.speakers)):
        outputs[f"true_{i}"] = (label == i).astype(jnp.float32)
    return outputs


def summarise(config: ConfigDict, means: dict[str, float]) -> dict[str, float]:
    """Accuracies over the clips of known speakers.

    Args:
        means: over the clips, of `measure`.

    Returns:
        `accuracy` of single windows, `clip_accuracy` of clips, and `majority/accuracy` of always
        naming the speaker of most clips.
    """
    counts = [means[f"true_{i}"] for i in range(len(config.data.speakers))]
    known = max(sum(counts), 1e-9)
    return {
        "accuracy": means["right"] / known,
        "clip_accuracy": means["clip_right"] / known,
        "majority/accuracy": max(counts) / known,
    }

"""Action units of speech, by the sound and by the picture: what au_talking_head_2021 trains first.

Chen et al., "Talking Head Generation with Audio and Speech Related Facial Action Units", 2021,
section 3.1: the Audio-to-AU modules and the AU classifier (`flax_talk.nets.action_units`), each
with the loss of Eq. 3, a cross entropy and a Dice loss weighted against the imbalance of the units.
A config trains those to which it gives a weight. Both are judges here: they generate nothing and
are measured by F1 score and accuracy, as in the paper's Table 4.

Ours: the coefficients are those of SyncNet without the energy, worked out on the device; a window
has 28 columns, one every 10 ms, of 25 ms each; LSTMs run over the columns of a window, so that a
frame depends on its own window alone.
"""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

from flax_talk import losses as terms
from flax_talk.errors import UserError
from flax_talk.images import to_float
from flax_talk.metrics.action_units import ACTION_UNITS
from flax_talk.nets.action_units import AudioToUnits, UnitClassifier
from flax_talk.systems import hearing
from flax_talk.systems.hearing import audio_geometry, window_seconds

__all__ = ["audio_geometry", "init", "losses", "measure", "players", "summarise"]

Variables = dict[str, dict[str, Any]]

AUDIO2AU = "audio2au"
CLASSIFIER = "au_classifier"

COLUMNS = 28
"""Columns of coefficients in a window of 280 ms."""

WINDOW_SECONDS = window_seconds(COLUMNS)
"""What `config.data.window_seconds` has to be: from the first column's start to the last's end."""

_COUNTS = ("both", "found", "true", "right", "frames")


def players(config: ConfigDict, axis_name: str | None = None) -> dict[str, nn.Module]:
    """The modules that the config gives a weight, by player.

    The classifier is there, too, where a generator is judged by it.
    """
    del axis_name  # nothing here is normalised by the batch
    dtype = jnp.dtype(config.dtype)
    modules: dict[str, nn.Module] = {}
    if config.loss.audio2au > 0:
        modules[AUDIO2AU] = AudioToUnits(**config.audio2au, dtype=dtype)
    if config.loss.au_classifier > 0 or config.loss.get("action_units", 0) > 0:
        modules[CLASSIFIER] = UnitClassifier(**config.au_classifier, dtype=dtype)
    return modules


def mfcc_windows(config: ConfigDict, waveform: jax.Array) -> jax.Array:
    """Coefficients [B, T, C, 28] around each frame, see `flax_talk.systems.hearing`."""
    return hearing.mfcc_windows(config, waveform, COLUMNS)


def labels(config: ConfigDict, batch: dict[str, jax.Array]) -> jax.Array:
    """Whether each unit is activated: float32 [B, T, 5], of the loader's `action_units`."""
    # From the threshold on: OpenFace's units that are just there have 0.2.
    return (batch["action_units"] >= config.action_units.threshold).astype(jnp.float32)


def init(config: ConfigDict, rng: jax.Array, batch: dict[str, jax.Array]) -> Variables:
    """Initial variables of every player.

    Args:
        rng: one key.
        batch: as the loader yields it; only shapes matter.
    """
    modules = players(config)
    if len(config.action_units.rates) != len(ACTION_UNITS) or min(config.action_units.rates) <= 0:
        raise UserError(
            f"config.action_units.rates is {tuple(config.action_units.rates)}: give the rates, "
            f"above 0, at which {len(ACTION_UNITS)} units occur in training"
        )
    keys = dict(zip(modules, jax.random.split(rng, max(1, len(modules))), strict=False))
    variables = {}
    for name, module in modules.items():
        entry = module.init(keys[name], _inputs(config, name, batch))
        variables[name] = {"batch_stats": {}, **entry}
    return variables


def _inputs(config: ConfigDict, player: str, batch: dict[str, jax.Array]) -> jax.Array:
    """What a player looks at, or hears."""
    if player == AUDIO2AU:
        return mfcc_windows(config, batch["waveform"])
    return terms.lower_half(to_float(batch["video"]))


def _logits(
    config: ConfigDict, variables: Variables, batch: dict[str, jax.Array]
) -> dict[str, jax.Array]:
    """Logits [B, T, 5] of each player on real clips."""
    found = {}
    for name, module in players(config).items():
        output: Any = module.apply(variables[name], _inputs(config, name, batch))
        found[name] = output[0] if name == AUDIO2AU else output
    return found


def classify(config: ConfigDict, variables: Variables, video: jax.Array) -> jax.Array:
    """What the classifier sees in faces.

    Args:
        variables: of `init`.
        video: [B, T, H, W, 3], uint8 or float in [-1, 1]; brought to the config's image_size.

    Returns:
        bool [B, T, 5], whether each unit is activated.
    """
    size = tuple(config.data.image_size)
    faces = to_float(video)
    if faces.shape[2:4] != size:
        faces = jax.image.resize(faces, (*faces.shape[:2], *size, 3), "linear")
    module = players(config)[CLASSIFIER]
    logits: Any = module.apply(variables[CLASSIFIER], terms.lower_half(faces))
    return logits > 0


def unit_terms(config: ConfigDict, logits: jax.Array, labels: jax.Array) -> dict[str, jax.Array]:
    """Both terms of Eq. 3, whose sum it is: logits and labels [..., 5] to [...]."""
    weights = terms.unit_weights(config.action_units.rates)
    return {
        "cross_entropy": terms.unit_cross_entropy(logits, labels, weights),
        "dice": terms.unit_dice(logits, labels, weights, config.action_units.smooth),
    }


def losses(
    config: ConfigDict,
    variables: Variables,
    batch: dict[str, jax.Array],
    rng: jax.Array,
    train: bool = True,
    axis_name: str | None = None,
) -> tuple[dict[str, jax.Array], dict[str, Any], dict[str, jax.Array]]:
    """Eq. 3 of every player on real clips.

    Args:
        variables: of `init`.
        batch: `video` [B, T, H, W, 3] (uint8, or float in [-1, 1]),
            `waveform` [B, (T - 1) stride + window], `mask` [B, T], `action_units` [B, T, 5].
        rng, train: not used.
        axis_name: device axis of the batch, if it is spread.

    Returns:
        (loss by player, new batch statistics by player, metrics by name).
    """
    del rng, train
    total, metrics = {}, {}
    for name, logits in _logits(config, variables, batch).items():
        values = unit_terms(config, logits, labels(config, batch))
        means = {
            term: terms.masked_mean(value, batch["mask"], axis_name)
            for term, value in values.items()
        }
        weighted = {term: config.loss[name] * value for term, value in means.items()}
        total[name] = sum(weighted.values())
        metrics[f"{name}/loss"] = total[name]
        metrics |= {f"{name}/{term}": value for term, value in means.items()}
        metrics |= {f"{name}/{term}_weighted": value for term, value in weighted.items()}
    return total, {name: {} for name in total}, metrics


def measure(
    config: ConfigDict, variables: Variables, batch: dict[str, jax.Array], rng: jax.Array
) -> dict[str, jax.Array]:
    """What `summarise` goes on from: each [B].

    Args:
        variables: of `init`.
        batch: see `losses`.
        rng: not used.

    Returns:
        Of each player and unit the numbers of frames in which it is found and true, found, true,
        and in the right state, and of all frames; and of each player the sum of Eq. 3 over them.
    """
    del rng
    mask, true = batch["mask"], labels(config, batch) > 0
    outputs = {}
    for name, logits in _logits(config, variables, batch).items():
        found = logits > 0
        states = (found & true, found, true, found == true, jnp.ones_like(true))
        for kind, state in zip(_COUNTS, states, strict=True):
            counts = (state & mask[..., None]).sum(axis=1).astype(jnp.float32)
            for i, unit in enumerate(ACTION_UNITS):
                outputs[f"{name}/{kind}_{unit}"] = counts[:, i]
        values = sum(unit_terms(config, logits, true.astype(jnp.float32)).values())
        outputs[f"{name}/loss"] = jnp.where(mask, values, 0).sum(axis=1)
    return outputs


def summarise(config: ConfigDict, means: dict[str, float]) -> dict[str, float]:
    """F1 scores and accuracies over the frames of all clips, which are no means over clips.

    Args:
        means: over the clips, of `measure`.

    Returns:
        Of each player `f1` and `accuracy`, means over the units, `f1_10` and so on of each unit;
        the same, as `constant/...`, of the better of the two answers that are always the same (F1:
        always present; accuracy: the more frequent state); and `loss`. F1 is 0 where a unit is
        neither found nor true.
    """
    result = {}
    for name in players(config):
        scores: dict[str, list[float]] = {}
        for unit in ACTION_UNITS:
            both, found, true, right, frames = (means[f"{name}/{k}_{unit}"] for k in _COUNTS)
            rate = true / max(frames, 1e-9)
            values = {
                "f1": 2 * both / max(found + true, 1e-9),
                "accuracy": right / max(frames, 1e-9),
                "constant/f1": 2 * rate / (1 + rate),
                "constant/accuracy": max(rate, 1 - rate),
            }
            for measure, value in values.items():
                scores.setdefault(measure, []).append(value)
                result[f"{name}/{measure}_{unit}"] = value
        for measure, each in scores.items():
            result[f"{name}/{measure}"] = float(np.mean(each))
        result[f"{name}/loss"] = means[f"{name}/loss"] / max(frames, 1e-9)
    return dict(sorted(result.items()))

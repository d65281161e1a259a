"""Voice to expression: the sound of everybodys_talkin_2020, and its baseline in two dimensions.

Song, Wu, Qian, He, Loy, "Everybody's Talkin': Let Me Talk as You Want", 2020, section 3.2: the
ID-removing network makes coefficients x' of which a frozen VGGVox cannot tell the speaker (Eq. 2),
the audio-to-expression network hears them from 0.8 s before a frame to 0.2 s after it and
gives its expression. Eq. 3 asks for the expression and, through the face model, for the mouth's
landmarks in the image; both networks are trained jointly. `audio_to_landmark`, "2D" in the paper's
Table 1, has the landmarks themselves in the place of the expression.

Ours: the frozen judge is the `speaker_identification` of this package (see there);
`remove_identity` leaves out the first network (the paper's baseline "BL"); distances of landmarks
are means over the 20 of the mouth, in pixels of the aligned crop, where the paper does not say;
the baseline's landmarks are in those pixels, too. A judge: it draws nothing.
"""

from typing import Any, cast

import flax.linen as nn
import jax
import jax.numpy as jnp
from ml_collections import ConfigDict

from flax_talk import losses as terms
from flax_talk.face_model import model as face_model
from flax_talk.nets.audio_expression import AudioToExpression, IdRemoving
from flax_talk.systems import speaker_identification
from flax_talk.systems.speaker_identification import SPEAKER, mfcc_windows

Variables = dict[str, dict[str, Any]]

ID_REMOVING = "id_removing"
TRANSLATION = "audio_to_expression"

GENERATING = (TRANSLATION, ID_REMOVING)
"""Players that `expressions` needs."""

MOUTH_POINTS = 20

_CHUNK = 256
"""Windows that are heard at once where no gradient is wanted, so that long sounds fit."""


def players(config: ConfigDict, axis_name: str | None = None) -> dict[str, nn.Module]:
    """The modules by player; the frozen speaker network where identity is removed."""
    outputs = 2 * MOUTH_POINTS
    if not predicts_landmarks(config):
        outputs = face_model.load_default().expression.shape[-1]
    modules: dict[str, nn.Module] = {
        TRANSLATION: AudioToExpression(outputs, **config.audio_to_expression)
    }
    if config.remove_identity:
        modules[ID_REMOVING] = IdRemoving(**config.id_removing)
        modules |= speaker_identification.players(config, axis_name)
    return modules


def predicts_landmarks(config: ConfigDict) -> bool:
    """Whether the config is of the baseline `audio_to_landmark`."""
    return config.system == "audio_to_landmark"


def init(config: ConfigDict, rng: jax.Array, batch: dict[str, jax.Array]) -> Variables:
    """Initial variables of every player.

    Args:
        rng: one key.
        batch: as the loader yields it; only shapes matter.
    """
    modules = players(config)
    windows = mfcc_windows(config, batch["waveform"])[:, 0]
    variables = {}
    for (name, module), key in zip(
        modules.items(), jax.random.split(rng, len(modules)), strict=True
    ):
        options = {"train": False} if name == SPEAKER else {}
        variables[name] = {"batch_stats": {}, **module.init(key, windows, **options)}
    return variables


def _translate(
    config: ConfigDict, variables: Variables, windows: jax.Array
) -> tuple[jax.Array, jax.Array]:
    """Windows x [N, K, C] to (x' [N, K, C], [N, E]: expression, or landmarks to scale)."""
    modules = players(config)
    if config.remove_identity:
        windows = cast(jax.Array, modules[ID_REMOVING].apply(variables[ID_REMOVING], windows))
    output = modules[TRANSLATION].apply(variables[TRANSLATION], windows)
    return windows, cast(jax.Array, output)


def _in_chunks(
    config: ConfigDict, variables: Variables, waveform: jax.Array
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """(x [B, T, K, C], x', [B, T, E]) of waveforms of any length."""
    windows = mfcc_windows(config, waveform)
    flat = windows.reshape(-1, *windows.shape[2:])
    if len(flat) <= _CHUNK:
        removed, output = _translate(config, variables, flat)
    else:
        removed, output = jax.lax.map(
            lambda window: jax.tree.map(
                lambda leaf: leaf[0], _translate(config, variables, window[None])
            ),
            flat,
            batch_size=_CHUNK,
        )
    lead = windows.shape[:2]
    return windows, removed.reshape(windows.shape), output.reshape(*lead, -1)


def features(
    config: ConfigDict, variables: Variables, audio: jax.Array
) -> tuple[jax.Array, jax.Array]:
    """What is heard before and after the identity is removed: x and x' of each frame.

    Args:
        variables: of `init`.
        audio: float32 [B, (T - 1) stride + window] in [-1, 1], as of the loader.

    Returns:
        ([B, T, 98, C], [B, T, 98, C]), divided by `config.mfcc.deviation`.
    """
    return _in_chunks(config, variables, audio)[:2]


def expressions(config: ConfigDict, variables: Variables, audio: jax.Array) -> jax.Array:
    """Expressions of any sound.

    Args:
        config: of `audio_to_expression`.
        variables: of `init`; the speaker network is not needed.
        audio: float32 [B, (T - 1) stride + window] in [-1, 1], at `config.data.audio_rate`, as of
            `input_pipeline.audio.pad_waveform`.

    Returns:
        float32 [B, T, E], coefficients of the default face model.
    """
    return _in_chunks(config, variables, audio)[2]


def landmarks(config: ConfigDict, variables: Variables, audio: jax.Array) -> jax.Array:
    """Mouth landmarks of any sound, by the baseline.

    Args:
        config: of `audio_to_landmark`.
        variables, audio: see `expressions`.

    Returns:
        float32 [B, T, 20, 2], pixels of the aligned crop.
    """
    return _to_pixels(config, _in_chunks(config, variables, audio)[2])


def _to_pixels(config: ConfigDict, output: jax.Array) -> jax.Array:
    """[..., 40] to [..., 20, 2]: from about the mouth's place, in tenths of the crop's width."""
    height, width = config.data.image_size
    place = jnp.array([0.5 * width, 0.67 * height])
    return place + 0.1 * width * output.reshape(*output.shape[:-1], MOUTH_POINTS, 2)


def _distances(
    config: ConfigDict, output: jax.Array, batch: dict[str, jax.Array]
) -> dict[str, jax.Array]:
    """Both terms of Eq. 3, or that of the landmarks alone: [B, T, E] to [B, T] each."""
    found = {}
    if predicts_landmarks(config):
        mouth = _to_pixels(config, output)
    else:
        found["expression"] = _norm(output - batch["expression"])
        mouth = _mouth(output, batch)
    error = mouth - _mouth(batch["expression"], batch)
    return found | {"landmarks": _norm(error).mean(axis=-1)}


def _mouth(expression: jax.Array, batch: dict[str, jax.Array]) -> jax.Array:
    """The mouth of expressions [B, T, E] on the true head: [B, T, 20, 2], pixels."""
    geometry, pose = batch["geometry"][:, None], batch["pose"]
    return face_model.mouth_landmarks(face_model.load_default(), geometry, expression, pose)


def _norm(x: jax.Array) -> jax.Array:
    """Euclidean length [..., D] to [...], with a gradient at 0."""
    return jnp.sqrt(jnp.square(x).sum(axis=-1) + 1e-12)


def uniform_cross_entropy(log_probabilities: jax.Array) -> jax.Array:
    """Eq. 2: [..., N] to [...]; least, and log N, where all speakers are equally likely."""
    return -log_probabilities.mean(axis=-1)


def losses(
    config: ConfigDict,
    variables: Variables,
    batch: dict[str, jax.Array],
    rng: jax.Array,
    train: bool = True,
    axis_name: str | None = None,
) -> tuple[dict[str, jax.Array], dict[str, Any], dict[str, jax.Array]]:
    """Eq. 2 and Eq. 3; the gradient of Eq. 3 reaches both networks, that of neither the judge.

    Args:
        variables: of `init`.
        batch: `waveform` [B, (T - 1) stride + window], `mask` [B, T], and of the feature
            "face_parameters" `geometry` [B, G], `expression` [B, T, E], `pose` [B, T, 6].
        rng, train: not used.
        axis_name: device axis of the batch, if it is spread.

    Returns:
        (loss by player, new batch statistics by player, metrics by name).
    """
    del rng, train
    windows = mfcc_windows(config, batch["waveform"])
    b, t = windows.shape[:2]
    removed, output = _translate(config, variables, windows.reshape(b * t, *windows.shape[2:]))
    values = {TRANSLATION: _distances(config, output.reshape(b, t, -1), batch)}
    if config.remove_identity:
        frozen = jax.lax.stop_gradient(variables)
        judged = removed.reshape(windows.shape)[:, :: config.speaker_every]
        log_p = speaker_identification.log_probabilities(config, frozen, judged)
        values[ID_REMOVING] = {"uniform": uniform_cross_entropy(log_p)}
    total, metrics = {}, {}
    for player, named in values.items():
        every = config.speaker_every if player == ID_REMOVING else 1
        mask = batch["mask"][:, ::every]
        means = {name: terms.masked_mean(v, mask, axis_name) for name, v in named.items()}
        weighted = {name: config.loss[name] * value for name, value in means.items()}
        total[player] = sum(weighted.values())
        metrics[f"{player}/loss"] = total[player]
        metrics |= {f"{player}/{name}": value for name, value in means.items()}
        metrics |= {f"{player}/{name}_weighted": value for name, value in weighted.items()}
    return total, {name: entry["batch_stats"] for name, entry in variables.items()}, metrics


def measure(
    config: ConfigDict, variables: Variables, batch: dict[str, jax.Array], rng: jax.Array
) -> dict[str, jax.Array]:
    """Distances of Eq. 5, each [B], means over the frames of a clip.

    Args:
        variables: of `init`.
        batch: see `losses`; also `landmarks` [B, T, 68, 2] and, where the config has speakers,
            `speaker_index` [B].
        rng: not used.

    Returns:
        `E_exp` (not of the baseline) and `E_ldmk`; the same of answers that hear nothing:
        `rest/...`, a face at rest; `clip_mean/...`, the clip's own mean expression, which only
        who knows the truth can give; `still/E_ldmk`, the mouth of the first frame. With a
        speaker network also how often it names the speaker, one window in `config.speaker_every`
        frames: see `summarise`.
    """
    del rng
    mask, true = batch["mask"], batch["expression"]
    weight = mask[..., None].astype(true.dtype)
    count = jnp.maximum(weight.sum(axis=1, keepdims=True), 1)
    mean = (true * weight).sum(axis=1, keepdims=True) / count
    windows, removed, output = _in_chunks(config, variables, batch["waveform"])
    mouth = _mouth(true, batch)
    found = _distances(config, output, batch)
    if not predicts_landmarks(config):
        found["rest/expression"] = _norm(true)
        found["clip_mean/expression"] = _norm(mean - true)
    for name, constant in (("rest", 0 * true), ("clip_mean", mean + 0 * true)):
        found[f"{name}/landmarks"] = _norm(_mouth(constant, batch) - mouth).mean(axis=-1)
    still = batch["landmarks"][:, :1, face_model.MOUTH]
    found["still/landmarks"] = _norm(still - mouth).mean(axis=-1)
    outputs = {
        name.replace("expression", "E_exp").replace("landmarks", "E_ldmk"): jnp.where(
            mask, value, 0
        ).sum(axis=1)
        / count[:, 0, 0]
        for name, value in found.items()
    }
    if SPEAKER in variables:
        every = slice(None, None, config.speaker_every)
        label, heard = batch["speaker_index"][:, None], mask[:, every]
        frames = jnp.maximum(heard.sum(axis=1), 1)
        for name, x in (("before", windows), ("after", removed)):
            log_p = speaker_identification.log_probabilities(config, variables, x[:, every])
            right = heard & (log_p.argmax(axis=-1) == label)
            outputs[f"speaker/{name}"] = right.sum(axis=1) / frames
            entropy = jnp.where(heard, uniform_cross_entropy(log_p), 0).sum(axis=1) / frames
            outputs[f"speaker/uniform_{name}"] = entropy
        outputs["speaker/known"] = (label[:, 0] >= 0).astype(jnp.float32)
    return outputs


def summarise(config: ConfigDict, means: dict[str, float]) -> dict[str, float]:
    """Turns counts of speakers into accuracies.

    Args:
        means: over the clips, of `measure`.

    Returns:
        The distances as they are; with a speaker network `speaker/accuracy_before` and
        `..._after`, the share of windows of x and of x' whose speaker it names, left out where it
        knows none of them, and `speaker/uniform_before` and `..._after`, Eq. 2 of all windows.
    """
    del config
    result = {name: value for name, value in means.items() if not name.startswith("speaker/")}
    known = means.get("speaker/known", 0.0)
    for name in ("before", "after"):
        if f"speaker/{name}" in means:
            result[f"speaker/uniform_{name}"] = means[f"speaker/uniform_{name}"]
        if known > 0:
            result[f"speaker/accuracy_{name}"] = means[f"speaker/{name}"] / known
    return result

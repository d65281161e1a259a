"""SyncNet, a judge: do these lips belong to this voice, and how far are the two apart?

Chung and Zisserman, "Out of time: automated lip sync in the wild", 2016. Two streams
(`flax_talk.nets.syncnet`) are trained with the contrastive loss of section 2.3 on windows of 0.2 s
and their own sound against the same clip's sound at another time; `flax_talk.metrics.synchrony`
measures with them. Ours: each window meets all shifted sounds of its clip at once, which is the
expectation of the paper's one false pair drawn for each true one; where of the face the network
looks; and, as our people are few, random changes of light, place and voice in training.
"""

from typing import Any, cast

import flax.linen as nn
import jax
import jax.numpy as jnp
from ml_collections import ConfigDict

from flax_talk.images import crop_and_resize, to_float
from flax_talk.losses import masked_mean
from flax_talk.metrics.synchrony import Synchrony, synchrony
from flax_talk.nets.syncnet import WINDOW_FRAMES, SyncNet

Variables = dict[str, dict[str, Any]]

SYNCNET = "syncnet"


def players(config: ConfigDict, axis_name: str | None = None) -> dict[str, nn.Module]:
    """The one module, by its player's name."""
    dtype = jnp.dtype(config.dtype)
    return {SYNCNET: SyncNet(**config.syncnet, dtype=dtype, axis_name=axis_name)}


def view(config: ConfigDict, video: jax.Array) -> jax.Array:
    """What the network sees: the part `config.view.box` of [B, T, H, W, 3], as large as
    `config.view.size` says, in [-1, 1]."""
    return crop_and_resize(to_float(video), config.view.box, config.view.size)


def augment(
    config: ConfigDict, rng: jax.Array, video: jax.Array, mfcc: jax.Array
) -> tuple[jax.Array, jax.Array]:
    """`view` of clips as other cameras and microphones would have them.

    Every change is drawn for a clip and is the same throughout it, up to what `config.augment`
    says.

    Args:
        rng: [B] keys.
        video: [B, T, H, W, 3], uint8 or float in [-1, 1].
        mfcc: [B, 4 T, 13].

    Returns:
        (video [B, T, H', W', 3], mfcc [B, 4 T, 13]).
    """
    most = config.augment

    def one(key, video, mfcc):
        keys = jax.random.split(key, 7)
        top, left, bottom, right = config.view.box
        zoom = 1 + most.zoom * jax.random.uniform(keys[0], minval=-1)
        move = most.shift * jax.random.uniform(keys[1], (2,), minval=-1)
        middle = jnp.array([top + bottom, left + right]) / 2 + move
        half = jnp.array([bottom - top, right - left]) / 2 * zoom
        box = jnp.concatenate([middle - half, middle + half])
        video = crop_and_resize(to_float(video), box, config.view.size)
        contrast = 1 + most.contrast * jax.random.uniform(keys[2], (3,), minval=-1)
        colours = jnp.diag(contrast) + most.mixing * jax.random.normal(keys[6], (3, 3))
        brightness = most.brightness * jax.random.uniform(keys[3], (3,), minval=-1)
        loudness = most.loudness * jax.random.uniform(keys[4], (1,), minval=-1)
        timbre = most.timbre * jax.random.normal(keys[5], (mfcc.shape[-1] - 1,))
        return video @ colours + brightness, mfcc + jnp.concatenate([loudness, timbre])

    return jax.vmap(one)(rng, video, mfcc)


def window_mask(mask: jax.Array) -> jax.Array:
    """Windows all of whose frames are valid: [B, T] -> [B, T - 4]."""
    count = mask.shape[1] - WINDOW_FRAMES + 1
    return jnp.stack([mask[:, i : i + count] for i in range(WINDOW_FRAMES)]).all(axis=0)


def init(config: ConfigDict, rng: jax.Array, batch: dict[str, jax.Array]) -> Variables:
    """Initial variables.

    Args:
        rng: one key.
        batch: as the loader yields it; only shapes matter.
    """
    module = players(config)[SYNCNET]
    video = view(config, batch["video"])
    return {SYNCNET: dict(module.init(rng, video, batch["mfcc"], train=False))}


def embed(
    config: ConfigDict, variables: Variables, video: jax.Array, mfcc: jax.Array
) -> tuple[jax.Array, jax.Array]:
    """Embeddings of lips and voice.

    Args:
        variables: of `init`.
        video: [B, T, H, W, 3] aligned faces, uint8 or float in [-1, 1].
        mfcc: [B, 4 T, 13] of `input_pipeline.audio.mfcc`.

    Returns:
        (video [B, T - 4, D], audio [B, T - 4, D]), for `flax_talk.metrics.synchrony`.
    """
    embeddings = players(config)[SYNCNET].apply(
        variables[SYNCNET], view(config, video), mfcc, train=False
    )
    return cast(tuple[jax.Array, jax.Array], embeddings)


def judge(
    config: ConfigDict,
    variables: Variables,
    video: jax.Array,
    mfcc: jax.Array,
    mask: jax.Array | None = None,
) -> Synchrony:
    """AV offset and confidence of clips, as the papers' tables have them.

    Ours measures one window more than the published evaluation, which leaves out the last.

    Args:
        variables: of `init`, or of a checkpoint.
        video: [B, T, H, W, 3] aligned faces, uint8 or float in [-1, 1], at 25 fps.
        mfcc: [B, 4 T, 13] of `input_pipeline.audio.mfcc`.
        mask: bool [B, T], valid frames; all by default.

    Returns:
        Arrays [B]; a positive offset is of audio that leads the video.
    """
    if mask is None:
        mask = jnp.ones(video.shape[:2], bool)
    embeddings = embed(config, variables, video, mfcc)
    return synchrony(*embeddings, window_mask(mask), config.measure.max_shift)


def contrastive(distance: jax.Array, together: jax.Array, margin: float) -> jax.Array:
    """Loss of each pair, section 2.3: d^2 / 2 of a true one, max(margin - d, 0)^2 / 2 of a false.

    Args:
        distance: d, of the embeddings, any shape.
        together: bool, which pairs are true.
        margin: distance that false pairs need not exceed.
    """
    return jnp.square(jnp.where(together, distance, jnp.maximum(margin - distance, 0))) / 2


def losses(
    config: ConfigDict,
    variables: Variables,
    batch: dict[str, jax.Array],
    rng: jax.Array,
    train: bool = True,
    axis_name: str | None = None,
) -> tuple[dict[str, jax.Array], dict[str, Any], dict[str, jax.Array]]:
    """The contrastive loss of one batch, as many true pairs as false ones.

    Args:
        variables: of `init`.
        batch: `video` [B, T, H, W, 3], `mfcc` [B, 4 T, 13], `mask` [B, T].
        rng: [B] keys.
        train: batch normalisation by the batch, and `augment`.
        axis_name: device axis of the batch, if it is spread.

    Returns:
        (loss by player, new batch statistics by player, metrics by name).
    """
    module = players(config, axis_name)[SYNCNET]
    entry = variables[SYNCNET]
    stats = entry["batch_stats"]
    if train:
        inputs = augment(config, rng, batch["video"], batch["mfcc"])
        (video, audio), new = module.apply(entry, *inputs, train=True, mutable=["batch_stats"])
        stats = new["batch_stats"]
    else:
        video, audio = embed(config, variables, batch["video"], batch["mfcc"])

    valid = window_mask(batch["mask"])
    square = jnp.square(video[:, :, None] - audio[:, None]).sum(axis=-1)
    # The small constant keeps the gradient of the root finite at distance zero.
    distance = jnp.sqrt(square + 1e-8)
    times = jnp.arange(valid.shape[1])
    shift = jnp.abs(times[:, None] - times)
    both = valid[:, :, None] & valid[:, None]
    values = contrastive(distance, shift == 0, config.loss.margin)

    def mean(values, mask):
        return masked_mean(values, jnp.broadcast_to(mask, both.shape) & both, axis_name)

    false = shift >= config.loss.min_shift
    terms = {"true": mean(values, shift == 0), "false": mean(values, false)}
    loss = (terms["true"] + terms["false"]) / 2
    metrics = {f"{SYNCNET}/loss": loss}
    metrics |= {f"{SYNCNET}/{name}": value for name, value in terms.items()}
    metrics |= {f"{SYNCNET}/{name}_weighted": value / 2 for name, value in terms.items()}
    metrics[f"{SYNCNET}/distance_true"] = mean(distance, shift == 0)
    metrics[f"{SYNCNET}/distance_false"] = mean(distance, false)
    return {SYNCNET: loss}, {SYNCNET: stats}, metrics


def measure(
    config: ConfigDict, variables: Variables, batch: dict[str, jax.Array], rng: jax.Array
) -> dict[str, jax.Array]:
    """How well the network knows that these clips are in sync: each measure [B].

    Here a shift beyond a clip's sound leaves windows out: with the zeros of the published
    evaluation, a network whose embeddings are all equal would be right on clips in sync.

    Args:
        variables: of `init`.
        batch: clips in sync, see `losses`.
        rng: not used.

    Returns:
        `offset` (frames, its absolute value), `exact` (1 where the offset is 0), `accuracy` (1
        where it is at most one frame, the criterion of the paper), `confidence`, `distance`.
    """
    del rng
    video, audio = embed(config, variables, batch["video"], batch["mfcc"])
    mask = window_mask(batch["mask"])
    result = synchrony(video, audio, mask, config.measure.max_shift, zero_padding=False)
    offset = jnp.abs(result.offset)
    return {
        "offset": offset.astype(jnp.float32),
        "exact": (offset == 0).astype(jnp.float32),
        "accuracy": (offset <= 1).astype(jnp.float32),
        "confidence": result.confidence,
        "distance": result.distance,
    }

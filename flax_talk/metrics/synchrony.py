"""Synchrony: whether lips and voice move together, and by how much they are apart.

AV offset and confidence as the evaluation of SyncNet defines them (Chung and Zisserman, "Out of
time: automated lip sync in the wild", 2016, section 4; the papers' tables are made with it): the
embedding of each window of frames is compared with those of the sound at every shift from -15 to 15
frames, the distances are averaged over the video, and the shift with the least is what sound and
picture are apart.

The sign is SyncNet's: an offset is POSITIVE where the AUDIO LEADS the video, that is, comes that
many frames too early, and negative where it is late.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp

MAX_SHIFT = 15
"""Frames by which the published evaluation shifts at most, 0.6 s."""


class Synchrony(NamedTuple):
    """What is measured of each video, arrays [...].

    Attributes:
        offset: int32, frames by which the audio leads the video.
        confidence: median of the averaged distances minus the least one.
        distance: the least of the averaged distances.
    """

    offset: jax.Array
    confidence: jax.Array
    distance: jax.Array


def shifted_distances(
    video: jax.Array,
    audio: jax.Array,
    mask: jax.Array | None = None,
    max_shift: int = MAX_SHIFT,
    zero_padding: bool = True,
) -> jax.Array:
    """Distances of a video's windows to its sound, by shift, averaged over the video.

    Args:
        video: [..., N, D] embeddings of the windows of frames.
        audio: [..., N, D] embeddings of their sound, in the same order.
        mask: bool [..., N], valid windows; all by default.
        max_shift: S, in frames.
        zero_padding: where a shift leads beyond the sound, count the distance to the zero vector as
            the published evaluation does; otherwise leave such windows out.

    Returns:
        [..., 2 S + 1]; entry S + s is of the sound s frames after the frames. Without
        `zero_padding`, infinite where no window is left.
    """
    if mask is None:
        mask = jnp.ones(video.shape[:-1], bool)
    audio = jnp.where(mask[..., None], audio, 0)
    count = video.shape[-2]

    def one(shift):
        # Windows beyond the sound come from this padding.
        pad = [(0, 0)] * (audio.ndim - 2) + [(max_shift, max_shift)]
        start = max_shift + shift
        heard = jax.lax.dynamic_slice_in_dim(jnp.pad(mask, pad), start, count, -1)
        other = jax.lax.dynamic_slice_in_dim(jnp.pad(audio, [*pad, (0, 0)]), start, count, -2)
        distance = jnp.sqrt(jnp.square(video - other).sum(axis=-1))
        counted = mask if zero_padding else mask & heard
        total = jnp.where(counted, distance, 0).sum(axis=-1)
        number = counted.sum(axis=-1)
        return jnp.where(number > 0, total / jnp.maximum(number, 1), jnp.inf)

    shifts = jnp.arange(-max_shift, max_shift + 1)
    return jnp.moveaxis(jax.lax.map(one, shifts), 0, -1)


def synchrony(
    video: jax.Array,
    audio: jax.Array,
    mask: jax.Array | None = None,
    max_shift: int = MAX_SHIFT,
    zero_padding: bool = True,
) -> Synchrony:
    """Offset, confidence and least distance of each video.

    Args:
        video, audio, mask, max_shift, zero_padding: of `shifted_distances`.
    """
    distances = shifted_distances(video, audio, mask, max_shift, zero_padding)
    least = distances.min(axis=-1)
    # Sound that fits only where it is s frames later has come s frames late.
    offset = max_shift - distances.argmin(axis=-1)
    finite = jnp.where(jnp.isfinite(distances), distances, jnp.nan)
    return Synchrony(offset, jnp.nanmedian(finite, axis=-1) - least, least)

"""The terms of the papers' losses, by name.

Each function returns one value for each element it judges ([B], [B, T], [B, K]);
`masked_mean` turns them into the scalar, exact also when the batch is spread over devices
whose valid counts differ. Equation numbers are those of Vougioukas et al. 2020 where no other paper
is named.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import cast

import jax
import jax.numpy as jnp


def masked_mean(values: jax.Array, mask: jax.Array, axis_name: str | None = None) -> jax.Array:
    """Mean of `values` where `mask` is True.

    Over several devices each returns its share, scaled so that the mean over `axis_name` of
    the results (and of their gradients) is the mean over all valid elements of the batch.

    Args:
        values: [...].
        mask: the same shape, bool.
        axis_name: device axis, or None.

    Returns:
        A scalar; 0 where nothing is valid.
    """
    count = mask.sum().astype(values.dtype)
    if axis_name is not None:
        count = jax.lax.pmean(count, axis_name)
    total = jnp.where(mask, values, 0).sum()
    return jnp.where(count > 0, total / jnp.where(count > 0, count, 1), 0)


def lower_half(video: jax.Array) -> jax.Array:
    """[..., H, W, C] -> [..., H / 2, W, C]: the rows from the middle down, with the mouth."""
    return video[..., video.shape[-3] // 2 :, :, :]


def upper_half(video: jax.Array) -> jax.Array:
    """[..., H, W, C] -> [..., H / 2, W, C]: the rows above the middle."""
    return video[..., : video.shape[-3] // 2, :, :]


def mouth_region(video: jax.Array) -> jax.Array:
    """[..., H, W, C] -> [..., 5 H / 16, W / 2, C]: where aligned faces have their mouth (ours)."""
    height, width = video.shape[-3:-1]
    return video[..., height * 9 // 16 : height * 14 // 16, width // 4 : width * 3 // 4, :]


def mouth_shape(mouth: jax.Array, landmarks: jax.Array, mask: jax.Array) -> jax.Array:
    """Mean squared error of the mouth's motion, in square pixels, of each frame (ours).

    Both shapes are taken relative to their mean over the clip, since sound does not tell
    whose mouth it is.

    Args:
        mouth: [B, T, 20, 2], predicted, pixels.
        landmarks: [B, T, 68, 2], iBUG order, pixels.
        mask: bool [B, T], valid frames.

    Returns:
        [B, T].
    """
    weight = mask[..., None, None].astype(mouth.dtype)
    count = jnp.maximum(weight.sum(axis=1, keepdims=True), 1)
    error = mouth - landmarks[:, :, 48:]
    error -= (error * weight).sum(axis=1, keepdims=True) / count
    return jnp.square(error).mean(axis=(-2, -1))


def l1(video: jax.Array, target: jax.Array) -> jax.Array:
    """Mean absolute difference of each frame, Eq. 6: [..., H, W, C] -> [...].

    The paper sums over pixels; the mean is ours, so that its weight does not depend on the
    resolution.
    """
    return jnp.abs(video - target).mean(axis=(-3, -2, -1))


def real_loss(logits: jax.Array) -> jax.Array:
    """-log D(x), the discriminators' loss on what is real (Eq. 2 to 4), from logits."""
    return jax.nn.softplus(-logits)


def fake_loss(logits: jax.Array) -> jax.Array:
    """-log(1 - D(G(z))), the discriminators' loss on what is not (Eq. 2 to 4), from logits."""
    return jax.nn.softplus(logits)


def generator_loss(logits: jax.Array) -> jax.Array:
    """-log D(G(z)): the non-saturating form of the generator's side (Goodfellow et al. 2014)."""
    return jax.nn.softplus(-logits)


def least_squares(scores: jax.Array, wanted: float) -> jax.Array:
    """Half the squared distance of scores from 1 (real) or 0 (not): LSGAN (Mao et al. 2017)."""
    return 0.5 * jnp.square(scores - wanted)


def gradient_penalty(
    judge: Callable[[jax.Array], jax.Array], real: jax.Array, fake: jax.Array, share: jax.Array
) -> jax.Array:
    """How far a discriminator's slope is from 1 between real and generated (Gulrajani et al. 2017).

    Args:
        judge: [N, ...] to scores [N], of which each depends on its own row.
        real, fake: [N, ...].
        share: [N] in [0, 1]: where on the straight line from `fake` to `real` to look.

    Returns:
        (|gradient| - 1)^2 of each row: [N].
    """
    share = share.reshape(-1, *[1] * (real.ndim - 1))
    slope = jax.grad(lambda x: judge(x).sum())(share * real + (1 - share) * fake)
    square = jnp.square(slope).reshape(len(slope), -1).sum(axis=-1)
    # The small constant keeps the gradient of the root finite at slope zero.
    return jnp.square(jnp.sqrt(square + 1e-12) - 1)


def total_variation(video: jax.Array) -> jax.Array:
    """Mean absolute difference of neighbouring pixels, down and across: [..., H, W, C] to [...]."""
    down, across = jnp.diff(video, axis=-3), jnp.diff(video, axis=-2)
    return cast(jax.Array, sum(jnp.abs(x).mean(axis=(-3, -2, -1)) for x in (down, across)))


def unit_weights(rates: Sequence[float]) -> jax.Array:
    """w_i of Eq. 1 of Chen et al. 2021: in inverse proportion to the rates, 1 in the mean.

    Args:
        rates: r_i, how often each action unit occurs in training, above 0: U of them.

    Returns:
        float32 [U].
    """
    inverse = 1 / jnp.asarray(rates, jnp.float32)
    return inverse / inverse.mean()


def unit_cross_entropy(logits: jax.Array, labels: jax.Array, weights: jax.Array) -> jax.Array:
    """Weighted binary cross entropy of action units, Eq. 1 of Chen et al. 2021.

    Args:
        logits, labels: [..., U], labels 0 or 1.
        weights: [U] of `unit_weights`.

    Returns:
        [...].
    """
    each = labels * jax.nn.softplus(-logits) + (1 - labels) * jax.nn.softplus(logits)
    return (weights * each).mean(axis=-1)


def unit_dice(logits: jax.Array, labels: jax.Array, weights: jax.Array, smooth: float) -> jax.Array:
    """Weighted Dice loss of action units, Eq. 2 of Chen et al. 2021.

    Args:
        logits, labels, weights: as of `unit_cross_entropy`.
        smooth: epsilon.

    Returns:
        [...].
    """
    found = jax.nn.sigmoid(logits)
    overlap = 2 * labels * found + smooth
    total = jnp.square(labels) + jnp.square(found) + smooth
    return (weights * (1 - overlap / total)).mean(axis=-1)


def features_l1(features: Mapping[str, jax.Array], target: Mapping[str, jax.Array]) -> jax.Array:
    """Perceptual loss, Eq. 5 of Chen et al. 2021: activations [N, H', W', C] by layer, to [N].

    Of each layer the mean is taken, as in `l1`.
    """
    total = sum(l1(features[name], target[name]) for name in target)
    return cast(jax.Array, total / len(target))

"""The terms of the papers' losses, by name.

Each function returns one value for each element it judges ([B], [B, T], [B, K]);
`masked_mean` turns them into the scalar, exact also when the batch is spread over devices
whose valid counts differ. Equation numbers are those of Vougioukas et al. 2020.
"""

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

"""Smoother motion of landmarks while the mouth rests.

Song et al., "Everybody's Talkin'", 2020, appendix B, Algorithm 1. The algorithm is given for two
frames; ours is that the frame before is the smoothed one, so that jitter does not pass from frame
to frame, and slow motion is followed once it has added up.
"""

import jax
import jax.numpy as jnp


def smooth_landmarks(
    landmarks: jax.Array, threshold: float = 1.0, strength: float = 2.0
) -> jax.Array:
    """Algorithm 1: l'_t = a l'_(t-1) + (1 - a) l_t with a = exp(-strength |c_t - c_(t-1)|) where
    the mouth's centre c moves by no more than the threshold, and l_t elsewhere.

    Args:
        landmarks: float [T, N, 2], pixels; the last 20 are the mouth's, as in iBUG's order, and
            others, such as the jaw's, go with it.
        threshold: d_th, pixels per frame above which nothing is smoothed.
        strength: s, 1 / pixels: the larger, the less is smoothed.

    Returns:
        [T, N, 2].
    """

    def follow(before, now):
        moved = jnp.linalg.norm((now - before)[-20:].mean(axis=0))
        share = jnp.where(moved > threshold, 0, jnp.exp(-strength * moved))
        after = share * before + (1 - share) * now
        return after, after

    landmarks = jnp.asarray(landmarks)
    return jax.lax.scan(follow, landmarks[0], landmarks)[1]

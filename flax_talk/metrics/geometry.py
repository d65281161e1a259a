"""Geometry measures: how near the face predicted from the voice is to the real one.

E_exp and E_ldmk of Song et al., "Everybody's Talkin': Let Me Talk as You Want", 2020, section 4,
Eq. 5. The index of the paper's sums is one expression parameter, of which the norm is the absolute
value, or one landmark. Ours: values of single frames, so that the caller takes the mean over
those that are valid.
"""

import jax
import jax.numpy as jnp


def expression_error(predicted: jax.Array, true: jax.Array) -> jax.Array:
    """E_exp of each frame: mean absolute error of the expression parameters.

    Args:
        predicted, true: [..., E] in the same face model, in its unit (standard deviations). Values
            of different face models do not compare.

    Returns:
        [...], in that unit.
    """
    return jnp.abs(predicted - true).mean(axis=-1)


def landmark_error(predicted: jax.Array, true: jax.Array) -> jax.Array:
    """E_ldmk of each frame: mean distance of the landmarks.

    Args:
        predicted, true: [..., N, 2]; the paper's are those of the mouth, projected with the true
            geometry and pose, in pixels. Pixels of different image sizes do not compare.

    Returns:
        [...], in the unit of the landmarks.
    """
    return jnp.linalg.norm(predicted - true, axis=-1).mean(axis=-1)

"""Heat maps: their values, and what a gradient through them does."""

import jax
import jax.numpy as jnp
import numpy as np

from flax_talk.portrait.heat_maps import heat_maps

SIZE = (12, 16)


def test_a_pixel_has_the_largest_gaussian():
    landmarks = np.random.default_rng(0).uniform(-2, 16, (3, 5, 2)).astype(np.float32)
    got = heat_maps(landmarks, SIZE, 1.5)
    y, x = np.mgrid[:12, :16]
    square = (x - landmarks[..., 0, None, None]) ** 2 + (y - landmarks[..., 1, None, None]) ** 2
    np.testing.assert_allclose(got, np.exp(-square / (2 * 1.5**2)).max(axis=1), atol=1e-6)
    # At a landmark on a pixel it is 1, and nowhere more.
    assert heat_maps(jnp.array([[7.0, 3.0]]), SIZE, 0.5)[3, 7] == 1 == got.max(initial=1)


def test_the_gradient_moves_a_landmark_to_its_target():
    target = heat_maps(jnp.array([[9.0, 6.0]]), SIZE, 2.0)

    @jax.jit
    @jax.grad
    def slope(landmarks):
        return jnp.square(heat_maps(landmarks, SIZE, 2.0) - target).sum()

    moving = jnp.array([[7.0, 4.5]])
    for _ in range(60):
        moving -= 0.2 * slope(moving)
    np.testing.assert_allclose(moving, [[9, 6]], atol=0.05)

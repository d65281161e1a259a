import jax
import jax.numpy as jnp
import numpy as np
import pytest

from flax_talk.errors import UserError
from flax_talk.nets.lipreader import LEAST_SIZE, LipReader, spatial_dropout

NARROW = dict(features=(4, 5, 6), hidden=7)


def test_sizes_are_those_of_the_paper():
    """Table of the appendix: 3 x 6 x 96 behind the last pooling of 50 x 100."""
    video, mask = jnp.zeros((1, 75, 50, 100, 3)), jnp.ones((1, 75), bool)
    shapes = jax.eval_shape(lambda: LipReader().init(jax.random.key(0), video, mask))
    assert set(shapes) == {"params"}
    shapes = shapes["params"]
    kernels = {name: shapes[name]["kernel"].shape for name in shapes if name != "gru"}
    assert kernels == {
        "conv1": (3, 5, 5, 3, 32),
        "conv2": (3, 5, 5, 32, 64),
        "conv3": (3, 3, 3, 64, 96),
        "labels": (512, 28),
    }
    inputs = {name: leaves["input_kernel_0"].shape for name, leaves in shapes["gru"].items()}
    assert inputs == {
        "forward_0": (1728, 768),
        "backward_0": (1728, 768),
        "forward_1": (512, 768),
        "backward_1": (512, 768),
    }


@pytest.fixture(scope="module")
def narrow(draw_variables):
    """(jitted apply(video, mask), video [2, 12, 15, 20, 3])."""
    net = LipReader(**NARROW, norm=True)
    video = np.random.default_rng(0).normal(size=(2, 12, LEAST_SIZE, 20, 3)).astype(np.float32)
    mask = np.ones((2, 12), bool)
    shapes = jax.eval_shape(lambda: net.init(jax.random.key(0), video, mask))
    variables = draw_variables(shapes)
    return jax.jit(lambda video, mask: net.apply(variables, video, mask)), video


def test_the_whole_clip_decides_each_frame_and_padding_only_those_it_touches(narrow):
    apply, video = narrow
    mask = np.arange(12) < np.array([[12], [6]])
    logits = np.asarray(apply(video, mask))
    assert logits.shape == (2, 12, 28) and logits.dtype == np.float32
    other = video.copy()
    other[0, 11] *= -1
    # Three convolutions of three frames reach back by three.
    other[1, 6 + 3 :] *= -1
    moved = np.abs(np.asarray(apply(other, mask)) - logits).max(axis=-1) > 1e-5
    assert moved[0].all() and not moved[1, :6].any() and moved[1, 9:].all()
    whole = np.asarray(apply(video, np.ones_like(mask)))
    assert (np.abs(whole - logits).max(axis=-1)[1, :6] > 1e-5).all()


def test_dropout_takes_whole_channels_by_the_clips_own_key():
    keys = jax.random.split(jax.random.key(0), 3)
    x = jnp.ones((3, 2, 4, 4, 200))
    got = np.asarray(spatial_dropout(x, keys, 0.25))
    flat = got.reshape(3, -1, 200)
    assert (flat == flat[:, :1]).all()
    assert set(np.unique(flat)) == {0, np.float32(1 / 0.75)}
    np.testing.assert_allclose((flat[:, 0] == 0).mean(axis=1), 0.25, atol=0.1)
    assert (flat[0] != flat[1]).any()
    alone = spatial_dropout(x[1:2], keys[1:2], 0.25)
    np.testing.assert_array_equal(alone[0], got[1])


def test_small_pictures_are_refused():
    video = jnp.zeros((1, 5, LEAST_SIZE - 1, 60, 3))
    with pytest.raises(UserError, match=r"pictures of 14 x 60: set config.view.size to 15 x 15"):
        LipReader(**NARROW).init(jax.random.key(0), video, jnp.ones((1, 5), bool))

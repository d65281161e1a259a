import jax
import jax.numpy as jnp
import numpy as np
import pytest

from flax_talk.errors import UserError
from flax_talk.nets.syncnet import LEAST_SIZE, SyncNet, audio_windows

NARROW = dict(video_features=(4,) * 6, audio_features=(5,) * 6, hidden=6, embedding=7)


def test_published_sizes_are_those_of_the_published_weights():
    """Channels and kernels of `syncnet_v2.model`, at 224 x 224 and 13 x 20."""
    shapes = jax.eval_shape(
        lambda: SyncNet().init(
            jax.random.key(0), jnp.zeros((1, 5, 224, 224, 3)), jnp.zeros((1, 20, 13)), False
        )
    )["params"]
    # A layer holds its convolution or matrix, the last of a stream is one.
    kernels = {
        name: (leaves.get("conv") or leaves.get("dense") or leaves)["kernel"].shape
        for name, leaves in shapes.items()
    }
    assert kernels == {
        "video_conv1": (5, 7, 7, 3, 96),
        "video_conv2": (5, 5, 96, 256),
        "video_conv3": (3, 3, 256, 256),
        "video_conv4": (3, 3, 256, 256),
        "video_conv5": (3, 3, 256, 256),
        "video_conv6": (6, 6, 256, 512),
        "video_hidden": (512, 512),
        "video_embedding": (512, 1024),
        "audio_conv1": (3, 3, 1, 64),
        "audio_conv2": (3, 3, 64, 192),
        "audio_conv3": (3, 3, 192, 384),
        "audio_conv4": (3, 3, 384, 256),
        "audio_conv5": (3, 3, 256, 256),
        "audio_conv6": (5, 4, 256, 512),
        "audio_hidden": (512, 512),
        "audio_embedding": (512, 1024),
    }


def test_audio_windows_are_those_of_five_frames():
    columns = np.arange(2 * 28 * 3).reshape(2, 28, 3)
    windows = np.asarray(audio_windows(columns))
    assert windows.shape == (2, 3, 20, 3)
    for t in range(3):
        np.testing.assert_array_equal(windows[:, t], columns[:, 4 * t : 4 * t + 20])


@pytest.fixture(scope="module")
def narrow():
    """(apply, video [1, 8, 51, 51, 3], mfcc [1, 32, 13])."""
    random = np.random.default_rng(0)
    video = random.uniform(-1, 1, (1, 8, LEAST_SIZE, LEAST_SIZE, 3)).astype(np.float32)
    mfcc = random.normal(size=(1, 32, 13)).astype(np.float32)
    net = SyncNet(**NARROW)
    variables = jax.jit(lambda: net.init(jax.random.key(1), video, mfcc, False))()
    return jax.jit(lambda video, mfcc: net.apply(variables, video, mfcc, False)), video, mfcc


def test_each_embedding_is_of_its_five_frames_and_their_sound_alone(narrow):
    apply, video, mfcc = narrow
    seen, heard = apply(video, mfcc)
    assert seen.shape == heard.shape == (1, 4, 7) and seen.dtype == heard.dtype == np.float32
    other_video, other_mfcc = video.copy(), mfcc.copy()
    other_video[:, 6] *= -1  # in windows 2 and 3
    other_mfcc[:, 3:8] *= -1  # in windows 0 and 1
    other_seen, other_heard = apply(other_video, other_mfcc)
    moved = np.abs(seen - other_seen).max(axis=(0, 2)) > 1e-4
    assert moved.tolist() == [False, False, True, True]
    moved = np.abs(heard - other_heard).max(axis=(0, 2)) > 1e-4
    assert moved.tolist() == [True, True, False, False]


def test_equal_windows_have_equal_embeddings_wherever_they_are(narrow):
    apply, video, mfcc = narrow
    seen, heard = apply(video, mfcc)
    again, sound = apply(np.roll(video, -2, axis=1), np.roll(mfcc, -8, axis=1))
    np.testing.assert_allclose(again[:, :2], seen[:, 2:], atol=1e-5)
    np.testing.assert_allclose(sound[:, :2], heard[:, 2:], atol=1e-5)


def test_small_pictures_are_refused():
    video = jnp.zeros((1, 5, LEAST_SIZE - 1, 60, 3))
    with pytest.raises(UserError, match=r"pictures of 50 x 60: set config.view.size to 51 x 51"):
        SyncNet(**NARROW).init(jax.random.key(0), video, jnp.zeros((1, 20, 13)), False)

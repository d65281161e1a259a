"""The contrastive loss is its definition, and a tiny network learns what belongs together."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from configs import syncnet_grid
from flax_talk.images import crop_and_resize
from flax_talk.systems import syncnet as system
from flax_talk.training import optimizers, step


class Fixed:
    """In place of the network: embeddings that are given."""

    def __init__(self, video, audio):
        self.embeddings = jnp.asarray(video), jnp.asarray(audio)

    def apply(self, variables, *inputs, train=False, mutable=()):
        return (self.embeddings, {"batch_stats": {}}) if mutable else self.embeddings


@pytest.fixture
def config():
    return syncnet_grid.get_config("tiny")


def fix(monkeypatch, config, seed=0, lengths=(12, 9, 3)):
    """Random embeddings [3, 8, 4] of clips of 12, 9 and 3 frames: (video, audio, batch)."""
    random = np.random.default_rng(seed)
    video, audio = random.normal(size=(2, 3, 8, 4)).astype(np.float32)
    monkeypatch.setattr(system, "players", lambda *_: {"syncnet": Fixed(video, audio)})
    batch = {
        "video": np.zeros((3, 12, 128, 96, 3), np.uint8),
        "mfcc": np.zeros((3, 48, 13), np.float32),
        "mask": np.arange(12) < np.array(lengths)[:, None],
    }
    return video.astype(np.float64), audio.astype(np.float64), batch


KEYS = jax.random.split(jax.random.key(0), 4)
VARIABLES = {"syncnet": {"params": {}, "batch_stats": {}}}


@pytest.mark.parametrize("train", [True, False])
def test_loss_is_the_mean_over_true_and_over_false_pairs(monkeypatch, config, train):
    config.loss.update(dict(margin=2.5, min_shift=3))
    video, audio, batch = fix(monkeypatch, config)
    true, false, distances = [], [], []
    for clip, windows in enumerate((8, 5, 0)):
        for i in range(windows):
            for j in range(windows):
                distance = np.linalg.norm(video[clip, i] - audio[clip, j])
                if i == j:
                    true.append(distance**2 / 2)
                elif abs(i - j) >= 3:
                    false.append(max(2.5 - distance, 0) ** 2 / 2)
                    distances.append(distance)
    losses, _, metrics = system.losses(config, VARIABLES, batch, KEYS[:3], train)
    assert metrics["syncnet/true"] == pytest.approx(np.mean(true), rel=1e-5)
    assert metrics["syncnet/false"] == pytest.approx(np.mean(false), rel=1e-5)
    assert metrics["syncnet/distance_false"] == pytest.approx(np.mean(distances), rel=1e-5)
    expected = (np.mean(true) + np.mean(false)) / 2
    assert losses["syncnet"] == metrics["syncnet/loss"] == pytest.approx(expected, rel=1e-5)


def test_clips_are_measured_without_zeros_beyond_their_ends(monkeypatch, config):
    config.measure.max_shift = 4
    video, audio, batch = fix(monkeypatch, config, lengths=(12, 12, 12))
    video[0], audio[0, 2:] = np.arange(8)[:, None], np.arange(6)[:, None]  # the sound is late
    video[1], audio[1] = np.arange(8)[:, None], np.arange(8)[:, None]
    video[2] = audio[2] = 1
    monkeypatch.setattr(system, "players", lambda *_: {"syncnet": Fixed(video, audio)})
    got = system.measure(config, VARIABLES, batch, None)
    np.testing.assert_array_equal(got["offset"], [2, 0, 4])
    np.testing.assert_array_equal(got["exact"], [0, 1, 0])
    np.testing.assert_array_equal(got["accuracy"], [0, 1, 0])
    judged = system.judge(config, VARIABLES, batch["video"], batch["mfcc"], batch["mask"])
    assert judged.offset.tolist() == [-2, 0, 0]
    for name in ("confidence", "distance"):
        assert got[name].shape == (3,)


def test_view_is_the_part_of_the_face_that_the_config_names(config):
    video = np.random.default_rng(0).integers(0, 256, (2, 1, 128, 96, 3), dtype=np.uint8)
    config.view.update(dict(box=(64 / 128, 20 / 96, 120 / 128, 76 / 96), size=(56, 56)))
    expected = video[:, :, 64:120, 20:76] / 127.5 - 1
    np.testing.assert_allclose(system.view(config, video), expected, atol=1e-5)


def test_resized_crop_keeps_its_place():
    """A ramp, enlarged: pixel centres keep their value."""
    ramp = jnp.broadcast_to(jnp.arange(16.0)[:, None], (16, 12))[None, ..., None]
    got = crop_and_resize(ramp, (0.25, 0.0, 0.75, 1.0), (16, 24))
    rows = 4 + (np.arange(16) + 0.5) / 2 - 0.5
    np.testing.assert_allclose(got[0, :, 5, 0], rows, atol=1e-4)


def test_clips_are_augmented_each_in_its_own_way_and_alike_throughout(config):
    random = np.random.default_rng(0)
    frame, column = random.integers(0, 256, (128, 96, 3)), random.normal(size=13)
    video = np.broadcast_to(frame, (3, 4, 128, 96, 3)).astype(np.uint8)
    mfcc = np.broadcast_to(column, (3, 16, 13)).astype(np.float32)
    seen, heard = system.augment(config, KEYS[:3], video, mfcc)
    plain = system.view(config, video)
    assert seen.shape == plain.shape and heard.shape == mfcc.shape
    for array, before in ((seen, plain), (heard, mfcc)):
        np.testing.assert_allclose(array, np.broadcast_to(array[:, :1], array.shape), atol=1e-5)
        changes = np.abs(np.asarray(array) - before).reshape(3, -1).max(axis=1)
        assert (changes > 0.05).all() and len(set(changes.tolist())) == 3
    assert np.abs(heard - mfcc)[..., 0].max() <= config.augment.loudness
    for name in config.augment:
        config.augment[name] = 0.0
    seen, heard = system.augment(config, KEYS[:3], video, mfcc)
    np.testing.assert_allclose(seen, plain, atol=1e-5)
    np.testing.assert_array_equal(heard, mfcc)


def test_losses_over_two_devices_are_those_of_the_whole_batch(config):
    """Unequal masks: the mean over the devices is the mean over all pairs, normalised alike."""
    random = np.random.default_rng(1)
    t = config.data.num_frames
    batch = {
        "video": random.integers(0, 256, (4, t, 128, 96, 3), dtype=np.uint8),
        "mfcc": random.normal(size=(4, 4 * t, 13)).astype(np.float32),
        "mask": np.arange(t) < np.array([12, 12, 7, 3])[:, None],
    }
    variables = jax.jit(functools.partial(system.init, config))(jax.random.key(0), batch)
    batch["keys"] = KEYS
    whole = jax.jit(lambda b: system.losses(config, variables, b, b["keys"])[1:])(batch)
    halves = jax.tree.map(lambda x: x.reshape(2, 2, *x.shape[1:]), batch)

    def device(batch):
        result = system.losses(config, variables, batch, batch["keys"], True, "data")[1:]
        return jax.lax.pmean(result, "data")

    spread = jax.jit(jax.vmap(device, axis_name="data"))(halves)
    for one, other in zip(jax.tree.leaves(spread), jax.tree.leaves(whole), strict=True):
        np.testing.assert_allclose(one[0], other, rtol=2e-4, atol=1e-5)


def test_a_tiny_network_learns_when_a_mouth_opens(config):
    """A card whose mouth opens with the sound, at random."""
    config.view.update(dict(box=(0.0, 0.0, 1.0, 1.0), size=(51, 51)))
    config.optimizer.syncnet.learning_rate = 1e-2
    config.augment.update(dict.fromkeys(config.augment, 0.0))
    random = np.random.default_rng(0)
    t = 24
    opening = random.uniform(size=(2, t)) ** 2
    rows = np.abs(np.arange(51) - 30)[:, None, None]
    video = np.where(rows < 12 * opening[:, :, None, None, None], 60, 200)
    batch = {
        "video": np.broadcast_to(video, (2, t, 51, 51, 3)).astype(np.uint8),
        "mfcc": np.repeat(10 * opening, 4, axis=1)[..., None] * np.cos(np.arange(13)),
        "mask": np.ones((2, t), bool),
    }
    batch["mfcc"] = batch["mfcc"].astype(np.float32)
    optimizer = optimizers.make_optimizer(config.optimizer, ["syncnet"], 1000)
    init = functools.partial(step.init_state, system, config, optimizer)
    state = jax.jit(init)(batch)
    train = jax.jit(functools.partial(step.train_step, system, config, optimizer))
    losses = []
    for _ in range(40):
        state, metrics = train(state, batch)
        losses.append(float(metrics["syncnet/loss"]))
    # Embeddings that know nothing cannot do better than margin^2 / 8.
    ignorant = config.loss.margin**2 / 8
    assert np.mean(losses[-5:]) < 0.7 * ignorant < losses[0], losses[::6]

"""The loss is the sum over all ways to spell a text, and a tiny network learns to read."""

import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from configs import lipnet_grid
from flax_talk.systems import lipnet as system
from input_pipeline.text import BLANK, encode

KEYS = jax.random.split(jax.random.key(0), 4)
VARIABLES = {"lipreader": {"params": {}}}


class Fixed:
    """In place of the network: logits that are given."""

    def __init__(self, logits):
        self.logits = jnp.asarray(logits)

    def apply(self, variables, video, mask, keys=None, train=False, mutable=()):
        return (self.logits, {}) if mutable else self.logits


@pytest.fixture
def config():
    return lipnet_grid.get_config("tiny")


def labels(texts, length=4):
    """`text` and `text_mask` [B, L]; noise behind the ends."""
    padded = np.random.default_rng(5).integers(0, 27, (len(texts), length)).astype(np.int32)
    for row, text in zip(padded, texts, strict=True):
        row[: len(text)] = encode(text)
    mask = np.arange(length) < np.array([len(text) for text in texts])[:, None]
    return {"text": padded, "text_mask": mask}


def fix(monkeypatch, texts, lengths, seed=0):
    """Random logits [B, 4, 28] in place of the network, and a batch."""
    logits = 2 * np.random.default_rng(seed).normal(size=(len(texts), 4, 28)).astype(np.float32)
    monkeypatch.setattr(system, "players", lambda *_: {"lipreader": Fixed(logits)})
    monkeypatch.setattr(system, "view", lambda config, video: video)
    batch = {
        "video": np.zeros((len(texts), 4, 1, 1, 3), np.uint8),
        "mask": np.arange(4) < np.array(lengths)[:, None],
        **labels(texts),
    }
    return logits.astype(np.float64), batch


def expected_ctc(logits, text):
    """-log of the sum over all paths of the frames [T, 28] that collapse to the text."""
    log_probs = logits - np.logaddexp.reduce(logits, axis=1, keepdims=True)
    wanted, total = encode(text).tolist(), 0.0
    for path in itertools.product({BLANK, *wanted}, repeat=len(logits)):
        if [label for label, _ in itertools.groupby(path) if label != BLANK] == wanted:
            total += np.exp(log_probs[range(len(path)), path].sum())
    return -np.log(total)


@pytest.mark.parametrize("train", [True, False])
def test_loss_is_the_mean_over_the_clips_that_can_be_spelt(monkeypatch, config, train):
    """The last four have no text, no frame, too few frames, and too few for a letter twice."""
    texts, lengths = ["ab", "aa", "a b", "", "a", "abc", "aa"], [4, 3, 4, 4, 0, 2, 2]
    logits, batch = fix(monkeypatch, texts, lengths)
    each = [
        expected_ctc(frames[:length], text)
        for frames, text, length in zip(logits[:3], texts, lengths, strict=False)
    ]
    losses, stats, metrics = system.losses(config, VARIABLES, batch, KEYS, train)
    assert losses["lipreader"] == pytest.approx(np.mean(each), rel=1e-5)
    assert set(metrics) == {"lipreader/loss", "lipreader/ctc", "lipreader/ctc_weighted"}
    assert all(value == losses["lipreader"] for value in metrics.values())
    assert stats == {"lipreader": {}}
    measured = system.measure(config, VARIABLES, batch, None)
    np.testing.assert_allclose(measured["ctc"][:3], each, rtol=1e-5)
    np.testing.assert_allclose(np.exp(measured["log_probs"]).sum(axis=-1), 1, rtol=1e-5)


def test_letters_of_frames_add_their_weight(monkeypatch, config):
    logits, batch = fix(monkeypatch, ["ab", "b"], [4, 2])
    batch["spelling"] = np.array([[0, 0, 1, BLANK], [1, 1, 5, 5]])
    plain = float(system.losses(config, VARIABLES, batch, KEYS)[0]["lipreader"])
    config.loss.spelling = 3.0
    losses, _, metrics = system.losses(config, VARIABLES, batch, KEYS)
    log_probs = np.asarray(jax.nn.log_softmax(logits))
    valid = [log_probs[0, t, batch["spelling"][0, t]] for t in range(4)]
    valid += [log_probs[1, t, 1] for t in range(2)]
    assert metrics["lipreader/spelling"] == pytest.approx(-np.mean(valid), rel=1e-5)
    assert losses["lipreader"] == pytest.approx(plain - 3 * np.mean(valid), rel=1e-5)


@pytest.mark.parametrize("beam_width", [1, 5])
def test_error_rates_are_of_each_clips_text(config, beam_width):
    config.measure.beam_width = beam_width
    read = [encode("a b")[[0, 1, 2, 2]], encode("zzzz"), encode("cccc"), encode("cccc")]
    log_probs = np.where(np.eye(28)[np.array(read)] > 0, 0.0, -30.0)
    batch = {"mask": np.ones((4, 4), bool), **labels(["a b", "a z", "", "c"])}
    batch["mask"][3] = False
    outputs = {"ctc": np.arange(4.0), "log_probs": log_probs}
    got = system.measure_on_host(config, outputs, batch)
    np.testing.assert_allclose(got["wer"], [0, 1 / 2, 1, 1])
    np.testing.assert_allclose(got["cer"], [0, 2 / 3, 1, 1])
    np.testing.assert_array_equal(got["ctc"], outputs["ctc"])


def test_view_is_the_mouth_less_the_mean(config):
    video = np.random.default_rng(0).integers(0, 256, (2, 1, 128, 96, 3), dtype=np.uint8)
    config.view.size = (36, 72)
    expected = video[:, :, 70:106, 12:84] / 127.5 - 1
    expected = (expected - config.view.mean) / config.view.deviation
    np.testing.assert_allclose(system.view(config, video), expected, atol=1e-4)
    config.view = lipnet_grid.get_config("published").view
    config.view.size = (36, 72)
    expected = video[:, :, 70:106, 12:84] / 255
    np.testing.assert_allclose(system.view(config, video), expected, atol=1e-5)


def test_losses_over_two_devices_are_those_of_the_whole_batch(config, draw_variables):
    """Unequal masks and texts, with dropout and batch normalisation."""
    config.lipreader.norm = True
    random = np.random.default_rng(1)
    batch = {
        "video": random.integers(0, 256, (4, 6, 128, 96, 3), dtype=np.uint8),
        "mask": np.arange(6) < np.array([6, 6, 4, 2])[:, None],
        **labels(["ab", "a b", "c", ""]),
    }
    init = functools.partial(system.init, config)
    variables = draw_variables(jax.eval_shape(init, jax.random.key(0), batch))
    batch["keys"] = KEYS
    whole = jax.jit(lambda b: system.losses(config, variables, b, b["keys"])[1:])(batch)
    halves = jax.tree.map(lambda x: x.reshape(2, 2, *x.shape[1:]), batch)

    def device(batch):
        result = system.losses(config, variables, batch, batch["keys"], True, "data")[1:]
        return jax.lax.pmean(result, "data")

    spread = jax.jit(jax.vmap(device, axis_name="data"))(halves)
    assert len(jax.tree.leaves(whole)) == 3 + 2 * 3
    for one, other in zip(jax.tree.leaves(spread), jax.tree.leaves(whole), strict=True):
        np.testing.assert_allclose(one[0], other, rtol=2e-4, atol=1e-5)


def test_a_tiny_network_learns_to_read_colours(monkeypatch, config, draw_variables):
    """Each letter is a colour; who does not see loses log 2 or more."""
    monkeypatch.setattr(system, "view", lambda config, video: video)
    config.lipreader.update(dict(dropout=0.0, hidden=16))
    colours = {"a": (1, -1, -1), "b": (-1, 1, 1), " ": (0, 0, 0)}
    frames = np.array([[colours[c] for c in shown] for shown in (" aa bb ", " bb aa ")])
    video = np.broadcast_to(frames[:, :, None, None], (2, 7, 15, 15, 3)).astype(np.float32)
    batch = {"video": video, "mask": np.ones((2, 7), bool), **labels(["ab", "ba"])}
    shapes = jax.eval_shape(functools.partial(system.init, config), KEYS[0], batch)
    params = draw_variables(shapes)["lipreader"]["params"]
    optimizer = optax.adam(2e-2)

    @jax.jit
    def train(params, state):
        def loss(params):
            variables = {"lipreader": {"params": params}}
            return system.losses(config, variables, batch, KEYS[:2])[0]["lipreader"]

        value, gradient = jax.value_and_grad(loss)(params)
        updates, state = optimizer.update(gradient, state)
        return optax.apply_updates(params, updates), state, value

    state, losses = optimizer.init(params), []
    for _ in range(50):
        params, state, value = train(params, state)
        losses.append(float(value))
    assert losses[-1] < 0.3 < np.log(2) < losses[0], losses[::7]

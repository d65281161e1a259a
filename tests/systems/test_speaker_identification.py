"""The judge of speakers: its loss and its scores are of known speakers and of valid frames."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from configs import everybodys_talkin_2020_grid
from flax_talk.systems import speaker_identification as system

LABELS = np.int32([1, -1, 0])
VARIABLES = {system.SPEAKER: {"params": {}, "batch_stats": {}}}


class Fixed:
    """In place of the network: logits that are given."""

    def __init__(self, logits):
        self.logits = jnp.asarray(logits)

    def apply(self, variables, windows, train, mutable=()):
        outputs = self.logits.reshape(-1, 3), None
        return (outputs, {"batch_stats": {}}) if mutable else outputs


@pytest.fixture
def case(monkeypatch):
    """Three clips of four, four and two frames, the second one's speaker unknown."""
    config = everybodys_talkin_2020_grid.get_config("tiny_speaker")
    config.data.speakers, config.speaker_every = ("a", "b", "c"), 1
    logits = np.random.default_rng(0).normal(size=(3, 4, 3)).astype(np.float32)
    logits[0, :2, 1] += 5
    monkeypatch.setattr(system, "players", lambda *_: {system.SPEAKER: Fixed(logits)})
    monkeypatch.setattr(system, "mfcc_windows", lambda *_: jnp.zeros((3, 4, 98, 13)))
    mask = np.arange(4) < np.array([4, 4, 2])[:, None]
    batch = {"waveform": np.zeros((3, 1)), "mask": mask, "speaker_index": LABELS}
    log_p = logits - np.log(np.exp(logits).sum(axis=-1, keepdims=True))
    return config, batch, log_p


def test_loss_is_the_cross_entropy_of_known_speakers(case):
    config, batch, log_p = case
    expected = -np.mean([*log_p[0, :, 1], *log_p[2, :2, 0]])
    losses, _, metrics = system.losses(config, VARIABLES, batch, None)
    assert losses[system.SPEAKER] == pytest.approx(expected, rel=1e-5)
    right = [*(log_p[0].argmax(axis=-1) == 1), *(log_p[2, :2].argmax(axis=-1) == 0)]
    assert metrics["speaker/accuracy"] == pytest.approx(np.mean(right))


def test_scores_are_of_known_speakers_beside_the_majority(case):
    config, batch, log_p = case
    values = system.measure(config, VARIABLES, batch, None)
    means = {name: float(np.mean(value)) for name, value in values.items()}
    result = system.summarise(config, means)
    shares = [(log_p[0].argmax(axis=-1) == 1).mean(), (log_p[2, :2].argmax(axis=-1) == 0).mean()]
    assert result["accuracy"] == pytest.approx(np.mean(shares))
    whole = [log_p[0].sum(axis=0).argmax() == 1, log_p[2, :2].sum(axis=0).argmax() == 0]
    assert result["clip_accuracy"] == pytest.approx(np.mean(whole))
    assert result["majority/accuracy"] == pytest.approx(0.5)


def test_stage_trains_on_other_sentences_of_the_same_speakers():
    config = everybodys_talkin_2020_grid.get_config("speaker")
    assert set(system.players(config)) == {system.SPEAKER}
    assert system.players(config)[system.SPEAKER].num_speakers == len(config.data.speakers) == 16
    assert config.optimizer[system.SPEAKER].learning_rate > 0
    for part in ("train", "validation", "test"):
        names = [s.partition("[")[0] for s in config.data.splits[part].split("+")]
        assert tuple(names) == config.data.speakers
    assert jax.tree.leaves(config.data.splits.to_dict()) and "[:-60]" in config.data.splits.train

"""Both judges of action units: what they hear, their losses, and their scores over all frames."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from configs import au_talking_head_2021_grid
from flax_talk.errors import UserError
from flax_talk.metrics.action_units import ACTION_UNITS
from flax_talk.systems import action_units as system
from input_pipeline import audio

KEYS = jax.random.split(jax.random.key(0), 2)
RATES = (0.1, 0.4, 0.3, 0.8, 0.2)


@pytest.fixture
def config():
    config = au_talking_head_2021_grid.get_config("tiny_audio2au")
    config.data.update(dict(image_size=(32, 32), num_frames=4))
    config.action_units.update(dict(rates=RATES, threshold=0.5))
    return config


class Fixed:
    """In place of a network: logits that are given."""

    def __init__(self, logits):
        self.logits = jnp.asarray(logits)

    def apply(self, variables, inputs):
        return self.logits, None


def fix(monkeypatch, lengths=(4, 2)):
    """Random logits and intensities of two clips; beyond their ends both are noise too."""
    random = np.random.default_rng(3)
    logits = 2 * random.normal(size=(2, 4, 5)).astype(np.float32)
    monkeypatch.setattr(system, "players", lambda *_: {system.AUDIO2AU: Fixed(logits)})
    monkeypatch.setattr(system, "mfcc_windows", lambda config, waveform: waveform)
    batch = {
        "waveform": np.zeros((2, 1), np.float32),
        "mask": np.arange(4) < np.array(lengths)[:, None],
        "action_units": random.uniform(size=(2, 4, 5)).astype(np.float32),
    }
    valid = batch["mask"]
    return logits[valid].astype(np.float64), batch["action_units"][valid] > 0.5, batch


def equation_3(logits, true):
    """Means over frames [N, 5] of Eq. 1 and Eq. 2, unit by unit as the paper writes them."""
    inverse = [1 / rate for rate in RATES]
    found, bce, dice = 1 / (1 + np.exp(-logits)), 0.0, 0.0
    for i in range(5):
        weight = inverse[i] * 5 / sum(inverse)
        y, p = true[:, i].astype(float), found[:, i]
        bce -= weight * np.mean(y * np.log(p) + (1 - y) * np.log(1 - p)) / 5
        dice += weight * np.mean(1 - (2 * y * p + 1) / (y**2 + p**2 + 1)) / 5
    return bce, dice


def test_loss_is_equation_3_over_the_valid_frames(config, monkeypatch):
    logits, true, batch = fix(monkeypatch)
    config.loss.audio2au = 2.0
    bce, dice = equation_3(logits, true)
    losses, stats, metrics = system.losses(config, {system.AUDIO2AU: {}}, batch, KEYS)
    assert losses[system.AUDIO2AU] == pytest.approx(2 * (bce + dice), rel=1e-5)
    assert metrics["audio2au/cross_entropy"] == pytest.approx(bce, rel=1e-5)
    assert metrics["audio2au/dice_weighted"] == pytest.approx(2 * dice, rel=1e-5)
    assert stats == {system.AUDIO2AU: {}}


def test_scores_are_of_all_frames_beside_a_constant_answer(config, monkeypatch):
    logits, true, batch = fix(monkeypatch)
    batch["action_units"][..., 4] = 0  # A unit that never occurs.
    true[:, 4] = False
    found = logits > 0
    measured = system.measure(config, {system.AUDIO2AU: {}}, batch, None)
    assert all(value.shape == (2,) for value in measured.values())
    means = {name: float(np.mean(value)) for name, value in measured.items()}
    result = system.summarise(config, means)
    f1, accuracy, always, majority = [], [], [], []
    for i, unit in enumerate(ACTION_UNITS):
        both = (found[:, i] & true[:, i]).sum()
        f1.append(2 * both / (found[:, i].sum() + true[:, i].sum()))
        accuracy.append((found[:, i] == true[:, i]).mean())
        rate = true[:, i].mean()
        always.append(2 * rate / (1 + rate))
        majority.append(max(rate, 1 - rate))
        assert result[f"audio2au/f1_{unit}"] == pytest.approx(f1[-1])
        assert result[f"audio2au/accuracy_{unit}"] == pytest.approx(accuracy[-1])
        assert result[f"audio2au/constant/f1_{unit}"] == pytest.approx(always[-1])
    assert len(set(f1)) > 2 and f1[4] == 0
    assert result["audio2au/f1"] == pytest.approx(np.mean(f1))
    assert result["audio2au/accuracy"] == pytest.approx(np.mean(accuracy))
    assert result["audio2au/constant/accuracy"] == pytest.approx(np.mean(majority))
    assert result["audio2au/loss"] == pytest.approx(sum(equation_3(logits, true)), rel=1e-5)


def test_windows_are_the_columns_around_each_frame(config):
    config.data.audio_rate = 16_000
    wave = (0.1 * np.random.default_rng(0).normal(size=16_000)).astype(np.float32)
    stride, window = system.audio_geometry(config)
    padded = audio.pad_waveform(wave, 25, stride, window)
    got = np.asarray(system.mfcc_windows(config, jnp.asarray(padded)[None]))
    assert got.shape == (1, 25, 12, 28)
    for frame in (4, 11, 20):
        # 28 columns of 25 ms, 10 ms apart, last 295 ms: half of that before the frame's middle.
        start = round(16 * (40 * frame + 20 - 295 / 2))
        # One column earlier, since pre-emphasis looks back by a sample.
        expected = audio.mfcc(wave[start - 160 :], 16_000, 29)[1:, 1:].T
        np.testing.assert_allclose(got[0, frame] * config.mfcc.deviation, expected, atol=5e-3)
    config.data.window_seconds = 0.28
    with pytest.raises(UserError, match="window_seconds is 0.28: set it to 0.315"):
        system.mfcc_windows(config, padded[None])


def test_each_stage_has_its_own_player():
    for stage in (system.AUDIO2AU, system.CLASSIFIER):
        for size in ("", "small_", "tiny_"):
            config = au_talking_head_2021_grid.get_config(size + stage)
            assert config.system == "action_units" and set(system.players(config)) == {stage}
            assert config.optimizer[stage].learning_rate >= 2e-4


def test_rates_of_which_one_is_zero_are_refused(config, make_batch):
    config.action_units.rates = (0.1, 0.0, 0.1, 0.1, 0.1)
    with pytest.raises(UserError, match="rates"):
        system.init(config, jax.random.key(0), make_batch(config, [4]))


def test_a_unit_is_there_from_the_threshold_on(config):
    """As OpenFace's states come out of a data set: 0.2 where present, else less."""
    config.action_units.threshold = 0.2
    below = np.nextafter(np.float32(0.2), np.float32(0))
    units = jnp.asarray([[[below, 0.2, 0, 1, 0.5]]], jnp.float32)
    np.testing.assert_array_equal(
        system.labels(config, {"action_units": units})[0, 0], [0, 1, 0, 1, 1]
    )

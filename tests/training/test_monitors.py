"""Divergence is named at its step, and a discriminator that always wins is noticed."""

import math

import pytest

from flax_talk.errors import UserError
from flax_talk.training import monitors

GOOD = {"generator/loss": 1.0, "generator/gradient_norm": 2.0, "skipped": 0.0}
BAD = {"generator/loss": math.nan, "generator/gradient_norm": math.inf, "skipped": 1.0}


def test_the_first_step_that_diverged_is_named():
    with pytest.raises(UserError, match="at step 8: generator/loss, generator/gradient_norm not"):
        monitors.Divergence("stop").look([GOOD, BAD, BAD], 9)
    monitors.Divergence("stop").look([GOOD | {"frame_discriminator/confidence": math.nan}], 9)
    with pytest.raises(UserError, match="on_divergence='go'"):
        monitors.Divergence("go")


def test_steps_that_are_skipped_are_told_once_and_end_the_run_when_there_are_only_such(caplog):
    divergence = monitors.Divergence("skip")
    divergence.look([GOOD, BAD], 2)
    divergence.look([GOOD, BAD, GOOD], 3)
    lines = [r.getMessage() for r in caplog.records]
    assert lines == ["step 2 left out: generator/loss, generator/gradient_norm not finite"]
    divergence.look([BAD] * 49 + [GOOD] + [BAD] * 49, 102)
    with pytest.raises(UserError, match="50 steps up to 103 in a row"):
        divergence.look([BAD], 103)


def test_means_leave_out_what_is_not_finite():
    found = monitors.means([GOOD, BAD, GOOD])
    assert found == {"generator/loss": 1, "generator/gradient_norm": 2, "skipped": 1 / 3}
    assert math.isnan(monitors.means([BAD])["generator/loss"])


def test_a_discriminator_that_always_wins_is_named_once(caplog):
    balance = monitors.Balance(logs=3)
    wins = {f"sync_discriminator/accuracy_{x}": 0.99 for x in ("real", "fake", "shifted")}
    fails = {**wins, "sync_discriminator/accuracy_shifted": 0.9}
    reads = {"lipreader/accuracy_real": 1.0}
    for step, values in enumerate([wins, wins, fails, wins, wins, wins, wins], 1):
        balance.look(values | reads, 10 * step)
    (line,) = (r.getMessage() for r in caplog.records)
    assert line.startswith("step 60: the sync discriminator has been right") and "3 logs" in line

"""What goes wrong in training: numbers that are not finite, and discriminators that always win.

The train step leaves out an update with a loss, a gradient or a change of the parameters that is
not finite, on the devices, so that a state is never lost to it (`flax_talk.training.step`); here
the host learns of it when it fetches the metrics, which costs no waiting of its own. Ours.
"""

import math
import re
from collections.abc import Sequence

import numpy as np
from absl import logging

from flax_talk.errors import UserError

SKIPPED = "skipped"
"""The metric of a step whose update was left out, 1, else 0."""

CHOICES = ("stop", "skip")
MOST_SKIPPED = 50
"""Steps without an update, one after the other, that end a run which skips them."""

TOO_RIGHT = 0.98
"""An accuracy from which on a discriminator has little to teach."""
_ACCURACY = re.compile(r"(.*discriminator.*)/accuracy_")


class Divergence:
    """Tells steps whose update was left out, and ends the run where it should.

    Args:
        choice: "stop" ends the run at the first; "skip" names them and goes on, until there
            are `MOST_SKIPPED` in a row.

    Raises:
        UserError: another choice.
    """

    def __init__(self, choice: str):
        if choice not in CHOICES:
            raise UserError(f"config.train.on_divergence={choice!r}: use one of {CHOICES}")
        self._stops = choice == "stop"
        self._row = self._seen = 0

    def look(self, history: Sequence[dict[str, float]], last: int) -> None:
        """Looks at the metrics of steps, on the host, of which `last` is the last one's number.

        Steps that it has seen already may come again.

        Raises:
            UserError: training has diverged; names step, losses and players.
        """
        for step, metrics in enumerate(history, last - len(history) + 1):
            if step <= self._seen:
                continue
            self._seen = step
            if not metrics.get(SKIPPED):
                self._row = 0
                continue
            self._row += 1
            bad = [key for key, value in metrics.items() if not math.isfinite(value)]
            # Losses say more than the norms of the gradients that they spoil.
            bad = sorted(bad, key=lambda key: (not key.endswith("/loss"), key))
            what = f"{', '.join(bad) or 'the change of the parameters'} not finite"
            if self._stops or self._row >= MOST_SKIPPED:
                raise UserError(
                    f"training diverged at step {step}: {what}; the state before is kept: lower "
                    "the learning rate, or set config.train.on_divergence='skip'"
                    if self._stops
                    else f"training diverged: {self._row} steps up to {step} in a row, {what}; "
                    "lower the learning rate"
                )
            logging.warning("step %d left out: %s", step, what)


class Balance:
    """Warns of a discriminator that has been right about nearly everything for a while.

    Args:
        logs: how many log lines in a row.
    """

    def __init__(self, logs: int = 10):
        self._logs = logs
        self._rows: dict[str, int] = {}

    def look(self, means: dict[str, float], step: int) -> None:
        """Looks at the means that are logged at a step."""
        players: dict[str, list[float]] = {}
        for key, value in means.items():
            if match := _ACCURACY.match(key):
                players.setdefault(match[1], []).append(value)
        for player, accuracies in players.items():
            row = self._rows.get(player, 0) + 1 if min(accuracies) > TOO_RIGHT else 0
            self._rows[player] = row
            if row == self._logs:
                logging.warning(
                    "step %d: the %s has been right in more than %g of all cases for %d logs: the "
                    "generator learns little from it; lower its learning rate",
                    *(step, player.replace("_", " "), TOO_RIGHT, row),
                )


def means(history: Sequence[dict[str, float]]) -> dict[str, float]:
    """Means over steps by name, of the numbers that are finite; NaN where none is."""
    values = {key: np.array([entry[key] for entry in history], float) for key in history[0]}
    finite = {key: array[np.isfinite(array)] for key, array in values.items()}
    return {key: float(array.mean()) if len(array) else math.nan for key, array in finite.items()}

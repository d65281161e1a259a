"""What the losses of adversarial systems have in common: players that take turns in a step.

Each discriminator judges a generated video twice, once with the video held constant for its own
loss and once with its parameters held constant for the generator's; the compiler merges the two.
So the gradient of the sum of all losses gives every player its own.
"""

import functools
from typing import Any

import flax.linen as nn
import jax
from ml_collections import ConfigDict

from flax_talk.errors import UserError
from flax_talk.interop.vgg19 import load_vgg19
from flax_talk.nets.perceptual import Vgg19Weights, in_deviations

GENERATOR = "generator"


class Players:
    """The modules of a system during one step.

    With `config.train.remat` what a module works out on the way is not kept for its gradient but
    worked out again there: less memory for a second forward pass (Chen et al. 2016, "Training Deep
    Nets with Sublinear Memory Cost").

    Args:
        config: of the run.
        modules: by player.
        variables: by player, `params` and `batch_stats`.
        train: batch normalisation by the batch.

    Attributes:
        stats: the batch statistics by player, which move on with `apply`.
    """

    def __init__(
        self,
        config: ConfigDict,
        modules: dict[str, nn.Module],
        variables: dict[str, Any],
        train: bool,
    ):
        self._modules, self._variables, self._train = modules, variables, train
        self._remat = train and config.train.get("remat", False)
        self.stats = {name: entry["batch_stats"] for name, entry in variables.items()}

    def apply(self, name: str, *inputs: Any, **options: Any) -> Any:
        """Runs a player; its batch statistics move on. What is no array is an option."""
        entry = {"params": self._variables[name]["params"], "batch_stats": self.stats[name]}
        if not self._train:
            return self._modules[name].apply(entry, *inputs, train=False, **options)
        output, new = self._run(name, entry, inputs, options)
        self.stats[name] = {**self.stats[name], **new.get("batch_stats", {})}
        return output

    def judge(self, name: str, *inputs: Any) -> Any:
        """Runs a discriminator for the generator: its parameters are constants."""
        frozen = jax.lax.stop_gradient(self._variables[name])
        if not self._train:
            return self._modules[name].apply(frozen, *inputs, train=False)
        return self._run(name, frozen, inputs, {})[0]

    def _run(self, name, entry, inputs, options):
        def run(entry, *inputs):
            return self._modules[name].apply(
                entry, *inputs, train=True, mutable=["batch_stats"], **options
            )

        return (jax.checkpoint(run) if self._remat else run)(entry, *inputs)


def init(
    modules: dict[str, nn.Module], rng: jax.Array, inputs: dict[str, tuple], **methods: str
) -> dict[str, dict[str, Any]]:
    """Initial variables of every player.

    Args:
        modules: by player.
        rng: one key.
        inputs: of each player.
        methods: of players that are not called, by name.
    """
    keys = dict(zip(modules, jax.random.split(rng, len(modules)), strict=True))
    variables = {
        name: module.init(keys[name], *inputs[name], train=False, method=methods.get(name))
        for name, module in modules.items()
    }
    return {name: {"batch_stats": {}, **entry} for name, entry in variables.items()}


def total(
    weights: ConfigDict, terms: dict[str, dict[str, jax.Array]]
) -> tuple[dict[str, jax.Array], dict[str, jax.Array]]:
    """The losses of a step and their metrics.

    Args:
        weights: of the generator's terms; those of the others count as they are.
        terms: of each player, by name.

    Returns:
        (loss by player, metrics: each loss, and each term without and with its weight).
    """
    losses: dict[str, Any] = {}
    metrics: dict[str, Any] = {}
    for player, named in terms.items():
        weighted = {
            name: weights[name] * value if player == GENERATOR else value
            for name, value in named.items()
        }
        losses[player] = sum(weighted.values())
        metrics[f"{player}/loss"] = losses[player]
        metrics |= {f"{player}/{name}": value for name, value in named.items()}
        metrics |= {f"{player}/{name}_weighted": value for name, value in weighted.items()}
    return losses, metrics


def vgg19(config: ConfigDict) -> Vgg19Weights | None:
    """The weights behind the perceptual loss, `in_deviations`; None if that has none.

    Raises:
        UserError: the loss has a weight and the config no file.
    """
    if config.loss.perceptual == 0:
        return None
    if not config.loss.vgg19:
        raise UserError(
            f"config.loss.perceptual is {config.loss.perceptual} and config.loss.vgg19 is empty: "
            "download https://download.pytorch.org/models/vgg19-dcbb9e9d.pth and give its path, "
            "or set config.loss.perceptual=0"
        )
    return _read_vgg19(config.loss.vgg19)


@functools.cache
def _read_vgg19(path: str) -> Vgg19Weights:
    return in_deviations(load_vgg19(path))

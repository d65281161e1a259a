"""One optax transformation for all players, partitioned by player.

Each player of a system (the generator, each discriminator) has its own Adam, decay and
clipping, a sub-config of `config.optimizer` under its name; one `update` moves them all.
"""

from collections.abc import Callable, Iterable

import jax
import optax
from ml_collections import ConfigDict


def make_schedule(config: ConfigDict, steps_per_epoch: int) -> Callable[[jax.Array], jax.Array]:
    """The learning rate of one player by step.

    `learning_rate`, multiplied by `decay` each time `decay_every_epochs` epochs have passed since
    epoch `decay_after_epochs`.
    """
    return optax.exponential_decay(
        config.learning_rate,
        transition_steps=config.decay_every_epochs * steps_per_epoch,
        decay_rate=config.decay,
        transition_begin=config.decay_after_epochs * steps_per_epoch,
        staircase=True,
    )


def make_optimizer(
    config: ConfigDict, players: Iterable[str], steps_per_epoch: int
) -> optax.GradientTransformation:
    """The optimizer of params `{player: tree}`.

    Args:
        config: one sub-config per player: learning_rate, decay, decay_every_epochs,
            decay_after_epochs, b1, b2, clip_norm.
        players: names of the top level of the params.
        steps_per_epoch: turns the schedules' epochs into steps.
    """

    def one(player: ConfigDict) -> optax.GradientTransformation:
        schedule = make_schedule(player, steps_per_epoch)
        clip = optax.clip_by_global_norm(player.clip_norm) if player.clip_norm else optax.identity()
        return optax.chain(clip, optax.adam(schedule, b1=player.b1, b2=player.b2))

    players = tuple(players)
    transforms = {player: one(config[player]) for player in players}
    return optax.partition(transforms, {player: player for player in players})

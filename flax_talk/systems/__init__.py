"""Systems: one file for each, all with the same functions.

* `init(config, rng, batch) -> variables`, one top-level entry for each player: the generator
  and each discriminator, itself a dict of `params` and `batch_stats`.
* `losses(config, variables, batch, rng, train, axis_name) -> (losses, batch_stats, metrics)`:
  a scalar loss for each player, whose gradient reaches the parameters of that player only, unless
  players are trained jointly;
  the new batch statistics of each player; named scalars.
* `generate(config, variables, still, audio, rng, carry) -> (video, carry)`; or, in a judge, which
  generates nothing,
* `measure(config, variables, batch, rng) -> {name: [B]}`, whose means over the clips are the
  validation. What the host must work out (a text) goes through
  `measure_on_host(config, outputs, batch) -> {name: [B]}`, in NumPy, whose outputs are those of
  `measure`, then of any shape [B, ...]; what is no mean over clips (an F1 score) is worked out of
  the means by `summarise(config, means) -> {name: value}`.

A module may have `prepare(config, variables) -> variables`, which works out ahead what `generate`
would work out of its parameters in each call, and `remember(config, variables, still) -> carry`,
the entries of the carry that hold what it would work out of the still. It may name in `GENERATING`
the players that `generate` needs, if those are more than the generator, or that are of use when
training is over: an export holds no others.

`rng` holds one typed key for each example of the batch, so that no number depends on how the
batch is spread over devices.
"""

import importlib
from pathlib import Path
from types import ModuleType

from ml_collections import ConfigDict

from flax_talk.errors import UserError

# Name in a config -> module of this package.
_SYSTEMS = {
    "temporal_gan_2018": "temporal_gan",
    "temporal_gan_2019": "temporal_gan",
    "static_gan": "temporal_gan",
    "speech2vid": "speech2vid",
    "cran": "cran",
    "atvgnet": "atvgnet",
    "syncnet": "syncnet",
    "lipnet": "lipnet",
    "au_talking_head_2021": "au_talking_head",
    "action_units": "action_units",
    "speaker_identification": "speaker_identification",
    "audio_to_expression": "audio_to_expression",
    "audio_to_landmark": "audio_to_expression",
    "video_renderer": "video_renderer",
}


def get_system(name: str) -> ModuleType:
    """The module of a system by its name in a config.

    Raises:
        UserError: no system has that name.
    """
    if name not in _SYSTEMS:
        known = ", ".join(sorted(_SYSTEMS))
        raise UserError(f"no system is named {name!r}: set config.system to one of {known}")
    return importlib.import_module(f"flax_talk.systems.{_SYSTEMS[name]}")


def check_config(config: ConfigDict, path: str | Path) -> None:
    """Raises UserError where the config of a checkpoint lacks what its system needs.

    Args:
        config: of `load_config`.
        path: of the checkpoint, to be named.
    """
    try:
        get_system(config.system).players(config)
        for name in ("image_size", "audio_rate", "video_rate", "window_seconds"):
            config.data[name]
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        reason = str(error).partition("\n")[0]
        raise UserError(
            f"{path}: its config.json lacks what {config.system} needs ({reason}): restore it"
        ) from error


def generating_players(name: str) -> tuple[str, ...]:
    """The players that generate, of a system by its name in a config.

    Raises:
        UserError: no system has that name.
    """
    return getattr(get_system(name), "GENERATING", ("generator",))

"""TFDS builders, one module per corpus; `get_builder` imports the one that is asked for."""

import importlib
from typing import TYPE_CHECKING

from flax_talk.errors import UserError

if TYPE_CHECKING:
    import tensorflow_datasets as tfds

_BUILDERS = {
    "grid": ("input_pipeline.datasets.grid", "Grid"),
    "synthetic_grid": ("input_pipeline.datasets.synthetic_grid", "SyntheticGrid"),
}


def get_builder(name: str) -> type["tfds.core.GeneratorBasedBuilder"]:
    """The builder class of the data set `name`; UserError for a name that is not registered."""
    if name not in _BUILDERS:
        raise UserError(f"unknown data set {name!r}: choose one of {sorted(_BUILDERS)}")
    module, attribute = _BUILDERS[name]
    return getattr(importlib.import_module(module), attribute)

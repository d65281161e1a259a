"""TFDS builders, one module per corpus; `get_builder` imports the one that is asked for."""

import importlib
from types import ModuleType
from typing import TYPE_CHECKING

from flax_talk.errors import UserError

if TYPE_CHECKING:
    import tensorflow_datasets as tfds

_BUILDERS = {
    "crema_d": ("input_pipeline.datasets.crema_d", "CremaD"),
    "folder": ("input_pipeline.datasets.folder", "Folder"),
    "grid": ("input_pipeline.datasets.grid", "Grid"),
    "lrw": ("input_pipeline.datasets.lrw", "Lrw"),
    "synthetic_grid": ("input_pipeline.datasets.synthetic_grid", "SyntheticGrid"),
    "tcd_timit": ("input_pipeline.datasets.tcd_timit", "TcdTimit"),
}


def get_builder(name: str) -> type["tfds.core.GeneratorBasedBuilder"]:
    """The builder class of the data set `name`; UserError for a name that is not registered."""
    if name not in _BUILDERS:
        raise UserError(f"unknown data set {name!r}: choose one of {sorted(_BUILDERS)}")
    module, attribute = _BUILDERS[name]
    return getattr(importlib.import_module(module), attribute)


def subject_splits(name: str) -> dict[str, dict[str, str]]:
    """TFDS split expressions of the data set `name` by paper and by train, validation and test.

    None for data sets whose splits are their own, and for those that are not registered.
    """
    module = _module(name)
    if module is None:
        return {}
    return {
        paper: {split: module.subject_split(paper, split) for split in splits}
        for paper, splits in getattr(module, "SUBJECT_SPLITS", {}).items()
    }


def paper_counts(name: str) -> dict[str, dict[str, tuple[int, float]]]:
    """Clips and hours of the papers' sets of the data set `name`, as `subject_splits` has them.

    None for data sets that no paper counts, and for those that are not registered.
    """
    return getattr(_module(name), "PAPER_COUNTS", {})


def _module(name: str) -> ModuleType | None:
    return importlib.import_module(_BUILDERS[name][0]) if name in _BUILDERS else None

"""LipNet (Assael et al., "LipNet", 2016) on the rendered corpus.

    python train.py --config configs/lipnet_synthetic_grid.py --workdir runs/lipnet

The sizes of `lipnet_grid`, on people who are rendered before training starts: nothing to
download. Not run: it needs an accelerator.

    :small    the width that two CPU cores can train, see lipnet_grid
    :tiny     seconds on a CPU, for tests; renders its own data

    python train.py --config configs/lipnet_synthetic_grid.py:tiny --workdir runs/tiny
"""

from ml_collections import ConfigDict

from configs import common, lipnet_grid
from flax_talk.errors import UserError


def get_config(variant: str = "") -> ConfigDict:
    """The paper's config on the rendered corpus, or a variant of it."""
    if variant not in ("", "small", "tiny"):
        raise UserError(f"no variant {variant!r} of lipnet_synthetic_grid: use :small or :tiny")
    config = lipnet_grid.get_config(variant)
    common.use_synthetic_grid(config, tiny=variant == "tiny")
    return config

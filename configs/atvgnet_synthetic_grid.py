"""ATVGnet, a baseline, on the rendered corpus.

    python train.py --config configs/atvgnet_synthetic_grid.py --workdir runs/atvgnet

The sizes, losses and rates of `atvgnet_grid`, on people who are rendered before training starts:
nothing to download. Not run: it needs an accelerator.

    :small    the width that two CPU cores can train, see atvgnet_grid
    :tiny     seconds on a CPU, for tests; renders its own data

    python train.py --config configs/atvgnet_synthetic_grid.py:tiny --workdir runs/tiny
"""

from ml_collections import ConfigDict

from configs import atvgnet_grid, common


def get_config(variant: str = "") -> ConfigDict:
    """The baseline on the rendered corpus, or a variant of it."""
    config = atvgnet_grid.get_config(variant)
    common.use_synthetic_grid(config, tiny=variant == "tiny")
    return config

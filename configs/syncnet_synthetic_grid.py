"""SyncNet (Chung, Zisserman, "Out of time", 2016) on the rendered corpus.

    python train.py --config configs/syncnet_synthetic_grid.py --workdir runs/syncnet

The sizes of `syncnet_grid`, on people who are rendered before training starts: nothing to
download. Not run: it needs an accelerator.

    :small    the width that two CPU cores can train, see syncnet_grid
    :tiny     seconds on a CPU, for tests; renders its own data
    :shipped  :small on the rendered corpus and on GRID speakers s1 and s4: the checkpoint that
              ships

    python train.py --config configs/syncnet_synthetic_grid.py:tiny --workdir runs/tiny
"""

from ml_collections import ConfigDict

from configs import common, syncnet_grid
from flax_talk.errors import UserError


def get_config(variant: str = "") -> ConfigDict:
    """The paper's config on the rendered corpus, or a variant of it."""
    if variant not in ("", "small", "tiny", "shipped"):
        raise UserError(
            f"no variant {variant!r} of syncnet_synthetic_grid: use :small, :tiny or :shipped"
        )
    config = syncnet_grid.get_config("small" if variant == "shipped" else variant)
    common.use_synthetic_grid(config, tiny=variant == "tiny")
    if variant == "shipped":
        config.data.splits = ConfigDict(common.MIXTURE)
        # An epoch is near half of the run.
        config.optimizer.syncnet = common.adam(1e-3, decay=0.4)
        config.train.validation_clips = 32
    return config

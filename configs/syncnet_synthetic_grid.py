"""SyncNet (Chung, Zisserman, "Out of time", 2016) on the rendered corpus.

    python train.py --config configs/syncnet_synthetic_grid.py --workdir runs/syncnet

The sizes of `syncnet_grid`, on people who are rendered before training starts: nothing to
download. Not run: it needs an accelerator.

    :small    the width that two CPU cores can train, see syncnet_grid
    :tiny     seconds on a CPU, for tests; renders its own data
    :coarse   :small on the rendered corpus and on GRID speakers s1 and s4: what the checkpoint
              that ships starts from
    :shipped  goes on from there with the nearest shifts too, and stronger augmentation: the
              checkpoint that ships

    python train.py --config configs/syncnet_synthetic_grid.py:tiny --workdir runs/tiny
"""

from ml_collections import ConfigDict

from configs import common, syncnet_grid
from flax_talk.errors import UserError


def get_config(variant: str = "") -> ConfigDict:
    """The paper's config on the rendered corpus, or a variant of it."""
    shipped = variant in ("coarse", "shipped")
    if variant not in ("", "small", "tiny") and not shipped:
        raise UserError(
            f"no variant {variant!r} of syncnet_synthetic_grid: "
            "use :small, :coarse, :shipped or :tiny"
        )
    config = syncnet_grid.get_config("small" if shipped else variant)
    common.use_synthetic_grid(config, tiny=variant == "tiny")
    if shipped:
        config.data.splits = ConfigDict(common.MIXTURE)
        # An epoch is 470 steps.
        config.optimizer.syncnet = common.adam(1e-3, decay=0.4)
        config.train.update(dict(max_steps=1500, validation_clips=32))
    if variant == "shipped":
        config.train.initialize_from = "runs/coarse"
        config.loss.min_shift = 1
        config.augment.update(dict(shift=0.06, zoom=0.12, contrast=0.5, brightness=0.5))
        config.augment.update(dict(mixing=0.2, timbre=3.0, loudness=2.0))
        config.optimizer.syncnet = common.adam(6e-4, decay=0.4)
        config.train.max_steps = 1000
    return config

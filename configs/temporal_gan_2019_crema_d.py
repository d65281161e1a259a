"""Temporal GAN of 2019 (Vougioukas, Petridis, Pantic, IJCV 2020) on CREMA-D.

    python train.py --config configs/temporal_gan_2019_crema_d.py --workdir runs/crema_d

The paper's sizes, losses and rates as in `temporal_gan_2019_grid`, and its 10 test actors; the
other 81 are split by us, see `input_pipeline.datasets.crema_d`. Not run: it needs the whole corpus
and an accelerator.

    :small    a quarter of the width, see temporal_gan_2019_grid; not run
    :tiny     seconds on a CPU, for tests; it learns nothing worth seeing
"""

from ml_collections import ConfigDict

from configs import common, temporal_gan_2019_grid


def get_config(variant: str = "") -> ConfigDict:
    """The paper's config, or a variant of it."""
    config = temporal_gan_2019_grid.get_config(variant)
    common.use_corpus(config, "crema_d", "temporal_gan_2019")
    return config

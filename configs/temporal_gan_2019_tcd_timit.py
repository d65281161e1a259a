"""Temporal GAN of 2019 (Vougioukas, Petridis, Pantic, IJCV 2020) on TCD-TIMIT.

    python train.py --config configs/temporal_gan_2019_tcd_timit.py --workdir runs/tcd_timit

The paper's sizes, losses and rates as in `temporal_gan_2019_grid`, and its split of the volunteers
into 42, 7 and 10. Not run: the corpus is on application, and it needs an accelerator.

    :small    a quarter of the width, see temporal_gan_2019_grid; not run
    :tiny     seconds on a CPU, for tests; it learns nothing worth seeing
"""

from ml_collections import ConfigDict

from configs import common, temporal_gan_2019_grid


def get_config(variant: str = "") -> ConfigDict:
    """The paper's config, or a variant of it."""
    config = temporal_gan_2019_grid.get_config(variant)
    common.use_corpus(config, "tcd_timit", "temporal_gan_2019")
    config.data.eval_frames = 150  # the mean sentence takes four seconds
    return config

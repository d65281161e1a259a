"""Temporal GAN of 2018 (Vougioukas, Petridis, Pantic, BMVC 2018) on the rendered corpus.

    python train.py --config configs/temporal_gan_2018_synthetic_grid.py --workdir runs/tg2018

The paper's sizes, losses and rates as in `temporal_gan_2018_grid`, on people who are rendered
before training starts: nothing to download. Not run: it needs an accelerator.

    :small    the width that two CPU cores can train, see temporal_gan_2018_grid; 400 steps of it
              and of its ablations are in docs/results/ablation_2018.md
    :tiny     seconds on a CPU, for tests; renders its own data

    python train.py --config configs/temporal_gan_2018_synthetic_grid.py:tiny --workdir runs/tiny
"""

from ml_collections import ConfigDict

from configs import common, temporal_gan_2018_grid


def get_config(variant: str = "") -> ConfigDict:
    """The paper's config on the rendered corpus, or a variant of it."""
    config = temporal_gan_2018_grid.get_config(variant)
    common.use_synthetic_grid(config, tiny=variant == "tiny")
    return config

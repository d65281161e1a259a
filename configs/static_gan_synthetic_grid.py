"""Static GAN, the baseline of both papers on temporal GANs, on the rendered corpus.

    python train.py --config configs/static_gan_synthetic_grid.py --workdir runs/static

The sizes, losses and rates of `static_gan_grid`, on people who are rendered before training starts:
nothing to download. Not run: it needs an accelerator.

    :small    the width that two CPU cores can train, see static_gan_grid; 400 steps of it are in
              docs/results/ablation_2018.md
    :tiny     seconds on a CPU, for tests; renders its own data

    python train.py --config configs/static_gan_synthetic_grid.py:tiny --workdir runs/tiny
"""

from ml_collections import ConfigDict

from configs import common, static_gan_grid


def get_config(variant: str = "") -> ConfigDict:
    """The baseline on the rendered corpus, or a variant of it."""
    config = static_gan_grid.get_config(variant)
    common.use_synthetic_grid(config, tiny=variant == "tiny")
    return config

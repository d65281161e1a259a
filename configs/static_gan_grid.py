"""Static GAN, the baseline of both papers on temporal GANs (BMVC 2018, IJCV 2020), on GRID.

    python train.py --config configs/static_gan_grid.py --workdir runs/static

The generator without recurrence, L1 and the frame discriminator; sizes, rates and split of
`temporal_gan_2019_grid`. The baseline of 2018 is `static` of `configs/ablations.py`. Not run: it
needs the whole corpus and an accelerator.

    :small    a quarter of the width, for two CPU cores; not run
    :tiny     seconds on a CPU, for tests; it learns nothing worth seeing

    python train.py --config configs/static_gan_grid.py:small --workdir runs/small
"""

from ml_collections import ConfigDict

from configs import temporal_gan_2019_grid
from configs.ablations import ABLATIONS
from flax_talk.errors import UserError


def get_config(variant: str = "") -> ConfigDict:
    """The baseline at the paper's sizes, or a variant of it."""
    if variant not in ("", "small", "tiny"):
        raise UserError(f"no variant {variant!r} of static_gan_grid: use :small or :tiny")
    config = temporal_gan_2019_grid.get_config(variant)
    config.update(ABLATIONS["temporal_gan_2019"]["static"])
    return config

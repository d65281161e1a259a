"""Temporal GAN of 2018 (Vougioukas, Petridis, Pantic, BMVC 2018) on GRID.

    python train.py --config configs/temporal_gan_2018_grid.py --workdir runs/tg2018

The paper's sizes, losses and rates, and its split into 15, 7 and 10 speakers; what is not here is
as in `temporal_gan_2019_grid`. Not run: it needs the whole corpus and an accelerator.

    :small    a quarter of the width, for two CPU cores; not run
    :tiny     seconds on a CPU, for tests; it learns nothing worth seeing

    python train.py --config configs/temporal_gan_2018_grid.py:small --workdir runs/small
"""

from ml_collections import ConfigDict

from configs import common, temporal_gan_2019_grid
from flax_talk.errors import UserError
from input_pipeline.datasets.grid import subject_split


def get_config(variant: str = "") -> ConfigDict:
    """The paper's config, or a variant of it."""
    config = temporal_gan_2019_grid.get_config()
    config.system = "temporal_gan_2018"
    for split in ("train", "validation", "test"):
        config.data.splits[split] = subject_split("temporal_gan_2018", split)
    config.data.window_seconds = 0.16
    config.generator.update(dict(identity_dim=50, content_layers=2))

    # ReLU, and a tanh where encoders end (paper, A.2).
    config.frame_discriminator.negative_slope = 0.0
    config.sequence_discriminator.update(dict(negative_slope=0.0, tanh=True))
    # Each frame by itself, beside its audio window; GRU and classifier of two layers (paper).
    config.sequence_discriminator.update(dict(kernel_time=0, conditional=True))
    config.sequence_discriminator.update(dict(num_layers=2, classifier_layers=2))

    # Eq. 1 and 3; there is no synchronisation discriminator.
    config.loss.update(dict(reconstruction=400.0, frame=1.0, sync=0.0, sequence=1.0))
    # Rates of the paper, of which "10 % after epoch 20" is read as 10 % with every epoch.
    config.optimizer = ConfigDict(
        dict(
            generator=common.adam(2e-4, decay=0.9, after=20),
            frame_discriminator=common.adam(1e-3, decay=0.9, after=20),
            sequence_discriminator=common.adam(5e-5),
        )
    )
    # "The reconstruction metrics" of the paper are PSNR and SSIM; the choice of one is ours.
    config.early_stopping.update(dict(metric="psnr", patience=10))

    if variant == "small":
        temporal_gan_2019_grid.small(config)
    elif variant == "tiny":
        temporal_gan_2019_grid.tiny(config)
    elif variant:
        raise UserError(f"no variant {variant!r} of temporal_gan_2018_grid: use :small or :tiny")
    return config

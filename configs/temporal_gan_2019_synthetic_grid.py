"""Temporal GAN of 2019 (Vougioukas, Petridis, Pantic, IJCV 2020) on the rendered corpus.

    python train.py --config configs/temporal_gan_2019_synthetic_grid.py --workdir runs/tg2019

The paper's sizes, losses and rates as in `temporal_gan_2019_grid`, on people who are rendered
before training starts: nothing to download. Not run: it needs an accelerator.

    :small           the width that two CPU cores can train, see temporal_gan_2019_grid
    :tiny            seconds on a CPU, for tests; renders its own data
    :reconstruction  the width of :small, on the rendered corpus and on GRID speakers s1 and s4,
                     by the reconstruction loss alone; first stage of the checkpoint that ships
    :shipped         the second stage: goes on from the first with all discriminators;
                     measured, see docs/results/shipped.md

    python train.py --config configs/temporal_gan_2019_synthetic_grid.py:tiny --workdir runs/tiny
"""

from ml_collections import ConfigDict

from configs import common, temporal_gan_2019_grid
from flax_talk.errors import UserError

# Rendered people, and GRID without its last clips of s1 and without s26 and s31.
_MIXTURE = dict(
    train="synthetic_grid/default/train + grid/aligned_128x96/s1[:-30] + grid/aligned_128x96/s4 "
    "+ grid/aligned_128x96/s4 + grid/aligned_128x96/s4",
    validation="synthetic_grid/default/validation[:16] + grid/aligned_128x96/s1[-16:]",
    test="synthetic_grid/default/test",
)


def get_config(variant: str = "") -> ConfigDict:
    """The paper's config on the rendered corpus, or a variant of it."""
    stages = ("reconstruction", "shipped")
    if variant not in ("", "small", "tiny", *stages):
        raise UserError(
            f"no variant {variant!r} of temporal_gan_2019_synthetic_grid: "
            "use :small, :tiny, :reconstruction or :shipped"
        )
    config = temporal_gan_2019_grid.get_config("small" if variant in stages else variant)
    config.data.update(dict(dataset="synthetic_grid", builder_config="default", prepare=True))
    config.data.splits = ConfigDict(dict(train="train", validation="validation", test="test"))
    if variant == "tiny":
        config.data.builder_config = "tiny"
    elif variant in stages:
        config.data.splits = ConfigDict(_MIXTURE)
        if variant == "reconstruction":
            reconstruction(config)
        else:
            adversarial(config)
    return config


def reconstruction(config: ConfigDict) -> None:
    """First stage: no discriminator."""
    config.loss.update(dict(frame=0.0, sync=0.0, sequence=0.0))
    config.optimizer.generator = common.adam(1e-3, decay=0.8, after=1)
    config.train.update(dict(max_steps=4000, samples_every=400, checkpoint_every=400))
    config.train.validation_clips = 32


def adversarial(config: ConfigDict) -> None:
    """Second stage: all losses of the paper."""
    config.optimizer = ConfigDict(
        dict(
            generator=common.adam(2e-4),
            frame_discriminator=common.adam(2e-4),
            sync_discriminator=common.adam(1e-4),
            sequence_discriminator=common.adam(1e-4),
        )
    )
    config.train.update(dict(max_steps=1500, samples_every=250, checkpoint_every=250))
    config.train.validation_clips = 32
    config.train.initialize_from = "runs/reconstruction"

"""Temporal GAN of 2019 (Vougioukas, Petridis, Pantic, IJCV 2020) on the rendered corpus.

    python train.py --config configs/temporal_gan_2019_synthetic_grid.py --workdir runs/tg2019

The paper's sizes, losses and rates as in `temporal_gan_2019_grid`, on people who are rendered
before training starts: nothing to download. Not run: it needs an accelerator.

    :small           the width that two CPU cores can train, see temporal_gan_2019_grid
    :tiny            seconds on a CPU, for tests; renders its own data
    :speech          first stage of the checkpoint that ships, on the rendered corpus and on GRID
                     speakers s1 and s4: what the sound says of the mouth, without a picture
    :reconstruction  second stage, goes on from the first: L1, no discriminator
    :shipped         third stage, goes on from the second with all discriminators; measured, see
                     docs/results/shipped.md

    python train.py --config configs/temporal_gan_2019_synthetic_grid.py:tiny --workdir runs/tiny
"""

from ml_collections import ConfigDict

from configs import common, temporal_gan_2019_grid
from flax_talk.errors import UserError

STAGES = ("speech", "reconstruction", "shipped")


def get_config(variant: str = "") -> ConfigDict:
    """The paper's config on the rendered corpus, or a variant of it."""
    if variant not in ("", "small", "tiny", *STAGES):
        raise UserError(
            f"no variant {variant!r} of temporal_gan_2019_synthetic_grid: "
            "use :small, :tiny, :speech, :reconstruction or :shipped"
        )
    config = temporal_gan_2019_grid.get_config("small" if variant in STAGES else variant)
    common.use_synthetic_grid(config, tiny=variant == "tiny")
    if variant in STAGES:
        config.data.splits = ConfigDict(common.MIXTURE)
        config.train.validation_clips = 32
        config.generator.residual = True
        config.loss.landmarks = 1.0
        change = {"speech": speech, "reconstruction": reconstruction, "shipped": adversarial}
        change[variant](config)
    return config


def speech(config: ConfigDict) -> None:
    """First stage. A batch of whole clips costs no more than a few frames that are drawn."""
    parts = dict(reconstruction=0.0, upper_reconstruction=0.0)
    config.loss.update(dict(frame=0.0, sync=0.0, sequence=0.0, **parts))
    # Sound has no mirror image.
    config.data.update(dict(num_frames=75, batch_size=16, mirror=False))
    config.optimizer.generator = common.adam(1e-3, decay=0.7, after=1)
    config.train.update(dict(max_steps=400, samples_every=10_000, checkpoint_every=100))
    # There is no picture to validate: the last step is the result.
    config.train.update(dict(log_every=20, validate_every=1000, validation_clips=4))


def reconstruction(config: ConfigDict) -> None:
    """Second stage: the picture, the mouth above all."""
    config.loss.update(dict(frame=0.0, sync=0.0, sequence=0.0))
    config.loss.update(dict(mouth_reconstruction=300.0, landmarks=5.0))
    config.optimizer.generator = common.adam(1e-3, decay=0.7, after=1)
    config.train.update(dict(max_steps=1410, samples_every=300, checkpoint_every=150))
    config.train.initialize_from = "runs/speech"


def adversarial(config: ConfigDict) -> None:
    """Third stage: all losses of the paper."""
    config.loss.update(dict(mouth_reconstruction=300.0, landmarks=5.0))
    config.optimizer = ConfigDict(
        dict(
            generator=common.adam(2e-4),
            frame_discriminator=common.adam(2e-4),
            sync_discriminator=common.adam(1e-4),
            sequence_discriminator=common.adam(1e-4),
        )
    )
    config.train.update(dict(max_steps=452, samples_every=200, checkpoint_every=150))
    config.train.initialize_from = "runs/reconstruction"

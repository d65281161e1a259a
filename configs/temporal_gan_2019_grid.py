"""Temporal GAN of 2019 (Vougioukas, Petridis, Pantic, IJCV 2020) on GRID.

    python train.py --config configs/temporal_gan_2019_grid.py --workdir runs/tg2019

The paper's sizes, losses and rates, and its split into 16, 7 and 10 speakers. Not run: it needs
the whole corpus and an accelerator.

    :small    a quarter of the width, half an hour on two CPU cores; measured, see
              docs/results/temporal_gan_2019_grid_small.md
    :tiny     seconds on a CPU, for tests; it learns nothing worth seeing

    python train.py --config configs/temporal_gan_2019_grid.py:small --workdir runs/small
"""

from ml_collections import ConfigDict

from configs import common
from flax_talk.errors import UserError
from input_pipeline.datasets.grid import subject_split


def get_config(variant: str = "") -> ConfigDict:
    """The paper's config, or a variant of it."""
    config = common.get_config()
    config.system = "temporal_gan_2019"
    for split in ("train", "validation", "test"):
        config.data.splits[split] = subject_split("temporal_gan_2019", split)

    config.generator = ConfigDict(
        dict(
            # Lengths of the identity, audio, content and noise codes (paper).
            identity_dim=128,
            audio_dim=256,
            content_dim=256,
            noise_dim=10,
            # GRU layers of the content code (1 in the paper, 2 in the published weights) and of the
            # noise code; 0 leaves a frame to its own audio window, or to its own noise.
            content_layers=1,
            noise_layers=1,
            # Channels of the first image and the first audio layer (published code).
            width=64,
            audio_width=16,
            # Skips from the identity encoder: the 4 smaller ones (published code), or all 5.
            num_skips=4,
            # Frames are decoded as changes of the still (ours, off).
            residual=False,
        )
    )
    # Channels of the first layer of each discriminator, LeakyReLU of this slope (ours).
    config.frame_discriminator = ConfigDict(dict(width=64, negative_slope=0.2))
    config.sync_discriminator = ConfigDict(dict(features=256, width=64))
    config.sequence_discriminator = ConfigDict(
        dict(
            # Length of the features of a frame, and of an audio window (ours).
            features=256,
            # Width and layers of the GRU (ours, paper) and layers of the classifier (paper).
            hidden=256,
            num_layers=1,
            classifier_layers=1,
            width=64,
            # Frames that a convolution spans (ours); 0 sees each by itself.
            kernel_time=3,
            negative_slope=0.2,
            # The features of a frame go through a tanh.
            tanh=False,
            # Adds the audio, as Eq. 4 has it and the text has not.
            conditional=False,
            audio_width=16,
        )
    )

    config.loss = ConfigDict(
        dict(
            # Weights of the generator's terms (paper); a discriminator of weight 0 is left out.
            reconstruction=600.0,
            frame=1.0,
            sync=0.8,
            sequence=0.2,
            # L1 on the upper half, which the paper leaves to the discriminators (ours, off):
            # it shows a face long before they would.
            upper_reconstruction=0.0,
            # L1 around the mouth, a tenth of the face that carries the speech (ours, off).
            mouth_reconstruction=0.0,
            # Squared error, in square pixels, of the mouth's motion as a linear layer reads it from
            # the content code (ours, off). With reconstruction and all discriminators at 0 it
            # is learned without drawing a frame.
            landmarks=0.0,
            # Standard deviation of the noise in training: the paper's variance is 0.6.
            noise_std=0.6**0.5,
            # Frames and snippets that the discriminators see of each clip in a step (ours).
            num_frames=4,
            num_snippets=4,
            # Frames of a snippet: 0.2 s (paper).
            snippet_frames=5,
            # Least shift, in frames, of the out-of-sync audio (ours).
            min_shift=3,
        )
    )
    config.generate = ConfigDict(
        dict(
            # Standard deviation of the noise at inference (published code).
            noise_std=0.33,
            # Output x is shown as the pixel pixel_scale (x + 1). 127.5 is what pixels are scaled
            # by in training; the published code has 125.
            pixel_scale=127.5,
        )
    )

    # Rates and decays of the paper.
    config.optimizer = ConfigDict(
        dict(
            generator=common.adam(1e-4, decay=0.98, every=10),
            frame_discriminator=common.adam(1e-4, decay=0.9, every=10),
            sync_discriminator=common.adam(1e-5, decay=0.9, every=10),
            sequence_discriminator=common.adam(1e-5, decay=0.9, every=10),
        )
    )
    # Five epochs without better audio-visual synchrony, as SyncNet judges it.
    config.early_stopping.update(dict(metric="av_confidence", patience=5))

    if variant == "small":
        small(config)
    elif variant == "tiny":
        tiny(config)
    elif variant:
        raise UserError(f"no variant {variant!r} of temporal_gan_2019_grid: use :small or :tiny")
    return config


def small(config: ConfigDict) -> None:
    """Half an hour on two cores: a quarter of the width, short sequences, higher rates."""
    config.generator.update(dict(width=16, num_skips=5))
    config.frame_discriminator.width = 16
    config.sync_discriminator.width = 16
    config.sequence_discriminator.width = 8
    config.data.update(dict(num_frames=15, batch_size=4))
    config.loss.update(dict(upper_reconstruction=200.0, num_frames=2, num_snippets=2))
    config.optimizer = ConfigDict(
        dict(
            generator=common.adam(2e-3, decay=0.85),
            frame_discriminator=common.adam(2e-4),
            sync_discriminator=common.adam(1e-4),
            sequence_discriminator=common.adam(1e-4),
        )
    )
    config.train.update(dict(max_steps=1400, samples_every=200, checkpoint_every=200))
    config.early_stopping.update(dict(metric="psnr_lower", patience=0))


def tiny(config: ConfigDict) -> None:
    """The same parts, as narrow as they go."""
    config.generator.update(
        dict(width=2, audio_width=2, identity_dim=8, audio_dim=8, content_dim=8, noise_dim=2)
    )
    config.frame_discriminator.width = 2
    config.sync_discriminator.update(dict(width=2, features=8))
    config.sequence_discriminator.update(dict(width=2, audio_width=2, features=8, hidden=8))
    config.data.update(dict(num_frames=10, eval_frames=15, batch_size=2))
    config.loss.update(dict(num_frames=2, num_snippets=2))
    config.train.update(
        dict(max_steps=4, log_every=1, samples_every=4, checkpoint_every=2, validation_clips=2)
    )
    config.early_stopping.update(dict(metric="psnr_lower", patience=0))

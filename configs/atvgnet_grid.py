"""ATVGnet (Chen, Maddox, Duan, Xu, "Hierarchical Cross-Modal Talking Face Generation with Dynamic
Pixel-Wise Loss", CVPR 2019), a baseline, on GRID.

    python train.py --config configs/atvgnet_grid.py --workdir runs/atvgnet

Both stages at once, on the speakers of the temporal GAN of 2019, which is compared with it. Not
run: it needs the whole corpus and an accelerator.

    :landmarks  the landmark stage alone, for `config.train.initialize_from`
    :small      a quarter of the width, about ten minutes on two CPU cores; a short run of it is
                in docs/results/baselines.md
    :tiny       seconds on a CPU, for tests; it learns nothing worth seeing

    python train.py --config configs/atvgnet_grid.py:small --workdir runs/small
"""

from ml_collections import ConfigDict

from configs import common
from flax_talk.errors import UserError
from flax_talk.systems.hearing import window_seconds
from input_pipeline.datasets.grid import subject_split


def get_config(variant: str = "") -> ConfigDict:
    """The baseline at full size, or a variant of it."""
    config = common.get_config()
    config.system = "atvgnet"
    for split in ("train", "validation", "test"):
        config.data.splits[split] = subject_split("temporal_gan_2019", split)
    # Columns 10 ms apart and coefficients of each (paper), and what they are divided by (ours).
    config.mfcc = ConfigDict(dict(columns=28, coefficients=12, deviation=20.0))
    config.data.window_seconds = window_seconds(config.mfcc.columns)
    # Frames of a training sequence (paper).
    config.data.update(dict(num_frames=16, batch_size=16))

    config.generator = ConfigDict(
        dict(
            # Lengths of the codes of the still, of a window, of landmarks (ours).
            identity_dim=256,
            audio_dim=256,
            landmark_dim=256,
            # Directions in which landmarks move (ours).
            num_components=20,
            # Width of the GRU of each stage (paper: 256, of an LSTM).
            recurrent_dim=256,
            # Channels of the first image layer, skips from the identity encoder (ours, as in the
            # temporal GAN).
            width=64,
            num_skips=4,
            # Audio encoder, see speech2vid_grid.
            audio_width=64,
            audio_hidden=512,
        )
    )
    # Length of a frame's features, width of the GRU, channels of the first layer (ours).
    config.discriminator = ConfigDict(dict(features=256, hidden=256, width=64))
    config.loss = ConfigDict(
        dict(
            # Squared errors of landmarks in units of half the picture (ours): as they are read from
            # real frames, and as the landmark stage predicts them.
            reading=100.0,
            landmarks=100.0,
            # L1 weighted by the attention, and the least weight of a pixel (ours).
            reconstruction=10.0,
            least_attention=0.5,
            # What the discriminator says of the video, and the squared error of the landmarks that
            # it sees there (ours). At 0 both, there is no discriminator; with the L1 at 0 too, the
            # landmark stage learns alone.
            adversarial=1.0,
            regression=1.0,
        )
    )
    # Rates (ours).
    config.optimizer = ConfigDict(
        dict(generator=common.adam(2e-4), discriminator=common.adam(2e-4))
    )
    for player in config.optimizer.values():
        player.b1 = 0.5
    # Which metric stops a run (ours).
    config.early_stopping.update(dict(metric="psnr", patience=5))

    if variant == "landmarks":
        config.loss.update(dict(reconstruction=0.0, adversarial=0.0, regression=0.0))
        # Frames are not drawn, so their measures choose nothing: one validation, at the end, keeps
        # the last step.
        config.train.validate_every = config.train.num_epochs
    elif variant == "small":
        small(config)
    elif variant == "tiny":
        tiny(config)
    elif variant:
        raise UserError(f"no variant {variant!r} of atvgnet_grid: use :landmarks, :small or :tiny")
    return config


def small(config: ConfigDict) -> None:
    """A quarter of the width and a higher rate, for two cores."""
    config.generator.update(dict(width=16, num_skips=5, audio_width=16, audio_hidden=128))
    config.discriminator.width = 8
    config.data.update(dict(num_frames=8, batch_size=4))
    config.loss.adversarial = 0.1
    config.optimizer.generator = common.adam(1e-3, decay=0.7, after=1)
    config.train.update(dict(max_steps=600, log_every=20, samples_every=200))
    config.train.update(dict(checkpoint_every=100, validation_clips=16))
    config.early_stopping.update(dict(metric="psnr_lower", patience=0))


def tiny(config: ConfigDict) -> None:
    """The same parts, as narrow as they go."""
    sizes = dict(identity_dim=8, audio_dim=8, landmark_dim=8, num_components=4, recurrent_dim=8)
    config.generator.update(dict(width=2, audio_width=1, audio_hidden=8, **sizes))
    config.discriminator.update(dict(features=8, hidden=8, width=2))
    config.data.update(dict(num_frames=6, eval_frames=15, batch_size=2))
    config.train.update(
        dict(max_steps=4, log_every=1, samples_every=4, checkpoint_every=2, validation_clips=2)
    )
    config.early_stopping.update(dict(metric="psnr_lower", patience=0))

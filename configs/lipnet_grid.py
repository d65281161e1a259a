"""LipNet (Assael, Shillingford, Whiteson, de Freitas, "LipNet", 2016) on GRID: reads lips.

    python train.py --config configs/lipnet_grid.py --workdir runs/lipnet

The sizes of the paper, on the speakers of the temporal GAN of 2019, so that whom it judges it has
not seen; there LipNet gets 21.76 % of the words of real videos wrong. Not run: it needs the whole
corpus and an accelerator.

    :published  the network and the pixels of the published Keras weights, for
                flax_talk.interop.lipnet
    :small      half the resolution, half the width and batch normalisation, for two CPU cores:
                an hour or more; not run
    :tiny       seconds on a CPU, for tests; it learns nothing

    python train.py --config configs/lipnet_grid.py:small --workdir runs/lipnet \\
        --config.data.splits.train=s1[:-30] --config.data.splits.validation=s1[-30:]
"""

from ml_collections import ConfigDict

from configs import common
from flax_talk.errors import UserError
from input_pipeline.datasets.grid import subject_split


def get_config(variant: str = "") -> ConfigDict:
    """The paper's config, or a variant of it."""
    config = common.get_config()
    config.system = "lipnet"
    for split in ("train", "validation", "test"):
        config.data.splits[split] = subject_split("temporal_gan_2019", split)
    # Whole sentences: a text is of the words that lie wholly within the frames.
    config.data.update(dict(features=("words",), num_frames=75, batch_size=50))

    config.lipreader = ConfigDict(
        dict(
            # Channels of the three convolutions, and width of the GRUs, each direction.
            features=(32, 64, 96),
            hidden=256,
            # Batch normalisation after the convolutions: not in the paper.
            norm=False,
            # Share of the channels that go in training.
            dropout=0.5,
            # The GRUs' reset applies after the recurrent product (as in cuDNN), and their gates.
            reset_after=True,
            gate="sigmoid",
        )
    )
    config.view = ConfigDict(
        dict(
            # Part of the aligned face that is seen, top, left, bottom, right, in shares of it:
            # about what the paper's 100 x 50 pixels of a GRID frame show.
            box=(70 / 128, 12 / 96, 106 / 128, 84 / 96),
            # Height and width at which it is seen.
            size=(50, 100),
            # What each colour, in [-1, 1], is reduced by and divided by: rounded from a few clips
            # of GRID, where the paper takes the mean and deviation of all that it trains on.
            mean=(0.1, -0.1, -0.4),
            deviation=(0.4, 0.3, 0.3),
        )
    )
    # Weights: connectionist temporal classification, and which letter each frame spells (ours).
    config.loss = ConfigDict(dict(ctc=1.0, spelling=0.0))
    # Texts kept by the decoder; 1 takes the best label of each frame.
    config.measure = ConfigDict(dict(beam_width=1))
    config.optimizer = ConfigDict(dict(lipreader=common.adam(1e-4)))
    config.early_stopping.update(dict(metric="wer", mode="min", patience=10))

    if variant == "published":
        config.lipreader.update(dict(norm=True, reset_after=False, gate="hard_sigmoid"))
        # Pixels in [0, 1].
        config.view.update(dict(mean=(-1.0,) * 3, deviation=(2.0,) * 3))
    elif variant == "small":
        small(config)
    elif variant == "tiny":
        tiny(config)
    elif variant:
        raise UserError(f"no variant {variant!r} of lipnet_grid: use :published, :small or :tiny")
    return config


def small(config: ConfigDict) -> None:
    """What two cores can train."""
    config.lipreader.update(dict(features=(16, 32, 48), hidden=128, norm=True, dropout=0.2))
    config.view.size = (25, 50)
    config.data.batch_size = 8
    config.optimizer.lipreader = common.adam(1e-3, decay=0.9)
    config.optimizer.lipreader.clip_norm = 10.0
    config.train.update(dict(max_steps=3000, log_every=20, checkpoint_every=200))
    config.train.validation_clips = 30
    config.early_stopping.patience = 0


def tiny(config: ConfigDict) -> None:
    """The same parts, as narrow as they go."""
    config.lipreader.update(dict(features=(4, 4, 4), hidden=8))
    config.view.size = (15, 30)
    config.data.update(dict(num_frames=40, eval_frames=40, batch_size=2))
    config.train.update(dict(max_steps=4, log_every=1, checkpoint_every=2, validation_clips=2))

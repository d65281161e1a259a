"""CRAN (Song, Zhu, Li, Wang, Qi, "Talking Face Generation by Conditional Recurrent Adversarial
Network", 2018), a baseline, on GRID.

    python train.py --config configs/cran_grid.py --workdir runs/cran

The encoders and the decoder of `speech2vid_grid` around a recurrent layer, on the same speakers.
Not run: it needs the whole corpus and an accelerator.

    :small    a quarter of the width, about ten minutes on two CPU cores; a short run of it is
              in docs/results/baselines.md
    :tiny     seconds on a CPU, for tests; it learns nothing worth seeing

    python train.py --config configs/cran_grid.py:small --workdir runs/small
"""

from ml_collections import ConfigDict

from configs import common, speech2vid_grid
from flax_talk.errors import UserError


def get_config(variant: str = "") -> ConfigDict:
    """The baseline at full size, or a variant of it."""
    if variant not in ("", "small", "tiny"):
        raise UserError(f"no variant {variant!r} of cran_grid: use :small or :tiny")
    config = speech2vid_grid.get_config(variant)
    config.system = "cran"
    # A second of a clip: words for the lip reader (ours).
    config.data.update(dict(features=("words",), num_frames=25, batch_size=8))
    # Width and layers of the GRU (ours).
    config.generator.update(dict(recurrent_dim=512, recurrent_layers=1))

    config.sequence_discriminator = ConfigDict(
        dict(
            # Length of a frame's features, width of the GRU, channels of the first layer (ours).
            features=256,
            hidden=256,
            width=64,
            # Frames that a convolution spans: space and time (ours; the paper has no size).
            kernel_time=3,
        )
    )
    config.lipreader = ConfigDict(
        dict(
            # Channels of the three convolutions, width of the GRUs (LipNet), normalisation (ours).
            features=(32, 64, 96),
            hidden=256,
            norm=True,
        )
    )
    # Part of the aligned face that the lip reader sees, and its size, see lipnet_grid.
    config.view = ConfigDict(dict(box=(70 / 128, 12 / 96, 106 / 128, 84 / 96), size=(50, 100)))
    # Weights of the generator's terms (ours); a discriminator of weight 0 is left out.
    config.loss = ConfigDict(dict(reconstruction=1.0, sequence=0.01, lip_reading=0.01))
    rate = config.optimizer.generator.learning_rate
    config.optimizer.update(
        dict(sequence_discriminator=common.adam(rate / 10), lipreader=common.adam(rate))
    )

    if variant == "small":
        config.data.update(dict(num_frames=12, batch_size=4))
        config.train.max_steps = 400
        config.generator.recurrent_dim = 256
        config.sequence_discriminator.width = 8
        config.lipreader.update(dict(features=(16, 32, 48), hidden=128))
        config.view.size = (25, 50)
    elif variant == "tiny":
        config.data.update(dict(num_frames=6, batch_size=2))
        config.generator.recurrent_dim = 8
        config.sequence_discriminator.update(dict(features=8, hidden=8, width=2))
        config.lipreader.update(dict(features=(2, 2, 2), hidden=4))
        config.view.size = (15, 30)
    return config

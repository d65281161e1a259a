"""Speech2Vid (Chung, Jamaludin, Zisserman, "You said that?", BMVC 2017), a baseline, on GRID.

    python train.py --config configs/speech2vid_grid.py --workdir runs/speech2vid

The sizes of the paper's audio side and codes, on the speakers of the temporal GAN of 2019, which is
compared with it. Not run: it needs the whole corpus and an accelerator.

    :small    a quarter of the width, about ten minutes on two CPU cores; a short run of it is
              in docs/results/baselines.md
    :tiny     seconds on a CPU, for tests; it learns nothing worth seeing

    python train.py --config configs/speech2vid_grid.py:small --workdir runs/small
"""

from ml_collections import ConfigDict

from configs import common
from flax_talk.errors import UserError
from flax_talk.systems.hearing import window_seconds
from input_pipeline.datasets.grid import subject_split


def get_config(variant: str = "") -> ConfigDict:
    """The paper's config, or a variant of it."""
    config = common.get_config()
    config.system = "speech2vid"
    for split in ("train", "validation", "test"):
        config.data.splits[split] = subject_split("temporal_gan_2019", split)
    # Columns 10 ms apart and coefficients of each (paper), and what they are divided by (ours).
    config.mfcc = ConfigDict(dict(columns=35, coefficients=12, deviation=20.0))
    config.data.window_seconds = window_seconds(config.mfcc.columns)
    # Frames of a clip in a step: they are learned one by one, so a few are enough (ours).
    config.data.update(dict(num_frames=8, batch_size=16))

    config.generator = ConfigDict(
        dict(
            # Lengths of the identity and audio codes (paper).
            identity_dim=256,
            audio_dim=256,
            # Channels of the first image layer, skips from the identity encoder, and frames as
            # changes of the still (ours, as in the temporal GAN).
            width=64,
            num_skips=4,
            residual=False,
            # Channels of the first audio layer, width of the layer behind the convolutions (paper).
            audio_width=64,
            audio_hidden=512,
            # Width and layers of a GRU over the frames' codes; 0 layers: each by itself (paper).
            recurrent_dim=0,
            recurrent_layers=0,
        )
    )
    config.loss = ConfigDict(dict(reconstruction=1.0))
    # Rate (ours).
    config.optimizer = ConfigDict(dict(generator=common.adam(1e-4)))
    # Which metric stops a run (ours).
    config.early_stopping.update(dict(metric="psnr", patience=5))

    if variant == "small":
        small(config)
    elif variant == "tiny":
        tiny(config)
    elif variant:
        raise UserError(f"no variant {variant!r} of speech2vid_grid: use :small or :tiny")
    return config


def small(config: ConfigDict) -> None:
    """A quarter of the width and a higher rate, for two cores."""
    config.generator.update(
        dict(width=16, num_skips=5, residual=True, audio_width=16, audio_hidden=128)
    )
    config.data.update(dict(num_frames=8, batch_size=4))
    config.optimizer.generator = common.adam(1e-3, decay=0.7, after=1)
    config.train.update(dict(max_steps=1000, log_every=20, samples_every=200))
    config.train.update(dict(checkpoint_every=100, validation_clips=16))
    config.early_stopping.update(dict(metric="psnr_lower", patience=0))


def tiny(config: ConfigDict) -> None:
    """The same parts, as narrow as they go."""
    config.generator.update(
        dict(width=2, identity_dim=8, audio_dim=8, audio_width=1, audio_hidden=8)
    )
    config.data.update(dict(num_frames=6, eval_frames=15, batch_size=2))
    config.train.update(
        dict(max_steps=4, log_every=1, samples_every=4, checkpoint_every=2, validation_clips=2)
    )
    config.early_stopping.update(dict(metric="psnr_lower", patience=0))

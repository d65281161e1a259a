"""SyncNet (Chung, Zisserman, "Out of time", 2016) on GRID: judges lips against voice.

    python train.py --config configs/syncnet_grid.py --workdir runs/syncnet

The sizes of the published weights, on the speakers of the temporal GAN of 2019, so that whom it
judges it has not seen. Not run: it needs the whole corpus and an accelerator.

    :small    the mouth and chin at the size at which they are prepared, a quarter of the
              width: a quarter of an hour on two CPU cores
    :tiny     seconds on a CPU, for tests; it learns nothing worth seeing

    python train.py --config configs/syncnet_grid.py:small --workdir runs/syncnet \\
        --config.data.splits.train=s1[:-30] --config.data.splits.validation=s1[-30:]
"""

from ml_collections import ConfigDict

from configs import common
from flax_talk.errors import UserError
from input_pipeline.datasets.grid import subject_split


def get_config(variant: str = "") -> ConfigDict:
    """The paper's config, or a variant of it."""
    config = common.get_config()
    config.system = "syncnet"
    for split in ("train", "validation", "test"):
        config.data.splits[split] = subject_split("temporal_gan_2019", split)
    # Frames of a clip in a step, that is four windows less: a second and more to shift by (ours).
    config.data.update(dict(features=("mfcc",), num_frames=35, batch_size=8))

    # Layers of the published weights.
    config.syncnet = ConfigDict(
        dict(
            video_features=(96, 256, 256, 256, 256, 512),
            audio_features=(64, 192, 384, 256, 256, 512),
            hidden=512,
            embedding=1024,
        )
    )
    config.view = ConfigDict(
        dict(
            # Part of the aligned face that is seen: top, left, bottom, right, in shares of it.
            box=(0.0, 0.0, 1.0, 1.0),
            # Height and width at which it is seen (published weights).
            size=(224, 224),
        )
    )
    config.loss = ConfigDict(
        dict(
            # Distance up to which false pairs are pushed apart (ours).
            margin=20.0,
            # Least shift, in frames, of the false pairs' sound (ours).
            min_shift=2,
        )
    )
    config.augment = ConfigDict(
        dict(
            # Largest changes of a clip in training (ours): of the view's place and size, in
            # shares of the face and of the view ...
            shift=0.03,
            zoom=0.05,
            # ... of each colour, in shares and in units of [-1, 1], and the deviation of what each
            # takes of the others ...
            contrast=0.3,
            brightness=0.3,
            mixing=0.0,
            # ... of the sound's log energy, and the deviation of what is added to its spectrum.
            loudness=1.5,
            timbre=2.0,
        )
    )
    # Largest shift, in frames, at which synchrony is measured (published evaluation).
    config.measure = ConfigDict(dict(max_shift=15))
    # Ours: the paper has stochastic gradient descent, and no rate.
    config.optimizer = ConfigDict(dict(syncnet=common.adam(1e-4, decay=0.95)))
    config.early_stopping.update(dict(metric="confidence", mode="max", patience=10))

    if variant == "small":
        small(config)
    elif variant == "tiny":
        tiny(config)
    elif variant:
        raise UserError(f"no variant {variant!r} of syncnet_grid: use :small or :tiny")
    return config


def small(config: ConfigDict) -> None:
    """A quarter of an hour on two cores."""
    config.syncnet.update(
        dict(
            video_features=(24, 64, 64, 64, 64, 128),
            audio_features=(16, 48, 64, 64, 64, 128),
            hidden=128,
            embedding=128,
        )
    )
    # 56 x 56 of the 128 x 96 pixels.
    config.view.update(dict(box=(64 / 128, 20 / 96, 120 / 128, 76 / 96), size=(56, 56)))
    config.loss.margin = 8.0
    config.data.update(dict(num_frames=29, batch_size=6))
    config.optimizer.syncnet = common.adam(1e-3, decay=0.7)
    config.train.update(dict(max_steps=1000, log_every=20, checkpoint_every=200))
    config.train.validation_clips = 30
    config.early_stopping.patience = 0


def tiny(config: ConfigDict) -> None:
    """The same parts, as narrow as they go."""
    config.syncnet.update(
        dict(video_features=(4,) * 6, audio_features=(4,) * 6, hidden=8, embedding=8)
    )
    config.view.update(dict(box=(64 / 128, 20 / 96, 120 / 128, 76 / 96), size=(51, 51)))
    config.loss.margin = 2.0
    config.data.update(dict(num_frames=12, eval_frames=20, batch_size=2))
    config.train.update(dict(max_steps=4, log_every=1, checkpoint_every=2, validation_clips=2))

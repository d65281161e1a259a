"""The renderer stage of everybodys_talkin_2020 (Song et al. 2020) on the rendered corpus, alone.

    python train.py --config configs/everybodys_talkin_2020_renderer.py --workdir runs/renderer

`renderer` sets the stage up for any data; this file runs it on people who are rendered before
training starts: nothing to download but the weights of VGG-19. Not run at full size: that takes an
accelerator.

    :small  a quarter of the width, a third of the frame, no VGG-19, for two CPU cores
    :tiny   seconds on a CPU, for tests; it learns nothing worth seeing

    python train.py --config configs/everybodys_talkin_2020_renderer.py:small --workdir runs/small

One network learns all speakers of the training split, as in the paper. A network for one speaker is
another split, and starts from the former:

    python train.py --config configs/everybodys_talkin_2020_renderer.py:small --workdir runs/s1 \\
        --config.data.dataset=grid --config.data.builder_config=aligned_128x96 \\
        --config.data.prepare=False --config.data.splits.train='s1[:-30]' \\
        --config.data.splits.validation='s1[-30:]' --config.train.initialize_from=runs/small

The paper's whole-face form (Table 5) is `--config.view.whole_face=True`, with a `view.box` of
(0, 0, 1, 1).
"""

from ml_collections import ConfigDict

from configs import common
from flax_talk.errors import UserError


def get_config(variant: str = "") -> ConfigDict:
    """The renderer at full size on the rendered corpus, or a variant of it."""
    if variant not in ("", "small", "tiny"):
        raise UserError(
            f"no variant {variant!r} of everybodys_talkin_2020_renderer: use :small or :tiny"
        )
    config = common.get_config()
    common.use_synthetic_grid(config, tiny=variant == "tiny")
    return renderer(config, variant)


def renderer(config: ConfigDict, size: str = "") -> ConfigDict:
    """Sets up a config for the renderer stage.

    Args:
        config: of `common.get_config`, with its data and splits; what it has besides stays.
        size: "" for the paper's, "small" or "tiny".

    Returns:
        The same config.
    """
    config.system = "video_renderer"
    # Frames that a step draws from, and clips in a step (ours).
    config.data.update(dict(num_frames=15, batch_size=16))
    config.view = ConfigDict(
        dict(
            # Frames of a window, the last of which is drawn (paper).
            num_frames=7,
            # Part of the frame that the networks see: top, left, bottom, right in shares of its
            # height and width (paper: all of it).
            box=(0.0, 0.0, 1.0, 1.0),
            # Amplitude of the noise in the square, of colours in [-1, 1] (ours).
            noise=1.0,
            # Deviation of the Gaussians of the heat maps, pixels (ours).
            deviation=1.0,
            # See frames up to t - 1, and draw all of frame t (paper, Table 5).
            whole_face=False,
        )
    )
    # Channels of the first layer and convolutions where the picture is smallest: 75.8 million
    # parameters (paper: 75 million; how they are spread is ours).
    config.renderer = ConfigDict(
        dict(
            width=64,
            num_layers=5,
            bottleneck_layers=3,
            # Frames are drawn as changes of the colours around the square (ours, off).
            residual=False,
        )
    )
    # Channels of the first layer, layers that halve, slope of LeakyReLU (ours).
    config.renderer_discriminator = ConfigDict(dict(width=64, num_layers=5, negative_slope=0.2))
    config.loss = ConfigDict(
        dict(
            # Weights of Eq. 4 (ours). Without adversarial there is no discriminator.
            reconstruction=10.0,
            adversarial=0.1,
            perceptual=1.0,
            total_variation=0.1,
            # Of the discriminator's loss.
            gradient_penalty=10.0,
            # File of VGG-19's weights, see flax_talk/interop/vgg19.py; empty only with
            # perceptual=0.
            vgg19="",
            # Layers that the perceptual loss compares (ours).
            perceptual_layers=("relu1_2", "relu2_2", "relu3_4", "relu4_4"),
            # Frames of a clip that are drawn in a step (ours).
            num_frames=4,
        )
    )
    # Rates (ours).
    config.optimizer = ConfigDict(
        dict(renderer=common.adam(2e-4), renderer_discriminator=common.adam(2e-4))
    )
    for player in config.optimizer.values():
        player.b1 = 0.5
    # Which metric stops a run, and after how many epochs (ours).
    config.early_stopping.update(dict(metric="psnr_mouth", patience=5))
    {"small": small, "tiny": tiny}.get(size, lambda config: None)(config)
    return config


def small(config: ConfigDict) -> None:
    """A quarter of the width, a third of the frame and a higher rate, for two cores."""
    # Loud noise drowns the heat maps for longer than a short training lasts.
    config.view.update(dict(box=(1 / 2, 1 / 6, 1.0, 5 / 6), noise=0.1))
    config.renderer.update(dict(width=16, bottleneck_layers=1, residual=True))
    config.renderer_discriminator.width = 16
    config.data.update(dict(num_frames=13, batch_size=8))
    config.loss.update(dict(perceptual=0.0, num_frames=2))
    config.optimizer.renderer = common.adam(2e-3, decay=0.7)
    config.train.update(dict(max_steps=1000, log_every=20, checkpoint_every=100))
    config.train.validation_clips = 16
    config.early_stopping.patience = 0


def tiny(config: ConfigDict) -> None:
    """The same parts, as narrow as they go."""
    config.renderer.update(dict(width=2, bottleneck_layers=1))
    config.renderer_discriminator.width = 2
    config.data.update(dict(num_frames=8, eval_frames=8, batch_size=2))
    config.loss.update(dict(perceptual=0.0, num_frames=2))
    config.train.update(dict(max_steps=4, log_every=1, checkpoint_every=2, validation_clips=2))
    config.early_stopping.patience = 0

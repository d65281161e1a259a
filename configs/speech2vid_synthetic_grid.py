"""Speech2Vid, a baseline, on the rendered corpus.

    python train.py --config configs/speech2vid_synthetic_grid.py --workdir runs/speech2vid

The sizes, loss and rate of `speech2vid_grid`, on people who are rendered before training starts:
nothing to download. Not run: it needs an accelerator.

    :small    the width that two CPU cores can train, see speech2vid_grid
    :tiny     seconds on a CPU, for tests; renders its own data

    python train.py --config configs/speech2vid_synthetic_grid.py:tiny --workdir runs/tiny
"""

from ml_collections import ConfigDict

from configs import common, speech2vid_grid


def get_config(variant: str = "") -> ConfigDict:
    """The baseline on the rendered corpus, or a variant of it."""
    config = speech2vid_grid.get_config(variant)
    common.use_synthetic_grid(config, tiny=variant == "tiny")
    return config

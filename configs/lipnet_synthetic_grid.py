"""LipNet (Assael et al., "LipNet", 2016) on the rendered corpus.

    python train.py --config configs/lipnet_synthetic_grid.py --workdir runs/lipnet

The sizes of `lipnet_grid`, on people who are rendered before training starts: nothing to
download. Not run: it needs an accelerator.

    :small    the width that two CPU cores can train, see lipnet_grid
    :words    :small on about two words at a time and on the letter of each frame; the rendered
              corpus and GRID speakers s1 and s4: what the checkpoint that ships starts from
    :shipped  whole sentences, from there: the checkpoint that ships
    :tiny     seconds on a CPU, for tests; renders its own data

    python train.py --config configs/lipnet_synthetic_grid.py:tiny --workdir runs/tiny
"""

from ml_collections import ConfigDict

from configs import common, lipnet_grid
from flax_talk.errors import UserError


def get_config(variant: str = "") -> ConfigDict:
    """The paper's config on the rendered corpus, or a variant of it."""
    shipped = variant in ("words", "shipped")
    if variant not in ("", "small", "tiny") and not shipped:
        raise UserError(
            f"no variant {variant!r} of lipnet_synthetic_grid: "
            "use :small, :words, :shipped or :tiny"
        )
    config = lipnet_grid.get_config("small" if shipped else variant)
    common.use_synthetic_grid(config, tiny=variant == "tiny")
    if shipped:
        config.data.splits = ConfigDict(common.MIXTURE)
        config.train.validation_clips = 32
    if variant == "words":
        # What each frame spells, and short texts, are learnt sooner than where long ones lie.
        config.loss.spelling = 10.0
        config.data.update(dict(num_frames=32, batch_size=16))
        config.train.max_steps = 1800
    elif variant == "shipped":
        config.train.initialize_from = "runs/words"
        config.optimizer.lipreader = common.adam(5e-4, decay=0.8)
        config.optimizer.lipreader.clip_norm = 10.0
        config.train.max_steps = 1056
    return config

"""Everybody's Talkin' (Song, Wu, Qian, He, Loy, 2020) on the rendered corpus, stage by stage.

    python train.py --config configs/everybodys_talkin_2020_synthetic_grid.py:small_speaker \\
        --workdir runs/small_speaker
    python train.py --config configs/everybodys_talkin_2020_synthetic_grid.py:small_expression \\
        --workdir runs/small_expression

The stages and sizes of `everybodys_talkin_2020_grid`, on people who are rendered before training
starts and whose face parameters are known: nothing to download or to fit. The small stages take
a few minutes each on two cores; what they reach is in docs/everybodys_talkin_2020.md. The
others are not run.

    :speaker           VGGVox, which names the speakers of the training split
    :expression        ID-removing and audio to expression, against the frozen VGGVox; what the
                       file is without a variant
    :landmark          the paper's baseline "2D": landmarks in the place of the expression
    :small_speaker     the same stages at a width that two CPU cores can train
    :small_expression
    :small_landmark
    :small_speaker_mixture     the same, with GRID's speakers s1 and s4 besides, whose clips are
    :small_expression_mixture  prepared and fitted as for everybodys_talkin_2020_grid
    :small_landmark_mixture
    :tiny              seconds on a CPU, for tests: :expression from nothing; it learns nothing
    :tiny_speaker      and the other stages likewise
    :tiny_expression
    :tiny_landmark

The stage `renderer`, in the same sizes, is that of `everybodys_talkin_2020_renderer`.
"""

from ml_collections import ConfigDict

from configs import common, everybodys_talkin_2020_grid
from flax_talk.errors import UserError
from input_pipeline.datasets.synthetic_grid import SyntheticGrid

MIXTURE = "_mixture"
MIXTURES = tuple(f"small_{stage}{MIXTURE}" for stage in everybodys_talkin_2020_grid.STAGES)


def get_config(variant: str = "") -> ConfigDict:
    """The paper's config on the rendered corpus, or a variant of it."""
    if variant.endswith(MIXTURE) and variant not in MIXTURES:
        raise UserError(f"no variant {variant!r}: the mixtures are :" + ", :".join(MIXTURES))
    config = everybodys_talkin_2020_grid.get_config(variant.removesuffix(MIXTURE))
    size, stage = everybodys_talkin_2020_grid.split_variant(variant.removesuffix(MIXTURE))
    common.use_synthetic_grid(config, tiny=size == "tiny")
    if stage != "renderer":
        choose_speakers(config, stage)
    if variant.endswith(MIXTURE):
        mix(config, stage)
    return config


def choose_speakers(config: ConfigDict, stage: str) -> None:
    """The speakers of the training split, and clips of theirs for the speaker stage."""
    builder_config = SyntheticGrid.builder_configs[config.data.builder_config]
    count, held_out = builder_config.speakers[0], 50
    config.data.speakers = tuple(f"r{number}" for number in range(1, count + 1))
    if stage == "speaker" and count * builder_config.sentences > 4 * held_out:
        config.data.splits.train = f"train[:-{2 * held_out}]"
        config.data.splits.validation = f"train[-{2 * held_out}:-{held_out}]"
        config.data.splits.test = f"train[-{held_out}:]"
    elif stage == "speaker":
        config.data.splits.update(dict(validation="train", test="train"))


def mix(config: ConfigDict, stage: str) -> None:
    """Adds GRID's speakers s1 and s4."""
    config.data.splits = ConfigDict(common.MIXTURE)
    if stage != "renderer":
        config.data.speakers = (*config.data.speakers, "s1", "s4")
    if stage == "speaker":
        rendered, grid = "synthetic_grid/default/train", "grid/aligned_128x96/"
        config.data.splits.train = f"{rendered}[:-100] + {grid}s1[:100] + {grid}s4[:-10]"
        config.data.splits.validation = f"{rendered}[-100:-50] + {grid}s1[-30:] + {grid}s4[-10:]"
        config.data.splits.test = f"{rendered}[-50:]"
    if stage == "expression":
        config.train.initialize_from += MIXTURE

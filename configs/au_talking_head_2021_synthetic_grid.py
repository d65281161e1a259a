"""AU talking head (Chen, Liu, Liu, Yan, Wang, BMVC 2021) on the rendered corpus.

    python train.py --config configs/au_talking_head_2021_synthetic_grid.py:full --workdir runs/full

The stages, sizes, losses and rates of `au_talking_head_2021_grid`, on people who are rendered
before training starts, whose action units are known: nothing to download but the weights of VGG-19.
The small ones have been run (docs/au_talking_head_2021.md); the paper's size needs an accelerator.

    :audio2au          Audio-to-AU modules, from sound
    :au_classifier     AU classifier, from real frames
    :generator         goes on from both, without the discriminator
    :full              goes on from there with it; what the file is without a variant
    :small_audio2au    the same stages at a width that two CPU cores can train, without VGG-19
    :small_au_classifier
    :small_generator
    :small_full
    :small_ablation    all losses at once, from the first two stages; see configs/ablations.py
    :tiny              seconds on a CPU, for tests: all of :full, from nothing; it learns nothing
    :tiny_audio2au     and the stages likewise
    :tiny_au_classifier
    :tiny_generator
    :tiny_full

All stages, one after the other, each in a folder of runs/au: `:recipe`, `:small_recipe` and
`:tiny_recipe`.

    python train.py --config configs/au_talking_head_2021_synthetic_grid.py:small_recipe \
        --workdir runs/au
    python train.py --config configs/au_talking_head_2021_synthetic_grid.py:tiny --workdir runs/tiny
"""

from ml_collections import ConfigDict

from configs import au_talking_head_2021_grid, common

THRESHOLD = 0.1
"""Fewer frames lie near it than near the 0.2 of recordings: rest and movement come apart."""

RATES = (0.4715, 0.1310, 0.4446, 0.6007, 0.6164)
"""Share of the training frames in which AU10, 14, 20, 25 and 26 are activated from 0.1 on."""


def get_config(variant: str = "") -> ConfigDict:
    """The paper's config on the rendered corpus, or a variant of it."""
    if variant.endswith("recipe") and variant in au_talking_head_2021_grid.VARIANTS:
        return common.recipe(get_config, au_talking_head_2021_grid.recipe_stages(variant))
    config = au_talking_head_2021_grid.get_config(variant)
    common.use_synthetic_grid(config, tiny=variant.startswith("tiny"))
    if not variant.startswith(("small", "tiny")):
        config.data.builder_config = "square"
    config.action_units.update(dict(threshold=THRESHOLD, rates=RATES))
    if variant.startswith("small") and variant != "small_audio2au":
        # Faces differ more than what they do: it takes many.
        copies = 1 if variant == "small_au_classifier" else 3
        config.data.builder_config = "crowd"
        config.data.splits.train = "train + " * copies + "synthetic_grid/default/train"
    return config

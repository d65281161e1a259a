"""Training in stages: one config for each, one folder for each, one command for all.

Chen et al. 2021, section 4, pre-train two parts before the generator. A recipe is a config whose
field `recipe` holds the configs of its stages by name, and whose `stages` are their names in order;
a stage starts from former ones by their names (`train.initialize_from`). Ours.
"""

from pathlib import Path

from ml_collections import ConfigDict

from flax_talk.training.loop import train_and_evaluate


def train_recipe(config: ConfigDict, workdir: str | Path) -> dict[str, float]:
    """Trains the stages of a recipe one after the other; the same call again goes on.

    Args:
        config: of `configs/`, with `recipe`, such as of `configs.common.recipe`; or of one stage.
        workdir: folder of the run; of a recipe, of a folder for each stage.

    Returns:
        As of `train_and_evaluate`, of the last stage that has run.

    Raises:
        UserError: as of `train_and_evaluate`.
    """
    if "recipe" not in config:
        return train_and_evaluate(config, workdir)
    scores: dict[str, float] = {"finished": True}
    for name in config.stages:
        stage = config.recipe[name].copy_and_resolve_references()
        former = [part.strip() for part in stage.train.initialize_from.split(",") if part]
        runs = [str(Path(workdir, part)) if part in config.recipe else part for part in former]
        stage.train.initialize_from = ",".join(runs)
        print(f"{Path(workdir, name)}: {stage.system}, {name}")
        scores = train_and_evaluate(stage, Path(workdir, name))
        if not scores["finished"]:
            break
    return scores

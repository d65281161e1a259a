"""Stages in their order, from their forerunners, and an end that is a beginning."""

import pytest
from ml_collections import ConfigDict

from configs import common
from flax_talk.training import recipe


def stage(name: str) -> ConfigDict:
    starts = {"b": "runs/z", "c": "runs/z, runs/b"}
    return ConfigDict(dict(system=name, train=dict(initialize_from=starts.get(name, ""))))


@pytest.fixture
def trained(monkeypatch):
    """What is trained, from what: the stage "late" is told to end once."""
    calls = []

    def train(config, workdir):
        start = config.train.initialize_from
        calls.append((workdir.name, start.replace(str(workdir.parent) + "/", "./")))
        return {"finished": config.system != "late", "step": len(calls)}

    monkeypatch.setattr(recipe, "train_and_evaluate", train)
    return calls


def test_stages_are_trained_in_order_and_start_from_former_ones(trained, tmp_path):
    config = common.recipe(stage, ["z", "b", "c"])
    scores = recipe.train_recipe(config, tmp_path)
    assert trained == [("z", ""), ("b", "./z"), ("c", "./z,./b")]
    assert scores == {"finished": True, "step": 3}
    # The config is as it was: a second call means the same.
    recipe.train_recipe(config, tmp_path)
    assert trained[3:] == trained[:3]


def test_a_stage_that_is_told_to_end_ends_the_recipe(trained, tmp_path):
    scores = recipe.train_recipe(common.recipe(stage, ["z", "late", "c"]), tmp_path)
    assert [name for name, _ in trained] == ["z", "late"]
    assert not scores["finished"]


def test_a_config_without_a_recipe_is_one_run(trained, tmp_path):
    recipe.train_recipe(stage("z"), tmp_path / "run")
    assert [name for name, _ in trained] == ["run"]

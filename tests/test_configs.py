"""Every config file, each variant that its docstring names, and each ablation can be made."""

import importlib
import itertools
import re
from pathlib import Path

import pytest

import configs
from configs.ablations import ABLATIONS
from flax_talk.errors import UserError
from flax_talk.evaluation.published import PUBLISHED
from flax_talk.systems import au_talking_head, get_system, temporal_gan

NAMES = sorted(
    path.stem
    for path in Path(configs.__file__).parent.glob("*.py")
    if path.stem not in ("__init__", "ablations", "common")
)
MODULES = {name: importlib.import_module(f"configs.{name}") for name in NAMES}
VARIANTS = [
    (name, variant)
    for name, module in MODULES.items()
    for variant in ["", *re.findall(r"^    :(\w+)", module.__doc__, re.MULTILINE)]
]


@pytest.mark.parametrize(("name", "variant"), VARIANTS)
def test_variant_is_a_run_of_a_system(name, variant):
    config = MODULES[name].get_config(variant)
    assert get_system(config.system)
    assert all(config.data.splits[split] for split in ("train", "validation", "test"))
    assert config.to_dict() == MODULES[name].get_config(variant).to_dict()
    assert variant != "tiny" or config.train.max_steps <= 20


@pytest.mark.parametrize("name", NAMES)
def test_docstring_says_how_to_run_it_and_an_unknown_variant_is_one_line(name):
    assert f"train.py --config configs/{name}.py" in MODULES[name].__doc__
    assert {"tiny"} <= {variant for other, variant in VARIANTS if other == name}
    with pytest.raises(UserError, match="huge"):
        MODULES[name].get_config("huge")


JUDGES = {
    "temporal_gan_2018": {
        "l1": "",
        "l1_frame": "frame",
        "full": "frame sequence",
        "static": "frame",
    },
    "temporal_gan_2019": {
        "full": "frame sync sequence",
        "no_adversarial": "",
        "no_l1": "frame sync sequence",
        "no_frame": "sync sequence",
        "no_sync": "frame sequence",
        "no_sequence": "frame sync",
        "static": "frame",
    },
}


def flatten(tree, prefix=()):
    if not isinstance(tree, dict):
        return {prefix: tree}
    parts = (flatten(entry, (*prefix, name)) for name, entry in tree.items())
    return {name: value for part in parts for name, value in part.items()}


def test_rows_of_the_au_ablation_add_one_term_after_the_other():
    names = {row.name for row in PUBLISHED if row.paper == "au_talking_head_2021"}
    rows = ABLATIONS["au_talking_head_2021"]
    assert {*rows} == names - {"cran", "speech2vid"}
    config = MODULES["au_talking_head_2021_synthetic_grid"].get_config("")
    before = config.loss.to_dict()
    used, players = [], []
    for changes in rows.values():
        config.loss.update(before)
        config.update(changes)
        used.append({name for name, weight in config.loss.items() if weight})
        players.append(set(au_talking_head.players(config)))
    added = [after - former for former, after in itertools.pairwise(used)]
    assert added == [
        {"perceptual"},
        {"identity"},
        {"adversarial"},
        {"action_units", "au_classifier"},
        {"audio2au"},
    ]
    new = [after - former for former, after in itertools.pairwise(players)]
    assert new == [set(), set(), {"frame_discriminator"}, {"au_classifier"}, {"audio2au"}]
    assert config.loss.to_dict() == before


@pytest.mark.parametrize("size", ["", "small_", "tiny_"])
@pytest.mark.parametrize("data", ["grid", "synthetic_grid"])
def test_a_recipe_names_its_stages(data, size):
    module = MODULES[f"au_talking_head_2021_{data}"]
    config = module.get_config(f"{size}recipe")
    assert config.stages == tuple(
        f"{size}{stage}" for stage in ("audio2au", "au_classifier", "generator", "full")
    )
    starts = [config.recipe[name].train.initialize_from for name in config.stages]
    assert starts == ["", "", f"{size}audio2au,{size}au_classifier", f"{size}generator"]
    for name in config.stages:
        assert config.recipe[name].system == module.get_config(name).system


@pytest.mark.parametrize("variant", ["", "small", "tiny"])
@pytest.mark.parametrize("system", JUDGES)
def test_ablations_leave_the_judges_that_their_names_say(system, variant):
    published = {row.name for row in PUBLISHED if row.paper == system} - {"real", "speech2vid"}
    assert {*JUDGES[system]} == {*ABLATIONS[system]} == published
    module = MODULES[f"{system}_synthetic_grid"]
    before = flatten(module.get_config(variant).to_dict())
    for row, judges in JUDGES[system].items():
        config = module.get_config(variant)
        config.update(ABLATIONS[system][row])
        after = flatten(config.to_dict())
        # A field that the systems do not know would change nothing.
        assert set(after) == set(before)
        assert (after == before) == (row == "full")
        used = temporal_gan.players(config)
        expected = {f"{judge}_discriminator" for judge in judges.split()}
        assert set(used) == {"generator", *expected}
        assert set(used) <= set(config.optimizer)
        l1 = [config.loss[name] for name in ("reconstruction", *temporal_gan.OPTIONAL_PARTS)]
        assert any(l1) == (row != "no_l1")
        # Without a judge the upper half is learned from L1 alone.
        assert judges or l1[0] == l1[1]
        recurrent = (used["generator"].content_layers, used["generator"].noise_layers)
        assert (recurrent == (0, 0)) == (row == "static") == (config.system == "static_gan")


def test_static_gan_is_the_ablation_of_2019():
    for data in ("grid", "synthetic_grid"):
        config = MODULES[f"temporal_gan_2019_{data}"].get_config()
        config.update(ABLATIONS["temporal_gan_2019"]["static"])
        assert MODULES[f"static_gan_{data}"].get_config().to_dict() == config.to_dict()


def test_a_config_saved_before_a_field_was_there_means_the_same():
    config = MODULES["temporal_gan_2019_grid"].get_config()
    players = temporal_gan.players(config)
    del config.generator["noise_layers"], config.frame_discriminator["negative_slope"]
    for name in ("classifier_layers", "kernel_time", "negative_slope", "tanh", "audio_width"):
        del config.sequence_discriminator[name]
    assert temporal_gan.players(config) == players

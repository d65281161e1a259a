"""Every config file and each variant that its docstring names can be made."""

import importlib
import re
from pathlib import Path

import pytest

import configs
from flax_talk.errors import UserError
from flax_talk.systems import get_system

NAMES = sorted(
    path.stem
    for path in Path(configs.__file__).parent.glob("*.py")
    if path.stem not in ("__init__", "common")
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

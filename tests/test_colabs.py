"""Every notebook runs from top to bottom, and its .ipynb is made of its text.

Parameters have a quick value beside their own, `STEPS = 20  # quick: 2`, for here.
"""

import json
import re
from pathlib import Path

import pytest

from flax_talk.api import Video

COLABS = Path(__file__).parents[1] / "colabs"
NOTEBOOKS = sorted(COLABS.glob("*.py"))
SLOW = ("ablation", "dub", "swap_a_module", "train")

QUICK = re.compile(r"^(\w+ = ).*  # quick: (.*)$", re.MULTILINE)


def shown(thing):
    """What a notebook would do with it: something must be there to be seen."""
    kinds = ("_repr_html_", "_repr_png_", "savefig")
    assert any(callable(getattr(thing, kind, None)) for kind in kinds), thing
    if isinstance(thing, Video):
        assert len(thing._repr_html_()) > 1000


@pytest.mark.parametrize(
    "path",
    [
        pytest.param(path, id=path.stem, marks=[pytest.mark.soak] if path.stem in SLOW else [])
        for path in NOTEBOOKS
    ],
)
def test_runs_from_top_to_bottom(path, tmp_path, monkeypatch, rendered_data):
    monkeypatch.chdir(tmp_path)
    Path("data").symlink_to(rendered_data)
    text = QUICK.sub(r"\1\2", path.read_text())
    exec(compile(text, str(path), "exec"), {"__name__": "__main__", "display": shown})


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_the_notebook_is_made_of_the_text(path):
    """After a change: `make notebooks`."""
    jupytext = pytest.importorskip("jupytext")
    made = jupytext.read(path).cells
    kept = json.loads(path.with_suffix(".ipynb").read_text())["cells"]
    assert [(c["cell_type"], "".join(c["source"])) for c in kept] == [
        (c.cell_type, c.source) for c in made
    ]
    assert not any(c.get("outputs") for c in kept)

import runpy
from pathlib import Path

ROOT = Path(__file__).parents[1]


def test_the_reference_is_what_the_code_says_of_itself():
    """`python scripts/list_reference.py` makes it anew."""
    reference = runpy.run_path(str(ROOT / "scripts" / "list_reference.py"))["reference"]
    assert (ROOT / "docs" / "reference.md").read_text() == reference()

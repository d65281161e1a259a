"""Writes the reference: every command, and every public function by module.

    python scripts/list_reference.py --out docs/reference.md

All of it comes from the parser of the command line and from docstrings.
"""

import argparse
import importlib
import inspect
import pkgutil
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

from flax_talk import cli

PACKAGES = ("flax_talk", "input_pipeline")
# Data, and what needs an extra to be imported.
LEFT_OUT = ("flax_talk.checkpoints", "flax_talk.examples", "flax_talk.app")
HEADER = """# Reference

Every command, and every public function and class by module, with the first line of what it says of
itself. Arguments, shapes, units and errors are in the docstrings: `help(flax_talk.load)`. *Made by
`python scripts/list_reference.py --out docs/reference.md`.*
"""


def reference() -> str:
    """The whole page, as Markdown."""
    lines = [HEADER, "## Commands", "", "| | |", "|---|---|"]
    for name, parser in _commands().items():
        lines.append(f"| `flax-talk {name}` | {_one_line(parser.description)} |")
    lines += ["", "## Python"]
    for module in _modules():
        entries = list(_entries(module))
        if entries:
            lines += ["", f"### {module.__name__}", "", _one_line(module.__doc__), ""]
            lines += ["| | |", "|---|---|"]
            lines += [f"| `{name}` | {_one_line(value.__doc__)} |" for name, value in entries]
    return "\n".join(lines) + "\n"


def _commands() -> dict[str, argparse.ArgumentParser]:
    parser = cli.make_parser()
    (choices,) = (a.choices for a in parser._actions if isinstance(a, argparse._SubParsersAction))
    return choices


def _modules() -> list[ModuleType]:
    found = []
    for package in map(importlib.import_module, PACKAGES):
        names = [package.__name__]
        names += [m.name for m in pkgutil.walk_packages(package.__path__, f"{package.__name__}.")]
        found += [name for name in names if not name.startswith(LEFT_OUT)]
    return [importlib.import_module(name) for name in sorted(found)]


def _entries(module: ModuleType) -> Iterator[tuple[str, Any]]:
    """Public functions and classes that the module defines, in their order there."""
    for name, value in vars(module).items():
        is_own = getattr(value, "__module__", None) == module.__name__
        is_kept = inspect.isfunction(value) or inspect.isclass(value)
        if is_own and is_kept and not name.startswith("_") and value.__doc__:
            yield name, value


def _one_line(text: str | None) -> str:
    first = " ".join((text or "").strip().split("\n\n")[0].split())
    return first.replace("|", "\\|")


def main() -> None:
    """Writes the page."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--out", type=Path, default=Path("docs/reference.md"))
    parser.parse_args().out.write_text(reference())


if __name__ == "__main__":
    main()

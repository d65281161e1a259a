"""A run as one page to pass on: `flax-talk report`.

What `flax_talk.training.logging` has written, and no more: losses by player and name, validation,
sample videos with their sound, config and versions; and the table of an evaluation where there
is one. All of it is in the file, which loads nothing. No paper is behind it.
"""

import base64
import html
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

import flax_talk
from flax_talk import figures
from flax_talk.errors import UserError
from flax_talk.evaluation import plots
from flax_talk.evaluation.report import write
from flax_talk.training import checkpoints as ckpt

REPORT = "report.html"
TABLE = "table.md"
SAMPLES = 3
"""Of a run's samples on the page: the first, the last, and between them."""

_WEIGHTED = "_weighted"
_VALIDATION, _STILL = "validation", "still/"
_STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; color: #222; max-width: 1100px; margin: 2em auto;
       padding: 0 1em; }
h1, h2, h3 { line-height: 1.2; } h2 { border-bottom: 1px solid #ddd; margin-top: 2em; }
table { border-collapse: collapse; font-size: 13px; display: block; overflow-x: auto; }
td, th { border-bottom: 1px solid #eee; padding: .2em .8em .2em 0; text-align: left; }
figure { display: inline-block; margin: .5em 1em .5em 0; vertical-align: top; }
figcaption, small { color: #666; font-size: 13px; } img, video, svg { max-width: 100%; }
pre { background: #f6f6f6; padding: 1em; overflow-x: auto; font-size: 12px; }
"""

Line = tuple[np.ndarray, np.ndarray]
Charts = dict[str, dict[str, Line]]


def write_report(
    workdir: str | Path, out: str | Path | None = None, evaluation: str | Path | None = None
) -> Path:
    """Draws a run, also one that goes on, as a page of HTML in one file.

    Args:
        workdir: folder of the run.
        out: file to write; report.html in the folder by default.
        evaluation: folder of `flax-talk evaluate --out`; by default the newest in the folder.

    Returns:
        The file.

    Raises:
        UserError: the folder holds no run, that of the evaluation no table, or a place that cannot
            be written.
    """
    workdir = Path(workdir)
    out = Path(out) if out is not None else workdir / REPORT
    if out.suffix.lower() not in (".html", ".htm"):
        raise UserError(f"{out}: a page of HTML is written: let the name end in .html")
    config = json.loads(ckpt.load_config(workdir).to_json())
    history = read_history(workdir / "metrics.jsonl")
    body = [
        _facts(workdir, config, history),
        _samples(workdir / "samples"),
        *(_section(title, charts) for title, charts in group(history).items()),
        _evaluation(_find_evaluation(workdir, evaluation)),
        _details("Config", json.dumps(config, indent=2)),
        _details("Versions", _read(workdir / "versions.json")),
    ]
    name = html.escape(workdir.resolve().name)
    page = (
        f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><title>{name}</title>'
        f"<style>{_STYLE}</style></head>\n<body><h1>{name}</h1>\n"
        + "\n".join(filter(None, body))
        + f"\n<p><small>flax_talk {flax_talk.__version__}</small></p></body></html>\n"
    )
    try:
        write(out.parent, out.name, page)
    except OSError as error:
        raise UserError(f"{out}: cannot be written ({error.strerror}): check the folder") from error
    return out


def read_history(path: Path) -> dict[str, Line]:
    """(steps [N], values [N]) by name, of a run's metrics.jsonl.

    Where a run has gone on from an earlier step, what it logged last counts. A line that is
    not complete yet is left out.
    """
    values: dict[str, dict[int, float]] = {}
    for line in _read(path).splitlines():
        try:
            entry = json.loads(line)
        except ValueError:
            continue
        step = entry.pop("step")
        for name, value in entry.items():
            values.setdefault(name, {})[step] = value
    ordered = {name: sorted(points.items()) for name, points in values.items()}
    return {name: tuple(np.array(points, float).T) for name, points in ordered.items()}


def group(history: Mapping[str, Line]) -> dict[str, Charts]:
    """Lines by section (validation, then each player), chart, and name in the chart.

    A player's weighted terms share a chart, and so do its accuracies; a measure of the
    validation shares it with that of the still frame.
    """
    sections: dict[str, Charts] = {_VALIDATION: {}}
    for name, line in history.items():
        first, _, rest = name.partition("/")
        if first == _VALIDATION:
            chart, label = rest.removeprefix(_STILL), "still" if _STILL in rest else "run"
            sections[_VALIDATION].setdefault(chart, {})[label] = line
            continue
        player, _, term = rest.rpartition("/")
        charts = sections.setdefault(player or first, {})
        if term.endswith(_WEIGHTED):
            charts.setdefault("weighted terms", {})[term.removesuffix(_WEIGHTED)] = line
        elif term.startswith("accuracy_"):
            charts.setdefault("accuracy", {})[term.removeprefix("accuracy_")] = line
        else:
            charts[term] = {"": line}
    return {title: charts for title, charts in sections.items() if charts}


def _facts(workdir: Path, config: Mapping[str, Any], history: Mapping[str, Line]) -> str:
    steps = [int(line[0][-1]) for line in history.values()]
    best = [int(path.name) for path in (workdir / "best").glob("*") if path.name.isdigit()]
    data = config["data"]
    facts = {
        "system": config["system"],
        "data": f"{data.get('dataset', '')}/{data.get('builder_config', '')}",
        "seed": config.get("seed"),
        "steps": max(steps, default="nothing logged yet"),
        "best step": max(best, default="not validated yet"),
    }
    return _table([[_escape(name), _escape(value)] for name, value in facts.items()])


def _samples(folder: Path) -> str:
    videos = sorted(folder.glob("step_*.mp4"))
    if not videos:
        return ""
    chosen = sorted(set(np.linspace(0, len(videos) - 1, SAMPLES).round().astype(int).tolist()))
    shown = [
        f"<figure>{_video(videos[i])}<figcaption>{_escape(_step(videos[i]))}</figcaption></figure>"
        for i in chosen
    ]
    return "<h2>Samples</h2><p>Real clips above, generated ones below.</p>" + "".join(shown)


def _step(path: Path) -> str:
    return f"step {int(path.stem.removeprefix('step_'))}"


def _video(path: Path) -> str:
    return f'<video controls loop src="{_data_uri(path, "video/mp4")}"></video>'


def _section(title: str, charts: Charts) -> str:
    drawn = [figures.to_svg(figures.curves(lines, chart)) for chart, lines in charts.items()]
    shown = "".join(f"<figure>{svg}</figure>" for svg in drawn)
    return f"<h2>{_escape(title.replace('_', ' '))}</h2>{shown}"


def _find_evaluation(workdir: Path, evaluation: str | Path | None) -> Path | None:
    if evaluation is not None:
        if not (Path(evaluation) / TABLE).is_file():
            raise UserError(f"{evaluation} has no {TABLE}: give the --out of flax-talk evaluate")
        return Path(evaluation)
    tables = sorted(workdir.glob(f"*/{TABLE}"), key=lambda path: path.stat().st_mtime)
    return tables[-1].parent if tables else None


def _evaluation(folder: Path | None) -> str:
    if folder is None:
        return ""
    pictures = [
        f'<figure><img alt="{_escape(path.stem)}" src="{_data_uri(path, "image/png")}">'
        f"<figcaption>{_escape(path.stem)}</figcaption></figure>"
        for path in sorted((folder / plots.FOLDER).glob("*.png"))
    ]
    return "<h2>Evaluation</h2>" + _from_markdown(_read(folder / TABLE)) + "".join(pictures)


def _from_markdown(text: str) -> str:
    """Tables and lines of the evaluation's Markdown, as HTML."""
    parts, rows = [], []
    for line in [*text.splitlines(), ""]:
        if line.startswith("|"):
            cells = [_emphasis(cell.strip()) for cell in line.strip("|").split("|")]
            if not all(re.fullmatch("-*", cell) for cell in cells) or not any(cells):
                rows.append(cells)
            continue
        if rows:
            parts.append(_table(rows))
            rows = []
        if line:
            parts.append(f"<p>{_emphasis(line)}</p>")
    return "".join(parts)


def _emphasis(text: str) -> str:
    bold = re.sub(r"\*\*(.+?)\*\*", r"<b>\1</b>", _escape(text))
    return re.sub(r"\*(.+?)\*", r"<i>\1</i>", bold)


def _table(rows: Iterable[Sequence[str]]) -> str:
    lines = ["".join(f"<td>{cell}</td>" for cell in row) for row in rows]
    return "<table>" + "".join(f"<tr>{line}</tr>" for line in lines) + "</table>"


def _details(title: str, text: str) -> str:
    if not text:
        return ""
    return f"<h2>{title}</h2><details><summary>show</summary><pre>{_escape(text)}</pre></details>"


def _data_uri(path: Path, kind: str) -> str:
    return f"data:{kind};base64,{base64.b64encode(path.read_bytes()).decode()}"


def _escape(value: Any) -> str:
    return html.escape(str(value))


def _read(path: Path) -> str:
    return path.read_text() if path.is_file() else ""

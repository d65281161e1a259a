"""Reports of an evaluation: numbers as JSON, tables as Markdown, one line for each clip as CSV.

The table has the system's videos beside the still frame repeated and the real videos; below it are
the rows of the system's papers, marked as what they are: measured on other clips by other judges.
"""

import csv
import io
import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from flax_talk.evaluation import published
from flax_talk.evaluation.measures import COLUMNS, Record, summarise

_ARROWS = {"up": "↑", "down": "↓", "": ""}
_SETS = ("distribution",)  # families that say nothing of one clip


def make(
    facts: Mapping[str, Any],
    columns: Sequence[str],
    left_out: Mapping[str, str],
    rows: Mapping[str, Sequence[Record]],
) -> dict[str, Any]:
    """The report of an evaluation.

    Args:
        facts: what was evaluated.
        columns: names of `flax_talk.evaluation.measures.COLUMNS`.
        left_out: families that were not measured, with the reason.
        rows: records of the clips by row, among them "real".

    Returns:
        The facts and `clips`, their number, `left_out`, and `rows`: each column's value by row, NaN
        where there is nothing to measure.
    """
    table = {row: summarise(columns, records, rows["real"]) for row, records in rows.items()}
    return {**facts, "clips": len(rows["real"]), "left_out": dict(left_out), "rows": table}


def to_json(result: Mapping[str, Any]) -> str:
    """A report as JSON; what is infinite is "inf", what is not a number null."""

    def plain(value):
        if isinstance(value, Mapping):
            return {key: plain(entry) for key, entry in value.items()}
        if isinstance(value, float) and not math.isfinite(value):
            return None if math.isnan(value) else str(value)
        return value

    return json.dumps(plain(result), indent=2, allow_nan=False) + "\n"


def table(result: Mapping[str, Any]) -> str:
    """A report as Markdown: one line for each measure, one column for each row of the report.

    Of a judge's report, one line for each of its measures.
    """
    if "rows" not in result:
        lines = [f"| {_what(result)} | |", "|---|---|"]
        lines += [f"| {name} | {value:.3f} |" for name, value in result["metrics"].items()]
        return "\n".join(lines) + "\n"
    rows = result["rows"]
    names = [name for name in next(iter(rows.values())) if any(_known(rows, name))]
    titles = [_title(result, row) for row in rows]
    lines = [f"| {_what(result)} | {' | '.join(titles)} | |", "|---" * (len(rows) + 2) + "|"]
    for name in names:
        column = COLUMNS[name]
        cells = [_cell(name, values[name]) for values in rows.values()]
        lines.append(f"| {_head(name)} | {' | '.join(cells)} | {column.meaning} |")
    return "\n".join(lines) + "\n" + _beside(result)


def _head(name: str) -> str:
    return f"{name} {_ARROWS[COLUMNS[name].better]}".strip()


def _what(result: Mapping[str, Any]) -> str:
    source = result.get("split") or f"{result['videos']} against {result['references']}"
    return f"{source}, {result['clips']} clips"


def _title(result: Mapping[str, Any], row: str) -> str:
    if row != "generated":
        return row
    return f"{result['system']}, step {result['step']}" if "system" in result else "videos"


def _known(rows: Mapping[str, Mapping[str, float]], name: str) -> list[bool]:
    return [not math.isnan(values.get(name, math.nan)) for values in rows.values()]


def _cell(name: str, value: float | None) -> str:
    if value is None or math.isnan(value):
        return ""
    if 0 < abs(value) < 1e-3:
        return f"{value:.2e}"
    return f"{value:.{COLUMNS[name].decimals}f}"


def _beside(result: Mapping[str, Any]) -> str:
    """The papers' rows below ours, in the columns that they have."""
    theirs = published.rows_beside(result.get("system", ""))
    present = {name for row in theirs for name in row.values}
    names = [name for name in COLUMNS if name in present and name in result["rows"]["real"]]
    if not theirs or not names:
        return ""
    lines = [
        "",
        "Published rows, **not comparable**: other people, other sizes, other judges.",
        "",
        f"| | {' | '.join(names)} |",
        "|---" * (len(names) + 1) + "|",
    ]
    for row, values in result["rows"].items():
        cells = [_cell(name, values[name]) for name in names]
        lines.append(f"| **{_title(result, row)}** | {' | '.join(cells)} |")
    for row in theirs:
        cells = [_cell(name, row.values.get(name)) for name in names]
        lines.append(f"| *{row.paper}, {row.table}: {row.name}* | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def ablation(system: str, results: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """One report of the reports of an ablation's rows.

    Args:
        system: the paper's.
        results: reports of `make` by row, of the same clips.

    Returns:
        `system`, `split`, `clips`, `seed`, `steps` by row, and `rows`: those of the ablation,
        "still" and "real".
    """
    first = next(iter(results.values()))
    rows = {row: result["rows"]["generated"] for row, result in results.items()}
    rows |= {row: first["rows"][row] for row in ("still", "real")}
    shared = {name: first[name] for name in ("data", "split", "clips", "seed")}
    steps = {row: result["step"] for row, result in results.items()}
    return {"system": system, **shared, "steps": steps, "rows": rows}


def ablation_table(result: Mapping[str, Any]) -> str:
    """The report of an ablation as Markdown: the paper's columns, its row below each of ours, and
    what else was measured."""
    rows = result["rows"]
    theirs = {row.name: row for row in published.PUBLISHED if row.paper == result["system"]}
    measured = [name for name in COLUMNS if any(_known(rows, name))]
    papers = [name for name in measured if any(name in row.values for row in theirs.values())]
    lines = [f"| {_what(result)} | {' | '.join(map(_head, papers))} |"]
    lines.append("|---" * (len(papers) + 1) + "|")
    for row, values in rows.items():
        lines.append(f"| **{row}** | {' | '.join(_cell(n, values[n]) for n in papers)} |")
        if row in theirs:
            cells = [_cell(name, theirs[row].values.get(name)) for name in papers]
            lines.append(f"| *{row}, published* | {' | '.join(cells)} |")
    lines += [
        "",
        "Published rows, **not comparable**: other people, other sizes, other judges.",
        "",
    ]
    others = [name for name in measured if name not in papers]
    lines += [f"| | {' | '.join(map(_head, others))} |", "|---" * (len(others) + 1) + "|"]
    for row, values in rows.items():
        lines.append(f"| **{row}** | {' | '.join(_cell(n, values[n]) for n in others)} |")
    return "\n".join(lines) + "\n"


def by_clip(
    columns: Sequence[str], ids: Sequence[str], rows: Mapping[str, Sequence[Record]]
) -> str:
    """The measures of each clip as CSV: clip, row, and a column for each that one clip has."""
    names = [name for name in columns if COLUMNS[name].family not in _SETS]
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(["clip", "row", *names])
    for row, records in rows.items():
        for clip, record, real in zip(ids, records, rows["real"], strict=True):
            values = summarise(names, [record], [real]).values()
            writer.writerow([clip, row, *("" if math.isnan(v) else f"{v:.6g}" for v in values)])
    return buffer.getvalue()


def effort(result: Mapping[str, Any]) -> str:
    """What an evaluation cost and what it left out, a line each."""
    cost, lines = result.get("cost", {}), []
    if cost:
        parts = ", ".join(f"{name} {value:.2f}" for name, value in cost.items())
        seconds = result["measured_seconds"]
        lines.append(
            f"{seconds:.1f} s of video at {sum(cost.values()):.2f} s for each second: {parts}"
        )
    lines += [f"left out {name}: {reason}" for name, reason in result.get("left_out", {}).items()]
    lines += [f"not measured {name}: {why}" for name, why in result.get("failures", {}).items()]
    return "\n".join(lines)


def write_all(
    out: Path, result: Mapping[str, Any], ids: Sequence[str], rows: Mapping[str, Sequence[Record]]
) -> None:
    """Writes `metrics.json`, `table.md` and `clips.csv` into a folder."""
    columns = list(result["rows"]["real"])
    write(out, "metrics.json", to_json(result))
    write(out, "table.md", table(result))
    write(out, "clips.csv", by_clip(columns, ids, rows))


def write(folder: Path, name: str, text: str) -> None:
    """Writes a file that appears complete or not at all; its folder is created."""
    folder.mkdir(parents=True, exist_ok=True)
    partial = folder / f".{name}.partial"
    partial.write_text(text)
    partial.replace(folder / name)

"""Ablations: a paper's table made again, one run and one evaluation for each of its rows.

All rows have the same data, the same seed and as many steps, and are measured at their last one:
the best by a measure of reconstruction would be an early one where there are discriminators. The
still frame and the real videos are measured once. Every run resumes, every evaluation goes on, and
so does the whole.
"""

import importlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ml_collections import ConfigDict

from configs.ablations import ABLATIONS
from flax_talk.errors import UserError
from flax_talk.evaluation import report
from flax_talk.evaluation.evaluate import evaluate
from flax_talk.evaluation.measures import SHIPPED_JUDGES, Judges
from flax_talk.training.loop import train_and_evaluate

_NEVER = 10**9  # epochs


def ablate(
    system: str,
    dataset: str,
    workdir: str | Path,
    variant: str = "small",
    rows: Sequence[str] = (),
    overrides: Mapping[str, Any] | None = None,
    split: str = "test",
    metrics: Sequence[str] = (),
    judges: Judges = SHIPPED_JUDGES,
    limit: int = 0,
) -> dict[str, Any]:
    """Trains and measures each row of a system's ablation.

    Args:
        system: name of a system in `configs/ablations.py`.
        dataset: such that `configs/SYSTEM_DATASET.py` is a config file.
        workdir: folder with a run for each row, and the table.
        variant: of the config file.
        rows: of the ablation; all by default.
        overrides: fields of the config and their values, such as {"train.max_steps": 100}.
        split, metrics, judges, limit: of `flax_talk.evaluation.evaluate.evaluate`.

    Returns:
        The report of `report.ablation`.

    Raises:
        UserError: no such ablation, row, config or field, or what training and evaluation raise; or
            training was told to end, and the same call goes on.
    """
    changes = ABLATIONS.get(system)
    if changes is None:
        raise UserError(f"no ablation of {system!r}: choose from {', '.join(ABLATIONS)}")
    if unknown := [row for row in rows if row not in changes]:
        raise UserError(
            f"no row {', '.join(unknown)} of {system}: choose from {', '.join(changes)}"
        )
    workdir, results = Path(workdir), {}
    for row in rows or changes:
        config = _config(system, dataset, variant)
        # Before the row's own changes, which say what it is.
        _override(config, overrides or {})
        config.update(changes[row])
        config.train.validate_every = _NEVER
        config.early_stopping.patience = 0
        print(f"{workdir / row}: {system}, {row}")
        scores = train_and_evaluate(config, workdir / row)
        if not scores["finished"]:
            raise UserError(f"{workdir / row} was told to end: the same command goes on")
        results[row] = evaluate(
            workdir / row,
            split=split,
            out=workdir / row / "evaluation",
            metrics=metrics,
            judges=judges,
            limit=limit,
            baselines=workdir / "baselines",
        )
    result = report.ablation(system, results)
    report.write(workdir, "metrics.json", report.to_json(result))
    report.write(workdir, "table.md", report.ablation_table(result))
    return result


def _override(config: ConfigDict, overrides: Mapping[str, Any]) -> None:
    for name, value in overrides.items():
        *path, field = name.split(".")
        entry: Any = config
        for part in path:
            entry = entry.get(part) if isinstance(entry, ConfigDict) else None
        if not isinstance(entry, ConfigDict) or field not in entry:
            raise UserError(f"the config has no field {name}")
        try:
            entry[field] = tuple(value) if isinstance(value, list) else value
        except TypeError as error:
            raise UserError(f"{name} cannot be {value!r}: {error}") from error


def _config(system: str, dataset: str, variant: str) -> ConfigDict:
    name = f"{system}_{dataset}"
    try:
        module = importlib.import_module(f"configs.{name}")
    except ModuleNotFoundError:
        raise UserError(f"no config file configs/{name}.py: give another --dataset") from None
    return module.get_config(variant)

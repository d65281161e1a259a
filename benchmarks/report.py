"""What the benchmarks of speed share: the machine they ran on, fair timings, tables and files.

Times on a machine that does other things are not to be compared from one run to another:
`alternate` runs what is compared in turns, and what is reported is a ratio of their best turns.
"""

import contextlib
import importlib.metadata
import json
import os
import platform
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

PACKAGES = ("flax-talk", "jax", "jaxlib", "flax", "numpy", "torch")


def use_cores(count: int) -> None:
    """Keeps this process to so many cores, where the system can; only before jax is imported."""
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:count])


def machine() -> dict[str, Any]:
    """Processor, cores that may be used, the devices that jax sees, and versions."""
    import jax

    versions = {"python": platform.python_version()}
    for name in PACKAGES:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            versions[name] = importlib.metadata.version(name)
    available = getattr(os, "sched_getaffinity", lambda _: range(os.cpu_count()))
    return {
        "processor": _processor(),
        "cores": len(available(0)),
        "devices": [f"{device.platform}: {device.device_kind}" for device in jax.devices()],
        "versions": versions,
    }


def _processor() -> str:
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def alternate(functions: dict[str, Callable[[], Any]], rounds: int) -> dict[str, list[float]]:
    """Seconds of each round of each function, all in turns, after one round that is not counted.

    Args:
        functions: by name; results of jax are waited for.
        rounds: at least 1.
    """
    import jax

    seconds: dict[str, list[float]] = {name: [] for name in functions}
    for _ in range(rounds + 1):
        for name, function in functions.items():
            start = time.perf_counter()
            jax.block_until_ready(function())
            seconds[name].append(time.perf_counter() - start)
    return {name: values[1:] for name, values in seconds.items()}


def print_table(rows: Sequence[dict[str, Any]], columns: Sequence[str]) -> None:
    """Prints rows as Markdown; floats with three significant digits, "" where a row has none."""

    def cell(value):
        return f"{value:.3g}" if isinstance(value, float) else str(value)

    print(f"| {' | '.join(columns)} |\n|{'---|' * len(columns)}")
    for row in rows:
        print(f"| {' | '.join(cell(row.get(name, '')) for name in columns)} |", flush=True)


def write(path: str | Path | None, name: str, rows: Sequence[dict[str, Any]]) -> None:
    """Prints the machine, and keeps machine and rows as JSON where a path is given."""
    here = machine()
    versions = ", ".join(f"{package} {version}" for package, version in here["versions"].items())
    print(f"\n{here['processor']}, {here['cores']} cores; {', '.join(here['devices'])}; {versions}")
    if path is not None:
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        entry = {"benchmark": name, "machine": here, "rows": list(rows)}
        Path(path).write_text(json.dumps(entry, indent=2) + "\n")

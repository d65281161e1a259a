"""How soon each command answers: python benchmarks/startup.py

Seconds of `--help`, and until a command that was called for a file that is not there says so, which
is when all that it imports is there: the best of some rounds, all commands in turns, beside a
Python that does nothing. Then what takes longest to import.
"""

import argparse
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import report

NOWHERE = {
    "prepare": ("grid", "--source", "nowhere"),
    "inspect": ("nowhere",),
    "label": ("nowhere", "--openface", "nowhere"),
    "animate": ("--still", "no.png", "--audio", "no.wav", "--out", "no.mp4"),
    "fit": ("--video", "no.mp4", "--out", "no.npz"),
    **{
        name: ("--video", "no.mp4", "--audio", "no.wav", "--out", "o.mp4", "--renderer", "nowhere")
        for name in ("dub", "finish")
    },
    **{
        name: ("--video", "no.mp4", "--audio", "no.wav", "--keep", "k", "--renderer", "nowhere")
        for name in ("translate", "retime", "render")
    },
    "evaluate": ("--checkpoint", "nowhere"),
    "ablate": ("--system", "none", "--dataset", "none", "--workdir", "w"),
    "export": ("--checkpoint", "nowhere", "--out", "exported"),
    "import": ("temporal_gan_2019", "no.dat", "--out", "published"),
    "info": ("--checkpoint", "nowhere"),
}
"""Words of each command that end it as soon as it looks for a file."""


def main() -> None:
    """Prints a row for each command, and the slowest imports of one."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=3, help="of all commands, in turns")
    parser.add_argument("--imports", default="flax_talk.animate", help="module that is taken apart")
    parser.add_argument("--out", help="JSON file")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        calls = {"python -c pass": lambda: run(folder, "-c", "pass")}
        cli = ("-m", "flax_talk.cli")
        calls["--help"] = lambda: run(folder, *cli, "--help")
        for name, words in NOWHERE.items():
            calls[f"{name} --help"] = lambda name=name: run(folder, *cli, name, "--help")
            calls[name] = lambda name=name, words=words: run(folder, *cli, name, *words)
        best = {name: min(times) for name, times in report.alternate(calls, args.rounds).items()}
    rows = [{"command": name, "help s": best[name]} for name in ("python -c pass", "--help")]
    rows += [
        {"command": name, "help s": best[f"{name} --help"], "imported s": best[name]}
        for name in NOWHERE
    ]
    report.print_table(rows, ("command", "help s", "imported s"))
    slow = imports(args.imports)
    print()
    report.print_table(slow, ("import", "s, with what it imports", "s, by itself"))
    print(f"\nload of the machine: {os.getloadavg()[0]:.1f} processes")
    report.write(args.out, "startup", rows + slow)


def run(folder: str, *words: str) -> None:
    """A Python that ends well, or with a mistake of its user."""
    here = str(Path(__file__).resolve().parents[1])
    env = {**os.environ, "PYTHONPATH": here}
    done = subprocess.run([sys.executable, *words], cwd=folder, env=env, capture_output=True)
    assert done.returncode in (0, 2), done.stderr.decode()


def imports(module: str, count: int = 12) -> list[dict[str, object]]:
    """The packages that take longest to import, by -X importtime."""
    command = [sys.executable, "-X", "importtime", "-c", f"import {module}"]
    text = subprocess.run(command, capture_output=True, text=True, check=True).stderr
    whole: dict[str, float] = {}
    own: dict[str, float] = {}
    for line in text.splitlines():
        if line.startswith("import time:") and "|" in line and "imported" not in line:
            alone, together, name = line.removeprefix("import time:").split("|")
            top = name.strip().partition(".")[0]
            own[top] = own.get(top, 0) + float(alone) / 1e6
            whole[name.strip()] = float(together) / 1e6
    order = sorted(own, key=own.get, reverse=True)[:count]
    return [
        {"import": name, "s, with what it imports": whole.get(name, ""), "s, by itself": own[name]}
        for name in order
    ]


if __name__ == "__main__":
    main()

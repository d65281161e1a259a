"""What the machine can do is tried, and what is missing says what to install."""

import json
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from flax_talk import cli, doctor
from flax_talk.errors import UserError
from input_pipeline import faces


def test_a_line_for_each_thing_and_the_same_as_json(capsys):
    assert cli.main(["doctor"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert cli.main(["doctor", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert len(lines) == len(told["findings"]) > 10
    for line, finding in zip(lines, told["findings"], strict=True):
        assert line.startswith("ok " if finding["ok"] else "-- ") and finding["name"] in line
        assert finding["ok"] != bool(finding["advice"])
    assert told["devices"] and told["packages"]["jax"]
    names = {finding["name"]: finding for finding in told["findings"]}
    assert "temporal_gan_2019" in names["weights"]["found"]
    assert "H.264" in names["writes media"]["found"] and names["writes media"]["ok"]


def test_what_is_missing_says_what_to_install(monkeypatch):
    def missing():
        raise UserError("none is installed: pip install eyes")

    monkeypatch.setitem(faces.DETECTORS, "eyes", missing)
    monkeypatch.setitem(doctor.EXTRAS, "wings", ("no_such_module", "flies"))
    monkeypatch.setitem(doctor.DECODERS, "Telepathy", "no_such_codec")
    monkeypatch.setattr(doctor, "_FREE_DISK", 2**80)
    findings = {finding.name: finding for finding in doctor.examine()}
    assert findings["detector eyes"][1:] == (False, "none is installed", "pip install eyes")
    assert findings["extra wings"].advice == "pip install 'flax-talk[wings]'"
    assert "Telepathy" in findings["reads media"].advice
    assert not findings["disk"].ok and "make room" in findings["disk"].advice
    assert "Telepathy" not in findings["reads media"].found


def test_extras_are_those_of_the_package():
    project = tomllib.loads((Path(__file__).parents[1] / "pyproject.toml").read_text())["project"]
    offered = set(project["optional-dependencies"]) - {"test", "bench", "browser", "dlib", "speech"}
    assert set(doctor.EXTRAS) == offered


def test_a_shell_completes_commands_and_flags(tmp_path, capsys):
    pytest.importorskip("shtab")
    assert cli.main(["completion", "bash"]) == 0
    script = tmp_path / "completion.bash"
    script.write_text(capsys.readouterr().out)
    for words, expected in ((["an"], "animate"), (["animate", "--sti"], "--still")):
        listed = " ".join(["flax-talk", *words])
        command = (
            f"source {script}; COMP_WORDS=({listed}); COMP_CWORD={len(words)}; "
            "complete -p flax-talk > /dev/null; "
            "$(complete -p flax-talk | sed 's/.*-F \\([^ ]*\\).*/\\1/') flax-talk; "
            'echo "${COMPREPLY[@]}"'
        )
        assert subprocess.check_output(["bash", "-c", command], text=True).split() == [expected]
    assert cli.main(["completion", "zsh"]) == 0
    assert capsys.readouterr().out.startswith("#compdef flax-talk")


def test_completion_without_shtab_is_one_line(monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "shtab", None)
    assert cli.main(["completion", "bash"]) == 2
    assert "pip install 'flax-talk[completion]'" in capsys.readouterr().err

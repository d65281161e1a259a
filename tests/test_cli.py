"""The command line: help with examples, JSON, and mistakes that end in one line."""

import argparse
import json
import subprocess
import sys
import time
import wave

import cv2
import numpy as np
import pytest

from flax_talk import cli

(COMMANDS,) = (
    tuple(action.choices)
    for action in cli.make_parser()._actions
    if isinstance(action, argparse._SubParsersAction)
)


@pytest.fixture
def files(tiny_run, tmp_path):
    """Arguments of a working `animate`, by flag."""
    grey = np.full((128, 96, 3), 128, np.uint8)
    cv2.imwrite(str(tmp_path / "grey.png"), grey)
    with wave.open(str(tmp_path / "speech.wav"), "wb") as sound:
        sound.setparams((1, 2, 16_000, 0, "NONE", ""))
        sound.writeframes(bytes(2 * 7_680))
    return {
        "--still": tmp_path / "grey.png",
        "--audio": tmp_path / "speech.wav",
        "--checkpoint": tiny_run,
        "--out": tmp_path / "result" / "out.mp4",
        "--detector": "none",
    }


def run_animate(files, *more):
    return cli.main(["animate", *(str(word) for pair in files.items() for word in pair), *more])


def one_line(capsys) -> str:
    """The single line of an error."""
    captured = capsys.readouterr()
    lines = captured.err.splitlines()
    assert captured.out == "" and len(lines) == 1, captured
    assert lines[0].startswith("flax-talk: ")
    return lines[0]


@pytest.mark.parametrize("command", COMMANDS)
def test_help_has_an_example_that_parses(command, capsys):
    assert {"animate", "dub", "app", "report", "doctor"} <= set(COMMANDS)
    with pytest.raises(SystemExit) as stop:
        cli.main([command, "--help"])
    assert stop.value.code == 0
    examples = capsys.readouterr().out.split("example:\n")[1].strip()
    for example in examples.splitlines():
        program, *words = example.split()
        assert program == "flax-talk"
        assert cli.make_parser().parse_args(words).run


def test_help_loads_nothing_heavy():
    heavy = ("jax", "numpy", "flax", "av", "cv2", "scipy", "tqdm", "PIL", "tensorflow_datasets")
    script = (
        "import sys; from flax_talk import cli\n"
        "try: cli.main(['--help'])\n"
        f"except SystemExit: print(sorted({{*{heavy}}} & set(sys.modules)))"
    )
    start = time.perf_counter()
    output = subprocess.check_output([sys.executable, "-c", script], text=True)
    assert output.splitlines()[-1] == "[]"
    assert time.perf_counter() - start < 5  # 0.1 s on an idle machine


def test_animate_tells_what_it_wrote(files, capsys):
    assert run_animate(files) == 0
    assert "12 frames, 0.48 s, checkpoint of step 3" in capsys.readouterr().out
    assert run_animate(files, "--json", "--seed", "5") == 0
    told = json.loads(capsys.readouterr().out)
    assert told == {"path": str(files["--out"]), "frames": 12, "fps": 25.0, "step": 3}


def test_animate_hears_standard_input(files):
    words = [str(word) for pair in files.items() for word in pair]
    words[words.index("--audio") + 1] = "-"
    command = [sys.executable, "-m", "flax_talk.cli", "animate", *words, "--json"]
    with files["--audio"].open("rb") as sound:
        told = subprocess.check_output(command, stdin=sound)
    assert json.loads(told)["frames"] == 12


def test_export_as_json(tiny_run, capsys, tmp_path):
    words = ["export", "--checkpoint", str(tiny_run), "--out", str(tmp_path / "out"), "--json"]
    assert cli.main(words) == 0
    written = json.loads(capsys.readouterr().out)
    assert written["path"] == str(tmp_path / "out" / "variables.npz")
    assert written["bytes"] == (tmp_path / "out" / "variables.npz").stat().st_size


def test_info_as_json(tiny_run, capsys):
    assert cli.main(["info", "--checkpoint", str(tiny_run), "--json"]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert facts["packages"]["jax"] and facts["devices"] and "dlib" in facts["detectors"]
    assert (facts["system"], facts["step"]) == ("temporal_gan_2019", 3)
    assert facts["data"]["image_size"] == [128, 96]
    assert set(facts["parameters"]) == {
        "generator",
        "frame_discriminator",
        "sync_discriminator",
        "sequence_discriminator",
    }
    assert all(count > 0 for count in facts["parameters"].values())


def test_info_for_people(capsys):
    assert cli.main(["info"]) == 0
    assert capsys.readouterr().out.startswith("flax-talk ")


@pytest.mark.parametrize(
    ("flag", "value", "says"),
    [
        ("--still", "nowhere.png", "nowhere.png: no such file"),
        ("--audio", "nowhere.wav", "nowhere.wav: no such file"),
        ("--audio", "{grey}", "cannot be read as video or audio"),
        ("--checkpoint", "nowhere", "no checkpoint in nowhere"),
        ("--checkpoint", "{folder}", "no checkpoint in"),
        ("--detector", "hog", "unknown face detector 'hog'"),
        ("--out", "out.avi", "only mp4"),
        ("--out", "{grey}/out.mp4", "cannot be written"),
    ],
)
def test_a_mistake_of_the_user_is_one_line(files, flag, value, says, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    value = value.format(grey=files["--still"], folder=tmp_path)
    before = sorted(tmp_path.rglob("*"))
    assert run_animate(files | {flag: value}) == 2
    assert says in one_line(capsys)
    assert sorted(tmp_path.rglob("*")) == before


def test_never_writes_over_its_input(files, capsys, tmp_path):
    clip = files["--audio"].rename(tmp_path / "speech.mp4")
    before = clip.read_bytes()
    assert run_animate(files | {"--audio": clip, "--out": clip}) == 2
    assert "overwrite its own input" in one_line(capsys)
    assert clip.read_bytes() == before


def test_no_face_is_one_line(files, capsys, tmp_path):
    pytest.importorskip("dlib")
    assert run_animate(files | {"--detector": "dlib"}) == 2
    assert "no face found in" in one_line(capsys)
    assert not files["--out"].parent.exists()


def test_a_run_without_a_checkpoint_yet(files, tiny_run, capsys, tmp_path):
    (tmp_path / "begun").mkdir()
    (tmp_path / "begun" / "config.json").write_bytes((tiny_run / "config.json").read_bytes())
    assert run_animate(files | {"--checkpoint": tmp_path / "begun"}) == 2
    assert "has not saved one yet" in one_line(capsys)


@pytest.mark.parametrize(
    "words",
    [
        [],
        ["dance"],
        ["info", "--verbose"],
        ["animate", "--still", "a.png"],
        ["animate", "--batch", "pairs.csv"],
        ["animate", "--batch", "pairs.csv", "--out-dir", "out"],
        ["animate", "--batch", "pairs.csv", "--out-dir", "out", "--text", "hello"],
        ["dub", "--video", "a.mp4", "--audio", "a.wav"],
        ["dub", "--batch", "pairs.csv", "--out-dir", "out", "--keep", "kept"],
        ["prepare", "grid", "--source", "nowhere", "--jobs", "0"],
        ["prepare", "grid", "--source", "nowhere", "--jobs", "many"],
        ["prepare", "grid", "--source", "nowhere"],
        ["prepare", "grid"],
        ["inspect", "nowhere"],
        ["report", "--workdir", "nowhere"],
        ["completion", "fish"],
        ["label", "nowhere", "--openface", "."],
        ["export", "--checkpoint", "nowhere", "--out", "exported"],
        ["export", "--checkpoint", "nowhere", "--out", "exported.dat", "--format", "torch"],
        ["import", "temporal_gan_2019", "nowhere.dat", "--out", "published"],
        ["import", "static_gan", "grid.dat", "--out", "published"],
        ["prepare", "grid:huge", "--source", "nowhere"],
        ["prepare", "nothing", "--source", "nowhere", "--json"],
    ],
)
def test_a_mistake_on_the_command_line_is_one_line(words, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert cli.main(words) == 2
    one_line(capsys)
    assert not list(tmp_path.iterdir())


def test_prepare_as_json(real_media, tmp_path, capsys):
    pytest.importorskip("dlib")
    source = tmp_path / "grid" / "s26"
    source.mkdir(parents=True)
    clip = next((real_media / "grid" / "s26").glob("*.mpg"))
    (source / clip.name).write_bytes(clip.read_bytes())
    words = ["prepare", "grid", "--source", str(source.parent), "--data-dir", str(tmp_path / "d")]
    assert cli.main([*words, "--jobs", "1", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert (told["used"], told["failures"]) == (1, [])


def test_interruption_is_one_line(monkeypatch, capsys):
    def interrupt(args):
        raise KeyboardInterrupt

    monkeypatch.setattr(cli, "_info", interrupt)
    assert cli.main(["info"]) == 130
    assert one_line(capsys) == "flax-talk: interrupted"


def test_a_bug_keeps_its_traceback(monkeypatch):
    def fail(args):
        raise ZeroDivisionError

    monkeypatch.setattr(cli, "_info", fail)
    with pytest.raises(ZeroDivisionError):
        cli.main(["info"])


def test_nothing_but_the_line_reaches_stderr(tmp_path):
    words = ["animate", "--still", "a", "--audio", "b", "--checkpoint", "c", "--out", "d.mp4"]
    done = subprocess.run(
        [sys.executable, "-m", "flax_talk.cli", *words], capture_output=True, text=True, check=False
    )
    assert done.returncode == 2
    assert done.stdout == "" and len(done.stderr.splitlines()) == 1

"""Action units beside a prepared data set: written, counted, read by the loader."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from flax_talk import cli
from flax_talk.errors import UserError
from input_pipeline import blendshapes, label, loader, unit_files
from input_pipeline.inspect import inspect
from input_pipeline.unit_files import UnitFile

FRAMES = 20
PRESENT = {25: 2.5, 26: 0.3}  # intensities by OpenFace, the lower one less than its state says


@pytest.fixture
def data_dir(drawn_data, tmp_path) -> Path:
    """A copy of the drawn data set of the test's own: 11 clips."""
    return Path(shutil.copytree(drawn_data, tmp_path / "data"))


@pytest.fixture
def labelled(data_dir, tmp_path) -> tuple[str, Path]:
    """Arguments for `label`: the data set, and OpenFace's files of all clips but s2_clip1."""
    units = (10, 14, 20, 25, 26)
    header = ["frame", "success", *(f"AU{unit}_{kind}" for kind in "cr" for unit in units)]
    row = [*(int(unit in PRESENT) for unit in units), *(PRESENT.get(unit, 0) for unit in units)]
    rows = [header, *([n + 1, 1, *row] for n in range(FRAMES))]
    folder = tmp_path / "openface"
    folder.mkdir()
    for speaker, count in (("s1", 8), ("s2", 3)):
        for i in range(count):
            text = "\n".join(", ".join(map(str, cells)) for cells in rows)
            (folder / f"{speaker}_clip{i}.csv").write_text(text)
    (folder / "s2_clip1.csv").unlink()
    return str(data_dir / "grid" / "drawn"), folder


def test_openface_files_become_labels(labelled, capsys):
    data_set, openface = labelled
    words = ["label", data_set, "--openface", str(openface), "--jobs", "1"]
    assert cli.main([*words, "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert (told["clips"], told["done"], told["source"]) == (10, 10, "openface")
    [failed] = told["failures"]
    assert failed["id"] == "s2_clip1" and "s2_clip1.csv" in failed["reason"]
    rates = {"AU10": 0, "AU14": 0, "AU20": 0, "AU25": 1, "AU26": 1}
    assert told["rates"] == {"s1": rates, "s2": rates, "all": rates}
    assert "s2_clip1" in Path(told["path"], "report.csv").read_text()

    version = Path(told["path"]).parent
    found = unit_files.read(version, "s1_clip3")
    expected = np.tile(np.float32([0, 0, 0, 0.5, 0.2]), (FRAMES, 1))
    np.testing.assert_array_equal(found.action_units, expected)
    assert inspect(data_set).labels["action_units, openface"] == {
        "clips": pytest.approx(10 / 11),
        **rates,
    }

    # Again: what is there is left alone, but for damaged files and those of another source.
    folder = version / unit_files.FOLDER
    (folder / "s1_clip0.npz").write_bytes(b"half a file")
    unit_files.write(version, "s1_clip1", UnitFile(expected, "somebody else"))
    untouched = (folder / "s1_clip2.npz").stat().st_mtime_ns
    shutil.copy(openface / "s2_clip0.csv", openface / "s2_clip1.csv")
    assert cli.main([*words, "--threshold", "0.5"]) == 0
    told = capsys.readouterr().out
    assert "11 clips by openface, 3 of them new, 0 failed" in told
    assert "s1: AU10 0.0000, AU14 0.0000, AU20 0.0000, AU25 1.0000, AU26 0.0000" in told
    assert (folder / "s1_clip2.npz").stat().st_mtime_ns == untouched
    assert not list(folder.glob("*.part"))


def test_the_loader_reads_them(data_dir, make_tiny):
    config = make_tiny().data
    config.update(dict(data_dir=str(data_dir), builder_config="drawn", features=("action_units",)))
    config.update(dict(splits={"train": "s1", "test": "s2"}, num_frames=5, eval_frames=FRAMES))
    config.update(dict(mirror=False, batch_size=1, num_workers=0))
    source = loader.open_source(config, "test")
    with pytest.raises(UserError, match="clip s2_clip. has no action units: run flax-talk label"):
        source[0]
    [version] = (data_dir / "grid" / "drawn").glob("1.*")
    units = np.arange(FRAMES)[:, None] / 100 + np.arange(5, dtype=np.float32)[None] / 10
    for i in range(3):
        unit_files.write(version, f"s2_clip{i}", UnitFile(units + i, "somebody"))
    numbers = [int(source[i]["id"].decode()[-1]) for i in range(len(source))]
    assert sorted(numbers) == [0, 1, 2]
    batches = iter(loader.make_loader(source, config, train=False, seed=0))
    for number, batch in zip(numbers, batches, strict=True):
        np.testing.assert_allclose(batch["action_units"][0], units + number, rtol=1e-6)
    unit_files.write(version, "s2_clip0", UnitFile(units[:-1], "somebody"))
    with pytest.raises(UserError, match="has 20 frames, but action units of 19"):
        source[numbers.index(0)]


def test_the_proxy_says_that_it_is_one(data_dir, monkeypatch):
    """And a clip without a face ends nothing."""

    def find(frames):
        find.clips += 1
        if find.clips == 2:
            raise ValueError("no face\nat all")
        return np.full((len(frames), 5), 0.3, np.float32)

    find.clips = 0
    monkeypatch.setattr(blendshapes, "get_labeller", lambda path: find)
    done = label.label(data_dir / "grid" / "drawn", model="face.task")
    assert (done.clips, done.done) == (10, 10)
    assert [reason for _, reason in done.failures] == ["ValueError: no face at all"]
    assert "proxy" in done.source and "proxy" in str(done)
    clip = next(path for path in done.path.glob("*.npz"))
    assert "proxy" in unit_files.read(done.path.parent, clip.stem).source


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ([], "give either --model"),
        (["--model", "a", "--openface", "b"], "give either --model"),
        (["--openface", "nowhere"], "nowhere is not a folder"),
        (["--openface", ".", "--threshold", "high"], "--threshold"),
    ],
)
def test_a_mistake_is_one_line(options, message, drawn_data, capsys):
    assert cli.main(["label", f"{drawn_data}/grid/drawn", *options]) == 2
    captured = capsys.readouterr()
    assert message in captured.err and len(captured.err.splitlines()) == 1

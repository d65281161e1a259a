"""A tiny ablation, trained, measured, stopped and gone on with."""

import json

import pytest

from flax_talk import ablation, cli
from flax_talk.errors import UserError

SETTINGS = {
    "data.dataset": "grid",
    "data.builder_config": "drawn",
    "data.prepare": False,
    "data.splits.train": "s1",
    "data.splits.validation": "s2",
    "data.splits.test": "s2",
    "data.image_size": [64, 32],
    "data.window_seconds": 0.05,
    "data.eval_frames": 15,
    "data.batch_size": 4,
    "train.max_steps": 2,
}


@pytest.fixture
def words(drawn_data, tmp_path):
    """The command line of an ablation of two rows on drawn clips."""
    words = ["ablate", "--system", "temporal_gan_2018", "--dataset", "synthetic_grid"]
    words += ["--workdir", str(tmp_path / "runs"), "--variant", "tiny"]
    words += ["--rows", "l1,static", "--metrics", "psnr,fdbm,l1_lower"]
    settings = {**SETTINGS, "data.data_dir": drawn_data}
    return words + [
        word for key, value in settings.items() for word in ("--set", f"{key}={json.dumps(value)}")
    ]


@pytest.mark.soak
def test_rows_are_trained_and_measured_beside_the_published_ones(words, tmp_path, capsys):
    assert cli.main([*words, "--json"]) == 0
    captured = capsys.readouterr()
    result = json.loads(captured.out)
    assert list(result["rows"]) == ["l1", "static", "still", "real"]
    assert result["steps"] == {"l1": 2, "static": 2} and result["clips"] == 3
    assert result["rows"]["l1"]["psnr"] != result["rows"]["static"]["psnr"]
    assert result["rows"]["real"]["psnr"] == "inf"
    # The baselines are measured once for all rows.
    folders = {path.name for path in (tmp_path / "runs" / "baselines").iterdir()}
    assert folders == {"still", "real"}
    assert not (tmp_path / "runs" / "static" / "evaluation" / "records" / "real").exists()
    config = json.loads((tmp_path / "runs" / "static" / "config.json").read_text())
    assert config["system"] == "static_gan" and config["generator"]["content_layers"] == 0

    # Again: nothing is trained and nothing measured, and the table is the same.
    before = (tmp_path / "runs" / "table.md").read_text()
    assert cli.main(words) == 0
    table = capsys.readouterr().out
    assert table.endswith(before) and (tmp_path / "runs" / "table.md").read_text() == before
    assert "| **l1** |" in table and "| *l1, published* | 28.470 |" in table
    assert "| *static, published* | 27.390 |" in table and "not comparable" in table


def test_a_run_that_is_told_to_end_ends_the_ablation(words, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(ablation, "train_and_evaluate", lambda config, workdir: {"finished": False})
    assert cli.main(words) == 2
    assert "told to end: the same command goes on" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"system": "nobody"}, "no ablation of 'nobody'"),
        ({"rows": ["l2"]}, "no row l2 of temporal_gan_2018"),
        ({"dataset": "moon"}, "no config file configs/temporal_gan_2018_moon.py"),
        ({"overrides": {"train.max_stepz": 3}}, "no field train.max_stepz"),
        ({"overrides": {"train.max_steps": "few"}}, "train.max_steps cannot be 'few'"),
    ],
)
def test_mistakes(tmp_path, changes, message):
    given = dict(system="temporal_gan_2018", dataset="synthetic_grid", workdir=tmp_path)
    with pytest.raises(UserError, match=message):
        ablation.ablate(**{**given, **changes})
    assert not list(tmp_path.iterdir())

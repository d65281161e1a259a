"""Reports of runs and of folders of videos: what they say, resumed, and what they refuse."""

import csv
import json
import math
import shutil
import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from flax_talk import cli
from flax_talk.errors import UserError
from flax_talk.evaluation import evaluate as module
from flax_talk.evaluation import measures
from flax_talk.evaluation.evaluate import compare, evaluate
from flax_talk.training.checkpoints import save_config
from input_pipeline import media
from input_pipeline.loader import open_source

METRICS = ("reconstruction", "fdbm")


def generate(config, variables, still, audio, rng, carry=None):
    """The still repeated, lighter by `variables["light"]` and a little at random."""
    still = still.astype(jnp.float32) / 127.5 - 1
    shape = (len(still), config.data.eval_frames, *still.shape[1:])
    noise = 0.05 * jax.vmap(jax.random.uniform)(rng)[:, None, None, None, None]
    return jnp.broadcast_to(still[:, None] + variables["light"] + noise, shape), carry


@pytest.fixture
def run(drawn_data, make_tiny, tmp_path, monkeypatch):
    """A run whose generator needs no training."""
    config = make_tiny()
    splits = dict(train="s1", validation="s2", test="s2")
    config.data.update(dict(data_dir=drawn_data, builder_config="drawn", splits=splits))
    # Clips of 20 frames are cut to 15; batches of four have padding.
    config.data.update(dict(batch_size=4, eval_frames=15))
    save_config(config, tmp_path / "run")
    monkeypatch.setattr(module, "get_system", lambda name: types.SimpleNamespace(generate=generate))
    variables = {"light": np.float32(0.1)}
    monkeypatch.setattr(module, "load_variables", lambda workdir: (variables, 7))
    return tmp_path / "run"


@pytest.mark.soak
def test_rows_are_the_system_the_still_and_the_real_videos(run, tmp_path):
    result = evaluate(run, split="s1[:5]+s2", out=tmp_path / "out", metrics=METRICS)
    assert (result["system"], result["step"], result["clips"]) == ("temporal_gan_2019", 7, 8)
    assert result["split"] == "s1[:5]+s2" and result["left_out"] == {}
    generated, still, real = (result["rows"][row] for row in ("generated", "still", "real"))
    assert real["psnr"] == real["psnr_frame"] == math.inf
    assert [real["ssim"], real["ssim_uniform"]] == pytest.approx([1, 1], abs=1e-5)
    assert generated["psnr"] < still["psnr"] < math.inf
    assert result["measured_seconds"] == pytest.approx(8 * 15 / 25)
    assert {"generation", "reconstruction", "sharpness"} <= set(result["cost"])

    saved = json.loads((tmp_path / "out" / "metrics.json").read_text())
    assert saved["rows"]["real"]["psnr"] == "inf"
    assert saved["rows"]["generated"]["psnr"] == pytest.approx(generated["psnr"])
    table = (tmp_path / "out" / "table.md").read_text()
    assert f"| psnr ↑ | {generated['psnr']:.3f} | {still['psnr']:.3f} | inf |" in table
    assert "not comparable" in table and "27.100" in table
    lines = list(csv.DictReader((tmp_path / "out" / "clips.csv").open()))
    assert len(lines) == 3 * 8
    psnr = [float(line["psnr"]) for line in lines if line["row"] == "generated"]
    assert np.mean(psnr) == pytest.approx(generated["psnr"], rel=1e-4)
    drawn = {path.name for path in (tmp_path / "out" / "figures").iterdir()}
    assert {"frames.png", "flow.png", "motion.png", "difference.png"} == drawn


@pytest.mark.soak
def test_means_over_videos_and_over_frames_are_named_apart(run):
    """The still's rows, worked out in NumPy clip by clip."""
    result = evaluate(run, split="s2", metrics=["psnr", "psnr_frame"])["rows"]["still"]
    assert set(result) == {"psnr", "psnr_frame"}
    config = module.load_config(run)
    per_video, per_frame = [], []
    for example in open_source(config.data, "test"):
        video = media.decode_frames(list(example["video"])[:15]).astype(np.float64)
        errors = np.square(video - video[:1]).mean(axis=(1, 2, 3))
        per_video.append(10 * np.log10(255**2 / errors.mean()))
        per_frame.extend(10 * np.log10(255**2 / errors[1:]))
    assert result["psnr"] == pytest.approx(np.mean(per_video), rel=1e-4)
    assert result["psnr_frame"] == pytest.approx(np.mean(per_frame), rel=1e-4)


def test_a_stopped_evaluation_goes_on_and_a_new_measure_is_added(run, tmp_path, monkeypatch):
    whole = evaluate(run, split="s1", metrics=METRICS)
    seen = []

    def watched(judges):
        family = measures._reconstruction(judges)

        def look(clips):
            if len(seen) == 4:
                raise KeyboardInterrupt
            seen.append(len(clips.mask))
            return family(clips)

        return look

    monkeypatch.setitem(measures.FAMILIES, "reconstruction", watched)
    with pytest.raises(KeyboardInterrupt):
        evaluate(run, split="s1", out=tmp_path / "out", metrics=["reconstruction"])
    # One batch of four had been measured in its three rows, a second one in its first.
    seen.clear()
    evaluate(run, split="s1", out=tmp_path / "out", metrics=["reconstruction"])
    assert seen == [4, 4]
    seen.clear()
    again = evaluate(run, split="s1", out=tmp_path / "out", metrics=METRICS)
    assert seen == [] and again["cost"].keys() >= {"sharpness"}
    assert again["rows"] == whole["rows"]
    again = evaluate(run, split="s1", out=tmp_path / "out", metrics=METRICS)
    assert again["measured_seconds"] == 0 and again["rows"] == whole["rows"]
    with pytest.raises(UserError, match="holds another evaluation .split"):
        evaluate(run, split="s2", out=tmp_path / "out", metrics=METRICS)
    monkeypatch.setattr(module, "load_variables", lambda workdir: ({"light": np.float32(0.2)}, 7))
    with pytest.raises(UserError, match="holds another evaluation .weights"):
        evaluate(run, split="s1", out=tmp_path / "out", metrics=METRICS)


@pytest.mark.soak
def test_noise_does_not_depend_on_the_batch(run):
    one, two = (evaluate(run, split="s1", batch_size=n, metrics=["l1_lower"]) for n in (4, 8))
    l1 = [result["rows"]["generated"]["l1_lower"] for result in (one, two)]
    assert l1[0] == pytest.approx(l1[1], rel=1e-5)


def test_what_cannot_be_measured_is_named_and_left_out(run, tmp_path):
    judges = dict.fromkeys(("syncnet", "lipnet", "au_classifier"), tmp_path / "none")
    missing = measures.Judges(**judges, detector="no")
    result = evaluate(run, split="s2", limit=1, judges=missing._replace(embedder="no"))
    assert result["clips"] == 1
    absent = {"perceptual", "identity", "lip_reading", "synchrony", "blinks", "mouth"}
    assert set(result["left_out"]) == absent | {"action_units", "distribution"}
    # The drawn clips are smaller than a block of CPBD.
    assert math.isnan(result["rows"]["real"]["cpbd"])
    assert "Inception" in result["left_out"]["distribution"]
    assert "fid" not in result["rows"]["generated"]
    with pytest.raises(UserError, match="synchrony"):
        evaluate(run, split="s2", judges=missing, metrics=["psnr", "av_offset"])
    with pytest.raises(UserError, match="no measure beauty"):
        evaluate(run, split="s2", metrics=["beauty"])


@pytest.fixture
def folders(tmp_path):
    """Four references, and videos of three of them: equal, darker, of another size."""
    random = np.random.default_rng(0)
    sizes = {"a": (64, 64), "b": (64, 64), "c": (96, 64), "d": (64, 64)}
    for name, (height, width) in sizes.items():
        card = np.repeat(random.integers(0, 255, (height // 8, width // 8, 3)), 8, axis=0)
        frames = np.stack([np.repeat(np.roll(card, t, 0), 8, axis=1) for t in range(12)])
        frames = frames.astype(np.uint8)
        media.write_video(tmp_path / "real" / f"{name}.mp4", frames, 25.0)
        if name == "b":
            media.write_video(tmp_path / "mine" / "b.mp4", frames // 2, 25.0)
    (tmp_path / "mine" / "a.mp4").write_bytes((tmp_path / "real" / "a.mp4").read_bytes())
    shutil.copy(tmp_path / "real" / "a.mp4", tmp_path / "mine" / "c.mp4")
    (tmp_path / "mine" / "d.mp4").write_bytes(b"no video")
    shutil.copy(tmp_path / "real" / "a.mp4", tmp_path / "mine" / "e.mp4")
    return tmp_path


def test_videos_are_measured_against_references_of_their_names(folders, capsys):
    words = ["evaluate", "--videos", str(folders / "mine"), "--references", str(folders / "real")]
    words += ["--metrics", "psnr,ssim,cpbd", "--out", str(folders / "out")]
    assert cli.main(words) == 0
    output = capsys.readouterr()
    assert "mine against real, 2 clips" in output.out and "| videos | still | real |" in output.out
    result = json.loads((folders / "out" / "metrics.json").read_text())
    assert set(result["failures"]) == {"c", "d", "e"}
    assert "64x64, its reference 96x64" in result["failures"]["c"]
    assert all(f"not measured {name}: " in output.err for name in "cde")
    lines = list(csv.DictReader((folders / "out" / "clips.csv").open()))
    psnr = {line["clip"]: line["psnr"] for line in lines if line["row"] == "generated"}
    assert psnr["a"] == "inf" and 3 < float(psnr["b"]) < 15
    assert cli.main([*words, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["measured_seconds"] == 0
    # A video that has changed since, now of one frame, is measured again.
    still = np.full((1, 64, 64, 3), 90, np.uint8)
    media.write_video(folders / "mine" / "a.mp4", still, 25.0)
    assert cli.main([*words, "--json"]) == 0
    again = json.loads(capsys.readouterr().out)
    assert again["measured_seconds"] == pytest.approx(1 / 25)
    assert again["rows"]["generated"]["psnr"] < 20


def test_mistakes_on_the_command_line(folders, capsys):
    mine, real = str(folders / "mine"), str(folders / "real")
    for words, message in (
        ([], "give either --checkpoint, or --videos and --references"),
        (["--videos", mine], "--videos and --references go together"),
        (["--videos", mine, "--references", str(folders / "none")], "none: no such folder"),
        (["--videos", mine, "--references", real, "--metrics", "psrn"], "no measure psrn"),
    ):
        assert cli.main(["evaluate", *words]) == 2
        assert message in capsys.readouterr().err


def test_action_units_come_from_openface_files_beside_the_videos(folders, monkeypatch):
    for name in "cde":
        (folders / "mine" / f"{name}.mp4").unlink()
    units = measures.action_units.ACTION_UNITS
    head = ["frame", "face_id", "timestamp", "confidence", "success"]
    head += [f"AU{unit:02d}_{kind}" for kind in "rc" for unit in units]
    for folder, state in (
        ("mine", lambda t, u: t % 2),
        ("real", lambda t, u: int(t % 2 or u == 10)),
    ):
        for name in "ab":
            with (folders / folder / f"{name}.csv").open("w") as file:
                rows = csv.writer(file)
                rows.writerow(head)
                for t in range(12):
                    states = [state(t, unit) for unit in units]
                    rows.writerow([t + 1, 0, t / 25, 1, 1, *(0 for _ in units), *states])
    rows = compare(folders / "mine", folders / "real", metrics=["action_units"])["rows"]
    # AU10 is always on in the references, and half of the time in the videos: F1 = 2 / 3.
    assert rows["generated"]["au_f1_10"] == pytest.approx(2 / 3)
    assert rows["generated"]["au_accuracy_10"] == pytest.approx(0.5)
    assert rows["generated"]["au_f1_25"] == rows["real"]["au_f1"] == 1
    assert rows["generated"]["au_f1"] == pytest.approx((4 + 2 / 3) / 5)
    assert math.isnan(rows["still"]["au_f1"])


def test_report_of_a_judge(run, tmp_path, monkeypatch, capsys):
    def measure(config, variables, batch, rng):
        return {"brightness": batch["video"].astype(jnp.float32).mean((1, 2, 3, 4))}

    monkeypatch.setattr(module, "get_system", lambda name: types.SimpleNamespace(measure=measure))
    words = ["evaluate", "--checkpoint", str(run), "--split", "s2", "--out", str(tmp_path / "out")]
    assert cli.main(words) == 0
    value = json.loads((tmp_path / "out" / "metrics.json").read_text())["metrics"]["brightness"]
    assert f"| brightness | {value:.3f} |" in capsys.readouterr().out
    assert cli.main(["evaluate", "--checkpoint", str(run), "--split", "s9"]) == 2
    assert "none of the splits 's9' is prepared" in capsys.readouterr().err

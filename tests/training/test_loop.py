"""Whole runs: they resume bit for bit, stop when they should, and leave what they promise."""

import errno
import itertools
import json
import os
import shutil
import signal
from pathlib import Path

import jax
import numpy as np
import orbax.checkpoint as ocp
import pytest
import toy

from configs import syncnet_grid
from flax_talk.errors import UserError
from flax_talk.training import loop
from flax_talk.training import step as steps
from flax_talk.training.checkpoints import load_config, load_variables
from flax_talk.training.loop import _judge, train_and_evaluate
from input_pipeline import media


def records(workdir: Path, prefix: str) -> dict[int, dict[str, float]]:
    lines = map(json.loads, (workdir / "metrics.jsonl").read_text().splitlines())
    return {line["step"]: line for line in lines if any(k.startswith(prefix) for k in line)}


@pytest.mark.soak
def test_run_leaves_metrics_samples_and_checkpoints_then_resumes_bit_for_bit(config, tmp_path):
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    scores = train_and_evaluate(config, whole)
    assert {"step", "psnr_lower", "still/psnr_lower"} <= set(scores)
    assert load_config(whole).system == "temporal_gan_2019"
    variables, step = load_variables(whole)
    assert step == scores["step"] and set(variables) == set(config.optimizer)

    train = records(whole, "train/")
    assert list(train) == [1, 2, 3, 4, 5, 6]
    assert "train/generator/reconstruction_weighted" in train[1]
    # 8 clips and their mirror images in batches of 4: a validation after steps 4 and 6.
    assert list(records(whole, "validation/")) == [4, 6]
    sample = media.read_video(whole / "samples" / "step_0000006.mp4").frames
    assert sample.shape == (15, 128, 96, 3)  # three clips side by side, real above generated
    assert media.read_audio(whole / "samples" / "step_0000006.mp4", 16_000).std() > 0.01
    assert list((whole / "tensorboard").iterdir())

    config.train.max_steps = 3
    train_and_evaluate(config, cut)
    config.train.max_steps = 6
    finished = train_and_evaluate(config, cut)
    assert records(cut, "train/")[6] == train[6]
    resumed = records(cut, "validation/")[6]
    assert resumed == records(whole, "validation/")[6]

    # The same command once more finds the run finished.
    before = (cut / "metrics.jsonl").read_bytes()
    assert train_and_evaluate(config, cut) == finished
    assert (cut / "metrics.jsonl").read_bytes() == before


def test_a_judge_is_trained_by_its_own_measures_and_draws_nothing(config, tmp_path):
    judge = syncnet_grid.get_config("tiny")
    judge.data.update(config.data)
    judge.data.update(dict(features=("mfcc",), mirror=False))
    judge.view.box = (0.0, 0.0, 1.0, 1.0)
    judge.train.max_steps = 2
    scores = train_and_evaluate(judge, tmp_path)
    measured = {"exact", "accuracy", "offset", "confidence", "distance"}
    assert {"finished", "step", *measured} == set(scores)
    assert list(records(tmp_path, "train/syncnet/loss")) == [1, 2]
    assert records(tmp_path, "validation/")[2]["validation/exact"] == scores["exact"]
    assert not list((tmp_path / "samples").iterdir())
    assert set(load_variables(tmp_path)[0]) == {"syncnet"}


def test_sigterm_saves_and_the_run_goes_on_from_there(config, tmp_path, monkeypatch):
    def report(self, step, values):
        if step == 3:
            os.kill(os.getpid(), signal.SIGTERM)

    config.train.checkpoint_every = 100
    monkeypatch.setattr(loop.Writer, "scalars", report)
    train_and_evaluate(config, tmp_path)
    saved = [int(path.name) for path in (tmp_path / "checkpoints").iterdir()]
    assert saved == [3]
    assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL


def test_a_run_starts_from_the_variables_of_another(tiny_run):
    variables, _ = load_variables(tiny_run)
    players = {player: entry["params"] for player, entry in variables.items()}
    zeros = jax.tree.map(np.zeros_like, {**players, "critic": {"kernel": np.ones(3)}})
    stats = {player: entry.get("batch_stats") or {} for player, entry in variables.items()}
    fields = dict(step=0, opt_state=None, rng=None)
    state = steps.TrainState(params=zeros, batch_stats={**stats, "critic": {}}, **fields)
    started = loop._initialize(state, str(tiny_run))
    # A player that the other run lacks keeps what it has.
    assert not started.params["critic"]["kernel"].any()
    for player, params in players.items():
        jax.tree.map(np.testing.assert_array_equal, started.params[player], params)
        jax.tree.map(np.testing.assert_array_equal, started.batch_stats[player], stats[player])
    player = next(iter(players))
    zeros[player] = jax.tree.map(lambda leaf: np.zeros((*leaf.shape, 2)), zeros[player])
    with pytest.raises(UserError, match=f"{player} has other sizes"):
        loop._initialize(state.replace(params=zeros), str(tiny_run))


def test_a_run_of_another_system_is_not_overwritten(config, tmp_path):
    (tmp_path / "config.json").write_text(json.dumps({"system": "speech2vid"}))
    with pytest.raises(UserError, match="holds a run of speech2vid"):
        train_and_evaluate(config, tmp_path)


def test_a_folder_that_orbax_would_not_read_again_is_refused(config, tmp_path):
    with pytest.raises(UserError, match="use another --workdir"):
        train_and_evaluate(config, tmp_path / "run[1]")
    assert not list(tmp_path.iterdir())


@pytest.fixture
def toy_config(drawn_data, monkeypatch):
    """Of `toy`: whole runs in a second."""
    monkeypatch.setattr(loop, "get_system", lambda name: toy.SYSTEM)
    return toy.get_config(drawn_data, 20)


@pytest.fixture(scope="module")
def whole(drawn_data, tmp_path_factory):
    """A toy run that nothing has disturbed; validated at steps 8, 16 and 20."""
    workdir = tmp_path_factory.mktemp("whole")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(loop, "get_system", lambda name: toy.SYSTEM)
        assert train_and_evaluate(toy.get_config(drawn_data, 20), workdir)["finished"]
    return workdir


def stop_at(patch, batch):
    """SIGTERM comes with a batch, counted over training and validation."""
    shard, calls = loop.parallel.shard_batch, itertools.count(1)

    def interrupted(mesh, content):
        if next(calls) == batch:
            os.kill(os.getpid(), signal.SIGTERM)
        return shard(mesh, content)

    patch.setattr(loop.parallel, "shard_batch", interrupted)


def leaves(workdir):
    """All numbers of the newest checkpoint, and of the best."""
    manager = ocp.CheckpointManager(workdir / "checkpoints", item_names=("state", "progress"))
    with manager:
        wanted = dict(state=ocp.args.StandardRestore(), progress=ocp.args.JsonRestore())
        found = manager.restore(manager.latest_step(), args=ocp.args.Composite(**wanted))
    best, step = load_variables(workdir)
    return jax.tree.leaves([dict(found), best, step])


def assert_equal_runs(one, other):
    for a, b in zip(leaves(one), leaves(other), strict=True):
        np.testing.assert_array_equal(a, b)


def test_divergence_stops_at_its_step_and_saves_nothing_after_it(toy_config, tmp_path):
    toy_config.breaks_above = 3.65
    with pytest.raises(UserError, match=r"at step \d+: generator/loss, generator/grad") as caught:
        train_and_evaluate(toy_config, tmp_path)
    diverged = int(str(caught.value).split("step ")[1].split(":")[0])
    saved = [int(path.name) for path in (tmp_path / "checkpoints").iterdir()]
    assert 2 < diverged < 20 and diverged - 2 <= max(saved) < diverged
    toy_config.train.on_divergence = "skip"
    assert train_and_evaluate(toy_config, tmp_path)["finished"]
    assert sum(line["train/skipped"] for line in records(tmp_path, "train/").values()) > 0
    assert all(np.isfinite(leaf).all() for leaf in leaves(tmp_path))


def test_a_full_disk_does_not_end_a_run(whole, toy_config, tmp_path, monkeypatch, caplog):
    """Writing fails in the middle of it; the end is as that of a run without."""
    full = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def fails(real, numbers):
        def call(self, *args, **kwargs):
            if next(numbers) in (1, 2):
                raise full
            return real(self, *args, **kwargs)

        return call

    manager, writer = ocp.CheckpointManager, loop.Writer
    monkeypatch.setattr(manager, "save", fails(manager.save, itertools.count()))
    monkeypatch.setattr(writer, "_open_events", fails(writer._open_events, itertools.count(1)))
    train_and_evaluate(toy_config, tmp_path)
    assert_equal_runs(whole, tmp_path)
    failed = [number for number in range(0, 21, 2) if f"checkpoint {number} of" in caplog.text]
    assert failed == [4, 6] and "No space left on device" in caplog.text
    assert f"tensorboard of {tmp_path} not written" in caplog.text
    assert list(records(tmp_path, "train/")) == [3, 6, 9, 12, 15, 18, 20]
    assert len(list((tmp_path / "tensorboard").iterdir())) == 1


def test_a_run_whose_end_cannot_be_saved_says_so(toy_config, tmp_path, monkeypatch):
    def fail(self, step, **kwargs):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(ocp.CheckpointManager, "save", fail)
    with pytest.raises(UserError, match="state of step 20 could not be saved: free some space"):
        train_and_evaluate(toy_config, tmp_path)


def test_sigterm_in_a_validation_saves_at_once_and_validates_later(
    whole, toy_config, tmp_path, monkeypatch
):
    toy_config.train.checkpoint_every = 100
    with monkeypatch.context() as patch:
        stop_at(patch, 9)  # Eight steps, then the first batch of the validation.
        assert not train_and_evaluate(toy_config, tmp_path)["finished"]
    assert [path.name for path in (tmp_path / "checkpoints").iterdir()] == ["8"]
    assert not records(tmp_path, "validation/")
    assert train_and_evaluate(toy_config, tmp_path)["finished"]
    assert list(records(tmp_path, "validation/")) == [8, 16, 20]
    assert_equal_runs(whole, tmp_path)


def test_a_kill_and_damage_cost_steps_but_change_no_number(
    whole, toy_config, tmp_path, monkeypatch, caplog
):
    """The newest checkpoint is cut, and there is what a killed save leaves."""
    with monkeypatch.context() as patch:
        stop_at(patch, 13)
        train_and_evaluate(toy_config, tmp_path)
    saves = tmp_path / "checkpoints"
    assert {path.name for path in saves.iterdir()} == {"10", "12"}
    shutil.copytree(saves / "12", saves / "14.orbax-checkpoint-tmp")
    large = max((saves / "12").rglob("*"), key=lambda path: path.stat().st_size)
    os.truncate(large, large.stat().st_size // 2)
    with (tmp_path / "metrics.jsonl").open("a") as file:
        file.write('{"step": 12, "train/l')
    assert train_and_evaluate(toy_config, tmp_path)["finished"]
    assert_equal_runs(whole, tmp_path)
    assert "checkpoint 12 of" in caplog.text and "is damaged" in caplog.text
    lines = (tmp_path / "metrics.jsonl").read_text().splitlines()
    assert sum(not line.endswith("}") for line in lines) == 1
    assert [json.loads(line)["step"] for line in lines if line.endswith("}")][-1] == 20


def judge(scores, patience, mode="max"):
    stopping = loop.ConfigDict(dict(metric="psnr_lower", mode=mode, patience=patience))
    progress = {"best": None, "best_step": 0, "since_best": 0, "stopped": False}
    for step, score in enumerate(scores, 1):
        progress = _judge(stopping, progress, {"psnr_lower": score}, step)
        if progress["stopped"]:
            break
    return progress["best_step"], step, progress["stopped"]


def test_early_stopping_counts_validations_without_a_better_one():
    assert judge([1, 3, 2, 2.5, 4, 1, 1], patience=2) == (2, 4, True)
    assert judge([1, 3, 2, 4, 1, 1], patience=2) == (4, 6, True)
    assert judge([1, 3, 2, 2, 2, 2], patience=0) == (2, 6, False)
    assert judge([3, 1, 2], patience=0, mode="min") == (2, 3, False)
    with pytest.raises(UserError, match="is not measured"):
        _judge(loop.ConfigDict(dict(metric="wer", mode="min")), {"best": None}, {"psnr": 1.0}, 1)


@pytest.mark.soak
def test_overfits_one_real_clip(real_media, make_tiny):
    """The full step, all discriminators on, halves the lower-half L1 of a real clip."""
    import cv2

    from flax_talk.systems import get_system
    from flax_talk.training import optimizers, step
    from input_pipeline import audio, faces

    config = make_tiny()
    config.generator.update(dict(width=8, num_skips=5, identity_dim=16, content_dim=16))
    for player in config.optimizer:
        config.optimizer[player].learning_rate = 1e-3
    config.optimizer.generator.learning_rate = 1e-2
    system = get_system(config.system)

    path = sorted((real_media / "grid" / "s26").glob("*.mpg"))[0]
    frames = media.read_video(path).frames[20:30]
    detector = faces.get_detector("dlib")
    crops, _, _ = faces.align(frames, faces.detect_video(frames, detector), (128, 64))
    crops = np.stack([cv2.resize(crop, (32, 64), interpolation=cv2.INTER_AREA) for crop in crops])
    stride, window = system.audio_geometry(config)
    waveform = media.read_audio(path, config.data.audio_rate)[20 * stride :]
    batch = {
        "still": crops[:1],
        "video": crops[None],
        "waveform": audio.pad_waveform(waveform, 10, stride, window)[None],
        "mask": np.ones((1, 10), bool),
    }

    optimizer = optimizers.make_optimizer(config.optimizer, config.optimizer.keys(), 1000)
    state = step.init_state(system, config, optimizer, batch)
    train = jax.jit(lambda state: step.train_step(system, config, optimizer, state, batch))
    error = []
    for _ in range(60):
        state, metrics = train(state)
        error.append(float(metrics["generator/reconstruction"]))
    # Half of what it is once the output has found the picture's mean colour, not of noise.
    assert np.mean(error[-5:]) < 0.5 * error[5], error[::5]
    assert state.step == 60

"""Whole runs: they resume bit for bit, stop when they should, and leave what they promise."""

import json
import os
import signal
from pathlib import Path

import jax
import numpy as np
import pytest

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


def test_divergence_is_named(config, tmp_path):
    config.optimizer.generator.learning_rate = float("inf")
    with pytest.raises(UserError, match=r"diverged before step \d: .*generator"):
        train_and_evaluate(config, tmp_path)


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

"""Measures of a split equal those worked out clip by clip, beside the still frame repeated."""

import types

import jax.numpy as jnp
import numpy as np
import pytest

from flax_talk.evaluation import validation
from flax_talk.evaluation.validation import MEASURES, Evaluator
from flax_talk.training import parallel
from input_pipeline import audio, media
from input_pipeline.loader import open_source


def generate(config, variables, still, audio, rng, carry=None):
    """The still repeated, lighter by `variables["light"]`."""
    still = still.astype(jnp.float32) / 127.5 - 1
    shape = (len(still), config.data.eval_frames, *still.shape[1:])
    return jnp.broadcast_to(still[:, None] + variables["light"], shape), carry


SYSTEM = types.SimpleNamespace(generate=generate)


@pytest.fixture
def config(drawn_data, make_tiny):
    config = make_tiny()
    splits = dict(train="s1", validation="s2", test="s2")
    config.data.update(dict(data_dir=drawn_data, builder_config="drawn", splits=splits))
    # Three clips in batches of four: one place is padding. Clips of 20 frames are cut to 15.
    config.data.update(dict(batch_size=4, eval_frames=15))
    return config


def measured(config, light):
    mesh = parallel.make_mesh()
    variables = parallel.replicate(mesh, {"light": np.float32(light)})
    return Evaluator(SYSTEM, config, mesh, "test")(variables)


def test_psnr_and_l1_are_means_over_clips_worked_out_in_numpy(config):
    light = 0.1
    psnr, psnr_lower, l1_lower = [], [], []
    for example in open_source(config.data, "test"):
        video = media.decode_frames(list(example["video"])[:15]).astype(np.float64) / 127.5 - 1
        # Measured as it would be written: in 8 bits.
        lighter = np.clip(np.rint(127.5 * (video[:1] + light + 1)), 0, 255) / 127.5 - 1
        difference = lighter - video
        lower = difference[:, 32:]
        psnr.append(10 * np.log10(4 / np.mean(difference**2)))
        psnr_lower.append(10 * np.log10(4 / np.mean(lower**2)))
        l1_lower.append(np.abs(lower).mean())
    result = measured(config, light)
    assert len(psnr) == 3
    assert result["psnr"] == pytest.approx(np.mean(psnr), rel=1e-4)
    assert result["psnr_lower"] == pytest.approx(np.mean(psnr_lower), rel=1e-4)
    assert result["l1_lower"] == pytest.approx(np.mean(l1_lower), rel=1e-4)


def test_a_system_that_repeats_the_still_scores_what_the_still_does(config):
    result = measured(config, 0.0)
    for measure in MEASURES:
        assert result[measure] == pytest.approx(result[f"still/{measure}"], rel=1e-5)
    lighter = measured(config, 0.2)
    assert lighter["psnr"] < result["psnr"] and lighter["ssim"] < result["ssim"]
    assert lighter["still/psnr"] == result["still/psnr"]


def test_synchrony_is_judged_where_the_config_stops_on_it(config, monkeypatch):
    """By a judge for whom it is brightness, and loudness of the lowest coefficient."""

    def judge(video, mfcc, mask):
        assert mfcc.shape == (4, 4 * 15, 13) and mask.shape == (4, 15)
        return video.astype(jnp.float32).mean((1, 2, 3, 4)) + mfcc[..., 0].mean(axis=1)

    monkeypatch.setattr(validation, "_synchrony_judge", lambda: judge)
    config.early_stopping.metric = "av_confidence"
    expected = []
    for example in open_source(config.data, "test"):
        video = media.decode_frames(list(example["video"])[:15]).astype(np.float64)
        wave = np.asarray(example["waveform"], np.float32) / 32767
        loudness = audio.mfcc(wave, config.data.audio_rate, 60)[:, 0].mean()
        expected.append(video[0].mean() + loudness)
    assert measured(config, 0.0)["av_confidence"] == pytest.approx(np.mean(expected), rel=1e-4)
    config.early_stopping.metric = "psnr"
    assert "av_confidence" not in measured(config, 0.0)


def judge(config, variables, batch, rng):
    """Brightness of each clip; the frames themselves, for the host to see."""
    assert rng.shape == batch["mask"].shape[:1]
    light = batch["video"].astype(jnp.float32).mean((1, 2, 3, 4)) + variables["light"]
    return {"brightness": light, "frames": batch["video"]}


def judge_on_host(config, outputs, batch):
    np.testing.assert_array_equal(outputs["frames"], batch["video"])
    assert isinstance(outputs["frames"], np.ndarray)
    return {
        "brightness": outputs["brightness"],
        "darkest": outputs["frames"].min((1, 2, 3, 4)).astype(np.float64),
    }


JUDGE = types.SimpleNamespace(measure=judge, measure_on_host=judge_on_host)


def test_a_judge_measures_each_clip_once(config):
    """On four devices, in batches of which the last has padding."""
    config.data.splits.test = "s1[:3]+s2"
    mesh = parallel.make_mesh()
    variables = parallel.replicate(mesh, {"light": np.float32(5)})
    evaluator = Evaluator(JUDGE, config, mesh, "test")
    assert not evaluator.generates and evaluator.num_clips == 6
    clips = open_source(config.data, "test")
    videos = [media.decode_frames(list(clip["video"])[:15]) for clip in clips]
    expected = {"brightness": np.mean(videos) + 5, "darkest": np.mean([v.min() for v in videos])}
    assert evaluator(variables) == pytest.approx(expected, rel=1e-5)
    # Without a part for the host, every output is a measure.
    alone = types.SimpleNamespace(measure=lambda *args: {"brightness": judge(*args)["brightness"]})
    got = Evaluator(alone, config, mesh, "test")(variables)
    assert got == pytest.approx({"brightness": expected["brightness"]}, rel=1e-5)

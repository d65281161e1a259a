"""A dub from end to end with tiny networks: what changes, what must not, and what is kept."""

import json
from functools import partial

import av
import jax
import numpy as np
import pytest
import soundfile

from configs import everybodys_talkin_2020_synthetic_grid
from flax_talk import cli, dub
from flax_talk.batch import dub_batch
from flax_talk.errors import UserError
from flax_talk.face_model.fit import Fit
from flax_talk.face_model.model import MOUTH, load_default, projected_landmarks
from flax_talk.portrait import masks
from flax_talk.systems import get_system
from flax_talk.systems.hearing import audio_geometry
from flax_talk.training.checkpoints import save_exported
from input_pipeline import faces, media

FRAMES, SIZE = 12, (160, 200)


@pytest.fixture(scope="module")
def scene():
    """A moving head in front of noise: frames, landmarks, and the fit that made them."""
    random = np.random.default_rng(0)
    model, t = load_default(), np.arange(FRAMES)
    expression = 0.1 * random.normal(size=(FRAMES, 29))
    pose = np.stack([0 * t, 0.02 * t, 0 * t, 95 + t, 70 + 0 * t, 45 + 0 * t], axis=1)
    geometry = np.zeros(199, np.float32)
    landmarks = np.asarray(projected_landmarks(model, geometry, expression, pose), np.float32)
    frames = random.integers(0, 256, (FRAMES, *SIZE, 3), dtype=np.uint8)
    fit = Fit(geometry, np.float32(expression), np.float32(pose), np.zeros(FRAMES, np.float32))
    return frames, landmarks, fit


@pytest.fixture(scope="module")
def checkpoints(tmp_path_factory, draw_variables):
    """Exported tiny networks of the stages, their weights random."""
    folder = tmp_path_factory.mktemp("networks")
    for stage in ("expression", "landmark", "renderer"):
        config = everybodys_talkin_2020_synthetic_grid.get_config(f"tiny_{stage}")
        system = get_system(config.system)
        t, (h, w) = 2, config.data.image_size
        batch = {
            "video": np.zeros((1, t, h, w, 3), np.uint8),
            "landmarks": np.zeros((1, t, 68, 2), np.float32),
        }
        if stage != "renderer":
            stride, window = audio_geometry(config)
            batch["waveform"] = np.zeros((1, stride + window), np.float32)
        shapes = jax.eval_shape(partial(system.init, config), jax.random.key(0), batch)
        save_exported(config, draw_variables(shapes), 7, folder / stage, dtype="float32")
    return folder


@pytest.fixture
def given(scene, checkpoints, tmp_path, monkeypatch):
    """Arguments of `dub_files`: a video of 12 frames, speech of 15."""
    frames, landmarks, _ = scene
    media.write_video(tmp_path / "target.mp4", frames, 25.0)
    sound = 0.3 * np.sin(np.arange(9600) / 20).astype(np.float32)
    soundfile.write(tmp_path / "speech.wav", sound, 16_000)
    monkeypatch.setattr(faces, "detect_video", lambda shown, find: landmarks[: len(shown)])
    monkeypatch.setattr(faces, "get_detector", lambda name: None)
    return dict(
        video=tmp_path / "target.mp4",
        audio=tmp_path / "speech.wav",
        out=tmp_path / "out.mp4",
        translation=checkpoints / "expression",
        renderer=checkpoints / "renderer",
        adaptation=2,
    )


def test_a_dub_is_as_long_as_its_speech_and_says_what_it_is(given, tmp_path):
    done = dub.dub_files(**given, keep=tmp_path / "kept", visible_mark=True)
    assert done[:3] == (given["out"], 15, 25.0) and done.fit_error < 0.5
    video = media.read_video(given["out"])
    assert video.frames.shape == (15, *SIZE, 3)
    sound = media.read_audio(given["out"], 16_000)
    assert abs(len(sound) - 9600) < 1100 and np.abs(sound[1000:8000]).max() > 0.2
    with av.open(given["out"]) as container:
        assert "Synthetic: made by flax_talk" in container.metadata["comment"]
        assert "everybodys_talkin_2020" in container.metadata["title"]
    stages = dub.STAGES[:-1]
    assert {path.stem for path in (tmp_path / "kept").glob("*.npz")} == {*stages}
    assert {path.stem for path in (tmp_path / "kept").glob("*.mp4")} == {*stages} - {"translate"}


def test_what_is_kept_is_not_worked_out_again(given, tmp_path, monkeypatch):
    def never(*_, **__):
        raise AssertionError("worked out again")

    keep = tmp_path / "kept"
    until = [dub.dub_files(**given | {"out": None}, keep=keep, until=s).frames for s in ("fit",)]
    assert until == [12] and not (keep / "translate.npz").exists()
    dub.dub_files(**given, keep=keep)
    first = media.read_video(given["out"]).frames
    for name in ("fit", "translate", "redraw"):
        monkeypatch.setattr(dub, name, never)
    dub.dub_files(**given, keep=keep)
    np.testing.assert_array_equal(media.read_video(given["out"]).frames, first)
    with pytest.raises(AssertionError, match="worked out again"):
        dub.dub_files(**given, keep=keep, seed=3)


@pytest.mark.soak
def test_a_renderer_learns_the_face_of_its_target(scene, checkpoints):
    frames, landmarks, _ = scene
    model = dub.load(checkpoints / "renderer", get_system("video_renderer"))
    assert dub.adapt(model, frames, landmarks, 0) is model
    adapted = dub.adapt(model, frames, landmarks, 30)

    def error(model):
        index = np.arange(len(frames))
        drawn = dub.redraw(model, frames, landmarks, index, landmarks[:, MOUTH])
        square = masks.mouth_square(drawn.crops.shape[1:3])
        real = square.cut(faces.align(frames, landmarks, drawn.crops.shape[1:3])[0])
        return np.abs(square.cut(drawn.crops).astype(float) - real).mean()

    # Noise cannot be drawn, but its mean can, which thirty small steps begin to learn.
    assert error(adapted) < 0.99 * error(model)


def test_the_mouth_stays_where_the_sound_says_what_is_there(scene):
    _, landmarks, fit = scene
    noise = np.random.default_rng(1).normal(size=landmarks.shape).astype(np.float32)
    index = np.array([3, 3, 0])
    mouth = dub.place_mouth(fit, landmarks + noise, fit.expression[index], index)
    assert mouth == pytest.approx((landmarks + noise)[index, MOUTH], abs=1e-4)
    opened = fit.expression[index] + load_default().unit_weights(jawOpen=0.6) @ np.asarray(
        load_default().units_to_expression
    )
    moved = dub.place_mouth(fit, landmarks, opened, index) - landmarks[index, MOUTH]
    # The lower lip goes down, by about the same in all frames; the upper one stays.
    assert (moved[:, 9, 1] > 3).all() and np.abs(moved[:, 3]).max() < 1


@pytest.mark.parametrize("blend", [True, False])
def test_nothing_but_the_mouth_changes(scene, blend):
    frames, landmarks, _ = scene
    index = np.array([0, 5, 5, 11])
    crops, points, transforms = faces.align(frames, landmarks)
    drawn = dub.Drawn(np.full_like(crops[index], 255), points[index, MOUTH], transforms[index])
    for steps in (dub.Finish(blend=blend), dub.Finish(False, False, False, False, blend)):
        shown = np.stack(list(dub.finish(frames, landmarks, index, drawn, steps)))
        changed = (shown != frames[index]).any(axis=-1)
        near = masks.soft_masks(landmarks[index, MOUTH], SIZE, grow=14, deviation=0) > 0
        assert not (changed & ~near).any()
        inner = masks.soft_masks(landmarks[index, MOUTH], SIZE, grow=-1, deviation=0) > 0
        assert (changed & inner).sum() > 0.9 * inner.sum()
    if not blend:
        assert shown[inner].min() > 200


def test_a_face_at_the_edge_of_the_frame(scene):
    frames, landmarks, _ = scene
    for shift in ((-100, 0), (100, 0), (0, 90), (0, -400)):
        moved = landmarks + np.float32(shift)
        crops, points, transforms = faces.align(frames, moved)
        drawn = dub.Drawn(crops, points[:, MOUTH], transforms)
        assert len(
            list(dub.finish(frames, moved, np.arange(2), dub.Drawn(*(x[:2] for x in drawn))))
        )


def test_the_baseline_draws_landmarks_that_it_hears_itself(given, checkpoints):
    assert dub.dub_files(**given | {"translation": checkpoints / "landmark"}).frames == 15


def test_a_table_of_dubs_compiles_once(given, tmp_path):
    soundfile.write(tmp_path / "longer.wav", np.zeros(11_000, np.float32), 16_000)
    lines = ("target.mp4,speech.wav", "target.mp4,longer.wav", "nowhere.mp4,speech.wav")
    (tmp_path / "pairs.csv").write_text("\n".join(("video,audio", *lines)))
    options = {name: given[name] for name in ("translation", "renderer", "adaptation")}
    compiled = dub._render._cache_size()
    done = dub_batch(tmp_path / "pairs.csv", tmp_path / "out", **options)
    assert (done.made, done.frames, [f.row for f in done.failures]) == (2, 15 + 17, [4])
    assert dub._render._cache_size() <= compiled + 1
    assert all(dub._adapting_step.cache_info()[:2])


def test_mistakes_are_one_line(given, checkpoints, tmp_path, capsys):
    for changes, message in (
        ({"out": tmp_path / "out.avi"}, "only mp4"),
        ({"out": given["video"]}, "own input"),
        ({"translation": checkpoints / "renderer"}, "holds video_renderer"),
        ({"renderer": tmp_path / "none"}, "none"),
        ({"until": "lunch"}, "no stage 'lunch'"),
        ({"adaptation": -1}, "give 0 or more"),
        ({"until": "fit", "out": None}, "give one"),
        ({"audio": None}, "--audio"),
    ):
        with pytest.raises(UserError, match=message):
            dub.dub_files(**given | changes)
    words = {f"--{name}": str(value) for name, value in given.items() if name != "adaptation"}
    words["--adapt"] = "0"
    words = [word for pair in words.items() for word in pair]
    assert cli.main(["dub", *words, "--json", "--no-teeth"]) == 0
    assert json.loads(capsys.readouterr().out)["frames"] == 15
    assert cli.main(["retime", *words]) == 2 and "--keep DIR" in capsys.readouterr().err

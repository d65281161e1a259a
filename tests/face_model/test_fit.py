import threading

import numpy as np
import pytest

from flax_talk import cli
from flax_talk.errors import UserError
from flax_talk.face_model import fit as fitting
from flax_talk.face_model import fitting_files
from flax_talk.face_model import model as face
from flax_talk.face_model.fit import Fit, fit, load_fit, save_fit
from input_pipeline import faces, media

LENGTH = 110  # more than a chunk
SCALE = 65  # as on GRID


@pytest.fixture(scope="module")
def model():
    return face.load_default()


@pytest.fixture(scope="module")
def truth(model):
    """A person who speaks, blinks and turns by 30 degrees to either side."""
    random = np.random.default_rng(1)
    time = np.arange(LENGTH) / 25
    names = ("jawOpen", "mouthPucker", "mouthSmileLeft", "mouthSmileRight", "mouthUpperUp")
    weights = np.zeros((LENGTH, 29), np.float32)
    for i, name in enumerate(names):
        wave = np.sin(2 * np.pi * (1 + 0.3 * i) * time + i)
        weights[:, model.unit_names.index(name)] = 0.25 * (1 + wave)
    for name in ("eyeBlinkLeft", "eyeBlinkRight"):
        weights[60:63, model.unit_names.index(name)] = 0.5, 1, 0.5
    angles = 0.52 * np.sin(2 * np.pi * time[:, None] * [0.4, 0.5, 0.2] + [0, 1, 2])
    place = [180, 144] + 20 * np.sin(time[:, None] + [0, 1])
    pose = np.concatenate([angles, place, np.full((LENGTH, 1), SCALE)], axis=1)
    geometry = random.normal(size=199).astype(np.float32)
    expression = np.asarray(face.expression_from_units(model, weights))
    return Fit(geometry, expression, pose.astype(np.float32), np.zeros(LENGTH))


def exact_landmarks(model, truth):
    return np.array(face.projected_landmarks(model, *truth[:3]))


def distances(model, found, landmarks):
    """Mean distance of each fitted landmark: [68]."""
    fitted = np.asarray(face.projected_landmarks(model, *found[:3]))
    return np.linalg.norm(fitted - landmarks, axis=-1).mean(axis=0)


@pytest.fixture(scope="module")
def exact(model, truth):
    return fit(model, exact_landmarks(model, truth))


def test_several_fits_at_a_time_end(model, truth, exact):
    """Without the lock two threads wait for each other for ever on two cores."""
    landmarks, found = exact_landmarks(model, truth), []

    def work():
        found.extend(fit(model, landmarks) for _ in range(3))

    threads = [threading.Thread(target=work, daemon=True) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=120)
    assert not any(thread.is_alive() for thread in threads)
    assert len(found) == 9
    for other in found:
        np.testing.assert_array_equal(other.geometry, exact.geometry)


def test_recovers_a_turning_face(model, truth, exact):
    landmarks = exact_landmarks(model, truth)
    away = distances(model, exact, landmarks)
    assert away[17:].max() < 0.6 and away[48:].mean() < 0.2
    residual = np.asarray(face.projected_landmarks(model, *exact[:3])) - landmarks
    expected = np.sqrt(np.square(residual[:, 17:]).sum(axis=-1).mean(axis=1))
    np.testing.assert_allclose(exact.error, expected, rtol=1e-3, atol=1e-4)
    angles = np.degrees(np.abs(exact.pose - truth.pose)[:, :3])
    assert angles.mean(axis=0).max() < 2
    # What no landmark tells is left to the priors, but the mouth's units and the lids are seen.
    given, found = (
        np.asarray(face.units_from_expression(model, f.expression)) for f in (truth, exact)
    )
    for name in ("jawOpen", "mouthPucker", "eyeBlinkLeft"):
        unit = model.unit_names.index(name)
        assert np.corrcoef(given[:, unit], found[:, unit])[0, 1] > 0.85, name
    assert np.abs(exact.geometry).max() < 4


def test_noise_is_averaged_out(model, truth):
    landmarks = exact_landmarks(model, truth)
    noise = np.random.default_rng(2).normal(0, np.sqrt(0.5), landmarks.shape)  # 1 pixel
    found = fit(model, (landmarks + noise).astype(np.float32))
    # The fit is nearer to the truth than to what it was given.
    assert distances(model, found, landmarks)[17:].mean() < 0.5 < 0.7 < found.error.mean()
    assert np.degrees(np.abs(found.pose - truth.pose)[:, :3]).mean() < 2


def test_chunks_meet_without_a_seam(model, truth, exact):
    steps = np.abs(np.diff(exact.expression - truth.expression, axis=0)).max(axis=1)
    assert steps[fitting._CHUNK - 1] < 3 * np.median(steps)


def test_follows_the_image(model, truth, exact):
    """Larger, moved images change the place and the scale alone."""
    found = fit(model, 3 * exact_landmarks(model, truth) + np.float32([40, -7]))
    np.testing.assert_allclose(found.expression, exact.expression, atol=5e-3)
    np.testing.assert_allclose(found.pose[:, :3], exact.pose[:, :3], atol=1e-3)
    np.testing.assert_allclose(found.pose[:, 3:5], 3 * exact.pose[:, 3:5] + [40, -7], atol=0.1)
    np.testing.assert_allclose(found.pose[:, 5], 3 * exact.pose[:, 5], rtol=1e-3)


def test_one_program_for_any_length(model, truth, exact):
    landmarks = exact_landmarks(model, truth)
    for length in (1, 5, 81):
        found = fit(model, landmarks[:length])
        assert found.expression.shape == (length, 29) and found.pose.shape == (length, 6)
        assert found.error.shape == (length,) and found.error.mean() < 0.5
    assert fitting._fit_geometry._cache_size() == fitting._fit_frames._cache_size() == 1


def test_wrong_landmarks_are_refused(model):
    good = np.array(face.projected_landmarks(model, np.zeros(199), np.zeros((3, 29)), np.ones(6)))
    with pytest.raises(UserError, match=r"\[T, 68, 2\], not \[68, 2\]"):
        fit(model, good[0])
    for value in (np.nan, 0):
        bad = good.copy()
        bad[1] = value
        with pytest.raises(UserError, match="frame 1 are not those of a face"):
            fit(model, bad)


def test_files(exact, tmp_path):
    path = tmp_path / "deep" / "fit.npz"
    save_fit(path, exact)
    assert [file.name for file in path.parent.iterdir()] == ["fit.npz"]
    for saved, given in zip(load_fit(path), exact, strict=True):
        np.testing.assert_array_equal(saved, given)
    with pytest.raises(UserError, match="no such file: make it with flax-talk fit"):
        load_fit(tmp_path / "none.npz")
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(UserError, match="not a fit"):
        load_fit(path)
    with pytest.raises(UserError, match="cannot be written"):
        save_fit(path / "below.npz", exact)


class Posing:
    """A detector that finds the mean head in every image."""

    def __call__(self, image):
        return [faces.Face(np.float32([0, 0, 32, 64]), self.place(image, None))]

    def place(self, image, box):
        pose = np.array([0, 0.2, 0, 16, 32, 20])
        return np.array(
            face.projected_landmarks(face.load_default(), np.zeros(199), np.zeros(29), pose)
        )


def test_video_to_fit_and_overlay(drawn_clip, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(faces, "get_detector", lambda name: Posing())
    frames, _ = drawn_clip(0, 6)
    video, out, overlay = (tmp_path / name for name in ("v.mp4", "fit.npz", "o.mp4"))
    media.write_video(video, frames, 25.0)
    words = ["--video", str(video), "--out", str(out), "--overlay", str(overlay)]
    assert cli.main(["fit", *words]) == 0
    assert "6 frames, error 0.0" in capsys.readouterr().out
    found = load_fit(out)
    np.testing.assert_allclose(found.pose[:, 1], 0.2, atol=0.01)
    drawn = media.read_video(overlay).frames
    assert drawn.shape == (6, 11 * 64, 11 * 32, 3)
    # Yellow where the tip of the nose is.
    x, y = np.rint((Posing().place(None, None)[30] + 0.5) * 11 - 0.5).astype(int)
    red, green, blue = drawn[3, y, x].astype(int)
    assert min(red, green) > 150 > blue + 50


def test_prepared_data_is_fitted_once(drawn_data, monkeypatch, capsys):
    seen = []

    def quick(model, landmarks):
        # Drawn faces have nothing to fit; what is tested is what becomes of a fit.
        seen.append(landmarks.shape)
        if len(seen) == 2:
            raise UserError("no face")
        length = len(landmarks)
        return Fit(np.zeros(199), np.zeros((length, 29)), np.zeros((length, 6)), np.ones(length))

    monkeypatch.setattr(fitting_files, "fit", quick)
    folder = f"{drawn_data}/grid/drawn"
    done = fitting_files.fit_data(folder)
    assert (done.fitted, done.skipped, done.error) == (10, 0, 1.0)
    assert seen == [(20, 68, 2)] * 11
    ((failed, reason),) = done.failures
    made = sorted(done.path.glob("*.npz"))
    assert reason == "no face" and len(made) == 10 and failed not in {file.stem for file in made}
    assert load_fit(made[0]).pose.shape == (20, 6)
    # A second call makes what is missing and tells of what it cannot read.
    made[0].unlink()
    made[1].write_bytes(b"half a file")
    before = made[2].stat().st_mtime_ns
    assert cli.main(["fit", "--data", folder]) == 0
    assert len(seen) == 13 and made[0].is_file() and (done.path / f"{failed}.npz").is_file()
    assert made[2].stat().st_mtime_ns == before
    assert "2 clips fitted, 8 there already, 1 failed" in capsys.readouterr().out
    assert f"{made[1].stem},,{made[1]}: not a fit" in (done.path / "report.csv").read_text()


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ([], "give either --video and --out, or --data"),
        (["--video", "a.mp4"], "--video and --out go together"),
        (["--data", "nowhere"], "nowhere: no prepared data set"),
    ],
)
def test_mistakes_are_one_line(words, told, capsys):
    assert cli.main(["fit", *words]) == 2
    assert told in capsys.readouterr().err


def test_recording_is_fitted_to_a_pixel(model, real_media):
    frames = media.read_video(next((real_media / "grid" / "s26").glob("*.mpg")), max_frames=25)
    landmarks = faces.detect_video(frames.frames, faces.get_detector())
    found = fit(model, landmarks)
    assert found.error.mean() < 1.5
    assert distances(model, found, landmarks)[48:].mean() < 0.8

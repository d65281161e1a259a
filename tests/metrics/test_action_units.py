import jax
import numpy as np
import pytest

from flax_talk.errors import UserError
from flax_talk.metrics import action_units

HEAD = "frame, face_id, timestamp, confidence, success, gaze_0_x"
UNITS = (1, 2, 10, 14, 20, 25, 26, 45)


def openface_csv(path, states, intensities, success, head=HEAD):
    """Writes a file as OpenFace 2.0 lays it out; states and intensities [T, len(UNITS)]."""
    names = [f"AU{unit:02d}_r" for unit in UNITS] + [f"AU{unit:02d}_c" for unit in UNITS]
    lines = [", ".join([head, *names])]
    for t, row in enumerate(zip(success, intensities, states, strict=True)):
        values = (f"{value:.2f}" for values in row[1:] for value in values)
        start = f"{t + 1}, 0, {t / 25:.3f}, 0.98, {int(row[0])}, 0.123"
        lines.append(", ".join([start, *values]))
    path.write_text("\n".join(lines) + "\n")
    return path


@pytest.fixture(params=[False, True], ids=["eager", "jit"])
def compiled(request):
    return jax.jit if request.param else lambda function: function


@pytest.mark.parametrize("seed", range(5))
def test_scores_equal_scikit_learn(compiled, seed):
    outside = pytest.importorskip("sklearn.metrics")
    random = np.random.default_rng(seed)
    shape = (random.integers(20, 60), 5)
    predicted = random.random(shape) < random.uniform(0.2, 0.8)
    true = random.random(shape) < random.uniform(0.2, 0.8, 5)
    expected = outside.f1_score(true, predicted, average=None)
    np.testing.assert_allclose(compiled(action_units.f1)(predicted, true), expected, rtol=1e-5)
    expected = [outside.accuracy_score(t, p) for t, p in zip(true.T, predicted.T, strict=True)]
    got = compiled(action_units.accuracy)(predicted.astype(np.float32), true.astype(int))
    np.testing.assert_allclose(got, expected, rtol=1e-6)


def test_scores_by_hand(compiled):
    """Unit 0: 2 hits, 1 false alarm, 1 miss, 1 rightly absent. Unit 1: never there, never seen."""
    predicted = np.array([[1, 0], [1, 0], [1, 0], [0, 0], [0, 0]])
    true = np.array([[1, 0], [1, 0], [0, 0], [1, 0], [0, 0]])
    np.testing.assert_allclose(compiled(action_units.f1)(predicted, true), [2 / 3, np.nan])
    np.testing.assert_allclose(compiled(action_units.accuracy)(predicted, true), [3 / 5, 1])


@pytest.mark.parametrize("metric", [action_units.f1, action_units.accuracy])
def test_only_valid_frames_count_and_leading_axes_are_videos(compiled, metric):
    predicted, true = np.random.default_rng(0).random((2, 3, 40, 5)) < 0.5
    lengths = np.array([40, 25, 31])
    mask = np.arange(40) < lengths[:, None]
    got = compiled(metric)(predicted, true, mask)
    expected = [metric(p[:n], t[:n]) for p, t, n in zip(predicted, true, lengths, strict=True)]
    assert got.shape == (3, 5)
    np.testing.assert_allclose(got, expected, rtol=1e-6)
    assert np.isnan(compiled(metric)(predicted[0], true[0], np.zeros(40, bool))).all()


def test_files_of_openface_are_read(tmp_path):
    random = np.random.default_rng(0)
    states = random.random((30, len(UNITS))) < 0.5
    intensities = random.uniform(0, 5, states.shape)
    success = random.random(30) < 0.8
    path = openface_csv(tmp_path / "clip.csv", states, intensities, success)
    got = action_units.read_openface(path)
    np.testing.assert_array_equal(got.frames, np.arange(1, 31))
    np.testing.assert_array_equal(got.valid, success)
    np.testing.assert_array_equal(got.states, states[:, 2:7])
    np.testing.assert_allclose(got.intensities, intensities[:, 2:7], atol=0.0051)
    assert got.states.dtype == got.valid.dtype == bool and got.intensities.dtype == np.float32

    np.testing.assert_array_equal(
        action_units.read_openface(path, (45, 1)).states, states[:, [7, 0]]
    )
    path.write_text(path.read_text().replace(", ", ","))  # as some releases write it
    np.testing.assert_array_equal(action_units.read_openface(path).states, states[:, 2:7])


def test_a_wrong_file_is_named(tmp_path):
    zeros = np.zeros((3, len(UNITS)))
    path = openface_csv(tmp_path / "clip.csv", zeros, zeros, [1, 1, 1])
    text = path.read_text()
    with pytest.raises(UserError, match="cannot read .*none.csv"):
        action_units.read_openface(tmp_path / "none.csv")
    with pytest.raises(UserError, match="no column AU12_c in .*clip.csv"):
        action_units.read_openface(path, (12,))
    path.write_text(text.replace("success", "sucess"))
    with pytest.raises(UserError, match="no column success in .*clip.csv"):
        action_units.read_openface(path)
    path.write_text("")
    with pytest.raises(UserError, match="no column frame in .*clip.csv"):
        action_units.read_openface(path)
    path.write_text(text[:-30])
    with pytest.raises(UserError, match="row 4 of .*clip.csv is not complete"):
        action_units.read_openface(path)
    path.write_text(text.replace("\n3, 0", "\n2, 1"))
    with pytest.raises(UserError, match="several faces in .*clip.csv"):
        action_units.read_openface(path)
    path.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(UserError, match="cannot read .*clip.csv"):
        action_units.read_openface(path)

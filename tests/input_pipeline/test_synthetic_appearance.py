"""Speakers: everything follows from the seed, attributes agree with the shape, meshes are sound."""

import dataclasses

import numpy as np
import pytest

from flax_talk.face_model import model as face
from input_pipeline.synthetic import renderer
from input_pipeline.synthetic.appearance import make_speaker


@pytest.fixture(scope="module")
def speakers():
    return [make_speaker(seed) for seed in range(8)]


def test_the_same_seed_gives_the_same_bytes(speakers):
    again = make_speaker(5)
    for field in dataclasses.fields(again):
        np.testing.assert_array_equal(
            getattr(again, field.name), getattr(speakers[5], field.name), err_msg=field.name
        )


def test_global_random_state_plays_no_part(speakers):
    np.random.seed(3)
    state = np.random.get_state()[1].copy()
    again = make_speaker(2)
    np.testing.assert_array_equal(again.vertices, speakers[2].vertices)
    np.testing.assert_array_equal(np.random.get_state()[1], state)


def test_the_shape_has_the_drawn_attributes(speakers):
    model = face.load_default()
    for person in speakers:
        values = np.array(face.attributes(model, person.geometry))
        male = values[model.attribute_names.index("male")]
        assert (male > 0.75) if person.sex == "male" else (male < 0.25)
        old = values[model.attribute_names.index("old")]
        assert abs(old - (0.02 + 0.58 * person.age)) < 0.05
        # A likely head: coefficients of about one standard deviation.
        assert 0.6 < np.sqrt(np.mean(person.geometry**2)) < 1.3


def test_vertices_of_the_head_are_those_of_the_model(speakers):
    model = face.load_default()
    for person in speakers[:2]:
        expected = face.reconstruct(model, person.geometry, np.zeros(29))
        np.testing.assert_allclose(person.vertices[: len(model.mean)], expected, atol=1e-5)
        # The trunk moves less than the head, the landmarks all with the head.
        assert (person.head_share[model.landmarks] == 1).all()


def test_meshes_are_sound(speakers):
    for person in speakers:
        count = len(person.vertices)
        assert person.triangles.min() >= 0 and person.triangles.max() < count
        assert 0 < person.num_opaque < len(person.triangles)
        assert person.uv.shape == (len(person.triangles), 3, 2)
        assert len(person.materials) == len(person.two_sided) == len(person.triangles)
        for array in (person.vertices, person.uv, person.access, person.coverage, person.lights):
            assert array.dtype == np.float32 and np.isfinite(array).all()
        assert person.access.min() >= 0 and person.access.max() <= 1 + 1e-6
        assert person.materials.max() < renderer.NUM_MATERIALS


def test_people_differ(speakers):
    assert len({person.sex for person in speakers}) == 2
    assert len({person.hair_style for person in speakers}) >= 3
    shapes = np.stack([person.geometry for person in speakers])
    distance = np.linalg.norm(shapes[:, None] - shapes[None], axis=-1)
    assert distance[~np.eye(len(shapes), dtype=bool)].min() > 8
    faces_seen = np.stack([person.textures[0, ..., :3].mean(axis=(0, 1)) for person in speakers])
    assert faces_seen.std(axis=0).min() > 3

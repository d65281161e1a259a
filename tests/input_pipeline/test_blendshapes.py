"""The proxy of action units: its scale, and what the networks see in rendered faces."""

import os
import sys
from pathlib import Path

import numpy as np
import pytest

from flax_talk.errors import UserError
from flax_talk.face_model.model import load_default
from input_pipeline import blendshapes
from input_pipeline.faces import ClipError
from input_pipeline.synthetic import renderer
from input_pipeline.synthetic.appearance import make_speaker
from input_pipeline.synthetic.articulation import ACTION_UNITS

GAP = ACTION_UNITS.index("AU25")


@pytest.fixture(scope="module")
def labeller():
    pytest.importorskip("ai_edge_litert", reason="ai-edge-litert is not installed: .[labels]")
    default = Path(__file__).resolve().parents[3] / "shared" / "models"
    folder = Path(os.environ.get("FLAX_TALK_MODELS", default))
    files = sorted(folder.glob("face_landmarker*.task"))
    if not files:
        pytest.skip(f"no face_landmarker*.task in {folder}: set FLAX_TALK_MODELS to its folder")
    return blendshapes.Labeller(files[0])


@pytest.fixture(scope="module")
def clip():
    """Closed lips, an open jaw, and lips raised, of a rendered face: uint8 [3, 128, 96, 3]."""
    model, speaker = load_default(), make_speaker(6)
    weights = [{}, {"jawOpen": 0.6}, {"mouthUpperUp": 0.6}]
    expression = np.stack([model.unit_weights(**each) for each in weights])
    expression = (expression @ model.units_to_expression).astype(np.float32)
    pose = renderer.aligned_pose(speaker, expression, np.zeros((3, 2)))
    return renderer.Renderer().render(speaker, expression, pose)


def test_units_of_rendered_faces(labeller, clip):
    units = labeller(clip)
    assert units.shape == (3, 5) and units.dtype == np.float32
    assert units.min() >= 0 and units.max() <= 1
    closed, opened, raised = (dict(zip(ACTION_UNITS, row, strict=True)) for row in units)
    assert opened["AU25"] > 0.5 > closed["AU25"] and opened["AU26"] > 0.5 > closed["AU26"]
    assert raised["AU10"] > 0.2 > closed["AU10"]


def test_frames_without_a_face_have_the_units_of_the_nearest(labeller, clip):
    black = np.zeros_like(clip[:1])
    raw = labeller.raw(np.concatenate([black, clip[:1], clip[1:2], black, black]))
    np.testing.assert_array_equal(raw[[0, 3, 4]], raw[[1, 2, 2]])
    assert (raw[1] != raw[2]).any()
    with pytest.raises(ClipError, match="a face in no frame"):
        labeller(np.repeat(black, 2, axis=0))


def test_levels_are_their_intensities():
    low, high = np.array([blendshapes.LEVELS[name] for name in ACTION_UNITS]).T
    moved = np.stack([low - 10, 0 * low, low, (low + high) / 2, high, high + 10])
    found = blendshapes.intensities(moved)
    expected = np.float32([0, 0, 0.2, 0.35, 0.5, 1])
    np.testing.assert_allclose(found, np.tile(expected[:, None], 5), atol=1e-6)


def test_a_face_is_compared_with_itself_at_rest():
    """But for the gap of the lips."""
    raw = np.random.default_rng(0).uniform(0, 0.3, (40, 5)).astype(np.float32)
    moved = blendshapes.movements(raw)
    np.testing.assert_array_equal(moved[:, GAP], raw[:, GAP])
    rest = (moved <= 1e-6).mean(axis=0)
    np.testing.assert_allclose(np.delete(rest, GAP), 0.25, atol=0.03)
    shifted = blendshapes.movements((raw**0.25 + 0.1) ** 4)
    np.testing.assert_allclose(np.delete(shifted - moved, GAP, axis=1), 0, atol=1e-5)


def test_what_lacks_is_one_line(tmp_path, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setitem(sys.modules, "ai_edge_litert.interpreter", None)
        with pytest.raises(UserError, match=r"pip install 'flax-talk\[labels\]'"):
            blendshapes.Labeller(tmp_path / "face.task")
    pytest.importorskip("ai_edge_litert")
    (tmp_path / "text.task").write_text("no zip")
    for name in ("absent.task", "text.task"):
        with pytest.raises(UserError, match=f"{name} is no Face Landmarker.*download https://"):
            blendshapes.Labeller(tmp_path / name)

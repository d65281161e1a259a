import importlib.util
import subprocess
import sys

import jax
import numpy as np
import pytest
from scipy.spatial import distance

from flax_talk.errors import UserError
from flax_talk.metrics import identity
from input_pipeline import faces, media


@pytest.fixture(params=[False, True], ids=["eager", "jit"])
def compiled(request):
    return jax.jit if request.param else lambda function: function


@pytest.fixture(scope="module")
def dlib_embedder():
    pytest.importorskip("dlib")
    return identity.get_embedder("dlib")


@pytest.mark.parametrize("seed", range(3))
def test_distance_equals_scipy(compiled, seed):
    random = np.random.default_rng(seed)
    still = random.normal(size=(2, 3, 16)).astype(np.float32)
    frames = random.normal(size=(2, 3, 7, 16)).astype(np.float32)
    lengths = random.integers(1, 8, (2, 3))
    mask = np.arange(7) < lengths[..., None]
    measure = compiled(identity.average_content_distance)
    got, masked = measure(still, frames), measure(still, frames, mask)
    assert got.shape == masked.shape == (2, 3)
    for i in np.ndindex(2, 3):
        distances = distance.cdist(still[i][None], frames[i])[0]
        assert float(got[i]) == pytest.approx(distances.mean(), rel=1e-5)
        assert float(masked[i]) == pytest.approx(distances[: lengths[i]].mean(), rel=1e-5)


def test_the_still_repeated_is_at_no_distance(compiled):
    still = np.random.default_rng(0).normal(size=8).astype(np.float32)
    measure = compiled(identity.average_content_distance)
    assert float(measure(still, np.tile(still, (5, 1)))) == 0
    assert float(measure(still, np.tile(still, (5, 1)) + 3)) == pytest.approx(3 * 8**0.5)
    assert np.isnan(measure(still, still[None], np.array([False])))


def test_embedders_are_chosen_by_name(monkeypatch):
    with pytest.raises(UserError, match="unknown embedder 'names'.*dlib"):
        identity.get_embedder("names")
    monkeypatch.setitem(identity.EMBEDDERS, "mean", lambda: "made")
    assert identity.get_embedder("mean") == "made"


def test_openface_is_not_faked():
    with pytest.raises(UserError, match="Torch 7 only: choose dlib"):
        identity.get_embedder("openface")


def test_a_missing_embedder_says_how_to_install_it(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(UserError, match=r"pip install 'flax-talk\[dlib\]'"):
        faces.DlibEmbedder()


def test_dlib_is_not_imported_before_it_is_asked_for():
    check = "import sys, flax_talk.metrics.identity; sys.exit('dlib' in sys.modules)"
    subprocess.run([sys.executable, "-c", check], check=True)


def test_dlib_embeds_as_its_own_crop_does(dlib_embedder):
    """The batch of frames against dlib's crop and network, one frame at a time."""
    import dlib

    image = pytest.importorskip("skimage.data").astronaut()
    (face,) = faces.get_detector("dlib")(image)
    shift = np.array([[0, 0], [3, -2]])[:, None]
    frames = np.stack([image, np.roll(image, (-2, 3), axis=(0, 1))])
    bgr = np.ascontiguousarray(frames[..., ::-1])  # whose view in RGB runs backwards
    got = dlib_embedder(bgr[..., ::-1], face.landmarks + shift)
    assert got.shape == (2, 128) and got.dtype == np.float32
    for frame, points, embedding in zip(frames, face.landmarks + shift, got, strict=True):
        shape = dlib.full_object_detection(
            dlib.rectangle(0, 0, 9, 9), [dlib.point(int(x), int(y)) for x, y in points]
        )
        chip = dlib.get_face_chip(frame, shape, size=150)
        expected = dlib_embedder._embed.compute_face_descriptor(chip)
        np.testing.assert_allclose(embedding, expected, atol=1e-4)
    assert np.linalg.norm(got[0] - got[1]) < 0.05


def test_dlib_tells_real_speakers_apart(dlib_embedder, real_media):
    """Two clips each of two people: one person's are nearer than two people's."""
    detector = faces.get_detector("dlib")
    embeddings = []
    for speaker in ("s1", "s4"):
        for path in sorted((real_media / "grid" / speaker).glob("*.mp4"))[:2]:
            frame = media.read_video(path).frames[0]
            (face,) = detector(frame)
            embeddings.append(dlib_embedder(frame[None], face.landmarks[None])[0])
    between = distance.squareform(distance.pdist(embeddings))
    assert max(between[0, 1], between[2, 3]) < 0.4 < 0.6 < between[:2, 2:].min()

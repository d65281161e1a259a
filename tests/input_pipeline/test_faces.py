"""Detection, tracking and alignment of faces."""

import importlib.util

import cv2
import numpy as np
import pytest
from ml_collections import ConfigDict

from flax_talk.errors import UserError
from input_pipeline import faces
from input_pipeline.faces import ClipError, Face

skimage_transform = pytest.importorskip("skimage.transform")
BASE = np.random.default_rng(0).uniform(-10, 10, (68, 2)).astype(np.float32)


class FakeDetector:
    """Faces given by frame number, which is the value of the frame's pixels."""

    def __init__(self, found):
        self.found = found
        self.searched = []

    def __call__(self, image):
        self.searched.append(int(image[0, 0, 0]))
        return self.found(self.searched[-1])

    def place(self, image, box):
        return BASE + (box[:2] + box[2:]) / 2


def face_at(x, y=50.0, size=40.0):
    box = np.array([x - size / 2, y - size / 2, x + size / 2, y + size / 2], np.float32)
    return Face(box, BASE + np.array([x, y], np.float32))


def counted_frames(length):
    numbers = np.arange(length, dtype=np.uint8)[:, None, None, None]
    return np.broadcast_to(numbers, (length, 8, 8, 3))


@pytest.fixture(scope="module")
def dlib_detector():
    pytest.importorskip("dlib")
    return faces.get_detector("dlib")


@pytest.fixture(scope="module")
def astronaut():
    return pytest.importorskip("skimage.data").astronaut()


def test_similarity_transform_by_hand():
    # Twice the size, a quarter turn that takes x to y, then a shift.
    source = np.array([[0, 0], [1, 0], [0, 1]], np.float32)
    target = np.array([[3, -1], [3, 1], [1, -1]], np.float32)
    expected = [[0, -2, 3], [2, 0, -1]]
    np.testing.assert_allclose(faces.similarity_transform(source, target), expected, atol=1e-6)


def test_similarity_transform_is_that_of_scikit_image():
    rng = np.random.default_rng(1)
    source = rng.normal(size=(2, 3, 5, 2))
    target = 3 * source @ [[0.6, 0.8], [-0.8, 0.6]] + rng.normal(size=(2, 3, 5, 2)) + 7
    ours = faces.similarity_transform(source, target)
    assert ours.shape == (2, 3, 2, 3) and ours.dtype == np.float32
    for index in np.ndindex(2, 3):
        theirs = skimage_transform.estimate_transform("similarity", source[index], target[index])
        np.testing.assert_allclose(ours[index], theirs.params[:2], rtol=1e-5, atol=1e-5)


def test_similarity_transform_never_reflects():
    points = faces.canonical_points()
    mirrored = points * [-1, 1]
    matrix = faces.similarity_transform(points, mirrored)[:, :2]
    assert np.linalg.det(matrix) > 0


@pytest.mark.parametrize("image_size", [(128, 96), (112, 112), (64, 256)])
def test_canonical_face_is_upright_centred_and_inside(image_size):
    nose, outer_left, inner_left, inner_right, outer_right = faces.canonical_points(image_size)
    height, width = image_size
    assert outer_left[0] < inner_left[0] < nose[0] == width / 2 < inner_right[0] < outer_right[0]
    assert outer_left[1] == outer_right[1] < nose[1]
    # A chin is about 1.6 eye distances below the eyes at most, a jaw 1.86 wide.
    eyes = outer_right[0] - outer_left[0]
    assert outer_left[1] + 1.6 * eyes < height and 1.86 * eyes < width


def test_align_moves_content_and_landmarks_onto_the_canonical_points():
    turn = np.array([[1.5, 0.4], [-0.4, 1.5]], np.float32)
    landmarks = np.zeros((1, 68, 2), np.float32)
    landmarks[0, faces.STABLE_POINTS] = faces.canonical_points() @ turn.T + [60, 80]
    frame = np.zeros((1, 400, 400, 3), np.uint8)
    for x, y in landmarks[0, faces.STABLE_POINTS]:
        cv2.circle(frame[0], (round(x * 16), round(y * 16)), 4 * 16, (255,) * 3, -1, shift=4)
    crops, moved, transforms = faces.align(frame, landmarks)
    assert crops.shape == (1, 128, 96, 3) and crops.dtype == np.uint8
    assert transforms.shape == (1, 2, 3)
    targets = faces.canonical_points()
    np.testing.assert_allclose(moved[0, faces.STABLE_POINTS], targets, atol=1e-3)
    _, _, _, centres = cv2.connectedComponentsWithStats((crops[0, ..., 0] > 127).astype(np.uint8))
    distances = np.linalg.norm(targets[:, None] - centres[None, 1:], axis=-1)
    assert distances.min(axis=1).max() < 0.3


def test_align_undoes_a_known_shift():
    rng = np.random.default_rng(2)
    still = cv2.GaussianBlur(rng.integers(0, 256, (200, 200, 3), np.uint8), (5, 5), 2)
    landmarks = np.zeros((2, 68, 2), np.float32)
    landmarks[:, faces.STABLE_POINTS] = faces.canonical_points() + 30
    landmarks[1] += (7, -4)
    frames = np.stack([still, np.roll(still, (-4, 7), axis=(0, 1))])
    crops, moved, transforms = faces.align(frames, landmarks)
    np.testing.assert_array_equal(crops[0], crops[1])
    np.testing.assert_allclose(moved[0], moved[1], atol=1e-3)
    np.testing.assert_allclose(transforms[0, :, 2] - transforms[1, :, 2], [7, -4], atol=1e-3)


def test_align_to_the_face_of_a_checkpoint():
    landmarks = np.random.default_rng(3).uniform(0, 100, (1, 68, 2)).astype(np.float32)
    landmarks[0, faces.STABLE_POINTS] = faces.canonical_points()
    target = faces.canonical_points() * 0.5 + 3
    frames = np.zeros((1, 128, 96, 3), np.uint8)
    _, moved, _ = faces.align(frames, landmarks, (64, 64), canonical=target)
    np.testing.assert_allclose(moved[0, faces.STABLE_POINTS], target, atol=1e-3)


def test_realign_equals_an_alignment_to_the_other_face():
    rng = np.random.default_rng(6)
    still = cv2.GaussianBlur(rng.integers(0, 256, (200, 200, 3), np.uint8), (15, 15), 5)
    landmarks = rng.uniform(0, 100, (1, 68, 2)).astype(np.float32)
    landmarks[0, faces.STABLE_POINTS] = 1.1 * faces.canonical_points() + (40, 30)
    target = 1.2 * faces.canonical_points() - (8, 11)
    direct, expected, _ = faces.align(still[None], landmarks, canonical=target)
    crops, points, _ = faces.align(still[None], landmarks)
    moved, moved_points = faces.realign(crops, points, target)
    np.testing.assert_allclose(moved_points, expected, atol=1e-3)
    assert moved.shape == crops.shape and moved.dtype == np.uint8
    difference = np.abs(moved.astype(int) - direct)
    assert difference.mean() < 1 < np.abs(crops.astype(int) - direct).mean()


def test_a_run_has_a_canonical_face_of_its_own_or_ours():
    ours = ConfigDict(dict(image_size=(64, 32)))
    for config in (ours, ConfigDict({**ours, "canonical_points": ()})):
        np.testing.assert_array_equal(
            faces.alignment_target(config), faces.canonical_points((64, 32))
        )
    other = faces.canonical_points((64, 32)) + 3
    config = ConfigDict({**ours, "canonical_points": other.tolist()})
    np.testing.assert_array_equal(faces.alignment_target(config), other)


def test_align_shrinks_without_aliasing_or_shift():
    # Rows alternate between black and white: any crop at a quarter of the size is grey.
    frames = np.zeros((1, 800, 600, 3), np.uint8)
    frames[:, ::2] = 255
    frames[:, :, 300:] = 0
    landmarks = np.zeros((1, 68, 2), np.float32)
    landmarks[0, faces.STABLE_POINTS] = 4.5 * faces.canonical_points() + [20, 30]
    crops, _, _ = faces.align(frames, landmarks)
    # The edge between pixels 299 and 300 falls on (299.5 - 20) / 4.5 = 62.1.
    assert np.abs(crops[0, 20:-20, 5:58].astype(int) - 127).max() < 12
    assert crops[0, 20:-20, 66:].max() < 3


def test_detect_video_searches_few_frames_and_follows_the_face():
    detector = FakeDetector(lambda t: [face_at(20 + 3 * t)])
    landmarks = faces.detect_video(counted_frames(24), detector, detect_every=5)
    assert detector.searched == [0, 5, 10, 15, 20, 23]
    assert landmarks.shape == (24, 68, 2) and landmarks.dtype == np.float32
    centre = landmarks[:, 0] - BASE[0]
    # Smoothing leaves linear motion alone except at the ends.
    np.testing.assert_allclose(centre[5:-5, 0], 20 + 3 * np.arange(5, 19), atol=1e-3)
    np.testing.assert_allclose(centre[:, 1], 50, atol=1e-3)


def test_detect_video_smooths_jitter():
    jitter = np.random.default_rng(4).normal(size=60)
    detector = FakeDetector(lambda t: [face_at(50 + jitter[t])])
    landmarks = faces.detect_video(counted_frames(60), detector, detect_every=1)
    assert 0.3 < landmarks[:, 0, 0].std() / jitter.std() < 0.75


def test_detect_video_bridges_a_short_gap():
    detector = FakeDetector(lambda t: [] if 12 <= t <= 18 else [face_at(20 + 3 * t)])
    landmarks = faces.detect_video(counted_frames(40), detector, max_gap=7)
    centre = landmarks[:, 0, 0] - BASE[0, 0]
    np.testing.assert_allclose(centre[5:-5], 20 + 3 * np.arange(5, 35), atol=1e-3)


def test_detect_video_bridges_both_ends():
    detector = FakeDetector(lambda t: [face_at(30)] if 3 <= t <= 15 else [])
    landmarks = faces.detect_video(counted_frames(20), detector)
    np.testing.assert_allclose(landmarks - BASE - [30, 50], 0, atol=1e-3)


def test_detect_video_refuses_a_long_gap():
    detector = FakeDetector(lambda t: [] if 12 <= t <= 22 else [face_at(20)])
    with pytest.raises(ClipError, match=r"no face in frames 12\.\.22"):
        faces.detect_video(counted_frames(40), detector, max_gap=10)


@pytest.mark.parametrize("length", [1, 30])
def test_detect_video_refuses_a_video_without_a_face(length):
    with pytest.raises(ClipError, match="no face"):
        faces.detect_video(counted_frames(length), FakeDetector(lambda t: []))


def test_detect_video_takes_the_largest_face():
    detector = FakeDetector(lambda t: [face_at(80, size=20), face_at(30, size=40)])
    landmarks = faces.detect_video(counted_frames(11), detector)
    np.testing.assert_allclose(landmarks - BASE - [30, 50], 0, atol=1e-3)


def test_detect_video_refuses_two_faces_unless_one_is_brief():
    pair = [face_at(30, size=40), face_at(80, size=36)]
    with pytest.raises(ClipError, match="two faces"):
        faces.detect_video(counted_frames(30), FakeDetector(lambda t: pair))
    faces.detect_video(counted_frames(30), FakeDetector(lambda t: pair if t < 10 else pair[:1]))


def test_astronaut_is_found_and_aligned(dlib_detector, astronaut):
    crop, landmarks, transform = faces.align_still(astronaut, dlib_detector)
    assert crop.shape == (128, 96, 3) and crop.dtype == np.uint8
    error = landmarks[list(faces.STABLE_POINTS)] - faces.canonical_points()
    assert np.linalg.norm(error, axis=-1).max() < 4
    margin = np.minimum(landmarks, np.array([95, 127]) - landmarks).min()
    assert margin > 2, "brows, jaw and chin belong inside the crop"
    assert transform.shape == (2, 3)


@pytest.mark.parametrize("scale", [0.35, 3.0])
def test_small_and_large_faces_are_found_where_they_are(dlib_detector, astronaut, scale):
    scaled = cv2.resize(astronaut, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
    (expected,) = dlib_detector(astronaut)
    (found,) = dlib_detector(scaled)
    error = np.linalg.norm(found.landmarks / scale - expected.landmarks, axis=-1)
    assert error.mean() < 5


def test_a_picture_without_a_face_is_named(dlib_detector):
    noise = np.random.default_rng(5).integers(0, 256, (120, 160, 3), np.uint8)
    with pytest.raises(UserError, match="no face found in wall.png: use"):
        faces.align_still(noise, dlib_detector, name="wall.png")


def test_detectors_are_chosen_by_name(monkeypatch):
    with pytest.raises(UserError, match="unknown face detector 'eyes'.*dlib"):
        faces.get_detector("eyes")
    detector = FakeDetector(lambda t: [])
    monkeypatch.setitem(faces.DETECTORS, "fake", lambda: detector)
    assert faces.get_detector("fake") is detector


def test_a_missing_detector_says_how_to_install_it(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(UserError, match=r"pip install 'flax-talk\[dlib\]'"):
        faces.DlibDetector()

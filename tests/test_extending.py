"""The pages on adding a system, a data set and a metric, done as they say.

A snippet whose first line names a file becomes that module; the others run in their order.
"""

import re
import sys
import types
from pathlib import Path

import numpy as np
import pytest

from flax_talk import systems
from flax_talk.evaluation import measures
from input_pipeline import datasets, faces, media

DOCS = Path(__file__).parents[1] / "docs"
RATE = 16_000


@pytest.fixture
def follow(monkeypatch, tmp_path):
    """Does what a page says in an empty folder; gives back the names that its snippets leave."""
    monkeypatch.chdir(tmp_path)

    def do(page):
        names = {}
        for snippet in re.findall(r"```python\n(.*?)```", (DOCS / page).read_text(), re.S):
            code, target = compile(snippet, str(DOCS / page), "exec"), names
            if file := re.match(r"# (\S+)\.py\n", snippet):
                module = types.ModuleType(file[1].replace("/", "."))
                parent, _, child = module.__name__.rpartition(".")
                monkeypatch.setitem(sys.modules, module.__name__, module)
                __import__(parent)
                monkeypatch.setattr(sys.modules[parent], child, module, raising=False)
                target = vars(module)
            exec(code, target)
        return names

    return do


@pytest.fixture
def kept():
    """Notes tables, which other modules hold too, and puts back what is in them."""
    before = []

    def keep(table):
        before.append((table, dict(table)))

    yield keep
    for table, entries in before:
        table.clear()
        table.update(entries)


def test_add_a_system(follow, kept, tmp_path, rendered_data):
    (tmp_path / "data").symlink_to(rendered_data)
    kept(systems._SYSTEMS)
    names = follow("add_a_system.md")
    assert names["video"].shape == (25, 128, 96, 3) and names["scores"]["finished"]
    # It has learned: with the weights it starts with the video is the still.
    assert (names["video"] != names["still"]).any()


def test_add_a_data_set(follow, kept, monkeypatch, tmp_path):
    kept(datasets._BUILDERS)
    monkeypatch.setattr(faces, "get_detector", lambda name: WholeFace())
    random = np.random.default_rng(0)
    for name in ("anna_1", "anna_2", "berta_1"):
        frames = random.integers(60, 200, (10, 48, 48, 3), np.uint8)
        sound = random.uniform(-0.1, 0.1, 10 * RATE // 25).astype(np.float32)
        media.write_video(tmp_path / "recordings" / f"{name}.mp4", frames, 25.0, sound, RATE)
    (tmp_path / "recordings" / "berta_2.mp4").write_bytes(b"damaged" * 500)
    report = follow("add_a_data_set.md")["report"]
    assert report.used == 3 and [clip for clip, _ in report.failures] == ["berta_2"]
    assert (tmp_path / "sheet.png").exists()


def test_add_a_metric(follow, kept, tmp_path):
    kept(measures.FAMILIES)
    kept(measures.COLUMNS)
    sound = np.zeros(10 * RATE // 25, np.float32)
    for folder, value in (("real", 100), ("mine", 151)):
        frames = np.full((10, 64, 48, 3), value, np.uint8)
        media.write_video(tmp_path / folder / "a.mp4", frames, 25.0, sound, RATE)
    row = follow("add_a_metric.md")["result"]["rows"]["generated"]
    assert row["brightness_error"] == pytest.approx(2 * 51 / 255, abs=0.01)


class WholeFace:
    """A face that fills every image in the same way."""

    def __call__(self, image):
        height, width = image.shape[:2]
        return [faces.Face(np.float32([0, 0, width, height]), self.place(image, None))]

    def place(self, image, box):
        size = image.shape[:2]
        landmarks = np.full((68, 2), (size[1] / 2, size[0] / 2), np.float32)
        landmarks[list(faces.STABLE_POINTS)] = faces.canonical_points(size)
        return landmarks

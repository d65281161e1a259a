"""Fixtures shared by all tests."""

import os
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def real_media() -> Path:
    """Folder with real recordings (`grid/s26/*.mpg` and so on), which are not in the repository."""
    default = Path(__file__).resolve().parents[2] / "shared" / "real_media"
    folder = Path(os.environ.get("FLAX_TALK_REAL_MEDIA", default))
    if not folder.is_dir():
        pytest.skip(f"no real recordings in {folder}: set FLAX_TALK_REAL_MEDIA to their folder")
    return folder

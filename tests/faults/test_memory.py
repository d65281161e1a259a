"""A process that animates all day does not grow."""

import os
from pathlib import Path

import numpy as np
import pytest

from flax_talk.animate import animate_files
from flax_talk.training.checkpoints import export
from input_pipeline.media import write_video

COUNT = int(os.environ.get("SOAK_ANIMATIONS", "2000"))


def resident() -> float:
    """MiB of memory of this process."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


@pytest.mark.soak
def test_memory_is_flat_over_many_animations(tiny_run, tmp_path):
    """Each from files to a file, of other pictures and lengths, the weights read each time.

    They are of an exported checkpoint: Orbax, which reads a run's folder, keeps 3 MB of each time.
    """
    export(tiny_run, tmp_path / "exported")
    random = np.random.default_rng(0)
    sources = []
    for number in range(10):
        path = tmp_path / f"source{number}.mp4"
        frames = random.integers(0, 256, (3 + number, 128, 96, 3), dtype=np.uint8)
        write_video(path, frames, 25, random.uniform(-0.5, 0.5, len(frames) * 640), 16_000)
        sources.append(path)
    sizes = []
    for number in range(COUNT):
        source, out = sources[number % 10], tmp_path / "out.mp4"
        animate_files(source, source, out, tmp_path / "exported", detector="none", chunk_frames=5)
        sizes.append(resident())
        if number % 100 == 0:
            print(f"{number}: {sizes[-1]:.0f} MiB", flush=True)
    # After the first hundred all programs are compiled and all pools filled.
    settled = min(100, COUNT // 3)
    growth = sizes[-1] - sizes[settled]
    print(f"\n{COUNT} animations: {sizes[settled]:.0f} MiB after {settled}, then {sizes[-1]:.0f}")
    assert growth < 60

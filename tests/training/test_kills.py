"""Runs that are killed again and again, or whose disk is full, end as those that never were.

Each run is a process of its own, of the toy system; the long tests are `make soak`.
"""

import os
import random
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from test_loop import leaves

STEPS = int(os.environ.get("SOAK_STEPS", "400"))
KILLS = int(os.environ.get("SOAK_KILLS", "20"))


def start(data_dir, workdir, steps=STEPS, **options):
    environment = {**os.environ, "JAX_PLATFORMS": "cpu"}
    command = [sys.executable, str(Path(__file__).with_name("toy.py")), data_dir, workdir, steps]
    return subprocess.Popen(
        list(map(str, command)),
        env=environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        **options,
    )


def end(process):
    _, said = process.communicate(timeout=900)
    assert process.returncode == 0, said[-3000:]
    return said


def assert_equal(one, other):
    for a, b in zip(leaves(one), leaves(other), strict=True):
        np.testing.assert_array_equal(a, b)


def steps_saved(workdir):
    found = (workdir / "checkpoints").glob("*")
    return max((int(path.name) for path in found if path.name.isdigit()), default=0)


def a_save_is_under_way(workdir):
    return any(workdir.glob("*/*.orbax-checkpoint-tmp*"))


@pytest.fixture(scope="module")
def whole_run(drawn_data, tmp_path_factory):
    workdir = tmp_path_factory.mktemp("whole")
    end(start(drawn_data, workdir))
    return workdir


@pytest.mark.soak
def test_kills_at_random_moments_change_no_number(
    drawn_data,
    whole_run,
    tmp_path,
):
    """Every third kill waits for a save to be under way."""
    chance = random.Random(0)
    within, reached = 0, []
    for kill in range(KILLS):
        process = start(drawn_data, tmp_path)
        # The run has to get on, else no kill but the first would hit anything new.
        before, goal = steps_saved(tmp_path), chance.randint(1, 2 * STEPS // KILLS)
        while process.poll() is None and steps_saved(tmp_path) < before + goal // 2:
            time.sleep(0.002)
        time.sleep(chance.uniform(0, 0.05))
        while kill % 3 == 0 and process.poll() is None and not a_save_is_under_way(tmp_path):
            time.sleep(0.0005)
        within += a_save_is_under_way(tmp_path)
        process.kill()
        process.communicate()
        reached.append(steps_saved(tmp_path))
        if process.returncode == 0:
            break
    said = end(start(drawn_data, tmp_path))
    assert "damaged" not in said
    assert_equal(whole_run, tmp_path)
    print(f"\nkilled {len(reached)} times, {within} within a save, at steps {reached}")


@pytest.mark.soak
def test_sigterm_ends_a_run_within_seconds_and_with_0(drawn_data, whole_run, tmp_path):
    waits = []
    for _ in range(5):
        process, before = start(drawn_data, tmp_path), steps_saved(tmp_path)
        while process.poll() is None and steps_saved(tmp_path) <= before:
            time.sleep(0.005)
        begun = time.monotonic()
        process.send_signal(signal.SIGTERM)
        end(process)
        waits.append(time.monotonic() - begun)
    end(start(drawn_data, tmp_path))
    assert_equal(whole_run, tmp_path)
    print(f"\nSIGTERM to exit: {', '.join(f'{wait:.1f}' for wait in waits)} s")


@pytest.mark.soak
def test_files_that_may_not_grow_cost_the_saves_alone(drawn_data, whole_run, tmp_path):
    """No file may be larger than 20 000 bytes, as on a disk that is full: no save succeeds."""
    process = start(drawn_data, tmp_path, steps=STEPS // 4)
    end(process)
    good = steps_saved(tmp_path)
    limit = (20_000, resource.RLIM_INFINITY)
    process = start(
        drawn_data, tmp_path, preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, limit)
    )
    _, said = process.communicate(timeout=900)
    failures = said.count("could not be saved (File too large)")
    assert process.returncode != 0 and "free some space" in said
    assert failures > 3 and steps_saved(tmp_path) == good
    end(start(drawn_data, tmp_path))
    assert steps_saved(tmp_path) == STEPS
    print(f"\n{failures} saves failed of a run that went on; from step {good} it was done again")


@pytest.mark.soak
@pytest.mark.skipif(os.geteuid() != 0, reason="mounting takes root")
def test_a_disk_that_is_full_for_a_while(drawn_data, whole_run, tmp_path):
    """A file system of 8 MB that another file fills, and leaves."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=8m", "tmpfs", disk])
    if mounted.returncode:
        pytest.skip("no file system can be mounted here")
    try:
        workdir, filler = disk / "run", disk / "filler"
        process = start(drawn_data, workdir)
        while process.poll() is None and steps_saved(workdir) < STEPS // 4:
            time.sleep(0.01)
        with filler.open("wb", buffering=0) as file:
            try:
                while True:
                    file.write(bytes(4096))
            except OSError:
                pass
        full = steps_saved(workdir)
        while process.poll() is None and not a_save_is_under_way(workdir):
            time.sleep(0.001)
        time.sleep(1)
        filler.unlink()
        said = end(process)
        failures = said.count("could not be saved (No space left on device)")
        # Orbax tells of its closed event loop meanwhile.
        assert failures
        assert steps_saved(workdir) == STEPS
        print(f"\nfull at step {full}, {failures} saves failed, and the run came to its end")
    finally:
        subprocess.run(["umount", "-l", disk])

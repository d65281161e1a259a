"""Several real processes train as one does: of the toy system, on two virtual devices each.

`make soak` runs four processes, and a real system.
"""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import jax
import numpy as np
import pytest
from test_kills import end, steps_saved

from flax_talk.errors import UserError
from flax_talk.training import parallel
from flax_talk.training.checkpoints import load_variables

STEPS = 20
BATCH = 8


def free_port():
    with socket.socket() as listener:
        listener.bind(("localhost", 0))
        return listener.getsockname()[1]


def toy(data_dir, workdir, steps=STEPS, kind="shard_map"):
    """The arguments of a run of the toy system."""
    fields = json.dumps({"data": {"batch_size": BATCH}, "parallel": kind})
    return [Path(__file__).with_name("toy.py"), data_dir, workdir, steps, fields]


def start_all(arguments, processes, devices):
    """Every process of a run, started."""
    port = free_port()
    environment = {
        **os.environ,
        "JAX_PLATFORMS": "cpu",
        "XLA_FLAGS": f"--xla_force_host_platform_device_count={devices}",
        "JAX_COORDINATOR_ADDRESS": f"localhost:{port}",
        "NUM_PROCESSES": str(processes),
    }
    return [
        subprocess.Popen(
            [sys.executable, *map(str, arguments)],
            env={**environment, "PROCESS_ID": str(number)},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )
        for number in range(processes)
    ]


def run(arguments, processes, devices):
    """Runs them to their end; returns what each has said."""
    return [end(process) for process in start_all(arguments, processes, devices)]


def losses(workdir):
    """Every number of the metrics but times, by step and name."""
    lines = [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]
    return {(line["step"], k): v for line in lines for k, v in line.items() if "/" in k}


def newest(workdir):
    """Variables and step of the newest checkpoint, read by this process."""
    shutil.rmtree(workdir / "best")
    return load_variables(workdir)


def assert_same_losses(one, other, tolerance=2e-6):
    one, other = losses(one), losses(other)
    # A run in two parts is also validated at the end of the first.
    assert one.keys() <= other.keys()
    for key, value in one.items():
        np.testing.assert_allclose(other[key], value, rtol=tolerance, err_msg=str(key))


@pytest.fixture(scope="module")
def alone(drawn_data, tmp_path_factory):
    """A run of one process with four devices."""
    workdir = tmp_path_factory.mktemp("alone")
    run(toy(drawn_data, workdir), 1, 4)
    assert len(losses(workdir)) > 40
    return workdir


def test_two_processes_train_as_one_and_go_on_as_one(alone, drawn_data, tmp_path):
    """Some steps of the run on 2 x 2 devices, the rest on one process with one device."""
    said = run(toy(drawn_data, tmp_path, 12), 2, 2)
    assert load_variables(tmp_path)[1] in (4, 8, 12)  # the best, read by one process
    assert "12/12" in said[0] and "step" not in said[1]  # one progress bar
    assert steps_saved(tmp_path) == 12
    run(toy(drawn_data, tmp_path), 1, 1)
    assert_same_losses(alone, tmp_path)


@pytest.mark.soak
@pytest.mark.parametrize(("processes", "devices"), [(2, 2), (4, 2)])
@pytest.mark.parametrize("kind", ["shard_map", "pmap"])
def test_processes_train_as_one(alone, drawn_data, tmp_path, processes, devices, kind):
    run(toy(drawn_data, tmp_path, kind=kind), processes, devices)
    assert_same_losses(alone, tmp_path)


@pytest.mark.soak
@pytest.mark.parametrize("whom", [0, 1])
def test_sigterm_to_one_process_ends_all_at_the_same_step(drawn_data, tmp_path, whom):
    steps = 400
    run(toy(drawn_data, tmp_path / "whole", steps), 2, 2)
    processes = start_all(toy(drawn_data, tmp_path / "cut", steps), 2, 2)
    while steps_saved(tmp_path / "cut") < 20 and processes[0].poll() is None:
        time.sleep(0.01)
    begun = time.monotonic()
    processes[whom].send_signal(signal.SIGTERM)
    for process in processes:
        end(process)
    wait, reached = time.monotonic() - begun, steps_saved(tmp_path / "cut")
    assert 20 <= reached < steps
    run(toy(drawn_data, tmp_path / "cut", steps), 2, 2)
    (whole, _), (cut, last) = (newest(tmp_path / name) for name in ("whole", "cut"))
    assert last == steps
    jax.tree.map(np.testing.assert_array_equal, cut, whole)
    print(f"\nSIGTERM to process {whom}: both ended at step {reached}, after {wait:.1f} s")


@pytest.mark.soak
def test_processes_set_a_damaged_checkpoint_aside_together(drawn_data, tmp_path):
    run(toy(drawn_data, tmp_path), 2, 2)
    newest = tmp_path / "checkpoints" / str(STEPS)
    for file in newest.rglob("*"):
        if file.is_file() and file.stat().st_size > 1000:
            file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])
    said = run(toy(drawn_data, tmp_path, STEPS + 2), 2, 2)
    assert "damaged" in said[0]
    assert (tmp_path / "damaged" / str(STEPS)).is_dir()
    assert steps_saved(tmp_path) == STEPS + 2


@pytest.mark.soak
def test_a_real_system_on_two_processes(drawn_data, tmp_path):
    """Every player, batch normalisation, sampled frames and noise of the temporal GAN, tiny."""
    fields = {
        "data.data_dir": drawn_data,
        "data.builder_config": "drawn",
        "data.splits.train": "s1",
        "data.splits.validation": "s2",
        "data.splits.test": "s2",
        "data.image_size": "(64, 32)",
        "data.window_seconds": 0.05,
        "data.batch_size": 4,
        "train.log_every": 1,
        "train.max_steps": 4,
    }
    root = Path(__file__).parents[2]
    arguments = [root / "train.py", "--config", root / "configs/temporal_gan_2019_grid.py:tiny"]
    arguments += [f"--config.{name}={value}" for name, value in fields.items()]
    for name, processes, devices in (("one", 1, 4), ("two", 2, 2)):
        run([*arguments, "--workdir", tmp_path / name], processes, devices)
    # Gradients are summed in another order.
    assert_same_losses(tmp_path / "one", tmp_path / "two", tolerance=1e-4)


def test_alone_nothing_is_joined(monkeypatch):
    monkeypatch.delenv("JAX_COORDINATOR_ADDRESS", raising=False)
    monkeypatch.setattr(jax.distributed, "initialize", lambda *_: pytest.fail("joined"))
    parallel.join()
    monkeypatch.setenv("SLURM_NTASKS", "4")
    parallel.join(num_processes=1)


def test_slurm_and_the_environment_are_found(monkeypatch):
    joined = []
    monkeypatch.setattr(jax.distributed, "initialize", lambda *given: joined.append(given))
    monkeypatch.setenv("SLURM_NTASKS", "4")
    parallel.join()
    monkeypatch.setenv("JAX_COORDINATOR_ADDRESS", "first:1234")
    monkeypatch.setenv("NUM_PROCESSES", "2")
    monkeypatch.setenv("PROCESS_ID", "1")
    parallel.join()
    parallel.join("other:1", 8, 3)
    assert joined == [(None, None, None), ("first:1234", 2, 1), ("other:1", 8, 3)]


def test_processes_that_lack_something_are_one_line(monkeypatch):
    monkeypatch.delenv("JAX_COORDINATOR_ADDRESS", raising=False)
    with pytest.raises(UserError, match="do not find each other.*--num_processes 1") as caught:
        parallel.join("localhost:1")
    assert "\n" not in str(caught.value)

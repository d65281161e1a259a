"""Weak scaling: each device has as many clips, whatever the number of devices and processes.

    python benchmarks/scaling.py --out out/benchmarks/scaling.json

Every row is a run of its own on virtual devices of the CPU: processes that find each other on this
host, each with some devices; a step of temporal_gan_2019, narrow, with its gradients averaged over
all. The devices share this machine's cores, so that a step takes longer the more there are. What
the table can show is the price of being several: the time for a clip, against one device with as
many clips as all of them (above 1: what the splitting, the averaging and the talk between
processes cost). What it cannot show is a network: its bandwidth, its delay, and hosts that wait
for each other.
"""

import argparse
import json
import os
import socket
import subprocess
import sys
import time
from pathlib import Path

import report

LAYOUTS = ((1, 1), (1, 2), (2, 1), (1, 4), (2, 2), (4, 1))
"""Processes, and devices of each."""


def main() -> None:
    """Prints a row for each layout."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=5, help="that are timed, behind the first")
    parser.add_argument("--batch", type=int, default=2, help="clips of each device")
    parser.add_argument("--frames", type=int, default=25, help="of each clip")
    parser.add_argument("--width", type=int, default=8, help="of all networks; published: 64")
    parser.add_argument("--out", type=Path, help="JSON file to write")
    parser.add_argument("--worker", type=int, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.worker is not None:
        measure(args)
        return

    rows, alone = [], {}
    for processes, devices in LAYOUTS:
        total = processes * devices
        if total not in alone:
            alone[total] = launch(args, 1, 1, args.batch * total)["s per step"]
        row = launch(args, processes, devices, args.batch)
        clips = args.batch * total
        row |= {"processes": processes, "devices of each": devices, "clips": clips}
        row["s per clip"] = row["s per step"] / clips
        row["times one device's"] = row["s per step"] / alone[total]
        rows.append(row)
    columns = ("processes", "devices of each", "clips", "s per step", "s per clip")
    report.print_table(rows, (*columns, "times one device's", "MB averaged"))
    report.write(args.out, "scaling", rows)


def launch(args: argparse.Namespace, processes: int, devices: int, batch: int) -> dict:
    """What process 0 of a run measures."""
    with socket.socket() as listener:
        listener.bind(("localhost", 0))
        port = listener.getsockname()[1]
    environment = {
        **os.environ,
        "JAX_PLATFORMS": "cpu",
        "XLA_FLAGS": f"--xla_force_host_platform_device_count={devices}",
        "JAX_COORDINATOR_ADDRESS": f"localhost:{port}",
        "NUM_PROCESSES": str(processes),
    }
    sizes = {"steps": args.steps, "frames": args.frames, "width": args.width, "batch": batch}
    options = [f"--{name}={value}" for name, value in sizes.items()]
    workers = [
        subprocess.Popen(
            [sys.executable, __file__, *options, f"--worker={number}"],
            env={**environment, "PROCESS_ID": str(number)},
            stdout=subprocess.PIPE,
            text=True,
        )
        for number in range(processes)
    ]
    outputs = [worker.communicate()[0] for worker in workers]
    if any(worker.returncode for worker in workers):
        sys.exit(f"{processes} processes of {devices} devices: one of them has failed")
    return json.loads(outputs[0].splitlines()[-1])


def measure(args: argparse.Namespace) -> None:
    """Prints the best time of a step, as one of the processes of a run."""
    import functools

    import jax
    import training_step

    from flax_talk.systems import temporal_gan as system
    from flax_talk.training import optimizers, parallel, step

    parallel.join()
    args.dtype = "float32"
    config = training_step.make_config(args)
    config.data.batch_size *= jax.local_device_count()
    _, start, batch = training_step.make_step(config)
    optimizer = optimizers.make_optimizer(config.optimizer, system.players(config), 1000)
    mesh = parallel.make_mesh()
    update = functools.partial(step.train_step, system, config, optimizer, axis_name=parallel.AXIS)
    update = parallel.parallelize(update, mesh, config.parallel, donate_state=True)
    state = parallel.replicate(mesh, start())
    batch = parallel.shard_batch(mesh, batch)
    averaged = sum(leaf.nbytes for leaf in jax.tree.leaves(state.params))
    seconds = []
    for _ in range(args.steps + 1):
        begin = time.perf_counter()
        state, metrics = update(state, batch)
        jax.block_until_ready(metrics)
        seconds.append(time.perf_counter() - begin)
    print(json.dumps({"s per step": min(seconds[1:]), "MB averaged": averaged / 1e6}))


if __name__ == "__main__":
    main()

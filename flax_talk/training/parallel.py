"""Data parallelism: the one place that knows about devices.

A function written per device, with collectives over the axis `data`, is compiled for all
devices by `jax.shard_map` (the default) or `jax.pmap`. The state is the same on every device
and each gets its slice of the batch; several processes, on one host or many, each bring their own
slice.
"""

import importlib.util
import itertools
import os
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp
from jax.experimental import multihost_utils
from jax.sharding import AxisType, Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from flax_talk.errors import UserError

AXIS = "data"

_BARRIERS = itertools.count()

_TASKS = ("SLURM_NTASKS", "OMPI_COMM_WORLD_SIZE")
"""What Slurm's `srun` and Open MPI's `mpirun` call the number of processes."""


def join(
    coordinator: str | None = None, num_processes: int | None = None, process_id: int | None = None
) -> None:
    """Joins the other processes of a run; to be called before anything asks for devices.

    What is not given comes from `JAX_COORDINATOR_ADDRESS`, `NUM_PROCESSES` and `PROCESS_ID`, else
    from what started the processes: a TPU slice, Slurm, Open MPI. Where there is none of these, or
    `num_processes` is 1, this process is alone.

    Args:
        coordinator: HOST:PORT of process 0, a port that is free there.
        num_processes: of the run.
        process_id: number of this one, from 0.

    Raises:
        UserError: the processes do not find each other, or something is missing.
    """
    coordinator = coordinator or os.environ.get("JAX_COORDINATOR_ADDRESS")
    try:
        if num_processes is None and "NUM_PROCESSES" in os.environ:
            num_processes = int(os.environ["NUM_PROCESSES"])
        if process_id is None and "PROCESS_ID" in os.environ:
            process_id = int(os.environ["PROCESS_ID"])
        started_together = importlib.util.find_spec("libtpu") is not None or any(
            int(os.environ.get(name, 1)) > 1 for name in _TASKS
        )
        if num_processes == 1 or not (coordinator or started_together):
            return
        jax.distributed.initialize(coordinator, num_processes, process_id)
    except (ValueError, RuntimeError) as error:
        raise UserError(
            f"the processes of the run do not find each other ({' '.join(str(error).split())}): "
            "give --coordinator, --num_processes and --process_id, or --num_processes 1 for this "
            "process alone"
        ) from error


def wait_for_all(what: str) -> None:
    """Returns once every process has called it, in the same order of calls; an hour is the most.

    They wait by the service that they found each other by, not by their devices: what reduces
    arrays gives up after half a minute, and one may compile longer than another.
    """
    if jax.process_count() > 1:
        everyone = set(range(jax.process_count()))
        # No name may come twice in a run.
        key = f"{what} {next(_BARRIERS)}"
        ocp.multihost.sync_global_processes(key, timeout=3600, processes=everyone)


def make_mesh() -> Mesh:
    """All devices of all processes along one axis, `data`."""
    return jax.make_mesh((jax.device_count(),), (AXIS,), axis_types=(AxisType.Auto,))


def check_batch_size(batch_size: int, accumulate: int = 1) -> None:
    """Raises UserError unless the devices can share a batch of this size equally, each in
    `accumulate` equal parts."""
    devices = jax.device_count()
    if accumulate < 1 or batch_size % (devices * accumulate):
        parts = f" in config.train.accumulate={accumulate} parts" if accumulate != 1 else ""
        raise UserError(
            f"config.data.batch_size={batch_size} cannot be shared by {devices} devices{parts}: "
            f"use a multiple of {devices * max(accumulate, 1)}"
        )


def replicate(mesh: Mesh, tree: Any) -> Any:
    """The tree on every device of the mesh; all processes call it alike."""
    # JAX compares what they have, and gives up when one is half a minute behind.
    wait_for_all("replicated")
    return jax.device_put(tree, NamedSharding(mesh, P()))


def shard_batch(mesh: Mesh, batch: dict[str, np.ndarray]) -> dict[str, jax.Array]:
    """A global batch, axis 0 over `data`, from the part that this process has loaded."""
    sharding = NamedSharding(mesh, P(AXIS))
    return {
        key: jax.make_array_from_process_local_data(sharding, value) for key, value in batch.items()
    }


def jit(function: Callable, **options: Any) -> Callable:
    """`jax.jit` for what all processes call alike, with arguments of one shape: none runs it before
    all have compiled it."""
    jitted = jax.jit(function, **options)
    if jax.process_count() == 1:
        return jitted
    compiled = None

    def call(*args):
        nonlocal compiled
        if compiled is None:
            compiled = jitted.lower(*args).compile()
            wait_for_all("compiled")
        return compiled(*args)

    return call


def parallelize(function: Callable, mesh: Mesh, kind: str, donate_state: bool = False) -> Callable:
    """Compiles `function(state, batch) -> tree` for all devices.

    Args:
        function: per device; its results must be equal on all devices (averaged over `data`).
        mesh: of `make_mesh`.
        kind: "shard_map" or "pmap" (which keeps its own copies: no donation).
        donate_state: reuse the state's memory for the result.
    """
    if kind == "shard_map":
        # With check_vma on, gradients of replicated parameters would be summed over devices
        # before the function averages them, and be too large by the number of devices.
        mapped = jax.shard_map(
            function, mesh=mesh, in_specs=(P(), P(AXIS)), out_specs=P(), check_vma=False
        )
        return jit(mapped, donate_argnums=(0,) if donate_state else ())
    if kind == "pmap":
        devices = list(mesh.devices.flat)
        mapped = jax.pmap(function, AXIS, in_axes=(None, 0), out_axes=None, devices=devices)

        def call(state, batch):
            # `jax.pmap` knows the arrays of its own process only.
            if jax.process_count() > 1:
                specs = (P(), P(AXIS))
                state, batch = multihost_utils.global_array_to_host_local_array(
                    (state, batch), mesh, specs
                )
            split = len(mesh.local_devices)
            batch = jax.tree.map(lambda x: x.reshape(split, -1, *x.shape[1:]), batch)
            tree = mapped(state, batch)
            if jax.process_count() > 1:
                tree = multihost_utils.host_local_array_to_global_array(tree, mesh, P())
            return tree

        return call
    raise UserError(f"config.parallel={kind!r}: use 'shard_map' or 'pmap'")

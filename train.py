"""Train a system.

    python train.py --config configs/temporal_gan_2019_grid.py:small --workdir runs/small

The same command again continues the run. Any field of the config can be set on the command
line: `--config.data.data_dir=data --config.train.max_steps=1000`. Several processes, on one
host or many, start with `--coordinator HOST:PORT --num_processes N --process_id I`; on a TPU slice
and under Slurm they find each other.
"""

import sys

from absl import app, flags, logging
from ml_collections import config_flags

_CONFIG = config_flags.DEFINE_config_file("config", None, "Config file, `configs/NAME.py:VARIANT`.")
_WORKDIR = flags.DEFINE_string("workdir", None, "Folder of the run, made if need be.")
_COORDINATOR = flags.DEFINE_string("coordinator", None, "HOST:PORT of process 0.")
_NUM_PROCESSES = flags.DEFINE_integer(
    "num_processes", None, "Processes of the run; 1: this one alone."
)
_PROCESS_ID = flags.DEFINE_integer("process_id", None, "Number of this process, from 0.")


def main(argv: list[str]) -> None:
    """Runs `flax_talk.training.recipe.train_recipe`."""
    import jax

    from flax_talk.errors import UserError
    from flax_talk.training import parallel
    from flax_talk.training.recipe import train_recipe

    if len(argv) > 1:
        raise app.UsageError(f"unexpected arguments: {' '.join(argv[1:])}")
    # Orbax reports every phase of a save; the progress bar says what people want to know.
    logging.set_verbosity(logging.WARNING)
    try:
        parallel.join(_COORDINATOR.value, _NUM_PROCESSES.value, _PROCESS_ID.value)
        scores = train_recipe(_CONFIG.value, _WORKDIR.value)
    except UserError as error:
        print(f"train.py: {error}", file=sys.stderr)
        sys.exit(2)
    if jax.process_index() > 0:
        return
    if not scores.pop("finished"):
        print("told to end before the last step: the same command goes on")
    print(" ".join(f"{key}={value:.4g}" for key, value in scores.items()))


if __name__ == "__main__":
    flags.mark_flags_as_required(["config", "workdir"])
    app.run(main)

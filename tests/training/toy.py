"""A system of two small players, a generator in name and a discriminator: compiled at once.

Run as a program, `toy.py DATA_DIR WORKDIR STEPS [FIELDS]`, it trains on the drawn clips of the
tests in a process of its own, to be killed, or one of several; FIELDS, as JSON, change the config.
"""

import json
import sys
from types import SimpleNamespace

import flax.linen as nn
import jax
import jax.numpy as jnp
from ml_collections import ConfigDict

from configs import common
from flax_talk.training import loop, parallel

PLAYERS = ("generator", "frame_discriminator")


class Net(nn.Module):
    width: int = 64

    @nn.compact
    def __call__(self, x):
        return nn.Dense(1)(nn.tanh(nn.Dense(self.width)(x)))[..., 0]


def init(config, rng, batch):
    x = jnp.zeros((1, 96))
    made = {name: {"params": Net().init(rng, x)["params"]} for name in PLAYERS}
    return {name: {**entry, "batch_stats": {}} for name, entry in made.items()}


def _outputs(variables, batch, noise):
    colours = batch["still"].astype(jnp.float32).reshape(len(batch["still"]), -1)[:, :96] / 255
    return {
        name: Net().apply({"params": v["params"]}, colours + noise) for name, v in variables.items()
    }


def losses(config, variables, batch, rng, train, axis_name):
    noise = jax.vmap(lambda key: jax.random.normal(key, (96,)))(rng)
    outputs = _outputs(variables, batch, noise)
    # Some steps, always the same ones, divide by zero if the config asks for it.
    spoilt = jnp.where(noise.max() > config.get("breaks_above", jnp.inf), jnp.nan, 1.0)
    means = {name: jnp.square(value - 0.5).mean() for name, value in outputs.items()}
    means["generator"] *= spoilt
    metrics = {f"{name}/loss": value for name, value in means.items()}
    metrics["frame_discriminator/accuracy_real"] = jnp.float32(config.get("accuracy", 0.5))
    return means, {name: {} for name in variables}, metrics


def measure(config, variables, batch, rng):
    return {"error": jnp.square(_outputs(variables, batch, 0.0)["generator"] - 0.5)}


SYSTEM = SimpleNamespace(init=init, losses=losses, measure=measure)


def get_config(data_dir: str, steps: int) -> ConfigDict:
    """On the drawn clips, four in a step, a validation every two epochs of four steps."""
    config = common.get_config()
    config.system = "toy"
    splits = dict(train="s1", validation="s2", test="s2")
    drawn = dict(dataset="grid", builder_config="drawn", image_size=(64, 32), window_seconds=0.05)
    config.data.update(dict(**drawn, data_dir=data_dir, splits=splits, batch_size=4, num_frames=5))
    often = dict(log_every=3, checkpoint_every=2, validate_every=2, max_steps=steps)
    config.train.update(often)
    config.early_stopping.update(dict(metric="error", mode="min"))
    config.optimizer = ConfigDict({name: common.adam(1e-3) for name in PLAYERS})
    return config


def main(data_dir: str, workdir: str, steps: str, fields: str = "{}") -> None:
    parallel.join()
    loop.get_system = lambda name: SYSTEM
    config = get_config(data_dir, int(steps))
    config.update(json.loads(fields))
    loop.train_and_evaluate(config, workdir)


if __name__ == "__main__":
    main(*sys.argv[1:])

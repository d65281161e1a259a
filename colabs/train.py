# ---
# jupyter:
#   jupytext:
#     text_representation:
#       extension: .py
#       format_name: percent
#   kernelspec:
#     display_name: Python 3
#     name: python3
# ---

# %% [markdown]
# # Train a small model and look inside
#
# The temporal GAN on rendered people, in its `:tiny` form, which shows how everything works and
# learns nothing worth seeing. `small` in the place of `tiny` trains for hours on two cores,
# minutes on a GPU.
#
# On Colab, clone the repository into `/content/flax_talk` first, or open this notebook from it;
# the next cell installs it. Elsewhere it does nothing.

# %%
import sys

if "google.colab" in sys.modules:
    # %cd /content/flax_talk
    # %pip install -q -e ".[dlib,speech,demo]"
    pass

# %% tags=["parameters"]
VARIANT = "tiny"
STEPS = 20  # quick: 2
WORKDIR = "runs/notebook"

# %% [markdown]
# ## The config says everything
#
# A config is a tree of numbers; every field can be changed here, or on the command line of
# `train.py` as `--config.data.batch_size=4`.

# %%
from configs import temporal_gan_2019_synthetic_grid

config = temporal_gan_2019_synthetic_grid.get_config(VARIANT)
config.train.max_steps = STEPS
config.data.batch_size = 4
print(config.generator, config.loss, config.optimizer, sep="\n")

# %% [markdown]
# ## Train
#
# The data is rendered before the first step, once. The same call again goes on where the run
# ended; interrupt it as you like.

# %%
from flax_talk.training.loop import train_and_evaluate

scores = train_and_evaluate(config, WORKDIR)
scores

# %% [markdown]
# ## What happened
#
# Each line of `metrics.jsonl` holds the losses by name and player. TensorBoard shows them and the
# samples too: `%load_ext tensorboard`, `%tensorboard --logdir runs`.

# %%
import json
from pathlib import Path

lines = [json.loads(line) for line in Path(WORKDIR, "metrics.jsonl").read_text().splitlines()]
last = {}
for line in lines:
    last |= line
for name, value in sorted(last.items()):
    print(f"{name:50} {value:.4g}")

# %% [markdown]
# ## Look inside
#
# Variables are nested dictionaries, players first. Modules can be applied to them piece by piece:
# here the identity encoder alone, and how much each of its skips is used.

# %%
import jax
import jax.numpy as jnp

from flax_talk import demo
from flax_talk.animate import load_generator
from flax_talk.systems import get_system

model = load_generator(WORKDIR)
counts = jax.tree.map(jnp.size, model.variables["generator"]["params"])
for part, leaves in counts.items():
    print(f"{part:20} {sum(jax.tree.leaves(leaves)):>10} parameters")

# %%
generator = get_system(config.system).players(model.config)["generator"]
height, width = config.data.image_size
faces = jnp.zeros((1, height, width, 3))
code, skips = generator.apply(model.variables["generator"], faces, method="identify")
print("identity code", code.shape, "skips", [skip.shape for skip in skips])

# %% [markdown]
# ## Animate with it

# %%
import flax_talk

talk = flax_talk.load(WORKDIR)
display(talk(demo.rendered_still(), text="bin blue"))

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
# # Reproduce an ablation table
#
# Each row of a paper's ablation is a config that leaves something out. One call trains and
# measures all of them beside the still frame and the real videos. In `tiny` form the table shows
# how, not what: give `VARIANT` and `STEPS` more, and an accelerator, for numbers to read.
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
STEPS = 10  # quick: 1
ROWS = ("l1", "full")  # quick: ("l1",)

# %% [markdown]
# ## The rows
#
# What each changes in the config of its system:

# %%
from configs.ablations import ABLATIONS

for system, rows in ABLATIONS.items():
    print(system)
    for row, changes in rows.items():
        print("   ", row, changes)

# %%
from flax_talk.ablation import ablate

result = ablate(
    "temporal_gan_2018",
    "synthetic_grid",
    "runs/ablation",
    variant=VARIANT,
    rows=ROWS,
    overrides={"train.max_steps": STEPS, "data.batch_size": 4},
    metrics=("psnr", "ssim", "cpbd"),
    limit=2,
)

# %% [markdown]
# ## The table
#
# Rows in italics are the paper's, on other data: they are not comparable.

# %%
from pathlib import Path

print(Path("runs/ablation/table.md").read_text())

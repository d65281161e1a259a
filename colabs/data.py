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
# # Everything about a data set
#
# A corpus is cut once into records: aligned faces, sound, landmarks and what else is known. Here
# four rendered people, of whom everything is known; the other data sets are used alike.
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
DATA_DIR = "data"

# %% [markdown]
# ## Prepare
#
# What `flax-talk prepare synthetic_grid:tiny` does. For recordings, `--source` names the corpus
# as it is distributed; `folder` takes any folder of clips of your own.

# %%
from input_pipeline.prepare import prepare

report = prepare("synthetic_grid:tiny", DATA_DIR)
print(report)

# %% [markdown]
# ## Inspect
#
# Counts, hours, speakers in more than one split, and a sheet of frames with their landmarks.

# %%
from PIL import Image

from input_pipeline.inspect import inspect

found = inspect(report.path, "sheet.png")
print(found)
display(Image.open("sheet.png"))

# %% [markdown]
# ## A record

# %%
import numpy as np
import tensorflow_datasets as tfds

records = tfds.builder_from_directory(report.path).as_data_source("train")
record = records[0]
for name, value in record.items():
    print(f"{name:14} {np.shape(value)} {getattr(value, 'dtype', type(value).__name__)}")

# %% [markdown]
# ## Sound and picture together
#
# Loudness, and the gap between the lips by the landmarks: lips part before a vowel is heard.

# %%
import matplotlib.pyplot as plt

landmarks = record["landmarks"]
gap = np.linalg.norm(landmarks[:, 62] - landmarks[:, 66], axis=-1)
waveform = record["waveform"].astype(np.float32) / 32768
loudness = [np.sqrt(np.mean(piece**2)) for piece in np.array_split(waveform, len(gap))]
times = np.arange(len(gap)) / 25
figure, (upper, lower) = plt.subplots(2, sharex=True, figsize=(8, 3))
upper.plot(times, loudness)
upper.set_ylabel("loudness")
lower.plot(times, gap)
lower.set(xlabel="s", ylabel="lips apart, px")
display(figure)

# %% [markdown]
# ## Batches
#
# What training sees: windows of frames, with the sound around each, padded to one length. The
# order is a function of the seed alone.

# %%
from configs import temporal_gan_2019_synthetic_grid
from input_pipeline.loader import make_loader, open_source

data = temporal_gan_2019_synthetic_grid.get_config("tiny").data
data.data_dir = DATA_DIR
batch = next(iter(make_loader(open_source(data, "train"), data, train=True, seed=0)))
for name, value in batch.items():
    print(f"{name:10} {value.dtype} {value.shape}")

# %%
display(Image.fromarray(np.concatenate(list(batch["video"][0]), axis=1)))

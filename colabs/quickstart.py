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
# # Animate a still
#
# A picture and a voice become a video, with the small checkpoint that comes with the package. It
# was trained on two CPU cores: the lips move with the speech, less than real ones do.
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
TEXT = "Place blue at F two now. Hello, I am a picture that learned to speak."  # quick: "bin blue"

# %% [markdown]
# ## A person who does not exist
#
# The still is rendered; any photograph of a face will do, as a file name or as an array `uint8
# [H, W, 3]`. Animate people who agreed to it.

# %%
from PIL import Image

import flax_talk
from flax_talk import demo

still = demo.rendered_still()
display(Image.fromarray(still))

# %%
talk = flax_talk.load()
video = talk(still, text=TEXT)
display(video)

# %% [markdown]
# A recording takes the place of the text: `talk("me.jpg", "voice.wav")`. What is saved says in
# its tags that it is synthetic; `mark=True` says so in the picture.

# %%
video.save("talking.mp4", mark=True)

# %% [markdown]
# ## Same voice, another seed
#
# Noise moves what speech does not: blinks and brows. The same seed makes the same video.

# %%
import numpy as np

sound = (video.waveform, video.rate)
again, other = (talk(still, sound, seed=seed) for seed in (0, 1))
print("same seed, same frames:", np.array_equal(again.frames, talk(still, sound).frames))
print("largest difference of another seed:", np.abs(again.frames.astype(int) - other.frames).max())

# %% [markdown]
# ## While the sound arrives
#
# Frames come as soon as the sound around them is there: half a window, a tenth of a second.

# %%
pieces = np.array_split(video.waveform, 10)
for frames in talk.stream(still, pieces):
    print(frames.shape, end=" ")

# %% [markdown]
# ## Where does the mouth move?
#
# The mean motion of each pixel over the video: bright is much.

# %%
from flax_talk import figures

display(figures.strip({"generated": video.frames}))
display(figures.motion_maps({"generated": video.frames}))

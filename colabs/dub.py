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
# # Dub a video
#
# The mouth of a portrait video follows another voice; everything else stays, pixel for pixel. The
# target here is a rendered head that turns; any video of one face will do.
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
SENTENCE = "bin blue at f two now"  # quick: "bin blue"
WORDS = "Now I say something else, and my mouth goes along."  # quick: "lay red"
ADAPTATION = 150  # quick: 0

# %% [markdown]
# ## A target

# %%
import numpy as np

from flax_talk.face_model.model import load_default
from input_pipeline import media
from input_pipeline.speech import say
from input_pipeline.synthetic.appearance import make_speaker
from input_pipeline.synthetic.renderer import Renderer, portrait_pose

speech = say(SENTENCE, "en-us+f2")
count = round(25 * len(speech.waveform) / speech.sample_rate)
model, person, size = load_default(), make_speaker(3006), (256, 256)
turn = np.sin(np.linspace(0, 2 * np.pi, count))
open_mouth = np.abs(np.sin(np.linspace(0, 12, count)))[:, None] * model.unit_weights(jawOpen=0.4)
pose = np.tile(portrait_pose(person, size), (count, 1))
pose[:, 1] = 0.35 * turn
frames = Renderer(size).render(person, open_mouth @ model.units_to_expression, pose)
media.write_video("target.mp4", frames, 25, speech.waveform, speech.sample_rate)

# %%
from flax_talk import figures

display(figures.strip({"target": frames}))

# %% [markdown]
# ## Dub it
#
# Stages are kept in a folder: the fitted face, the expression that the sound asks for, the frames
# chosen, the redrawn mouths, each as arrays and as a video to look at.

# %%
from flax_talk.dub import dub_files

done = dub_files("target.mp4", None, "dubbed.mp4", text=WORDS, keep="stages", adaptation=ADAPTATION)
done

# %%
from pathlib import Path

print(sorted(path.name for path in Path("stages").iterdir()))
fit = np.load("stages/fit.npz")
print({name: fit[name].shape for name in fit.files})

# %%
dubbed = media.read_video("dubbed.mp4").frames
display(figures.strip({"dubbed": dubbed}))

# %%
from flax_talk.api import Video

sound = media.read_audio("dubbed.mp4", 16_000)
display(Video(dubbed, sound, 16_000, 25.0, "everybodys_talkin_2020"))

# %% [markdown]
# How far sound and lips are apart, beside the target under the new sound, is what `python
# benchmarks/dubbing.py --pair target.mp4 voice.wav` prints.

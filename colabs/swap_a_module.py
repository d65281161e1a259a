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
# # Swap a module: a decoder of your own
#
# Networks are Flax Linen modules and systems are pure functions of a config, so a new decoder is
# one class. This one enlarges by repeating pixels and has no skips: will it keep the face?
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
STEPS = 20  # quick: 2
WORKDIR = "runs/repeating_decoder"

# %% [markdown]
# ## The contract
#
# The generator of the temporal GAN calls its decoder with a latent code for each frame, the still
# and the activations of the identity encoder, and gets a video. That is all a decoder must do.

# %%
import flax.linen as nn
import jax.numpy as jnp

from flax_talk.nets.convolutions import Conv, batch_norm
from flax_talk.nets.decoders import FrameDecoder

help(FrameDecoder.__call__)

# %% [markdown]
# ## Twenty lines


# %%
class RepeatingDecoder(nn.Module):
    """Nearest-neighbour enlargement and 3x3 convolutions, no skips."""

    num_skips: int = 0
    residual: bool = False
    dtype: jnp.dtype = jnp.float32
    axis_name: str | None = None

    @nn.compact
    def __call__(self, latent, still, skips, train):
        b, t, _ = latent.shape
        _, h, w, channels = skips[-1].shape
        x = nn.Dense(h * w * channels)(latent.reshape(b * t, -1)).reshape(b * t, h, w, channels)
        while x.shape[1] < still.shape[1]:
            x = x.repeat(2, axis=1).repeat(2, axis=2)
            channels = max(channels // 2, 2)
            x = Conv(channels, (3, 3), (1, 1), (1, 1), dtype=self.dtype)(x)
            x = nn.relu(batch_norm(train, self.dtype, self.axis_name)(x))
        x = Conv(3, (3, 3), (1, 1), (1, 1), use_bias=True)(x)
        return jnp.tanh(x).reshape(b, t, *still.shape[1:])


# %% [markdown]
# ## Put it in place
#
# A system looks its networks up in its own module. Training, checkpoints, validation and
# animation need no word about it.

# %%
from configs import temporal_gan_2019_synthetic_grid
from flax_talk.systems import temporal_gan
from flax_talk.training.loop import train_and_evaluate

temporal_gan.FrameDecoder = RepeatingDecoder

config = temporal_gan_2019_synthetic_grid.get_config("tiny")
config.train.max_steps = STEPS
config.data.batch_size = 4
scores = train_and_evaluate(config, WORKDIR)
scores

# %%
import flax_talk
from flax_talk import demo

display(flax_talk.load(WORKDIR)(demo.rendered_still(), text="bin blue"))

# %% [markdown]
# To keep it, write it into `flax_talk/nets/decoders.py` with a field of the config that chooses
# it, and add a row to `configs/ablations.py`: the table is then one command.

# %%
temporal_gan.FrameDecoder = FrameDecoder

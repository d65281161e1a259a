"""The three discriminators of Vougioukas et al. 2020, section 3.2, and the two of 2018.

Each returns a logit; the sigmoid of the papers is part of the losses. The papers draw the
layers without sizes: kernels, channel numbers and batch normalisation are ours, and follow the
generator's encoders; so is LeakyReLU, but for 2018, whose activations are ReLU (A.2).
"""

import flax.linen as nn
import jax
import jax.numpy as jnp

from flax_talk.nets.encoders import AudioEncoder, ImageEncoder
from flax_talk.nets.recurrent import GRU, last_valid


class FrameDiscriminator(nn.Module):
    """Is this frame real, and of the person in the still? (section 3.2.1 of both papers)

    Six convolutions on the frame and the still, concatenated channel-wise.

    Attributes:
        width, negative_slope: of `ImageEncoder`.
        conditional: with the still; Eq. 4 of Chen et al. 2021 is of the frame alone.
    """

    width: int = 64
    negative_slope: float = 0.2
    conditional: bool = True
    dtype: jnp.dtype = jnp.float32
    axis_name: str | None = None

    @nn.compact
    def __call__(self, frames: jax.Array, still: jax.Array, train: bool) -> jax.Array:
        """Frames [B, K, H, W, 3] and stills [B, H, W, 3], in [-1, 1], to logits [B, K]."""
        b, k = frames.shape[:2]
        if self.conditional:
            still = jnp.broadcast_to(still[:, None], frames.shape)
            frames = jnp.concatenate([frames, still], axis=-1)
        shared = dict(dtype=self.dtype, axis_name=self.axis_name)
        trunk = ImageEncoder(1, width=self.width, negative_slope=self.negative_slope, **shared)
        return trunk(frames.reshape(b * k, *frames.shape[2:]), train).reshape(b, k)


class SequenceDiscriminator(nn.Module):
    """Does this video move as real ones do? (section 3.2.2 of both papers)

    Convolutions over the frames, a GRU over their features, and a classifier on its last valid
    state. In 2020 the convolutions are spatio-temporal, the GRU and the classifier have one layer,
    and the text conditions them on the frames alone, Eq. 4 also on the audio: `conditional` follows
    the equation. In 2018 they see each frame by itself and its audio window, the encoders end in a
    tanh (A.2), and the GRU and the classifier have two layers.

    Attributes:
        features: length of the features of a frame, and of an audio window.
        hidden: width of the GRU, and of the classifier's layers before the last.
        num_layers: layers of the GRU.
        classifier_layers: 1 (2020) or 2 (2018).
        width, kernel_time, negative_slope: of `ImageEncoder`; kernel_time is 3 (2020) or 0 (2018).
        tanh: the features of a frame go through it, as those of an audio window do.
        conditional: with the audio.
        audio_width: channels of the audio encoder's first layer.
    """

    features: int = 256
    hidden: int = 256
    num_layers: int = 1
    classifier_layers: int = 1
    width: int = 64
    kernel_time: int = 3
    negative_slope: float = 0.2
    tanh: bool = False
    conditional: bool = False
    audio_width: int = 16
    audio_rate: int = 50_000
    dtype: jnp.dtype = jnp.float32
    axis_name: str | None = None

    @nn.compact
    def __call__(
        self, video: jax.Array, audio_windows: jax.Array, mask: jax.Array, train: bool
    ) -> jax.Array:
        """Judges videos.

        Args:
            video: [B, T, H, W, 3] in [-1, 1].
            audio_windows: [B, T, window]; used if `conditional`.
            mask: [B, T], True at the valid frames, which come first.

        Returns:
            Logits [B].
        """
        b, t = mask.shape
        shared = dict(dtype=self.dtype, axis_name=self.axis_name)
        encoder = ImageEncoder(
            self.features,
            width=self.width,
            kernel_time=self.kernel_time,
            negative_slope=self.negative_slope,
            **shared,
        )
        frames = video if self.kernel_time else video.reshape(b * t, *video.shape[2:])
        x = encoder(frames, train).reshape(b, t, -1)
        if self.tanh:
            x = jnp.tanh(x)
        if self.conditional:
            listener = AudioEncoder(self.features, self.audio_rate, self.audio_width, **shared)
            audio = listener(audio_windows.reshape(b * t, -1), train)
            x = jnp.concatenate([x, audio.reshape(b, t, -1)], axis=-1)
        outputs, _ = GRU(self.hidden, self.num_layers)(x)
        state = last_valid(outputs, mask)
        for _ in range(self.classifier_layers - 1):
            state = nn.leaky_relu(nn.Dense(self.hidden)(state), self.negative_slope)
        return nn.Dense(1)(state)[:, 0]


class SyncDiscriminator(nn.Module):
    """Do these lips and this sound belong together? (section 3.2.3, Fig. 5)

    The lower halves of a snippet's frames, stacked over channels (a convolution over the
    whole 0.2 s), and the audio of the snippet go through two encoders; a single-layer
    perceptron turns the Euclidean distance of the embeddings into a logit.

    Attributes:
        features: length of the embeddings.
        width: channels of the image encoder's first layer.
    """

    features: int = 256
    width: int = 64
    audio_rate: int = 50_000
    dtype: jnp.dtype = jnp.float32
    axis_name: str | None = None

    @nn.compact
    def __call__(self, snippets: jax.Array, audio: jax.Array, train: bool) -> jax.Array:
        """Lower halves [N, S, H / 2, W, 3] and their audio [N, window] to logits [N]."""
        n, s, h, w, c = snippets.shape
        stacked = jnp.moveaxis(snippets, 1, 3).reshape(n, h, w, s * c)
        shared = dict(dtype=self.dtype, axis_name=self.axis_name)
        lips = jnp.tanh(ImageEncoder(self.features, width=self.width, **shared)(stacked, train))
        sound = AudioEncoder(self.features, self.audio_rate, **shared)(audio, train)
        # The small constant keeps the gradient of the root finite at distance zero.
        distance = jnp.sqrt(jnp.square(lips - sound).sum(axis=-1) + 1e-8)
        # Ours: the perceptron starts undecided at the distance of unrelated embeddings.
        slope = -4.0 / self.features**0.5
        weight = self.param("weight", nn.initializers.constant(slope), ())
        bias = self.param("bias", nn.initializers.constant(2.0), ())
        return weight * distance + bias

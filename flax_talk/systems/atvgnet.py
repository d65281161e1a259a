"""ATVGnet: from sound to landmarks, and from landmarks and a still to a video.

Chen, Maddox, Duan and Xu, "Hierarchical Cross-Modal Talking Face Generation with Dynamic
Pixel-Wise Loss", CVPR 2019, a baseline of Vougioukas et al. 2020. The landmark stage (AT-net)
predicts how the still's landmarks move, in a small linear basis; the frame stage (VG-net) draws
colours and an attention mask, which says how much of the still to replace, from landmarks that have
moved so. Its L1 loss is weighted by the attention. A discriminator regresses landmarks from frames
as well as telling real videos from others.

Ours: both stages learn at the same time, each from its own terms, the frame stage from real
landmarks as in the paper; the basis is learned, where the paper has the principal components of
the training landmarks; the still's landmarks, which the paper detects, are read from it by a linear
layer that learns on real frames; recurrent layers are GRUs over codes, for an LSTM and for a
convolutional recurrence; encoders and decoder are those of the temporal GAN.
"""

from collections.abc import Mapping, Sequence
from typing import Any, cast

import flax.linen as nn
import jax
import jax.numpy as jnp
from ml_collections import ConfigDict

from flax_talk import losses as terms
from flax_talk.images import to_float
from flax_talk.nets.decoders import FrameDecoder
from flax_talk.nets.encoders import CepstrumEncoder, IdentityEncoder, ImageEncoder
from flax_talk.nets.recurrent import GRU, last_valid
from flax_talk.systems import step
from flax_talk.systems.hearing import audio_geometry
from flax_talk.systems.speech2vid import Carry, Variables, hear
from flax_talk.systems.step import GENERATOR

__all__ = [
    "audio_geometry",
    "generate",
    "identity_code",
    "init",
    "losses",
    "players",
]

DISCRIMINATOR = "discriminator"
COORDINATES = 2 * 68
FRAME_TERMS = ("reconstruction", "adversarial", "regression")
"""Terms of the frame stage; without a weight for any of them it is not run."""


def normalise(landmarks: jax.Array, size: Sequence[int]) -> jax.Array:
    """Landmarks [..., 68, 2], (x, y) in pixels of pictures of size (H, W), as [..., 136] in
    [-1, 1]."""
    height, width = size
    scaled = 2 * landmarks / jnp.array([width, height], jnp.float32) - 1
    return scaled.reshape(*landmarks.shape[:-2], COORDINATES)


class Generator(nn.Module):
    """Both stages.

    Attributes are the sizes of `config.generator`, see `configs/`.
    """

    identity_dim: int
    audio_dim: int
    landmark_dim: int
    num_components: int
    recurrent_dim: int
    width: int
    num_skips: int
    audio_width: int
    audio_hidden: int
    dtype: jnp.dtype = jnp.float32
    axis_name: str | None = None

    def setup(self) -> None:
        shared = dict(dtype=self.dtype, axis_name=self.axis_name)
        # Landmark stage.
        self.landmark_reader = ImageEncoder(COORDINATES, width=self.width // 2, **shared)
        self.audio_encoder = CepstrumEncoder(
            self.audio_dim, self.audio_width, self.audio_hidden, pool=True, **shared
        )
        self.still_landmarks = nn.Dense(self.landmark_dim)
        self.speech = GRU(self.recurrent_dim)
        self.components = nn.Dense(self.num_components)
        # Until something is learned, landmarks stay where they are.
        self.basis = nn.Dense(COORDINATES, kernel_init=nn.initializers.zeros)
        # Frame stage.
        self.identity_encoder = IdentityEncoder(self.identity_dim, self.width, **shared)
        self.motion = nn.Dense(self.landmark_dim)
        self.frames = GRU(self.recurrent_dim)
        self.decoder = FrameDecoder(self.num_skips, channels=4, **shared)

    def __call__(
        self,
        still: jax.Array,
        cepstra: jax.Array,
        carry: Carry | None = None,
        train: bool = False,
    ) -> tuple[jax.Array, Carry]:
        """Generates one frame for each window.

        Args:
            still: [B, H, W, 3] in [-1, 1].
            cepstra: [B, T, coefficients, columns].
            carry: what the previous call returned, to continue its video.
            train: batch statistics of the batch, not the running ones.

        Returns:
            (video [B, T, H, W, 3] in [-1, 1], carry of the two GRUs after the last frame).
        """
        states: Mapping[str, jax.Array | None] = carry or {"speech": None, "frames": None}
        at_rest = self.landmark_reader(still, train)
        landmarks, speech = self.speak(at_rest, cepstra, states["speech"], train)
        video, _, frames = self.draw(still, at_rest, landmarks, states["frames"], train)
        return video, {"speech": speech, "frames": frames}

    def speak(
        self,
        at_rest: jax.Array,
        cepstra: jax.Array,
        carry: jax.Array | None = None,
        train: bool = False,
    ) -> tuple[jax.Array, jax.Array]:
        """The landmark stage.

        Args:
            at_rest: landmarks of the still [B, 136], see `normalise`.
            cepstra: [B, T, coefficients, columns].
            carry: of its GRU.
            train: see `__call__`.

        Returns:
            (landmarks [B, T, 136], carry).
        """
        b, t = cepstra.shape[:2]
        sound = self.audio_encoder(cepstra.reshape(b * t, *cepstra.shape[2:]), train)
        shape = nn.relu(self.still_landmarks(at_rest))
        shape = jnp.broadcast_to(shape[:, None], (b, t, self.landmark_dim))
        codes = jnp.concatenate([sound.reshape(b, t, -1), shape], axis=-1)
        states, carry = self.speech(codes, carry)
        return at_rest[:, None] + self.basis(self.components(states)), carry

    def draw(
        self,
        still: jax.Array,
        at_rest: jax.Array,
        landmarks: jax.Array,
        carry: jax.Array | None = None,
        train: bool = False,
    ) -> tuple[jax.Array, jax.Array, jax.Array]:
        """The frame stage.

        Args:
            still: [B, H, W, 3] in [-1, 1].
            at_rest: landmarks of the still [B, 136].
            landmarks: of each frame [B, T, 136].
            carry: of its GRU.
            train: see `__call__`.

        Returns:
            (video [B, T, H, W, 3] in [-1, 1], attention [B, T, H, W, 1] in [0, 1], 1 where the
            still is replaced, carry).
        """
        identity_code, skips = self.identify(still, train)
        motion = nn.relu(self.motion(landmarks - at_rest[:, None]))
        shape = (*motion.shape[:2], self.identity_dim)
        identity_code = jnp.broadcast_to(identity_code[:, None], shape)
        states, carry = self.frames(jnp.concatenate([motion, identity_code], axis=-1), carry)
        # What moves now goes beside what the recurrence remembers.
        decoded = self.decoder(jnp.concatenate([states, motion], axis=-1), still, skips, train)
        colours, attention = decoded[..., :3], (1 + decoded[..., 3:]) / 2
        video = attention * colours + (1 - attention) * still[:, None]
        return video, attention, carry

    def identify(self, still: jax.Array, train: bool = False) -> tuple[jax.Array, list[jax.Array]]:
        """The identity code [B, identity_dim] of stills, and the skips of the decoder."""
        return self.identity_encoder(still, train)

    def teach(
        self,
        still: jax.Array,
        cepstra: jax.Array,
        video: jax.Array,
        landmarks: jax.Array,
        drawing: bool = True,
        train: bool = False,
    ) -> tuple[jax.Array, jax.Array, jax.Array | None, jax.Array | None]:
        """What training asks for; the still's landmarks are constants for both stages.

        Args:
            still, cepstra: see `__call__`.
            video: real frames [B, T, H, W, 3].
            landmarks: of theirs [B, T, 136].
            drawing: run the frame stage.
            train: see `__call__`.

        Returns:
            (landmarks read from real frames [B, T, 136], landmarks of the landmark stage
            [B, T, 136], video and attention of the frame stage, None without `drawing`).
        """
        b, t = video.shape[:2]
        # The still is read with the frames, so that one batch normalises all.
        seen = jnp.concatenate([still, video.reshape(b * t, *video.shape[2:])])
        read = self.landmark_reader(seen, train)
        at_rest = jax.lax.stop_gradient(read[:b])
        spoken, _ = self.speak(at_rest, cepstra, None, train)
        drawn, attention = None, None
        if drawing:
            drawn, attention, _ = self.draw(still, at_rest, landmarks, None, train)
        return read[b:].reshape(b, t, -1), spoken, drawn, attention


class Discriminator(nn.Module):
    """Is this video real, given its landmarks, and which landmarks do its frames show?

    Attributes:
        features: length of the features of a frame.
        hidden: width of the GRU.
        width: of `ImageEncoder`.
    """

    features: int = 256
    hidden: int = 256
    width: int = 64
    dtype: jnp.dtype = jnp.float32
    axis_name: str | None = None

    @nn.compact
    def __call__(
        self, video: jax.Array, landmarks: jax.Array, mask: jax.Array, train: bool
    ) -> tuple[jax.Array, jax.Array]:
        """Judges videos.

        Args:
            video: [B, T, H, W, 3] in [-1, 1].
            landmarks: [B, T, 136], those that the video should have.
            mask: [B, T], True at the valid frames, which come first.
            train: normalise by the batch.

        Returns:
            (logits [B], landmarks seen in each frame [B, T, 136]).
        """
        b, t = mask.shape
        shared = dict(dtype=self.dtype, axis_name=self.axis_name)
        encoder = ImageEncoder(self.features, width=self.width, **shared)
        seen = encoder(video.reshape(b * t, *video.shape[2:]), train).reshape(b, t, -1)
        # The regression sees the frames alone: given the landmarks it would copy them.
        regressed = nn.Dense(COORDINATES)(nn.leaky_relu(seen, 0.2))
        outputs, _ = GRU(self.hidden)(jnp.concatenate([seen, landmarks], axis=-1))
        return nn.Dense(1)(last_valid(outputs, mask))[:, 0], regressed


def make_generator(config: ConfigDict, axis_name: str | None = None) -> Generator:
    """The generator of a config."""
    return Generator(**config.generator, dtype=jnp.dtype(config.dtype), axis_name=axis_name)


def players(config: ConfigDict, axis_name: str | None = None) -> dict[str, nn.Module]:
    """The modules by player; without a weight for what the discriminator says, there is none."""
    modules: dict[str, nn.Module] = {GENERATOR: make_generator(config, axis_name)}
    if config.loss.adversarial > 0 or config.loss.regression > 0:
        shared = dict(dtype=jnp.dtype(config.dtype), axis_name=axis_name)
        modules[DISCRIMINATOR] = Discriminator(**config.discriminator, **shared)
    return modules


def init(config: ConfigDict, rng: jax.Array, batch: dict[str, jax.Array]) -> Variables:
    """Initial variables of every player.

    Args:
        rng: one key.
        batch: as the loader yields it; only shapes matter.
    """
    still, video = to_float(batch["still"]), to_float(batch["video"])
    shape = video.shape[:2]
    landmarks = jnp.zeros((*shape, COORDINATES))
    inputs = {
        GENERATOR: (still, hear(config, batch["waveform"]), video, landmarks),
        DISCRIMINATOR: (video, landmarks, jnp.ones(shape, bool)),
    }
    return step.init(players(config), rng, inputs, generator="teach")


def pixel_loss(fake: jax.Array, real: jax.Array, attention: jax.Array, least: float) -> jax.Array:
    """The dynamic pixel-wise loss of each frame: L1, weighted by what the generator attends to.

    Args:
        fake, real: [..., H, W, 3].
        attention: [..., H, W, 1], held constant, or it would vanish.
        least: beta, weight of a pixel without attention.

    Returns:
        [...].
    """
    weight = jax.lax.stop_gradient(attention) + least
    return (weight * jnp.abs(fake - real)).mean(axis=(-3, -2, -1))


def losses(
    config: ConfigDict,
    variables: Variables,
    batch: dict[str, jax.Array],
    rng: jax.Array,
    train: bool = True,
    axis_name: str | None = None,
) -> tuple[dict[str, jax.Array], dict[str, Any], dict[str, jax.Array]]:
    """Losses of every player on one batch.

    Args:
        variables: of `init`.
        batch: `still` [B, H, W, 3], `video` [B, T, H, W, 3] (uint8, or float in [-1, 1]),
            `waveform` [B, (T - 1) stride + window], `mask` [B, T], `landmarks` [B, T, 68, 2] in
            pixels.
        rng: not used.
        train: batch normalisation by the batch.
        axis_name: device axis of the batch, if it is spread.

    Returns:
        (losses by player, new batch statistics by player, metrics by name).
    """
    del rng
    modules, weights = players(config, axis_name), config.loss
    turn = step.Players(config, modules, variables, train)
    still, video, mask = to_float(batch["still"]), to_float(batch["video"]), batch["mask"]
    landmarks = normalise(batch["landmarks"], video.shape[-3:-1])

    def mean(values, mask):
        return terms.masked_mean(values, mask, axis_name)

    def distance(predicted):
        return mean(jnp.square(predicted - landmarks).mean(axis=-1), mask)

    drawing = any(weights[name] > 0 for name in FRAME_TERMS)
    inputs = (still, hear(config, batch["waveform"]), video, landmarks, drawing)
    read, spoken, fake, attention = turn.apply(GENERATOR, *inputs, method="teach")
    generator = {"reading": distance(read), "landmarks": distance(spoken)}
    values, metrics = {GENERATOR: generator}, {}
    if drawing:
        each = pixel_loss(fake, video, attention, weights.least_attention)
        generator["reconstruction"] = mean(each, mask)
        metrics[f"{GENERATOR}/attention"] = mean(attention.mean(axis=(-3, -2, -1)), mask)

    if DISCRIMINATOR in modules:
        valid = mask.any(axis=1)
        real, seen = turn.apply(DISCRIMINATOR, video, landmarks, mask)
        constant_fake = jax.lax.stop_gradient(fake)
        false, _ = turn.apply(DISCRIMINATOR, constant_fake, landmarks, mask)
        judged, shown = turn.judge(DISCRIMINATOR, fake, landmarks, mask)
        values[DISCRIMINATOR] = {
            "real": mean(terms.real_loss(real), valid),
            "fake": mean(terms.fake_loss(false), valid),
            "regression": distance(seen),
        }
        generator["adversarial"] = mean(terms.generator_loss(judged), valid)
        generator["regression"] = distance(shown)
        for name, right in (("real", real > 0), ("fake", false < 0)):
            metrics[f"{DISCRIMINATOR}/accuracy_{name}"] = mean(right.astype(jnp.float32), valid)

    total, named = step.total(weights, values)
    return total, turn.stats, metrics | named


def generate(
    config: ConfigDict,
    variables: Variables,
    still: jax.Array,
    audio: jax.Array,
    rng: jax.Array,
    carry: Carry | None = None,
) -> tuple[jax.Array, Carry]:
    """Animates stills, through the landmarks that the sound asks for.

    Args:
        variables: of `init`; only the generator's are used.
        still: [B, H, W, 3], uint8 or float in [-1, 1].
        audio: [B, (T - 1) stride + window] float32 in [-1, 1]: T frames' audio, padded so
            that a window is centred on each (`input_pipeline.audio.pad_waveform`).
        rng: not used; nothing is drawn.
        carry: of the call before, to continue a stream with the next frames' audio.

    Returns:
        (video [B, T, H, W, 3] float32 in [-1, 1], carry).
    """
    del rng
    inputs = (to_float(still), hear(config, audio), carry)
    made = make_generator(config).apply(variables[GENERATOR], *inputs)
    return cast(tuple[jax.Array, Carry], made)


def identity_code(config: ConfigDict, variables: Variables, still: jax.Array) -> jax.Array:
    """What the generator takes stills for.

    Args:
        variables: of `init`; only the generator's are used.
        still: [B, H, W, 3], uint8 or float in [-1, 1].

    Returns:
        [B, identity_dim] in (-1, 1).
    """
    inputs = (variables[GENERATOR], to_float(still))
    return make_generator(config).apply(*inputs, method="identify")[0]

"""Temporal GAN: a still and raw audio to a video of the whole face.

Vougioukas, Petridis, Pantic: "Realistic Speech-Driven Facial Animation with GANs", IJCV 2020
(arXiv 1906.06337). A recurrent generator (section 3.1) against a frame, a sequence and a
synchronisation discriminator (section 3.2), with an L1 loss on the lower half of the face
(section 3.3). Its sections and equations are those cited here. Two configs of other sizes are
the system of the same authors' "End-to-End Speech-Driven Facial Animation with Temporal GANs", BMVC
2018, whose sequence discriminator hears the audio and which has no synchronisation discriminator,
and the papers' baseline, whose generator is not recurrent.

Ours, and fields of the config: how many frames and snippets of a clip the frame
and synchronisation discriminators see in a step, how far the shifted audio is shifted, and the
non-saturating form of the generator's adversarial losses; and, off unless asked for, L1 losses on
the upper half and around the mouth, a linear head that reads the mouth's landmarks from the
content code, and frames as changes of the still, for runs too short to find the sound in the pixels
alone.
"""

from typing import Any, cast

import flax.linen as nn
import jax
import jax.numpy as jnp
from ml_collections import ConfigDict

from flax_talk import losses as terms
from flax_talk.images import to_float
from flax_talk.nets.convolutions import PREPARED, implementation
from flax_talk.nets.decoders import FrameDecoder, SkipHalves
from flax_talk.nets.discriminators import (
    FrameDiscriminator,
    SequenceDiscriminator,
    SyncDiscriminator,
)
from flax_talk.nets.encoders import AudioEncoder, IdentityEncoder
from flax_talk.nets.recurrent import GRU
from flax_talk.systems import step
from flax_talk.systems.hearing import audio_geometry
from input_pipeline.audio import cut_windows

_MOUTH_COORDINATES = 2 * 20
_PREPARED_FRAMES = 25
"""Frames that `prepare` chooses the form of the layers for."""

Variables = dict[str, dict[str, Any]]
Carry = dict[str, Any]

GENERATOR = "generator"
FRAME = "frame_discriminator"
SEQUENCE = "sequence_discriminator"
SYNC = "sync_discriminator"
# Each discriminator's weight in the generator's loss is the field of config.loss so named.
OPTIONAL_PARTS = {
    "upper_reconstruction": terms.upper_half,
    "mouth_reconstruction": terms.mouth_region,
}
"""Parts of the frame with an L1 loss of their own where config.loss gives it a weight (ours)."""
WEIGHTS = {FRAME: "frame", SYNC: "sync", SEQUENCE: "sequence"}


class Generator(nn.Module):
    """Section 3.1: identity, content and noise codes of each frame, decoded with skips.

    Attributes are the sizes of `config.generator`, see `configs/`. With no layer of a GRU its input
    is the code: of the audio window alone, or noise of the frame alone.
    """

    identity_dim: int
    audio_dim: int
    content_dim: int
    content_layers: int
    noise_dim: int
    width: int
    num_skips: int
    residual: bool
    audio_width: int
    audio_rate: int
    noise_layers: int = 1
    mouth_head: bool = False
    dtype: jnp.dtype = jnp.float32
    axis_name: str | None = None

    def setup(self) -> None:
        shared = dict(dtype=self.dtype, axis_name=self.axis_name)
        self.identity_encoder = IdentityEncoder(self.identity_dim, self.width, **shared)
        self.audio_encoder = AudioEncoder(
            self.audio_dim, self.audio_rate, self.audio_width, **shared
        )
        self.content = GRU(self.content_dim, self.content_layers)
        self.noise = GRU(self.noise_dim, self.noise_layers)
        self.decoder = FrameDecoder(self.num_skips, self.residual, **shared)
        self.mouth = nn.Dense(_MOUTH_COORDINATES)

    def __call__(
        self,
        still: jax.Array,
        audio_windows: jax.Array,
        noise: jax.Array,
        carry: Carry | None = None,
        train: bool = False,
    ) -> tuple[jax.Array, Carry]:
        """Generates one frame for each audio window.

        Args:
            still: [B, H, W, 3] in [-1, 1].
            audio_windows: [B, T, window] in [-1, 1].
            noise: [B, T, noise_dim].
            carry: what the previous call returned, to continue its video.
            train: batch statistics of the batch, not the running ones.

        Returns:
            (video [B, T, H, W, 3] in [-1, 1], carry: of the two GRUs after the last frame, and
            what `remember` makes of the still).
        """
        carry = carry or {"content": None, "noise": None}
        identity = carry.get("identity") or self.remember(still, train)
        content_code, content = self.listen(audio_windows, carry["content"], train)
        video, noise = self.draw(still, content_code, noise, carry["noise"], train, identity)
        return video, {"content": content, "noise": noise, "identity": identity}

    def remember(self, still: jax.Array, train: bool = False) -> tuple[jax.Array, SkipHalves]:
        """All of stills that their videos need: identity codes and the skips' halves."""
        identity_code, skips = self.identify(still, train)
        return identity_code, self.decoder.halves(still, skips)

    def identify(self, still: jax.Array, train: bool = False) -> tuple[jax.Array, list[jax.Array]]:
        """The identity code [B, identity_dim] of stills, and the skips of the decoder."""
        return self.identity_encoder(still, train)

    def listen(
        self, audio_windows: jax.Array, carry: jax.Array | None = None, train: bool = False
    ) -> tuple[jax.Array, jax.Array]:
        """The content code [B, T, content_dim] of audio windows, and the carry of its GRU."""
        b, t, window = audio_windows.shape
        audio_code = self.audio_encoder(audio_windows.reshape(b * t, window), train)
        return self.content(audio_code.reshape(b, t, -1), carry)

    def draw(
        self,
        still: jax.Array,
        content_code: jax.Array,
        noise: jax.Array,
        carry: jax.Array | None = None,
        train: bool = False,
        identity: tuple[jax.Array, SkipHalves] | None = None,
    ) -> tuple[jax.Array, jax.Array]:
        """The video of `__call__` from its content code, and the carry of the noise's GRU."""
        identity_code, skips = identity or self.remember(still, train)
        noise_code, carry = self.noise(noise, carry)
        identity_code = jnp.broadcast_to(
            identity_code[:, None], (*content_code.shape[:2], self.identity_dim)
        )
        latent = jnp.concatenate([content_code, jnp.tanh(noise_code), identity_code], axis=-1)
        return self.decoder(latent, still, skips, train), carry

    def read_mouth(self, content_code: jax.Array) -> jax.Array:
        """Mouth landmarks [B, T, 20, 2], pixels, read linearly from the content code (ours)."""
        points = self.mouth(content_code)
        return points.reshape(*points.shape[:2], -1, 2)

    def teach(
        self,
        still: jax.Array,
        audio_windows: jax.Array,
        noise: jax.Array,
        drawing: bool = True,
        train: bool = False,
    ) -> tuple[jax.Array | None, jax.Array | None]:
        """What training asks for: the video, and the mouth that `read_mouth` reads.

        Either is None where `drawing` or `mouth_head` is False, and costs nothing then.
        """
        content_code, _ = self.listen(audio_windows, None, train)
        mouth = self.read_mouth(content_code) if self.mouth_head else None
        video = self.draw(still, content_code, noise, None, train)[0] if drawing else None
        return video, mouth


def players(config: ConfigDict, axis_name: str | None = None) -> dict[str, nn.Module]:
    """The modules that the config trains, by player; a loss weight of 0 leaves one out.

    A config without losses, of published weights, generates only: it has the generator alone.
    """
    shared = dict(dtype=jnp.dtype(config.dtype), axis_name=axis_name)
    audio_rate = config.data.audio_rate
    trains = "loss" in config
    sizes = dict(audio_rate=audio_rate, mouth_head=trains and config.loss.landmarks > 0)
    generator = Generator(**config.generator, **sizes, **shared)
    if not trains:
        return {GENERATOR: generator}
    discriminators = {
        FRAME: FrameDiscriminator(**config.frame_discriminator, **shared),
        SYNC: SyncDiscriminator(**config.sync_discriminator, audio_rate=audio_rate, **shared),
        SEQUENCE: SequenceDiscriminator(
            **config.sequence_discriminator, audio_rate=audio_rate, **shared
        ),
    }
    used = {name: d for name, d in discriminators.items() if config.loss[WEIGHTS[name]] > 0}
    return {GENERATOR: generator, **used}


def sample_noise(config: ConfigDict, rng: jax.Array, frames: jax.Array, std: float) -> jax.Array:
    """White Gaussian noise [B, T, noise_dim], the input of the noise GRU if there is one.

    Each frame's noise depends on its number alone, so a stream cut anywhere draws the same.

    Args:
        rng: [B] keys.
        frames: [B, T] int32, the frames' numbers.
        std: standard deviation (training: the square root of the paper's 0.6).
    """

    def draw(key, frame):
        return jax.random.normal(jax.random.fold_in(key, frame), (config.generator.noise_dim,))

    return std * jax.vmap(jax.vmap(draw, in_axes=(None, 0)))(rng, frames)


def init(config: ConfigDict, rng: jax.Array, batch: dict[str, jax.Array]) -> Variables:
    """Initial variables of every player.

    Args:
        rng: one key.
        batch: as the loader yields it; only shapes matter.
    """
    still, video = to_float(batch["still"]), to_float(batch["video"])
    b, t = video.shape[:2]
    windows = cut_windows(batch["waveform"], *audio_geometry(config))
    noise = jnp.zeros((b, t, config.generator.noise_dim))
    snippet, half = config.loss.snippet_frames, terms.lower_half(video)
    inputs = {
        GENERATOR: (still, windows, noise),
        FRAME: (video[:, :1], still),
        SYNC: (half[:, :snippet], windows[:, 0]),
        SEQUENCE: (video, windows, jnp.ones((b, t), bool)),
    }
    return step.init(players(config), rng, inputs, **{GENERATOR: "teach"})


def gather_time(x: jax.Array, index: jax.Array) -> jax.Array:
    """Entries [B, K, ...] of x [B, T, ...] at the times index [B, K]."""
    return jax.vmap(lambda row, at: row[at])(x, index)


def sample_frames(rng: jax.Array, mask: jax.Array, count: int) -> jax.Array:
    """S(x) of Eq. 2: `count` times of each clip, uniform over its valid frames: [B, count]."""
    uniform = jax.vmap(lambda key: jax.random.uniform(key, (count,)))(rng)
    return jnp.floor(uniform * mask.sum(axis=1, keepdims=True)).astype(jnp.int32)


def sample_snippets(
    config: ConfigDict, rng: jax.Array, mask: jax.Array
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Where the synchronisation discriminator looks.

    Args:
        rng: [B] keys.
        mask: [B, T], valid frames first.

    Returns:
        (centre, shifted, valid), each [B, K]: the frame in the middle of each snippet, the
        frame on which the out-of-sync audio window is centred, at least `config.loss.min_shift`
        frames away, and whether there is such a place for this centre in its clip.
    """
    loss, half = config.loss, config.loss.snippet_frames // 2
    length = mask.sum(axis=1, keepdims=True)

    def draw(key, length):
        first, second = jax.random.split(key)
        places = length - 2 * half
        centre = jnp.floor(jax.random.uniform(first, (loss.num_snippets,)) * places)
        # The shifted centre is uniform over the places outside (centre +- min_shift).
        low = jnp.maximum(centre - loss.min_shift + 1, 0)
        high = jnp.minimum(centre + loss.min_shift, places)
        choices = low + (places - high)
        pick = jnp.floor(jax.random.uniform(second, (loss.num_snippets,)) * choices)
        shifted = jnp.where(pick < low, pick, pick - low + high)
        return centre + half, shifted + half, choices > 0

    centre, shifted, valid = jax.vmap(draw)(rng, length[:, 0])
    limit = mask.shape[1] - 1
    index = [jnp.clip(i, 0, limit).astype(jnp.int32) for i in (centre, shifted)]
    return *index, valid & (length >= loss.snippet_frames)


def losses(
    config: ConfigDict,
    variables: Variables,
    batch: dict[str, jax.Array],
    rng: jax.Array,
    train: bool = True,
    axis_name: str | None = None,
) -> tuple[dict[str, jax.Array], dict[str, Any], dict[str, jax.Array]]:
    """Losses of every player on one batch (Eq. 2 to 7).

    The generator runs once; how the discriminators judge its video, see `flax_talk.systems.step`.

    Args:
        variables: of `init`.
        batch: `still` [B, H, W, 3], `video` [B, T, H, W, 3] (uint8, or float in [-1, 1]),
            `waveform` [B, (T - 1) stride + window], `mask` [B, T], and `landmarks` [B, T, 68, 2]
            in pixels where the config gives them a weight.
        rng: [B] keys.
        train: batch normalisation by the batch.
        axis_name: device axis of the batch, if it is spread.

    Returns:
        (losses by player, new batch statistics by player, metrics by name).
    """
    modules = players(config, axis_name)
    still, video, mask = to_float(batch["still"]), to_float(batch["video"]), batch["mask"]
    windows = cut_windows(batch["waveform"], *audio_geometry(config))
    keys = jax.vmap(lambda key: jax.random.split(key, 3))(rng)
    noise_rng, frame_rng, snippet_rng = keys[:, 0], keys[:, 1], keys[:, 2]
    turn = step.Players(config, modules, variables, train)
    apply, judge = turn.apply, turn.judge

    def mean(values, mask):
        return terms.masked_mean(values, mask, axis_name)

    frames = jnp.broadcast_to(jnp.arange(mask.shape[1]), mask.shape)
    noise = sample_noise(config, noise_rng, frames, config.loss.noise_std)
    drawing = config.loss.reconstruction > 0 or len(modules) > 1
    fake, mouth = apply(GENERATOR, still, windows, noise, drawing=drawing, method="teach")
    generator = {}
    if config.loss.landmarks > 0:
        generator["landmarks"] = mean(terms.mouth_shape(mouth, batch["landmarks"], mask), mask)
    if drawing:
        constant_fake = jax.lax.stop_gradient(fake)
        half_real, half_fake = terms.lower_half(video), terms.lower_half(fake)
        generator["reconstruction"] = mean(terms.l1(half_fake, half_real), mask)
        for name, part in OPTIONAL_PARTS.items():
            if config.loss[name] > 0:
                generator[name] = mean(terms.l1(part(fake), part(video)), mask)
    discriminators, metrics = {}, {}

    def accuracy(name, real, fake, mask):
        metrics[f"{name}/accuracy_real"] = mean((real > 0).astype(jnp.float32), mask)
        metrics[f"{name}/accuracy_fake"] = mean((fake < 0).astype(jnp.float32), mask)

    if FRAME in modules:  # Eq. 2
        index = sample_frames(frame_rng, mask, config.loss.num_frames)
        valid = jnp.broadcast_to(mask.any(axis=1, keepdims=True), index.shape)
        real = apply(FRAME, gather_time(video, index), still)
        false = apply(FRAME, gather_time(constant_fake, index), still)
        judged = judge(FRAME, gather_time(fake, index), still)
        discriminators[FRAME] = mean(terms.real_loss(real) + terms.fake_loss(false), valid)
        generator["frame"] = mean(terms.generator_loss(judged), valid)
        accuracy(FRAME, real, false, valid)

    if SYNC in modules:  # Eq. 3
        centre, shifted, valid = sample_snippets(config, snippet_rng, mask)
        half = config.loss.snippet_frames // 2
        valid = valid.reshape(-1)

        def snippets(halves):
            offsets = jnp.arange(-half, half + 1)
            index = (centre[..., None] + offsets).reshape(centre.shape[0], -1)
            return gather_time(halves, index).reshape(-1, 2 * half + 1, *halves.shape[2:])

        def audio(index):
            return gather_time(windows, index).reshape(-1, windows.shape[-1])

        in_sync = apply(SYNC, snippets(half_real), audio(centre))
        shifted_audio = apply(SYNC, snippets(half_real), audio(shifted))
        false = apply(SYNC, snippets(terms.lower_half(constant_fake)), audio(centre))
        judged = judge(SYNC, snippets(half_fake), audio(centre))
        negatives = terms.fake_loss(shifted_audio) + terms.fake_loss(false)
        discriminators[SYNC] = mean(terms.real_loss(in_sync) + 0.5 * negatives, valid)
        generator["sync"] = mean(terms.generator_loss(judged), valid)
        accuracy(SYNC, in_sync, false, valid)
        metrics[f"{SYNC}/accuracy_shifted"] = mean((shifted_audio < 0).astype(jnp.float32), valid)

    if SEQUENCE in modules:  # Eq. 4
        valid = mask.any(axis=1)
        real = apply(SEQUENCE, video, windows, mask)
        false = apply(SEQUENCE, constant_fake, windows, mask)
        judged = judge(SEQUENCE, fake, windows, mask)
        discriminators[SEQUENCE] = mean(terms.real_loss(real) + terms.fake_loss(false), valid)
        generator["sequence"] = mean(terms.generator_loss(judged), valid)
        accuracy(SEQUENCE, real, false, valid)

    weighted = {name: config.loss[name] * value for name, value in generator.items()}
    total = {GENERATOR: sum(weighted.values()), **discriminators}
    metrics |= {f"{name}/loss": value for name, value in total.items()}
    metrics |= {f"{GENERATOR}/{name}": value for name, value in generator.items()}
    metrics |= {f"{GENERATOR}/{name}_weighted": value for name, value in weighted.items()}
    return total, turn.stats, metrics


def generate(
    config: ConfigDict,
    variables: Variables,
    still: jax.Array,
    audio: jax.Array,
    rng: jax.Array,
    carry: Carry | None = None,
) -> tuple[jax.Array, Carry]:
    """Animates stills.

    Args:
        variables: of `init`; only the generator's are used.
        still: [B, H, W, 3], uint8 or float in [-1, 1].
        audio: [B, (T - 1) stride + window] float32 in [-1, 1]: T frames' audio, padded so
            that a window is centred on each (`input_pipeline.audio.pad_waveform`).
        rng: [B] keys of the noise.
        carry: of the call before, to continue a stream with the next frames' audio.

    Returns:
        (video [B, T, H, W, 3] float32 in (-1, 1), carry).
    """
    windows = cut_windows(audio, *audio_geometry(config))
    b, t = windows.shape[:2]
    start = jnp.zeros((b,), jnp.int32) if carry is None else carry["frame"]
    noise = sample_noise(config, rng, start[:, None] + jnp.arange(t), config.generate.noise_std)
    generator = players(config)[GENERATOR]
    inputs = (to_float(still), windows, noise, carry)
    made = generator.apply(variables[GENERATOR], *inputs)
    video, carry = cast(tuple[jax.Array, Carry], made)
    # Runs that were made before there was this field have the scale of `to_float`.
    scale = config.generate.get("pixel_scale", 127.5)
    if scale != 127.5:
        video = (video + 1) * (scale / 127.5) - 1
    return video, {**carry, "frame": start + t}


def remember(config: ConfigDict, variables: Variables, still: jax.Array) -> Carry:
    """What a carry of `generate` holds of the still alone, so that a stream looks at it once.

    Args:
        variables: of `init`; only the generator's are used.
        still: [B, H, W, 3], uint8 or float in [-1, 1].
    """
    generator = players(config)[GENERATOR]
    arrays = generator.apply(variables[GENERATOR], to_float(still), method="remember")
    return {"identity": arrays}


def prepare(config: ConfigDict, variables: Variables) -> Variables:
    """Variables for `generate` alone, in which what depends on no input is worked out.

    On a CPU the kernels of convolutions take another form there, see `flax_talk.nets.convolutions`;
    nothing else changes, and nothing at all elsewhere.

    Args:
        variables: of `init`; only the generator's are used.
    """
    generator, (_, window) = players(config)[GENERATOR], audio_geometry(config)
    entry = {name: variables[GENERATOR][name] for name in ("params", "batch_stats")}
    if implementation() != "cpu":
        return {GENERATOR: entry}

    def kernels(entry):
        # Only their shapes matter.
        still = jnp.zeros((1, *config.data.image_size, 3))
        windows = jnp.zeros((1, _PREPARED_FRAMES, window))
        noise = jnp.zeros((1, _PREPARED_FRAMES, config.generator.noise_dim))
        return generator.apply(entry, still, windows, noise, mutable=[PREPARED])[1]

    return {GENERATOR: {**entry, **jax.jit(kernels)(entry)}}


def identity_code(config: ConfigDict, variables: Variables, still: jax.Array) -> jax.Array:
    """What the generator takes stills for.

    Args:
        variables: of `init`; only the generator's are used.
        still: [B, H, W, 3], uint8 or float in [-1, 1].

    Returns:
        [B, identity_dim] in (-1, 1).
    """
    generator = players(config)[GENERATOR]
    code, _ = generator.apply(variables[GENERATOR], to_float(still), False, method="identify")
    return code

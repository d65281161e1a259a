"""A still, cepstral coefficients and action units heard in them, to a video of the whole face.

Chen, Liu, Liu, Yan, Wang: "Talking Head Generation with Audio and Speech Related Facial Action
Units", BMVC 2021. A recurrent generator hears the sound twice, through an audio
encoder and through the Audio-to-AU modules; an AU classifier judges its lower faces, a frame
discriminator its frames. The modules and the classifier come from a run of
`flax_talk.systems.action_units` and go on learning here, slowly, from their own loss. Sections and
equations are those of the paper.

Ours: the modules and the classifier learn from Eq. 3 on real sound and real frames, so that neither
adapts to what the generator makes, where the paper says no more than that Eq. 3 fine-tunes them;
the perceptual, AU and adversarial losses see some frames of each clip in a step; L1 losses are
means over pixels and colours; the generator's adversarial loss has the non-saturating form; and
frames as changes of the still, off unless asked for.
"""

import functools
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from ml_collections import ConfigDict

from flax_talk import losses as terms
from flax_talk.images import to_float
from flax_talk.nets.decoders import SkipDecoder
from flax_talk.nets.discriminators import FrameDiscriminator
from flax_talk.nets.encoders import CepstrumEncoder, IdentityEncoder
from flax_talk.nets.perceptual import vgg19_features
from flax_talk.nets.recurrent import GRU
from flax_talk.systems import action_units, step
from flax_talk.systems.action_units import AUDIO2AU, CLASSIFIER, mfcc_windows
from flax_talk.systems.hearing import audio_geometry
from flax_talk.systems.temporal_gan import gather_time, sample_frames

__all__ = ["GENERATING", "audio_geometry", "generate", "init", "losses", "players"]

Variables = dict[str, dict[str, Any]]
Carry = dict[str, jax.Array]

GENERATOR = "generator"
FRAME = "frame_discriminator"

GENERATING = (GENERATOR, AUDIO2AU)
"""Players that `generate` needs."""


class Generator(nn.Module):
    """Section 3.1: identity, audio and unit features of each frame, a GRU, decoded with skips.

    Attributes are the sizes of `config.generator`, see `configs/`.
    """

    code_dim: int
    hidden: int
    width: int
    audio_width: int
    residual: bool
    dtype: jnp.dtype = jnp.float32
    axis_name: str | None = None

    def setup(self) -> None:
        shared = dict(dtype=self.dtype, axis_name=self.axis_name)
        form = dict(num_layers=4, norm=False, tanh=False)
        self.identity_encoder = IdentityEncoder(self.code_dim, self.width, **form, **shared)
        self.audio_encoder = CepstrumEncoder(self.code_dim, self.audio_width, **shared)
        self.content = GRU(self.hidden)
        self.decoder = SkipDecoder(self.residual, **shared)

    def __call__(
        self,
        still: jax.Array,
        windows: jax.Array,
        unit_codes: jax.Array,
        carry: jax.Array | None = None,
        train: bool = False,
    ) -> tuple[jax.Array, jax.Array]:
        """Generates one frame for each window.

        Args:
            still: [B, H, W, 3] in [-1, 1]; H and W multiples of 16.
            windows: [B, T, C, 28] of `mfcc_windows`.
            unit_codes: [B, T, D] of the Audio-to-AU modules; D is 0 without them.
            carry: what the previous call returned, to continue its video.
            train: batch statistics of the batch, not the running ones.

        Returns:
            (video [B, T, H, W, 3] in [-1, 1], carry of the GRU after the last frame).
        """
        b, t, *window = windows.shape
        identity_code, skips = self.identity_encoder(still, train)
        identity_code = jnp.broadcast_to(identity_code[:, None], (b, t, self.code_dim))
        audio_code = self.audio_encoder(windows.reshape(b * t, *window), train).reshape(b, t, -1)
        features = jnp.concatenate([identity_code, audio_code, unit_codes], axis=-1)
        content_code, carry = self.content(features, carry)
        return self.decoder(content_code, still, skips, train), carry


def players(config: ConfigDict, axis_name: str | None = None) -> dict[str, nn.Module]:
    """The modules that the config trains, by player; a loss weight of 0 leaves one out."""
    shared = dict(dtype=jnp.dtype(config.dtype), axis_name=axis_name)
    modules: dict[str, nn.Module] = {GENERATOR: Generator(**config.generator, **shared)}
    modules |= action_units.players(config, axis_name)
    if config.loss.adversarial > 0:
        modules[FRAME] = FrameDiscriminator(**config.frame_discriminator, **shared)
    return modules


def init(config: ConfigDict, rng: jax.Array, batch: dict[str, jax.Array]) -> Variables:
    """Initial variables of every player.

    Args:
        rng: one key.
        batch: as the loader yields it; only shapes matter.

    Raises:
        UserError: as of `step.vgg19`, before anything is trained.
    """
    step.vgg19(config)
    modules = players(config)
    units_rng, *keys = jax.random.split(rng, 3)
    variables = action_units.init(config, units_rng, batch)
    still, video = to_float(batch["still"]), to_float(batch["video"])
    windows = mfcc_windows(config, batch["waveform"])
    codes = _unit_codes(modules, variables, windows)
    inputs = {GENERATOR: (still, windows, codes), FRAME: (video[:, :1], still)}
    for key, (name, arrays) in zip(keys, inputs.items(), strict=True):
        if name in modules:
            entry = modules[name].init(key, *arrays, train=False)
            variables[name] = {"batch_stats": {}, **entry}
    return variables


def _unit_codes(
    modules: dict[str, nn.Module], variables: Variables, windows: jax.Array
) -> jax.Array:
    """f_au [B, T, D] of section 3.1, constants for whoever uses them; D is 0 without modules."""
    if AUDIO2AU not in modules:
        return windows[..., :0, 0]
    heard: Any = modules[AUDIO2AU].apply(variables[AUDIO2AU], windows)
    return jax.lax.stop_gradient(heard[1])


def losses(
    config: ConfigDict,
    variables: Variables,
    batch: dict[str, jax.Array],
    rng: jax.Array,
    train: bool = True,
    axis_name: str | None = None,
) -> tuple[dict[str, jax.Array], dict[str, Any], dict[str, jax.Array]]:
    """Losses of every player on one batch (Eq. 1 to 8).

    The generator runs once; how the discriminator judges it, see `flax_talk.systems.step`.

    Args:
        variables: of `init`.
        batch: `still` [B, H, W, 3], `video` [B, T, H, W, 3] (uint8, or float in [-1, 1]),
            `waveform` [B, (T - 1) stride + window], `mask` [B, T], and `action_units` [B, T, 5]
            where there are modules or a classifier.
        rng: [B] keys.
        train: batch normalisation by the batch.
        axis_name: device axis of the batch, if it is spread.

    Returns:
        (losses by player, new batch statistics by player, metrics by name).
    """
    modules = players(config, axis_name)
    still, video, mask = to_float(batch["still"]), to_float(batch["video"]), batch["mask"]
    windows = mfcc_windows(config, batch["waveform"])
    total, stats, metrics = action_units.losses(config, variables, batch, rng, train, axis_name)
    turn = step.Players(config, modules, {name: variables[name] for name in modules}, train)
    turn.stats |= stats

    def mean(values, mask):
        return terms.masked_mean(values, mask, axis_name)

    codes = _unit_codes(modules, variables, windows)
    fake, _ = turn.apply(GENERATOR, still, windows, codes, None)
    generator = {
        "reconstruction": mean(terms.l1(fake, video), mask),  # Eq. 6
        "identity": mean(  # Eq. 7
            terms.l1(terms.upper_half(fake), terms.upper_half(still)[:, None]), mask
        ),
    }
    index = sample_frames(rng, mask, config.loss.num_frames)
    valid = jnp.broadcast_to(mask.any(axis=1, keepdims=True), index.shape)
    real_frames, fake_frames = gather_time(video, index), gather_time(fake, index)

    if (weights := step.vgg19(config)) is not None:  # Eq. 5
        look = functools.partial(vgg19_features, weights, names=config.loss.perceptual_layers)
        real, false = (
            look(x.reshape(-1, *x.shape[2:]).astype(config.dtype))
            for x in (real_frames, fake_frames)
        )
        distance = terms.features_l1(false, real).astype(jnp.float32)
        generator["perceptual"] = mean(distance.reshape(valid.shape), valid)

    if config.loss.action_units > 0:  # Eq. 3
        frozen = jax.lax.stop_gradient(variables[CLASSIFIER])
        logits: Any = modules[CLASSIFIER].apply(frozen, terms.lower_half(fake_frames))
        true = gather_time(action_units.labels(config, batch), index)
        each = action_units.unit_terms(config, logits, true)
        generator["action_units"] = mean(sum(each.values()), valid)
        right = ((logits > 0) == (true > 0)).mean(axis=-1)
        metrics[f"{GENERATOR}/unit_accuracy"] = mean(right, valid)

    if FRAME in modules:  # Eq. 4
        real = turn.apply(FRAME, real_frames, still)
        false = turn.apply(FRAME, jax.lax.stop_gradient(fake_frames), still)
        judged = turn.judge(FRAME, fake_frames, still)
        total[FRAME] = mean(terms.real_loss(real) + terms.fake_loss(false), valid)
        generator["adversarial"] = mean(terms.generator_loss(judged), valid)
        metrics[f"{FRAME}/loss"] = total[FRAME]
        metrics[f"{FRAME}/accuracy_real"] = mean((real > 0).astype(jnp.float32), valid)
        metrics[f"{FRAME}/accuracy_fake"] = mean((false < 0).astype(jnp.float32), valid)

    weighted = {name: config.loss[name] * value for name, value in generator.items()}
    total[GENERATOR] = sum(weighted.values())  # Eq. 8
    metrics[f"{GENERATOR}/loss"] = total[GENERATOR]
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
        variables: of `init`; only those of `GENERATING` are used.
        still: [B, H, W, 3], uint8 or float in [-1, 1].
        audio: [B, (T - 1) stride + window] float32 in [-1, 1]: T frames' audio, padded so
            that a window is centred on each (`input_pipeline.audio.pad_waveform`).
        rng: not used: nothing is drawn.
        carry: of the call before, to continue a stream with the next frames' audio.

    Returns:
        (video [B, T, H, W, 3] float32 in [-1, 1], carry).
    """
    del rng
    modules = players(config)
    windows = mfcc_windows(config, audio)
    codes = _unit_codes(modules, variables, windows)
    content = None if carry is None else carry["content"]
    inputs = (to_float(still), windows, codes, content)
    made: Any = modules[GENERATOR].apply(variables[GENERATOR], *inputs)
    video, content = made
    return video, {"content": content}

"""Speech2Vid: a still and cepstral coefficients to a video, frame by frame.

Chung, Jamaludin and Zisserman, "You said that?", BMVC 2017, the baseline of Vougioukas et al. 2020
and of Chen et al. 2021: an identity and an audio encoder, whose codes a decoder with skips turns
into a frame, and an L1 loss alone. Ours: the identity encoder and the decoder are those of the
temporal GAN, where the paper's encoder is trained on VGG-Face before; one still and not up to five;
and no separate network that sharpens the frames. The generator can be recurrent, which the paper's
is not, for `flax_talk.systems.cran`.
"""

from typing import Any, cast

import flax.linen as nn
import jax
import jax.numpy as jnp
from ml_collections import ConfigDict

from flax_talk import losses as terms
from flax_talk.images import to_float
from flax_talk.nets.decoders import FrameDecoder
from flax_talk.nets.encoders import CepstrumEncoder, IdentityEncoder
from flax_talk.nets.recurrent import GRU
from flax_talk.systems import hearing, step
from flax_talk.systems.hearing import audio_geometry
from flax_talk.systems.step import GENERATOR

__all__ = ["audio_geometry", "generate", "identity_code", "init", "losses", "players"]

Variables = dict[str, dict[str, Any]]
Carry = dict[str, jax.Array]


class Generator(nn.Module):
    """Identity and audio codes of each frame, decoded with skips.

    Attributes are the sizes of `config.generator`, see `configs/`. Without a layer of the GRU the
    two codes are decoded as they are.
    """

    identity_dim: int
    audio_dim: int
    width: int
    num_skips: int
    residual: bool
    audio_width: int
    audio_hidden: int
    recurrent_dim: int = 0
    recurrent_layers: int = 0
    dtype: jnp.dtype = jnp.float32
    axis_name: str | None = None

    def setup(self) -> None:
        shared = dict(dtype=self.dtype, axis_name=self.axis_name)
        self.identity_encoder = IdentityEncoder(self.identity_dim, self.width, **shared)
        self.audio_encoder = CepstrumEncoder(
            self.audio_dim, self.audio_width, self.audio_hidden, pool=True, **shared
        )
        self.recurrent = GRU(self.recurrent_dim, self.recurrent_layers)
        self.decoder = FrameDecoder(self.num_skips, self.residual, **shared)

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
            (video [B, T, H, W, 3] in [-1, 1], carry after the last frame).
        """
        b, t = cepstra.shape[:2]
        identity_code, skips = self.identify(still, train)
        audio_code = self.audio_encoder(cepstra.reshape(b * t, *cepstra.shape[2:]), train)
        identity_code = jnp.broadcast_to(identity_code[:, None], (b, t, self.identity_dim))
        codes = jnp.concatenate([identity_code, audio_code.reshape(b, t, -1)], axis=-1)
        codes, state = self.recurrent(codes, None if carry is None else carry["recurrent"])
        return self.decoder(codes, still, skips, train), {"recurrent": state}

    def identify(self, still: jax.Array, train: bool = False) -> tuple[jax.Array, list[jax.Array]]:
        """The identity code [B, identity_dim] of stills, and the skips of the decoder."""
        return self.identity_encoder(still, train)


def make_generator(config: ConfigDict, axis_name: str | None = None) -> Generator:
    """The generator of a config."""
    return Generator(**config.generator, dtype=jnp.dtype(config.dtype), axis_name=axis_name)


def players(config: ConfigDict, axis_name: str | None = None) -> dict[str, nn.Module]:
    """The one module, by its player's name."""
    return {GENERATOR: make_generator(config, axis_name)}


def hear(config: ConfigDict, waveform: jax.Array) -> jax.Array:
    """Cepstral coefficients around each frame: [B, T, coefficients, columns] of `config.mfcc`, see
    `flax_talk.systems.hearing`."""
    return hearing.mfcc_windows(config, waveform, config.mfcc.columns)


def init(config: ConfigDict, rng: jax.Array, batch: dict[str, jax.Array]) -> Variables:
    """Initial variables.

    Args:
        rng: one key.
        batch: as the loader yields it; only shapes matter.
    """
    inputs = (to_float(batch["still"]), hear(config, batch["waveform"]))
    return step.init(players(config), rng, {GENERATOR: inputs})


def losses(
    config: ConfigDict,
    variables: Variables,
    batch: dict[str, jax.Array],
    rng: jax.Array,
    train: bool = True,
    axis_name: str | None = None,
) -> tuple[dict[str, jax.Array], dict[str, Any], dict[str, jax.Array]]:
    """The L1 loss on whole frames of one batch.

    Args:
        variables: of `init`.
        batch: `still` [B, H, W, 3], `video` [B, T, H, W, 3] (uint8, or float in [-1, 1]),
            `waveform` [B, (T - 1) stride + window], `mask` [B, T].
        rng: not used.
        train: batch normalisation by the batch.
        axis_name: device axis of the batch, if it is spread.

    Returns:
        (loss by player, new batch statistics by player, metrics by name).
    """
    del rng
    turn = step.Players(config, players(config, axis_name), variables, train)
    cepstra = hear(config, batch["waveform"])
    fake, _ = turn.apply(GENERATOR, to_float(batch["still"]), cepstra)
    each = terms.l1(fake, to_float(batch["video"]))
    reconstruction = terms.masked_mean(each, batch["mask"], axis_name)
    values = {GENERATOR: {"reconstruction": reconstruction}}
    total, metrics = step.total(config.loss, values)
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
        rng: not used; nothing is drawn.
        carry: of the call before, to continue a stream with the next frames' audio.

    Returns:
        (video [B, T, H, W, 3] float32 in (-1, 1), carry).
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
    code, _ = make_generator(config).apply(variables[GENERATOR], to_float(still), method="identify")
    return code

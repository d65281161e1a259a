"""What systems hear of each frame: how much sound, and its cepstral coefficients.

Coefficients of a clip are worked out once and cut into windows around the frames; the sound that a
frame gets is longer than its columns by what the change of the sampling rate looks at, so that a
stream hears what a whole file does.
"""

import jax
import jax.numpy as jnp
from ml_collections import ConfigDict

from flax_talk.errors import UserError
from flax_talk.nets.cepstra import mfcc
from input_pipeline.audio import MFCC_RATE, cut_windows, samples_per_frame, window_samples

_MARGIN = 1
"""Columns of sound on either side of a window, for the change of the sampling rate."""


def audio_geometry(config: ConfigDict) -> tuple[int, int]:
    """(stride, window) in samples: audio of one frame, and of the window centred on it."""
    data = config.data
    stride = samples_per_frame(data.audio_rate, data.video_rate)
    return stride, window_samples(data.audio_rate, data.window_seconds)


def window_seconds(columns: int) -> float:
    """What `config.data.window_seconds` has to be for windows of so many columns."""
    return (columns - 1 + 2 * _MARGIN) / MFCC_RATE + 0.025


def mfcc_windows(config: ConfigDict, waveform: jax.Array, columns: int) -> jax.Array:
    """Coefficients around each frame, scaled by `config.mfcc.deviation`.

    Args:
        waveform: float32 [B, (T - 1) stride + window] in [-1, 1], as of `generate`.
        columns: K, one every 10 ms, of 25 ms each.

    Returns:
        float32 [B, T, C, K], without the energy; column k is centred 10 (k - (K - 1) / 2) ms after
        the middle of the frame.

    Raises:
        UserError: the config's window is not the one that the columns need.
    """
    stride, window = audio_geometry(config)
    rate = config.data.audio_rate
    if window != round(window_seconds(columns) * rate):
        raise UserError(
            f"config.data.window_seconds is {config.data.window_seconds}: "
            f"set it to {window_seconds(columns)}, which {columns} columns of coefficients need"
        )
    step = samples_per_frame(MFCC_RATE, config.data.video_rate)
    frames = (waveform.shape[-1] - window) // stride + 1
    needed = _MARGIN + (frames - 1) * step + columns
    heard = mfcc(waveform, rate, needed, config.mfcc.coefficients, energy=False)
    heard = jnp.swapaxes(heard[:, _MARGIN:], 1, 2) / config.mfcc.deviation
    return jnp.swapaxes(cut_windows(heard, step, columns), 1, 2)

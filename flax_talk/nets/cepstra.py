"""Mel-frequency cepstral coefficients on the device, for systems that hear them.

A system gets waveforms and works its coefficients out itself, so that training, validation and a
stream hear the same. They are those of `input_pipeline.audio.mfcc`, whose filters and constants are
used here, and equal to them up to rounding. Ours: the change of the sampling rate is a
convolution whose kernel is measured once, as what soxr makes of single samples. It is even at the
ends; soxr's first two samples are not, so that column 0 of a waveform that begins loudly differs by
some hundredths.
"""

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np

from input_pipeline import audio

_REACH = 8e-3
"""Seconds beyond which the resampler's answer to a single sample is below a millionth (twice as
many for twice a rate)."""


def mfcc(
    waveform: jax.Array, rate: int, columns: int, coefficients: int = 13, energy: bool = True
) -> jax.Array:
    """Mel-frequency cepstral coefficients, 100 columns per second, see `input_pipeline.audio.mfcc`.

    Args:
        waveform: float32 [..., S] in [-1, 1].
        rate: samples per second.
        columns: how many; column c is of the 25 ms that start c * 10 ms into the waveform, which is
            followed by silence.
        coefficients: how many.
        energy: the first is the log energy of the window, as in SyncNet; without it they are the
            cepstral coefficients from the first on, which comes second with it.

    Returns:
        float32 [..., columns, coefficients].
    """
    samples = (columns - 1) * audio.MFCC_HOP + audio.MFCC_WINDOW
    signal = 32768 * _resample(waveform, rate)[..., :samples]
    missing = samples - signal.shape[-1]
    signal = jnp.pad(signal, [(0, 0)] * (signal.ndim - 1) + [(0, missing)])
    before = jnp.zeros_like(signal[..., :1])
    signal -= audio.PRE_EMPHASIS * jnp.concatenate([before, signal[..., :-1]], axis=-1)
    windows = audio.cut_windows(signal, audio.MFCC_HOP, audio.MFCC_WINDOW)
    power = jnp.square(jnp.abs(jnp.fft.rfft(windows, audio.MFCC_FFT))) / audio.MFCC_FFT
    dot = functools.partial(jnp.dot, precision="highest")
    energies = jnp.maximum(dot(power, audio.mel_filters().T), 1)
    first = 0 if energy else 1
    cepstrum = dot(jnp.log(energies), _liftered_cosines(first, coefficients))
    if energy:
        cepstrum = cepstrum.at[..., 0].set(jnp.log(jnp.maximum(power.sum(axis=-1), 1)))
    return cepstrum


@functools.cache
def _liftered_cosines(first: int, count: int) -> np.ndarray:
    """Columns first .. first + count of the orthonormal DCT, times the lifter: [26, count]."""
    filters, n = audio.MFCC_FILTERS, np.arange(first, first + count)
    cosines = np.cos(np.pi * n * (np.arange(filters)[:, None] + 0.5) / filters)
    lifter = 1 + audio.MFCC_LIFTER / 2 * np.sin(np.pi * n / audio.MFCC_LIFTER)
    return (np.sqrt(np.where(n > 0, 2, 1) / filters) * cosines * lifter).astype(np.float32)


def _resample(waveform: jax.Array, rate: int) -> jax.Array:
    """[..., S] at `rate` to 16 kHz, as `input_pipeline.audio.resample` does."""
    if rate == audio.MFCC_AUDIO_RATE:
        return waveform
    kernel = _resampler(rate)
    size, down, _ = kernel.shape
    *lead, length = waveform.shape
    blocks = jnp.pad(waveform.reshape(-1, length), ((0, 0), (0, -length % down)))
    blocks = blocks.reshape(blocks.shape[0], -1, down)
    resampled = jax.lax.conv_general_dilated(
        blocks,
        kernel,
        (1,),
        ((size // 2, size // 2),),
        dimension_numbers=("NWC", "WIO", "NWC"),
        precision="highest",
    )
    kept = int(length * audio.MFCC_AUDIO_RATE / rate + 0.5)
    return resampled.reshape(*lead, -1)[..., :kept]


@functools.cache
def _resampler(rate: int) -> np.ndarray:
    """Kernel [K, I, O] from blocks of I samples at `rate` to the O samples of their time at 16 kHz.

    K is odd; its middle is the block itself.
    """
    wanted = audio.MFCC_AUDIO_RATE
    common = math.gcd(rate, wanted)
    size, out = rate // common, wanted // common
    reach = math.ceil(_REACH * wanted / out * max(1, wanted / rate))
    impulses = np.zeros((size, 4 * reach + 1, size), np.float32)
    impulses[np.arange(size), 2 * reach, np.arange(size)] = 1
    answers = np.stack([audio.resample(x.reshape(-1), rate, wanted) for x in impulses])
    answers = answers.reshape(size, -1, out)[:, reach : 3 * reach + 1]
    # An input block comes late in the kernel of the outputs that precede it.
    return np.ascontiguousarray(answers[:, ::-1].swapaxes(0, 1))

"""Waveforms on the video's clock: one audio window per frame, centred on that frame; MFCC.

Section 3.1 of the temporal GAN papers (Vougioukas 2018, 2019): with `stride = audio rate / video
rate`, window t has `window` samples and is centred on frame t, which spans the samples
`t * stride .. (t + 1) * stride`; half of `window - stride` zeros go on either side of the clip.
Ours is to keep the padded stretch whole in a batch (windows overlap five to ten times) and to cut
it into windows on the device. Cepstral coefficients are those of SyncNet (Chung and Zisserman, "Out
of time: automated lip sync in the wild", 2016, section 2.1).
"""

import functools
from collections.abc import Iterable, Iterator

import numpy as np

from flax_talk.errors import UserError


def resample(waveform: np.ndarray, rate_in: int, rate_out: int) -> np.ndarray:
    """Changes the sampling rate, with soxr at high quality and without delay.

    Args:
        waveform: float [S].
        rate_in, rate_out: samples per second.

    Returns:
        float32 [about S * rate_out / rate_in].
    """
    waveform = np.asarray(waveform, np.float32)
    if rate_in == rate_out:
        return waveform
    import soxr

    return soxr.resample(waveform, rate_in, rate_out, quality="HQ")


def resample_chunks(
    chunks: Iterable[np.ndarray], rate_in: int, rate_out: int
) -> Iterator[np.ndarray]:
    """`resample` for a waveform that arrives in pieces: the same samples, in other pieces.

    Args:
        chunks: float [S] each, of any lengths.
        rate_in, rate_out: samples per second.

    Yields:
        float32 [S']; together what `resample` makes of all of them, at least one piece.
    """
    if rate_in == rate_out:
        yield np.zeros(0, np.float32)
        yield from (np.asarray(chunk, np.float32) for chunk in chunks)
        return
    import soxr

    resampler = soxr.ResampleStream(rate_in, rate_out, 1, dtype="float32", quality="HQ")
    for chunk in chunks:
        yield resampler.resample_chunk(np.asarray(chunk, np.float32))
    yield resampler.resample_chunk(np.zeros(0, np.float32), last=True)


def samples_per_frame(audio_rate: int, video_rate: float) -> int:
    """The stride: audio samples that last as long as one video frame.

    Raises:
        UserError: the quotient is not a whole number, so that windows would drift off the frames.
    """
    stride = audio_rate / video_rate
    if stride != int(stride):
        raise UserError(
            f"audio_rate {audio_rate} is not a multiple of video_rate {video_rate}: "
            "choose another audio_rate, such as 16000 or 50000 at 25 frames per second"
        )
    return int(stride)


def window_samples(audio_rate: int, window_seconds: float) -> int:
    """The length of one audio window in samples, to the nearest sample."""
    return round(audio_rate * window_seconds)


def pad_waveform(waveform: np.ndarray, num_frames: int, stride: int, window: int) -> np.ndarray:
    """Fits a waveform to a number of frames and pads it so that windows are centred on frames.

    Args:
        waveform: float [S]; cut or filled with zeros at its end to `num_frames * stride` samples.
        num_frames: frames of the video, T.
        stride: samples per frame.
        window: samples per window, at least `stride`.

    Returns:
        float32 [(T - 1) * stride + window]; window t starts at sample `t * stride`.

    Raises:
        UserError: a window is shorter than a frame, so that some sound would be in no window.
    """
    length = num_frames * stride
    before = _margin(stride, window)
    padded = np.zeros(length + window - stride, np.float32)
    fitted = np.asarray(waveform)[:length]
    padded[before : before + len(fitted)] = fitted
    return padded


def pad_chunks(
    chunks: Iterable[np.ndarray], num_frames: int, stride: int, window: int
) -> Iterator[tuple[np.ndarray, int]]:
    """`pad_waveform` and `crop_padded` for sound that arrives in pieces, without its end.

    A stretch is there as soon as the sound of its last window is. The clip has as many frames as
    the whole sound lasts, rounded, and at least one; less than a frame of sound beyond the last
    whole one is held back, since it may yet be cut off.

    Args:
        chunks: float [S] each, of any lengths.
        num_frames: frames of a stretch.
        stride, window: samples per frame and per window.

    Yields:
        (float32 [(num_frames - 1) * stride + window], frames in it): stretches of frames that
        follow one another. Only the last holds fewer than `num_frames`, and then zeros.

    Raises:
        UserError: as `pad_waveform`.
    """
    before = _margin(stride, window)
    size, step = (num_frames - 1) * stride + window, num_frames * stride
    held, received, done = np.zeros(before, np.float32), 0, 0
    # What comes in one piece is cut: a whole file is not copied to be held.
    for piece in (chunk[i : i + size] for chunk in chunks for i in range(0, len(chunk), size)):
        held = np.concatenate([held, np.asarray(piece, np.float32)])
        received += len(piece)
        while len(held) - received % stride >= size:
            yield held[:size], num_frames
            held, done = held[step:], done + num_frames
    left = max(1, round(received / stride)) - done
    held = held[: before + left * stride]
    for start in range(0, left, num_frames):
        stretch = np.zeros(size, np.float32)
        part = held[start * stride :][:size]
        stretch[: len(part)] = part
        yield stretch, min(num_frames, left - start)


def _margin(stride: int, window: int) -> int:
    """Samples of a window before its frame."""
    if window < stride:
        raise UserError(
            f"an audio window of {window} samples is shorter than a frame ({stride} samples): "
            "choose a longer window_seconds"
        )
    return (window - stride) // 2


def crop_padded(
    padded: np.ndarray, start: int, num_frames: int, stride: int, window: int
) -> np.ndarray:
    """The stretch whose windows are those of frames `start .. start + num_frames`.

    Args:
        padded: [..., (T - 1) * stride + window] from `pad_waveform`.
        start, num_frames: frames, with `start + num_frames <= T`.
        stride, window: samples per frame and per window.

    Returns:
        [..., (num_frames - 1) * stride + window], a view of `padded` where it is a numpy array. Its
        borders hold the neighbouring sound, and zeros only at the ends of the clip.
    """
    return padded[..., start * stride : (start + num_frames - 1) * stride + window]


def cut_windows(padded, stride: int, window: int):
    """Cuts a padded stretch into one window per frame, for numpy or jax arrays and under jit.

    Args:
        padded: [..., (T - 1) * stride + window] from `pad_waveform` or `crop_padded`.
        stride, window: samples per frame and per window.

    Returns:
        [..., T, window] of the same kind and dtype as `padded`.
    """
    # The array's own arange: under jit the indices are then computed on the device, not embedded
    # in the program as a constant of T * window entries.
    arange = padded.__array_namespace__().arange
    num_frames = (padded.shape[-1] - window) // stride + 1
    starts = stride * arange(num_frames)
    return padded[..., starts[:, None] + arange(window)]


MFCC_RATE = 100
"""Columns of `mfcc` per second: four for a frame at 25 fps."""

MFCC_AUDIO_RATE = 16_000
MFCC_WINDOW, MFCC_HOP, MFCC_FFT = 400, 160, 512  # samples: 25 ms, 10 ms, 32 ms
MFCC_FILTERS = 26
MFCC_LIFTER = 22
PRE_EMPHASIS = 0.97


def mfcc(waveform: np.ndarray, rate: int, columns: int, coefficients: int = 13) -> np.ndarray:
    """Mel-frequency cepstral coefficients, 100 columns per second.

    They are those which SyncNet's published weights were trained on: at 16 kHz, of a signal in
    units of 16 bits with pre-emphasis 0.97; windows of 25 ms, unweighted; log energies of 26 mel
    filters; orthonormal DCT, liftered by 1 + 11 sin(pi n / 22); the log energy of the window
    instead of coefficient 0. Ours: energies are at least 1, so that digital silence is as quiet
    as the rounding of 16 bits and not minus infinity.

    Args:
        waveform: float [S] in [-1, 1].
        rate: samples per second.
        columns: how many; column c is of the 25 ms that start c * 10 ms into the waveform, which is
            followed by silence.
        coefficients: how many of the up to 26.

    Returns:
        float32 [columns, coefficients].
    """
    import librosa

    samples = (columns - 1) * MFCC_HOP + MFCC_WINDOW
    signal = np.zeros(samples, np.float32)
    resampled = resample(waveform, rate, MFCC_AUDIO_RATE)[:samples]
    signal[: len(resampled)] = 32768 * resampled
    signal[1:] -= PRE_EMPHASIS * signal[:-1]
    # librosa takes the window from the middle of the samples that it transforms.
    margin = (MFCC_FFT - MFCC_WINDOW) // 2
    spectrum = librosa.stft(
        np.pad(signal, margin),
        n_fft=MFCC_FFT,
        hop_length=MFCC_HOP,
        win_length=MFCC_WINDOW,
        window="boxcar",
        center=False,
    )
    power = np.square(np.abs(spectrum)) / MFCC_FFT
    energies = np.maximum(mel_filters() @ power, 1)
    cepstrum = librosa.feature.mfcc(S=np.log(energies), n_mfcc=coefficients)
    lifter = 1 + MFCC_LIFTER / 2 * np.sin(np.pi * np.arange(coefficients) / MFCC_LIFTER)
    result = cepstrum.T * lifter
    result[:, 0] = np.log(np.maximum(power.sum(axis=0), 1))
    return result.astype(np.float32)


@functools.cache
def mel_filters() -> np.ndarray:
    """Triangles [26, 257] between whole bins of the transform, evenly spaced in mel."""
    highest = 2595 * np.log10(1 + MFCC_AUDIO_RATE / 2 / 700)
    mels = np.linspace(0, highest, MFCC_FILTERS + 2)
    corners = np.floor((MFCC_FFT + 1) * 700 * (10 ** (mels / 2595) - 1) / MFCC_AUDIO_RATE)
    low, centre, high = (corners[i : i + MFCC_FILTERS, None] for i in range(3))
    bins = np.arange(MFCC_FFT // 2 + 1)
    rising, falling = (bins - low) / (centre - low), (high - bins) / (high - centre)
    return np.maximum(0, np.minimum(rising, falling)).astype(np.float32)

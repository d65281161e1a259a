"""Waveforms on the video's clock: one audio window per frame, centred on that frame.

Section 3.1 of the temporal GAN papers (Vougioukas 2018, 2019): with `stride = audio rate / video
rate`, window t has `window` samples and is centred on frame t, which spans the samples
`t * stride .. (t + 1) * stride`; half of `window - stride` zeros go on either side of the clip.
Ours is to keep the padded stretch whole in a batch (windows overlap five to ten times) and to cut
it into windows on the device.
"""

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
    if window < stride:
        raise UserError(
            f"an audio window of {window} samples is shorter than a frame ({stride} samples): "
            "choose a longer window_seconds"
        )
    length = num_frames * stride
    before = (window - stride) // 2
    padded = np.zeros(length + window - stride, np.float32)
    fitted = np.asarray(waveform)[:length]
    padded[before : before + len(fitted)] = fitted
    return padded


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

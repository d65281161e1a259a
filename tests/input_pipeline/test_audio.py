import jax
import jax.numpy as jnp
import numpy as np
import pytest

from flax_talk.errors import UserError
from input_pipeline import audio


@pytest.mark.parametrize(
    ("audio_rate", "window_seconds", "stride", "window", "before"),
    [
        (50_000, 0.2, 2000, 10_000, 4000),
        (50_000, 0.16, 2000, 8000, 3000),
        (16_000, 0.2, 640, 3200, 1280),
        (16_000, 0.16, 640, 2560, 960),
        (44_100, 0.2, 1764, 8820, 3528),
        (44_100, 0.16, 1764, 7056, 2646),
    ],
)
def test_windows_are_centred_on_frames(audio_rate, window_seconds, stride, window, before):
    assert audio.samples_per_frame(audio_rate, 25) == stride
    assert audio.window_samples(audio_rate, window_seconds) == window
    num_frames = 8
    # Sample i has the value i + 1, so that a value tells its place and zero is padding.
    waveform = np.arange(1, num_frames * stride + 1, dtype=np.float32)
    padded = audio.pad_waveform(waveform, num_frames, stride, window)
    windows = audio.cut_windows(padded, stride, window)
    assert padded.dtype == np.float32
    assert windows.shape == (num_frames, window)
    for t, got in enumerate(windows):
        first = t * stride - before
        expected = np.arange(first, first + window) + 1
        expected[(expected < 1) | (expected > num_frames * stride)] = 0
        np.testing.assert_array_equal(got, expected)
        # The middle of the window is the middle of the frame.
        assert first + window / 2 == t * stride + stride / 2


def test_waveform_is_fitted_to_the_frames():
    short = audio.pad_waveform(np.ones(5), num_frames=3, stride=4, window=6)
    np.testing.assert_array_equal(short, [0] + [1] * 5 + [0] * 8)
    long = audio.pad_waveform(np.ones(50), num_frames=3, stride=4, window=6)
    np.testing.assert_array_equal(long, [0] + [1] * 12 + [0])
    odd = audio.pad_waveform(np.ones(4), num_frames=1, stride=4, window=7)
    np.testing.assert_array_equal(odd, [0, 1, 1, 1, 1, 0, 0])


def test_crop_holds_the_windows_of_its_frames():
    stride, window = 4, 10
    padded = audio.pad_waveform(np.arange(1, 41), num_frames=10, stride=stride, window=window)
    crop = audio.crop_padded(padded, 3, 5, stride, window)
    np.testing.assert_array_equal(
        audio.cut_windows(crop, stride, window), audio.cut_windows(padded, stride, window)[3:8]
    )


@pytest.mark.parametrize("seconds", [0, 0.01, 0.5, 2.5, 7.49, 7.5, 8.5, 11.2])
@pytest.mark.parametrize(("num_frames", "window"), [(1, 500), (3, 347), (5, 100)])
def test_sound_in_pieces_gives_the_stretches_of_the_whole(seconds, num_frames, window):
    stride, random = 100, np.random.default_rng(0)
    waveform = random.uniform(-1, 1, round(seconds * stride)).astype(np.float32)
    total = max(1, round(len(waveform) / stride))
    padded_total = -(-total // num_frames) * num_frames
    # What lies beyond the last frame is cut off, also where the last window reaches it.
    padded = audio.pad_waveform(waveform[: total * stride], padded_total, stride, window)
    cuts = [np.sort(random.integers(0, len(waveform) + 1, 20)), [], np.arange(len(waveform))]
    for places in cuts:
        pieces = np.split(waveform, places)
        start = 0
        for stretch, count in audio.pad_chunks(iter(pieces), num_frames, stride, window):
            whole = audio.crop_padded(padded, start, num_frames, stride, window)
            np.testing.assert_array_equal(stretch, whole)
            assert count == min(num_frames, total - start)
            start += count
        assert start == total


def test_a_stretch_is_there_as_soon_as_its_sound_is():
    stride, window, asked = 100, 500, 0

    def arriving():
        nonlocal asked
        for _ in range(50):
            asked += 1
            yield np.ones(stride, np.float32)

    stretches = audio.pad_chunks(arriving(), 4, stride, window)
    # Two frames beyond the last of each stretch: half of what a window has besides its frame.
    assert [(asked, count) for _, count in stretches] == [
        *((n, 4) for n in range(6, 51, 4)),
        (50, 2),
    ]
    with pytest.raises(UserError, match="shorter than a frame"):
        next(audio.pad_chunks(arriving(), 4, stride, window=99))


@pytest.mark.parametrize("rates", [(44_100, 16_000), (16_000, 50_000), (16_000, 16_000)])
def test_resampling_in_pieces_gives_the_samples_of_the_whole(rates):
    random = np.random.default_rng(0)
    waveform = random.normal(size=20_000).astype(np.float32)
    pieces = np.split(waveform, np.sort(random.integers(0, len(waveform), 30)))
    together = np.concatenate(list(audio.resample_chunks(pieces, *rates)))
    np.testing.assert_array_equal(together, audio.resample(waveform, *rates))
    assert sum(map(len, audio.resample_chunks([], *rates))) == 0


def test_cut_windows_is_the_same_in_jax_with_batch_axes():
    padded = np.random.default_rng(0).normal(size=(2, 3, 46)).astype(np.float32)
    expected = audio.cut_windows(padded, 4, 10)
    assert expected.shape == (2, 3, 10, 10)
    cut = jax.jit(audio.cut_windows, static_argnums=(1, 2))
    np.testing.assert_array_equal(cut(jnp.asarray(padded), 4, 10), expected)
    np.testing.assert_array_equal(expected[1, 2, 7], padded[1, 2, 28:38])


def test_rates_that_do_not_fit_are_refused():
    with pytest.raises(UserError, match="22050.*29.97"):
        audio.samples_per_frame(22_050, 29.97)
    with pytest.raises(UserError, match="shorter than a frame"):
        audio.pad_waveform(np.zeros(10), num_frames=2, stride=5, window=4)


def test_resample_keeps_a_tone_in_phase():
    def tone(rate):
        return np.sin(2 * np.pi * 440 * np.arange(rate) / rate)

    got = audio.resample(tone(44_100), 44_100, 50_000)
    assert got.dtype == np.float32 and got.shape == (50_000,)
    np.testing.assert_allclose(got[500:-500], tone(50_000)[500:-500], atol=1e-3)


def mel_cepstrum(signal):
    """The definition, filter by filter and in double precision; int16 units at 16 kHz."""
    emphasised = np.append(signal[0], signal[1:] - 0.97 * signal[:-1])
    mels = np.linspace(0, 2595 * np.log10(1 + 8000 / 700), 28)
    bins = np.floor(513 * 700 * (10 ** (mels / 2595) - 1) / 16_000).astype(int)
    rows = []
    for start in range(0, len(emphasised) - 399, 160):
        power = np.abs(np.fft.rfft(emphasised[start : start + 400], 512)) ** 2 / 512
        energies = []
        for low, centre, high in zip(bins[:-2], bins[1:-1], bins[2:], strict=True):
            rising = sum(power[k] * (k - low) / (centre - low) for k in range(low, centre))
            falling = sum(power[k] * (high - k) / (high - centre) for k in range(centre, high))
            energies.append(rising + falling)
        angles = np.pi * (np.arange(26) + 0.5) / 26
        row = [
            np.sqrt((1 if n == 0 else 2) / 26) * np.log(energies) @ np.cos(n * angles)
            for n in range(13)
        ]
        row *= 1 + 11 * np.sin(np.pi * np.arange(13) / 22)
        row[0] = np.log(power.sum())
        rows.append(row)
    return np.array(rows)


def test_mfcc_is_its_definition():
    random = np.random.default_rng(0)
    time = np.arange(8000) / 16_000
    wave = 0.1 * np.sin(2 * np.pi * 300 * time * (1 + time)) + 0.02 * random.normal(size=8000)
    expected = mel_cepstrum(32768 * wave)
    got = audio.mfcc(wave, 16_000, len(expected))
    assert got.shape == (48, 13) and got.dtype == np.float32
    np.testing.assert_allclose(got, expected, atol=2e-3)


@pytest.mark.parametrize("rate", [16_000, 44_100, 50_000])
def test_mfcc_has_a_hundred_columns_per_second_that_begin_with_their_time(rate):
    """A click 0.5 s into one second is in the 25 ms of columns 48, 49 and 50, and no other."""
    wave = np.zeros(rate)
    wave[rate // 2] = 0.9
    columns = audio.mfcc(wave, rate, 120)
    assert columns.shape == (120, 13)
    loud = np.flatnonzero(columns[:, 0] > columns[:, 0].max() - 3)
    np.testing.assert_array_equal(loud, [48, 49, 50])
    # Digital silence, and what follows the waveform.
    assert (columns[:40] == 0).all() and (columns[100:] == 0).all()

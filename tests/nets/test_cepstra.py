"""Coefficients on the device are those of the host."""

import functools

import jax
import numpy as np
import pytest

from flax_talk.nets.cepstra import mfcc
from input_pipeline import audio


@pytest.mark.parametrize("rate", [16_000, 44_100, 50_000, 8_000])
def test_coefficients_are_those_of_the_host(rate):
    random = np.random.default_rng(0)
    samples = round(0.35 * rate)
    time = np.arange(samples) / rate
    noise = random.normal(size=(2, samples)) * [[1e-2], [3e-3]]
    waveform = (0.3 * np.sin(2 * np.pi * 300 * time * (1 + time)) + noise).astype(np.float32)
    # It ends with full loudness, and the last columns reach beyond it.
    waveform[:, : rate // 500] = 0
    expected = np.stack([audio.mfcc(one, rate, 37) for one in waveform])
    compute = jax.jit(functools.partial(mfcc, rate=rate, columns=37))
    got = compute(waveform)
    assert got.shape == (2, 37, 13) and got.dtype == np.float32
    np.testing.assert_allclose(got, expected, atol=1e-3)
    # Fewer columns are the first of them; without the energy the first is the second.
    bare = mfcc(waveform[:, None], rate, 9, 12, energy=False)
    np.testing.assert_allclose(bare[:, 0], expected[:, :9, 1:], atol=1e-3)


def test_silence_is_zero():
    silent = mfcc(np.zeros((3, 5000), np.float32), 50_000, 12)
    np.testing.assert_allclose(silent, np.zeros((3, 12, 13)), atol=1e-5)

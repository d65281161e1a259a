"""Who speaks? VGGVox, a convolutional network on a picture of the sound.

Nagrani, Chung and Zisserman, "VoxCeleb: a large-scale speaker identification dataset", 2017,
section 4: VGG-M on magnitude spectrograms of 512 rows and 10 ms per column; its first fully
connected layer looks at all rows of a column, and what it says is averaged over time, so that a
sound may have any length. Song et al., "Everybody's Talkin': Let Me Talk as You Want", 2020, judge
cepstral coefficients with it (section 3.2.1), which have too few rows to be halved five times: so
strides over the rows are an attribute here, and no pooling is taller than its picture. Ours, too:
widths are attributes.
"""

from collections.abc import Sequence

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from flax_talk.nets.convolutions import ConvBlock, max_pool
from input_pipeline.audio import MFCC_HOP, MFCC_WINDOW, PRE_EMPHASIS, cut_windows

ROWS = 512
"""Rows of the published network's spectrograms."""

ROW_STRIDES = (2, 2, 2, 2, 3)
"""Its strides over the rows: of the first convolution and pooling, the second ones, and the last
pooling."""

SHORT_ROW_STRIDES = (1, 1, 1, 1, 1)
"""Strides that leave something of 13 rows."""


class VGGVox(nn.Module):
    """Logits of speakers.

    Attributes:
        num_speakers: N.
        features: channels of the five convolutions.
        hidden: channels of the layer that sees all rows of a column.
        code_dim: length of the code behind the average over time.
        row_strides: see `ROW_STRIDES`.
    """

    num_speakers: int = 1251
    features: Sequence[int] = (96, 256, 384, 256, 256)
    hidden: int = 4096
    code_dim: int = 1024
    row_strides: Sequence[int] = ROW_STRIDES
    dtype: jnp.dtype = jnp.float32
    axis_name: str | None = None

    @nn.compact
    def __call__(self, x: jax.Array, train: bool) -> tuple[jax.Array, jax.Array]:
        """Listens to pictures of sound.

        Args:
            x: [N, columns, rows], about 80 columns at least.
            train: normalise by the batch.

        Returns:
            (logits [N, num_speakers], codes [N, code_dim]), float32.
        """

        def layer(name, features, *sizes):
            block = ConvBlock(
                features,
                *sizes,
                conv_bias=True,  # of the published weights
                dtype=self.dtype,
                axis_name=self.axis_name,
                name=name,
            )
            return block(x, train)

        def pool(height, stride):
            return max_pool(x, (min(height, x.shape[1]), 3), (stride, 2), (0, 0))

        f, s = self.features, self.row_strides
        x = jnp.swapaxes(x, 1, 2)[..., None]
        x = layer("conv1", f[0], (7, 7), (s[0], 2), (1, 1))
        x = pool(3, s[1])
        x = layer("conv2", f[1], (5, 5), (s[2], 2), (1, 1))
        x = pool(3, s[3])
        for i in (3, 4, 5):
            x = layer(f"conv{i}", f[i - 1], (3, 3), (1, 1), (1, 1))
        x = pool(5, s[4])
        x = layer("fc6", self.hidden, (x.shape[1], 1), (1, 1), (0, 0))
        x = x.mean(axis=2, keepdims=True)
        x = layer("fc7", self.code_dim, (1, 1), (1, 1), (0, 0))
        code = x[:, 0, 0].astype(jnp.float32)
        return nn.Dense(self.num_speakers, name="fc8")(code), code


def spectrogram(waveform: jax.Array) -> jax.Array:
    """The published network's picture of a sound, at 16 kHz.

    Magnitudes of all 512 terms of the Fourier transform of 25 ms under a Hamming window, every
    10 ms; each row with mean 0 and deviation 1 over time. Ours: no noise is added before.

    Args:
        waveform: float32 [..., S] in [-1, 1], two columns at least.

    Returns:
        float32 [..., columns, 512], columns = (S - 400) // 160 + 1.
    """
    signal = 32768 * (waveform - waveform.mean(axis=-1, keepdims=True))
    before = jnp.zeros_like(signal[..., :1])
    signal -= PRE_EMPHASIS * jnp.concatenate([before, signal[..., :-1]], axis=-1)
    windows = cut_windows(signal, MFCC_HOP, MFCC_WINDOW) * np.hamming(MFCC_WINDOW)
    x = jnp.abs(jnp.fft.fft(windows, ROWS))
    deviation = x.std(axis=-2, keepdims=True, ddof=1)
    return ((x - x.mean(axis=-2, keepdims=True)) / (deviation + 1e-6)).astype(jnp.float32)

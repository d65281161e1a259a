"""SyncNet: mouth and voice to embeddings that are near where they were recorded together.

Chung and Zisserman, "Out of time: automated lip sync in the wild", 2016, section 2: two streams of
convolutions, one for five frames, one for the cepstral coefficients of the same 0.2 s. Layers are
those of the published weights (`syncnet_v2.model`), whose names `flax_talk.interop.syncnet`
translates. Ours: their widths are attributes, pictures may be of any size that leaves something
behind the last pooling, and the first layer sees each frame once for all windows that share it.
"""

from collections.abc import Sequence

import flax.linen as nn
import jax
import jax.numpy as jnp

from flax_talk.errors import UserError
from flax_talk.nets.convolutions import Conv, batch_norm, max_pool

WINDOW_FRAMES = 5
"""Frames of a window, 0.2 s at 25 fps."""

COLUMNS_PER_FRAME = 4
"""Columns of cepstral coefficients that begin during a frame."""


LEAST_SIZE = 51
"""Height and width of a picture of which one pixel is left behind the last pooling."""


def audio_windows(mfcc: jax.Array) -> jax.Array:
    """Cuts coefficients into one window for each window of frames.

    Args:
        mfcc: [B, 4 T, C].

    Returns:
        [B, T - 4, 20, C]: window t is that of frames t .. t + 4.
    """
    b, columns, coefficients = mfcc.shape
    frames = mfcc.reshape(b, columns // COLUMNS_PER_FRAME, COLUMNS_PER_FRAME, coefficients)
    count = frames.shape[1] - WINDOW_FRAMES + 1
    windows = [frames[:, i : i + count] for i in range(WINDOW_FRAMES)]
    return jnp.concatenate(windows, axis=2)


class _Layer(nn.Module):
    """Convolution or matrix, batch normalisation, ReLU."""

    features: int
    kernel_size: Sequence[int] = ()
    strides: Sequence[int] = ()
    padding: Sequence[int] = ()
    dtype: jnp.dtype = jnp.float32
    axis_name: str | None = None

    @nn.compact
    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        if self.kernel_size:
            x = Conv(
                self.features,
                self.kernel_size,
                self.strides or (1,) * len(self.kernel_size),
                self.padding or (0,) * len(self.kernel_size),
                use_bias=True,  # which the normalisation takes away: the published weights have it
                by_frame=len(self.kernel_size) == 3,
                dtype=self.dtype,
                name="conv",
            )(x)
        else:
            x = nn.Dense(self.features, dtype=self.dtype, name="dense")(x)
        return nn.relu(batch_norm(train, self.dtype, self.axis_name)(x))


class SyncNet(nn.Module):
    """Both streams.

    Attributes:
        video_features, audio_features: channels of the six convolutions of each stream.
        hidden: width of the layer between convolutions and embedding.
        embedding: length D of the embeddings.
    """

    video_features: Sequence[int] = (96, 256, 256, 256, 256, 512)
    audio_features: Sequence[int] = (64, 192, 384, 256, 256, 512)
    hidden: int = 512
    embedding: int = 1024
    dtype: jnp.dtype = jnp.float32
    axis_name: str | None = None

    @nn.compact
    def __call__(
        self, video: jax.Array, mfcc: jax.Array, train: bool
    ) -> tuple[jax.Array, jax.Array]:
        """Embeds every window of five frames, and the sound of each.

        Args:
            video: [B, T, H, W, 3] in [-1, 1]; the published size is 224 x 224.
            mfcc: [B, 4 T, 13] of `input_pipeline.audio.mfcc`.
            train: normalise by the batch.

        Returns:
            (video embeddings [B, T - 4, D], audio embeddings [B, T - 4, D]), float32.
        """
        b, windows = video.shape[0], video.shape[1] - WINDOW_FRAMES + 1
        x = self._video(video, train)
        y = self._audio(audio_windows(mfcc).reshape(b * windows, -1, mfcc.shape[-1]), train)
        return x.reshape(b, windows, -1), y.reshape(b, windows, -1)

    def _layer(
        self,
        name: str,
        features: int,
        kernel_size: Sequence[int] = (),
        strides: Sequence[int] = (),
        padding: Sequence[int] = (),
    ) -> _Layer:
        shared = dict(dtype=self.dtype, axis_name=self.axis_name, name=name)
        return _Layer(features, kernel_size, strides, padding, **shared)

    def _video(self, x: jax.Array, train: bool) -> jax.Array:
        """[B, T, H, W, 3] to [B (T - 4), D]."""
        if min(x.shape[2:4]) < LEAST_SIZE:
            raise UserError(
                f"SyncNet cannot see pictures of {x.shape[2]} x {x.shape[3]}: "
                f"set config.view.size to {LEAST_SIZE} x {LEAST_SIZE} or more"
            )
        f = self.video_features
        x = self._layer("video_conv1", f[0], (WINDOW_FRAMES, 7, 7), (1, 2, 2))(x, train)
        # No other layer looks at more than one window.
        x = x.reshape(-1, *x.shape[2:])
        x = max_pool(x, (3, 3), (2, 2), (0, 0))
        x = self._layer("video_conv2", f[1], (5, 5), (2, 2), (1, 1))(x, train)
        x = max_pool(x, (3, 3), (2, 2), (1, 1))
        for i in (3, 4, 5):
            x = self._layer(f"video_conv{i}", f[i - 1], (3, 3), (1, 1), (1, 1))(x, train)
        x = max_pool(x, (3, 3), (2, 2), (0, 0))
        x = self._layer("video_conv6", f[5], x.shape[1:3])(x, train)
        return self._head("video", x, train)

    def _audio(self, x: jax.Array, train: bool) -> jax.Array:
        """[N, 20, 13] to [N, D]."""
        f = self.audio_features
        x = jnp.swapaxes(x, 1, 2)[..., None]  # rows are coefficients, columns time
        x = self._layer("audio_conv1", f[0], (3, 3), (1, 1), (1, 1))(x, train)
        x = self._layer("audio_conv2", f[1], (3, 3), (1, 1), (1, 1))(x, train)
        x = max_pool(x, (3, 3), (1, 2), (0, 0))
        for i in (3, 4, 5):
            x = self._layer(f"audio_conv{i}", f[i - 1], (3, 3), (1, 1), (1, 1))(x, train)
        x = max_pool(x, (3, 3), (2, 2), (0, 0))
        x = self._layer("audio_conv6", f[5], x.shape[1:3])(x, train)
        return self._head("audio", x, train)

    def _head(self, stream: str, x: jax.Array, train: bool) -> jax.Array:
        x = self._layer(f"{stream}_hidden", self.hidden)(x.reshape(x.shape[0], -1), train)
        # Distances are differences of large numbers: not in half precision.
        return nn.Dense(self.embedding, name=f"{stream}_embedding")(x.astype(jnp.float32))

"""LipNet: the frames of a mouth to the letters that it speaks.

Assael, Shillingford, Whiteson and de Freitas, "LipNet: End-to-End Sentence-level Lipreading", 2016,
section 3.4 and the table of the appendix: three convolutions over space and time, two
bidirectional GRUs, one matrix to 26 letters, the space and the blank. Ours: the widths are
attributes, pictures may be of any size that leaves something behind the last pooling, and a clip's
frames that are padding reach the recurrent layers' outputs of the others in neither direction.
Batch normalisation is not the paper's; the published Keras weights, which
`flax_talk.interop.lipnet` translates, have it, and other GRUs.
"""

from collections.abc import Sequence

import flax.linen as nn
import jax
import jax.numpy as jnp

from flax_talk.errors import UserError
from flax_talk.nets.convolutions import Conv, batch_norm, max_pool
from flax_talk.nets.recurrent import BidirectionalGRU, hard_sigmoid

NUM_LABELS = 28
"""Letters, space and, last, the blank."""

LEAST_SIZE = 15
"""Height and width of a picture of which one pixel is left behind the last pooling."""

GATES = {"sigmoid": nn.sigmoid, "hard_sigmoid": hard_sigmoid}


def spatial_dropout(x: jax.Array, keys: jax.Array, rate: float) -> jax.Array:
    """Sets whole channels of a clip to zero, and scales the others up for it.

    Args:
        x: [B, ..., C].
        keys: [B], one for each clip.
        rate: share of the channels that go.
    """
    draw = jax.vmap(lambda key: jax.random.bernoulli(key, 1 - rate, x.shape[-1:]))
    kept = draw(keys).reshape(x.shape[0], *(1,) * (x.ndim - 2), -1)
    return jnp.where(kept, x / (1 - rate), 0).astype(x.dtype)


class LipReader(nn.Module):
    """The network.

    Attributes:
        features: channels of the three convolutions.
        hidden: width of the GRUs, each direction.
        norm: batch normalisation after the convolutions.
        dropout: share of the channels that go after each convolution in training.
        reset_after, gate: of the GRUs, see `nets.recurrent`; the gate is a name in `GATES`.
    """

    features: Sequence[int] = (32, 64, 96)
    hidden: int = 256
    norm: bool = False
    dropout: float = 0.5
    reset_after: bool = True
    gate: str = "sigmoid"
    dtype: jnp.dtype = jnp.float32
    axis_name: str | None = None

    @nn.compact
    def __call__(
        self, video: jax.Array, mask: jax.Array, keys: jax.Array | None = None, train: bool = False
    ) -> jax.Array:
        """Reads clips.

        Args:
            video: [B, T, H, W, 3], mouths; the paper's size is 50 x 100.
            mask: bool [B, T], valid frames, which precede the others.
            keys: [B], of the dropout; without them there is none.
            train: normalise by the batch.

        Returns:
            Logits [B, T, 28] of the labels of `input_pipeline.text`, float32.

        Raises:
            UserError: the pictures are too small.
        """
        if min(video.shape[2:4]) < LEAST_SIZE:
            raise UserError(
                f"LipNet cannot read pictures of {video.shape[2]} x {video.shape[3]}: "
                f"set config.view.size to {LEAST_SIZE} x {LEAST_SIZE} or more"
            )
        x = video
        sizes = (((3, 5, 5), (1, 2, 2)), ((3, 5, 5), (1, 1, 1)), ((3, 3, 3), (1, 1, 1)))
        for i, (features, (kernel, strides)) in enumerate(
            zip(self.features, sizes, strict=True), start=1
        ):
            x = Conv(
                features,
                kernel,
                strides,
                [k // 2 for k in kernel],
                use_bias=True,  # which a normalisation takes away: the published weights have it
                by_frame=True,
                dtype=self.dtype,
                name=f"conv{i}",
            )(x)
            if self.norm:
                x = batch_norm(train, self.dtype, self.axis_name)(x)
            x = nn.relu(x)
            if keys is not None:
                x = spatial_dropout(
                    x, jax.vmap(jax.random.fold_in, (0, None))(keys, i), self.dropout
                )
            x = max_pool(x, (1, 2, 2), (1, 2, 2), (0, 0, 0))
        x = x.reshape(*x.shape[:2], -1).astype(jnp.float32)
        x = BidirectionalGRU(
            self.hidden, 2, reset_after=self.reset_after, gate=GATES[self.gate], name="gru"
        )(x, mask)
        return nn.Dense(NUM_LABELS, name="labels")(x)

"""Convolutions in the form that suits the backend.

Every network here is built from two layers: a strided convolution over one, two or three
axes, and the 4x4 stride-2 transposed convolution that doubles an image. XLA's CPU backend
runs the input gradient of the first and the whole of the second through dilated convolutions
that are about ten times slower than the same sums written as matrix products, while GPUs
and TPUs have fast native ones. Both forms are ours and live here and, for those products that
are fewer than the sums have, in `winograd`; `implementation()` chooses by backend, and the layers
below call whichever it names.

What the kernels of `winograd` are turned into is worked out in each step of a training. Where
parameters stay as they are, a call with the collection `PREPARED` mutable leaves it there, and
calls that have the collection use it.
"""

import functools
import itertools
import math
from collections.abc import Callable, Sequence
from typing import cast

import flax.linen as nn
import jax
import jax.numpy as jnp

from flax_talk.nets import winograd

PREPARED = "prepared"
"""Collection of transformed kernels, see above; only on a CPU is anything in it."""

_SPATIAL = {1: "W", 2: "HW", 3: "DHW"}
# Measured: with fewer tiles the transform of a kernel costs more than it saves, and with fewer
# tiles or channels the products are too small.
_LEAST_TILES = 256
_LEAST_TILES_PREPARED = 64
_LEAST_CHANNELS = 64
_FEW_FEATURES = 8


def implementation() -> str:
    """'cpu' on a CPU, 'native' on every other backend."""
    return "cpu" if jax.default_backend() == "cpu" else "native"


def space_to_depth(x: jax.Array, block: Sequence[int]) -> jax.Array:
    """[N, S1*b1, .., C] -> [N, S1, .., b1*..*C]: each block of pixels becomes channels."""
    n, *spatial, channels = x.shape
    split = [axis for size, b in zip(spatial, block, strict=True) for axis in (size // b, b)]
    rank = len(block)
    order = (0, *range(1, 2 * rank, 2), *range(2, 2 * rank + 1, 2), 2 * rank + 1)
    small = [size // b for size, b in zip(spatial, block, strict=True)]
    return (
        x.reshape(n, *split, channels)
        .transpose(order)
        .reshape(n, *small, math.prod(block) * channels)
    )


def conv_matmul(
    x: jax.Array,
    kernel: jax.Array,
    strides: Sequence[int],
    padding: Sequence[tuple[int, int]],
) -> jax.Array:
    """Convolution as one matrix product over shifted copies of the input.

    A stride s is taken out first by moving s x s blocks into channels, so that a kernel of
    size k needs only ceil(k / s) shifts along each axis.

    Args:
        x: [N, *spatial, C].
        kernel: [*size, C, O].
        strides: one for each spatial axis.
        padding: (before, after) zeros for each spatial axis.

    Returns:
        [N, *spatial', O], equal to `jax.lax.conv_general_dilated` up to rounding.
    """
    return _column_product(x, _blocked_kernel(kernel, strides), kernel.shape[:-2], strides, padding)


def _column_product(x, kernel, size, strides, padding):
    """`conv_matmul` of a kernel of `_blocked_kernel`; `size` is what it was before."""
    out, shifts = _out_size(x, size, strides, padding), _shifts(size, strides)
    x = _blocked_input(x, size, strides, padding)
    columns = [
        x[(slice(None), *(slice(i, i + o) for i, o in zip(shift, out, strict=True)))]
        for shift in itertools.product(*map(range, shifts))
    ]
    return jnp.dot(jnp.concatenate(columns, axis=-1), kernel.reshape(-1, kernel.shape[-1]))


def _shifts(size: Sequence[int], strides: Sequence[int]) -> list[int]:
    """Taps along each axis of the kernel of stride 1 that `_blocked_kernel` gives."""
    return [-(-k // s) for k, s in zip(size, strides, strict=True)]


def _out_size(x, size, strides, padding) -> list[int]:
    return [
        (n + sum(p) - k) // s + 1
        for n, p, k, s in zip(x.shape[1:-1], padding, size, strides, strict=True)
    ]


def _blocked_input(x, size, strides, padding) -> jax.Array:
    """What `_blocked_kernel` convolves with stride 1 and without padding."""
    # Pad (or cut) each axis to exactly the blocks that the outputs touch.
    out, shifts = _out_size(x, size, strides, padding), _shifts(size, strides)
    pads = [
        (before, (o + m - 1) * s - n - before, 0)
        for n, (before, _), o, m, s in zip(
            x.shape[1:-1], padding, out, shifts, strides, strict=True
        )
    ]
    x = jax.lax.pad(x, jnp.zeros((), x.dtype), [(0, 0, 0), *pads, (0, 0, 0)])
    return space_to_depth(x, strides)


def _blocked_kernel(kernel, strides) -> jax.Array:
    """[*size, C, O] to [*shifts, prod(strides) C, O]; channels are ordered as in the input."""
    size, (channels, features) = kernel.shape[:-2], kernel.shape[-2:]
    shifts = _shifts(size, strides)
    pads = [(0, m * s - k) for k, m, s in zip(size, shifts, strides, strict=True)]
    kernel = jnp.pad(kernel, [*pads, (0, 0), (0, 0)])
    kernel = space_to_depth(kernel.reshape(1, *kernel.shape[:-2], channels * features), strides)
    return kernel.reshape(*shifts, -1, features)


def conv_winograd(
    x: jax.Array,
    kernel: jax.Array,
    strides: Sequence[int],
    padding: Sequence[tuple[int, int]],
) -> jax.Array:
    """The same convolution as `conv_matmul` in fewer products, see `winograd`.

    A stride is taken out in the same way; 1 to 3 taps may then be left along each axis.
    """
    blocks = _blocked_input(x, kernel.shape[:-2], strides, padding)
    return winograd.convolve(blocks, _blocked_kernel(kernel, strides))


def _suits_winograd(x, kernel, strides, padding, least_tiles=_LEAST_TILES) -> bool:
    size = kernel.shape[:-2]
    shifts = _shifts(size, strides)
    tiles = [-(-n // 2) for n in _out_size(x, size, strides, padding)]
    channels = min(math.prod(strides) * kernel.shape[-2], kernel.shape[-1])
    return (
        1 < max(shifts) <= 3
        and x.dtype == jnp.float32
        and channels >= _LEAST_CHANNELS
        and len(x) * math.prod(tiles) >= least_tiles
    )


def conv_cpu(
    x: jax.Array,
    kernel: jax.Array,
    strides: Sequence[int],
    padding: Sequence[tuple[int, int]],
) -> jax.Array:
    """`conv_winograd` where it is the faster, `conv_matmul` elsewhere."""
    form = conv_winograd if _suits_winograd(x, kernel, strides, padding) else conv_matmul
    return form(x, kernel, strides, padding)


def conv_native(
    x: jax.Array,
    kernel: jax.Array,
    strides: Sequence[int],
    padding: Sequence[tuple[int, int]],
) -> jax.Array:
    """The same convolution as `conv_matmul`, by XLA's own operator."""
    axes = _SPATIAL[len(strides)]
    numbers = (f"N{axes}C", f"{axes}IO", f"N{axes}C")
    return jax.lax.conv_general_dilated(x, kernel, strides, padding, dimension_numbers=numbers)


def conv_frames_matmul(
    x: jax.Array,
    kernel: jax.Array,
    strides: Sequence[int],
    padding: Sequence[tuple[int, int]],
) -> jax.Array:
    """A 3D convolution of stride 1 over time, one frame after the other.

    Each frame meets the kernel's K slices in one product, whose K results belong to K times and
    are added there: K times less memory than `conv_matmul`, which copies the input once for
    each time, and so the better form for pictures of few channels.

    Args, returns: as of `conv_matmul`, with three spatial axes of which time is the first.
    """
    n, t, *size, channels = x.shape
    slices, features = kernel.shape[0], kernel.shape[-1]
    before, after = padding[0]
    joined = jnp.moveaxis(kernel, 0, -2).reshape(*kernel.shape[1:3], channels, slices * features)
    y = conv_matmul(x.reshape(n * t, *size, channels), joined, strides[1:], padding[1:])
    y = y.reshape(n, t, *y.shape[1:3], slices, features)
    y = jnp.pad(y, ((0, 0), (before, after), (0, 0), (0, 0), (0, 0), (0, 0)))
    out = t + before + after - slices + 1
    return cast(jax.Array, sum(y[:, k : k + out, :, :, k] for k in range(slices)))


def max_pool_shifts(
    x: jax.Array, window: Sequence[int], strides: Sequence[int], padding: Sequence[int]
) -> jax.Array:
    """Largest values of windows, as maxima of shifted copies, axis by axis.

    The gradient of XLA's own pooling is slow on a CPU.

    Args:
        x: [N, *spatial, C].
        window, strides, padding: one for each spatial axis; padding on both sides, which
            is never the largest.

    Returns:
        [N, *spatial', C].
    """
    for axis, (size, stride, pad) in enumerate(zip(window, strides, padding, strict=True), 1):
        if pad:
            pads = [(pad, pad) if i == axis else (0, 0) for i in range(x.ndim)]
            x = jnp.pad(x, pads, constant_values=-jnp.inf)
        out = (x.shape[axis] - size) // stride + 1
        copies = (
            jax.lax.slice_in_dim(x, k, k + (out - 1) * stride + 1, stride, axis)
            for k in range(size)
        )
        x = functools.reduce(jnp.maximum, copies)
    return x


def max_pool_native(
    x: jax.Array, window: Sequence[int], strides: Sequence[int], padding: Sequence[int]
) -> jax.Array:
    """The same as `max_pool_shifts`, by XLA's own operator."""
    return nn.max_pool(x, tuple(window), tuple(strides), [(p, p) for p in padding])


def upsample_matmul(x: jax.Array, kernel: jax.Array) -> jax.Array:
    """4x4 stride-2 transposed convolution as four 2x2 convolutions, each a matrix product.

    Output pixel 2i + a receives input pixels i and i - 1 (a = 0) or i + 1 (a = 1), each
    through one of the kernel's four rows; columns likewise.

    Args:
        x: [N, H, W, C].
        kernel: [4, 4, C, O], row and column as in PyTorch's ConvTranspose2d(4, 2, 1).

    Returns:
        [N, 2H, 2W, O].
    """
    n, h, w, _ = x.shape
    features = kernel.shape[-1]
    x = jnp.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)))
    # For each phase: (offset into the padded axis, kernel index) of its two sources.
    sources = (((0, 3), (1, 1)), ((1, 2), (2, 0)))
    phases = []
    for rows, columns in itertools.product(sources, repeat=2):
        taps = [(i, j, row, column) for i, row in rows for j, column in columns]
        shifted = [x[:, i : i + h, j : j + w] for i, j, _, _ in taps]
        weights = [kernel[row, column] for _, _, row, column in taps]
        phases.append(jnp.dot(jnp.concatenate(shifted, -1), jnp.concatenate(weights, 0)))
    y = jnp.concatenate(phases, -1).reshape(n, h, w, 2, 2, features)
    y = y.transpose(0, 1, 3, 2, 4, 5).reshape(n, 2 * h, 2 * w, features)
    # Keeps XLA from computing this interleaving anew in each reduction that follows.
    return jax.lax.optimization_barrier(y)


def upsample_winograd(x: jax.Array, kernel: jax.Array) -> jax.Array:
    """The same as `upsample_matmul` in fewer products, see `winograd`."""
    transforms = winograd.widest_upsampling(x.shape[1:-1])
    return _upsample_prepared(x, winograd.transform_kernel(kernel, transforms))


def _upsample_prepared(x, points):
    transforms, size = winograd.widest_upsampling(x.shape[1:-1]), [2 * n for n in x.shape[1:-1]]
    return winograd.apply(x, points, transforms, (1, 1), size)


def upsample_overlap(x: jax.Array, kernel: jax.Array) -> jax.Array:
    """The same as `upsample_matmul` as one product and overlapping sums: for few features."""
    n, h, w, _ = x.shape
    features = kernel.shape[-1]
    y = jnp.einsum("nhwc,ijcf->nhwijf", x, kernel)
    y = jnp.pad(y, ((0, 0), (1, 1), (1, 1), (0, 0), (0, 0), (0, 0)))
    # As in `upsample_matmul`: (offset into the padded axis, kernel index).
    sources = (((0, 3), (1, 1)), ((1, 2), (2, 0)))
    phases = [
        sum(
            y[:, i : i + h, j : j + w, row, column]
            for (i, row), (j, column) in itertools.product(rows, columns)
        )
        for rows, columns in itertools.product(sources, repeat=2)
    ]
    y = jnp.stack(phases, axis=3).reshape(n, h, w, 2, 2, features)
    return y.transpose(0, 1, 3, 2, 4, 5).reshape(n, 2 * h, 2 * w, features)


@jax.custom_vjp
def upsample_cpu(x: jax.Array, kernel: jax.Array) -> jax.Array:
    """The fastest of the forms above."""
    if kernel.shape[-1] <= _FEW_FEATURES:
        return upsample_overlap(x, kernel)
    if x.dtype == jnp.float32 and _upsampled_tiles(x) >= _LEAST_TILES:
        return jax.lax.optimization_barrier(upsample_winograd(x, kernel))
    return upsample_matmul(x, kernel)


def _upsampled_tiles(x):
    return len(x) * math.prod(-(-n // 2) for n in x.shape[1:-1])


def _upsample_forward(x, kernel):
    return upsample_cpu(x, kernel), (x, kernel)


def _upsample_backward(inputs, y):
    x, kernel = inputs

    def transpose(kernel):
        return conv_cpu(y, jnp.swapaxes(kernel, -2, -1), (2, 2), ((1, 1), (1, 1)))

    # The transpose is linear in the kernel too: its gradient there, given x, is ours.
    gradient, of_kernel = jax.vjp(transpose, kernel)
    return gradient, *of_kernel(x)


upsample_cpu.defvjp(_upsample_forward, _upsample_backward)


def upsample_native(x: jax.Array, kernel: jax.Array) -> jax.Array:
    """The same as `upsample_matmul`, as XLA's dilated convolution."""
    return jax.lax.conv_general_dilated(
        x,
        kernel[::-1, ::-1],
        (1, 1),
        ((2, 2), (2, 2)),
        lhs_dilation=(2, 2),
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
    )


_CONV = {"cpu": conv_cpu, "native": conv_native}
_CONV_FRAMES = {"cpu": conv_frames_matmul, "native": conv_native}
_MAX_POOL = {"cpu": max_pool_shifts, "native": max_pool_native}
_UPSAMPLE: dict[str, Callable[..., jax.Array]] = {"cpu": upsample_cpu, "native": upsample_native}


def _prepared(
    layer: nn.Module, transform: Callable[[], list[jax.Array]], suits: bool
) -> list[jax.Array] | None:
    """The transformed kernel of a layer that has one, or leaves one now; None in training."""
    preparing = layer.is_mutable_collection(PREPARED) and not layer.is_initializing()
    if preparing and suits and implementation() == "cpu":
        layer.put_variable(PREPARED, "kernel", transform())
    return layer.get_variable(PREPARED, "kernel")


def max_pool(
    x: jax.Array, window: Sequence[int], strides: Sequence[int], padding: Sequence[int]
) -> jax.Array:
    """Largest values of windows, see `max_pool_shifts`, in the form that suits the backend."""
    return _MAX_POOL[implementation()](x, window, strides, padding)


class Conv(nn.Module):
    """Convolution over the axes of `kernel_size`: [N, *spatial, C] -> [N, *spatial', features].

    Attributes:
        features: output channels.
        kernel_size, strides: one entry for each spatial axis.
        padding: zeros on both sides of each axis.
        use_bias: off where batch normalisation follows.
        by_frame: three axes, of which the first is time, with stride 1 and few channels: takes
            less memory on a CPU.
        dtype: of the computation; parameters stay float32.
    """

    features: int
    kernel_size: Sequence[int]
    strides: Sequence[int]
    padding: Sequence[int]
    use_bias: bool = False
    by_frame: bool = False
    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        shape = (*self.kernel_size, x.shape[-1], self.features)
        kernel = self.param("kernel", nn.initializers.lecun_normal(), shape)
        padding = [(p, p) for p in self.padding]
        x, kernel = x.astype(self.dtype), kernel.astype(self.dtype)
        y = self._convolve(x, kernel, tuple(self.strides), padding)
        if self.use_bias:
            y += self.param("bias", nn.initializers.zeros, (self.features,)).astype(self.dtype)
        return y

    def _convolve(self, x, kernel, strides, padding):
        if self.by_frame:
            return _CONV_FRAMES[implementation()](x, kernel, strides, padding)
        size = kernel.shape[:-2]
        shifts, out = _shifts(size, strides), _out_size(x, size, strides, padding)

        def transform():
            blocks = _blocked_kernel(kernel, strides)
            if tiled:
                return winograd.transform_kernel(blocks, winograd.widest(shifts, out))
            return [blocks]

        tiled = _suits_winograd(x, kernel, strides, padding, _LEAST_TILES_PREPARED)
        # Without a stride there is nothing to prepare for one product.
        points = _prepared(self, transform, tiled or max(strides) > 1)
        if points is None:
            return _CONV[implementation()](x, kernel, strides, padding)
        if len(points) == 1:
            return _column_product(x, points[0], size, strides, padding)
        blocks = _blocked_input(x, size, strides, padding)
        transforms, zeros = winograd.widest(shifts, out), [0 for _ in size]
        return winograd.apply(blocks, points, transforms, zeros, out)


class Upsample(nn.Module):
    """4x4 stride-2 transposed convolution without bias: [N, H, W, C] -> [N, 2H, 2W, features].

    With `zero` its weights start at 0.
    """

    features: int
    zero: bool = False
    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        # Each output sums 2 x 2 kernel positions, so the fan-in is 4 C and not 16 C.
        random = nn.initializers.variance_scaling(4.0, "fan_in", "truncated_normal")
        init = nn.initializers.zeros if self.zero else random
        kernel = self.param("kernel", init, (4, 4, x.shape[-1], self.features))
        x, kernel = x.astype(self.dtype), kernel.astype(self.dtype)
        suits = (
            self.features > _FEW_FEATURES
            and self.dtype == jnp.float32
            and _upsampled_tiles(x) >= _LEAST_TILES_PREPARED
        )

        def transform():
            transforms = winograd.widest_upsampling(x.shape[1:-1])
            return winograd.transform_kernel(kernel, transforms)

        points = _prepared(self, transform, suits)
        if points is None:
            return _UPSAMPLE[implementation()](x, kernel)
        return _upsample_prepared(x, points)


class ConvBlock(nn.Module):
    """Convolution, batch normalisation, activation: the layer that every encoder repeats.

    Attributes:
        negative_slope: 0 gives ReLU (generator), 0.2 LeakyReLU (discriminators).
        norm: without it the convolution has a bias.
        conv_bias: a bias in front of the normalisation, for weights that carry one.
        axis_name: device axis over which the statistics are averaged.
    """

    features: int
    kernel_size: Sequence[int]
    strides: Sequence[int]
    padding: Sequence[int]
    negative_slope: float = 0.0
    norm: bool = True
    conv_bias: bool = False
    dtype: jnp.dtype = jnp.float32
    axis_name: str | None = None

    @nn.compact
    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        x = Conv(
            self.features,
            self.kernel_size,
            self.strides,
            self.padding,
            use_bias=self.conv_bias or not self.norm,
            dtype=self.dtype,
        )(x)
        if self.norm:
            x = batch_norm(train, self.dtype, self.axis_name)(x)
        return nn.leaky_relu(x, self.negative_slope)


def batch_norm(
    train: bool, dtype: jnp.dtype, axis_name: str | None, name: str | None = None
) -> nn.BatchNorm:
    """Batch normalisation over every axis but the channels, and over `axis_name` in training."""
    return nn.BatchNorm(
        use_running_average=not train,
        momentum=0.99,
        epsilon=1e-5,
        dtype=dtype,
        axis_name=axis_name if train else None,
        name=name,
    )

"""Convolutions with fewer multiplications, for CPUs.

Winograd's minimal filtering in the form of Lavin and Gray, "Fast Algorithms for Convolutional
Neural Networks", 2016: two neighbouring outputs of a kernel of 3 taps are 4 products of sums of
their inputs, not 6, and of 2 taps 3, not 4; along several axes the savings multiply. Each product
is a matrix product over the channels of all tiles at once. Ours is the same for the 4x4 stride-2
transposed convolution: its even and odd outputs are two convolutions of 2 taps, which share one
of their sums, so that 6 products over 5 sums give 4 outputs. Ours, too, is the gradient of the
kernel, which takes as few products as the convolution; that of the input is a convolution again.
"""

import functools
import itertools
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple, cast

import jax
import jax.numpy as jnp

Matrix = Sequence[Sequence[float]]
_Points = dict[tuple[int, ...], jax.Array]


class Transform(NamedTuple):
    """One axis of a convolution as products of sums.

    Attributes:
        data: [D, span], sums of the inputs of a tile.
        reads: [P], the sum that each product multiplies.
        kernel: [P, taps], what multiplies it.
        output: [Q, P], the outputs of a tile as sums of products.
        step: inputs from the start of one tile to that of the next.
    """

    data: Matrix
    reads: Sequence[int]
    kernel: Matrix
    output: Matrix
    step: int = 2


ONE_TAP = Transform([[1]], [0], [[1]], [[1]], step=1)
TWO_TAPS = Transform(
    data=[[1, -1, 0], [0, 1, 0], [0, -1, 1]],
    reads=[0, 1, 2],
    kernel=[[1, 0], [1, 1], [0, 1]],
    output=[[1, 1, 0], [0, 1, 1]],
)
THREE_TAPS = Transform(
    data=[[1, 0, -1, 0], [0, 1, 1, 0], [0, -1, 1, 0], [0, 1, 0, -1]],
    reads=[0, 1, 2, 3],
    kernel=[[1, 0, 0], [0.5, 0.5, 0.5], [0.5, -0.5, 0.5], [0, 0, 1]],
    output=[[1, 1, 1, 0], [0, 1, -1, -1]],
)
TAPS = {1: ONE_TAP, 2: TWO_TAPS, 3: THREE_TAPS}
"""Convolutions of stride 1 by the size of their kernel."""

UPSAMPLE = Transform(
    data=[[1, -1, 0, 0], [0, 1, 0, 0], [0, -1, 1, 0], [0, 0, 1, 0], [0, 0, -1, 1]],
    reads=[0, 1, 2, 2, 3, 4],
    # The first three make the even outputs, from taps 3 and 1, the others the odd ones.
    kernel=[[0, 0, 0, 1], [0, 1, 0, 1], [0, 1, 0, 0], [0, 0, -1, 0], [1, 0, 1, 0], [1, 0, 0, 0]],
    output=[[1, 1, 0, 0, 0, 0], [0, 0, 0, 1, 1, 0], [0, 1, 1, 0, 0, 0], [0, 0, 0, 0, 1, 1]],
)
"""The transposed convolution of 4 taps, stride 2 and padding 1: four outputs of a tile of two
inputs."""


# Tiles of three outputs (six of the transposed convolution) take fewer products for each, but more
# sums to make and a longer program; for them the sums at 0, 1, -1, 2 and infinity are taken.
_TWO_TAPS_WIDE = Transform(
    data=[[1, 0, -1, 0], [0, 1, 1, 0], [0, -1, 1, 0], [0, -1, 0, 1]],
    reads=[0, 1, 2, 3],
    kernel=[[1, 0], [0.5, 0.5], [0.5, -0.5], [0, 1]],
    output=[[1, 1, 1, 0], [0, 1, -1, 0], [0, 1, 1, 1]],
    step=3,
)
_THREE_TAPS_WIDE = Transform(
    data=[
        [2, -1, -2, 1, 0],
        [0, -2, -1, 1, 0],
        [0, 2, -3, 1, 0],
        [0, -1, 0, 1, 0],
        [0, 2, -1, -2, 1],
    ],
    reads=[0, 1, 2, 3, 4],
    kernel=[[1 / 2, 0, 0], [-1 / 2] * 3, [-1 / 6, 1 / 6, -1 / 6], [1 / 6, 1 / 3, 2 / 3], [0, 0, 1]],
    output=[[1, 1, 1, 1, 0], [0, 1, -1, 2, 0], [0, 1, 1, 4, 1]],
    step=3,
)
_UPSAMPLE_WIDE = Transform(
    data=[
        [1, 0, -1, 0, 0],
        [0, 1, 1, 0, 0],
        [0, -1, 1, 0, 0],
        [0, -1, 0, 1, 0],
        [0, 0, 1, 1, 0],
        [0, 0, -1, 1, 0],
        [0, 0, -1, 0, 1],
    ],
    reads=[0, 1, 2, 3, 3, 4, 5, 6],
    kernel=[
        [0, 0, 0, 1],
        [0, 0.5, 0, 0.5],
        [0, -0.5, 0, 0.5],
        [0, 1, 0, 0],
        [0, 0, -1, 0],
        [0.5, 0, 0.5, 0],
        [-0.5, 0, 0.5, 0],
        [1, 0, 0, 0],
    ],
    output=[
        [1, 1, 1, 0, 0, 0, 0, 0],
        [0, 0, 0, 0, 1, 1, 1, 0],
        [0, 1, -1, 0, 0, 0, 0, 0],
        [0, 0, 0, 0, 0, 1, -1, 0],
        [0, 1, 1, 1, 0, 0, 0, 0],
        [0, 0, 0, 0, 0, 1, 1, 1],
    ],
    step=3,
)
WIDE = {1: ONE_TAP, 2: _TWO_TAPS_WIDE, 3: _THREE_TAPS_WIDE}


def widest(taps: Sequence[int], size: Sequence[int]) -> list[Transform]:
    """Transforms for a result [*size] with the fewest products, where wide tiles fit."""
    return [(TAPS if s % 3 else WIDE)[n] for n, s in zip(taps, size, strict=True)]


def widest_upsampling(size: Sequence[int]) -> list[Transform]:
    """The same for the transposed convolution of an input [*size]."""
    return [UPSAMPLE if s % 3 else _UPSAMPLE_WIDE for s in size]


def transform_kernel(kernel: jax.Array, transforms: Sequence[Transform]) -> list[jax.Array]:
    """What the sums of `apply` are multiplied by.

    Args:
        kernel: [*taps, C, O].
        transforms: one for each axis.

    Returns:
        For each sum, [C, n O]: the n products that read it.
    """
    points = _combine(kernel, [t.kernel for t in transforms], lambda k, _, count: list(k[:count]))
    return [
        jnp.concatenate([points[product] for product in products], axis=-1)
        for products in _readers(transforms)
    ]


def apply(
    x: jax.Array,
    kernel: Sequence[jax.Array],
    transforms: Sequence[Transform],
    padding: Sequence[int],
    size: Sequence[int],
    transposed: bool = False,
) -> jax.Array:
    """Convolves.

    Args:
        x: [N, *spatial, C].
        kernel: of `transform_kernel`.
        transforms: one for each axis.
        padding: zeros in front of each axis; behind it there are as many as `size` needs.
        size: of the result.
        transposed: the kernel was [*taps, O, C].

    Returns:
        [N, *size, O].
    """
    contract = "mi,oi->mo" if transposed else "mi,io->mo"
    tiles = _tiles(transforms, size)
    products: _Points = {}
    sums = _sums(x, transforms, padding, tiles)
    for data, points, readers in zip(sums, kernel, _readers(transforms), strict=True):
        parts = jnp.split(jnp.einsum(contract, data, points), len(readers), axis=-1)
        products.update(zip(readers, parts, strict=True))
    for axis in range(len(transforms)):
        products = _fold(products, axis, transforms[axis].output)
    # Outputs [*tiles, *outputs of a tile] to [*size].
    outputs, rank = [len(t.output) for t in transforms], len(transforms)
    features = parts[0].shape[-1]
    y = jnp.concatenate([products[key] for key in sorted(products)], axis=-1)
    y = y.reshape(-1, *tiles, *outputs, features)
    order = [i for axis in range(rank) for i in (1 + axis, 1 + rank + axis)]
    y = y.transpose(0, *order, 1 + 2 * rank)
    y = y.reshape(-1, *(t * q for t, q in zip(tiles, outputs, strict=True)), features)
    return y[(slice(None), *map(slice, size))]


def kernel_gradient(
    x: jax.Array, y: jax.Array, transforms: Sequence[Transform], padding: Sequence[int]
) -> jax.Array:
    """The gradient [*taps, C, O] of the kernel, given that y [N, *size, O] of the result."""
    size = y.shape[1:-1]
    tiles = _tiles(transforms, size)
    outputs = [len(t.output) for t in transforms]
    pads = [(0, t * q - s) for t, q, s in zip(tiles, outputs, size, strict=True)]
    y = jnp.pad(y, [(0, 0), *pads, (0, 0)])
    parts = _combine(y, [_transpose(t.output) for t in transforms], _strided(outputs, tiles))
    points: _Points = {}
    sums = _sums(x, transforms, padding, tiles)
    for data, readers in zip(sums, _readers(transforms), strict=True):
        y = jnp.concatenate([parts[product] for product in readers], axis=-1)
        product = jnp.einsum("mc,mo->co", data, y.reshape(len(data), -1))
        points.update(zip(readers, jnp.split(product, len(readers), axis=-1), strict=True))
    for axis in range(len(transforms)):
        points = _fold(points, axis, _transpose(transforms[axis].kernel))
    taps = [len(t.kernel[0]) for t in transforms]
    kernel = jnp.stack([points[key] for key in sorted(points)])
    return kernel.reshape(*taps, *kernel.shape[1:])


@functools.partial(jax.custom_vjp, nondiff_argnums=(2,))
def convolve(x: jax.Array, kernel: jax.Array, transposed: bool = False) -> jax.Array:
    """Convolution of stride 1 without padding, whose kernel has 1, 2 or 3 taps along each axis.

    Args:
        x: [N, *spatial, C].
        kernel: [*taps, C, O], or [*taps, O, C] if `transposed`.

    Returns:
        [N, *spatial - taps + 1, O].
    """
    taps = kernel.shape[:-2]
    transforms = [TAPS[n] for n in taps]
    size = [s - n + 1 for s, n in zip(x.shape[1:-1], taps, strict=True)]
    points = transform_kernel(kernel, transforms)
    y = apply(x, points, transforms, [0 for _ in taps], size, transposed)
    # Keeps XLA from working out the sums anew in each reduction that follows.
    return jax.lax.optimization_barrier(y)


def _convolve_forward(x, kernel, transposed):
    return convolve(x, kernel, transposed), (x, kernel)


def _convolve_backward(transposed, inputs, y):
    x, kernel = inputs
    taps = kernel.shape[:-2]
    padded = jnp.pad(y, [(0, 0), *((n - 1, n - 1) for n in taps), (0, 0)])
    turned = jnp.flip(kernel, range(len(taps)))
    gradient = kernel_gradient(x, y, [TAPS[n] for n in taps], [0 for _ in taps])
    if transposed:
        gradient = jnp.swapaxes(gradient, -2, -1)
    return convolve(padded, turned, not transposed), gradient


convolve.defvjp(_convolve_forward, _convolve_backward)


def _tiles(transforms, size):
    return [-(-s // len(t.output)) for s, t in zip(size, transforms, strict=True)]


def _sums(x, transforms, padding, tiles) -> Iterator[jax.Array]:
    """The sums of the inputs, each [N tiles, C]."""
    pads = [
        (before, (count - 1) * t.step + len(t.data[0]) - s - before, 0)
        for before, count, t, s in zip(padding, tiles, transforms, x.shape[1:-1], strict=True)
    ]
    x = jax.lax.pad(x, jnp.zeros((), x.dtype), [(0, 0, 0), *pads, (0, 0, 0)])
    steps = [t.step for t in transforms]
    sums = _combine(x, [t.data for t in transforms], _strided(steps, tiles))
    return (part.reshape(-1, x.shape[-1]) for part in sums.values())


def _strided(steps: Sequence[int], tiles: Sequence[int]) -> Callable:
    """Parts of an array [N, *spatial, C] along an axis: the first entries of tiles, the second."""

    def parts(x, axis, count):
        last = (tiles[axis] - 1) * steps[axis] + 1
        return [jax.lax.slice_in_dim(x, i, i + last, steps[axis], axis + 1) for i in range(count)]

    return parts


def _combine(x: jax.Array, matrices: Sequence[Matrix], parts: Callable) -> _Points:
    """Weighted sums of the parts along each axis, one axis after the other."""
    points: _Points = {(): x}
    for axis, matrix in enumerate(matrices):
        points = {
            (*key, i): _weighted(row, pieces)
            for key, x in points.items()
            for pieces in [parts(x, axis, len(matrix[0]))]
            for i, row in enumerate(matrix)
        }
    return points


def _fold(points: _Points, axis: int, matrix: Matrix) -> _Points:
    """Weighted sums of the points along one axis."""
    others = sorted({(key[:axis], key[axis + 1 :]) for key in points})
    return {
        (*before, i, *after): _weighted(row, [points[*before, p, *after] for p in range(len(row))])
        for before, after in others
        for i, row in enumerate(matrix)
    }


def _weighted(weights: Sequence[float], arrays: Sequence[jax.Array]) -> jax.Array:
    """A sum without the products by 0 and 1."""
    total = None
    for weight, array in zip(weights, arrays, strict=True):
        if weight:
            term = array if abs(weight) == 1 else abs(weight) * array
            if total is None:
                total = term if weight > 0 else -term
            else:
                total = total + term if weight > 0 else total - term
    return cast(jax.Array, total)  # no row is all 0


def _transpose(matrix: Matrix) -> Matrix:
    return list(zip(*matrix, strict=True))


def _readers(transforms: Sequence[Transform]) -> Iterator[list[tuple[int, ...]]]:
    """For each sum, of all axes, the products that read it."""
    readers = [
        [[p for p, read in enumerate(t.reads) if read == i] for i in range(len(t.data))]
        for t in transforms
    ]
    for sums in itertools.product(*readers):
        yield list(itertools.product(*sums))

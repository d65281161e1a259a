"""Fits the face model to the landmarks of a video: who it is, what the face does, where it is.

Song et al., "Everybody's Talkin'" (2020), section 3.1: geometry, expression and pose of every frame
by non-linear optimisation on detected landmarks under the statistics of the model, after Blanz and
Vetter 1999. Ours is all of how. With landmarks l of frame t in dm, the energy is

    sum_t sum_k w_k |P(s, e_t, p_t)_k - l_tk|^2 / noise^2 + |s|^2
        + sum_t |e_t / d|^2 + |(e_t - e_t-1) / d'|^2 + |(a_t - a_t-1) / d''|^2

with weights w_k, P the projection of the model and a_t the angles and the scale of p_t. Key frames
give s; then chunks of frames with some context on either side give e and p, so that one program
serves videos of any length. Both are a damped Gauss-Newton method (Levenberg-Marquardt) of our own,
since frames meet only in s and at their neighbours: the key frames are eliminated from the
equations of s, and those of a chunk are solved by conjugate gradients preconditioned with its
frames. General solvers do not see that (optimistix was tried: without it 200 conjugate
gradients are too few for the first step, and dense equations too large).
"""

import functools
import threading
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import scipy.linalg  # noqa: F401  (loads the LAPACK that JAX calls on CPUs)
import threadpoolctl

from flax_talk.errors import UserError
from flax_talk.face_model.model import FaceModel, inter_ocular_distance, project, rotation
from flax_talk.interop.array_files import read_npz

INNER = slice(17, 68)
"""The landmarks within the face: all but the jaw, whose contour slides over a turned head."""

_KEY_FRAMES = 16
_CHUNK = 80
_CONTEXT = 8  # frames of the neighbours on either side of a chunk
_STEPS = 15  # at most; 3 to 5 do
_TOLERANCE = 1e-3
_GRADIENTS = 20  # conjugate ones, at most
_DAMPING = 1.0  # at first; a landmark's information is about 1e4 per squared dm
_LEAST_DAMPING = 1e-3

# Jaw, brows, the rest: by how far detectors and vertices disagree about each.
_WEIGHTS = np.repeat(np.float32([0.01, 0.25, 1]), [17, 10, 41])
# Points that speech moves little; they give the first pose.
_RIGID = np.array([*range(27, 36), 36, 39, 42, 45])

# TPUs and recent GPUs would round the inputs of matrix products to 8 or 10 bits.
_PRECISE = jax.default_matmul_precision("highest")

_Unknowns = tuple[jax.Array, ...]


class Fit(NamedTuple):
    """A video in the terms of a face model.

    Attributes:
        geometry: float32 [G], of the person.
        expression: float32 [T, E].
        pose: float32 [T, 6], see `model.transform`; pixels of the landmarks' frames.
        error: float32 [T], RMS distance of the `INNER` landmarks from the fitted ones, pixels.
    """

    geometry: np.ndarray
    expression: np.ndarray
    pose: np.ndarray
    error: np.ndarray


class Priors(NamedTuple):
    """Standard deviations of what the energy weighs against each other.

    Attributes:
        noise: of landmarks, in shares of the distance of the outer eye corners.
        expression: of coefficients from rest.
        expression_step: of their change from frame to frame.
        pose_step: of the change of the angles, radians, and of the logarithm of the scale.
    """

    noise: float = 0.015
    expression: float = 1.0
    expression_step: float = 0.5
    pose_step: float = 0.03


DEFAULT_PRIORS = Priors()


class _Shape(NamedTuple):
    """The landmarks of a model: mean [68, 3], directions [68, 3, G] and [68, 3, E], dm."""

    mean: jax.Array
    geometry: jax.Array
    expression: jax.Array


_ONE_AT_A_TIME = threading.Lock()


@functools.cache
def _lapack() -> threadpoolctl.ThreadpoolController:
    return threadpoolctl.ThreadpoolController()


def fit(model: FaceModel, landmarks: np.ndarray, priors: Priors = DEFAULT_PRIORS) -> Fit:
    """Geometry, expression and pose of one person's video by its landmarks.

    Args:
        model: such as `model.load_default()`.
        landmarks: float [T, 68, 2], T at least 1, pixels (x, y), iBUG order.
        priors: how much to trust the landmarks.

    Returns:
        See `Fit`.

    Raises:
        UserError: landmarks of another shape, or that are not finite or all in one place.
    """
    landmarks = _checked(landmarks)
    at = np.asarray(model.landmarks)
    shape = _Shape(*(np.asarray(a)[at] for a in (model.mean, model.geometry, model.expression)))
    # In dm, roughly: what follows does not depend on the size of the image.
    centre = landmarks[:, INNER].mean(axis=(0, 1))
    unit = np.median(_spread(landmarks)) / _spread(shape.mean[:, :2])
    points = (landmarks - centre) / unit
    priors = priors._replace(noise=priors.noise * float(inter_ocular_distance(shape.mean)))

    # Threads gain nothing in matrices this small, and wait for each other on a busy machine: they
    # made it up to a hundred times slower. And jaxlib factorises many matrices in threads of XLA's
    # own pool while another of them waits: two fits at a time can take all of them to wait.
    with _ONE_AT_A_TIME, _lapack().limit(limits=1, user_api="blas"):
        geometry, parts = _fit_chunks(shape, points, priors)
    expression, pose, distance = (np.concatenate(values) for values in zip(*parts, strict=True))
    pose[:, 3:5] = pose[:, 3:5] * unit + centre
    pose[:, 5] *= unit
    return Fit(geometry, expression, pose, distance * np.float32(unit))


def _fit_chunks(
    shape: _Shape, points: np.ndarray, priors: Priors
) -> tuple[np.ndarray, list[list[np.ndarray]]]:
    """Geometry [G], and what `_fit_frames` gives for each chunk of points [T, 68, 2] in dm."""
    length = len(points)
    keys = np.linspace(0, length - 1, min(length, _KEY_FRAMES)).round().astype(int)
    geometry = jax.device_get(_fit_geometry(shape, *_padded(points, keys, _KEY_FRAMES), priors))
    parts = []
    for start in range(0, length, _CHUNK):
        first, last = max(start - _CONTEXT, 0), min(start + _CHUNK + _CONTEXT, length)
        chunk = _padded(points, np.arange(first, last), _CHUNK + 2 * _CONTEXT)
        found = jax.device_get(_fit_frames(shape, geometry, *chunk, priors))
        parts.append([values[start - first :][: min(_CHUNK, length - start)] for values in found])
    return geometry, parts


def save_fit(path: str | Path, fit: Fit) -> None:
    """Writes a fit as npz with the names of `Fit`; the file appears complete or not at all.

    Raises:
        UserError: a place that cannot be written.
    """
    path = Path(path)
    partial = path.with_name(f".{path.name}.partial")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with partial.open("wb") as file:
            np.savez(file, **fit._asdict())
        partial.replace(path)
    except OSError as error:
        raise UserError(
            f"{path}: cannot be written ({error.strerror}): check the folder and its free space"
        ) from error


def load_fit(path: str | Path) -> Fit:
    """Reads what `save_fit` wrote.

    Raises:
        UserError: no such file, or not a fit.
    """
    if not Path(path).is_file():
        raise UserError(f"{path}: no such file: make it with flax-talk fit")
    try:
        file = read_npz(path)
        return Fit(**{name: file[name] for name in Fit._fields})
    except (UserError, KeyError) as error:
        raise UserError(f"{path}: not a fit: make it again with flax-talk fit") from error


def _checked(landmarks: np.ndarray) -> np.ndarray:
    landmarks = np.asarray(landmarks, np.float32)
    if landmarks.ndim != 3 or landmarks.shape[1:] != (68, 2) or not len(landmarks):
        raise UserError(
            f"the landmarks must be [T, 68, 2], not {list(landmarks.shape)}: "
            "find them with input_pipeline.faces.detect_video"
        )
    usable = np.isfinite(landmarks).all(axis=(1, 2)) & (_spread(landmarks) > 0)
    if not usable.all():
        raise UserError(
            f"the landmarks of frame {np.argmin(usable)} are not those of a face: "
            "find them again with input_pipeline.faces.detect_video"
        )
    return landmarks


def _spread(points: np.ndarray) -> np.ndarray:
    """RMS distance of the `INNER` landmarks [..., 68, 2] from their mean: [...]."""
    return np.sqrt(points[..., INNER, :].var(axis=-2).sum(axis=-1))


def _padded(points: np.ndarray, frames: np.ndarray, length: int) -> tuple[np.ndarray, np.ndarray]:
    """The points [length, 68, 2] of frames, the last one repeated, and mask float32 [length]."""
    shown = np.minimum(np.arange(length), len(frames) - 1)
    return points[frames[shown]], (np.arange(length) < len(frames)).astype(np.float32)


@jax.jit
@_PRECISE
def _fit_geometry(shape: _Shape, points: jax.Array, mask: jax.Array, priors: Priors) -> jax.Array:
    """Geometry [G] that suits all key frames: points [K, 68, 2] in dm, mask [K]."""
    weights = mask[:, None] * _WEIGHTS / priors.noise**2
    curvature = jnp.concatenate(
        [jnp.full(shape.expression.shape[-1], priors.expression**-2), jnp.zeros(6)]
    )
    directions = jnp.concatenate([shape.geometry, shape.expression], axis=-1)

    def residuals(geometry, unknowns):
        return _residuals(shape, geometry, unknowns, points)

    def energy(state):
        geometry, unknowns = state
        fitted = jnp.einsum("tv,tvi->", weights, residuals(geometry, unknowns) ** 2)
        return fitted + geometry @ geometry + jnp.sum(unknowns**2 * curvature)

    def step(state, damping):
        geometry, unknowns = state
        size = len(geometry)
        jacobian = _jacobian(shape, geometry, unknowns, directions)
        away = residuals(geometry, unknowns)
        hessian, gradient = _normal_equations(jacobian, away, weights)
        gradient = gradient.at[:, size:].add(unknowns * curvature)
        # The frames are eliminated (Schur complement): what is left is an equation for s alone.
        own = hessian[:, size:, size:] + jnp.diag(curvature + damping)
        mixed = hessian[:, size:, :size]
        right = jnp.concatenate([mixed, gradient[:, size:, None]], axis=-1)
        solved = _solve(own, right)
        mixed_solved, own_solved = solved[..., :size], solved[..., size]
        reduced = hessian[:, :size, :size] - jnp.einsum("tji,tjk->tik", mixed, mixed_solved)
        left = reduced.sum(axis=0) + (1 + damping) * jnp.eye(size)
        total = gradient[:, :size] - jnp.einsum("tji,tj->ti", mixed, own_solved)
        change = -_solve(left, total.sum(axis=0) + geometry)
        return change, -own_solved - jnp.einsum("tij,j->ti", mixed_solved, change)

    geometry = jnp.zeros(shape.geometry.shape[-1])
    return _minimise(energy, step, (geometry, _first_guess(shape, geometry, points)))[0]


@jax.jit
@_PRECISE
def _fit_frames(
    shape: _Shape, geometry: jax.Array, points: jax.Array, mask: jax.Array, priors: Priors
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Expression [C, E], pose [C, 6] and error [C] of points [C, 68, 2] in dm, mask [C]."""
    size = shape.expression.shape[-1]
    weights = mask[:, None] * _WEIGHTS / priors.noise**2
    ones = jnp.ones(size)
    curvature = jnp.concatenate([priors.expression**-2 * ones, jnp.zeros(6)])
    pose_link = priors.pose_step**-2 * jnp.array([1, 1, 1, 0, 0, 1.0])
    link = jnp.concatenate([priors.expression_step**-2 * ones, pose_link])
    # Each frame has as many links as neighbours.
    links = link * jnp.array([1.0, *(2.0,) * (len(points) - 2), 1.0])[:, None]

    def residuals(unknowns):
        return _residuals(shape, geometry, unknowns, points)

    def energy(state):
        (unknowns,) = state
        fitted = jnp.einsum("tv,tvi->", weights, residuals(unknowns) ** 2)
        moved = jnp.sum(link * jnp.diff(unknowns, axis=0) ** 2)
        return fitted + jnp.sum(curvature * unknowns**2) + moved

    def step(state, damping):
        (unknowns,) = state
        jacobian = _jacobian(shape, geometry, unknowns, shape.expression)
        hessian, gradient = _normal_equations(jacobian, residuals(unknowns), weights)
        blocks = hessian + jax.vmap(jnp.diag)(curvature + damping + links)
        moved = jnp.pad(link * jnp.diff(unknowns, axis=0), [(1, 1), (0, 0)])
        gradient += curvature * unknowns - jnp.diff(moved, axis=0)

        def times_hessian(x):
            beside = jnp.pad(x, [(1, 1), (0, 0)])
            return jnp.einsum("tjk,tk->tj", blocks, x) - link * (beside[:-2] + beside[2:])

        # The frames by themselves are most of it; a few conjugate gradients tell the neighbours.
        inverse = _solve(blocks, jnp.broadcast_to(jnp.eye(blocks.shape[-1]), blocks.shape))
        change, _ = jax.scipy.sparse.linalg.cg(
            times_hessian,
            -gradient,
            tol=_TOLERANCE,
            maxiter=_GRADIENTS,
            M=lambda x: jnp.einsum("tjk,tk->tj", inverse, x),
        )
        return (change,)

    (unknowns,) = _minimise(energy, step, (_first_guess(shape, geometry, points),))
    distances = jnp.square(residuals(unknowns)[:, INNER]).sum(axis=-1)
    return unknowns[:, :size], unknowns[:, size:], jnp.sqrt(distances.mean(axis=-1))


def _minimise(
    energy: Callable[[_Unknowns], jax.Array],
    step: Callable[[_Unknowns, jax.Array], _Unknowns],
    unknowns: _Unknowns,
) -> _Unknowns:
    """Levenberg-Marquardt: steps that lower the energy are made, others damp the next one."""

    def going_on(carry):
        number, _, _, _, gain = carry
        return (number < _STEPS) & (gain > _TOLERANCE)

    def iterate(carry):
        number, unknowns, value, damping, _ = carry
        moved = jax.tree.map(jnp.add, unknowns, step(unknowns, damping))
        moved_value = energy(moved)
        better = moved_value <= value
        # A step that fails says nothing of the next one, which is shorter.
        gain = jnp.where(better, 1 - moved_value / value, 1.0)
        damping = jnp.maximum(damping * jnp.where(better, 0.1, 10), _LEAST_DAMPING)
        unknowns, value = jax.tree.map(
            lambda new, old: jnp.where(better, new, old), (moved, moved_value), (unknowns, value)
        )
        return number + 1, unknowns, value, damping, gain

    start = (0, unknowns, energy(unknowns), jnp.float32(_DAMPING), jnp.float32(1))
    return jax.lax.while_loop(going_on, iterate, start)[1]


def _residuals(
    shape: _Shape, geometry: jax.Array, unknowns: jax.Array, points: jax.Array
) -> jax.Array:
    """Fitted minus given landmarks [T, 68, 2]; unknowns [T, E + 6] are expression and pose."""
    size = shape.expression.shape[-1]
    vertices = _vertices(shape, geometry, unknowns[:, :size])
    return project(vertices, unknowns[:, size:]) - points


def _jacobian(
    shape: _Shape, geometry: jax.Array, unknowns: jax.Array, directions: jax.Array
) -> jax.Array:
    """Derivatives [T, 68, 2, D + 6] of the residuals by D of the directions and the pose."""
    size = shape.expression.shape[-1]
    pose = unknowns[:, size:]
    vertices = _vertices(shape, geometry, unknowns[:, :size])
    to_image = pose[:, 5, None, None] * rotation(pose[:, :3])[:, :2] * jnp.array([[1.0], [-1.0]])
    by_shape = jnp.einsum("tij,vjk->tvik", to_image, directions)
    by_pose = jax.vmap(jax.jacfwd(project, argnums=1))(vertices, pose)
    return jnp.concatenate([by_shape, by_pose], axis=-1)


def _normal_equations(
    jacobian: jax.Array, residuals: jax.Array, weights: jax.Array
) -> tuple[jax.Array, jax.Array]:
    """Matrices [T, N, N] and right sides [T, N] of the landmarks' part, weights [T, 68]."""
    weighted = jacobian * weights[:, :, None, None]
    matrices = jnp.einsum("tvij,tvik->tjk", weighted, jacobian)
    return matrices, jnp.einsum("tvij,tvi->tj", weighted, residuals)


def _vertices(shape: _Shape, geometry: jax.Array, expression: jax.Array) -> jax.Array:
    rest = shape.mean + shape.geometry @ geometry
    return rest + jnp.einsum("vik,tk->tvi", shape.expression, expression)


def _first_guess(shape: _Shape, geometry: jax.Array, points: jax.Array) -> jax.Array:
    """Expression 0 and the pose of the rigid points alone: [T, E + 6].

    The linear map from the head to the image and the scaled rotation nearest to it (the first step
    of POSIT, DeMenthon and Davis 1995).
    """
    head = (shape.mean + shape.geometry @ geometry)[_RIGID]
    centred = head - head.mean(axis=0)
    image = points[:, _RIGID] * jnp.array([1, -1])  # y up, as in the head
    linear = jnp.einsum(
        "tvi,jv->tij", image - image.mean(axis=1, keepdims=True), jnp.linalg.pinv(centred)
    )
    left, scales, right = jnp.linalg.svd(linear, full_matrices=False)
    rows, scale = left @ right, scales.mean(axis=-1)
    x, y = rows[:, 0], rows[:, 1]
    z = jnp.cross(x, y)
    pitch = jnp.arctan2(z[:, 1], z[:, 2])
    yaw = jnp.arcsin(jnp.clip(-z[:, 0], -1, 1))
    roll = jnp.arctan2(y[:, 0], x[:, 0])
    place = image.mean(axis=1) - scale[:, None] * (rows @ head.mean(axis=0))
    pose = jnp.stack([pitch, yaw, roll, place[:, 0], -place[:, 1], scale], axis=-1)
    return jnp.pad(pose, [(0, 0), (shape.expression.shape[-1], 0)])


def _solve(matrix: jax.Array, right: jax.Array) -> jax.Array:
    """Solves positive definite systems [..., N, N] for [..., N] or [..., N, M]."""
    factor = jax.scipy.linalg.cholesky(matrix, lower=True)
    return jax.scipy.linalg.cho_solve((factor, True), right)

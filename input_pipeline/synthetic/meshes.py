"""Pieces of a speaker as triangle meshes, and how they are made, measured and joined. Ours.

Coordinates are those of `flax_talk.face_model`: dm, x to the right, y up, z to the viewer.
Triangles are counter-clockwise seen from outside.
"""

import dataclasses
from typing import Any

import numpy as np

from input_pipeline.synthetic import renderer
from input_pipeline.synthetic.painting import smooth
from input_pipeline.synthetic.renderer import CLOTH, FRAME, HAIR, LASH

_TWO_SIDED = (HAIR, CLOTH, LASH, FRAME)  # open sheets, which are seen from behind too
_NECK_BOTTOM, _NECK_TOP = -1.75, -0.85  # dm, between which the neck bends
_FAR = -1e30  # depth of an empty picture


@dataclasses.dataclass
class Mesh:
    """A piece of a speaker: N vertices, F triangles, one material.

    Attributes:
        vertices: [N, 3] at rest, dm.
        triangles: int [F, 3].
        uv: [F, 3, 2], into the texture of the material, 0 to 1.
        material: one of `renderer`.
        head_share: [N], 1 where a vertex turns with the head, 0 with the trunk.
        coverage: [N], opacity of the vertices; 1 by default.
        soft: bool [F], whether a triangle may be seen through; none by default.
    """

    vertices: np.ndarray
    triangles: np.ndarray
    uv: np.ndarray
    material: int
    head_share: np.ndarray
    coverage: np.ndarray | None = None
    soft: np.ndarray | None = None

    def __post_init__(self) -> None:
        if self.coverage is None:
            self.coverage = np.ones(len(self.vertices), np.float32)
        if self.soft is None:
            self.soft = np.zeros(len(self.triangles), bool)

    def only(self, chosen: np.ndarray) -> "Mesh":
        """The same vertices with the triangles of a mask bool [F] alone."""
        soft = None if self.soft is None else self.soft[chosen]
        return dataclasses.replace(
            self, triangles=self.triangles[chosen], uv=self.uv[chosen], soft=soft
        )


def join(head: list[Mesh], trunk: Mesh, others: list[Mesh]) -> dict[str, Any]:
    """One mesh of all, opaque triangles before soft ones.

    Args:
        head: pieces that share the vertices of the face model.
        trunk: continues the head: its triangles count the head's vertices before its own.
        others: pieces with vertices of their own.

    Returns:
        Fields of `appearance.Speaker`: vertices, head_share, coverage by vertex; triangles, uv,
        materials, two_sided by triangle; num_opaque.
    """
    owners = [head[0], trunk, *others]
    starts = np.cumsum([0] + [len(mesh.vertices) for mesh in owners]).tolist()
    offsets = [0] * len(head) + [0] + starts[2:-1]
    pieces = [*head, trunk, *others]
    triangles = [mesh.triangles + k for mesh, k in zip(pieces, offsets, strict=True)]
    each = [np.full(len(mesh.triangles), mesh.material, np.uint8) for mesh in pieces]
    soft = np.concatenate([mesh.soft for mesh in pieces])
    order = np.argsort(soft, kind="stable")
    materials = np.concatenate(each)[order]
    return {
        "vertices": np.concatenate([mesh.vertices for mesh in owners]).astype(np.float32),
        "head_share": np.concatenate([mesh.head_share for mesh in owners]).astype(np.float32),
        "coverage": np.concatenate([mesh.coverage for mesh in owners]).astype(np.float32),
        "triangles": np.concatenate(triangles)[order].astype(np.int32),
        "uv": np.concatenate([mesh.uv for mesh in pieces])[order].astype(np.float32),
        "materials": materials,
        "two_sided": np.isin(materials, _TWO_SIDED),
        "num_opaque": int((~soft).sum()),
    }


def merge(pieces: list[tuple[np.ndarray, np.ndarray]]) -> tuple[np.ndarray, np.ndarray]:
    """Vertices [N, 3] and triangles [F, 3] of several pieces with such as one."""
    vertices, triangles, count = [], [], 0
    for points, faces in pieces:
        vertices.append(points)
        triangles.append(faces + count)
        count += len(points)
    return np.concatenate(vertices), np.concatenate(triangles)


def head_share(points: np.ndarray) -> np.ndarray:
    """How far points [N, 3] of neck, trunk and hair turn with the head, float32 [N], 0 to 1."""
    return smooth(_NECK_BOTTOM, _NECK_TOP, points[:, 1]).astype(np.float32)


def grid_triangles(indices: np.ndarray, closed: bool = False) -> np.ndarray:
    """Triangles int32 [F, 3] of a grid of vertices [R, C], two for each of its cells.

    Rows go down. Columns that grow with the angle from the front to +x show their outside.

    Args:
        indices: of the vertices.
        closed: whether the first column follows the last.
    """
    if closed:
        indices = np.hstack([indices, indices[:, :1]])
    a, b = indices[:-1, :-1].ravel(), indices[:-1, 1:].ravel()
    c, d = indices[1:, :-1].ravel(), indices[1:, 1:].ravel()
    return np.concatenate([np.stack([a, c, d], -1), np.stack([a, d, b], -1)]).astype(np.int32)


def tube(line: np.ndarray, radius: float, closed: bool) -> tuple[np.ndarray, np.ndarray]:
    """A square tube along a line [K, 3]: vertices [4 K, 3] and triangles [F, 3]."""
    if closed:
        along = np.roll(line, -1, axis=0) - np.roll(line, 1, axis=0)
    else:
        along = np.gradient(line, axis=0)
    along /= np.linalg.norm(along, axis=1, keepdims=True)
    side = np.cross(along, (0.3, 0.2, 1.0))  # any direction that no part of a frame runs in
    side /= np.linalg.norm(side, axis=1, keepdims=True)
    up = np.cross(side, along)
    vertices = np.concatenate([line + radius * corner for corner in (side, up, -side, -up)])
    indices = np.arange(len(vertices)).reshape(4, -1)
    indices = np.vstack([indices, indices[:1]])
    return vertices, grid_triangles(indices, closed=closed)


def edges_of(triangles: np.ndarray) -> np.ndarray:
    """The directed edges of triangles [F, 3], three by three: [3 F, 2]."""
    return triangles[:, [[0, 1], [1, 2], [2, 0]]].reshape(-1, 2)


def vertex_normals(vertices: np.ndarray, triangles: np.ndarray) -> np.ndarray:
    """Unit normals float32 [N, 3] of vertices [N, 3], from triangles [F, 3]."""
    # The renderer's points have y down.
    points = (vertices * (1, -1, 1)).astype(np.float32)
    normals = np.empty_like(points)
    renderer.vertex_normals(points, np.ascontiguousarray(triangles, np.int32), normals)
    return normals


def relax(
    points: np.ndarray, triangles: np.ndarray, share: np.ndarray, rounds: int = 25
) -> np.ndarray:
    """Points float64 [N, 3] moved towards the mean of their neighbours, as share [N] allows."""
    edges = np.concatenate([triangles[:, [0, 1]], triangles[:, [1, 2]], triangles[:, [2, 0]]])
    edges = np.concatenate([edges, edges[:, ::-1]])
    degree = np.bincount(edges[:, 0], minlength=len(points))[:, None]
    points = points.astype(np.float64)
    for _ in range(rounds):
        total = np.stack(
            [np.bincount(edges[:, 0], points[edges[:, 1], k], len(points)) for k in range(3)], -1
        )
        points += 0.5 * share[:, None] * (total / degree - points)
    return points


def polyline_distance(points: np.ndarray, line: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Distance of points [..., D] from a line of K corners [K, D], and how far along, 0 to 1."""
    nearest = np.full(points.shape[:-1], np.inf, np.float32)
    along = np.zeros(points.shape[:-1], np.float32)
    for i in range(len(line) - 1):
        step = line[i + 1] - line[i]
        share = np.clip((points - line[i]) @ step / (step @ step), 0, 1)
        distance = np.linalg.norm(points - line[i] - share[..., None] * step, axis=-1)
        closer = distance < nearest
        nearest = np.where(closer, distance, nearest)
        along = np.where(closer, (i + share) / (len(line) - 1), along)
    return nearest, along


def draw(
    points: np.ndarray, triangles: np.ndarray, size: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Both sides of opaque triangles int32 [F, 3] on a picture of size x size.

    Args:
        points: float32 [N, 3], column, row, and depth, of which the greatest is in front.
        triangles: counter-clockwise or not.
        size: of the picture, in texels.

    Returns:
        depth (-1e30 where nothing is), index of the triangle (int32, -1 where none), and the
        weights of its second and third corner there: [size, size] each.
    """
    depth = np.full((size, size), _FAR, np.float32)
    index = np.full((size, size), -1, np.int32)
    second, third = np.zeros((2, size, size), np.float32)
    count = len(triangles)
    # Materials, textures and opacity matter for soft triangles only.
    renderer.rasterize(
        points,
        triangles,
        0,
        count,
        np.ones(count, bool),
        np.zeros(count, np.uint8),
        np.zeros((1, 3, 2), np.float32),
        np.zeros((1, 1, 1, 4), np.uint8),
        np.zeros(1, np.float32),
        False,
        depth,
        index,
        second,
        third,
    )
    return depth, index, second, third

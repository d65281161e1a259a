"""Neck, shoulders and chest, which continue the face model downwards.

Ours. Their textures and those of the clothes are painted as seen from the front, over the same
frame of `_WIDTH` x `_HEIGHT` dm.
"""

import functools

import numpy as np

from flax_talk.face_model.model import load_default
from input_pipeline.synthetic.meshes import Mesh, edges_of, grid_triangles, head_share
from input_pipeline.synthetic.painting import TEXTURE_SIZE, noise, to_texture
from input_pipeline.synthetic.renderer import BODY
from input_pipeline.synthetic.skin import SKIN_PARTS

_WIDTH, _TOP, _HEIGHT = 5.6, -0.3, 5.0  # dm, of the front view on the textures

_NECK_DEPTH = -0.6  # z of the middle of neck and trunk, dm
_RINGS_OUT, _RINGS_DOWN = 7, 4  # from the neck to the shoulders, and below them
_RING_DROP = 0.75  # dm, between those below
_MALE_HALF_WIDTH, _FEMALE_HALF_WIDTH = 2.1, 1.8  # of the shoulders, dm
_SHOULDER_HEIGHT, _CHEST_DROP = -2.15, 0.35
_CHEST_DEPTH, _BACK_DEPTH = 0.85, 0.7
_GLOSS = 0.45


def front_uv(points: np.ndarray) -> np.ndarray:
    """Places of points [..., 3] in textures painted as seen from the front, float32 [..., 2]."""
    u = 0.5 + points[..., 0] / _WIDTH
    v = (_TOP - points[..., 1]) / _HEIGHT
    return np.clip(np.stack([u, v], axis=-1), 0, 1).astype(np.float32)


def front_grid() -> tuple[np.ndarray, np.ndarray]:
    """x and y, dm, of the texels of those textures: float32 [S, S] each."""
    centres = (np.arange(TEXTURE_SIZE, dtype=np.float32) + 0.5) / TEXTURE_SIZE
    x = (centres - 0.5) * _WIDTH
    y = _TOP - centres * _HEIGHT
    return np.meshgrid(x, y)


def paint_body(random: np.random.Generator, skin: np.ndarray) -> np.ndarray:
    """The texture of neck and chest, uint8 [S, S, 4], for a colour [3] of the skin."""
    colour = skin * (1 + 0.015 * noise(random, (7, 7)))[..., None]
    return to_texture(colour, np.full(colour.shape[:2], _GLOSS, np.float32))


def trunk_mesh(head: np.ndarray, male: bool) -> Mesh:
    """Shoulders and chest that continue the neck of a head [V, 3].

    Returns:
        vertices of its own; in its triangles, indices below V are the head's, V + i is vertex i.
    """
    loop = _neck_loop()
    columns = len(loop)
    start = head[loop].astype(np.float64)
    end = _shoulders(load_default().mean[loop], male)
    rings = []
    for t in np.linspace(0, 1, _RINGS_OUT + 1)[1:]:
        # A quarter of an ellipse: out from the neck first, then down over the shoulders.
        out, down = np.sin(t * np.pi / 2), 1 - np.cos(t * np.pi / 2)
        rings.append(start + (end - start) * np.array([out, down, out]))
    for i in range(_RINGS_DOWN):
        rings.append(end + np.array([0, -_RING_DROP * (i + 1), 0.0]))
    vertices = np.concatenate(rings)
    indices = np.vstack([loop, len(head) + np.arange(len(vertices)).reshape(-1, columns)])
    triangles = grid_triangles(indices, closed=True)
    uv = front_uv(np.concatenate([head, vertices])[triangles])
    return Mesh(vertices, triangles, uv, BODY, head_share(vertices))


@functools.cache
def _neck_loop() -> np.ndarray:
    """The vertices at the lower end of the neck, around it: int [48]."""
    model = load_default()
    surface = model.triangles[model.part_mask("neck", *SKIN_PARTS, "mouth_cavity")]
    edges = np.sort(edges_of(surface), axis=1)
    unique, counts = np.unique(edges, axis=0, return_counts=True)
    loop = np.intersect1d(unique[counts == 1], model.part_vertices("neck"))
    x, _, z = model.mean[loop].T
    return loop[np.argsort(np.arctan2(x, z - _NECK_DEPTH))]


def _shoulders(neck: np.ndarray, male: bool) -> np.ndarray:
    """The widest ring of the trunk, [C, 3], in the directions of points [C, 3] of the neck."""
    angle = np.arctan2(*(neck[:, [0, 2]] - (0, _NECK_DEPTH)).T)
    sin, cos = np.sin(angle), np.cos(angle)
    ring = np.empty((len(neck), 3))
    ring[:, 0] = (
        (_MALE_HALF_WIDTH if male else _FEMALE_HALF_WIDTH) * np.sign(sin) * np.abs(sin) ** 0.8
    )
    ring[:, 1] = _SHOULDER_HEIGHT - _CHEST_DROP * np.maximum(cos, 0)
    ring[:, 2] = _NECK_DEPTH + np.where(cos > 0, _CHEST_DEPTH, _BACK_DEPTH) * cos
    return ring

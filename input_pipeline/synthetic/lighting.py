"""The lights a speaker stands in, and how much of them each place of head and body gets.

Ours. A key, a fill on the other side and an ambient light. Occlusion is measured at rest, once
for a speaker: ambient light by shadow maps from all around, key light by some around its own
direction, which gives its shadows a soft edge.
"""

from typing import Any

import numpy as np

from input_pipeline.synthetic.meshes import draw, vertex_normals
from input_pipeline.synthetic.renderer import EYE, FRAME, HAIR, LASH

_MAP_SIZE = 160  # texels of a shadow map
_BIAS = 0.07  # dm that a surface may lie behind the map's and still be lit
_PENUMBRA = 0.05  # dm behind that, over which the light fades
_AMBIENT_DIRECTIONS, _KEY_DIRECTIONS = 48, 12
_KEY_SPREAD = 0.22  # of the directions around the key's, which have unit length
_LEAST_AMBIENT, _LEAST_KEY = 0.12, 0.15  # what reflected light leaves in the deepest shade


def draw_lights(random: np.random.Generator) -> np.ndarray:
    """Lights of a room, float32 [5, 3].

    Rows are direction and colour of the key, direction and colour of the fill, colour of the
    ambient light; directions are unit vectors towards the light.
    """
    side = float(random.choice([-1.0, 1.0]))
    key = _unit((side * random.uniform(0.15, 0.75), random.uniform(0.3, 0.75), 0.85))
    fill = _unit((-side * random.uniform(0.5, 1.0), random.uniform(-0.1, 0.3), 0.6))
    warm = random.normal(0, 0.045)
    tint = np.array([1 + warm, 1.0, 1 - warm])
    strength = random.uniform(0.62, 0.82)
    ambient = random.uniform(0.34, 0.46)
    # Shade is cool where the light is warm.
    cool = np.array([1 - 0.7 * warm, 1.0, 1 + 0.7 * warm])
    rows = [key, strength * tint, fill, random.uniform(0.10, 0.24) * cool, ambient * cool]
    return np.array(rows, np.float32)


def light_access(joined: dict[str, Any], lights: np.ndarray) -> np.ndarray:
    """Share of the ambient and of the key light at each vertex, float64 [N, 2], 0 to 1.

    Args:
        joined: a speaker's mesh, as from `meshes.join`.
        lights: [5, 3], as from `draw_lights`.
    """
    vertices = joined["vertices"].astype(np.float64)
    triangles = joined["triangles"]
    normals = vertex_normals(vertices, triangles)
    # Lashes, frames and the parts of cloth that are cut away throw no shadow worth having.
    casts = ~np.isin(joined["materials"], [LASH, FRAME, EYE])
    casts &= (np.arange(len(triangles)) < joined["num_opaque"]) | (joined["materials"] == HAIR)
    casters = np.ascontiguousarray(triangles[casts])
    ambient = _visibility(vertices, normals, casters, _sphere(_AMBIENT_DIRECTIONS))
    # The directions reach over 7/8 of the heights of a ball.
    cone = lights[0].astype(np.float64) + _KEY_SPREAD * _sphere(_KEY_DIRECTIONS) * (8 / 7)
    cone = cone / np.linalg.norm(cone, axis=1)[:, None]
    key = _visibility(vertices, normals, casters, cone)
    # The power makes folds darker than a count of open directions would.
    ambient = _LEAST_AMBIENT + (1 - _LEAST_AMBIENT) * ambient**1.2
    return np.stack([ambient, _LEAST_KEY + (1 - _LEAST_KEY) * key], axis=1)


def _unit(vector: tuple[float, float, float]) -> np.ndarray:
    array = np.asarray(vector, np.float64)
    return array / np.linalg.norm(array)


def _sphere(count: int) -> np.ndarray:
    """Directions [count, 3] spread evenly, more of them from above than from below."""
    i = np.arange(count) + 0.5
    height = 1 - 1.75 * i / count
    turn = np.pi * (1 + 5**0.5) * i  # steps of the golden angle
    flat = np.sqrt(1 - height**2)
    return np.stack([flat * np.cos(turn), height, flat * np.sin(turn)], axis=-1)


def _visibility(
    vertices: np.ndarray, normals: np.ndarray, triangles: np.ndarray, directions: np.ndarray
) -> np.ndarray:
    """Share of light from directions [D, 3] that reaches vertices [N, 3], by facing them: [N].

    Each direction has a depth map; what lies behind its surface there is in the dark.
    """
    reached, total = np.zeros((2, len(vertices)))
    for direction in directions:
        facing = np.maximum(normals @ direction, 0)
        side = _unit(np.cross((0.1, 1.0, 0.2), direction))
        view = np.stack([side, np.cross(direction, side), direction])
        points = vertices @ view.T
        low, high = points[:, :2].min(axis=0), points[:, :2].max(axis=0)
        points[:, :2] = (points[:, :2] - low) / (high - low).max() * (_MAP_SIZE - 1)
        points = np.ascontiguousarray(points, np.float32)
        depth = draw(points, triangles, _MAP_SIZE)[0]
        column, row = np.clip(np.rint(points[:, :2]).astype(int), 0, _MAP_SIZE - 1).T
        behind = depth[row, column] - points[:, 2] - _BIAS
        reached += facing * np.clip(1 - behind / _PENUMBRA, 0, 1)
        total += facing
    return reached / np.maximum(total, 1e-6)

"""Hair: where it begins, the shapes of the styles as meshes of strands, and their texture.

Ours. Strands run from a pole (the crown, a parting, a knot) over the skull to the hairline; those
of long styles fall from there. A mesh has one column for each strand; its last column repeats the
first, as the texture does not close. Lengths are in dm. Below, C is the number of columns.
"""

import dataclasses
from collections.abc import Callable

import numpy as np
from scipy import ndimage
from scipy.spatial import cKDTree

from flax_talk.face_model.model import load_default
from input_pipeline.synthetic.meshes import Mesh, grid_triangles, head_share
from input_pipeline.synthetic.painting import TEXTURE_SIZE, noise, smooth, to_texture
from input_pipeline.synthetic.renderer import HAIR

# Height above the origin at which hair begins, by depth: from the nape to the forehead.
_HAIRLINE_DEPTHS = [-1.35, -0.55, -0.33, -0.20, 0.02, 0.10, 0.30, 0.55]
_HAIRLINE_HEIGHTS = [-0.55, -0.45, -0.25, 0.12, 0.28, 0.42, 0.66, 0.76]

_SKULL_CENTER = np.array([0.0, 0.30, -0.20])
_STRANDS, _ROOT_ROWS, _FALL_ROWS = 84, 20, 14
_COLUMNS = _STRANDS + 1
_SEARCHED_ANGLES = np.linspace(0.06, 2.9, 111)  # from the pole, radians
_SKULL_RADIUS = 0.9  # about, which turns lengths on it into angles
_LEAST_HEIGHT = 0.012  # over the skin
_FOREHEAD_HALF_WIDTH = 0.62
_LEAST_FALL = 0.02  # share of the length from which a strand counts as falling
_FALL_AXIS = -0.25  # z of the vertical around which strands fall
_FALL_FROM = -0.35  # height from which the length of a fall counts
_TRANSPARENT_TIP = 0.84  # place along a strand from which the texture is not opaque

_KNOT_COLUMNS, _KNOT_ROWS = 25, 13


@dataclasses.dataclass(frozen=True)
class _Shape:
    """What makes a style.

    Attributes:
        pole: direction from which strands run.
        thickness: over the skull, dm.
        top: more of it on top.
        fall: length below the hairline at the back, dm; none by default.
        front: depth z in front of which strands end at the hairline.
        fringe: length over the forehead, dm.
        wave: of strands, dm.
        rough: of the surface, dm.
        lift: share of the thickness that is left at the hairline.
        flatness: power of the way from the pole with which hair becomes flat.
    """

    pole: tuple[float, float, float]
    thickness: float
    top: float
    fall: float = 0.0
    front: float = -9.0
    fringe: float = 0.0
    wave: float = 0.0
    rough: float = 0.0
    lift: float = 0.0
    flatness: float = 2.5


@dataclasses.dataclass(frozen=True)
class _Strands:
    """The directions in which strands leave their pole."""

    pole: np.ndarray  # [3], unit
    turn: np.ndarray  # [C], angle around the pole, 0 to 2 pi
    outward: np.ndarray  # [C, 3], unit, across the pole

    def directions(self, angle: np.ndarray) -> np.ndarray:
        """Unit directions [C, R, 3] from the skull's centre at angles [C, R] from the pole."""
        away = np.sin(angle)[..., None] * self.outward[:, None]
        return np.cos(angle)[..., None] * self.pole + away


_Radius = Callable[[np.ndarray], np.ndarray]


def hairline_excess(points: np.ndarray, raised: float = 0.0) -> np.ndarray:
    """Height of points [..., 3] of a head above its hairline, dm, [...].

    Args:
        points: on or near the head.
        raised: how far the hairline has receded at the front, dm.
    """
    x, y, z = np.moveaxis(points, -1, 0)
    line = np.interp(z, _HAIRLINE_DEPTHS, _HAIRLINE_HEIGHTS)
    # The temples recede more than the middle of the forehead.
    temples = 0.45 + 0.55 * smooth(0.1, 0.4, np.abs(x))
    return y - line - raised * temples * smooth(-0.1, 0.35, z)


def hair_meshes(
    random: np.random.Generator, head: np.ndarray, style: str, raised: float
) -> list[Mesh]:
    """The hair of a head [V, 3].

    Args:
        random: decides length, parting and waves.
        head: at rest, dm.
        style: one of `appearance.HAIR_STYLES` that stands out: not "bald" or "buzz".
        raised: how far the hairline has receded, dm.
    """
    shape = _draw_shape(random, style)
    radius = _skull_radius(head)
    strands = _strands(shape.pole)
    end_angle, ends = _hairline_crossing(strands, radius, raised)
    frontal = smooth(0.25, 0.5, ends[:, 2]) * (np.abs(ends[:, 0]) < _FOREHEAD_HALF_WIDTH)
    fringe = shape.fringe * frontal
    falls = np.zeros(_COLUMNS)
    if shape.fall:
        falls = smooth(shape.front + 0.05, shape.front - 0.12, ends[:, 2])
    end_angle = end_angle + fringe / _SKULL_RADIUS + 0.04
    points = _over_skull(random, shape, strands, radius, end_angle, fringe, falls)
    coverage = np.ones(points.shape[:2])
    coverage[:, -1] = falls > _LEAST_FALL
    if shape.fall:
        points = np.concatenate([points, _falling(random, shape, points, falls)], axis=1)
        hanging = np.ones((_COLUMNS, _FALL_ROWS))
        hanging[:, -1] = 0
        hanging[falls <= _LEAST_FALL] = 0
        coverage = np.hstack([coverage, hanging])
    meshes = [_sheet(points, strands.turn / (2 * np.pi), coverage)]
    if style == "tied":
        meshes.append(_knot(random))
    return meshes


def paint_hair(random: np.random.Generator, hair: np.ndarray, style: str) -> np.ndarray:
    """Strands of a colour [3], uint8 [S, S, 4], from the root (v = 0) to the tip (v = 1)."""
    if style == "curly":
        light = 0.30 * noise(random, (4, 4)) + 0.2 * noise(random, (1.5, 1.5))
    else:
        # Locks, thinner strands in them, and single hairs.
        light = 0.20 * noise(random, (70, 1.1)) + 0.16 * noise(random, (110, 5))
        light += 0.08 * noise(random, (20, 0.7))
    v = ((np.arange(TEXTURE_SIZE, dtype=np.float32) + 0.5) / TEXTURE_SIZE)[:, None]
    along = 0.72 + 0.28 * smooth(0.0, 0.35, v) + random.uniform(0, 0.3) * smooth(0.5, 1, v)
    colour = hair * (np.clip(1 + light, 0.35, 2.2) * along)[..., None]
    if style in ("tied", "parted", "curly"):
        alpha = smooth(1.0, 0.88, v + 0.02 * noise(random, (TEXTURE_SIZE, 1.5)))
    else:
        tip = 0.95 + 0.035 * noise(random, (TEXTURE_SIZE, 2.0))
        alpha = smooth(0.04, -0.04, v - np.minimum(tip, 0.99))
    return to_texture(colour, alpha)


def _draw_shape(random: np.random.Generator, style: str) -> _Shape:
    u = random.uniform
    side = float(random.choice([-1.0, 1.0]))
    parting = (side * u(0.2, 0.35), 0.62, u(0.6, 0.7))
    middle = (side * u(0.0, 0.05), 0.62, u(0.65, 0.75))
    crown = (side * 0.1, 0.9, -0.35)
    back = (0, 0.25, -1.0)
    if style == "short":
        return _Shape(
            crown,
            thickness=u(0.07, 0.13),
            top=u(0.02, 0.14),
            fringe=u(-0.02, 0.10),
            rough=u(0.005, 0.02),
            flatness=5,
        )
    if style == "parted":
        return _Shape(
            parting, thickness=u(0.08, 0.13), top=u(0.06, 0.14), fringe=u(0.0, 0.06), rough=0.01
        )
    if style == "tied":
        return _Shape(back, thickness=u(0.05, 0.08), top=u(0.0, 0.05), rough=0.004)
    if style == "curly":
        return _Shape(
            crown,
            thickness=u(0.15, 0.4),
            top=u(0.0, 0.2),
            fringe=u(0, 0.08),
            rough=u(0.04, 0.07),
            lift=0.55,
        )
    pole = parting if random.random() < 0.5 else middle
    if style == "bob":
        fringe = random.random() < 0.4
        return _Shape(
            crown if fringe else pole,
            thickness=u(0.14, 0.2),
            top=u(0.03, 0.08),
            fall=u(0.55, 0.95),
            front=u(0.30, 0.45),
            fringe=0.26 if fringe else 0.0,
            wave=u(0, 0.02),
            rough=0.006,
        )
    if style == "long":
        return _Shape(
            pole,
            thickness=u(0.11, 0.16),
            top=u(0.03, 0.08),
            fall=u(1.4, 2.4),
            front=u(0.30, 0.42),
            wave=0.01,
            rough=0.005,
        )
    return _Shape(  # wavy
        pole,
        thickness=u(0.15, 0.2),
        top=u(0.04, 0.1),
        fall=u(1.1, 2.2),
        front=u(0.30, 0.42),
        wave=u(0.04, 0.07),
        rough=0.015,
    )


def _strands(pole: tuple[float, float, float]) -> _Strands:
    pole = np.array(pole) / np.linalg.norm(pole)
    # The first strand runs to the front, or up where the pole itself is in front or behind.
    ahead = np.array([0.0, 0.0, 1.0]) if abs(pole[2]) < 0.9 else np.array([0.0, 1.0, 0.0])
    first = ahead - pole * (ahead @ pole)
    first /= np.linalg.norm(first)
    second = np.cross(pole, first)
    turn = np.linspace(0, 2 * np.pi, _COLUMNS)
    outward = np.cos(turn)[:, None] * first + np.sin(turn)[:, None] * second
    return _Strands(pole, turn, outward)


def _skull_radius(head: np.ndarray) -> _Radius:
    """A function from unit directions [..., 3] to the distance of the scalp from its centre."""
    model = load_default()
    points = head[model.part_vertices("skin", "scalp", "brows")] - _SKULL_CENTER
    length = np.linalg.norm(points, axis=1)
    tree = cKDTree(points / length[:, None])

    def radius(directions: np.ndarray) -> np.ndarray:
        distance, index = tree.query(directions.reshape(-1, 3), k=6)
        weight = 1 / (distance**2 + 1e-4)
        value = (weight * length[index]).sum(1) / weight.sum(1)
        return value.reshape(directions.shape[:-1])

    return radius


def _hairline_crossing(
    strands: _Strands, radius: _Radius, raised: float
) -> tuple[np.ndarray, np.ndarray]:
    """Where strands leave the skin that bears hair: angle from the pole [C], place [C, 3]."""
    path = strands.directions(np.broadcast_to(_SEARCHED_ANGLES, (_COLUMNS, len(_SEARCHED_ANGLES))))
    path = _SKULL_CENTER + path * radius(path)[..., None]
    bare = hairline_excess(path, raised) < 0
    last = np.where(bare.any(axis=1), bare.argmax(axis=1), len(_SEARCHED_ANGLES) - 1)
    angle = _smooth_around(_SEARCHED_ANGLES[last[:-1]], 1.5)
    return angle, path[np.arange(_COLUMNS), last]


def _smooth_around(values: np.ndarray, sigma: float) -> np.ndarray:
    """Values of the strands, smoothed around the pole, for all columns: [C - 1] -> [C]."""
    values = ndimage.gaussian_filter1d(values, sigma, mode="wrap")
    return np.append(values, values[0])


def _over_skull(
    random: np.random.Generator,
    shape: _Shape,
    strands: _Strands,
    radius: _Radius,
    end_angle: np.ndarray,
    fringe: np.ndarray,
    falls: np.ndarray,
) -> np.ndarray:
    """The strands from the pole to end_angle [C]: [C, R, 3]."""
    share = np.linspace(0, 1, _ROOT_ROWS) ** 0.9
    path = strands.directions(end_angle[:, None] * share)
    # Near the hairline the hair lies flat, but not where it falls or hangs into the forehead.
    lift = np.maximum(np.maximum(falls, 0.75 * (fringe > 0.05)), shape.lift)[:, None]
    thickness = shape.thickness + shape.top * np.maximum(path[..., 1], 0) ** 2
    thickness = thickness + _lumps(random, shape.rough, share)
    thickness = thickness * (1 - (1 - lift) * share**shape.flatness)
    return _SKULL_CENTER + path * (radius(path) + (thickness + _LEAST_HEIGHT))[..., None]


def _lumps(random: np.random.Generator, rough: float, share: np.ndarray) -> np.ndarray:
    """Unevenness of strands and along them, dm, at shares [R] of the way: [C, R]."""
    strand = _smooth_around(random.standard_normal(_STRANDS), 1.2) * rough * 2
    lumps = random.standard_normal((_STRANDS, _ROOT_ROWS))
    lumps = ndimage.gaussian_filter(lumps, 1.1, mode=("wrap", "nearest")) * 2.2
    lumps = np.vstack([lumps, lumps[:1]]) * rough
    return lumps * smooth(0, 0.2, share) + strand[:, None] * share


def _falling(
    random: np.random.Generator, shape: _Shape, points: np.ndarray, falls: np.ndarray
) -> np.ndarray:
    """Strands that hang from the last rows of points [C, R, 3], by share falls [C]: [C, R', 3]."""
    end = points[:, -1]
    radial = end - np.array([0, 0, _FALL_AXIS])
    radial[:, 1] = 0
    radial /= np.maximum(np.linalg.norm(radial, axis=1, keepdims=True), 1e-6)
    down = np.linspace(0, 1, _FALL_ROWS + 1)[1:]
    bottom = _FALL_FROM - shape.fall
    length = falls * np.maximum(end[:, 1] - bottom, 0.02)
    drop = length[:, None] * down
    # Hair swings out over the ear, then hangs straight and a little inwards.
    reach = np.maximum(np.hypot(points[..., 0], points[..., 2] - _FALL_AXIS).max(axis=1), 0)
    own = np.hypot(end[:, 0], end[:, 2] - _FALL_AXIS)
    bulge = (reach - own + 0.02)[:, None] * smooth(0, 0.45, drop)
    taper = -0.10 * smooth(0.5, 1.6, drop) + 0.05 * random.uniform(-1, 1) * down
    clump = _smooth_around(random.standard_normal(_STRANDS), 2.0)[:, None]
    phase = 1.5 * clump + random.uniform(0, 6)
    wave = shape.wave * np.sin(7 * drop + phase) * smooth(0.1, 0.6, drop)
    out = bulge + taper + wave + 0.035 * clump * down
    fallen = end[:, None] + radial[:, None] * out[..., None]
    fallen[..., 1] -= drop
    return fallen


def _sheet(points: np.ndarray, across: np.ndarray, coverage: np.ndarray) -> Mesh:
    """A mesh of strands.

    Args:
        points: [C, R, 3], from the root to the tip.
        across: [C], u of a strand in the texture.
        coverage: [C, R], opacity.
    """
    steps = np.linalg.norm(np.diff(points, axis=1), axis=-1)
    length = np.concatenate([np.zeros((len(points), 1)), np.cumsum(steps, axis=1)], axis=1)
    along = length / np.maximum(length[:, -1:], 1e-6)
    across = np.broadcast_to(across[:, None], along.shape)
    uv = np.stack([across, along], axis=-1).reshape(-1, 2).astype(np.float32)
    triangles = grid_triangles(np.arange(along.size).reshape(along.shape).T)
    vertices = points.reshape(-1, 3)
    coverage = coverage.ravel().astype(np.float32)
    # Strands that do not fall have their rows in one place there.
    a, b, c = (vertices[triangles[:, k]] for k in range(3))
    area = np.linalg.norm(np.cross(b - a, c - a), axis=1)
    triangles = triangles[(area > 1e-7) & (coverage[triangles].max(axis=1) > 0)]
    soft = coverage[triangles].min(axis=1) < 1
    soft |= uv[triangles][..., 1].max(axis=1) > _TRANSPARENT_TIP
    return Mesh(vertices, triangles, uv[triangles], HAIR, head_share(vertices), coverage, soft)


def _knot(random: np.random.Generator) -> Mesh:
    """A ball of hair at the back of the head."""
    size = random.uniform(0.28, 0.4)
    center = np.array([0, random.uniform(0.5, 1.05), -1.15])
    turn, angle = np.meshgrid(
        np.linspace(0, 2 * np.pi, _KNOT_COLUMNS), np.linspace(0.05, np.pi - 0.05, _KNOT_ROWS)
    )
    ball = np.stack(
        [np.sin(angle) * np.sin(turn), np.cos(angle), np.sin(angle) * np.cos(turn)], axis=-1
    )
    vertices = (center + size * ball).reshape(-1, 3)
    triangles = grid_triangles(np.arange(len(vertices)).reshape(turn.shape))
    # The texture's tips are transparent: only its middle is shown.
    uv = np.stack([turn / (2 * np.pi), 0.1 + 0.5 * angle / np.pi], axis=-1).reshape(-1, 2)
    share = np.ones(len(vertices), np.float32)
    return Mesh(vertices, triangles, uv[triangles].astype(np.float32), HAIR, share)

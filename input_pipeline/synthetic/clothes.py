"""What speakers wear: a shell of cloth around neck and trunk, cut at a neckline, and collars.

Ours. The shell is the body's own surface, smoothed and moved outwards; its texture, painted as
seen from the front, is transparent above the neckline and holds stripes, ribs, buttons, lapels
and tie. Lengths are in dm.
"""

import numpy as np

from flax_talk.face_model.model import load_default
from input_pipeline.synthetic.meshes import (
    Mesh,
    grid_triangles,
    head_share,
    relax,
    vertex_normals,
)
from input_pipeline.synthetic.painting import bell, mix, noise, smooth, to_texture
from input_pipeline.synthetic.renderer import CLOTH
from input_pipeline.synthetic.trunk import front_grid, front_uv

_WITH_COLLAR = ("shirt", "jacket")

_COLOURS = np.array(
    [
        (0.75, 0.74, 0.71),
        (0.50, 0.58, 0.68),
        (0.03, 0.035, 0.04),
        (0.035, 0.05, 0.11),
        (0.16, 0.17, 0.18),
        (0.22, 0.04, 0.045),
        (0.05, 0.11, 0.08),
        (0.34, 0.27, 0.19),
        (0.10, 0.17, 0.26),
        (0.42, 0.24, 0.20),
        (0.26, 0.30, 0.22),
        (0.30, 0.20, 0.30),
    ],
    np.float32,
)
_NUM_SHIRT_COLOURS = 2  # the first are those of most shirts with a collar
_JACKET_COLOURS = _COLOURS[[2, 3, 4, 7]]
_BUTTON_COLOUR = np.array([0.5, 0.48, 0.45])

_GAP, _TURTLENECK_GAP = 0.045, 0.055  # between skin and cloth
_LOOSE = 0.05  # more of it on the chest
_HIDDEN = 0.06  # below the neckline, from where the body is left out
_OPAQUE_BELOW = 1.0  # the neckline: cloth that is opaque for certain
_ABSENT_ABOVE = 0.6  # the neckline: transparent for certain
_EDGE = 0.012  # over which the neckline fades, to each side

_BUTTON_TOP, _BUTTON_STEP, _PLACKET = -1.75, 0.45, 0.09

# A jacket opens from its button to the shoulders.
_JACKET_BUTTON = -3.6
_OPENING_WIDTH, _OPENING_HEIGHT = 0.62, 2.4
_LAPEL_WIDTH, _LAPEL_HEIGHT = 0.34, 2.0
_TIE_KNOT = -1.62  # its lower end
_TIE_TOP = (-1.40, -1.44)

_COLLAR_AXIS = np.array([0, -0.45])  # x and z of the middle of the neck
_COLLAR_OPENING = 13  # degrees to each side of the front
_COLLAR_COLUMNS = 60
# Rows of a collar from its inner edge over the fold to its tip: distance from the neck, height,
# and how much more of the height there is at the points in front.
_COLLAR_ROWS = (
    (0.035, -0.10, 0.0),
    (0.045, 0.14, -0.06),
    (0.075, 0.17, -0.06),
    (0.11, 0.13, -0.06),
    (0.17, -0.02, -0.06),
    (0.22, -0.14, -0.16),
)
_COLLAR_FOLD = 0.1  # distance from the neck beyond which rows spread at the points
# One plain place of the cloth below the neckline colours the whole collar.
_PLAIN_PLACE = np.array([0.30, -1.52, 0.0])


def below_neckline(points: np.ndarray, clothes: str, depth: float) -> np.ndarray:
    """How far points [..., 2 or 3] lie below the upper edge of the clothes, dm, [...].

    Args:
        points: x and y.
        clothes: one of `appearance.CLOTHES`.
        depth: how low a neckline of its kind is, 0 to 1.
    """
    return _neckline(points[..., 0], clothes, depth) - points[..., 1]


def covered(points: np.ndarray, triangles: np.ndarray, clothes: str, depth: float) -> np.ndarray:
    """Whether each triangle of neck and trunk is hidden by the clothes for certain, bool [F]."""
    return (below_neckline(points, clothes, depth) > _HIDDEN)[triangles].all(axis=1)


def clothes_meshes(body: np.ndarray, trunk: np.ndarray, clothes: str, depth: float) -> list[Mesh]:
    """The clothes of a body.

    Args:
        body: vertices [N, 3] of head and trunk.
        trunk: triangles [F, 3] of the trunk.
        clothes: one of `appearance.CLOTHES`.
        depth: of the neckline, 0 to 1.
    """
    model = load_default()
    faces = np.concatenate([model.triangles[model.part_mask("neck")], trunk])
    meshes = [_shell(body, faces, clothes, depth)]
    if clothes in _WITH_COLLAR:
        meshes.append(_collar(body[np.unique(faces)]))
    return meshes


def paint_cloth(random: np.random.Generator, clothes: str, depth: float) -> np.ndarray:
    """The texture of the clothes as seen from the front, uint8 [S, S, 4]; opacity is fourth."""
    x, y = front_grid()
    below = _neckline(x, clothes, depth) - y
    colour = _COLOURS[random.integers(len(_COLOURS))]
    if clothes in _WITH_COLLAR and random.random() < 0.6:
        colour = _COLOURS[random.integers(_NUM_SHIRT_COLOURS)]
    colour = colour * random.uniform(0.75, 1.15)
    weave = 0.03 * noise(random, (0.8, 0.8)) + 0.06 * noise(random, (14, 30))
    cloth = colour * (1 + weave)[..., None]
    if clothes != "jacket" and random.random() < 0.25:
        cloth = _add_stripes(random, cloth, colour, along=x if clothes == "shirt" else y)
    if clothes in ("crew", "v_neck"):
        cloth = _add_hem(cloth, below)
    if clothes == "turtleneck":
        ribs = 0.10 * np.sin(x * 2 * np.pi / 0.06) * smooth(0.75, 0.6, below)
        cloth = cloth * (1 + ribs)[..., None]
    if clothes in _WITH_COLLAR:
        cloth = _add_buttons(cloth, x, y)
    if clothes == "jacket":
        cloth = _add_jacket(random, cloth, x, y)
    shade = 1 - 0.35 * np.exp(-np.maximum(below, 0) / 0.025)
    return to_texture(cloth * shade[..., None], smooth(-_EDGE, _EDGE, below))


def _neckline(x: np.ndarray, clothes: str, depth: float) -> np.ndarray:
    """Height of the upper edge of the clothes at x, dm."""
    x = np.abs(x)
    if clothes == "turtleneck":
        return -1.18 + 0.20 * (x / 0.6) ** 2
    base = -1.42 + 0.42 * (x / 0.62) ** 2
    return {
        "crew": base - 0.25 * depth * np.maximum(0, 1 - (x / 0.6) ** 2),
        "v_neck": base - (0.35 + 0.5 * depth) * np.maximum(0, 1 - x / 0.6),
        "shirt": base - (0.1 + 0.3 * depth) * np.maximum(0, 1 - x / 0.25),
        "jacket": base - 0.15 * np.maximum(0, 1 - x / 0.25),
    }[clothes]


def _add_stripes(
    random: np.random.Generator, cloth: np.ndarray, colour: np.ndarray, along: np.ndarray
) -> np.ndarray:
    """Stripes across a coordinate [S, S], dm, in a mixture of the colour and another."""
    other = _COLOURS[random.integers(len(_COLOURS))]
    period = random.uniform(0.18, 0.5)
    stripes = smooth(0.42, 0.5, 1.5 * np.abs(np.mod(along / period, 1) - 0.5))
    return mix(cloth, 0.6 * other + 0.4 * colour, stripes)


def _add_hem(cloth: np.ndarray, below: np.ndarray) -> np.ndarray:
    """A seam along the neckline, and the band that it holds."""
    cloth = cloth * (1 - 0.30 * bell(below - 0.13, 0.018))[..., None]
    return cloth * (1 - 0.10 * smooth(0.14, 0.12, below))[..., None]


def _add_buttons(cloth: np.ndarray, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """The placket of a shirt, its seams and buttons."""
    seams = bell(np.abs(x) - _PLACKET, 0.012)
    cloth = cloth * (1 - 0.22 * seams)[..., None]
    away = np.hypot(x, np.mod(y - _BUTTON_TOP, _BUTTON_STEP) - 0.22)
    return mix(cloth, _BUTTON_COLOUR, 0.7 * smooth(0.035, 0.025, away))


def _add_jacket(
    random: np.random.Generator, cloth: np.ndarray, x: np.ndarray, y: np.ndarray
) -> np.ndarray:
    """A jacket over a shirt, with lapels, and at times a tie."""
    jacket = _JACKET_COLOURS[random.integers(len(_JACKET_COLOURS))] * random.uniform(0.6, 1.1)
    # Distance to the side of the opening's edge and of the lapel's.
    up = y - _JACKET_BUTTON
    opening = np.abs(x) - _OPENING_WIDTH * np.clip(up / _OPENING_HEIGHT, 0, 1.2)
    lapel = opening - _LAPEL_WIDTH * np.clip(up / _LAPEL_HEIGHT, 0, 1) * smooth(-1.1, -1.5, y)
    if random.random() < 0.5:
        cloth = _add_tie(random, cloth, x, y)
    cloth = mix(cloth, jacket, smooth(-0.01, 0.01, opening))
    edge = bell(lapel, 0.02) + bell(opening, 0.03) * 0.5
    return cloth * (1 - 0.5 * np.clip(edge, 0, 1) * (opening > -0.05))[..., None]


def _add_tie(
    random: np.random.Generator, cloth: np.ndarray, x: np.ndarray, y: np.ndarray
) -> np.ndarray:
    tie = _COLOURS[random.integers(_NUM_SHIRT_COLOURS, len(_COLOURS))]
    half_width = 0.075 + 0.05 * np.clip(-1.6 - y, 0, 2)
    half_width = np.where(y > _TIE_KNOT, 0.10, half_width)
    inside = smooth(0.01, -0.01, np.abs(x) - half_width)
    return mix(cloth, tie, inside * smooth(*_TIE_TOP, y))


def _shell(body: np.ndarray, faces: np.ndarray, clothes: str, depth: float) -> Mesh:
    """Cloth around the triangles [F, 3] of neck and trunk of a body [N, 3]."""
    used, local = np.unique(faces, return_inverse=True)
    local = local.reshape(faces.shape)
    skin = body[used]
    # The lower rings of the neck have folds, which cloth does not follow.
    flat = relax(skin, local, smooth(-1.25, -1.55, skin[:, 1]))
    normals = vertex_normals(flat, local)
    # Smoothing fills the folds but must not sink into the body.
    sunk = np.einsum("ni,ni->n", skin - flat, normals)
    flat = flat + np.maximum(sunk, 0)[:, None] * normals
    least = _TURTLENECK_GAP if clothes == "turtleneck" else _GAP
    gap = least + _LOOSE * smooth(-1.3, -2.2, flat[:, 1])
    shell = flat + gap[:, None] * normals
    below = below_neckline(shell, clothes, depth)
    opaque = (below > _OPAQUE_BELOW)[local].all(axis=1)
    present = (below > -_ABSENT_ABOVE)[local].any(axis=1)
    triangles = local.astype(np.int32)
    uv = front_uv(shell[local])
    return Mesh(shell, triangles, uv, CLOTH, head_share(flat), soft=~opaque).only(present)


def _collar(points: np.ndarray) -> Mesh:
    """The folded collar of a shirt around points [N, 3] of neck and trunk."""
    angles = np.radians(np.linspace(_COLLAR_OPENING, 360 - _COLLAR_OPENING, _COLLAR_COLUMNS))
    front = np.cos(angles)
    base = -1.22 - 0.22 * np.clip(front, -0.3, 1)  # lower in front
    inner = _neck_radius(points, angles, base + 0.1)
    point = smooth(0.80, 0.97, front)  # where the collar's points are
    rows = []
    for out, height, dip in _COLLAR_ROWS:
        r = inner + out + 0.10 * point * (out > _COLLAR_FOLD)
        y = base + (height + dip * point)
        x, z = _COLLAR_AXIS[:, None] + r * np.stack([np.sin(angles), np.cos(angles)])
        rows.append(np.stack([x, y, z], axis=-1))
    vertices = np.concatenate(rows)
    triangles = grid_triangles(np.arange(len(vertices)).reshape(len(rows), -1))
    uv = np.broadcast_to(front_uv(_PLAIN_PLACE), (len(triangles), 3, 2)).copy()
    uv += 0.002 * vertices[triangles][..., :2].astype(np.float32)
    return Mesh(vertices, triangles, uv, CLOTH, head_share(vertices))


def _neck_radius(points: np.ndarray, angles: np.ndarray, heights: np.ndarray) -> np.ndarray:
    """Distance of the neck from the collar's axis at angles [C] and heights [C].

    A mean over the points [N, 3] of the body, of which the near ones count.
    """
    points = points[points[:, 1] > -1.8]
    x, z = points[:, 0] - _COLLAR_AXIS[0], points[:, 2] - _COLLAR_AXIS[1]
    turn = np.angle(np.exp(1j * (np.arctan2(x, z) - angles[:, None])))
    weight = np.exp(-((turn / 0.18) ** 2) - ((points[:, 1] - heights[:, None]) / 0.10) ** 2)
    return (weight * np.hypot(x, z)).sum(1) / np.maximum(weight.sum(1), 1e-9)

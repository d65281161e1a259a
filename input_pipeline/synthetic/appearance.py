"""The people of the rendered corpus: shape, skin, hair, clothes, light, all from one seed.

Ours. Sex, age and ethnicity are drawn first; the geometry of the face model is then a random head
corrected by the least change that gives it these attributes, and skin, hair, beard, wrinkles and
clothes are drawn to agree. Colours are painted on the model's chart at the places of the mean
face, so that they follow its shape. Hair, trunk and clothes are meshes of their own, made for
each head. Coordinates are those of `flax_talk.face_model`, colours are linear light.
"""

import dataclasses
import functools

import cv2
import numpy as np
from scipy import ndimage
from scipy.spatial import cKDTree

from flax_talk.face_model.model import load_default
from input_pipeline.synthetic import renderer
from input_pipeline.synthetic.renderer import (
    BODY,
    CAVITY,
    CLOTH,
    EYE,
    FRAME,
    HAIR,
    LASH,
    SKIN,
    TEETH,
    TONGUE,
)

TEXTURE_SIZE = 512

HAIR_STYLES = (
    "bald",
    "buzz",
    "short",
    "parted",
    "bob",
    "long",
    "wavy",
    "tied",
    "curly",
)
CLOTHES = ("crew", "v_neck", "shirt", "turtleneck", "jacket")
BEARDS = ("none", "stubble", "moustache", "goatee", "full")


@dataclasses.dataclass(frozen=True, eq=False)
class Speaker:
    """One person, ready to render. N vertices, of which the first are those of the face model.

    Attributes:
        seed: what all follows from.
        sex: "female" or "male".
        age: 0 (young adult) to 1 (old).
        hair_style, clothes, beard: see `HAIR_STYLES`, `CLOTHES`, `BEARDS`.
        glasses: whether the person wears them.
        geometry: float32 [199], coefficients of the face model.
        vertices: float32 [N, 3] at rest, dm.
        head_share: float32 [N], 1 where a vertex turns with the head, 0 with the trunk.
        access: float32 [N, 2], share of the ambient and of the key light that arrives.
        coverage: float32 [N], opacity, which matters for soft triangles.
        triangles: int32 [F, 3], the opaque ones first.
        num_opaque: how many are opaque.
        two_sided: bool [F], drawn from behind too.
        materials: uint8 [F], of `renderer`.
        uv: float32 [F, 3, 2], into the texture of the material.
        textures: uint8 [4, S, S, 4], square roots of linear RGB and gloss or opacity; by material.
        colours: float32 [materials, 3], of materials without texture.
        iris: float32 [3].
        lights: float32 [5, 3]: direction and colour of key and fill, colour of the ambient light.
        background: float32 [h, w, 3].
    """

    seed: int
    sex: str
    age: float
    hair_style: str
    clothes: str
    beard: str
    glasses: bool
    geometry: np.ndarray
    vertices: np.ndarray
    head_share: np.ndarray
    access: np.ndarray
    coverage: np.ndarray
    triangles: np.ndarray
    num_opaque: int
    two_sided: np.ndarray
    materials: np.ndarray
    uv: np.ndarray
    textures: np.ndarray
    colours: np.ndarray
    iris: np.ndarray
    lights: np.ndarray
    background: np.ndarray


@dataclasses.dataclass
class _Mesh:
    """A piece of a speaker: vertices [N, 3], triangles [F, 3], what `Speaker` has for each."""

    vertices: np.ndarray
    triangles: np.ndarray
    uv: np.ndarray  # [F, 3, 2]
    material: int
    head_share: np.ndarray  # [N]
    coverage: np.ndarray  # [N]
    soft: np.ndarray  # [F]


def _smooth(low: float, high: float, values: np.ndarray) -> np.ndarray:
    """0 below low, 1 above high, smooth between; low may be the greater one."""
    t = np.clip((values - low) / (high - low), 0, 1)
    return t * t * (3 - 2 * t)


def _noise(
    random: np.random.Generator, grain: tuple[float, float], size: int = TEXTURE_SIZE
) -> np.ndarray:
    """Smooth noise of mean 0 and deviation 1 with a grain of (rows, columns) texels: [S, S]."""
    # Coarse grain is made small and enlarged: a wide blur would take most of the time.
    cells = [max(1, int(value / 1.5)) for value in grain]
    white = random.standard_normal([size // cell + 2 for cell in cells], dtype=np.float32)
    sigma = [value / cell for value, cell in zip(grain, cells, strict=True)]
    noise = cv2.GaussianBlur(
        white, (0, 0), sigmaX=sigma[1], sigmaY=sigma[0], borderType=cv2.BORDER_REFLECT
    )
    noise = cv2.resize(noise, (size, size), interpolation=cv2.INTER_CUBIC)
    return noise / max(float(noise.std()), 1e-9)


def _mix(low: np.ndarray, high: np.ndarray, share: np.ndarray) -> np.ndarray:
    """low where share [S, S] is 0, high where it is 1; colours [..., 3]."""
    return low + share[..., None] * (np.asarray(high, np.float32) - low)


def _texture(colour: np.ndarray, fourth: np.ndarray | float) -> np.ndarray:
    """Linear colour [S, S, 3] and gloss or opacity [S, S] -> uint8 [S, S, 4]."""
    texture = np.empty((*colour.shape[:2], 4), np.uint8)
    texture[..., :3] = np.rint(255 * np.sqrt(np.clip(colour, 0, 1)))
    texture[..., 3] = np.rint(255 * np.clip(fourth, 0, 1))
    return texture


# --- what all speakers share -----------------------------------------------------------------

_CHART_LEFT, _CHART_WIDTH = 0.636, 0.363  # of the head in the model's UV
_CHART_BOTTOM, _CHART_HEIGHT = 0.145, 0.678
_BROWS = (slice(17, 22), slice(26, 21, -1))  # landmarks from the temple to the nose
_SKIN_PARTS = ("skin", "scalp", "ears", "brows", "eyelids", "lips")
# Height above the origin at which hair begins, by depth: from the nape to the forehead.
_HAIRLINE_DEPTH = [-1.35, -0.55, -0.33, -0.20, 0.02, 0.10, 0.30, 0.55]
_HAIRLINE = [-0.55, -0.45, -0.25, 0.12, 0.28, 0.42, 0.66, 0.76]


def _hairline_excess(points: np.ndarray, raised: float = 0.0) -> np.ndarray:
    """Height of points [..., 3] of a head above its hairline, dm; raised at the front."""
    x, y, z = np.moveaxis(points, -1, 0)
    line = np.interp(z, _HAIRLINE_DEPTH, _HAIRLINE)
    # The temples recede more than the middle of the forehead.
    temples = 0.45 + 0.55 * _smooth(0.1, 0.4, np.abs(x))
    return y - line - raised * temples * _smooth(-0.1, 0.35, z)


def _polyline_distance(points: np.ndarray, line: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Distance of points [..., 3] from a line of K corners [K, 3], and how far along, 0 to 1."""
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


@functools.cache
def _chart() -> dict[str, np.ndarray]:
    """Maps over the texture of the skin, on the mean face: [S, S] or [S, S, 3] each."""
    model = load_default()
    size = TEXTURE_SIZE
    chosen = model.part_mask(*_SKIN_PARTS)
    uv = _skin_uv(model.uv[model.uv_triangles[chosen]])
    corners = np.zeros((3 * len(uv), 3), np.float32)
    corners[:, :2] = uv.reshape(-1, 2) * size - 0.5
    triangles = np.arange(3 * len(uv), dtype=np.int32).reshape(-1, 3)
    index, wb, wc = _rasterize(corners, triangles, size)
    inside = index >= 0
    # The gaps between the pieces of the chart repeat their nearest texel: no seams.
    rows, columns = ndimage.distance_transform_edt(
        ~inside, return_distances=False, return_indices=True
    )
    index, wb, wc = index[rows, columns], wb[rows, columns], wc[rows, columns]
    weights = np.stack([1 - wb - wc, wb, wc], axis=-1)
    places = model.triangles[chosen][index]
    position = np.einsum("hwc,hwci->hwi", weights, model.mean[places]).astype(np.float32)
    part = model.parts[chosen][index]
    maps = {"position": position}
    for name in ("lips", "eyelids", "ears"):
        mask = (part == model.part_names.index(name)).astype(np.float32)
        maps[name] = cv2.GaussianBlur(mask, (0, 0), 1.6)
    border = np.intersect1d(model.part_vertices("neck"), model.part_vertices("skin"))
    maps["neck"] = cKDTree(model.mean[border]).query(position)[0].astype(np.float32)
    marks = model.mean[model.landmarks]
    # A brow rises from the nose to its arch and falls towards the temple.
    arch = np.array([-0.045, 0.012, 0.028, 0.012, -0.012])[:, None] * (0, 1, 0)
    brows = [_polyline_distance(position, marks[side] + arch) for side in _BROWS]
    maps["brow"] = np.minimum(brows[0][0], brows[1][0])
    maps["brow_along"] = np.where(brows[0][0] < brows[1][0], brows[0][1], brows[1][1])
    upper = [_polyline_distance(position, marks[[36, 37, 38, 39]])[0]]
    upper.append(_polyline_distance(position, marks[[42, 43, 44, 45]])[0])
    maps["upper_lid"] = np.minimum(*upper)
    lower = [_polyline_distance(position, marks[[36, 41, 40, 39]])[0]]
    lower.append(_polyline_distance(position, marks[[42, 47, 46, 45]])[0])
    maps["lower_lid"] = np.minimum(*lower)
    return maps


def _rasterize(
    corners: np.ndarray, triangles: np.ndarray, size: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Triangle index and barycentric coordinates on a picture of size x size."""
    depth = np.full((size, size), -1e30, np.float32)
    index = np.full((size, size), -1, np.int32)
    wb, wc = np.zeros((2, size, size), np.float32)
    count = len(triangles)
    renderer.rasterize(
        corners,
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
        wb,
        wc,
    )
    return index, wb, wc


def _skin_uv(uv: np.ndarray) -> np.ndarray:
    """The model's chart [..., 2] (v up) -> places in the texture of the skin (v down)."""
    u = (uv[..., 0] - _CHART_LEFT) / _CHART_WIDTH
    v = 1 - (uv[..., 1] - _CHART_BOTTOM) / _CHART_HEIGHT
    return np.stack([u, v], axis=-1).astype(np.float32)


_BODY_WIDTH, _BODY_TOP, _BODY_HEIGHT = 5.6, -0.3, 5.0  # dm, of the front view on the textures


def _front_uv(points: np.ndarray) -> np.ndarray:
    """Places of points [..., 3] in textures painted as seen from the front: [..., 2]."""
    u = 0.5 + points[..., 0] / _BODY_WIDTH
    v = (_BODY_TOP - points[..., 1]) / _BODY_HEIGHT
    return np.clip(np.stack([u, v], axis=-1), 0, 1).astype(np.float32)


def _front_grid() -> tuple[np.ndarray, np.ndarray]:
    """x and y, dm, of the texels of those textures: [S, S] each."""
    centres = (np.arange(TEXTURE_SIZE, dtype=np.float32) + 0.5) / TEXTURE_SIZE
    x = (centres - 0.5) * _BODY_WIDTH
    y = _BODY_TOP - centres * _BODY_HEIGHT
    return np.meshgrid(x, y)


# --- identity --------------------------------------------------------------------------------

_ETHNICITIES = ("african", "asian", "caucasian")


def _draw_geometry(
    random: np.random.Generator, male: bool, age: float, share: np.ndarray
) -> np.ndarray:
    """Coefficients float32 [199] of a random head with given attributes."""
    model = load_default()
    wanted = {"male": random.normal(0.97 if male else 0.03, 0.03), "old": 0.02 + 0.58 * age}
    wanted |= dict(zip(_ETHNICITIES, share, strict=True))
    s = random.standard_normal(model.geometry.shape[-1]) * random.uniform(0.75, 0.95)
    weights = model.attribute_weights.astype(np.float64)
    target = np.array([wanted[name] for name in model.attribute_names])
    # The shares add up to one, which leaves one direction without meaning: cut it off.
    inverse = np.linalg.pinv(weights, rcond=0.02)
    s += inverse @ (target - weights @ s - model.attribute_offsets)
    return s.astype(np.float32)


_SKIN_TONES = np.array(
    [
        (0.80, 0.575, 0.465),
        (0.72, 0.48, 0.365),
        (0.60, 0.385, 0.275),
        (0.44, 0.265, 0.175),
        (0.27, 0.15, 0.095),
        (0.14, 0.075, 0.05),
    ],
    np.float32,
)
_HAIR_COLOURS = {
    "black": (0.014, 0.012, 0.011),
    "dark brown": (0.034, 0.021, 0.014),
    "brown": (0.075, 0.042, 0.024),
    "light brown": (0.15, 0.09, 0.05),
    "blond": (0.36, 0.25, 0.13),
    "red": (0.20, 0.075, 0.03),
    "grey": (0.33, 0.32, 0.31),
}
_IRISES = {
    "brown": (0.13, 0.06, 0.025),
    "dark": (0.055, 0.028, 0.014),
    "hazel": (0.17, 0.11, 0.045),
    "green": (0.12, 0.14, 0.07),
    "blue": (0.13, 0.19, 0.25),
    "grey": (0.17, 0.19, 0.20),
}


def _skin_tone(random: np.random.Generator, share: np.ndarray) -> np.ndarray:
    depth = np.clip(share @ (3.9, 1.5, 0.75) + random.normal(0, 0.5), 0, 5)
    channels = [np.interp(depth, np.arange(6), _SKIN_TONES[:, k]) for k in range(3)]
    warmth = random.normal(0, 0.03)
    return (np.array(channels) * (1 + warmth, 1, 1 - warmth)).astype(np.float32)


def _hair_colour(random: np.random.Generator, share: np.ndarray, age: float) -> np.ndarray:
    fair = share[2] ** 2
    names = ["black", "dark brown", "brown", "light brown", "blond", "red"]
    odds = np.array([0.9 - 0.75 * fair, 0.6, 0.1 + 0.6 * fair, 0.5 * fair, 0.5 * fair, 0.15 * fair])
    colour = np.array(_HAIR_COLOURS[names[random.choice(6, p=odds / odds.sum())]])
    colour *= random.uniform(0.8, 1.25)
    grey = _smooth(0.55, 1.05, np.array(age + random.normal(0, 0.15)))
    return (colour + grey * (np.array(_HAIR_COLOURS["grey"]) - colour)).astype(np.float32)


def _iris(random: np.random.Generator, share: np.ndarray) -> np.ndarray:
    light = share[2] > 0.6 and random.random() < 0.65
    names = ("hazel", "green", "blue", "grey") if light else ("dark", "brown")
    colour = np.array(_IRISES[names[random.integers(len(names))]], np.float32)
    return colour * np.float32(random.uniform(0.85, 1.2))


# --- skin ------------------------------------------------------------------------------------


def _spot(
    position: np.ndarray, center: tuple[float, float], size: tuple[float, float]
) -> np.ndarray:
    """A soft spot on both halves of the front of the face, 0 to 1."""
    x, y, z = np.abs(position[..., 0]), position[..., 1], position[..., 2]
    bell = ((x - center[0]) / size[0]) ** 2 + ((y - center[1]) / size[1]) ** 2
    return np.exp(-bell) * _smooth(0.0, 0.3, z)


def _beard_mask(position: np.ndarray, beard: str) -> np.ndarray:
    """Where a beard grows, 0 to 1."""
    x, y, z = np.abs(position[..., 0]), position[..., 1], position[..., 2]
    cheek = np.interp(x, [0, 0.2, 0.3, 0.5, 0.7], [-0.55, -0.55, -0.46, -0.36, -0.05])
    jaw = _smooth(0.05, -0.10, y - cheek) * _smooth(-1.25, -1.0, y) * _smooth(-0.15, 0.05, z)
    under = 1 - 0.5 * _smooth(-0.95, -1.15, y)
    lip = _smooth(-0.36, -0.42, y) * _smooth(-0.66, -0.58, y) * _smooth(0.30, 0.22, x) * (z > 0.5)
    chin = _smooth(0.30, 0.22, x) * _smooth(-0.58, -0.66, y) * _smooth(-1.15, -1.0, y) * (z > 0.2)
    sides = _smooth(0.22, 0.25, x) * _smooth(0.31, 0.27, x) * _smooth(-0.45, -0.52, y)
    sides = sides * (y > -0.9) * (z > 0.4)
    return {
        "none": np.zeros_like(x),
        "stubble": np.maximum(jaw * under, 0.8 * lip),
        "moustache": lip,
        "goatee": np.maximum.reduce([lip, chin, sides]),
        "full": np.maximum(jaw * under, lip),
    }[beard]


def _paint_skin(
    random: np.random.Generator,
    *,
    skin: np.ndarray,
    hair: np.ndarray,
    male: bool,
    age: float,
    raised: float,
    scalp_hair: float,
    beard: str,
    fair: float,
) -> np.ndarray:
    """The texture of head and face."""
    maps = _chart()
    position = maps["position"]
    x, y, z = np.abs(position[..., 0]), position[..., 1], position[..., 2]
    dark = 1 - float(skin.mean()) / 0.62
    fine = _noise(random, (1.2, 1.2))
    mottled = 0.6 * _noise(random, (9, 9)) + 0.4 * _noise(random, (3, 3))
    colour = skin * (1 + 0.018 * mottled + 0.012 * fine)[..., None]
    warm = np.array([1.05, 0.84, 0.80], np.float32)
    blush = _spot(position, (0.36, -0.20), (0.17, 0.15)) * random.uniform(0.3, 1.0)
    blush += 0.6 * _spot(position, (0.0, -0.25), (0.13, 0.10)) + 0.5 * maps["ears"]
    blush = np.clip(blush * (1 - 0.5 * dark) * (1 + 0.15 * mottled), 0, 1.3)
    colour = colour * (1 + (warm - 1) * blush[..., None])
    # Thin skin under the eyes, fold of the lids.
    bags = _spot(position, (0.29, -0.07), (0.15, 0.07)) * (0.10 + 0.14 * age)
    colour = colour * (1 - bags[..., None] * np.array([0.8, 1.0, 0.9], np.float32))
    colour = colour * (1 - 0.16 * maps["eyelids"][..., None] * np.array([0.7, 1, 1], np.float32))
    if not male and random.random() < 0.6:
        shadow = _smooth(0.10, 0.02, maps["upper_lid"]) * (y > 0.03)
        tint = skin * np.array([0.62, 0.5, 0.5], np.float32) * random.uniform(0.7, 1.1)
        colour = _mix(colour, tint, shadow * random.uniform(0.2, 0.6))
    if fair > 0.7 and random.random() < 0.3:
        spots = _smooth(1.9, 2.4, _noise(random, (1.4, 1.4)))
        where = _spot(position, (0.22, -0.12), (0.28, 0.16)) * random.uniform(0.3, 0.7)
        colour = colour * (1 - (spots * where)[..., None] * np.array([0.25, 0.45, 0.6], np.float32))
    # Lines of age: forehead, crow's feet, from the nose to the corners of the mouth.
    if age > 0.3:
        depth = 0.22 * _smooth(0.3, 1.0, np.array(age))
        wave = 0.012 * np.sin(9 * x + 3) + 0.02 * x
        lines = np.zeros_like(x)
        for height in (0.42, 0.50, 0.58):
            lines += np.exp(-(((y - height - wave) / 0.011) ** 2)) * _smooth(0.45, 0.25, x)
        fold, _ = _polyline_distance(
            np.stack([x, y], axis=-1), np.array([[0.17, -0.27], [0.25, -0.40], [0.285, -0.58]])
        )
        lines += 1.2 * np.exp(-((fold / 0.016) ** 2)) * (z > 0.3)
        feet = np.exp(-(((np.mod((y - 0.05) / np.maximum(x - 0.36, 0.02), 0.5) - 0.25) / 0.1) ** 2))
        lines += 0.5 * feet * _spot(position, (0.52, 0.05), (0.05, 0.08)) * (x > 0.46)
        colour = colour * (1 - depth * np.clip(lines, 0, 1.2)[..., None])
    lips = _smooth(0.25, 0.8, maps["lips"])
    if male:
        lip_colour = skin * np.array([0.88, 0.60, 0.60], np.float32)
    else:
        lip_colour = skin * np.array([0.85, 0.48, 0.50], np.float32)
        lip_colour = lip_colour + random.uniform(0, 0.10) * np.array([1, 0.05, 0.12], np.float32)
    colour = _mix(colour, lip_colour * (1 + 0.05 * _noise(random, (3, 1)))[..., None], 0.88 * lips)
    # Lash lines.
    strength = random.uniform(0.65, 0.9) if not male else random.uniform(0.35, 0.6)
    lash = np.array([0.03, 0.02, 0.016], np.float32)
    colour = _mix(colour, lash, strength * _smooth(0.022, 0.006, maps["upper_lid"]))
    colour = _mix(colour, lash, 0.35 * strength * _smooth(0.018, 0.004, maps["lower_lid"]))
    # Hairs are darker on light skin and vanish on dark skin; brows keep their colour when greying.
    grain = _noise(random, (2.2, 0.8))
    if beard != "none":
        mask = _beard_mask(position, beard) * (1 - lips) * _smooth(0.02, 0.22, maps["neck"])
        mask = cv2.GaussianBlur(mask.astype(np.float32), (0, 0), 3.0)
        if beard == "stubble":
            shade = random.uniform(0.25, 0.6) * np.clip(mask * (1 + 0.12 * fine), 0, 1)
            colour = _mix(colour, 0.5 * skin * 0.45 + 0.5 * hair, shade)
        else:
            opacity = np.clip(mask * 1.15 + 0.10 * grain * (mask > 0.05), 0, 0.95)
            strands = np.clip(1 + 0.18 * grain, 0.3, 2)[..., None]
            colour = _mix(colour, hair * 1.15 * strands, opacity * random.uniform(0.8, 1))
    width = random.uniform(0.036, 0.050) * (1.1 if male else 0.8)
    taper = _smooth(-0.25, 0.45, maps["brow_along"])
    brow = _smooth(1.15, 0.25, maps["brow"] / (width * taper + 1e-4) + 0.12 * grain)
    brow = brow * (1 - 0.45 * _smooth(0.8, 1.0, maps["brow_along"]))
    brow_colour = 0.55 * hair + 0.45 * np.minimum(hair, 0.06)
    colour = _mix(colour, brow_colour, brow * random.uniform(0.7, 0.92))
    gloss = (
        0.55
        + 0.25 * _spot(position, (0, 0.5), (0.3, 0.2))
        + 0.3 * _spot(position, (0, -0.15), (0.08, 0.3))
    )
    gloss = gloss * (1 + 0.15 * mottled) + 0.35 * lips - 0.2 * (beard == "full")
    if scalp_hair > 0:
        excess = _hairline_excess(position, raised) + 0.025 * grain + 0.02 * mottled
        covered = _smooth(-0.05, 0.10, excess) * scalp_hair * (1 - maps["ears"])
        colour = _mix(colour, hair * np.clip(1 + 0.3 * grain, 0.4, 2)[..., None], covered)
        gloss = gloss * (1 - 0.8 * covered)
    return _texture(colour, gloss)


def _paint_body(random: np.random.Generator, skin: np.ndarray) -> np.ndarray:
    """The texture of neck and chest."""
    colour = skin * (1 + 0.015 * _noise(random, (7, 7)))[..., None]
    return _texture(colour, np.full(colour.shape[:2], 0.45, np.float32))


# --- trunk and clothes -----------------------------------------------------------------------

_RINGS_OUT, _RINGS_DOWN = 7, 4


@functools.cache
def _neck_loop() -> np.ndarray:
    """The vertices at the lower end of the neck, around it: int [48]."""
    model = load_default()
    surface = model.triangles[model.part_mask("neck", *_SKIN_PARTS, "mouth_cavity")]
    edges = np.sort(surface[:, [[0, 1], [1, 2], [2, 0]]].reshape(-1, 2), axis=1)
    unique, counts = np.unique(edges, axis=0, return_counts=True)
    loop = np.intersect1d(unique[counts == 1], model.part_vertices("neck"))
    x, _, z = model.mean[loop].T
    return loop[np.argsort(np.arctan2(x, z + 0.6))]


def _trunk(head: np.ndarray, male: bool) -> tuple[np.ndarray, np.ndarray]:
    """Shoulders and chest that continue the neck of a head [V, 3].

    Returns:
        (vertices [N, 3], triangles [F, 3]; indices below V are the head's, V + i is vertex i).
    """
    loop = _neck_loop()
    columns = len(loop)
    start = head[loop].astype(np.float64)
    angle = np.arctan2(*(load_default().mean[loop][:, [0, 2]] + (0, 0.6)).T)
    sin, cos = np.sin(angle), np.cos(angle)
    width = 2.1 if male else 1.8
    end = np.empty_like(start)
    end[:, 0] = width * np.sign(sin) * np.abs(sin) ** 0.8
    end[:, 1] = -2.15 - 0.35 * np.maximum(cos, 0)
    end[:, 2] = -0.6 + np.where(cos > 0, 0.85, 0.7) * cos
    rings = []
    for t in np.linspace(0, 1, _RINGS_OUT + 1)[1:]:
        out, down = np.sin(t * np.pi / 2), 1 - np.cos(t * np.pi / 2)
        rings.append(start + (end - start) * np.array([out, down, out]))
    for i in range(_RINGS_DOWN):
        rings.append(end + np.array([0, -0.75 * (i + 1), 0.0]))
    indices = np.vstack([loop, len(head) + np.arange(columns * len(rings)).reshape(-1, columns)])
    return np.concatenate(rings), _grid_triangles(indices, closed=True)


def _grid_triangles(indices: np.ndarray, closed: bool = False) -> np.ndarray:
    """Triangles [F, 3] of a grid of vertices [R, C]; rows go down, columns counter-clockwise.

    Columns that grow with the angle from the front to +x are outward that way.
    """
    if closed:
        indices = np.hstack([indices, indices[:, :1]])
    a, b = indices[:-1, :-1].ravel(), indices[:-1, 1:].ravel()
    c, d = indices[1:, :-1].ravel(), indices[1:, 1:].ravel()
    return np.concatenate([np.stack([a, c, d], -1), np.stack([a, d, b], -1)]).astype(np.int32)


def _normals(vertices: np.ndarray, triangles: np.ndarray) -> np.ndarray:
    """Unit normals float32 [N, 3] of vertices [N, 3], y up."""
    points = (vertices * (1, -1, 1)).astype(np.float32)
    normals = np.empty_like(points)
    renderer.vertex_normals(points, np.ascontiguousarray(triangles, np.int32), normals)
    return normals


def _head_share(points: np.ndarray) -> np.ndarray:
    """How far points [N, 3] of neck, trunk and hair turn with the head."""
    return _smooth(-1.75, -0.85, points[:, 1]).astype(np.float32)


def _neckline(x: np.ndarray, clothes: str, depth: float) -> np.ndarray:
    """Height of the upper edge of the clothes at x, dm."""
    x = np.abs(x)
    round_neck = -1.42 + 0.42 * (x / 0.62) ** 2
    return {
        "crew": round_neck - 0.25 * depth * np.maximum(0, 1 - (x / 0.6) ** 2),
        "v_neck": round_neck - (0.35 + 0.5 * depth) * np.maximum(0, 1 - x / 0.6),
        "shirt": round_neck - (0.1 + 0.3 * depth) * np.maximum(0, 1 - x / 0.25),
        "turtleneck": -1.18 + 0.20 * (x / 0.6) ** 2,
        "jacket": round_neck - 0.15 * np.maximum(0, 1 - x / 0.25),
    }[clothes]


_CLOTH_COLOURS = np.array(
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


def _paint_cloth(random: np.random.Generator, clothes: str, depth: float) -> np.ndarray:
    """The texture of the clothes as seen from the front, transparent above the neckline."""
    x, y = _front_grid()
    below = _neckline(x, clothes, depth) - y
    colour = _CLOTH_COLOURS[random.integers(len(_CLOTH_COLOURS))]
    if clothes in ("shirt", "jacket") and random.random() < 0.6:
        colour = _CLOTH_COLOURS[random.integers(2)]
    colour = colour * random.uniform(0.75, 1.15)
    weave = 0.03 * _noise(random, (0.8, 0.8)) + 0.06 * _noise(random, (14, 30))
    cloth = colour * (1 + weave)[..., None]
    if clothes != "jacket" and random.random() < 0.25:
        other = _CLOTH_COLOURS[random.integers(len(_CLOTH_COLOURS))]
        period = random.uniform(0.18, 0.5)
        along = y if clothes != "shirt" else x
        stripes = _smooth(0.42, 0.5, np.abs(np.mod(along / period, 1) - 0.5) * 2 * 0.75)
        cloth = _mix(cloth, 0.6 * other + 0.4 * colour, stripes)
    if clothes in ("crew", "v_neck"):
        cloth = cloth * (1 - 0.30 * np.exp(-(((below - 0.13) / 0.018) ** 2)))[..., None]
        cloth = cloth * (1 - 0.10 * _smooth(0.14, 0.12, below))[..., None]
    if clothes == "turtleneck":
        ribs = 0.10 * np.sin(x * 2 * np.pi / 0.06) * _smooth(0.75, 0.6, below)
        cloth = cloth * (1 + ribs)[..., None]
    if clothes in ("shirt", "jacket"):
        placket = np.exp(-(((np.abs(x) - 0.09) / 0.012) ** 2))
        cloth = cloth * (1 - 0.22 * placket)[..., None]
        button = _smooth(0.035, 0.025, np.hypot(x, np.mod(y + 1.75, 0.45) - 0.22))
        cloth = _mix(cloth, np.array([0.5, 0.48, 0.45]), 0.7 * button)
    if clothes == "jacket":
        dark = _CLOTH_COLOURS[[2, 3, 4, 7]][random.integers(4)] * random.uniform(0.6, 1.1)
        opening = np.abs(x) - 0.62 * np.clip((y + 3.6) / 2.4, 0, 1.2)
        lapel = opening - 0.34 * np.clip((y + 3.6) / 2.0, 0, 1) * _smooth(-1.1, -1.5, y)
        if random.random() < 0.5:
            tie = _CLOTH_COLOURS[random.integers(2, len(_CLOTH_COLOURS))]
            half = 0.075 + 0.05 * np.clip(-1.6 - y, 0, 2)
            half = np.where(y > -1.62, 0.10, half)
            cloth = _mix(
                cloth, tie, _smooth(0.01, -0.01, np.abs(x) - half) * _smooth(-1.40, -1.44, y)
            )
        cloth = _mix(cloth, dark, _smooth(-0.01, 0.01, opening))
        edge = np.exp(-((lapel / 0.02) ** 2)) + np.exp(-((opening / 0.03) ** 2)) * 0.5
        cloth = cloth * (1 - 0.5 * np.clip(edge, 0, 1) * (opening > -0.05))[..., None]
    shade = 1 - 0.35 * np.exp(-np.maximum(below, 0) / 0.025)
    return _texture(cloth * shade[..., None], _smooth(-0.012, 0.012, below))


def _body_meshes(head: np.ndarray, male: bool, clothes: str, depth: float) -> list[_Mesh]:
    """Trunk and clothes. The first mesh is the trunk, whose indices include those of the head."""
    model = load_default()
    trunk, triangles = _trunk(head, male)
    both = np.concatenate([head, trunk])
    share = np.concatenate([np.ones(len(head), np.float32), _head_share(trunk)])
    meshes = [
        _Mesh(
            trunk,
            triangles,
            _front_uv(both[triangles]),
            BODY,
            share[len(head) :],
            np.ones(len(trunk), np.float32),
            np.zeros(len(triangles), bool),
        )
    ]
    neck = model.triangles[model.part_mask("neck")]
    faces = np.concatenate([neck, triangles])
    used, local = np.unique(faces, return_inverse=True)
    local = local.reshape(faces.shape)
    # The lower rings of the neck have folds, which cloth does not follow.
    flat = _relaxed(both[used], local, _smooth(-1.25, -1.55, both[used, 1]))
    normals = _normals(flat, local)
    # Smoothing fills the folds but must not sink into the body.
    sunk = np.einsum("ni,ni->n", both[used] - flat, normals)
    flat = flat + np.maximum(sunk, 0)[:, None] * normals
    gap = 0.055 if clothes == "turtleneck" else 0.045
    spread = gap + 0.05 * _smooth(-1.3, -2.2, flat[:, 1])
    shell = flat + spread[:, None] * normals
    below = _neckline(shell[:, 0], clothes, depth) - shell[:, 1]
    inside = (below > 1.0)[local].all(axis=1)
    keep = (below > -0.6)[local].any(axis=1)
    # What cloth hides would show through where it is smoothed.
    shown = ~_covered(both, triangles, clothes, depth)
    meshes[0] = dataclasses.replace(
        meshes[0], triangles=triangles[shown], uv=meshes[0].uv[shown], soft=meshes[0].soft[shown]
    )
    meshes.append(
        _Mesh(
            shell,
            local[keep].astype(np.int32),
            _front_uv(shell[local[keep]]),
            CLOTH,
            _head_share(flat),
            np.ones(len(shell), np.float32),
            ~inside[keep],
        )
    )
    if clothes in ("shirt", "jacket"):
        meshes.append(_collar(both, faces))
    return meshes


def _covered(points: np.ndarray, triangles: np.ndarray, clothes: str, depth: float) -> np.ndarray:
    """Whether each triangle of neck and trunk lies well below the edge of the clothes, bool [F]."""
    below = _neckline(points[:, 0], clothes, depth) - points[:, 1] > 0.06
    return below[triangles].all(axis=1)


def _relaxed(points: np.ndarray, triangles: np.ndarray, share: np.ndarray) -> np.ndarray:
    """Points [N, 3] after smoothing, as far as share [N] allows."""
    edges = np.concatenate([triangles[:, [0, 1]], triangles[:, [1, 2]], triangles[:, [2, 0]]])
    edges = np.concatenate([edges, edges[:, ::-1]])
    degree = np.bincount(edges[:, 0], minlength=len(points))[:, None]
    points = points.astype(np.float64)
    for _ in range(25):
        near = np.stack(
            [np.bincount(edges[:, 0], points[edges[:, 1], k], len(points)) for k in range(3)], -1
        )
        points += 0.5 * share[:, None] * (near / degree - points)
    return points


def _collar(body: np.ndarray, faces: np.ndarray) -> _Mesh:
    """The folded collar of a shirt around the neck of a body [N, 3]."""
    points = body[np.unique(faces)]
    points = points[points[:, 1] > -1.8]
    angles = np.radians(np.linspace(13, 347, 60))
    axis = np.array([0, -0.45])
    around = np.arctan2(points[:, 0] - axis[0], points[:, 2] - axis[1])
    radii = np.hypot(points[:, 0] - axis[0], points[:, 2] - axis[1])
    front = np.cos(angles / 1)
    base = -1.22 - 0.22 * np.clip(front, -0.3, 1)

    def radius(height: np.ndarray) -> np.ndarray:
        turn = np.angle(np.exp(1j * (around - angles[:, None])))
        weight = np.exp(-((turn / 0.18) ** 2) - ((points[:, 1] - height[:, None]) / 0.10) ** 2)
        return (weight * radii).sum(1) / np.maximum(weight.sum(1), 1e-9)

    point = _smooth(0.80, 0.97, front)
    rows = []
    inner = radius(base + 0.1)
    for out, height in [
        (0.035, -0.10 * np.ones_like(base)),
        (0.045, 0.14 - 0.06 * point),
        (0.075, 0.17 - 0.06 * point),
        (0.11, 0.13 - 0.06 * point),
        (0.17, -0.02 - 0.06 * point),
        (0.22, -0.14 - 0.16 * point),
    ]:
        r = inner + out + 0.10 * point * (out > 0.1)
        rows.append(np.stack([r * np.sin(angles), base + height, axis[1] + r * np.cos(angles)], -1))
    vertices = np.concatenate(rows)
    triangles = _grid_triangles(np.arange(len(vertices)).reshape(len(rows), -1))
    # One plain place of the cloth below the neckline colours the whole collar.
    uv = np.broadcast_to(_front_uv(np.array([0.30, -1.52, 0.0])), (len(triangles), 3, 2)).copy()
    uv += 0.002 * vertices[triangles][..., :2].astype(np.float32)
    return _Mesh(
        vertices,
        triangles,
        uv,
        CLOTH,
        _head_share(vertices),
        np.ones(len(vertices), np.float32),
        np.zeros(len(triangles), bool),
    )


# --- hair ------------------------------------------------------------------------------------

_SKULL_CENTER = np.array([0.0, 0.30, -0.20])
_STRANDS, _ROOT_ROWS, _FALL_ROWS = 84, 20, 14


@dataclasses.dataclass(frozen=True)
class _HairShape:
    """What makes a style.

    pole: direction from which strands run (the crown, a parting, a knot); thickness over the
    skull, dm, and more of it on top; fall: length below the hairline at the back; front: depth z
    in front of which strands end at the hairline; fringe: length over the forehead; wave: of
    strands, dm; rough: of the surface, dm.
    """

    pole: tuple[float, float, float]
    thickness: float
    top: float
    fall: float = 0.0
    front: float = -9.0
    fringe: float = 0.0
    wave: float = 0.0
    rough: float = 0.0


def _hair_shape(random: np.random.Generator, style: str) -> _HairShape:
    side = float(random.choice([-1.0, 1.0]))
    u = random.uniform
    parting = (side * u(0.2, 0.35), 0.62, u(0.6, 0.7))
    middle = (side * u(0.0, 0.05), 0.62, u(0.65, 0.75))
    crown = (side * 0.1, 0.9, -0.35)
    if style == "short":
        return _HairShape(
            crown, u(0.07, 0.13), u(0.02, 0.14), fringe=u(-0.02, 0.10), rough=u(0.005, 0.02)
        )
    if style == "parted":
        return _HairShape(parting, u(0.08, 0.13), u(0.06, 0.14), fringe=u(0.0, 0.06), rough=0.01)
    if style == "tied":
        return _HairShape((0, 0.25, -1.0), u(0.05, 0.08), u(0.0, 0.05), rough=0.004)
    if style == "curly":
        return _HairShape(crown, u(0.15, 0.4), u(0.0, 0.2), fringe=u(0, 0.08), rough=u(0.04, 0.07))
    pole = parting if random.random() < 0.5 else middle
    if style == "bob":
        fringe = random.random() < 0.4
        return _HairShape(
            crown if fringe else pole,
            u(0.14, 0.2),
            u(0.03, 0.08),
            fall=u(0.55, 0.95),
            front=u(0.30, 0.45),
            fringe=0.26 if fringe else 0.0,
            wave=u(0, 0.02),
            rough=0.006,
        )
    if style == "long":
        return _HairShape(
            pole,
            u(0.11, 0.16),
            u(0.03, 0.08),
            fall=u(1.4, 2.4),
            front=u(0.30, 0.42),
            wave=0.01,
            rough=0.005,
        )
    return _HairShape(
        pole,
        u(0.15, 0.2),
        u(0.04, 0.1),
        fall=u(1.1, 2.2),
        front=u(0.30, 0.42),
        wave=u(0.04, 0.07),
        rough=0.015,
    )


def _skull_radius(head: np.ndarray):
    """A function from unit directions [..., 3] to the distance of the scalp from the centre."""
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


def _hair_mesh(
    random: np.random.Generator, head: np.ndarray, style: str, raised: float
) -> list[_Mesh]:
    """The hair of a head [V, 3]: strands from a pole over the skull, some of them falling."""
    shape = _hair_shape(random, style)
    radius = _skull_radius(head)
    pole = np.array(shape.pole) / np.linalg.norm(shape.pole)
    ahead = np.array([0.0, 0.0, 1.0]) if abs(pole[2]) < 0.9 else np.array([0.0, 1.0, 0.0])
    first = ahead - pole * (ahead @ pole)
    first /= np.linalg.norm(first)
    second = np.cross(pole, first)
    turn = np.linspace(0, 2 * np.pi, _STRANDS + 1)
    outward = np.cos(turn)[:, None] * first + np.sin(turn)[:, None] * second

    def directions(angle: np.ndarray) -> np.ndarray:
        return np.cos(angle)[..., None] * pole + np.sin(angle)[..., None] * outward[:, None]

    # The angle at which each strand leaves the hair-bearing skin.
    steps = np.broadcast_to(np.linspace(0.06, 2.9, 111), (_STRANDS + 1, 111))
    path = directions(steps)
    path = _SKULL_CENTER + path * radius(path)[..., None]
    bare = _hairline_excess(path, raised) < 0
    last = np.where(bare.any(axis=1), bare.argmax(axis=1), 110)
    end_angle = steps[0, last]
    end_angle = ndimage.gaussian_filter1d(end_angle[:-1], 1.5, mode="wrap")
    end_angle = np.append(end_angle, end_angle[0])
    ends = path[np.arange(_STRANDS + 1), last]
    frontal = _smooth(0.25, 0.5, ends[:, 2]) * (np.abs(ends[:, 0]) < 0.62)
    falls = (
        _smooth(shape.front + 0.05, shape.front - 0.12, ends[:, 2]) if shape.fall else 0 * frontal
    )
    fringe = shape.fringe * frontal
    end_angle = end_angle + fringe / 0.9 + 0.04
    share = np.linspace(0, 1, _ROOT_ROWS) ** 0.9
    angle = end_angle[:, None] * share
    path = directions(angle)
    base = radius(path)
    # Near the hairline the hair lies flat, but not where it falls or hangs into the forehead.
    held = np.maximum(falls, 0.75 * (fringe > 0.05))[:, None]
    if style == "curly":
        held = np.maximum(held, 0.55)
    flat = 1 - (1 - held) * share ** (5 if style == "short" else 2.5)
    thick = shape.thickness + shape.top * np.maximum(path[..., 1], 0) ** 2
    strand = random.standard_normal(_STRANDS)
    strand = ndimage.gaussian_filter1d(strand, 1.2, mode="wrap")
    strand = np.append(strand, strand[0]) * shape.rough * 2
    lumps = random.standard_normal((_STRANDS, _ROOT_ROWS))
    lumps = ndimage.gaussian_filter(lumps, 1.1, mode=("wrap", "nearest")) * 2.2
    lumps = np.vstack([lumps, lumps[:1]]) * shape.rough
    lumps *= _smooth(0, 0.2, share)
    height = (thick + lumps + strand[:, None] * share) * flat + 0.012
    points = _SKULL_CENTER + path * (base + height)[..., None]
    rows = [points]
    coverage = np.ones((_STRANDS + 1, _ROOT_ROWS))
    coverage[:, -1] = np.where(falls > 0.02, 1, 0)
    if shape.fall:
        fallen = _fall(random, points, falls, shape)
        rows.append(fallen)
        hanging = np.ones((_STRANDS + 1, _FALL_ROWS))
        hanging[:, -1] = 0
        hanging[falls <= 0.02] = 0
        coverage = np.hstack([coverage, hanging])
    points = np.concatenate(rows, axis=1)
    count = points.shape[1]
    steps = np.linalg.norm(np.diff(points, axis=1), axis=-1)
    length = np.concatenate([np.zeros((_STRANDS + 1, 1)), np.cumsum(steps, axis=1)], axis=1)
    along = length / np.maximum(length[:, -1:], 1e-6)
    across = np.broadcast_to((turn / (2 * np.pi))[:, None], along.shape)
    uv = np.stack([across, along], axis=-1).reshape(-1, 2).astype(np.float32)
    indices = np.arange((_STRANDS + 1) * count).reshape(_STRANDS + 1, count)
    triangles = _grid_triangles(indices.T)
    vertices = points.reshape(-1, 3)
    coverage = coverage.ravel().astype(np.float32)
    area = np.cross(
        vertices[triangles[:, 1]] - vertices[triangles[:, 0]],
        vertices[triangles[:, 2]] - vertices[triangles[:, 0]],
    )
    keep = (np.linalg.norm(area, axis=1) > 1e-7) & (coverage[triangles].max(axis=1) > 0)
    triangles = triangles[keep]
    soft = (coverage[triangles].min(axis=1) < 1) | (uv[triangles][..., 1].max(axis=1) > 0.84)
    meshes = [
        _Mesh(vertices, triangles, uv[triangles], HAIR, _head_share(vertices), coverage, soft)
    ]
    if style == "tied":
        meshes.append(_knot(random))
    return meshes


def _fall(
    random: np.random.Generator, points: np.ndarray, falls: np.ndarray, shape: _HairShape
) -> np.ndarray:
    """Strands that hang down from the last rows of points [C, R, 3]: [C, _FALL_ROWS, 3]."""
    end = points[:, -1]
    radial = end - np.array([0, 0, -0.25])
    radial[:, 1] = 0
    radial /= np.maximum(np.linalg.norm(radial, axis=1, keepdims=True), 1e-6)
    down = np.linspace(0, 1, _FALL_ROWS + 1)[1:]
    bottom = -0.35 - shape.fall
    length = falls * np.maximum(end[:, 1] - bottom, 0.02)
    drop = length[:, None] * down
    # Hair swings out over the ear, then hangs straight and a little inwards.
    reach = np.maximum(np.hypot(points[..., 0], points[..., 2] + 0.25).max(axis=1), 0)
    own = np.hypot(end[:, 0], end[:, 2] + 0.25)
    bulge = (reach - own + 0.02)[:, None] * _smooth(0, 0.45, drop)
    taper = -0.10 * _smooth(0.5, 1.6, drop) + 0.05 * random.uniform(-1, 1) * down
    clump = ndimage.gaussian_filter1d(random.standard_normal(_STRANDS), 2.0, mode="wrap")
    clump = np.append(clump, clump[0])[:, None]
    phase = 1.5 * clump + random.uniform(0, 6)
    wave = shape.wave * np.sin(7 * drop + phase) * _smooth(0.1, 0.6, drop)
    out = bulge + taper + wave + 0.035 * clump * down
    fallen = end[:, None] + radial[:, None] * out[..., None]
    fallen[..., 1] -= drop
    return fallen


def _knot(random: np.random.Generator) -> _Mesh:
    """A knot of hair at the back of the head."""
    size = random.uniform(0.28, 0.4)
    center = np.array([0, random.uniform(0.5, 1.05), -1.15])
    angle, height = np.meshgrid(np.linspace(0, 2 * np.pi, 25), np.linspace(0.05, np.pi - 0.05, 13))
    points = np.stack(
        [np.sin(height) * np.sin(angle), np.cos(height), np.sin(height) * np.cos(angle)], axis=-1
    )
    vertices = (center + size * points).reshape(-1, 3)
    triangles = _grid_triangles(np.arange(len(vertices)).reshape(angle.shape))
    uv = np.stack([angle / (2 * np.pi), 0.1 + 0.5 * height / np.pi], axis=-1).reshape(-1, 2)
    return _Mesh(
        vertices,
        triangles,
        uv[triangles].astype(np.float32),
        HAIR,
        np.ones(len(vertices), np.float32),
        np.ones(len(vertices), np.float32),
        np.zeros(len(triangles), bool),
    )


def _paint_hair(random: np.random.Generator, hair: np.ndarray, style: str) -> np.ndarray:
    """Strands from the root (v = 0) to the tip (v = 1)."""
    size = TEXTURE_SIZE
    if style == "curly":
        light = 0.30 * _noise(random, (4, 4)) + 0.2 * _noise(random, (1.5, 1.5))
    else:
        light = 0.20 * _noise(random, (70, 1.1)) + 0.16 * _noise(random, (110, 5))
        light += 0.08 * _noise(random, (20, 0.7))
    v = ((np.arange(size, dtype=np.float32) + 0.5) / size)[:, None]
    root = 0.72 + 0.28 * _smooth(0.0, 0.35, v) + random.uniform(0, 0.3) * _smooth(0.5, 1, v)
    colour = hair * (np.clip(1 + light, 0.35, 2.2) * root)[..., None]
    if style in ("tied", "parted", "curly"):
        alpha = _smooth(1.0, 0.88, v + 0.02 * _noise(random, (size, 1.5)))
    else:
        tip = 0.95 + 0.035 * _noise(random, (size, 2.0))
        alpha = _smooth(0.04, -0.04, v - np.minimum(tip, 0.99))
    return _texture(colour, alpha)


# --- glasses and lashes ----------------------------------------------------------------------


def _tube(line: np.ndarray, radius: float, closed: bool) -> tuple[np.ndarray, np.ndarray]:
    """A square tube along a line [K, 3]: vertices [4 K, 3] and triangles."""
    if closed:
        along = np.roll(line, -1, axis=0) - np.roll(line, 1, axis=0)
    else:
        along = np.gradient(line, axis=0)
    along /= np.linalg.norm(along, axis=1, keepdims=True)
    side = np.cross(along, (0.3, 0.2, 1.0))
    side /= np.linalg.norm(side, axis=1, keepdims=True)
    up = np.cross(side, along)
    corners = [side, up, -side, -up]
    vertices = np.concatenate([line + radius * corner for corner in corners])
    indices = np.arange(len(vertices)).reshape(4, -1)
    indices = np.vstack([indices, indices[:1]])
    return vertices, _grid_triangles(indices, closed=closed)


def _glasses(random: np.random.Generator, head: np.ndarray) -> _Mesh:
    """Frames around both eyes of a head [V, 3], with a bridge and temples."""
    marks = head[load_default().landmarks]
    middle = (marks[36:42].mean(0) + marks[42:48].mean(0)) / 2
    apart = marks[42:48].mean(0)[0] - middle[0]
    depth = max(marks[27][2] - 0.02, middle[2] + 0.22)
    half_width, half_height = random.uniform(0.23, 0.27), random.uniform(0.15, 0.22)
    power = random.uniform(0.5, 1.0)
    radius = random.uniform(0.011, 0.018)
    turn = np.linspace(0, 2 * np.pi, 28, endpoint=False)
    pieces = []
    for side in (-1, 1):
        x = half_width * np.sign(np.cos(turn)) * np.abs(np.cos(turn)) ** power
        y = half_height * np.sign(np.sin(turn)) * np.abs(np.sin(turn)) ** power
        center = middle[0] + side * max(apart, half_width + 0.06)
        # The frame follows the face: further back at the temples.
        z = depth - 0.10 * np.maximum(side * x + half_width, 0)
        ring = np.stack([center + x, middle[1] - 0.03 + y, z], axis=-1)
        pieces.append(_tube(ring, radius, closed=True))
        outer = np.array([center + side * half_width, middle[1] + 0.06, z.min()])
        ear = np.array([middle[0] + side * 0.72, middle[1] + 0.08, -0.15])
        share = np.linspace(0, 1, 6)[:, None]
        pieces.append(
            _tube(
                outer + share * (ear - outer) + (side * 0.02, 0, 0) * np.sin(np.pi * share),
                radius,
                False,
            )
        )
        inner = np.array([center - side * half_width * 0.97, middle[1] + 0.02, depth])
        if side < 0:
            left = inner
    share = np.linspace(0, 1, 6)[:, None]
    bridge = left + share * (inner - left) + np.array([0, 0.05, 0.02]) * np.sin(np.pi * share)
    pieces.append(_tube(bridge, radius, False))
    vertices, triangles, count = [], [], 0
    for points, faces in pieces:
        vertices.append(points)
        triangles.append(faces + count)
        count += len(points)
    triangles = np.concatenate(triangles)
    return _Mesh(
        np.concatenate(vertices),
        triangles,
        np.zeros((len(triangles), 3, 2), np.float32),
        FRAME,
        np.ones(count, np.float32),
        np.ones(count, np.float32),
        np.zeros(len(triangles), bool),
    )


# --- light -----------------------------------------------------------------------------------


def _unit(vector) -> np.ndarray:
    vector = np.asarray(vector, np.float64)
    return vector / np.linalg.norm(vector)


def _visibility(
    vertices: np.ndarray, normals: np.ndarray, triangles: np.ndarray, directions: np.ndarray
) -> np.ndarray:
    """Share of light from directions [D, 3] that reaches vertices [N, 3], by facing them: [N].

    Each direction has a depth map; what lies behind its surface there is in the dark.
    """
    size, bias = 160, 0.07
    reached, total = np.zeros((2, len(vertices)))
    for direction in directions:
        facing = np.maximum(normals @ direction, 0)
        side = _unit(np.cross((0.1, 1.0, 0.2), direction))
        view = np.stack([side, np.cross(direction, side), direction])
        points = vertices @ view.T
        low, high = points[:, :2].min(axis=0), points[:, :2].max(axis=0)
        points[:, :2] = (points[:, :2] - low) / (high - low).max() * (size - 1)
        points = np.ascontiguousarray(points, np.float32)
        depth = _depth_map(points, triangles, size)
        column, row = np.clip(np.rint(points[:, :2]).astype(int), 0, size - 1).T
        reached += facing * np.clip(1 - (depth[row, column] - points[:, 2] - bias) / 0.05, 0, 1)
        total += facing
    return reached / np.maximum(total, 1e-6)


def _depth_map(points: np.ndarray, triangles: np.ndarray, size: int) -> np.ndarray:
    depth = np.full((size, size), -1e30, np.float32)
    count = len(triangles)
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
        np.empty((size, size), np.int32),
        np.empty((size, size), np.float32),
        np.empty((size, size), np.float32),
    )
    return depth


def _sphere(count: int) -> np.ndarray:
    """Directions [count, 3] spread evenly, more of them from above than from below."""
    i = np.arange(count) + 0.5
    height = 1 - 1.75 * i / count
    turn = np.pi * (1 + 5**0.5) * i
    flat = np.sqrt(1 - height**2)
    return np.stack([flat * np.cos(turn), height, flat * np.sin(turn)], axis=-1)


def _lights(random: np.random.Generator) -> np.ndarray:
    side = float(random.choice([-1.0, 1.0]))
    key = _unit((side * random.uniform(0.15, 0.75), random.uniform(0.3, 0.75), 0.85))
    fill = _unit((-side * random.uniform(0.5, 1.0), random.uniform(-0.1, 0.3), 0.6))
    warm = random.normal(0, 0.045)
    tint = np.array([1 + warm, 1.0, 1 - warm])
    strength = random.uniform(0.62, 0.82)
    ambient = random.uniform(0.34, 0.46)
    cool = np.array([1 - 0.7 * warm, 1.0, 1 + 0.7 * warm])
    rows = [key, strength * tint, fill, random.uniform(0.10, 0.24) * cool, ambient * cool]
    return np.array(rows, np.float32)


def _background(random: np.random.Generator) -> np.ndarray:
    """A blurred room, a plain wall or a studio: float32 [160, 160, 3]."""
    size = 160
    y, x = np.mgrid[0:size, 0:size].astype(np.float32) / size
    walls = np.array(
        [
            (0.42, 0.41, 0.39),
            (0.30, 0.33, 0.36),
            (0.33, 0.30, 0.26),
            (0.20, 0.23, 0.22),
            (0.11, 0.12, 0.14),
            (0.50, 0.48, 0.44),
            (0.24, 0.27, 0.33),
        ]
    )
    wall = walls[random.integers(len(walls))] * random.uniform(0.7, 1.25)
    picture = np.broadcast_to(wall, (size, size, 3)).astype(np.float32)
    kind = random.integers(4)
    if kind == 0:  # studio: a spot of light on a sheet
        away = np.hypot(x - random.uniform(0.3, 0.7), y - random.uniform(0.3, 0.6))
        picture = picture * (1.25 - 0.8 * _smooth(0, 0.9, away))[..., None]
    elif kind == 1:  # wall in the light of a window
        ramp = np.cos(random.uniform(0, 2 * np.pi)) * (x - 0.5) + 0.4 * (0.5 - y)
        picture = picture * (1 + 0.5 * ramp)[..., None]
    else:
        picture = picture.copy()
        for _ in range(random.integers(10, 28)):
            tall = kind == 2
            w, h = random.uniform(0.03, 0.10 if tall else 0.45), random.uniform(0.15, 0.5)
            left, top = random.uniform(-0.1, 1), random.uniform(-0.1, 1)
            colour = walls[random.integers(len(walls))] * random.uniform(0.3, 1.6)
            colour = colour * (1 + 0.10 * random.standard_normal(3))
            box = tuple(int(size * value) for value in (left, top, left + w, top + h))
            cv2.rectangle(picture, box[:2], box[2:], np.clip(colour, 0, 0.9).tolist(), -1)
        picture = cv2.GaussianBlur(picture, (0, 0), random.uniform(4, 9))
    return np.ascontiguousarray(np.clip(picture, 0.01, 0.95), np.float32)


# --- all of it -------------------------------------------------------------------------------


@functools.cache
def _ear_patches() -> tuple[np.ndarray, np.ndarray]:
    """Flat skin where ears were, for hair that covers them: triangles [F, 3], UV [F, 3, 2]."""
    model = load_default()
    chosen = model.part_mask("ears")
    ears, corners = model.triangles[chosen], model.uv[model.uv_triangles[chosen]]
    uv = np.zeros((len(model.mean), 2), np.float32)
    uv[ears.reshape(-1)] = corners.reshape(-1, 2)
    edges = ears[:, [[0, 1], [1, 2], [2, 0]]].reshape(-1, 2)
    _, where, counts = np.unique(
        np.sort(edges, axis=1), axis=0, return_inverse=True, return_counts=True
    )
    rim = edges[counts[where.ravel()] == 1]
    patches = []
    for side in (-1, 1):
        loop = rim[side * model.mean[rim[:, 0], 0] > 0]
        loop = loop[(loop != loop[0, 0]).all(axis=1)]
        hub = rim[side * model.mean[rim[:, 0], 0] > 0][0, 0]
        patches.append(np.column_stack([np.full(len(loop), hub), loop]))
    patches = np.concatenate(patches).astype(np.int32)
    return patches, uv[patches]


def _head_meshes(head: np.ndarray, hidden_ears: bool, male: bool) -> list[_Mesh]:
    """The face model's triangles by material; all share the vertices of the first mesh."""
    model = load_default()
    materials = {
        SKIN: [part for part in _SKIN_PARTS if not (hidden_ears and part == "ears")],
        BODY: ["neck"],
        EYE: ["eyes"],
        TEETH: ["upper_teeth", "lower_teeth"],
        TONGUE: ["tongue"],
        CAVITY: ["mouth_cavity"],
        LASH: ["lashes"],
    }
    share = np.ones(len(head), np.float32)
    neck = model.part_vertices("neck")
    share[neck] = _head_share(head[neck])
    # The rest of the head is rigid, also where the neck joins it.
    share[model.part_vertices(*_SKIN_PARTS)] = 1
    coverage = np.ones(len(head), np.float32)
    lashes = model.part_vertices("lashes")
    lids = cKDTree(head[model.part_vertices("eyelids")])
    away = lids.query(head[lashes])[0]
    coverage[lashes] = (0.45 if male else 0.75) * _smooth(0.09, 0.0, away)
    meshes = []
    for material, parts in materials.items():
        chosen = model.part_mask(*parts)
        triangles = model.triangles[chosen]
        uv = model.uv[model.uv_triangles[chosen]]
        if material == SKIN:
            uv = _skin_uv(uv)
        elif material == BODY:
            uv = _front_uv(head[triangles])
        if material == SKIN and hidden_ears:
            patch, patch_uv = _ear_patches()
            triangles = np.concatenate([triangles, patch])
            uv = np.concatenate([uv, _skin_uv(patch_uv)])
        soft = np.full(len(triangles), material == LASH)
        meshes.append(_Mesh(head, triangles, uv, material, share, coverage, soft))
    return meshes


def _inner_mouth_access(head: np.ndarray, access: np.ndarray) -> None:
    """Darkens what lies behind the lips by its depth, in place: at rest they would hide it all."""
    model = load_default()
    inner = model.part_vertices("mouth_cavity", "tongue", "upper_teeth", "lower_teeth")
    front = head[model.part_vertices("upper_teeth"), 2].max()
    x, z = head[inner, 0], head[inner, 2]
    dark = np.clip((z - front + 0.62) / 0.60, 0.12, 1) ** 1.3
    dark *= np.clip(1 - (np.abs(x) / 0.38) ** 2, 0.2, 1)
    access[inner] = 0.95 * dark[:, None]
    tongue = model.part_vertices("tongue")
    access[tongue] *= 0.75
    lips = model.part_vertices("lips")
    access[lips] = np.maximum(access[lips], 0.55)
    eyes = model.part_vertices("eyes")
    access[eyes] = np.maximum(access[eyes], 0.45)


def _choose_hair(random: np.random.Generator, male: bool, age: float, african: float) -> str:
    if male:
        styles = {
            "short": 4.0,
            "parted": 2.5,
            "buzz": 1.2,
            "bald": 0.5 + 1.0 * age,
            "curly": 0.6,
            "long": 0.3,
        }
        if african > 0.5:
            styles = {"short": 0.8, "buzz": 3.0, "bald": 1.0, "curly": 2.5}
    else:
        styles = {
            "bob": 2.5,
            "long": 3.0,
            "wavy": 2.5,
            "tied": 2.0,
            "curly": 0.7,
            "parted": 0.5,
            "short": 0.3,
        }
        if african > 0.5:
            styles = {"curly": 3.0, "tied": 2.0, "wavy": 1.0, "bob": 0.8, "buzz": 0.5}
    odds = np.array(list(styles.values()))
    return list(styles)[random.choice(len(odds), p=odds / odds.sum())]


def _choose_beard(random: np.random.Generator, male: bool, asian: float) -> str:
    if not male:
        return "none"
    odds = np.array([2.5 + 2 * asian, 2.5, 0.5, 0.8, 1.3 * (1 - 0.6 * asian)])
    return BEARDS[random.choice(5, p=odds / odds.sum())]


def make_speaker(seed: int) -> Speaker:
    """The person with this number: the same arrays on every call.

    Args:
        seed: at least 0.
    """
    random = np.random.Generator(np.random.PCG64(seed))
    male = bool(random.random() < 0.5)
    age = float(random.uniform(0, 1) ** 1.7)
    share = random.dirichlet([0.3, 0.3, 0.3])
    geometry = _draw_geometry(random, male, age, share)
    model = load_default()
    head = (model.mean + model.geometry @ geometry).astype(np.float32)
    skin, hair = _skin_tone(random, share), _hair_colour(random, share, age)
    style = _choose_hair(random, male, age, share[0])
    beard = _choose_beard(random, male, share[1])
    clothes = CLOTHES[random.choice(5, p=[0.28, 0.22, 0.2, 0.13, 0.17])]
    glasses = bool(random.random() < 0.18)
    raised = random.uniform(-0.03, 0.06) + (0.25 * age * random.random() if male else 0)
    depth = random.uniform(0, 1)

    meshes = _head_meshes(head, style in ("bob", "long", "wavy"), male)
    neck = meshes[1]
    bare = ~_covered(head, neck.triangles, clothes, depth)
    meshes[1] = dataclasses.replace(
        neck, triangles=neck.triangles[bare], uv=neck.uv[bare], soft=neck.soft[bare]
    )
    meshes += _body_meshes(head, male, clothes, depth)
    if style not in ("bald", "buzz"):
        meshes += _hair_mesh(random, head, style, raised)
    if glasses:
        meshes.append(_glasses(random, head))
    scalp_hair = {"bald": 0.35 * random.random(), "buzz": random.uniform(0.6, 0.9)}.get(style, 1.0)
    textures = np.stack(
        [
            _paint_skin(
                random,
                skin=skin,
                hair=hair,
                male=male,
                age=age,
                raised=raised,
                scalp_hair=scalp_hair,
                beard=beard,
                fair=share[2],
            ),
            _paint_body(random, skin),
            _paint_hair(random, hair, style),
            _paint_cloth(random, clothes, depth),
        ]
    )
    lights = _lights(random)
    joined = _join(meshes, len(head))
    joined["access"] = _access(joined, head, lights)
    return Speaker(
        seed=seed,
        sex="male" if male else "female",
        age=age,
        hair_style=style,
        clothes=clothes,
        beard=beard,
        glasses=glasses,
        geometry=geometry,
        textures=textures,
        colours=_solid_colours(random),
        iris=_iris(random, share),
        lights=lights,
        background=_background(random),
        **joined,
    )


def _solid_colours(random: np.random.Generator) -> np.ndarray:
    colours = np.zeros((renderer.NUM_MATERIALS, 3), np.float32)
    colours[TEETH] = np.array([0.72, 0.68, 0.58]) * random.uniform(0.85, 1.1)
    colours[TONGUE] = (0.42, 0.15, 0.14)
    colours[CAVITY] = (0.20, 0.05, 0.05)
    colours[LASH] = (0.02, 0.015, 0.012)
    frames = [(0.01, 0.01, 0.012), (0.06, 0.03, 0.015), (0.25, 0.24, 0.22), (0.03, 0.03, 0.08)]
    colours[FRAME] = frames[random.integers(4)]
    return colours


def _join(meshes: list[_Mesh], num_head: int) -> dict[str, np.ndarray]:
    """One mesh of all, the head's vertices once at the start, opaque triangles before soft ones."""
    vertices, head_share, coverage = [], [], []
    triangles, uv, materials, soft, two_sided = [], [], [], [], []
    count = 0
    for mesh in meshes:
        on_head = mesh.material in (SKIN, EYE, TEETH, TONGUE, CAVITY, LASH) or (
            mesh.material == BODY and len(mesh.vertices) == num_head
        )
        # The trunk is numbered after the head, which it continues.
        offset = 0 if on_head or mesh.material == BODY else count
        if not (on_head and vertices):
            vertices.append(mesh.vertices)
            head_share.append(mesh.head_share)
            coverage.append(mesh.coverage)
            count += len(mesh.vertices)
        triangles.append(mesh.triangles + offset)
        uv.append(mesh.uv)
        materials.append(np.full(len(mesh.triangles), mesh.material, np.uint8))
        soft.append(mesh.soft)
        open_sheet = mesh.material in (HAIR, CLOTH, LASH, FRAME)
        two_sided.append(np.full(len(mesh.triangles), open_sheet))
    soft = np.concatenate(soft)
    order = np.argsort(soft, kind="stable")
    return {
        "vertices": np.ascontiguousarray(np.concatenate(vertices), np.float32),
        "head_share": np.concatenate(head_share).astype(np.float32),
        "coverage": np.concatenate(coverage).astype(np.float32),
        "triangles": np.ascontiguousarray(np.concatenate(triangles)[order], np.int32),
        "uv": np.ascontiguousarray(np.concatenate(uv)[order], np.float32),
        "materials": np.concatenate(materials)[order],
        "two_sided": np.concatenate(two_sided)[order],
        "num_opaque": int((~soft).sum()),
    }


def _access(joined: dict[str, np.ndarray], head: np.ndarray, lights: np.ndarray) -> np.ndarray:
    """Share of ambient and key light at each vertex, float32 [N, 2]."""
    vertices = joined["vertices"].astype(np.float64)
    triangles = joined["triangles"]
    normals = _normals(vertices, triangles)
    # Lashes, frames and the parts of cloth that are cut away throw no shadow worth having.
    casts = ~np.isin(joined["materials"], [LASH, FRAME, EYE])
    casts &= (np.arange(len(triangles)) < joined["num_opaque"]) | (joined["materials"] == HAIR)
    casters = np.ascontiguousarray(triangles[casts])
    ambient = _visibility(vertices, normals, casters, _sphere(48))
    key = lights[0].astype(np.float64)
    cone = key + 0.22 * _sphere(12) * (8 / 7)
    direct = _visibility(vertices, normals, casters, cone / np.linalg.norm(cone, axis=1)[:, None])
    access = np.stack([0.12 + 0.88 * ambient**1.2, 0.15 + 0.85 * direct], axis=1)
    _inner_mouth_access(head, access)
    return access.astype(np.float32)

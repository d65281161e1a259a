"""The skin of a head, painted on the face model's chart: complexion, lips, brows, beard, age.

Ours. Colours are painted at the places of the mean face, so that they follow the shape of each
head. Each step below takes the colour so far, [S, S, 3] in linear light, and returns it with one
thing more; places and widths are in dm on the mean face, where x counts from the middle.
"""

import dataclasses
import functools

import cv2
import numpy as np
from scipy import ndimage
from scipy.spatial import cKDTree

from flax_talk.face_model.model import load_default
from input_pipeline.synthetic.hair import hairline_excess
from input_pipeline.synthetic.meshes import draw, polyline_distance
from input_pipeline.synthetic.painting import TEXTURE_SIZE, bell, mix, noise, smooth, to_texture

SKIN_PARTS = ("skin", "scalp", "ears", "brows", "eyelids", "lips")
"""Parts of the face model that one texture covers."""

# Where the head lies in the model's UV.
_CHART_LEFT, _CHART_WIDTH = 0.636, 0.363
_CHART_BOTTOM, _CHART_HEIGHT = 0.145, 0.678
_PART_BLUR = 1.6  # texels

# Landmarks.
_BROWS = (slice(17, 22), slice(26, 21, -1))  # from the temple to the nose
_UPPER_LIDS = ([36, 37, 38, 39], [42, 43, 44, 45])
_LOWER_LIDS = ([36, 41, 40, 39], [42, 47, 46, 45])
# A brow rises from the nose to its arch and falls towards the temple.
_BROW_ARCH = np.array([-0.045, 0.012, 0.028, 0.012, -0.012])

# Spots on the face: center (x, y) and size (x, y).
_CHEEKS = (0.36, -0.20), (0.17, 0.15)
_NOSE = (0.0, -0.25), (0.13, 0.10)
_NOSE_RIDGE = (0, -0.15), (0.08, 0.3)
_FOREHEAD = (0, 0.5), (0.3, 0.2)
_UNDER_EYES = (0.29, -0.07), (0.15, 0.07)
_FRECKLED = (0.22, -0.12), (0.28, 0.16)
_OUTER_EYES = (0.52, 0.05), (0.05, 0.08)

_BROW_WRINKLES = (0.42, 0.50, 0.58)  # heights
_CHEEK_FOLD = np.array([[0.17, -0.27], [0.25, -0.40], [0.285, -0.58]])  # nose to mouth

# The edge of a beard on the cheek: height by x.
_CHEEK_LINE = [0, 0.2, 0.3, 0.5, 0.7], [-0.55, -0.55, -0.46, -0.36, -0.05]

# Factors or shares for red, green and blue.
_BLUSH = np.array([1.05, 0.84, 0.80], np.float32)
_BAGS = np.array([0.8, 1.0, 0.9], np.float32)
_LID = np.array([0.7, 1, 1], np.float32)
_EYE_SHADOW = np.array([0.62, 0.5, 0.5], np.float32)
_FRECKLES = np.array([0.25, 0.45, 0.6], np.float32)
_MALE_LIPS = np.array([0.88, 0.60, 0.60], np.float32)
_FEMALE_LIPS = np.array([0.85, 0.48, 0.50], np.float32)
_LIPSTICK = np.array([1, 0.05, 0.12], np.float32)
_LASHES = np.array([0.03, 0.02, 0.016], np.float32)

_LIGHTEST = 0.62  # mean of the lightest skin tone, about


@dataclasses.dataclass(frozen=True)
class _Chart:
    """Maps over the texture of the skin, on the mean face: [S, S] each unless said otherwise."""

    position: np.ndarray  # [S, S, 3], dm
    lips: np.ndarray  # share of a part, 0 to 1
    eyelids: np.ndarray
    ears: np.ndarray
    neck: np.ndarray  # distance from it, dm
    brow: np.ndarray  # distance from the nearest one, dm
    brow_along: np.ndarray  # place on the nearest brow, 0 at the temple, 1 at the nose
    upper_lid: np.ndarray  # distance from its edge, dm
    lower_lid: np.ndarray

    @property
    def places(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Distance from the middle of the face, height and depth, dm: [S, S] each."""
        return np.abs(self.position[..., 0]), self.position[..., 1], self.position[..., 2]

    def spot(self, center: tuple[float, float], size: tuple[float, float]) -> np.ndarray:
        """A soft spot on both halves of the front of the face, 0 to 1."""
        x, y, z = self.places
        away = ((x - center[0]) / size[0]) ** 2 + ((y - center[1]) / size[1]) ** 2
        return np.exp(-away) * smooth(0.0, 0.3, z)


def skin_uv(uv: np.ndarray) -> np.ndarray:
    """The model's chart [..., 2] (v up) -> places in the texture of the skin (v down)."""
    u = (uv[..., 0] - _CHART_LEFT) / _CHART_WIDTH
    v = 1 - (uv[..., 1] - _CHART_BOTTOM) / _CHART_HEIGHT
    return np.stack([u, v], axis=-1).astype(np.float32)


def paint_skin(
    random: np.random.Generator,
    *,
    skin: np.ndarray,
    hair: np.ndarray,
    male: bool,
    age: float,
    fair: float,
    beard: str,
    scalp_hair: float,
    raised: float,
) -> np.ndarray:
    """The texture of head and face, uint8 [S, S, 4]: square roots of colour, and gloss.

    Args:
        random: decides the rest.
        skin: colour [3] of the skin, linear light.
        hair: colour [3] of the hair.
        male: no make-up, other lips and brows.
        age: 0 to 1.
        fair: share of Caucasian features, 0 to 1; high ones come with freckles at times.
        beard: one of `appearance.BEARDS`.
        scalp_hair: opacity of the hair painted on the scalp, 0 to 1.
        raised: how far the hairline has receded, dm.
    """
    chart = _chart()
    fine = noise(random, (1.2, 1.2))
    mottled = 0.6 * noise(random, (9, 9)) + 0.4 * noise(random, (3, 3))
    colour = skin * (1 + 0.018 * mottled + 0.012 * fine)[..., None]
    colour = _add_blush(random, colour, skin, mottled)
    colour = _add_eyelids(colour, age)
    if not male and random.random() < 0.6:
        colour = _add_eye_shadow(random, colour, skin)
    if fair > 0.7 and random.random() < 0.3:
        colour = _add_freckles(random, colour)
    if age > 0.3:
        colour = _add_wrinkles(colour, age)
    lips = smooth(0.25, 0.8, chart.lips)
    colour = _add_lips(random, colour, lips, skin, male)
    colour = _add_lash_lines(random, colour, male)
    grain = noise(random, (2.2, 0.8))
    if beard != "none":
        colour = _add_beard(random, colour, beard, lips, skin, hair, fine, grain)
    colour = _add_brows(random, colour, hair, male, grain)
    gloss = 0.55 + 0.25 * chart.spot(*_FOREHEAD) + 0.3 * chart.spot(*_NOSE_RIDGE)
    gloss = gloss * (1 + 0.15 * mottled) + 0.35 * lips - 0.2 * (beard == "full")
    if scalp_hair > 0:
        excess = hairline_excess(chart.position, raised) + 0.025 * grain + 0.02 * mottled
        covered = smooth(-0.05, 0.10, excess) * scalp_hair * (1 - chart.ears)
        colour = mix(colour, hair * np.clip(1 + 0.3 * grain, 0.4, 2)[..., None], covered)
        gloss = gloss * (1 - 0.8 * covered)
    return to_texture(colour, gloss)


@functools.cache
def _chart() -> _Chart:
    model = load_default()
    chosen = model.part_mask(*SKIN_PARTS)
    index, weights = _chart_texels(model.uv[model.uv_triangles[chosen]])
    corners = model.mean[model.triangles[chosen][index]]
    position = np.einsum("hwc,hwci->hwi", weights, corners).astype(np.float32)
    part = model.parts[chosen][index]
    border = np.intersect1d(model.part_vertices("neck"), model.part_vertices("skin"))

    def part_share(name: str) -> np.ndarray:
        mask = (part == model.part_names.index(name)).astype(np.float32)
        return cv2.GaussianBlur(mask, (0, 0), _PART_BLUR)

    marks = model.mean[model.landmarks]
    arch = _BROW_ARCH[:, None] * (0, 1, 0)
    (first, first_along), (second, second_along) = (
        polyline_distance(position, marks[side] + arch) for side in _BROWS
    )

    def lid_distance(lids: tuple[list[int], list[int]]) -> np.ndarray:
        return np.minimum(*(polyline_distance(position, marks[lid])[0] for lid in lids))

    return _Chart(
        position=position,
        lips=part_share("lips"),
        eyelids=part_share("eyelids"),
        ears=part_share("ears"),
        neck=cKDTree(model.mean[border]).query(position)[0].astype(np.float32),
        brow=np.minimum(first, second),
        brow_along=np.where(first < second, first_along, second_along),
        upper_lid=lid_distance(_UPPER_LIDS),
        lower_lid=lid_distance(_LOWER_LIDS),
    )


def _chart_texels(uv: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Triangle [S, S] and weights of its corners [S, S, 3] at each texel, for UV [F, 3, 2]."""
    corners = np.zeros((3 * len(uv), 3), np.float32)
    corners[:, :2] = skin_uv(uv).reshape(-1, 2) * TEXTURE_SIZE - 0.5
    triangles = np.arange(len(corners), dtype=np.int32).reshape(-1, 3)
    _, index, second, third = draw(corners, triangles, TEXTURE_SIZE)
    # The gaps between the pieces of the chart repeat their nearest texel: no seams.
    rows, columns = ndimage.distance_transform_edt(
        index < 0, return_distances=False, return_indices=True
    )
    index, second, third = (values[rows, columns] for values in (index, second, third))
    return index, np.stack([1 - second - third, second, third], axis=-1)


def _add_blush(
    random: np.random.Generator, colour: np.ndarray, skin: np.ndarray, mottled: np.ndarray
) -> np.ndarray:
    """Blood in cheeks, nose and ears, which shows less on dark skin."""
    chart = _chart()
    dark = 1 - float(skin.mean()) / _LIGHTEST
    blush = chart.spot(*_CHEEKS) * random.uniform(0.3, 1.0)
    blush += 0.6 * chart.spot(*_NOSE) + 0.5 * chart.ears
    blush = np.clip(blush * (1 - 0.5 * dark) * (1 + 0.15 * mottled), 0, 1.3)
    return colour * (1 + (_BLUSH - 1) * blush[..., None])


def _add_eyelids(colour: np.ndarray, age: float) -> np.ndarray:
    """Thin skin under the eyes and on the lids."""
    chart = _chart()
    bags = chart.spot(*_UNDER_EYES) * (0.10 + 0.14 * age)
    colour = colour * (1 - bags[..., None] * _BAGS)
    return colour * (1 - 0.16 * chart.eyelids[..., None] * _LID)


def _add_eye_shadow(
    random: np.random.Generator, colour: np.ndarray, skin: np.ndarray
) -> np.ndarray:
    chart = _chart()
    shadow = smooth(0.10, 0.02, chart.upper_lid) * (chart.places[1] > 0.03)
    tint = skin * _EYE_SHADOW * random.uniform(0.7, 1.1)
    return mix(colour, tint, shadow * random.uniform(0.2, 0.6))


def _add_freckles(random: np.random.Generator, colour: np.ndarray) -> np.ndarray:
    freckles = smooth(1.9, 2.4, noise(random, (1.4, 1.4)))
    where = _chart().spot(*_FRECKLED) * random.uniform(0.3, 0.7)
    return colour * (1 - (freckles * where)[..., None] * _FRECKLES)


def _add_wrinkles(colour: np.ndarray, age: float) -> np.ndarray:
    """Lines of the forehead, from the nose to the corners of the mouth, and crow's feet."""
    chart = _chart()
    x, y, z = chart.places
    wave = 0.012 * np.sin(9 * x + 3) + 0.02 * x
    lines = np.zeros_like(x)
    for height in _BROW_WRINKLES:
        lines += bell(y - height - wave, 0.011) * smooth(0.45, 0.25, x)
    fold, _ = polyline_distance(np.stack([x, y], axis=-1), _CHEEK_FOLD)
    lines += 1.2 * bell(fold, 0.016) * (z > 0.3)
    # Crow's feet are rays from the corner of the eye: equal steps of slope.
    slope = (y - 0.05) / np.maximum(x - 0.36, 0.02)
    feet = bell(np.mod(slope, 0.5) - 0.25, 0.1)
    lines += 0.5 * feet * chart.spot(*_OUTER_EYES) * (x > 0.46)
    depth = 0.22 * smooth(0.3, 1.0, np.array(age))
    return colour * (1 - depth * np.clip(lines, 0, 1.2)[..., None])


def _add_lips(
    random: np.random.Generator, colour: np.ndarray, lips: np.ndarray, skin: np.ndarray, male: bool
) -> np.ndarray:
    if male:
        tint = skin * _MALE_LIPS
    else:
        tint = skin * _FEMALE_LIPS
        tint = tint + random.uniform(0, 0.10) * _LIPSTICK
    return mix(colour, tint * (1 + 0.05 * noise(random, (3, 1)))[..., None], 0.88 * lips)


def _add_lash_lines(random: np.random.Generator, colour: np.ndarray, male: bool) -> np.ndarray:
    chart = _chart()
    strength = random.uniform(0.35, 0.6) if male else random.uniform(0.65, 0.9)
    colour = mix(colour, _LASHES, strength * smooth(0.022, 0.006, chart.upper_lid))
    return mix(colour, _LASHES, 0.35 * strength * smooth(0.018, 0.004, chart.lower_lid))


def _add_beard(
    random: np.random.Generator,
    colour: np.ndarray,
    beard: str,
    lips: np.ndarray,
    skin: np.ndarray,
    hair: np.ndarray,
    fine: np.ndarray,
    grain: np.ndarray,
) -> np.ndarray:
    mask = _beard_mask(beard) * (1 - lips) * smooth(0.02, 0.22, _chart().neck)
    mask = cv2.GaussianBlur(mask.astype(np.float32), (0, 0), 3.0)
    if beard == "stubble":
        shade = random.uniform(0.25, 0.6) * np.clip(mask * (1 + 0.12 * fine), 0, 1)
        return mix(colour, 0.5 * skin * 0.45 + 0.5 * hair, shade)
    opacity = np.clip(mask * 1.15 + 0.10 * grain * (mask > 0.05), 0, 0.95)
    strands = np.clip(1 + 0.18 * grain, 0.3, 2)[..., None]
    return mix(colour, hair * 1.15 * strands, opacity * random.uniform(0.8, 1))


def _beard_mask(beard: str) -> np.ndarray:
    """Where a beard grows, [S, S], 0 to 1."""
    x, y, z = _chart().places
    lip = smooth(-0.36, -0.42, y) * smooth(-0.66, -0.58, y) * smooth(0.30, 0.22, x) * (z > 0.5)
    if beard == "moustache":
        return lip
    if beard == "goatee":
        chin = smooth(0.30, 0.22, x) * smooth(-0.58, -0.66, y) * smooth(-1.15, -1.0, y) * (z > 0.2)
        beside_mouth = smooth(0.22, 0.25, x) * smooth(0.31, 0.27, x) * smooth(-0.45, -0.52, y)
        beside_mouth = beside_mouth * (y > -0.9) * (z > 0.4)
        return np.maximum.reduce([lip, chin, beside_mouth])
    cheek = np.interp(x, *_CHEEK_LINE)
    jaw = smooth(0.05, -0.10, y - cheek) * smooth(-1.25, -1.0, y) * smooth(-0.15, 0.05, z)
    under_jaw = 1 - 0.5 * smooth(-0.95, -1.15, y)
    return np.maximum(jaw * under_jaw, 0.8 * lip if beard == "stubble" else lip)


def _add_brows(
    random: np.random.Generator, colour: np.ndarray, hair: np.ndarray, male: bool, grain: np.ndarray
) -> np.ndarray:
    chart = _chart()
    width = random.uniform(0.036, 0.050) * (1.1 if male else 0.8)
    taper = smooth(-0.25, 0.45, chart.brow_along)
    brow = smooth(1.15, 0.25, chart.brow / (width * taper + 1e-4) + 0.12 * grain)
    brow = brow * (1 - 0.45 * smooth(0.8, 1.0, chart.brow_along))
    # Brows stay dark where the hair is fair or turns grey.
    tint = 0.55 * hair + 0.45 * np.minimum(hair, 0.06)
    return mix(colour, tint, brow * random.uniform(0.7, 0.92))

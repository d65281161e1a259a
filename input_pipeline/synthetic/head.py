"""The head as meshes: the parts of the face model by material, and the light inside the mouth.

Ours. Vertices are those of the face model, in its order, so that its expressions apply to them.
"""

import functools

import numpy as np
from scipy.spatial import cKDTree

from flax_talk.face_model.model import load_default
from input_pipeline.synthetic.meshes import Mesh, edges_of, head_share
from input_pipeline.synthetic.painting import smooth
from input_pipeline.synthetic.renderer import BODY, CAVITY, EYE, LASH, SKIN, TEETH, TONGUE
from input_pipeline.synthetic.skin import SKIN_PARTS, skin_uv
from input_pipeline.synthetic.trunk import front_uv

_PARTS = {
    SKIN: SKIN_PARTS,
    BODY: ("neck",),
    EYE: ("eyes",),
    TEETH: ("upper_teeth", "lower_teeth"),
    TONGUE: ("tongue",),
    CAVITY: ("mouth_cavity",),
    LASH: ("lashes",),
}
_LASH_LENGTH = 0.09  # dm from the lid at which lashes have faded away

# Light in the mouth: behind its front it fades over a depth, and to the sides; dm.
_MOUTH_LIT, _MOUTH_DEPTH, _MOUTH_HALF_WIDTH = 0.62, 0.60, 0.38

# The dimpler's furrow: how far outwards of the corner, its width and half its length, in dm; how
# much it bends inwards at its ends, and how much of the light it keeps away.
_CREASE_PLACE, _CREASE_WIDTH, _CREASE_LENGTH = 0.05, 0.016, 0.085
_CREASE_BEND, _CREASE_DEPTH = 4.0, 0.7


def head_meshes(head: np.ndarray, hidden_ears: bool, male: bool) -> list[Mesh]:
    """The parts of a head [V, 3] by material; all have all of its vertices.

    Args:
        head: at rest, dm.
        hidden_ears: whether hair covers the ears, which are then left out.
        male: has fainter lashes.
    """
    model = load_default()
    share = np.ones(len(head), np.float32)
    neck = model.part_vertices("neck")
    share[neck] = head_share(head[neck])
    # The rest of the head is rigid, also where the neck joins it.
    share[model.part_vertices(*SKIN_PARTS)] = 1
    coverage = _lash_coverage(head, 0.45 if male else 0.75)
    meshes = []
    for material, parts in _PARTS.items():
        if hidden_ears:
            parts = tuple(part for part in parts if part != "ears")
        chosen = model.part_mask(*parts)
        triangles = np.asarray(model.triangles)[chosen]
        uv = np.asarray(model.uv)[model.uv_triangles[chosen]]
        if material == SKIN:
            uv = skin_uv(uv)
        elif material == BODY:
            uv = front_uv(head[triangles])
        if material == SKIN and hidden_ears:
            patch, patch_uv = _ear_patches()
            triangles = np.concatenate([triangles, patch])
            uv = np.concatenate([uv, skin_uv(patch_uv)])
        soft = np.full(len(triangles), material == LASH)
        meshes.append(Mesh(head, triangles, uv, material, share, coverage, soft))
    return meshes


def darken_mouth(head: np.ndarray, access: np.ndarray) -> None:
    """Sets the light [N, 2] that gets into the mouth of a head [V, 3] by depth, in place.

    At rest, when occlusion is measured, the lips would hide it all. Lips and eyes, which move
    too, keep a least share.
    """
    model = load_default()
    inner = model.part_vertices("mouth_cavity", "tongue", "upper_teeth", "lower_teeth")
    front = head[model.part_vertices("upper_teeth"), 2].max()
    x, z = head[inner, 0], head[inner, 2]
    light = np.clip((z - front + _MOUTH_LIT) / _MOUTH_DEPTH, 0.12, 1) ** 1.3
    light *= np.clip(1 - (np.abs(x) / _MOUTH_HALF_WIDTH) ** 2, 0.2, 1)
    access[inner] = 0.95 * light[:, None]
    access[model.part_vertices("tongue")] *= 0.75
    for part, least in (("lips", 0.55), ("eyes", 0.45)):
        vertices = model.part_vertices(part)
        access[vertices] = np.maximum(access[vertices], least)


def creases(head: np.ndarray) -> np.ndarray:
    """How much light the full dimpler keeps from each vertex of a head [V, 3]: float32 [V].

    A furrow beside each corner of the mouth, bent around it: what the facial action coding system
    tells AU14 by, and too fine for the vertices of the face model to fold.
    """
    model = load_default()
    skin = np.zeros(len(head), bool)
    skin[model.part_vertices("skin")] = True
    depth = np.zeros(len(head), np.float32)
    for corner, side in ((48, -1), (54, 1)):
        x, y = ((head - head[model.landmarks[corner]])[:, :2]).T
        outwards = side * x + _CREASE_BEND * y**2 - _CREASE_PLACE
        depth += np.exp(-((outwards / _CREASE_WIDTH) ** 2) - (y / _CREASE_LENGTH) ** 4)
    return (_CREASE_DEPTH * skin * depth).astype(np.float32)


def _lash_coverage(head: np.ndarray, opacity: float) -> np.ndarray:
    """Opacity [V] of a head's vertices: lashes fade away from the lids, the rest is full."""
    model = load_default()
    coverage = np.ones(len(head), np.float32)
    lashes = model.part_vertices("lashes")
    away = cKDTree(head[model.part_vertices("eyelids")]).query(head[lashes])[0]
    coverage[lashes] = opacity * smooth(_LASH_LENGTH, 0.0, away)
    return coverage


@functools.cache
def _ear_patches() -> tuple[np.ndarray, np.ndarray]:
    """Flat skin where ears were, for hair that covers them: triangles [F, 3], UV [F, 3, 2]."""
    model = load_default()
    chosen = model.part_mask("ears")
    ears, corners = model.triangles[chosen], model.uv[model.uv_triangles[chosen]]
    uv = np.zeros((len(model.mean), 2), np.float32)
    uv[ears.reshape(-1)] = corners.reshape(-1, 2)
    edges = edges_of(ears)
    _, where, counts = np.unique(
        np.sort(edges, axis=1), axis=0, return_inverse=True, return_counts=True
    )
    rim = edges[counts[where.ravel()] == 1]
    patches = []
    for side in (-1, 1):
        # A fan from one vertex of the rim to the edges that do not touch it.
        loop = rim[side * model.mean[rim[:, 0], 0] > 0]
        hub = loop[0, 0]
        loop = loop[(loop != hub).all(axis=1)]
        patches.append(np.column_stack([np.full(len(loop), hub), loop]))
    triangles = np.concatenate(patches).astype(np.int32)
    return triangles, uv[triangles]

"""Renders the speakers of `appearance`: a z-buffer and a shader for one core, without a GPU.

Ours. Each frame moves the vertices of the face model by its expression coefficients, turns head and
trunk, and draws opaque triangles, then the nearest soft one (strands of hair, lashes, the edge
of a cloth) over them. Two lights, an ambient term and what each vertex sees of both, in linear
light; the pixels are averaged over the samples before the curve of sRGB. Loops are compiled by
numba and run on the calling thread.
"""

import functools
import math
from typing import TYPE_CHECKING, NamedTuple

import cv2
import numba
import numpy as np

from flax_talk.face_model.model import load_default
from input_pipeline.faces import STABLE_POINTS, canonical_points, similarity_transform

if TYPE_CHECKING:
    from input_pipeline.synthetic.appearance import Speaker

# Materials of triangles. The first four are also the layers of a speaker's textures.
SKIN, BODY, HAIR, CLOTH, EYE, TEETH, TONGUE, CAVITY, LASH, FRAME = range(10)
NUM_MATERIALS = 10

TORSO_SHARE = 0.3
"""How much of the head's rotation the trunk follows."""

IRIS_RADIUS, PUPIL_RADIUS = 0.068, 0.027  # in the chart of an eye

_FAR = np.float32(-1e30)  # depth of an empty sample
_EDGE_TOLERANCE = np.float32(-1e-5)  # of barycentric coordinates, so that no seam stays open
_MIN_ALPHA = 0.06  # of a soft sample that is drawn
# Only the nearest soft sample is drawn: a faint strand must not hide full ones behind it.
_MIN_HAIR_ALPHA = 0.4

# In compiled code a plain number makes an expression float64, so constants are float32; those of
# the iris are not, and its colour is float64.
_ZERO, _HALF, _ONE = np.float32(0), np.float32(0.5), np.float32(1)
_BYTE = np.float32(1 / 255)

_LIMBUS = 0.055  # where the dark ring around the iris begins
_IRIS_EDGE = np.float32(0.008)  # over which iris and pupil fade, in the chart of an eye
# The white of an eye beside the iris, and how much of it is lost far away from it.
_SCLERA = (np.float32(0.66), np.float32(0.62), np.float32(0.60))
_SCLERA_LOSS = (np.float32(0.18), np.float32(0.27), np.float32(0.28))

# How far light wraps around a surface that scatters it; red light reaches further in skin.
_WRAP, _SKIN_WRAP = np.float32(0.1), np.float32(0.18)
_HAIR_WRAP, _CLOTH_WRAP = np.float32(0.2), np.float32(0.15)
_SKIN_REDNESS = np.float32(0.17)

_SKIN_GLOSS = np.float32(0.5)  # of the gloss in the texture
_HAIR_GLOSS = (np.float32(0.6), np.float32(0.02))  # by the hair's colour, and besides
_EYE_GLOSS, _TEETH_GLOSS = np.float32(1.4), np.float32(0.2)
_TONGUE_GLOSS, _FRAME_GLOSS = np.float32(0.15), np.float32(0.5)
_WIDE_HIGHLIGHT, _NARROW_HIGHLIGHT = np.float32(0.10), np.float32(0.16)
_HIGHLIGHT_FROM = np.float32(0.6)  # cosine below which there is none to see
_SHEEN = np.float32(0.04)

# Few triangles for so many teeth: light goes around their edges.
_TEETH_FLATNESS = (np.float32(0.35), np.float32(0.25))

# Without fastmath: it lets results depend on whether the program comes from the cache, and equal
# corpora must be equal bytes.
_compiled = numba.njit(cache=True, nogil=True, error_model="numpy")


_BRIGHTEST, _KNEE = 1.25, 0.7  # linear light that is white, and from where highlights roll off


def _srgb_table(size: int = 4096) -> np.ndarray:
    """sRGB bytes of linear light from 0 to `_BRIGHTEST` in equal steps: uint8 [size]."""
    light = np.linspace(0, _BRIGHTEST, size)
    # Highlights roll off above the knee in place of clipping.
    over = np.maximum(light - _KNEE, 0)
    light = np.minimum(light, _KNEE) + (1 - _KNEE) * over / (over + (1 - _KNEE))
    curve = np.where(light < 0.0031308, 12.92 * light, 1.055 * light ** (1 / 2.4) - 0.055)
    return np.rint(255 * np.clip(curve, 0, 1)).astype(np.uint8)


_SRGB = _srgb_table()
_SRGB_STEPS = np.float32((len(_SRGB) - 1) / _BRIGHTEST)


@_compiled
def _rotation(pitch, yaw, roll, out):
    """Writes R_z(roll) R_y(yaw) R_x(pitch) to out [3, 3]."""
    sx, sy, sz = math.sin(pitch), math.sin(yaw), math.sin(roll)
    cx, cy, cz = math.cos(pitch), math.cos(yaw), math.cos(roll)
    out[0, 0], out[0, 1], out[0, 2] = cz * cy, cz * sy * sx - sz * cx, cz * sy * cx + sz * sx
    out[1, 0], out[1, 1], out[1, 2] = sz * cy, sz * sy * sx + cz * cx, sz * sy * cx - cz * sx
    out[2, 0], out[2, 1], out[2, 2] = -sy, cy * sx, cy * cx


@_compiled
def _deform(rest, moved, directions, expression, out):
    """out [N, 3] = rest [N, 3] + directions [E, M, 3] . expression [E] at the moved vertices."""
    out[:] = rest
    for k in range(expression.shape[0]):
        weight = expression[k]
        if weight == 0:
            continue
        for i in range(moved.shape[0]):
            v = moved[i]
            out[v, 0] += weight * directions[k, i, 0]
            out[v, 1] += weight * directions[k, i, 1]
            out[v, 2] += weight * directions[k, i, 2]


@_compiled
def _place(vertices, head_share, pose, head, trunk, oversampling, out):
    """Writes vertices [N, 3] as samples: column, row (down), and depth in the same unit.

    head_share [N] blends the rotation of the head with that of the trunk; head and trunk [3, 3]
    are room for the two.
    """
    _rotation(pose[0], pose[1], pose[2], head)
    _rotation(pose[0] * TORSO_SHARE, pose[1] * TORSO_SHARE, pose[2] * TORSO_SHARE, trunk)
    scale = pose[5] * oversampling
    # The centre of a pixel is that of its samples.
    left = (pose[3] + 0.5) * oversampling - 0.5
    top = (pose[4] + 0.5) * oversampling - 0.5
    for v in range(vertices.shape[0]):
        x, y, z = vertices[v, 0], vertices[v, 1], vertices[v, 2]
        w = head_share[v]
        u = 1 - w
        turned_x = (w * head[0, 0] + u * trunk[0, 0]) * x
        turned_x += (w * head[0, 1] + u * trunk[0, 1]) * y
        turned_x += (w * head[0, 2] + u * trunk[0, 2]) * z
        turned_y = (w * head[1, 0] + u * trunk[1, 0]) * x
        turned_y += (w * head[1, 1] + u * trunk[1, 1]) * y
        turned_y += (w * head[1, 2] + u * trunk[1, 2]) * z
        turned_z = (w * head[2, 0] + u * trunk[2, 0]) * x
        turned_z += (w * head[2, 1] + u * trunk[2, 1]) * y
        turned_z += (w * head[2, 2] + u * trunk[2, 2]) * z
        out[v, 0] = scale * turned_x + left
        out[v, 1] = top - scale * turned_y
        out[v, 2] = turned_z * scale


@_compiled
def vertex_normals(points, triangles, normals):
    """Writes unit normals [N, 3] of placed points [N, 3] (y down); x right, y up, z to the viewer.

    Area-weighted over triangles [F, 3], which are counter-clockwise seen from outside.
    """
    normals[:] = 0
    for t in range(triangles.shape[0]):
        a, b, c = triangles[t, 0], triangles[t, 1], triangles[t, 2]
        ux, uy, uz = (
            points[b, 0] - points[a, 0],
            points[a, 1] - points[b, 1],
            points[b, 2] - points[a, 2],
        )
        vx, vy, vz = (
            points[c, 0] - points[a, 0],
            points[a, 1] - points[c, 1],
            points[c, 2] - points[a, 2],
        )
        nx, ny, nz = uy * vz - uz * vy, uz * vx - ux * vz, ux * vy - uy * vx
        for i in (a, b, c):
            normals[i, 0] += nx
            normals[i, 1] += ny
            normals[i, 2] += nz
    for v in range(normals.shape[0]):
        x, y, z = normals[v, 0], normals[v, 1], normals[v, 2]
        scale = 1 / (math.sqrt(x * x + y * y + z * z) + np.float32(1e-12))
        normals[v, 0] = x * scale
        normals[v, 1] = y * scale
        normals[v, 2] = z * scale


@_compiled
def _alpha(texture, u, v):
    """Alpha 0 to 1 of a texture uint8 [S, S, 4] at (u, v) in [0, 1], nearest texel."""
    size = texture.shape[0]
    column = min(max(int(u * size), 0), size - 1)
    row = min(max(int(v * size), 0), size - 1)
    return texture[row, column, 3] * _BYTE


@_compiled
def rasterize(
    points,
    triangles,
    first,
    last,
    two_sided,
    materials,
    uv,
    textures,
    coverage,
    soft,
    depth,
    index,
    weight_b,
    weight_c,
):
    """Draws triangles first..last into the z-buffer [H, W] in front of the given depth.

    Args:
        points: float32 [N, 3], column, row and depth (greater is nearer).
        triangles: int32 [F, 3].
        first, last: which of them to draw.
        two_sided: bool [F], drawn from behind too.
        materials, uv, textures, coverage: as in `Speaker`; what is opaque needs none of them.
        soft: leaves out samples that are all but transparent.
        depth, index, weight_b, weight_c: [H, W], written: depth, triangle (must hold -1 for none)
            and barycentric coordinates of its second and third corner there.
    """
    height, width = depth.shape
    for t in range(first, last):
        a, b, c = triangles[t, 0], triangles[t, 1], triangles[t, 2]
        x0, y0, z0 = points[a, 0], points[a, 1], points[a, 2]
        x1, y1, z1 = points[b, 0], points[b, 1], points[b, 2]
        x2, y2, z2 = points[c, 0], points[c, 1], points[c, 2]
        area = (x1 - x0) * (y2 - y0) - (x2 - x0) * (y1 - y0)
        # With y down, what faces the viewer has a negative area.
        if area == 0 or (area > 0 and not two_sided[t]):
            continue
        left = max(0, math.ceil(min(x0, x1, x2)))
        right = min(width - 1, math.floor(max(x0, x1, x2)))
        top = max(0, math.ceil(min(y0, y1, y2)))
        bottom = min(height - 1, math.floor(max(y0, y1, y2)))
        if left > right or top > bottom:
            continue
        inverse = np.float32(1) / area
        step_b, step_c = (y2 - y0) * inverse, (y0 - y1) * inverse
        for y in range(top, bottom + 1):
            below, across = np.float32(y) - y0, np.float32(left) - x0
            wb = (across * (y2 - y0) - (x2 - x0) * below) * inverse - step_b
            wc = ((x1 - x0) * below - across * (y1 - y0)) * inverse - step_c
            for x in range(left, right + 1):
                wb += step_b
                wc += step_c
                wa = np.float32(1) - wb - wc
                if wa < _EDGE_TOLERANCE or wb < _EDGE_TOLERANCE or wc < _EDGE_TOLERANCE:
                    continue
                z = wa * z0 + wb * z1 + wc * z2
                if z <= depth[y, x]:
                    continue
                if soft:
                    alpha = wa * coverage[a] + wb * coverage[b] + wc * coverage[c]
                    material = materials[t]
                    if material in (HAIR, CLOTH):
                        u = wa * uv[t, 0, 0] + wb * uv[t, 1, 0] + wc * uv[t, 2, 0]
                        v = wa * uv[t, 0, 1] + wb * uv[t, 1, 1] + wc * uv[t, 2, 1]
                        alpha *= _alpha(textures[material], u, v)
                    if alpha < (_MIN_HAIR_ALPHA if material == HAIR else _MIN_ALPHA):
                        continue
                depth[y, x] = z
                index[y, x] = t
                weight_b[y, x] = wb
                weight_c[y, x] = wc


class _Look(NamedTuple):
    """What shading needs: arrays as in `Speaker`; normals [N, 3] and access are of the frame."""

    triangles: np.ndarray
    uv: np.ndarray
    materials: np.ndarray
    normals: np.ndarray
    access: np.ndarray
    coverage: np.ndarray
    textures: np.ndarray
    colours: np.ndarray
    iris: np.ndarray
    lights: np.ndarray


@_compiled
def _fold(access, creases, strength, out):
    """out [N, 2] = the light access [N, 2] less what creases [N] of this strength keep away."""
    for v in range(access.shape[0]):
        left = _ONE - strength * creases[v]
        out[v, 0] = left * access[v, 0]
        out[v, 1] = left * access[v, 1]


@_compiled
def _clamp(value):
    return min(max(value, _ZERO), _ONE)


@_compiled
def _texel(texture, u, v, out):
    """Writes a texture uint8 [S, S, 4] at (u, v) in [0, 1] to out [4], 0 to 1, bilinear."""
    size = np.float32(texture.shape[0])
    last = size - np.float32(1.001)  # so that its right neighbour is in the texture
    fu = min(max(u * size - _HALF, _ZERO), last)
    fv = min(max(v * size - _HALF, _ZERO), last)
    iu, iv = int(fu), int(fv)
    fu, fv = fu - np.float32(iu), fv - np.float32(iv)
    w00, w01 = (_ONE - fu) * (_ONE - fv), fu * (_ONE - fv)
    w10, w11 = (_ONE - fu) * fv, fu * fv
    for k in range(4):
        out[k] = (
            w00 * texture[iv, iu, k]
            + w01 * texture[iv, iu + 1, k]
            + w10 * texture[iv + 1, iu, k]
            + w11 * texture[iv + 1, iu + 1, k]
        ) * _BYTE


@_compiled
def _eye(u, v, iris):
    """Colour of an eye at (u, v) of its chart, whose middle is the pupil's."""
    du, dv = u - _HALF, v - _HALF
    d = math.sqrt(du * du + dv * dv)
    # The sclera is duller and redder away from the iris.
    away = _clamp((d - IRIS_RADIUS) * np.float32(6))
    red = _SCLERA[0] - _SCLERA_LOSS[0] * away
    green = _SCLERA[1] - _SCLERA_LOSS[1] * away
    blue = _SCLERA[2] - _SCLERA_LOSS[2] * away
    inside = _clamp((IRIS_RADIUS - d) / _IRIS_EDGE)
    if inside > 0:
        ring = _clamp((d - _LIMBUS) * np.float32(60))
        # The cornea gathers light on one half of the iris.
        glow = np.float32(0.75) + _HALF * max(-dv, np.float32(-0.05)) / np.float32(0.07)
        tone = (_ONE - np.float32(0.6) * ring) * glow
        pupil = _clamp((PUPIL_RADIUS - d) / _IRIS_EDGE + _HALF)
        tone *= _ONE - np.float32(0.93) * pupil
        red += inside * (iris[0] * tone - red)
        green += inside * (iris[1] * tone - green)
        blue += inside * (iris[2] * tone - blue)
    return red, green, blue


@_compiled
def _highlight(cosine, gloss, sharp):
    """The light's mirror image, by the cosine between the normal and the direction half way."""
    if cosine <= _HIGHLIGHT_FROM or gloss <= 0:
        return _ZERO
    q = cosine * cosine
    q *= q
    q *= q
    wide = q  # power 8
    q *= q
    q *= q
    if sharp:
        q *= q
        q *= q
        return gloss * q  # power 128
    return gloss * (_WIDE_HIGHLIGHT * wide + _NARROW_HIGHLIGHT * q)


@_compiled
def _shade(t, wb, wc, look, out):
    """Writes linear RGB and alpha of one sample of triangle t to out [4].

    The sample lies at the weights wb and wc of the triangle's second and third corner.
    """
    normals, access, coverage, uv = look.normals, look.access, look.coverage, look.uv
    lights = look.lights
    wa = _ONE - wb - wc
    a, b, c = look.triangles[t, 0], look.triangles[t, 1], look.triangles[t, 2]
    nx = wa * normals[a, 0] + wb * normals[b, 0] + wc * normals[c, 0]
    ny = wa * normals[a, 1] + wb * normals[b, 1] + wc * normals[c, 1]
    nz = wa * normals[a, 2] + wb * normals[b, 2] + wc * normals[c, 2]
    scale = _ONE / (math.sqrt(nx * nx + ny * ny + nz * nz) + np.float32(1e-9))
    nx, ny, nz = nx * scale, ny * scale, nz * scale
    if nz < 0:
        nx, ny, nz = -nx, -ny, -nz
    u = wa * uv[t, 0, 0] + wb * uv[t, 1, 0] + wc * uv[t, 2, 0]
    v = wa * uv[t, 0, 1] + wb * uv[t, 1, 1] + wc * uv[t, 2, 1]
    ambient = wa * access[a, 0] + wb * access[b, 0] + wc * access[c, 0]
    key = wa * access[a, 1] + wb * access[b, 1] + wc * access[c, 1]
    alpha = wa * coverage[a] + wb * coverage[b] + wc * coverage[c]

    material = look.materials[t]
    gloss, wrap, redness = _ZERO, _WRAP, _ZERO
    if material <= CLOTH:
        _texel(look.textures[material], u, v, out)
        # Textures hold square roots of linear light, which wastes no steps on highlights.
        red, green, blue = out[0] * out[0], out[1] * out[1], out[2] * out[2]
        if material <= BODY:
            gloss = out[3] * _SKIN_GLOSS
            wrap, redness = _SKIN_WRAP, _SKIN_REDNESS
        elif material == HAIR:
            alpha *= out[3]
            gloss = _HAIR_GLOSS[0] * (red + green + blue) + _HAIR_GLOSS[1]
            wrap = _HAIR_WRAP
        else:
            alpha *= out[3]
            wrap = _CLOTH_WRAP
    elif material == EYE:
        red, green, blue = _eye(u, v, look.iris)
        gloss = _EYE_GLOSS
    else:
        colours = look.colours
        red, green, blue = colours[material, 0], colours[material, 1], colours[material, 2]
        if material == TEETH:
            gloss = _TEETH_GLOSS
            nx, ny = _TEETH_FLATNESS[0] * nx, _TEETH_FLATNESS[1] * ny
            nz = math.sqrt(_ONE - nx * nx - ny * ny)
        elif material == TONGUE:
            gloss = _TONGUE_GLOSS
        elif material == FRAME:
            gloss = _FRAME_GLOSS

    # Rows of the lights: direction and colour of the key, of the fill, colour of the ambient.
    lx, ly, lz = lights[0, 0], lights[0, 1], lights[0, 2]
    facing = nx * lx + ny * ly + nz * lz
    direct_red = max(_ZERO, (facing + wrap + redness) / (_ONE + wrap + redness)) * key
    direct = max(_ZERO, (facing + wrap) / (_ONE + wrap)) * key
    fill = max(_ZERO, nx * lights[2, 0] + ny * lights[2, 1] + nz * lights[2, 2]) * ambient
    sky = ambient * (np.float32(0.7) + np.float32(0.3) * ny)
    # Light inside the skin: what is occluded turns red in place of black.
    sky_red = sky + redness * _HALF * (_ONE - ambient) * ambient
    hx, hy, hz = lx, ly, lz + _ONE
    half = _ONE / math.sqrt(hx * hx + hy * hy + hz * hz)
    highlight = _highlight((nx * hx + ny * hy + nz * hz) * half, gloss, material == EYE) * key
    # Light that grazes the outline, as skin, hair and cloth have a sheen there.
    graze = (_ONE - nz) * (_ONE - nz)
    sheen = _SHEEN * graze * graze * ambient * (_ONE if material <= CLOTH else _ZERO)
    out[0] = red * (direct_red * lights[1, 0] + fill * lights[3, 0] + sky_red * lights[4, 0])
    out[1] = green * (direct * lights[1, 1] + fill * lights[3, 1] + sky * lights[4, 1])
    out[2] = blue * (direct * lights[1, 2] + fill * lights[3, 2] + sky * lights[4, 2])
    out[0] += highlight * lights[1, 0] + sheen
    out[1] += highlight * lights[1, 1] + sheen
    out[2] += highlight * lights[1, 2] + sheen
    out[3] = _clamp(alpha)


@_compiled
def _same_triangle(index, weight_b, weight_c, top, left, oversampling):
    """Whether all samples of a pixel lie in one triangle; its index and mean barycentrics there.

    Of the two layers [2, H, W] the soft one must be empty.
    """
    t = index[0, top, left]
    wb, wc = _ZERO, _ZERO
    for r in range(top, top + oversampling):
        for s in range(left, left + oversampling):
            if index[0, r, s] != t or index[1, r, s] >= 0:
                return False, t, wb, wc
            wb += weight_b[0, r, s]
            wc += weight_c[0, r, s]
    share = np.float32(1 / oversampling**2)
    return True, t, wb * share, wc * share


@_compiled
def _mean_of_samples(
    index, weight_b, weight_c, top, left, oversampling, look, backdrop, colour, total
):
    """Writes the mean colour of a pixel's samples, soft over opaque over backdrop, to total [3]."""
    share = np.float32(1 / oversampling**2)
    total[:] = 0
    for r in range(top, top + oversampling):
        for s in range(left, left + oversampling):
            red, green, blue = backdrop[0], backdrop[1], backdrop[2]
            for layer in range(2):
                t = index[layer, r, s]
                if t < 0:
                    continue
                _shade(t, weight_b[layer, r, s], weight_c[layer, r, s], look, colour)
                alpha = colour[3] if layer == 1 else _ONE
                red += alpha * (colour[0] - red)
                green += alpha * (colour[1] - green)
                blue += alpha * (colour[2] - blue)
            total[0] += share * red
            total[1] += share * green
            total[2] += share * blue


@_compiled
def _render_frames(
    rest,
    head_share,
    access,
    num_opaque,
    two_sided,
    look,
    moved,
    directions,
    creases,
    expression,
    dimple,
    pose,
    background,
    oversampling,
    table,
    table_steps,
    out,
):
    """Draws all frames of a clip; arrays as in `Speaker`, out uint8 [T, H, W, 3]."""
    frames, height, width = out.shape[0], out.shape[1], out.shape[2]
    rows, columns = height * oversampling, width * oversampling
    triangles = look.triangles
    depth = np.empty((rows, columns), np.float32)
    # Two layers: the opaque triangles, and the soft ones before them.
    index = np.empty((2, rows, columns), np.int32)
    weight_b = np.empty((2, rows, columns), np.float32)
    weight_c = np.empty((2, rows, columns), np.float32)
    vertices, points = np.empty_like(rest), np.empty_like(rest)
    head, trunk = np.empty((3, 3), np.float32), np.empty((3, 3), np.float32)
    colour = np.empty(4, np.float32)
    total = np.empty(3, np.float32)
    for frame in range(frames):
        _deform(rest, moved, directions, expression[frame], vertices)
        _place(vertices, head_share, pose[frame], head, trunk, oversampling, points)
        vertex_normals(points, triangles, look.normals)
        _fold(access, creases, dimple[frame], look.access)
        depth[:] = _FAR
        index[:] = -1
        # Two calls with a constant each: numba compiles the opaque one without its soft branch.
        rasterize(
            points,
            triangles,
            0,
            num_opaque,
            two_sided,
            look.materials,
            look.uv,
            look.textures,
            look.coverage,
            False,
            depth,
            index[0],
            weight_b[0],
            weight_c[0],
        )
        rasterize(
            points,
            triangles,
            num_opaque,
            triangles.shape[0],
            two_sided,
            look.materials,
            look.uv,
            look.textures,
            look.coverage,
            True,
            depth,
            index[1],
            weight_b[1],
            weight_c[1],
        )
        for y in range(height):
            for x in range(width):
                top, left = y * oversampling, x * oversampling
                uniform, t, wb, wc = _same_triangle(
                    index, weight_b, weight_c, top, left, oversampling
                )
                if not uniform:
                    _mean_of_samples(
                        index,
                        weight_b,
                        weight_c,
                        top,
                        left,
                        oversampling,
                        look,
                        background[y, x],
                        colour,
                        total,
                    )
                elif t < 0:
                    total[:] = background[y, x]
                else:
                    # Inside a triangle one sample is as good as all.
                    _shade(t, wb, wc, look, colour)
                    total[:] = colour[:3]
                for k in range(3):
                    step = int(total[k] * table_steps + _HALF)
                    out[frame, y, x, k] = table[min(max(step, 0), table.shape[0] - 1)]


@functools.cache
def _expression_directions() -> tuple[np.ndarray, np.ndarray]:
    """Vertices that any expression moves, int32 [M], and their directions, float32 [E, M, 3]."""
    directions = np.asarray(load_default().expression)
    moved = np.flatnonzero(np.abs(directions).max(axis=(1, 2)) > 1e-6).astype(np.int32)
    return moved, np.ascontiguousarray(np.moveaxis(directions[moved], -1, 0))


@functools.cache
def _dimple_weights() -> np.ndarray:
    """float32 [E]: expression coefficients times these are the strength of the dimpler, AU14."""
    model = load_default()
    inverse = np.linalg.inv(model.units_to_expression.astype(np.float64))
    return inverse[:, model.unit_names.index("mouthDimple")].astype(np.float32)


def _dimple(expression: np.ndarray) -> np.ndarray:
    """How deep the dimpler's creases are, 0 to 1, float32 [T], for expression [T, E]."""
    slack = 1 - np.clip(expression @ _dimple_weights(), 0, 1)
    # The skin folds early: a slight pull is seen.
    return 1 - slack**2


def _clip(expression: np.ndarray, pose: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Checks a clip's coefficients: float32 [T, E] and [T, 6].

    Raises:
        ValueError: other shapes, or not as many frames of one as of the other.
    """
    expression = np.ascontiguousarray(expression, np.float32)
    pose = np.ascontiguousarray(pose, np.float32)
    size = load_default().expression.shape[-1]
    if expression.ndim != 2 or expression.shape[1] != size:
        raise ValueError(f"expression has the shape {expression.shape}, not [T, {size}]")
    if pose.shape != (len(expression), 6):
        raise ValueError(f"pose has the shape {pose.shape}, not [{len(expression)}, 6]")
    return expression, pose


class Renderer:
    """Draws clips of one size.

    Args:
        image_size: (H, W) in pixels.
        oversampling: samples along each side of a pixel, at least 1.
    """

    def __init__(self, image_size: tuple[int, int] = (128, 96), oversampling: int = 2) -> None:
        if min(image_size) < 1 or oversampling < 1:
            raise ValueError(f"cannot render {image_size} pixels of {oversampling} samples a side")
        self.image_size = image_size
        self.oversampling = oversampling

    def render(self, speaker: "Speaker", expression: np.ndarray, pose: np.ndarray) -> np.ndarray:
        """Pictures of a speaker.

        Args:
            speaker: who, see `appearance.make_speaker`.
            expression: [T, 29], coefficients of the face model.
            pose: [T, 6], pitch, yaw, roll, x, y, scale as in `face_model.model.transform`.

        Returns:
            uint8 [T, H, W, 3], RGB.

        Raises:
            ValueError: coefficients of another shape.
        """
        expression, pose = _clip(expression, pose)
        moved, directions = _expression_directions()
        frames = np.empty((len(pose), *self.image_size, 3), np.uint8)
        look = _Look(
            triangles=speaker.triangles,
            uv=speaker.uv,
            materials=speaker.materials,
            normals=np.empty_like(speaker.vertices),
            access=np.empty_like(speaker.access),
            coverage=speaker.coverage,
            textures=speaker.textures,
            colours=speaker.colours,
            iris=speaker.iris,
            lights=speaker.lights,
        )
        _render_frames(
            speaker.vertices,
            speaker.head_share,
            speaker.access,
            speaker.num_opaque,
            speaker.two_sided,
            look,
            moved,
            directions,
            speaker.creases,
            expression,
            _dimple(expression),
            pose,
            self._background(speaker.background),
            self.oversampling,
            _SRGB,
            _SRGB_STEPS,
            frames,
        )
        return frames

    def _background(self, background: np.ndarray) -> np.ndarray:
        """The middle of a background [h, w, 3] in the picture's proportions, at its size."""
        height, width = self.image_size
        h, w = background.shape[:2]
        scale = max(height / h, width / w)
        rows, columns = min(h, round(height / scale)), min(w, round(width / scale))
        top, left = (h - rows) // 2, (w - columns) // 2
        middle = background[top : top + rows, left : left + columns]
        resized = cv2.resize(middle, (width, height), interpolation=cv2.INTER_LINEAR)
        return np.ascontiguousarray(resized, np.float32)


def landmarks_3d(speaker: "Speaker", expression: np.ndarray) -> np.ndarray:
    """The 68 landmarks before any pose: float32 [T, 68, 3], dm, for expression [T, 29]."""
    model = load_default()
    points = model.landmarks
    moved = np.einsum("vik,tk->tvi", model.expression[points], np.asarray(expression, np.float32))
    return speaker.vertices[points] + moved


def rotations(angles: np.ndarray) -> np.ndarray:
    """R_z(roll) R_y(yaw) R_x(pitch) of angles [..., 3] (pitch, yaw, roll), radians: [..., 3, 3]."""
    sx, sy, sz = np.moveaxis(np.sin(angles), -1, 0)
    cx, cy, cz = np.moveaxis(np.cos(angles), -1, 0)
    rows = [
        [cz * cy, cz * sy * sx - sz * cx, cz * sy * cx + sz * sx],
        [sz * cy, sz * sy * sx + cz * cx, sz * sy * cx - cz * sx],
        [-sy, cy * sx, cy * cx],
    ]
    return np.stack([np.stack(row, axis=-1) for row in rows], axis=-2)


def landmarks(speaker: "Speaker", expression: np.ndarray, pose: np.ndarray) -> np.ndarray:
    """Where the 68 landmarks of the model lie in the rendered frames, exactly.

    Args:
        speaker, expression [T, 29], pose [T, 6]: as in `Renderer.render`.

    Returns:
        float32 [T, 68, 2], pixels (x, y).

    Raises:
        ValueError: coefficients of another shape.
    """
    expression, pose = _clip(expression, pose)
    turned = landmarks_3d(speaker, expression) @ np.swapaxes(rotations(pose[:, :3]), -1, -2)
    scale = pose[:, None, 5:] * np.array([1, -1], np.float32)
    return (scale * turned[..., :2] + pose[:, None, 3:5]).astype(np.float32)


def aligned_pose(
    speaker: "Speaker",
    expression: np.ndarray,
    angles: np.ndarray,
    image_size: tuple[int, int] = (128, 96),
    target: np.ndarray | None = None,
) -> np.ndarray:
    """Poses that put the stable points on those of an aligned crop, as `faces.align` would.

    Args:
        speaker: who.
        expression: [T, 29].
        angles: [T, 2], pitch and yaw in radians; roll, position and scale follow.
        image_size: (H, W) of the crop.
        target: [5, 2], where the `STABLE_POINTS` shall lie; `canonical_points(image_size)` by
            default.

    Returns:
        float32 [T, 6].
    """
    angles = np.asarray(angles, np.float32)
    pose = np.zeros((len(angles), 6), np.float32)
    pose[:, :2], pose[:, 5] = angles, 1
    points = landmarks(speaker, expression, pose)[:, STABLE_POINTS]
    matrix = similarity_transform(
        points, canonical_points(image_size) if target is None else target
    )
    # With y down a roll turns the other way than in the plane of the similarity.
    pose[:, 2] = -np.arctan2(matrix[:, 1, 0], matrix[:, 0, 0])
    pose[:, 3:5] = matrix[:, :, 2]
    pose[:, 5] = np.hypot(matrix[:, 0, 0], matrix[:, 1, 0])
    return pose


_PORTRAIT_EYES = (0.235, 0.42)  # distance of the outer corners / width, their height / height


def portrait_pose(speaker: "Speaker", image_size: tuple[int, int]) -> np.ndarray:
    """The pose float32 [6] of a face seen from the front, with head and shoulders in the image."""
    height, width = image_size
    distance, level = _PORTRAIT_EYES
    corners = speaker.vertices[load_default().landmarks[[36, 45]], :2]
    scale = distance * width / np.linalg.norm(corners[1] - corners[0])
    x, y = corners.mean(axis=0)
    position = (0.5 * width - scale * x, level * height + scale * y)
    return np.array([0, 0, 0, *position, scale], np.float32)

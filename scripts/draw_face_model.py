"""Draws docs/pictures/face_model.png: samples of the default face model, units and landmarks.

    python scripts/draw_face_model.py --out docs/pictures/face_model.png

A plain software renderer: a z-buffer over the triangles in NumPy, smooth normals, one light. It
is for looking at the model, not for making data.
"""

import argparse
from pathlib import Path

import cv2
import numpy as np

from flax_talk.face_model import model as face

SIZE = 224  # pixels, of one picture
SCALE = 80.0  # pixels per dm
ORIGIN = (SIZE / 2, 0.5 * SIZE)  # of the head in the picture
OVERSAMPLING = 2
BACKGROUND = (236, 238, 242)
LIGHT = np.array([-0.35, 0.45, 0.82])
COLOURS = {
    "skin": (205, 160, 135),
    "neck": (205, 160, 135),
    "ears": (205, 160, 135),
    "eyelids": (196, 146, 122),
    "scalp": (205, 160, 135),
    "brows": (205, 160, 135),
    "lips": (182, 96, 90),
    "eyes": (235, 233, 228),
    "upper_teeth": (248, 240, 225),
    "lower_teeth": (240, 232, 216),
    "tongue": (190, 95, 95),
    "mouth_cavity": (110, 40, 42),
}
HAIR = (74, 56, 46)
BROW_WIDTH = 0.028  # dm, from the line through the landmarks to the edge
IRIS, PUPIL = (96, 70, 44), (18, 14, 12)
# Angles seen from the centre of the eyeball, as shares of the half turn that the chart spans.
IRIS_ANGLE, PUPIL_ANGLE = 0.145, 0.06
UNITS = [
    {"jawOpen": 0.3},
    {"jawOpen": 0.8},
    {"mouthPucker": 0.9},
    {"mouthFunnel": 0.7, "jawOpen": 0.2},
    {"mouthSmileLeft": 0.9, "mouthSmileRight": 0.9},
    {"mouthStretch": 0.7, "mouthLowerDown": 0.6, "jawOpen": 0.1},
    {"mouthUpperUp": 0.9},
    {"mouthRollLower": 0.6, "mouthUpperUp": 0.4, "jawOpen": 0.1},
    {"mouthPress": 1.0, "mouthDimple": 0.6},
    {"eyeBlinkLeft": 1.0, "eyeBlinkRight": 1.0},
    {"eyeBlinkLeft": 1.0},
    {"browInnerUp": 1.0, "browOuterUpLeft": 1.0, "browOuterUpRight": 1.0},
    {"browDown": 1.0, "noseSneer": 0.5},
    {"jawSide": 0.7},
]


def vertex_normals(vertices: np.ndarray, triangles: np.ndarray) -> np.ndarray:
    """Unit normals [V, 3] of vertices [V, 3], outward."""
    a, b, c = (vertices[triangles[:, i]] for i in range(3))
    across = np.cross(b - a, c - a)
    normals = np.zeros_like(vertices)
    for i in range(3):
        np.add.at(normals, triangles[:, i], across)
    return normals / np.maximum(np.linalg.norm(normals, axis=1, keepdims=True), 1e-9)


def hair_share(model: face.FaceModel) -> np.ndarray:
    """How far each vertex belongs to the scalp, 0 to 1: softens the steps of the triangles, [V]."""
    total, scalp = np.zeros((2, len(model.mean)))
    np.add.at(total, model.triangles, 1)
    np.add.at(scalp, model.triangles[model.part_mask("scalp")], 1)
    return scalp / total


def brow_distance(model: face.FaceModel, points: np.ndarray) -> np.ndarray:
    """Distance of points [..., 3] of the mean face from the middle of a brow, dm: [...].

    The brows run along their landmarks: the triangles are too coarse to show them.
    """
    distance = np.full(points.shape[:-1], np.inf)
    marks = model.mean[model.landmarks]
    for i in (*range(17, 21), *range(22, 26)):
        start, along = marks[i], marks[i + 1] - marks[i]
        share = np.clip((points - start) @ along / (along @ along), 0, 1)[..., None]
        distance = np.minimum(distance, np.linalg.norm(points - start - share * along, axis=-1))
    return distance


def render(model: face.FaceModel, vertices: np.ndarray, pose: np.ndarray) -> np.ndarray:
    """Draws the face.

    Args:
        model: the face model.
        vertices: [V, 3], dm.
        pose: [6], in pixels of the picture; see `flax_talk.face_model.model.transform`.

    Returns:
        RGB uint8 [SIZE, SIZE, 3].
    """
    size = SIZE * OVERSAMPLING
    drawn = ~model.part_mask("lashes")  # Opaque cards: they need a texture with transparency.
    triangles, parts = model.triangles[drawn], model.parts[drawn]
    is_eye = model.part_mask("eyes")[drawn]
    uv = model.uv[model.uv_triangles[drawn]]
    points = np.array(face.transform(vertices, pose)) * OVERSAMPLING
    # Pixel centres of the larger picture lie half a pixel off those of the small one.
    points[:, :2] += (OVERSAMPLING - 1) / 2
    normals = vertex_normals(points * [1, -1, 1], triangles)
    colours = np.array([COLOURS.get(name, (0, 0, 0)) for name in model.part_names], float)
    hair = hair_share(model)
    near_brow = brow_distance(model, model.mean[triangles].mean(axis=1)) < 4 * BROW_WIDTH
    light = LIGHT / np.linalg.norm(LIGHT)
    shade = 0.38 + 0.62 * np.clip((normals @ light + 0.25) / 1.25, 0, 1)
    # What lies inside the mouth gets little light: darker with the depth behind the teeth.
    inner = model.part_vertices("mouth_cavity", "tongue", "upper_teeth", "lower_teeth")
    shade[inner] *= np.clip((vertices[inner, 2] - 0.05) / 0.5, 0.2, 1)
    shade[inner] *= np.clip(1 - (vertices[inner, 0] / 0.33) ** 2, 0.2, 1)

    image = np.full((size, size, 3), BACKGROUND, float)
    nearest = np.full((size, size), -np.inf)
    for i, triangle in enumerate(triangles):
        (x0, y0, _), (x1, y1, _), (x2, y2, _) = corners = points[triangle]
        area = (x1 - x0) * (y2 - y0) - (x2 - x0) * (y1 - y0)
        left, top = np.maximum(np.ceil(corners[:, :2].min(axis=0)), 0).astype(int)
        right, bottom = np.floor(np.minimum(corners[:, :2].max(axis=0), size - 1)).astype(int)
        # Seen from behind, as y points down; or without a pixel's centre inside its box.
        if area >= 0 or right < left or bottom < top:
            continue
        y, x = np.mgrid[top : bottom + 1, left : right + 1]
        w1 = ((x - x0) * (y2 - y0) - (x2 - x0) * (y - y0)) / area
        w2 = ((x1 - x0) * (y - y0) - (x - x0) * (y1 - y0)) / area
        weights = np.stack([1 - w1 - w2, w1, w2], axis=-1)
        depth = weights @ corners[:, 2]
        window = (slice(top, bottom + 1), slice(left, right + 1))
        visible = (weights >= -1e-6).all(axis=-1) & (depth > nearest[window])
        colour = np.broadcast_to(colours[parts[i]], (*depth.shape, 3)).copy()
        if hair[triangle].any():
            mixed = np.clip(4 * (weights @ hair[triangle]) - 1.5, 0, 1)[..., None]
            colour = colours[0] + mixed * (np.array(HAIR) - colours[0])
        if near_brow[i]:
            distance = brow_distance(model, weights @ model.mean[triangle])
            on_brow = np.clip(2.5 * (1 - distance / BROW_WIDTH), 0, 1)[..., None]
            colour = colour + on_brow * (np.array(HAIR) - colour)
        if is_eye[i]:
            angle = 2 * np.linalg.norm(weights @ uv[i] - 0.5, axis=-1)
            colour[angle < IRIS_ANGLE] = IRIS
            colour[angle < PUPIL_ANGLE] = PUPIL
        colour *= (weights @ shade[triangle])[..., None]
        nearest[window][visible] = depth[visible]
        image[window][visible] = colour[visible]
    image = cv2.resize(image, (SIZE, SIZE), interpolation=cv2.INTER_AREA)
    return np.clip(np.rint(image), 0, 255).astype(np.uint8)


def sheet(model: face.FaceModel) -> np.ndarray:
    """The whole picture, RGB uint8: geometry, expression units, then poses and landmarks."""
    random = np.random.default_rng(3)
    nobody = np.zeros(len(model.geometry_deviation))

    def draw(geometry=nobody, angles=(0, 0, 0), marks=False, **units):
        pose = np.array([*angles, *ORIGIN, SCALE])
        e = face.expression_from_units(model, model.unit_weights(**units))
        picture = render(model, np.array(face.reconstruct(model, geometry, e)), pose)
        if marks:
            for x, y in np.array(face.projected_landmarks(model, geometry, e, pose)):
                # In 1/16 of a pixel.
                center = (round(16 * float(x)), round(16 * float(y)))
                cv2.circle(picture, center, 24, (20, 150, 60), -1, cv2.LINE_AA, 4)
        return picture

    someone = random.normal(size=len(nobody))
    pictures = [draw(), *(draw(random.normal(size=len(nobody))) for _ in range(6))]
    pictures += [draw(**units) for units in UNITS]
    pictures += [
        draw(marks=True),
        draw(marks=True, jawOpen=0.5),
        draw(marks=True, eyeBlinkLeft=1.0, eyeBlinkRight=1.0),
        draw(someone, marks=True),
        draw(someone, (0.0, 0.5, 0.0), marks=True),
        draw(someone, (0.3, 0.0, 0.0), jawOpen=0.4),
        draw(someone, (0.0, -0.9, 0.0)),
    ]
    rows = [np.hstack(pictures[i : i + 7]) for i in range(0, len(pictures), 7)]
    return np.vstack(rows)


def main() -> None:
    parser = argparse.ArgumentParser(description="Draws samples of the default face model.")
    parser.add_argument("--out", type=Path, required=True, help="the .png to write")
    args = parser.parse_args()
    picture = sheet(face.load_default())
    cv2.imwrite(str(args.out), picture[..., ::-1], [cv2.IMWRITE_PNG_COMPRESSION, 9])


if __name__ == "__main__":
    main()

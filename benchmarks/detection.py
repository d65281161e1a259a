"""How well dlib finds the rendered faces, and how far its landmarks are from the exact ones.

    python benchmarks/detection.py --speakers 100

One frame of each speaker with a random expression and pose. Prints a table; errors are mean
distances over the distance of the outer eye corners.
"""

import argparse

import numpy as np
from tqdm import tqdm

from flax_talk.face_model.model import load_default
from input_pipeline.faces import get_detector
from input_pipeline.synthetic.appearance import make_speaker
from input_pipeline.synthetic.renderer import Renderer, aligned_pose, landmarks, portrait_pose

GROUPS = {
    "jaw": slice(0, 17),
    "brows": slice(17, 27),
    "nose": slice(27, 36),
    "eyes": slice(36, 48),
    "mouth": slice(48, 68),
}
SPEECH = ("jawOpen", "mouthStretch", "mouthLowerDown", "mouthPucker", "browInnerUp")


def main() -> None:
    """Prints one row for each framing."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--speakers", type=int, default=100, help="how many")
    count = parser.parse_args().speakers
    print(f"| framing | H x W | found | {' | '.join(GROUPS)} |\n|{'---|' * (3 + len(GROUPS))}")
    for framing, size in (("aligned", (128, 96)), ("portrait", (256, 256))):
        found, errors = detect(framing, size, count)
        cells = " | ".join(f"{errors[:, group].mean():.3f}" for group in GROUPS.values())
        print(f"| {framing} | {size[0]} x {size[1]} | {found} of {count} | {cells} |", flush=True)


def detect(framing: str, size: tuple[int, int], count: int) -> tuple[int, np.ndarray]:
    """Faces found exactly once, and errors [N, 68] of the landmarks in those."""
    model, renderer, detector = load_default(), Renderer(size), get_detector("dlib")
    errors = []
    for seed in tqdm(range(count), desc=framing):
        rng = np.random.default_rng([seed, 1])
        speaker = make_speaker(seed)
        units = {name: rng.uniform(0, 0.5) for name in SPEECH}
        expression = (model.unit_weights(**units) @ model.units_to_expression)[None]
        angles = rng.normal(0, (0.06, 0.15, 0.05))
        if framing == "aligned":
            pose = aligned_pose(speaker, expression, angles[None, :2], size)
        else:
            pose = portrait_pose(speaker, size)[None]
            pose[:, :3] = angles
        faces = detector(renderer.render(speaker, expression, pose)[0])
        if len(faces) == 1:
            exact = landmarks(speaker, expression, pose)[0]
            distance = np.linalg.norm(faces[0].landmarks - exact, axis=-1)
            errors.append(distance / np.linalg.norm(exact[45] - exact[36]))
    return len(errors), np.array(errors)


if __name__ == "__main__":
    main()

"""How fast and how well the face model is fitted to landmarks, against the exact truth.

    python benchmarks/fitting.py --clips 20

Rendered people who speak, of `synthetic_grid`: as its aligned crops, and as portraits whose heads
turn by 30 degrees. Then recordings, if there are any: `--videos 'grid/*/*.mpg'`. Prints a table.
Errors of expression are in standard deviations, on average over the coefficients; "centred" is
without their mean over the clip, which geometry can explain as well; the mouth is where its 20
landmarks are, against the exact ones. The first clip, which compiles, is not timed.
"""

import argparse
import glob
import time

import numpy as np
from tqdm import tqdm

from flax_talk.face_model import model as face
from flax_talk.face_model.fit import INNER, fit
from input_pipeline import faces, media
from input_pipeline.datasets.synthetic_grid import RenderedClip, SyntheticGrid, render_clip
from input_pipeline.synthetic.appearance import make_speaker
from input_pipeline.synthetic.renderer import Renderer, landmarks, portrait_pose

ANGLE = np.radians(30)
COLUMNS = (
    "landmarks | frames/s | reprojection px | expression | centred | correlation | pitch | yaw | "
    "roll | mouth px"
)


def main() -> None:
    """Prints one row for each kind of landmarks, and one for the recordings."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--clips", type=int, default=20, help="of each kind, at least 2")
    parser.add_argument("--videos", metavar="GLOB", help="recordings of one face each")
    parser.add_argument("--detect", action="store_true", help="find landmarks in portraits, too")
    args = parser.parse_args()
    print(f"| {COLUMNS} |\n|{'---|' * (COLUMNS.count('|') + 1)}")
    truths = {
        "aligned 128x96": [aligned(i) for i in tqdm(range(args.clips), desc="speak")],
        "portrait 256x256, 30 degrees": [],
    }
    truths["portrait 256x256, 30 degrees"] = [
        turned(truth, i) for i, truth in enumerate(truths["aligned 128x96"])
    ]
    for name, clips in truths.items():
        for noise in (0.0, 0.5, 1.0):
            row = measure([with_noise(clip, noise, i) for i, clip in enumerate(clips)])
            print(f"| {name}, {noise:g} px noise | {row} |", flush=True)
    if args.detect:
        found = [detected(clip, i) for i, clip in enumerate(tqdm(clips, desc="detect"))]
        row = measure([clip for clip in found if clip is not None])
        print(f"| {name}, detected by dlib | {row} |", flush=True)
    if args.videos:
        print(recordings(sorted(glob.glob(args.videos))[: args.clips]), flush=True)


def aligned(number: int) -> dict[str, np.ndarray]:
    """Truth of a sentence of one speaker."""
    config = SyntheticGrid.builder_configs["default"]
    example = render_clip(RenderedClip(config, number + 1, 0))
    return {name: example[name] for name in ("geometry", "expression", "pose", "landmarks")}


def turned(truth: dict[str, np.ndarray], number: int) -> dict[str, np.ndarray]:
    """The same expressions on another head that turns to 30 degrees in pitch and in yaw."""
    speaker, length = make_speaker(number), len(truth["expression"])
    phase = np.linspace(0, 2 * np.pi, length)
    pose = np.tile(portrait_pose(speaker, (256, 256)), (length, 1))
    pose[:, 0], pose[:, 1] = ANGLE * np.sin(phase), ANGLE * np.cos(phase)
    points = landmarks(speaker, truth["expression"], pose)
    return {**truth, "geometry": speaker.geometry, "pose": pose, "landmarks": points}


def with_noise(truth: dict[str, np.ndarray], noise: float, seed: int) -> dict[str, np.ndarray]:
    """Adds "given" landmarks, `noise` pixels (RMS distance) from the exact ones."""
    error = np.random.default_rng(seed).normal(0, noise / np.sqrt(2), truth["landmarks"].shape)
    return {**truth, "given": truth["landmarks"] + error.astype(np.float32)}


def detected(truth: dict[str, np.ndarray], number: int) -> dict[str, np.ndarray] | None:
    """Adds "given" landmarks that dlib finds in the drawn frames; None if it does not."""
    frames = Renderer((256, 256)).render(make_speaker(number), truth["expression"], truth["pose"])
    try:
        return {**truth, "given": faces.detect_video(frames, faces.get_detector())}
    except faces.ClipError:
        return None


def measure(clips: list[dict[str, np.ndarray]]) -> str:
    """Cells of a row."""
    model = face.load_default()
    fit(model, clips[0]["given"])
    rows = []
    for clip in clips:
        start = time.perf_counter()
        found = fit(model, clip["given"])
        seconds = time.perf_counter() - start
        true, ours = clip["expression"], found.expression
        error = ours - true
        mouth = face.mouth_landmarks(model, *found[:3]) - clip["landmarks"][:, face.MOUTH]
        angles = np.degrees(np.abs(found.pose - clip["pose"])[:, :3])
        rows.append(
            [
                seconds / len(true),
                found.error.mean(),
                np.abs(error).mean(),
                np.abs(error - error.mean(axis=0)).mean(),
                np.corrcoef(true.ravel(), ours.ravel())[0, 1],
                *angles.mean(axis=0),
                np.linalg.norm(mouth, axis=-1).mean(),
            ]
        )
    seconds, *others = np.mean(rows, axis=0)
    return " | ".join([f"{1 / seconds:.0f}", *(f"{value:.2f}" for value in others)])


def recordings(paths: list[str]) -> str:
    """Reprojection errors of recordings."""
    model = face.load_default()
    errors, inner, mouth = [], [], []
    for path in tqdm(paths, desc="recordings"):
        points = faces.detect_video(media.read_video(path).frames, faces.get_detector())
        found = fit(model, points)
        away = np.square(face.projected_landmarks(model, *found[:3]) - points).sum(axis=-1)
        errors.append(found.error.mean())
        inner.append(away[:, INNER].mean())
        mouth.append(away[:, face.MOUTH].mean())
    return (
        f"{len(paths)} recordings: RMS {np.sqrt(np.mean(inner)):.2f} px over landmarks 17 to 67, "
        f"worst clip {max(errors):.2f}, mouth {np.sqrt(np.mean(mouth)):.2f}"
    )


if __name__ == "__main__":
    main()

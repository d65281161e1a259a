"""Draws the pictures of docs/synthetic_grid.md: speakers, a sentence, visemes, landmarks.

    python scripts/draw_synthetic_grid.py --out docs/pictures

Needs the extras `speech` and `dlib`. Everything shown is rendered here, from the seeds of the
`default` config.
"""

import argparse
from pathlib import Path

import cv2
import numpy as np

from flax_talk.face_model.model import load_default
from input_pipeline import faces, media
from input_pipeline.datasets.synthetic_grid import (
    RenderedClip,
    SyntheticGrid,
    corpus_speaker,
    render_clip,
)
from input_pipeline.synthetic.articulation import VISEMES
from input_pipeline.synthetic.renderer import Renderer, aligned_pose, landmarks, portrait_pose

INK = (40, 40, 40)
PAPER = 255


def main() -> None:
    """Writes the four pictures."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path("docs/pictures"), help="folder")
    out = parser.parse_args().out
    out.mkdir(parents=True, exist_ok=True)
    pictures = {
        "speakers.jpg": draw_speakers,
        "sentence.jpg": draw_sentence,
        "visemes.jpg": draw_visemes,
        "landmarks.jpg": draw_landmarks,
    }
    for name, draw in pictures.items():
        path = out / f"synthetic_grid_{name}"
        cv2.imwrite(str(path), draw()[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 88])
        print(path)


def draw_speakers(count: int = 20, columns: int = 10) -> np.ndarray:
    """All speakers of the default config, as portraits and below as aligned crops."""
    portrait, aligned = Renderer((192, 192)), Renderer((128, 96))
    tiles = []
    for number in range(1, count + 1):
        speaker, _ = corpus_speaker(0, number)
        rest = np.zeros((1, 29), np.float32)
        big = portrait.render(speaker, rest, portrait_pose(speaker, (192, 192))[None])[0]
        small = aligned.render(speaker, rest, aligned_pose(speaker, rest, np.zeros((1, 2))))[0]
        small = cv2.resize(small, (192, 256), interpolation=cv2.INTER_CUBIC)
        tiles.append(np.concatenate([_label(big, f"r{number}"), small]))
    rows = [np.concatenate(tiles[i : i + columns], axis=1) for i in range(0, count, columns)]
    return cv2.resize(np.concatenate(rows), None, fx=0.7, fy=0.7, interpolation=cv2.INTER_AREA)


def draw_sentence(speaker: int = 17, sentence: int = 0, every: int = 4) -> np.ndarray:
    """A strip of one sentence: frames, the sound, and what is known of them."""
    clip = render_clip(RenderedClip(SyntheticGrid.builder_configs["default"], speaker, sentence))
    frames = media.decode_frames(clip["video"])[::every]
    strip = np.concatenate([cv2.resize(f, (96, 128)) for f in frames], axis=1)
    width, seconds = strip.shape[1], len(clip["video"]) / 25
    scale = width / (len(frames) * every / 25)
    sound = np.full((70, width, 3), PAPER, np.uint8)
    levels = np.abs(clip["waveform"].astype(float))
    step = len(levels) / seconds / scale
    for x in range(min(width, int(len(levels) / step))):
        height = int(32 * levels[int(x * step) : int((x + 1) * step)].max() / levels.max())
        sound[35 - height : 36 + height, x] = (90, 130, 180)
    rows = [strip, sound]
    rows += [_segments(clip[name + "s"], name, scale, width) for name in ("phoneme", "word")]
    tracks = {"AU26": clip["action_units"][:, 4], "AU25": clip["action_units"][:, 3]}
    tracks |= {"AU14": clip["action_units"][:, 1], "blink": clip["blink"]}
    rows += [_track(values, name, scale, width) for name, values in tracks.items()]
    return np.concatenate(rows)


def draw_visemes(seeds: tuple[int, ...] = (1, 3, 7), zoom: int = 384) -> np.ndarray:
    """The mouth of each viseme at its peak, on several speakers."""
    model, rows = load_default(), []
    size = (zoom * 4 // 3, zoom)
    for number in seeds:
        speaker, _ = corpus_speaker(0, number)
        weights = np.stack([model.unit_weights(**viseme.units) for viseme in VISEMES.values()])
        expression = weights @ model.units_to_expression
        pose = aligned_pose(speaker, expression, np.zeros((len(weights), 2)), size)
        frames = Renderer(size).render(speaker, expression, pose)
        top, left = size[0] * 52 // 100, zoom * 22 // 100
        mouths = frames[:, top : top + zoom // 2, left : left + zoom * 56 // 100]
        mouths = [
            _label(cv2.resize(mouth, (150, 134), interpolation=cv2.INTER_AREA), name)
            for mouth, name in zip(mouths, VISEMES, strict=True)
        ]
        half = (len(mouths) + 1) // 2
        mouths += [np.full_like(mouths[0], PAPER)] * (2 * half - len(mouths))
        rows += [np.concatenate(mouths[:half], axis=1), np.concatenate(mouths[half:], axis=1)]
    return np.concatenate(rows)


def draw_landmarks(numbers: tuple[int, ...] = (1, 2, 4, 9, 12, 17)) -> np.ndarray:
    """The model's exact landmarks (dots) and those that dlib finds (circles)."""
    model, size, tiles = load_default(), (320, 240), []
    detector = faces.get_detector("dlib")
    rng = np.random.default_rng(0)
    for number in numbers:
        speaker, _ = corpus_speaker(0, number)
        units = model.unit_weights(jawOpen=rng.uniform(0, 0.5), mouthStretch=rng.uniform(0, 0.5))
        expression = (units @ model.units_to_expression)[None]
        pose = aligned_pose(speaker, expression, rng.normal(0, 0.1, (1, 2)), size)
        frame = Renderer(size).render(speaker, expression, pose)[0].copy()
        for found in detector(frame)[:1]:
            for x, y in found.landmarks:
                cv2.circle(frame, (round(float(x)), round(float(y))), 3, (250, 220, 60), 1)
        for x, y in landmarks(speaker, expression, pose)[0]:
            cv2.circle(frame, (round(float(x)), round(float(y))), 1, (60, 230, 120), -1)
        tiles.append(frame)
    return np.concatenate(tiles, axis=1)


def _label(image: np.ndarray, text: str) -> np.ndarray:
    image = np.ascontiguousarray(image)
    font = (cv2.FONT_HERSHEY_SIMPLEX, 0.42)
    (width, height), base = cv2.getTextSize(text, *font, 1)
    cv2.rectangle(image, (0, 0), (width + 6, height + base + 2), (255, 255, 255), -1)
    cv2.putText(image, text, (3, height + 2), *font, INK, 1, cv2.LINE_AA)
    return image


def _segments(rows: list[dict], name: str, scale: float, width: int) -> np.ndarray:
    image = np.full((22, width, 3), PAPER, np.uint8)
    for row in rows:
        start, end = (round(row[edge] * scale) for edge in ("start", "end"))
        cv2.rectangle(image, (start, 1), (end, 20), (200, 200, 200), 1)
        font = (cv2.FONT_HERSHEY_SIMPLEX, 0.38, INK, 1, cv2.LINE_AA)
        cv2.putText(image, row[name], (start + 2, 15), *font)
    return image


def _track(values: np.ndarray, name: str, scale: float, width: int) -> np.ndarray:
    image = np.full((30, width, 3), PAPER, np.uint8)
    x = (np.arange(len(values)) + 0.5) / 25 * scale
    points = np.stack([x, 27 - 24 * values], axis=1).round().astype(np.int32)
    cv2.polylines(image, [points], False, (180, 90, 60), 1, cv2.LINE_AA)
    return _label(image, name)


if __name__ == "__main__":
    main()

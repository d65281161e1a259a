"""Sets the proxy of action units against the truth of rendered people, and looks at real ones.

    python scripts/calibrate_unit_proxy.py --model face_landmarker.task \\
        --rendered data/synthetic_grid/default --real data/grid/aligned_128x96

Prints `input_pipeline.blendshapes.LEVELS`, counted on every tenth clip of the rendered training
split; how well the proxy, with the levels that are in the module, agrees with the truth of every
tenth clip of the test split; and of real clips that `flax-talk label` has labelled the correlation
of each unit with the loudness of the sound.
"""

import argparse
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow_datasets as tfds

from flax_talk.metrics.action_units import f1
from input_pipeline import media, unit_files
from input_pipeline.blendshapes import Labeller, intensities, movements
from input_pipeline.inspect import newest_version
from input_pipeline.synthetic.articulation import ACTION_UNITS

STEP = 10  # clips from one that is looked at to the next
INTENSITIES = (0.2, 0.5)


def examples(folder: Path, split: str, step: int = STEP) -> Iterator[Mapping[str, Any]]:
    """Every so many examples of a split."""
    source = tfds.builder_from_directory(folder).as_data_source(split=split)
    return (source[index] for index in range(0, len(source), step))


def compare(labeller: Labeller, folder: Path, split: str) -> tuple[np.ndarray, np.ndarray]:
    """Movements and true intensities, both [N, 5], of the frames of some clips."""
    moved, true = [], []
    for example in examples(folder, split):
        frames = media.decode_frames(list(example["video"]))
        moved.append(movements(labeller.raw(frames)))
        true.append(example["action_units"])
    return np.concatenate(moved), np.concatenate(true)


def loudness(example: Mapping[str, Any]) -> np.ndarray:
    """Root mean square of the sound of each frame [T], in decibels, not under -60."""
    frames = len(example["video"])
    waveform = np.asarray(example["waveform"], np.float64) / 32768
    parts = waveform[: len(waveform) // frames * frames].reshape(frames, -1)
    return 10 * np.log10(np.mean(np.square(parts), axis=1) + 1e-6)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", required=True)
    parser.add_argument("--rendered", required=True, type=Path)
    parser.add_argument("--real", type=Path)
    args = parser.parse_args()

    labeller, rendered = Labeller(args.model), newest_version(args.rendered)
    moved, true = compare(labeller, rendered, "train")
    print("LEVELS")
    for i, name in enumerate(ACTION_UNITS):
        shares = [np.mean(true[:, i] < level) for level in INTENSITIES]
        levels = ", ".join(f"{np.quantile(moved[:, i], share):.4f}" for share in shares)
        print(f'    "{name}": ({levels}),')

    moved, true = compare(labeller, rendered, "test")
    found = intensities(moved)
    print("test: correlation; F1, F1 of always, rate, true rate at each intensity")
    scores = [(np.asarray(f1(found >= level, true >= level)), level) for level in INTENSITIES]
    for i, name in enumerate(ACTION_UNITS):
        cells = [f"{np.corrcoef(found[:, i], true[:, i])[0, 1]:.2f}"]
        for score, level in scores:
            rate = np.mean(true[:, i] >= level)
            rates = (score[i], 2 * rate / (1 + rate), np.mean(found[:, i] >= level), rate)
            cells.append(" ".join(f"{value:.3f}" for value in rates))
        print(name, *cells, sep=" | ")

    if args.real is None:
        return
    real = newest_version(args.real)
    print("correlation with the loudness, the mean over clips")
    for split in tfds.builder_from_directory(real).info.splits:
        each = []
        for example in examples(real, split, step=1):
            if labelled := unit_files.read(real, example["id"].decode()):
                heard = loudness(example)
                with np.errstate(invalid="ignore"):  # a unit that stays the same
                    pairs = [np.corrcoef(unit, heard)[0, 1] for unit in labelled.action_units.T]
                each.append(pairs)
        if each:
            text = ", ".join(
                f"{name} {value:.2f}"
                for name, value in zip(ACTION_UNITS, np.nanmean(each, axis=0), strict=True)
            )
            print(f"{split}, {len(each)} clips: {text}")


if __name__ == "__main__":
    main()

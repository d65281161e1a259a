"""Draws maps of sounds before and after their speaker is removed, as the paper's Figure 11.

    python scripts/draw_id_removing.py --checkpoint runs/small_expression --split train[-100:] \\
        --out docs/pictures

Song et al., "Everybody's Talkin': Let Me Talk as You Want", 2020, appendix C.3: t-SNE of the
coefficients x and x', coloured by speaker. Ours: a point is a window of one second, by the mean and
the deviation of its coefficients; and beside the maps, how often the nearest other window is of the
same speaker, which no frozen network has a say in.
"""

import argparse
from pathlib import Path

import jax
import numpy as np
from sklearn.neighbors import NearestNeighbors

from flax_talk import figures
from flax_talk.systems import audio_to_expression as system
from flax_talk.training.checkpoints import load_config, load_variables
from input_pipeline.loader import make_loader, open_source

FRAMES = (25, 40, 55)
"""Whose windows are points: of speech, and with little sound in common."""


def summary(windows: np.ndarray) -> np.ndarray:
    """[N, K, C] to [N, 2 C]: mean and deviation of each coefficient."""
    return np.concatenate([windows.mean(axis=1), windows.std(axis=1)], axis=1)


def neighbours_alike(codes: np.ndarray, labels: np.ndarray) -> float:
    """Share of the codes whose nearest one of another clip has the same label."""
    clips = np.arange(len(codes)) // len(FRAMES)
    order = NearestNeighbors(n_neighbors=len(FRAMES) + 1).fit(codes).kneighbors()[1]
    nearest = [next(j for j in row if clips[j] != clips[i]) for i, row in enumerate(order)]
    return float(np.mean(labels[nearest] == labels))


def main() -> None:
    """Writes id_removing_before.png and id_removing_after.png."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--checkpoint", required=True, help="run of an expression stage")
    parser.add_argument("--split", required=True, help="clips of speakers that the config names")
    parser.add_argument("--data-dir", help="instead of the run's")
    parser.add_argument("--out", type=Path, required=True, help="folder of the pictures")
    options = parser.parse_args()

    config = load_config(options.checkpoint)
    variables, _ = load_variables(options.checkpoint)
    config.data.data_dir = options.data_dir or config.data.data_dir
    config.data.splits.shown = options.split
    features = jax.jit(lambda audio: system.features(config, variables, audio))
    before, after, labels = [], [], []
    for batch in make_loader(
        open_source(config.data, "shown"), config.data, train=False, seed=config.seed
    ):
        clips = batch["mask"].any(axis=1)
        for codes, windows in zip((before, after), features(batch["waveform"]), strict=True):
            chosen = np.asarray(windows)[clips][:, FRAMES, :]
            codes.extend(summary(chosen.reshape(-1, *chosen.shape[2:])))
        names = np.array([*config.data.speakers, "others"])[batch["speaker_index"][clips]]
        labels.extend(np.repeat(names, len(FRAMES)))
    ranks = [(*config.data.speakers, "others").index(name) for name in labels]
    order = np.argsort(ranks, kind="stable")
    for name, codes in (("before", before), ("after", after)):
        codes = np.array(codes) / np.std(codes, axis=0)
        share = neighbours_alike(codes, np.array(labels))
        print(f"{name}: the nearest window of another clip has the same speaker in {share:.1%}")
        figures.save(
            figures.tsne(codes[order], [labels[i] for i in order]),
            options.out / f"id_removing_{name}.png",
        )


if __name__ == "__main__":
    main()

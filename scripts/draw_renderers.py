"""Draws what renderers make of the same clip, below the clip itself.

    python scripts/draw_renderers.py --split 's26[8:]' --out renderers.png \\
        --checkpoint 'joint=runs/joint/joint_480' --checkpoint 'split=runs/joint/s26__8__120'

Song et al., "Everybody's Talkin': Let Me Talk as You Want", 2020, section 3.3, with the clip's own
landmarks: the truth is known. Ours: the first clip of the split, and of it the frames evenly apart.
"""

import argparse
from pathlib import Path

import jax
import numpy as np

from flax_talk import figures
from flax_talk.images import to_uint8
from flax_talk.systems import video_renderer as system
from flax_talk.training.checkpoints import load_config, load_variables
from input_pipeline.loader import make_loader, open_source


def main() -> None:
    """Writes one picture: a row for the clip, and one for each checkpoint."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--checkpoint", action="append", required=True, metavar="NAME=DIR")
    parser.add_argument("--split", required=True, help="whose first clip is drawn")
    parser.add_argument("--data-dir", default="data")
    parser.add_argument("--count", type=int, default=8, help="frames that are drawn")
    parser.add_argument("--out", type=Path, required=True, help="PNG file")
    options = parser.parse_args()

    rows = {}
    for entry in options.checkpoint:
        name, _, folder = entry.partition("=")
        config = load_config(folder)
        variables, _ = load_variables(folder)
        config.data.update(dict(data_dir=options.data_dir, eval_frames=75, batch_size=1))
        config.data.splits.shown = options.split
        source = open_source(config.data, "shown")
        batch = next(iter(make_loader(source, config.data, train=False, seed=config.seed)))
        mouth = batch["landmarks"][:, :, system.MOUTH]
        keys = jax.random.split(jax.random.key(config.seed), 1)
        video, _ = system.render(config, variables, batch["video"], mouth, keys)
        rows["clip"] = batch["video"][0]
        rows[name] = np.asarray(to_uint8(video[0]))
    figures.strip(rows, options.count).savefig(options.out)
    print(options.out)


if __name__ == "__main__":
    main()

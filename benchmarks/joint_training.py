"""One renderer for all speakers, or one for each? The question of Song et al. 2020, Table 3.

    python benchmarks/joint_training.py --workdir runs/joint --dataset grid --steps 120 \\
        --speaker 's1[:8]' 's1[-8:]' --speaker 's4[:8]' 's4[-8:]'

Each speaker is a split to train on and a split to measure. A network of its own learns each speaker
for as many steps as asked for; the joint network learns all of them for that many steps times the
number of speakers, so that either has drawn every speaker as often, and all of them are measured
at their last step, on each speaker's clips. `--longer` adds networks of their own that have as many
steps as the joint one, and so each speaker's clips as many times over as there are speakers. All
start from drawn weights, with the same seed, and their rate falls to a tenth over the run. The same
command goes on where it was stopped. Prints Markdown: likeness in the mouth's square, and for the
mouth of each clip's first frame.
"""

import argparse
import functools
import re
from pathlib import Path

import numpy as np
from ml_collections import ConfigDict

import report
from configs import everybodys_talkin_2020_renderer
from flax_talk.evaluation.validation import Evaluator
from flax_talk.systems import video_renderer
from flax_talk.training import parallel
from flax_talk.training.checkpoints import load_variables
from flax_talk.training.loop import train_and_evaluate
from input_pipeline.loader import open_source

MEASURES = ("psnr_mouth", "ssim_mouth")
SPLIT, LONGER, JOINT, STILL = "split", "split, longer", "joint", "mouth of the first frame"


def main() -> None:
    """Trains, measures, and prints a row for each network and two of means."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--workdir", type=Path, required=True, help="folder of the runs")
    parser.add_argument("--speaker", nargs=2, action="append", required=True, metavar="SPLIT")
    parser.add_argument("--dataset", default="grid")
    parser.add_argument("--builder-config", default="aligned_128x96")
    parser.add_argument("--data-dir", default="data")
    parser.add_argument("--variant", default="small", help="of the renderer's config")
    parser.add_argument("--steps", type=int, default=120, help="for each speaker")
    parser.add_argument("--longer", action="store_true", help="also split, for as long as joint")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", help="JSON file for the rows")
    args = parser.parse_args()
    speakers = dict(args.speaker)
    long = args.steps * len(speakers)
    kinds = {SPLIT: args.steps, **({LONGER: long} if args.longer else {})}
    runs = [(kind, [name], steps) for kind, steps in kinds.items() for name in speakers]
    runs.append((JOINT, list(speakers), long))
    found: dict[str, dict[str, np.ndarray]] = {}
    for kind, splits, steps in runs:
        print(f"{kind}: {' + '.join(splits)}, {steps} steps", flush=True)
        config = make_config(args, splits, steps)
        # Orbax reads no path with brackets.
        name = JOINT if kind == JOINT else re.sub("[^a-z0-9-]", "_", splits[0])
        workdir = args.workdir / f"{name}_{steps}"
        if not train_and_evaluate(config, workdir)["finished"]:
            raise SystemExit("told to end: the same command goes on")
        # Those of its last step, the only one that was validated.
        variables, _ = load_variables(workdir)
        for name in splits:
            scores = measure(config, variables, speakers[name])
            for row, prefix in ((kind, ""), (STILL, "still/")):
                values = np.array([scores[prefix + key] for key in MEASURES])
                found.setdefault(row, {})[name] = values
    rows = []
    for kind in (*kinds, JOINT, STILL):
        values = found[kind] | {"mean": np.mean(list(found[kind].values()), axis=0)}
        count = {JOINT: 1, STILL: ""}.get(kind, len(speakers))
        steps = {**kinds, JOINT: long}.get(kind, "")
        row = {"": kind, "networks": count, "steps of each": steps}
        rows.append(row | {k: f"{psnr:.2f} / {ssim:.3f}" for k, (psnr, ssim) in values.items()})
    print("\nPSNR / SSIM of the mouth's square on", ", ".join(speakers.values()))
    print(
        ", ".join(f"{name}: {count_seconds(args, name):.0f} s to learn from" for name in speakers)
    )
    report.print_table(rows, ("", "networks", "steps of each", *speakers, "mean"))
    report.write(args.out, "joint_training", rows)


def make_config(args: argparse.Namespace, splits: list[str], steps: int) -> ConfigDict:
    """The renderer's config by L1 and total variation on some splits, measured at its end."""
    config = everybodys_talkin_2020_renderer.get_config(args.variant)
    config.seed = args.seed
    config.data.update(
        dict(dataset=args.dataset, builder_config=args.builder_config, data_dir=args.data_dir)
    )
    config.data.update(dict(prepare=False, num_frames=9, eval_frames=25))
    config.data.splits.train = " + ".join(splits)
    config.data.splits.validation = splits[0]
    config.loss.adversarial = 0.0
    clips = 2 * len(open_source(config.data, "train"))
    epochs = max(1, steps * config.data.batch_size // clips)
    config.optimizer.renderer.decay = 0.1 ** (1 / epochs)
    config.train.update(dict(max_steps=steps, validate_every=10**9, validation_clips=1))
    return config


def count_seconds(args: argparse.Namespace, split: str) -> float:
    """Length of a split, mirrored copies not counted."""
    data = make_config(args, [split], 1).data
    return sum(len(clip["landmarks"]) for clip in open_source(data, "train")) / data.video_rate


@functools.cache
def mesh():
    """All devices."""
    return parallel.make_mesh()


def measure(config: ConfigDict, variables: dict, split: str) -> dict[str, float]:
    """Means over the clips of a split."""
    config = ConfigDict(config)
    config.data.splits = ConfigDict(dict(test=split))
    return Evaluator(video_renderer, config, mesh(), "test")(parallel.replicate(mesh(), variables))


if __name__ == "__main__":
    main()

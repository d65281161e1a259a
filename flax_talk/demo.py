"""`make demo`: from a few recordings of one speaker to a talking face, in a few minutes.

The whole path at a small scale, with the ordinary functions: prepare, train, animate. The
network is narrow and briefly trained, so its pictures are soft; what it shows is that lips follow
a sentence that was kept out of training. A second call finds data and network, and is quick.
"""

import argparse
import os
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path

from ml_collections import ConfigDict

from flax_talk.errors import UserError

CLIPS = 12
VALIDATION_CLIPS = 2
TRAIN_STEPS = 800


def main(argv: Sequence[str] | None = None) -> int:
    """Makes the demo video; returns the exit code, 2 for a mistake the user can mend."""
    parser = argparse.ArgumentParser(prog="python -m flax_talk.demo", description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("out/demo.mp4"), help="video to write")
    parser.add_argument("--source", type=Path, help="folder of GRID recordings, with s1/*.mpg")
    args = parser.parse_args(argv)
    try:
        run(args.source or find_recordings(), args.out)
    except UserError as error:
        print(f"flax-talk: {error}", file=sys.stderr)
        return 2
    return 0


def find_recordings() -> Path:
    """The GRID recordings of this machine: of `FLAX_TALK_REAL_MEDIA`, or beside the repository.

    Raises:
        UserError: there are none.
    """
    beside = Path(__file__).resolve().parents[2] / "shared" / "real_media"
    folder = Path(os.environ.get("FLAX_TALK_REAL_MEDIA", beside)) / "grid"
    if not folder.is_dir():
        raise UserError(
            f"no recordings in {folder}: give a folder of GRID (zenodo.org/records/3625687) "
            "by --source or FLAX_TALK_REAL_MEDIA"
        )
    return folder


def run(source: Path, out: Path) -> None:
    """Prepares, trains and animates; `out` is the video, beside it `demo_data` and `demo_run`.

    Args:
        source: folder of GRID, of which the first clips of the first speaker are used.
        out: mp4 file to write.

    Raises:
        UserError: too few recordings, or a place that cannot be written.
    """
    from flax_talk.animate import animate_files
    from flax_talk.training.loop import train_and_evaluate
    from input_pipeline.datasets.grid import find_clips
    from input_pipeline.prepare import prepare

    speaker, clips = next(iter(find_clips(source).items()))
    if len(clips) <= CLIPS:
        raise UserError(f"{source}: {len(clips)} clips of {speaker}: give at least {CLIPS + 1}")
    used, unseen = clips[:CLIPS], clips[CLIPS]
    data, workdir = out.parent / "demo_data", out.parent / "demo_run"

    print(f"1/3 preparing {CLIPS} recordings of {speaker} from {source}", flush=True)
    folder = data / "recordings" / speaker
    folder.mkdir(parents=True, exist_ok=True)
    for clip in used:
        shutil.copy(clip.path, folder)
    prepare("grid", folder.parent, data, jobs=os.cpu_count() or 1)

    print(f"2/3 training a small network in {workdir}", flush=True)
    train_and_evaluate(demo_config(data, speaker), workdir)

    print(f"3/3 animating a still of {used[0].path.name} with the speech of {unseen.path.name}")
    done = animate_files(used[0].path, unseen.path, workdir, out)
    print(f"{out}: {done.frames / done.fps:.2f} s of synthetic video")


def demo_config(data_dir: Path, speaker: str) -> ConfigDict:
    """The config of the demo's run: `temporal_gan_2019_grid:small`, shorter and without a GAN.

    Args:
        data_dir: of the prepared recordings.
        speaker: their speaker, such as "s1".
    """
    from configs import common
    from configs.temporal_gan_2019_grid import get_config

    config = get_config("small")
    config.generator.width = 8
    config.data.update(dict(data_dir=str(data_dir), num_frames=10, mirror=False))
    train, held_out = f"{speaker}[:-{VALIDATION_CLIPS}]", f"{speaker}[-{VALIDATION_CLIPS}:]"
    config.data.splits = ConfigDict(dict(train=train, validation=held_out, test=held_out))
    # The discriminators need hours to help; a weight of 0 leaves them out.
    config.loss.update(dict(frame=0.0, sync=0.0, sequence=0.0, upper_reconstruction=600.0))
    # An epoch of so few recordings is 2 steps: the rate falls in the last third.
    config.optimizer.generator = common.adam(7e-4, decay=0.3, every=60, after=240)
    often = dict(log_every=25, checkpoint_every=200, samples_every=TRAIN_STEPS)
    # Validation costs as much as several steps: once, at the end.
    config.train.update(dict(max_steps=TRAIN_STEPS, validate_every=TRAIN_STEPS, **often))
    return config


if __name__ == "__main__":
    sys.exit(main())

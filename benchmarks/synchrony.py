"""How well the judge of synchrony that ships measures shifted sound.

    python benchmarks/synchrony.py --data-dir data \\
        --split grid/aligned_128x96/s26 grid/aligned_128x96/s31 'synthetic_grid/default/test[:20]'

The sound of each clip is shifted by -10 to 10 frames. Printed are the share of shifted clips that
are measured at their shift, within one frame of it, and at it beside the clip's own offset; the
mean confidence; and the clips' own offsets, which are measured without a shift.
"""

import argparse
import collections
import functools

import jax
import numpy as np
from tqdm import tqdm

from flax_talk.evaluation.validation import SHIPPED_SYNCNET
from flax_talk.systems import syncnet
from flax_talk.training.checkpoints import load_config, load_variables
from input_pipeline import audio, media
from input_pipeline.loader import open_source

SHIFTS = np.arange(-10, 11)


def shifted(waveform: np.ndarray, samples: int) -> np.ndarray:
    """The sound so many samples earlier (negative: later), silence where there is none."""
    moved = np.roll(waveform, -samples)
    if samples > 0:
        moved[-samples:] = 0
    elif samples < 0:
        moved[:-samples] = 0
    return moved


def main() -> None:
    """Prints a line for each split."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--checkpoint", default=SHIPPED_SYNCNET, help="of syncnet")
    parser.add_argument("--data-dir", default="data", help="prepared data")
    parser.add_argument("--split", nargs="+", required=True, help="such as grid/aligned_128x96/s26")
    args = parser.parse_args()

    config = load_config(args.checkpoint)
    config.data.data_dir = args.data_dir
    variables, _ = load_variables(args.checkpoint)
    embed = jax.jit(functools.partial(syncnet.embed, config))
    measure = jax.jit(syncnet.synchrony, static_argnums=3)
    rate = config.data.audio_rate
    stride = audio.samples_per_frame(rate, config.data.video_rate)
    print(
        f"{'split':34} {'clips':>5} {'exact':>6} {'near':>6} {'beside own':>10} {'conf.':>6}  own"
    )
    for split in args.split:
        config.data.splits["measured"] = split
        errors, confidences = [], []
        for example in tqdm(open_source(config.data, "measured"), desc=split, leave=False):
            video = media.decode_frames(list(example["video"]))
            waveform = np.asarray(example["waveform"], np.float32)[: len(video) * stride] / 32767
            columns = 4 * len(video)
            sounds = [
                audio.mfcc(shifted(waveform, shift * stride), rate, columns) for shift in SHIFTS
            ]
            lips, _ = embed(variables, video[None], sounds[0][None])
            found = []
            for sound in sounds:
                _, voice = embed(variables, video[None], sound[None])
                found.append(measure(lips, voice, None, config.measure.max_shift))
            errors.append([int(result.offset[0]) for result in found] - SHIFTS)
            confidences.append(float(found[len(SHIFTS) // 2].confidence[0]))
        errors = np.array(errors)
        own = errors[:, len(SHIFTS) // 2]
        counts = ", ".join(f"{k:+d}: {n}" for k, n in sorted(collections.Counter(own).items()))
        shares = (errors == 0, np.abs(errors) <= 1, errors == own[:, None])
        cells = " ".join(
            f"{share.mean():{w}.3f}" for share, w in zip(shares, (6, 6, 10), strict=True)
        )
        print(f"{split:34} {len(errors):5} {cells} {np.mean(confidences):6.2f}  {counts}")


if __name__ == "__main__":
    main()

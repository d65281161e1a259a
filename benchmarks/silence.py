"""Does the mouth move with speech and rest in silence? The demo's faces, measured.

    python benchmarks/silence.py --checkpoint runs/shipped

Animates the two stills of `make demo` with spoken sentences and with digital silence of the same
length, finds the landmarks with dlib and prints their `mouth_motion`: the standard deviation over
time over the distance of the eye corners. In silence the mouth should stay as it is in the still
(Chen et al. 2021): `from the still` is the mean distance of its landmarks from those of the still,
over the same distance. The last row is a rendered speaker's own clip.
"""

import argparse
from pathlib import Path

import numpy as np

from flax_talk import demo
from flax_talk.animate import SHIPPED, animate, load_generator
from flax_talk.face_model.model import MOUTH
from flax_talk.metrics.expression import mouth_motion
from input_pipeline import faces, media
from input_pipeline.audio import resample
from input_pipeline.datasets.synthetic_grid import RenderedClip, SyntheticGrid, render_clip
from input_pipeline.speech import say

SENTENCES = (
    "place blue at f two now",
    "hello, I am a picture that learned to speak",
    "my mother baked five apple pies for everybody",
)


def main() -> None:
    """Prints one row for each still, and one for a rendered clip."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--checkpoint", type=Path, default=SHIPPED, help="run or exported folder")
    generator = load_generator(parser.parse_args().checkpoint)
    data = generator.config.data
    detector = faces.get_detector("dlib")
    print("| still | speech | silence | from the still in silence | in speech |")
    print("|---|---|---|---|---|")
    for name, draw in (("rendered", demo.rendered_still), ("photograph", demo.photograph)):
        still, _, _ = faces.align_still(draw(), detector, tuple(data.image_size))
        rest = detector(still)[0].landmarks
        rows = {"speech": [], "silence": []}
        for sentence in SENTENCES:
            spoken = say(sentence, demo.VOICES[name])
            waveform = resample(spoken.waveform, spoken.sample_rate, data.audio_rate)
            for kind, sound in (("speech", waveform), ("silence", 0 * waveform)):
                points = faces.detect_video(animate(generator, still, sound), detector)
                rows[kind].append((mouth_motion(points), distance(points, rest)))
        speech, silence = (np.mean(rows[kind], axis=0) for kind in ("speech", "silence"))
        values = (speech[0], silence[0], silence[1], speech[1])
        print(f"| {name} | " + " | ".join(f"{value:.4f}" for value in values) + " |", flush=True)
    config = SyntheticGrid.builder_configs["default"]
    clip = render_clip(RenderedClip(config, sum(config.speakers), 0))
    points = faces.detect_video(media.decode_frames(clip["video"]), detector)
    values = f"{mouth_motion(points):.4f} | | | {distance(points, points[0]):.4f}"
    print(f"| rendered clip itself | {values} |")


def distance(points: np.ndarray, still: np.ndarray) -> float:
    """Mean distance of the mouths of landmarks [T, 68, 2] from that of a still [68, 2], over the
    distance of the still's outer eye corners."""
    moved = np.linalg.norm(points[:, MOUTH] - still[MOUTH], axis=-1).mean()
    return float(moved / np.linalg.norm(still[45] - still[36]))


if __name__ == "__main__":
    main()

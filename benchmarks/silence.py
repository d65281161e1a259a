"""Does the mouth move with speech and rest in silence? The demo's faces, measured.

    python benchmarks/silence.py --checkpoint runs/shipped

Animates the two stills of `make demo` with spoken sentences and with digital silence of the same
length, finds the landmarks with dlib and prints their `mouth_motion`: the standard deviation over
time over the distance of the eye corners. The real row is a rendered speaker's own clip.
"""

import argparse
from pathlib import Path

import numpy as np

from flax_talk import demo
from flax_talk.animate import SHIPPED, animate, load_generator
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
    print("| still | speech | silence |\n|---|---|---|")
    for name, draw in (("rendered", demo.rendered_still), ("photograph", demo.photograph)):
        still, _, _ = faces.align_still(draw(), detector, tuple(data.image_size))
        speech, silence = [], []
        for sentence in SENTENCES:
            spoken = say(sentence, demo.VOICES[name])
            waveform = resample(spoken.waveform, spoken.sample_rate, data.audio_rate)
            for motions, sound in ((speech, waveform), (silence, 0 * waveform)):
                motions.append(measured_motion(animate(generator, still, sound), detector))
        print(f"| {name} | {np.mean(speech):.4f} | {np.mean(silence):.4f} |", flush=True)
    config = SyntheticGrid.builder_configs["default"]
    clip = render_clip(RenderedClip(config, sum(config.speakers), 0))
    motion = measured_motion(media.decode_frames(clip["video"]), detector)
    print(f"| rendered clip itself | {motion:.4f} | |")


def measured_motion(video: np.ndarray, detector: faces.Detector) -> float:
    """`mouth_motion` of aligned frames uint8 [T, H, W, 3]."""
    return float(mouth_motion(faces.detect_video(video, detector)))


if __name__ == "__main__":
    main()

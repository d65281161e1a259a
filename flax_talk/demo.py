"""`make demo`: two faces speak at once, with the checkpoint that comes with the package.

A rendered person, whom the checkpoint has not seen, and a photograph (NASA's portrait of the
astronaut Eileen Collins, in the public domain, that scikit-image brings along) say a sentence that
espeak-ng speaks. Nothing is trained and nothing is downloaded.
"""

import argparse
import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import cv2
import numpy as np
from PIL import Image

from flax_talk.errors import UserError

TEXT = "Place blue at F two now. Hello, I am a picture that learned to speak."
VOICES = {"rendered": "en-gb-x-rp+m3", "photograph": "en-us+f2"}
RENDERED_SEED = 3006  # of a person who is in no data set


def main(argv: Sequence[str] | None = None) -> int:
    """Makes the demo videos; returns the exit code, 2 for a mistake the user can mend."""
    parser = argparse.ArgumentParser(prog="python -m flax_talk.demo", description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("out"), help="folder for the videos")
    parser.add_argument("--text", default=TEXT, help="what the faces say")
    args = parser.parse_args(argv)
    try:
        run(args.out, args.text)
    except UserError as error:
        print(f"flax-talk: {error}", file=sys.stderr)
        return 2
    return 0


def run(out: Path, text: str = TEXT) -> list[Path]:
    """Writes rendered.png, photograph.png and a video of each, demo_rendered.mp4 and so on, and
    demo.webp, both side by side as a moving picture without sound.

    Args:
        out: folder to write into.
        text: what they say.

    Returns:
        The videos.

    Raises:
        UserError: an extra is not installed, or a place cannot be written.
    """
    from flax_talk.animate import animate_files

    out.mkdir(parents=True, exist_ok=True)
    videos = []
    for name, draw in (("rendered", rendered_still), ("photograph", photograph)):
        still, video = out / f"{name}.png", out / f"demo_{name}.mp4"
        cv2.imwrite(str(still), draw()[..., ::-1])
        done = animate_files(still, None, video, text=text, voice=VOICES[name])
        print(f"{video}: {done.frames / done.fps:.2f} s of synthetic video", flush=True)
        videos.append(video)
    moving_picture(videos, out / "demo.webp")
    return videos


def moving_picture(videos: Sequence[Path], path: Path, height: int = 224) -> None:
    """Shows videos side by side in one that pages show without a player, without sound.

    Args:
        videos: of one frame rate; what is longer than the shortest is left out.
        path: WebP file to write.
        height: of the picture, in pixels.
    """
    from input_pipeline.media import read_video

    rows = []
    for frames in zip(*(read_video(video).frames for video in videos), strict=False):
        sizes = [(round(frame.shape[1] * height / frame.shape[0]), height) for frame in frames]
        scaled = map(partial(cv2.resize, interpolation=cv2.INTER_AREA), frames, sizes)
        rows.append(Image.fromarray(np.concatenate(list(scaled), axis=1)))
    rows[0].save(path, save_all=True, append_images=rows[1:], duration=40, loop=0, quality=70)


def rendered_still(seed: int = RENDERED_SEED) -> np.ndarray:
    """A made-up person at rest, head and shoulders: uint8 [256, 256, 3]."""
    from input_pipeline.synthetic.appearance import make_speaker
    from input_pipeline.synthetic.renderer import Renderer, portrait_pose

    size = (256, 256)
    speaker = make_speaker(seed)
    pose = portrait_pose(speaker, size)[None]
    return Renderer(size).render(speaker, np.zeros((1, 29), np.float32), pose)[0]


def photograph() -> np.ndarray:
    """The astronaut Eileen Collins, a photograph by NASA: uint8 [512, 512, 3]."""
    try:
        from skimage import data
    except ImportError as error:
        raise UserError(
            "the photograph comes with scikit-image: pip install 'flax-talk[demo]'"
        ) from error
    return data.astronaut()


if __name__ == "__main__":
    sys.exit(main())

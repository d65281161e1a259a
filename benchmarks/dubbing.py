"""How good and how fast a dub is: its synchrony beside what it was made of, the paper's tables.

    python benchmarks/dubbing.py --pair target.mp4 voice.wav --pair other.mp4 voice.wav
    python benchmarks/dubbing.py --clips 8 --baseline runs/baseline --landmark runs/landmark
    python benchmarks/dubbing.py --stages
    python benchmarks/dubbing.py --turned . --pair turned0.mp4 turned1.mp4

Pairs are dubbed, and the judge of synchrony that ships says of each how far sound and lips are
apart (in frames) and how sure it is: in the dub, in the target as it was recorded, and in the
target with the new sound laid under it, which is what a dub has to beat.

Clips are rendered heads that turn by 30 degrees and move freely, of speakers whom nothing was
trained on, each dubbed with its own sound and its frames in their order, so that the target is the
truth: likeness of the whole frame and of the part around the mouth, and the distance of the mouth's
landmarks, for the rows of Song et al. 2020, Tables 1, 2 and 6, and for the mouth that does not
move. Rows of checkpoints that are not given are left out.

Stages are timed on such a clip, for each of its frames, with and without each step of finishing,
beside what the paper says of a GTX 1060 and an i7-8700. Prints Markdown.
"""

import argparse
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

import report
from flax_talk import dub
from flax_talk.evaluation import measures
from flax_talk.face_model.fit import fit
from flax_talk.face_model.model import MOUTH, load_default
from flax_talk.metrics import reconstruction
from flax_talk.portrait import retiming, smoothing
from flax_talk.systems import audio_to_expression, video_renderer
from input_pipeline import audio, faces, media
from input_pipeline.datasets.synthetic_grid import RenderedClip, SyntheticGrid, render_clip
from input_pipeline.synthetic.appearance import make_speaker
from input_pipeline.synthetic.renderer import Renderer, landmarks, portrait_pose

ANGLE = np.radians(30)
SIZE = (256, 256)
FIRST = 1000
"""Number of the first speaker, far from those of any corpus."""

PLAIN = dub.Finish(retime=False, smooth=False, deflicker=False, teeth=False)


def main() -> None:
    """Prints a table for the pairs, and one for the clips."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    help = "a target and a sound; may be repeated"
    parser.add_argument("--pair", nargs=2, action="append", default=[], metavar="FILE", help=help)
    help = "folder for the first two of the clips, turned0.mp4 and turned1.mp4, to be a pair"
    parser.add_argument("--turned", type=Path, help=help)
    parser.add_argument("--clips", type=int, default=0, help="rendered clips to be made again")
    for name, default in (("translation", dub.TRANSLATION), ("renderer", dub.RENDERER)):
        parser.add_argument(f"--{name}", type=Path, default=default, help="run or exported folder")
    help = "steps that the renderer learns on each target of a pair"
    parser.add_argument("--adapt", type=int, default=dub.ADAPTATION_STEPS, help=help)
    parser.add_argument("--baseline", type=Path, help="translation without ID-removing")
    parser.add_argument("--landmark", type=Path, help="translation to landmarks")
    parser.add_argument("--stages", action="store_true", help="time the stages")
    parser.add_argument("--rounds", type=int, default=2, help="of all stages, in turns")
    parser.add_argument("--out", help="JSON file for the times of the stages")
    args = parser.parse_args()
    if args.turned:
        for number in range(2):
            clip = turned_clip(number)
            sound = clip["waveform"], clip["rate"]
            media.write_video(args.turned / f"turned{number}.mp4", clip["frames"], dub.FPS, *sound)
    if args.pair:
        print("| target, sound | | offset | confidence |\n|---|---|---|---|")
    for video, sound in args.pair:
        compare(Path(video), Path(sound), args.translation, args.renderer, args.adapt)
    if args.clips:
        make_again(args)
    if args.stages:
        time_stages(args)


def time_stages(args: argparse.Namespace) -> None:
    """Prints milliseconds per frame of the stages, and of each step of the last."""
    clip = turned_clip(0)
    frames, points, sound = clip["frames"], clip["landmarks"], clip["waveform"]
    count, model = len(frames), load_default()
    hearing = dub.load(args.translation, audio_to_expression)
    drawing = dub.load(args.renderer, video_renderer)
    target, index = fit(model, points), np.arange(len(frames))
    output = dub.translate(hearing, sound, count)
    mouth = dub.place_mouth(target, points, output, index)
    drawn = dub.redraw(drawing, frames, points, index, mouth)
    plain = dub.Finish(smooth=False, deflicker=False, teeth=False, blend=False)

    def retime():
        speech = retiming.speech_activity(sound, clip["rate"], count, dub.FPS)
        motion, blinks = retiming.head_motion(target.pose), retiming.blinking(points)
        return retiming.retime(speech, motion, blinks)

    def finishing(**steps):
        steps = plain._replace(**steps)
        return lambda: list(dub.finish(frames, points, index, drawn, steps))

    calls = {
        "fit": lambda: fit(model, points),
        "translate": lambda: dub.translate(hearing, sound, count),
        "retime": retime,
        "place and smooth": lambda: smoothing.smooth_landmarks(
            dub.place_mouth(target, points, output, index)
        ),
        "render": lambda: dub.redraw(drawing, frames, points, index, mouth),
        "finish, soft mask alone": finishing(),
        "+ Poisson blending": finishing(blend=True),
        "+ teeth": finishing(blend=True, teeth=True),
        "+ deflicker: all": finishing(blend=True, teeth=True, deflicker=True),
    }
    best = {name: min(times) for name, times in report.alternate(calls, args.rounds).items()}
    rows = [{"stage": name, "ms/frame": 1000 * best[name] / count} for name in calls]
    paper = {"translate": 17, "render": 77, "+ teeth": 300, "+ deflicker: all": 1300}
    for row, before in zip(rows, [None, *rows], strict=False):
        row["paper"] = paper.get(row["stage"], "")
        if row["stage"].startswith("+"):
            row["this step"] = row["ms/frame"] - before["ms/frame"]
    before = ("translate", "retime", "place and smooth", "render")
    drawn_alone = 1000 * sum(best[name] for name in before) / count
    for name, last, paper in (
        ("a frame without finishing", "finish, soft mask alone", 100),
        ("a frame with it", "+ deflicker: all", 1700),
    ):
        rows.append(
            {
                "stage": name,
                "ms/frame": drawn_alone + 1000 * best[last] / count,
                "paper": paper,
            }
        )
    size = f"{count} frames of {SIZE[1]}x{SIZE[0]}"
    print(f"{size}; the paper's are of a GTX 1060 and an i7-8700\n")
    report.print_table(rows, ("stage", "ms/frame", "this step", "paper"))
    report.write(args.out, "dubbing", rows)


def compare(video: Path, sound: Path, translation: Path, renderer: Path, adaptation: int) -> None:
    """Prints the synchrony of a dub, of its target, and of the target with the new sound."""
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder, "dub.mp4")
        count = dub.dub_files(video, sound, out, translation=translation, renderer=renderer).frames
        dubbed = media.read_video(out).frames
    target = media.read_video(video).frames
    index = retiming.identity(count, len(target))
    rows = {
        "target as recorded": (target, video),
        "target with the new sound": (target[index], sound),
        "dubbed": (dubbed, sound),
    }
    for name, (frames, heard) in rows.items():
        offset, confidence = synchrony(frames, heard)
        print(f"| {video.stem}, {sound.stem} | {name} | {offset} | {confidence:.2f} |", flush=True)


def synchrony(frames: np.ndarray, sound: Path) -> tuple[int, float]:
    """Offset in frames and confidence of the judge that ships, of frames [T, H, W, 3]."""
    families, _ = measures.make_families(["av_offset"], measures.SHIPPED_JUDGES, optional=False)
    rate, mask = 50_000, np.ones((1, len(frames)), bool)
    footage = measures.Footage(frames[None], mask, is_aligned=False)
    mfcc = audio.mfcc(media.read_audio(sound, rate), rate, 4 * len(frames))[None]
    clips = measures.Clips(video=footage, reference=footage, still=footage, mfcc=mfcc)
    (found,) = (family(clips) for family in families.values())
    return int(found["offset"][0]), float(found["confidence"][0])


def make_again(args: argparse.Namespace) -> None:
    """Prints likeness and landmarks of rendered clips that are dubbed with their own sound."""
    renderer = dub.load(args.renderer, video_renderer)
    rows: dict[str, tuple[Any, dub.Finish]] = {"mouth of the first frame": (None, PLAIN)}
    known = {"2D": args.landmark, "3D": args.baseline, "3D + ID-removing": args.translation}
    models = {name: dub.load(path, audio_to_expression) for name, path in known.items() if path}
    rows |= {name: (model, PLAIN) for name, model in models.items()}
    smooth = PLAIN._replace(smooth=True, deflicker=True)
    rows |= {
        f"{name} + deflicker": (model, smooth) for name, model in models.items() if name != "2D"
    }
    rows["true landmarks"] = ("truth", PLAIN)
    found: dict[str, list] = {name: [] for name in rows}
    for number in tqdm(range(args.clips), desc="clips"):
        clip = turned_clip(number)
        for name, (model, steps) in rows.items():
            found[name].append(score(clip, model, renderer, steps))
    print(f"| {args.clips} clips, {SIZE[1]}x{SIZE[0]} | psnr | ssim | psnr, mouth | E_ldmk, px |")
    print("|---|---|---|---|---|")
    for name, values in found.items():
        psnr, ssim, mouth, error = np.mean(values, axis=0)
        print(f"| {name} | {psnr:.2f} | {ssim:.4f} | {mouth:.2f} | {error:.2f} |", flush=True)


def turned_clip(number: int) -> dict[str, np.ndarray]:
    """A head that speaks and turns: frames, landmarks, waveform, rate."""
    config = SyntheticGrid.builder_configs["default"]
    spoken = render_clip(RenderedClip(config, FIRST + number, 0))
    speaker, length = make_speaker(FIRST + number), len(spoken["expression"])
    phase = np.linspace(0, 2 * np.pi, length)
    pose = np.tile(portrait_pose(speaker, SIZE), (length, 1))
    pose[:, 0], pose[:, 1] = ANGLE * np.sin(phase), ANGLE * np.cos(phase)
    frames = Renderer(SIZE).render(speaker, spoken["expression"], pose)
    points = landmarks(speaker, spoken["expression"], pose)
    sound = spoken["waveform"].astype(np.float32) / 32767
    return dict(frames=frames, landmarks=points, waveform=sound, rate=config.audio_rate)


def score(clip: dict[str, Any], model: Any, renderer: dub.Trained, steps: dub.Finish) -> list:
    """psnr, ssim, psnr around the mouth, and E_ldmk of one row on one clip."""
    frames, points = clip["frames"], clip["landmarks"]
    index, true = np.arange(len(frames)), points[:, MOUTH]
    is_aligned = False
    if model is None:
        # The first frame's mouth, where the head is.
        _, _, transforms = faces.align(frames, points)
        crop_mouth = faces.transform_points(transforms, true)
        mouth, is_aligned = np.repeat(crop_mouth[:1], len(frames), axis=0), True
    elif model == "truth":
        mouth = true
    else:
        output = dub.translate(model, clip["waveform"], len(frames))
        is_aligned = audio_to_expression.predicts_landmarks(model.config)
        mouth = output
        if not is_aligned:
            mouth = dub.place_mouth(fit(load_default(), points), points, output, index)
    if steps.smooth:
        mouth = np.asarray(smoothing.smooth_landmarks(mouth))
    drawn = dub.redraw(renderer, frames, points, index, mouth, is_aligned)
    shown = np.stack(list(dub.finish(frames, points, index, drawn, steps)))
    there = faces.transform_points(
        np.stack([invert(transform) for transform in drawn.transforms]), drawn.mouth
    )
    a, b = (np.float32(video) / 127.5 - 1 for video in (shown, frames))
    left, top = np.floor(true.min(axis=(0, 1))).astype(int) - 8
    right, bottom = np.ceil(true.max(axis=(0, 1))).astype(int) + 8
    near = slice(None), slice(top, bottom), slice(left, right)
    return [
        psnr(a, b),
        float(np.mean(reconstruction.ssim(a, b))),
        psnr(a[near], b[near]),
        float(np.linalg.norm(there - true, axis=-1).mean()),
    ]


def psnr(video: np.ndarray, reference: np.ndarray) -> float:
    """Of one video, from its mean error."""
    valid = np.ones((1, len(video)), bool)
    return float(reconstruction.video_psnr(video[None], reference[None], valid)[0])


def invert(transform: np.ndarray) -> np.ndarray:
    """The inverse of a transform [2, 3]."""
    whole = np.vstack([transform, [0, 0, 1]])
    return np.linalg.inv(whole)[:2].astype(np.float32)


if __name__ == "__main__":
    main()

"""The figures of an evaluation, drawn by `flax_talk.figures` from clips and records.

Of the first clip: frames, optical flow, mean motion and differences to the real video. Of all
clips: blinks, the distance of sound and picture by shift, and a map of the people's identity codes.
"""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from flax_talk import figures
from flax_talk.errors import UserError
from flax_talk.evaluation.measures import Record

FOLDER = "figures"


def draw_all(
    out: Path,
    videos: Mapping[str, np.ndarray],
    rows: Mapping[str, Sequence[Record]],
    speakers: Sequence[str] = (),
    video_rate: float = 25.0,
) -> list[Path]:
    """Draws what there is something to draw of, into the folder `figures` of an evaluation.

    Args:
        out: folder of the evaluation.
        videos: the first clip by row, among them "real", uint8 [T, H, W, 3].
        rows: records of all clips by row.
        speakers: of each clip, where they are known.
        video_rate: frames per second.

    Returns:
        The files.
    """
    real = videos["real"]
    shown = {row: video for row, video in videos.items() if row != "still"}
    others = {row: video for row, video in videos.items() if row != "real"}
    drawings: dict[str, Callable[[], Figure]] = {
        "frames": lambda: figures.strip(videos, video_rate=video_rate),
        "flow": lambda: figures.flow_maps(shown, video_rate=video_rate),
        "motion": lambda: figures.motion_maps(shown),
        "difference": lambda: figures.difference_maps(others, real, video_rate=video_rate),
    }
    measured = {row: records for row, records in rows.items() if row != "still"}
    if all("blinks/found" in record for records in measured.values() for record in records):
        drawings["blinks"] = lambda: _blinks(measured, video_rate)
    if all("synchrony/distances" in r for records in rows.values() for r in records):
        drawings["synchrony"] = lambda: figures.shift_curve(
            {
                row: np.stack([r["synchrony/distances"] for r in records])
                for row, records in rows.items()
            }
        )
    codes = [record["identity_codes/codes"] for record in rows["real"] if _CODES in record]
    if len(codes) == len(speakers) and len(codes) > 2:
        labels = [name for name, clip in zip(speakers, codes, strict=True) for _ in clip]
        drawings["identity_codes"] = lambda: figures.tsne(np.concatenate(codes), labels)
    paths = []
    for name, draw in drawings.items():
        try:
            figure = draw()
        except UserError:  # a video of one frame does not move
            continue
        paths.append(out / FOLDER / f"{name}.png")
        figures.save(figure, paths[-1])
    return paths


_CODES = "identity_codes/codes"


def _blinks(rows: Mapping[str, Sequence[Record]], video_rate: float) -> Figure:
    found = {row: [record["blinks/found"] for record in records] for row, records in rows.items()}
    counts = {row: np.array([len(blinks) for blinks in clips]) for row, clips in found.items()}
    lengths = {
        row: np.concatenate([np.diff(blinks, axis=1).ravel() for blinks in clips]) / video_rate
        for row, clips in found.items()
    }
    return figures.blink_histogram(counts, lengths)

"""Figures as the papers draw them, as Matplotlib figures and PNG files.

Of Vougioukas et al. 2018 and 2019: strips of frames (2018, Figures 4 to 8), the distributions of
blinks (2019, Figures 9 and 12), the t-SNE map of the identity codes by subject (Figure 11), optical
flow with the angle as hue and the magnitude as value (Figure 14) and the mean magnitude of motion
as a heat map (Figure 20). Of Chen et al. 2021: difference maps beside the flow (supplement, Figure
2). `shift_curve` draws the distances that the evaluation of SyncNet compares (see
`metrics.synchrony`). Ours: the optical flow is DIS (Kroeger et al., "Fast Optical Flow using Dense
Inverse Search", 2016), as the papers name none; and one scale serves all rows of a figure.

Every function is pure: arrays in, a `matplotlib.figure.Figure` out. Neither `pyplot` nor the user's
style plays a part, and `save` writes the same bytes for the same figure.
"""

import io
import os
import textwrap
import uuid
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import cv2
import matplotlib.style
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import hsv_to_rgb
from matplotlib.figure import Figure
from matplotlib.image import AxesImage
from matplotlib.ticker import MaxNLocator, NullFormatter

from flax_talk.errors import UserError

DPI = 150
"""Dots per inch, of which a face takes one for each of its pixels."""

GAP = 4
"""White pixels between two pictures of a sheet."""

# Okabe and Ito's palette, which colourblind readers can tell apart, without its yellow.
_COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
_MARKERS = "o^sDvPX*"
_INK = "#333333"
_MAP = "magma"
_STYLE = {
    "font.size": 8,
    "axes.edgecolor": _INK,
    "axes.labelcolor": _INK,
    "axes.linewidth": 0.6,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "grid.color": "#E5E5E5",
    "grid.linewidth": 0.6,
    "legend.fontsize": 8,
    "legend.frameon": False,
    "legend.borderaxespad": 0.0,
    "text.color": _INK,
    "text.parse_math": False,
    "xtick.color": _INK,
    "ytick.color": _INK,
    "xtick.major.width": 0.6,
    "ytick.major.width": 0.6,
}
_VIDEO_RATE = 25.0  # frames per second of the blinks
_SMALL_SIDE, _LARGE_SIDE = 96, 256  # pixels; faces are shown between these
_WHEEL, _BAR = (72, 72), (10, 110)  # width and height in pixels
_SMALLEST = 16  # pixels that the optical flow needs
_MARGIN = 12  # pixels around a figure
_LABEL_WIDTH, _LEGEND_WIDTH = 20, 44  # letters
_CEILING = 99.5  # per cent of the values that a scale covers: few pixels should not darken all
_LEGEND_ROWS = 20
_CURVE_POINTS = 400
_ORDERS_APART = 50  # the quotient of values from which on a scale is logarithmic
_PERPLEXITY = 30

# Where a legend covers nothing.
_ABOVE = dict(loc="lower left", bbox_to_anchor=(0, 1.03))

_styled = matplotlib.style.context(["default", _STYLE])


@_styled
def save(figure: Figure, path: str | Path) -> None:
    """Writes a figure as PNG of 150 dots per inch that appears complete or not at all.

    The file holds neither time nor version, so that equal figures make equal files.

    Args:
        figure: of one of this module's functions.
        path: file to write, `.png`; its folder is created.

    Raises:
        UserError: another suffix, or a place that cannot be written.
    """
    path = Path(path)
    if path.suffix.lower() != ".png":
        raise UserError(f"{path}: figures are written as PNG: let the name end in .png")
    partial = path.with_name(f".{uuid.uuid4().hex}.partial")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            figure.savefig(partial, format="png", dpi=DPI, metadata={"Software": None})
            os.replace(partial, path)
        finally:
            partial.unlink(missing_ok=True)
    except OSError as error:
        raise UserError(
            f"{path}: cannot be written ({error.strerror}): check the folder and its free space"
        ) from error


def flow(video: np.ndarray) -> np.ndarray:
    """Dense optical flow from each frame to the next one, on the host.

    Args:
        video: uint8 [T, H, W, 3] RGB, T at least 2, H and W at least 16.

    Returns:
        float32 [T - 1, H, W, 2], pixels per frame to the right and down; zero where nothing moves.

    Raises:
        UserError: an array of another kind, too short or too small.
    """
    _check({"video": video}, moving=True)
    method = cv2.DISOpticalFlow_create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)
    grey = [cv2.cvtColor(np.ascontiguousarray(frame), cv2.COLOR_RGB2GRAY) for frame in video]
    return np.stack([method.calc(*pair, None) for pair in zip(grey[:-1], grey[1:], strict=True)])


def flow_picture(flow: np.ndarray, largest: float) -> np.ndarray:
    """Optical flow in colours: hue is the direction, value the speed.

    Movement to the right is red, up yellow-green, to the left cyan, down violet.

    Args:
        flow: float [..., 2], pixels per frame to the right and down.
        largest: speed of full brightness, pixels per frame; what is faster is no brighter.

    Returns:
        uint8 [..., 3] RGB; black where nothing moves.
    """
    right, down = np.moveaxis(flow, -1, 0)
    hue = np.arctan2(-down, right) / (2 * np.pi) % 1
    value = np.hypot(right, down) / max(largest, np.finfo(np.float32).tiny)
    hsv = np.stack([hue, np.ones_like(hue), np.minimum(value, 1)], axis=-1)
    return np.rint(255 * hsv_to_rgb(hsv)).astype(np.uint8)


@_styled
def strip(rows: Mapping[str, np.ndarray], count: int = 8, video_rate: float = 25.0) -> Figure:
    """Frames of several videos below one another, at the same times.

    Args:
        rows: videos by the names that label them, uint8 [T, H, W, 3] RGB of one H and W; beyond
            the end of the shortest nothing is shown.
        count: frames of each, evenly spaced from the first to the last; all of them if it has less.
        video_rate: frames per second, for the times in seconds above.

    Raises:
        UserError: no rows, or an array of another kind.
    """
    frames = _shown(_check(rows), count)
    tiles = np.stack([video[frames] for video in rows.values()])
    figure, _ = _sheet(tiles, rows, _times(frames, video_rate))
    return _fit(figure)


@_styled
def flow_maps(rows: Mapping[str, np.ndarray], count: int = 8, video_rate: float = 25.0) -> Figure:
    """Optical flow of several videos in the colours of `flow_picture`, on one scale.

    Args:
        rows: videos as for `strip`, of at least 2 frames.
        count: as for `strip`; each map is of the movement from the frame at its time to the next.
        video_rate: frames per second.

    Raises:
        UserError: no rows, or an array of another kind, too short or too small.
    """
    length = _check(rows, moving=True)
    frames = np.unique(np.minimum(_shown(length, count), length - 2))
    flows = np.stack([[flow(video[i : i + 2])[0] for i in frames] for video in rows.values()])
    largest = _ceiling(np.linalg.norm(flows, axis=-1))
    figure, _ = _sheet(flow_picture(flows, largest), rows, _times(frames, video_rate))
    _add_colour_wheel(figure, largest)
    return _fit(figure)


@_styled
def motion_maps(rows: Mapping[str, np.ndarray]) -> Figure:
    """Mean speed of each pixel of several videos over time, as heat maps on one scale.

    Args:
        rows: videos as for `strip`, of at least 2 frames, each taken at its full length.

    Raises:
        UserError: no rows, or an array of another kind, too short or too small.
    """
    _check(rows, moving=True)
    speeds = [np.linalg.norm(flow(video), axis=-1).mean(axis=0) for video in rows.values()]
    tiles = np.stack(speeds)[:, None]
    return _heat_sheet(tiles, rows, [], tiles.max(), "mean motion,\npixels per frame")


@_styled
def difference_maps(
    rows: Mapping[str, np.ndarray],
    reference: np.ndarray,
    count: int = 8,
    video_rate: float = 25.0,
) -> Figure:
    """Absolute differences of several videos to a real one, on one scale.

    Args:
        rows: videos as for `strip`.
        reference: uint8 [T, H, W, 3] RGB, what they should be.
        count, video_rate: as for `strip`.

    Raises:
        UserError: no rows, or an array of another kind.
    """
    length = min(_check(rows), _check({**rows, "reference": reference}))
    frames = _shown(length, count)
    videos = np.stack([video[frames] for video in rows.values()]).astype(np.float32)
    tiles = np.abs(videos - reference[frames]).mean(axis=-1)
    times = _times(frames, video_rate)
    return _heat_sheet(tiles, rows, times, _ceiling(tiles), "difference,\ngrey levels")


@_styled
def blink_histogram(
    counts: Mapping[str, np.ndarray], durations: Mapping[str, np.ndarray]
) -> Figure:
    """How many blinks a video has and how long they last, as shares of each set of videos.

    Args:
        counts: blinks of each video by the set's name, int [N], N >= 0.
        durations: seconds of each blink by the set's name, [M], M >= 0; in bins of a frame, 1/25 s.
    """
    names = list(dict.fromkeys([*counts, *durations]))
    videos = {name: np.asarray(counts.get(name, ()), int) for name in names}
    frames = {name: np.asarray(durations.get(name, ())) * _VIDEO_RATE for name in names}
    blinks = {name: np.rint(values).astype(int) for name, values in frames.items()}
    figure, left = _chart(420, 280)
    _histogram(left, videos, 1, "videos")
    left.xaxis.set_major_locator(MaxNLocator(integer=True))
    left.set_xlabel("blinks per video")
    right = figure.add_axes((1.28, 0, 1, 1))
    _histogram(right, blinks, 1 / _VIDEO_RATE, "blinks")
    right.set_xlabel("duration of a blink (s)")
    return _fit(figure)


@_styled
def tsne(codes: np.ndarray, labels: Sequence[str], seed: int = 0) -> Figure:
    """Map of codes in two dimensions that keeps neighbours together, coloured by label.

    t-SNE (van der Maaten and Hinton 2008) with a perplexity of 30, or less for few codes.

    Args:
        codes: float [N, D], N and D at least 2, such as identity codes of frames.
        labels: N names, such as the speakers.
        seed: of the optimisation.

    Raises:
        UserError: too few codes, or not one label for each.
    """
    from sklearn.manifold import TSNE
    from threadpoolctl import threadpool_limits

    codes = np.asarray(codes, np.float32)
    if codes.ndim != 2 or min(codes.shape) < 2 or len(labels) != len(codes):
        raise UserError(
            f"t-SNE of codes {list(codes.shape)} with {len(labels)} labels: give [N, D] with N and "
            "D at least 2, and N labels"
        )
    perplexity = min(_PERPLEXITY, max(1, (len(codes) - 1) / 3))
    # Threads would add up in an order of their own, and the map would differ each time.
    with threadpool_limits(1):
        places = TSNE(init="pca", perplexity=perplexity, random_state=seed).fit_transform(codes)
    classes = np.asarray(labels, str)
    names = list(dict.fromkeys(classes.tolist()))
    figure, axes = _chart(600, 600)
    for i, name in enumerate(names):
        marker = _MARKERS[i // len(_COLOURS) % len(_MARKERS)]
        style = dict(s=14, marker=marker, color=_COLOURS[i % len(_COLOURS)], linewidths=0)
        axes.scatter(*places[classes == name].T, label=name, alpha=0.8, **style)
    # Only distances mean something, and only the small ones.
    axes.set(xticks=[], yticks=[], aspect="equal", adjustable="datalim")
    axes.spines[["top", "right"]].set_visible(True)
    columns = -(-len(names) // _LEGEND_ROWS)
    place = dict(loc="upper left", bbox_to_anchor=(1.02, 1))
    _add_legend(axes, **place, ncols=columns, handletextpad=0.2)
    return _fit(figure)


@_styled
def shift_curve(distances: Mapping[str, np.ndarray]) -> Figure:
    """Distance of audio and video by the offset between them, the least one marked.

    Args:
        distances: as `metrics.synchrony.shifted_distances` returns them, by name: [..., 2 S + 1],
            entry S + s of the sound s frames after the frames. Leading axes, such as videos, are
            averaged; infinite entries are not drawn.

    Returns:
        A figure with the offsets -S..S of `metrics.synchrony` on its axis: positive where the audio
        leads, so that the entries come in reverse.

    Raises:
        UserError: no curves, or one without a middle.
    """
    if not distances:
        raise UserError("no distances to draw: give at least one curve")
    figure, axes = _chart(560, 320)
    for i, (name, values) in enumerate(distances.items()):
        values = np.asarray(values, np.float64)
        if values.shape[-1] % 2 == 0:
            raise UserError(
                f"{name}: {values.shape[-1]} distances have no middle: give those of -S..S"
            )
        curve = values.reshape(-1, values.shape[-1]).mean(axis=0)[::-1]
        offsets = np.arange(len(curve)) - len(curve) // 2
        least = int(curve.argmin())
        style = dict(color=_COLOURS[i % len(_COLOURS)], marker=_MARKERS[i % len(_MARKERS)])
        label = f"{name}: least at " + (f"{offsets[least]:+d}" if offsets[least] else "0")
        curve[np.isinf(curve)] = np.nan
        axes.plot(offsets, curve, markevery=[least], markersize=6, lw=1.3, label=label, **style)
    axes.axvline(0, color=_INK, lw=0.6, ls=":")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.grid(axis="y")
    axes.set_xlabel("offset (frames); positive: the audio leads")
    axes.set_ylabel("audio-video distance")
    _add_legend(axes, **_ABOVE)
    return _fit(figure)


@_styled
def curves(lines: Mapping[str, tuple[np.ndarray, np.ndarray]], title: str) -> Figure:
    """Numbers over the steps of a run, in one small chart.

    Args:
        lines: (steps [N], values [N]) by name; values that are not finite are left out. Of long
            ones means over stretches are drawn.
        title: what is drawn.

    Returns:
        A figure, on a logarithmic scale where values are positive and orders apart; the last value
        of a line stands beside its name.

    Raises:
        UserError: no lines.
    """
    if not lines:
        raise UserError("no curves to draw: give at least one")
    figure, axes = _chart(480, 240)
    drawn = []
    for i, (name, (steps, values)) in enumerate(lines.items()):
        finite = np.isfinite(values)
        steps, values = np.asarray(steps)[finite], np.asarray(values, np.float64)[finite]
        if not len(values):
            continue
        pieces = min(len(values), _CURVE_POINTS)
        means = [[p.mean() for p in np.array_split(x, pieces)] for x in (steps, values)]
        marker = _MARKERS[i % len(_MARKERS)] if pieces == 1 else None
        label = f"{name} {values[-1]:.4g}".strip()
        style = dict(color=_COLOURS[i % len(_COLOURS)], marker=marker)
        axes.plot(*means, lw=1.1, ls="-" if i < len(_COLOURS) else "--", label=label, **style)
        drawn.append(means[1])
    values = np.concatenate(drawn) if drawn else np.ones(1)
    if values.min() > 0 and values.max() > _ORDERS_APART * values.min():
        axes.set_yscale("log")
        axes.yaxis.set_major_formatter("{x:g}")
        axes.yaxis.set_minor_formatter(NullFormatter())
    axes.xaxis.set_major_locator(MaxNLocator(4, integer=True))
    axes.grid(axis="y")
    axes.set_xlabel("step")
    # A line without a name needs no legend.
    alone = "" in lines and bool(drawn)
    last = axes.get_legend_handles_labels()[1][0] if alone else ""
    axes.set_title(f"{title} {last}".strip(), loc="left", fontsize=8)
    if drawn and not alone:
        _add_legend(axes, loc="upper left", bbox_to_anchor=(1.02, 1))
    return _fit(figure)


@_styled
def to_svg(figure: Figure) -> str:
    """A figure as an `<svg>` element for a page of HTML; the same text for the same figure."""
    buffer = io.StringIO()
    settings = {"svg.fonttype": "none", "svg.hashsalt": "flax_talk"}
    with matplotlib.style.context(settings):
        nothing = dict.fromkeys(("Creator", "Date", "Format", "Type"))
        figure.savefig(buffer, format="svg", metadata=nothing)
    text = buffer.getvalue()
    return text[text.index("<svg") :]


def _check(videos: Mapping[str, np.ndarray], moving: bool = False) -> int:
    """The frames of the shortest video; UserError where the videos cannot be shown together."""
    if not videos:
        raise UserError("no videos to draw: give at least one row")
    first = next(iter(videos.values()))
    for name, video in videos.items():
        if video.ndim != 4 or video.shape[-1] != 3 or video.dtype != np.uint8 or not len(video):
            raise UserError(
                f"{name}: {video.dtype} {list(video.shape)} is no video: give uint8 [T, H, W, 3]"
            )
        if video.shape[1:] != first.shape[1:]:
            sizes = " and ".join("{} x {}".format(*x.shape[1:3]) for x in (first, video))
            raise UserError(f"{name}: frames of {sizes} in one figure: bring them to one size")
        if moving and (len(video) < 2 or min(video.shape[1:3]) < _SMALLEST):
            raise UserError(
                f"{name}: no motion can be seen in {list(video.shape)}: give at least 2 frames of "
                f"{_SMALLEST} x {_SMALLEST} pixels"
            )
    return min(map(len, videos.values()))


def _shown(length: int, count: int) -> np.ndarray:
    """Indices of 1 to `count` frames, evenly spaced from the first to the last."""
    return np.linspace(0, length - 1, max(1, min(count, length))).round().astype(int)


def _times(frames: np.ndarray, video_rate: float) -> list[str]:
    return [f"{time:.2f} s" for time in frames / video_rate]


def _ceiling(values: np.ndarray) -> float:
    """The upper end of a scale: all but the very largest values, unless the others are zero."""
    return float(np.percentile(values, _CEILING) or values.max())


def _sheet(
    tiles: np.ndarray, names: Iterable[str], titles: Sequence[str], **style: Any
) -> tuple[Figure, AxesImage]:
    """Pictures in rows, names at their left and titles above; `_fit` makes room for these.

    Args:
        tiles: uint8 [R, C, H, W, 3], or float [R, C, H, W] for a colour map.
        names: of the R rows.
        titles: of the C columns, or none.
        style: of the image.
    """
    rows, columns, height, width, *channels = tiles.shape
    between = [(0, 0), (0, 0), (0, GAP), (0, GAP), (0, 0)][: tiles.ndim]
    white = 255 if channels else np.nan
    tiles = np.moveaxis(np.pad(tiles, between, constant_values=white), 1, 2)
    picture = tiles.reshape(rows * (height + GAP), columns * (width + GAP), *channels)
    picture = picture[:-GAP, :-GAP]
    # One to one, in whole pixels, unless faces would be very small or very large.
    side = min(height, width)
    scale = min(max(1, round(_SMALL_SIDE / side)), _LARGE_SIDE / side)
    figure, axes = _chart(picture.shape[1] * scale, picture.shape[0] * scale)
    interpolation = "nearest" if scale >= 1 else "antialiased"
    image = axes.imshow(picture, aspect="auto", interpolation=interpolation, **style)
    axes.spines[:].set_visible(False)
    axes.tick_params(length=0, labeltop=True, labelbottom=False)
    axes.set_xticks(np.arange(len(titles)) * (width + GAP) + (width - 1) / 2, titles)
    labels = [_wrapped(name, _LABEL_WIDTH) for name in names]
    axes.set_yticks(np.arange(rows) * (height + GAP) + (height - 1) / 2, labels)
    return figure, image


def _heat_sheet(
    tiles: np.ndarray, names: Iterable[str], titles: Sequence[str], largest: float, caption: str
) -> Figure:
    """Heat maps float [R, C, H, W] with a colour bar from 0 to `largest`."""
    # A scale needs some length even if all is zero.
    figure, image = _sheet(tiles, names, titles, cmap=_MAP, vmin=0, vmax=largest or 1)
    axes = _beside(figure, *_BAR)
    clipped = "max" if largest < tiles.max() else "neither"
    bar = figure.colorbar(image, cax=axes, extend=clipped, ticks=MaxNLocator(4))
    bar.outline.set_visible(False)
    _add_caption(axes, caption)
    return _fit(figure)


def _add_colour_wheel(figure: Figure, largest: float) -> None:
    """All directions and speeds in the colours of `flow_picture`, beside a sheet."""
    axes = _beside(figure, *_WHEEL)
    right, down = np.meshgrid(*2 * [np.linspace(-1, 1, 4 * _WHEEL[0])])
    wheel = flow_picture(np.stack([right, down], axis=-1) * largest, largest)
    wheel[np.hypot(right, down) > 1] = 255
    axes.imshow(wheel, aspect="auto", interpolation="antialiased")
    axes.set_axis_off()
    _add_caption(axes, f"motion,\nat the rim {largest:.2g}\npixels per frame")


def _beside(figure: Figure, width: float, height: float) -> Axes:
    """Axes of that many pixels at the right of the sheet, level with its upper edge."""
    across, down = figure.bbox.size
    place = ((across + _MARGIN) / across, 1 - height / down, width / across, height / down)
    return figure.add_axes(place)


def _add_caption(axes: Axes, text: str) -> None:
    below = dict(xycoords="axes fraction", xytext=(0, -_MARGIN), textcoords="offset pixels")
    axes.annotate(text, (0, 0), ha="left", va="top", **below)


def _chart(width: float, height: float) -> tuple[Figure, Axes]:
    """Empty axes of that many pixels; `_fit` makes room for what is around them."""
    figure = Figure((width / DPI, height / DPI), dpi=DPI)
    return figure, figure.add_axes((0, 0, 1, 1))


def _add_legend(axes: Axes, **style: Any) -> None:
    handles, labels = axes.get_legend_handles_labels()
    labels = [_wrapped(label, _LEGEND_WIDTH) for label in labels]
    axes.legend(handles, labels, **style)


def _wrapped(text: str, width: int) -> str:
    return textwrap.fill(text, width, break_long_words=False)


def _fit(figure: Figure) -> Figure:
    """Gives a figure the size of all that is drawn, moving its axes by whole pixels."""
    box = figure.get_tightbbox(FigureCanvasAgg(figure).get_renderer())
    low = np.floor(box.min * DPI) - _MARGIN
    size = np.ceil(box.max * DPI) + _MARGIN - low
    places = [axes.bbox.frozen() for axes in figure.axes]
    # A little more, as the size is rounded down to whole pixels.
    figure.set_size_inches((size + 1e-3) / DPI)
    for axes, place in zip(figure.axes, places, strict=True):
        axes.set_position(place.translated(*-low).transformed(figure.transFigure.inverted()))
    return figure


def _histogram(axes: Axes, values: Mapping[str, np.ndarray], width: float, unit: str) -> None:
    """Bars of the share of each integer, side by side for the series.

    Args:
        axes: to draw into.
        values: int [N], not negative, by name.
        width: of a bin, in units of the axis.
        unit: what there are N of.
    """
    thickness = 0.84 * width / max(len(values), 1)
    for i, (name, series) in enumerate(values.items()):
        shares = np.bincount(series, minlength=1) / max(len(series), 1)
        centres = np.arange(len(shares)) * width + (i - (len(values) - 1) / 2) * thickness
        label = f"{name} ({len(series)} {unit})"
        axes.bar(centres, shares, thickness, color=_COLOURS[i % len(_COLOURS)], label=label)
    axes.yaxis.set_major_formatter(lambda share, _: f"{100 * share:.3g} %")
    axes.grid(axis="y")
    axes.set_ylabel(f"share of {unit}")
    _add_legend(axes, **_ABOVE)

"""Figures show what they are given, on common scales, unclipped, in the same bytes each time."""

import colorsys
import subprocess
import sys
import warnings

import cv2
import matplotlib
import numpy as np
import pytest

from flax_talk import figures
from flax_talk.errors import UserError
from flax_talk.metrics.synchrony import shifted_distances, synchrony

SIZE = (80, 72)


def texture(seed=0, size=SIZE):
    noise = np.random.default_rng(seed).uniform(0, 255, (*size, 3))
    smooth = cv2.GaussianBlur(noise, (0, 0), 2)
    low, high = smooth.min(), smooth.max()
    return np.rint((smooth - low) / (high - low) * 255).astype(np.uint8)


def moving(right, down, length=5, seed=0):
    """A texture that moves by so many pixels per frame; what leaves comes in again."""
    return np.stack([np.roll(texture(seed), (t * down, t * right), (0, 1)) for t in range(length)])


def picture(figure):
    """What is drawn of a sheet: [R, C, H, W] or [R, C, H, W, 3]."""
    joined = np.asarray(figure.axes[0].images[0].get_array())
    pitch = np.add(SIZE, figures.GAP)
    rows, columns = np.add(joined.shape[:2], figures.GAP) // pitch
    return np.stack(
        [
            [joined[r * pitch[0] :, c * pitch[1] :][: SIZE[0], : SIZE[1]] for c in range(columns)]
            for r in range(rows)
        ]
    )


def times(figure):
    return [label.get_text() for label in figure.axes[0].get_xticklabels()]


def read(path):
    return cv2.imread(str(path))[..., ::-1]


def test_strip_shows_the_same_times_of_all_rows_pixel_for_pixel(tmp_path):
    random = np.random.default_rng(0)
    rows = {
        name: random.integers(0, 256, (length, *SIZE, 3), dtype=np.uint8)
        for name, length in (("real", 20), ("a generated one with a longer name", 12))
    }
    figure = figures.strip(rows, count=4, video_rate=10)
    expected = np.stack([video[[0, 4, 7, 11]] for video in rows.values()])
    np.testing.assert_array_equal(picture(figure), expected)
    assert times(figure) == ["0.00 s", "0.40 s", "0.70 s", "1.10 s"]
    figures.save(figure, tmp_path / "strip.png")
    drawn = read(tmp_path / "strip.png")
    height, width = 2 * SIZE[0] + figures.GAP, 4 * SIZE[1] + 3 * figures.GAP
    box = figure.axes[0].bbox
    left, top = round(box.x0), len(drawn) - round(box.y1)
    part = drawn[top : top + height, left : left + width]
    np.testing.assert_array_equal(part, np.asarray(figure.axes[0].images[0].get_array()))


def test_strip_shows_all_frames_of_a_short_video_and_no_more():
    video = moving(1, 0, length=3)
    np.testing.assert_array_equal(picture(figures.strip({"a": video}, count=8))[0], video)


@pytest.mark.parametrize(
    "right, down, degrees", [(2, 0, 0), (0, -2, 90), (-2, 0, 180), (0, 2, 270), (2, -2, 45)]
)
def test_flow_has_the_hue_of_its_direction_and_the_value_of_its_speed(right, down, degrees):
    flow = figures.flow(moving(right, down))
    assert flow.shape == (4, *SIZE, 2) and flow.dtype == np.float32
    inner = flow[:, 12:-12, 12:-12]
    np.testing.assert_allclose(inner, np.broadcast_to([right, down], inner.shape), atol=0.2)
    red, green, blue = figures.flow_picture(inner, 4).mean(axis=(0, 1, 2)) / 255
    hue, saturation, value = colorsys.rgb_to_hsv(red, green, blue)
    assert abs((360 * hue - degrees + 180) % 360 - 180) < 5
    assert saturation > 0.9
    assert value == pytest.approx(np.hypot(right, down) / 4, abs=0.03)


def test_faster_than_the_largest_is_no_brighter():
    right = np.array([0.0, 1, 2, 9])
    picture = figures.flow_picture(np.stack([right, 0 * right], -1), 2)
    np.testing.assert_array_equal(picture, [[0, 0, 0], [128, 0, 0], [255, 0, 0], [255, 0, 0]])


def test_frozen_video_has_no_flow_and_no_motion():
    frozen = np.repeat(texture()[None], 4, axis=0)
    assert not figures.flow(frozen).any()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert not picture(figures.flow_maps({"frozen": frozen})).any()
        assert not picture(figures.motion_maps({"frozen": frozen})).any()


def test_flow_maps_share_one_scale_and_end_before_the_last_frame():
    fast, slow = moving(4, 0, length=9), moving(0, 2, length=9, seed=1)
    slow[:4] = slow[4]  # stands at first
    figure = figures.flow_maps({"fast": fast, "slow": slow}, count=3)
    assert times(figure) == ["0.00 s", "0.16 s", "0.28 s"]
    drawn = np.median(picture(figure)[..., 12:-12, 12:-12, :], axis=(2, 3))
    largest = float(figure.axes[1].texts[0].get_text().split()[4])
    assert drawn[0, :, 0] == pytest.approx([255 * 4 / largest] * 3, abs=6)
    assert (drawn[0, :, 1:] < 30).all()
    assert drawn[1].max(axis=-1) == pytest.approx([0, *drawn[0, 1:, 0] / 2], abs=6)


def test_motion_is_where_the_movement_is():
    frozen, part = np.repeat(texture()[None], 6, axis=0), moving(0, 1, length=6, seed=1)
    video = frozen.copy()
    video[:, 40:72, 8:40] = part[:, 40:72, 8:40]
    figure = figures.motion_maps({"part": video, "frozen": frozen})
    (part,), (frozen,) = picture(figure)
    assert part[48:64, 16:32].mean() == pytest.approx(1, abs=0.2)
    assert part[:24].max() < 0.05 and part[:, 56:].max() < 0.05 and not frozen.any()
    assert figure.axes[0].images[0].get_clim() == (0, part.max())


def test_difference_is_the_mean_over_channels_and_zero_for_equal_videos():
    reference = np.full((10, *SIZE, 3), 100, np.uint8)
    redder = reference[:7].copy()
    redder[3:, :40, :, 0] += 30
    redder[3:, 40:, :, 2] -= 60
    figure = figures.difference_maps({"redder": redder, "equal": reference}, reference, count=3)
    assert times(figure) == ["0.00 s", "0.12 s", "0.24 s"]
    redder, equal = picture(figure)
    assert not equal.any() and not redder[0].any()
    np.testing.assert_array_equal(redder[1:, :40], 10)
    np.testing.assert_array_equal(redder[1:, 40:], 20)
    assert figure.axes[0].images[0].get_clim() == (0, 20)


def test_blinks_are_shares_in_bins_of_one_frame_and_may_be_absent():
    counts = {"real": np.array([0, 1, 1, 3]), "none": np.zeros(0)}
    durations = {"real": np.array([0.12, 0.36, 0.36, 0.4, 0.4]), "still": []}
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        left, right = figures.blink_histogram(counts, durations).axes
        figures.blink_histogram({}, {})
    names = [[text.get_text() for text in axes.get_legend().get_texts()] for axes in (left, right)]
    assert names[0] == ["real (4 videos)", "none (0 videos)", "still (0 videos)"]
    assert names[1] == ["real (5 blinks)", "none (0 blinks)", "still (0 blinks)"]

    def bars(axes, series):
        """Heights by the bin, a whole number of widths, whose group of bars holds the centre."""
        width = 1 if axes is left else 0.04
        drawn = [(bar.get_x() + bar.get_width() / 2, bar.get_height()) for bar in series]
        return {round(x / width): height for x, height in drawn if height}

    assert bars(left, left.containers[0]) == {0: 0.25, 1: 0.5, 3: 0.25}
    assert bars(right, right.containers[0]) == pytest.approx({3: 0.2, 9: 0.4, 10: 0.4})
    assert not any(bars(axes, series) for axes in (left, right) for series in axes.containers[1:])


def test_tsne_keeps_the_codes_of_a_label_together():
    random = np.random.default_rng(0)
    labels = [f"s{i}" for i in range(3)] * 6
    codes = np.repeat(random.normal(size=(1, 3, 16)), 6, axis=0).reshape(18, 16)
    codes += 0.05 * random.normal(size=codes.shape)
    axes = figures.tsne(codes, labels).axes[0]
    groups = [np.asarray(points.get_offsets()) for points in axes.collections]
    assert [points.get_label() for points in axes.collections] == ["s0", "s1", "s2"]
    assert [len(group) for group in groups] == [6, 6, 6]
    centres = [group.mean(axis=0) for group in groups]
    for i, group in enumerate(groups):
        distances = [np.linalg.norm(group - centre, axis=-1) for centre in centres]
        assert (np.argmin(distances, axis=0) == i).all()


def test_least_distance_is_marked_at_the_offset_of_the_metric():
    """A voice that comes some frames too early is marked at as many frames above zero."""
    leads = {"late": -2, "in time": 0, "early": 3}
    video = np.random.default_rng(0).normal(size=(30, 8)).astype(np.float32)
    videos = np.stack([video] * 3)
    audio = np.stack([np.roll(video, -lead, axis=0) for lead in leads.values()])
    distances = shifted_distances(videos, audio, max_shift=5)
    assert synchrony(videos, audio, max_shift=5).offset.tolist() == [*leads.values()]
    axes = figures.shift_curve(dict(zip(leads, distances, strict=True))).axes[0]
    for line, lead in zip(axes.lines, leads.values(), strict=False):
        (marked,) = line.get_markevery()
        x, y = line.get_data()
        assert (x[0], x[-1], x[marked]) == (-5, 5, lead) and y[marked] == y.min()
    legend = [text.get_text() for text in axes.get_legend().get_texts()]
    assert legend == ["late: least at -2", "in time: least at 0", "early: least at +3"]


LONG = "a method with a name that is longer than what it stands beside, by far"
DRAWINGS = {
    "strip": lambda: figures.strip({LONG: moving(1, 0), "b": moving(0, 1)}),
    "flow_maps": lambda: figures.flow_maps({"a": moving(1, 0), "_b": moving(0, 1)}),
    "motion_maps": lambda: figures.motion_maps({LONG: moving(1, 0)}),
    "difference_maps": lambda: figures.difference_maps({"$a$ $": moving(1, 0)}, moving(0, 1)),
    "blink_histogram": lambda: figures.blink_histogram(
        {LONG: np.arange(6), "b": np.arange(3)}, {LONG: np.arange(9) / 10}
    ),
    "tsne": lambda: figures.tsne(
        np.random.default_rng(0).normal(size=(44, 8)), [f"{LONG} {i // 2}" for i in range(44)]
    ),
    "shift_curve": lambda: figures.shift_curve({LONG: [np.inf, 3, 1, 2, 4], "b": [4, 3, 2]}),
}


@pytest.mark.parametrize("name", DRAWINGS)
def test_drawn_twice_gives_the_same_bytes_with_a_white_margin(name, tmp_path):
    first, again, styled = (tmp_path / f"{i}.png" for i in range(3))
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        figure = DRAWINGS[name]()
        figures.save(figure, first)
        figures.save(figure, again)
    style = {"font.size": 20, "figure.facecolor": "black", "savefig.bbox": "tight"}
    with matplotlib.rc_context(style):
        figures.save(DRAWINGS[name](), styled)
        assert matplotlib.rcParams["font.size"] == 20
    assert first.read_bytes() == again.read_bytes() == styled.read_bytes()
    drawn = read(first)
    inside = np.ones(drawn.shape[:2], bool)
    inside[8:-8, 8:-8] = False
    assert (drawn[inside] == 255).all()
    # Nothing is left out in the middle either: something reaches close to each margin.
    dark = np.argwhere((drawn < 200).any(axis=-1))
    assert dark.min() < 20 and (np.array(drawn.shape[:2]) - dark.max(axis=0) < 30).all()
    assert len(list(tmp_path.iterdir())) == 3


def test_neither_pyplot_nor_scikit_learn_is_imported_with_the_module():
    code = (
        "import sys, flax_talk.figures; "
        "assert not {'matplotlib.pyplot', 'sklearn'} & sys.modules.keys()"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize(
    "draw, what",
    [
        (lambda: figures.strip({}), "no videos"),
        (lambda: figures.strip({"a": np.zeros((4, *SIZE, 3))}), "a: float64 .* give uint8"),
        (lambda: figures.strip({"a": np.zeros((0, *SIZE, 3), np.uint8)}), "is no video"),
        (
            lambda: figures.difference_maps({"a": moving(1, 0)}, moving(1, 0)[:, :-1]),
            "reference: frames of 80 x 72 and 79 x 72",
        ),
        (lambda: figures.flow_maps({"a": moving(1, 0, length=1)}), "at least 2 frames"),
        (lambda: figures.flow(moving(1, 0)[:, :, :12]), "no motion can be seen"),
        (lambda: figures.tsne(np.zeros((3, 4)), ["a", "b"]), "2 labels"),
        (lambda: figures.shift_curve({"a": np.zeros(4)}), "a: 4 distances have no middle"),
        (lambda: figures.save(figures.strip({"a": moving(1, 0)}), "a.pdf"), "end in .png"),
        (
            lambda: figures.save(figures.strip({"a": moving(1, 0)}), f"{__file__}/a.png"),
            "cannot be written",
        ),
    ],
)
def test_mistakes_are_told_in_one_line(draw, what):
    with pytest.raises(UserError, match=what) as caught:
        draw()
    assert "\n" not in str(caught.value)

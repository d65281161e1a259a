import itertools

import jax.numpy as jnp
import numpy as np
import pytest

from flax_talk.portrait import retiming
from flax_talk.portrait.retiming import RetimingCosts, retime

COSTS = retiming.DEFAULT_COSTS


def timeline(length):
    return [*range(length), *range(length - 2, 0, -1)] or [0]


def path_cost(places, steps, speech, motion, blinks, costs):
    """The sum in the docstring of `retime`, term by term."""
    frames = np.array(timeline(len(motion)))[places]
    still, lively = np.percentile(motion, [10, 90])
    m = np.clip((motion - still) / (lively - still), 0, 1)[frames]
    total = (
        costs.motion * (speech * (1 - m) + (1 - speech) * m)
        + costs.blink * speech * (blinks[frames])
    )
    total = total.sum() + costs.backward * sum(place >= len(motion) for place in places)
    total += costs.hold * steps.count(0) + costs.skip * steps.count(2)
    speeds = [1, *steps]
    return total + costs.change * np.abs(np.diff(speeds)).sum()


@pytest.mark.parametrize("seed", range(3))
def test_path_is_the_cheapest_of_all_paths(seed):
    random = np.random.default_rng(seed)
    length, outputs = 4, 6
    speech = random.integers(0, 2, outputs).astype(float)
    motion, blinks = random.uniform(size=length), random.integers(0, 2, length).astype(float)
    costs = RetimingCosts(*random.uniform(0.1, 1, 6))
    period = len(timeline(length))
    best = np.inf, None
    for steps in itertools.product((0, 1, 2), repeat=outputs - 1):
        if (0, 0) in itertools.pairwise(steps):
            continue
        for start in range(period):
            places = [p % period for p in itertools.accumulate(steps, initial=start)]
            cost = path_cost(places, list(steps), speech, motion, blinks, costs)
            best = min(best, (cost, places))
    path = retime(speech, motion, blinks, costs)
    np.testing.assert_array_equal(path, np.array(timeline(length))[best[1]])


def test_blinks_fall_into_pauses_and_motion_into_speech():
    length = outputs = 150
    frames = np.arange(length)
    speech = (frames % 50 < 35).astype(float)
    # The target moves and rests at other times than the speech, and blinks as it starts.
    motion = 0.01 + 0.05 * ((frames % 50 >= 10) & (frames % 50 < 44))
    blinks = np.isin(frames % 50, [10, 11, 12]).astype(float)
    path = retime(speech, motion, blinks)
    before, after = (
        (speech * blinks[frame]).sum() for frame in (retiming.identity(outputs, length), path)
    )
    assert before == 9 and after == 0
    moving = motion[path] > motion.mean()
    spoken = speech.astype(bool)
    assert moving[spoken].mean() > 0.9 > 0.2 > moving[~spoken].mean()
    assert set(np.abs(np.diff(path))) <= {0, 1, 2}


@pytest.mark.parametrize(("outputs", "length"), [(60, 9), (9, 60), (5, 1), (1, 5), (30, 2)])
def test_speech_of_any_length_is_covered_without_jumps_or_freezes(outputs, length):
    random = np.random.default_rng(outputs)
    motion, blinks = random.uniform(size=(2, length))
    for path in (
        retime(random.uniform(size=outputs), motion, blinks),
        retiming.identity(outputs, length),
    ):
        assert path.shape == (outputs,) and np.issubdtype(path.dtype, np.integer)
        assert path.min() >= 0 and path.max() < length
        assert np.abs(np.diff(path)).max(initial=0) <= 2
        if length > 2:
            assert not ((np.diff(path)[1:] == 0) & (np.diff(path)[:-1] == 0)).any()


def test_identity_runs_forward_and_back():
    np.testing.assert_array_equal(retiming.identity(9, 4), [0, 1, 2, 3, 2, 1, 0, 1, 2])
    np.testing.assert_array_equal(retiming.identity(3, 4), [0, 1, 2])


def speak(rate, *parts):
    """Noise at 0.1 for each (seconds, True), faint hiss for each (seconds, False)."""
    random = np.random.default_rng(0)
    levels = np.concatenate([np.full(round(s * rate), 0.1 if on else 1e-3) for s, on in parts])
    return levels * random.standard_normal(len(levels))


def test_speech_activity_bridges_closures_but_not_pauses():
    rate = 8000
    waveform = speak(
        rate, (1, False), (1, True), (0.2, False), (0.6, True), (0.4, False), (0.4, True)
    )
    activity = retiming.speech_activity(waveform, rate, 100)
    expected = np.zeros(100)
    expected[25:70] = expected[80:90] = 1
    np.testing.assert_array_equal(activity, expected)
    assert not retiming.speech_activity(1e-4 * waveform, rate, 100).any()


def test_edited_speech_gets_another_path():
    """Words in another order are simply another waveform."""
    rate, frames = 8000, np.arange(75)
    first, second = ((0.4, True), (0.8, False)), ((1.5, True), (0.3, False))
    motion = 0.02 + 0.02 * np.sin(frames / 6)
    blinks = np.isin(frames, [5, 6, 7, 40, 41, 42]).astype(float)
    paths = []
    for words in (first + second, second + first):
        speech = retiming.speech_activity(speak(rate, *words), rate, 75)
        paths.append(retime(speech, motion, blinks))
        assert (speech * blinks[paths[-1]]).sum() < (speech * blinks).sum() / 2
    assert (paths[0] != paths[1]).any()


def test_motion_and_blinks_of_a_video():
    frames = np.arange(60)
    pose = np.zeros((60, 6))
    pose[:, 5] = 50
    # A nod, and a shift of as many dm in pixels: 50 pixels are 1 dm.
    pose[10:20, 0] = 0.01 * np.arange(10)
    pose[20:, 0] = pose[19, 0]
    pose[40:50, 3] = 0.5 * np.arange(10)
    pose[50:, 3] = pose[49, 3]
    motion = retiming.head_motion(pose)
    assert motion[14] == pytest.approx(motion[44], rel=1e-6) == pytest.approx(0.01, rel=0.05)
    assert motion[[0, 30, 59]].max() < 1e-4
    assert retiming.head_motion(pose[:1]) == [0]

    eye = np.array([[0, 0], [1, -1], [2, -1], [3, 0], [2, 1], [1, 1]], float)
    landmarks = np.zeros((60, 68, 2))
    closed = np.maximum(1 - np.abs(frames - 30) / 4, 0)
    for start in (36, 42):
        landmarks[:, start : start + 6] = eye * np.stack([np.ones(60), 1 - closed], -1)[:, None]
    blinks = retiming.blinking(jnp.asarray(landmarks))
    assert blinks[30] == 1 and 4 <= blinks.sum() <= 10 and not blinks[:26].any()

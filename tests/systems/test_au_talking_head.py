"""The AU talking head: its loss terms, who learns from them, its stages, its stream, its sizes."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from configs import au_talking_head_2021_grid
from flax_talk.animate import make_generator
from flax_talk.errors import UserError
from flax_talk.systems import action_units
from flax_talk.systems import au_talking_head as system
from flax_talk.training import loop
from flax_talk.training.checkpoints import export, load_variables, save_exported
from flax_talk.training.step import TrainState

KEYS = jax.random.split(jax.random.key(0), 2)


@pytest.fixture
def tiny():
    config = au_talking_head_2021_grid.get_config("tiny")
    config.data.update(dict(image_size=(32, 32), num_frames=3, audio_rate=16_000))
    return config


@pytest.fixture
def draw(make_batch, draw_variables):
    """A batch with labels, and random variables of every player."""

    def make(config, lengths=(3, 2)):
        batch = make_batch(config, list(lengths))
        random = np.random.default_rng(5)
        shape = (*batch["mask"].shape, 5)
        batch["action_units"] = random.uniform(size=shape).astype(np.float32)
        shapes = jax.eval_shape(lambda: system.init(config, jax.random.key(0), batch))
        return batch, draw_variables(shapes)

    return make


class Fixed:
    """In place of a player: returns what `output` makes of the inputs."""

    def __init__(self, output):
        self.output = output

    def apply(self, variables, *inputs, train=False, mutable=()):
        result = self.output(*inputs)
        return (result, {"batch_stats": {}}) if mutable else result


def softplus(x):
    return np.log1p(np.exp(x))


def test_terms_are_those_of_equations_1_to_8(tiny, draw, monkeypatch):
    """Valid frames of the first clip 0 and 2, of the second 1 and 0 are shown to the judges."""
    tiny.action_units.rates = rates = (0.1, 0.4, 0.3, 0.8, 0.2)
    batch, _ = draw(tiny)
    tiny.loss.perceptual = 0.07
    random = np.random.default_rng(1)
    fake = random.uniform(-1, 1, batch["video"].shape).astype(np.float32)
    index = np.array([[0, 2], [1, 0]])
    rows = np.arange(2)[:, None]
    logits = random.normal(size=(2, 2, 5)).astype(np.float32)
    weights = random.uniform(0.5, 1.5, 3)

    def look(weights, images, names):
        assert names == tiny.loss.perceptual_layers
        return {"relu1_2": 2 * images, "relu5_4": images[:, ::2, ::2] * jnp.asarray(weights)}

    def classify(faces):
        np.testing.assert_array_equal(faces, fake[rows, index][:, :, 16:])
        return jnp.asarray(logits)

    def judge(frames, still):
        real = np.abs(np.asarray(frames) - (batch["video"][rows, index] / 127.5 - 1)).max() < 1e-5
        return jnp.full(frames.shape[:2], 0.4 if real else -0.7)

    players = {
        system.GENERATOR: Fixed(lambda *inputs: (jnp.asarray(fake), None)),
        system.CLASSIFIER: Fixed(classify),
        system.FRAME: Fixed(judge),
    }
    monkeypatch.setattr(system, "players", lambda *_: players)
    monkeypatch.setattr(action_units, "players", lambda *_: {})
    monkeypatch.setattr(system, "mfcc_windows", lambda *_: np.zeros((2, 3, 12, 28)))
    monkeypatch.setattr(system, "sample_frames", lambda *_: index)
    monkeypatch.setattr(system.step, "vgg19", lambda config: weights)
    monkeypatch.setattr(system, "vgg19_features", look)
    variables = {name: {"params": {}, "batch_stats": {}} for name in players}
    losses, _, metrics = system.losses(tiny, variables, batch, KEYS)

    real, still = (batch[name].astype(np.float64) / 127.5 - 1 for name in ("video", "still"))
    valid = [(0, 0), (0, 1), (0, 2), (1, 0), (1, 1)]
    shown = [(b, int(t)) for b in range(2) for t in index[b]]
    inverse = 1 / np.array(rates)
    w = inverse * 5 / inverse.sum()
    y = (batch["action_units"][rows, index] > tiny.action_units.threshold).astype(float)
    p = 1 / (1 + np.exp(-logits.astype(np.float64)))
    bce = -(w * (y * np.log(p) + (1 - y) * np.log(1 - p))).mean()
    dice = (w * (1 - (2 * y * p + 1) / (y**2 + p**2 + 1))).mean()
    difference = {at: np.abs(fake[at] - real[at]) for at in {*valid, *shown}}
    perceptual = [
        (2 * difference[at].mean() + (difference[at][::2, ::2] * weights).mean()) / 2
        for at in shown
    ]
    expected = {
        "reconstruction": np.mean([difference[at].mean() for at in valid]),
        "identity": np.mean([np.abs(fake[b, t, :16] - still[b, :16]).mean() for b, t in valid]),
        "perceptual": np.mean(perceptual),
        "action_units": bce + dice,
        "adversarial": softplus(0.7),
    }
    for name, value in expected.items():
        assert metrics[f"generator/{name}"] == pytest.approx(value, rel=1e-4), name
    by_paper = dict(zip(expected, (1.5, 1.5, 0.07, 0.02, 0.002), strict=True))
    whole = sum(weight * expected[name] for name, weight in by_paper.items())
    assert losses[system.GENERATOR] == pytest.approx(whole, rel=1e-4)
    judged = softplus(-0.4) + softplus(-0.7)
    assert losses[system.FRAME] == pytest.approx(judged, rel=1e-5)


def test_each_player_learns_from_its_own_loss_alone(tiny, check_players):
    tiny.audio2au.update(dict(width=4, hidden=8, code_dim=4))
    tiny.au_classifier.update(dict(width=4, hidden=(8, 8)))
    tiny.generator.update(dict(width=4, audio_width=4))
    rates = {name: player.learning_rate for name, player in tiny.optimizer.items()}
    assert rates == {
        "generator": 2e-4,
        "frame_discriminator": 2e-4,
        "audio2au": 1e-6,
        "au_classifier": 1e-7,
    }
    assert all(player.b1 == 0.5 for player in tiny.optimizer.values())
    for name in (system.AUDIO2AU, system.CLASSIFIER):
        # The paper's rates move less than float32 shows.
        tiny.optimizer[name].learning_rate = 1e-4
    # Of two frames that leave one pixel each, batch normalisation would leave two signs.
    tiny.loss.num_frames = 8
    tiny.optimizer[system.FRAME].learning_rate = 1e-5
    units = np.random.default_rng(0).uniform(size=(2, 3, 5)).astype(np.float32)
    check_players(tiny, action_units=units)


def test_weights_say_who_plays(tiny):
    def names():
        return set(system.players(tiny))

    units = {system.AUDIO2AU, system.CLASSIFIER}
    assert names() == {system.GENERATOR, system.FRAME, *units}
    tiny.loss.adversarial = 0.0
    assert names() == {system.GENERATOR, *units}
    tiny.loss.au_classifier = 0.0  # Frozen, but the generator still asks for it.
    assert names() == {system.GENERATOR, *units}
    tiny.loss.action_units = 0.0
    assert names() == {system.GENERATOR, system.AUDIO2AU}
    tiny.loss.audio2au = 0.0
    assert names() == {system.GENERATOR}


def test_stages_start_from_one_another(tiny, draw, tmp_path):
    """The generator's from the runs of both judges, the full one from the generator's."""
    _, variables = draw(tiny)
    for player in (system.AUDIO2AU, system.CLASSIFIER):
        stage = au_talking_head_2021_grid.get_config(f"tiny_{player}")
        there = jax.tree.map(lambda leaf: leaf + 1, {player: variables[player]})
        save_exported(stage, there, 7, tmp_path / player, "float32")

    def start(config, runs):
        players = system.players(config)
        params = {name: variables[name]["params"] for name in players}
        stats = {name: variables[name]["batch_stats"] for name in players}
        fields = dict(step=0, opt_state=None, rng=None)
        state = TrainState(params=params, batch_stats=stats, **fields)
        return loop._initialize(state, ",".join(str(tmp_path / run) for run in runs)).variables

    without = au_talking_head_2021_grid.get_config("tiny_generator")
    begun = start(without, (system.AUDIO2AU, system.CLASSIFIER))
    assert system.FRAME not in begun
    for player in (system.AUDIO2AU, system.CLASSIFIER):
        there, step = load_variables(tmp_path / player)
        assert step == 7
        jax.tree.map(
            np.testing.assert_array_equal, begun[player]["params"], there[player]["params"]
        )
        grown = jax.tree.map(lambda one, two: one - two, begun[player], variables[player])
        assert all(np.allclose(leaf, 1) for leaf in jax.tree.leaves(grown["params"]))
    save_exported(without, begun, 8, tmp_path / "generator", "float32")
    full = start(tiny, ("generator",))
    jax.tree.map(np.testing.assert_array_equal, full[system.AUDIO2AU], begun[system.AUDIO2AU])
    assert system.FRAME in full
    # What animates is passed on, the judges are not.
    export(tmp_path / "generator", tmp_path / "small")
    assert set(load_variables(tmp_path / "small")[0]) == {system.GENERATOR, system.AUDIO2AU}
    named = au_talking_head_2021_grid.get_config("small_generator").train.initialize_from
    assert named == "runs/small_audio2au,runs/small_au_classifier"


def test_a_stream_equals_the_whole_and_hears_units(tiny, draw):
    tiny.data.num_frames = 6
    batch, variables = draw(tiny, (6, 6))
    stride, window = system.audio_geometry(tiny)
    # What animates gets no other players.
    variables = make_generator(tiny, variables).variables
    assert set(variables) == {system.GENERATOR, system.AUDIO2AU}

    @jax.jit
    def generate(variables, waveform, carry):
        return system.generate(tiny, variables, batch["still"], waveform, KEYS, carry)

    waveform = batch["waveform"] * np.linspace(0, 1, batch["waveform"].shape[1]) ** 4
    start = {"content": np.zeros((2, 1, tiny.generator.hidden), np.float32)}
    whole, last = generate(variables, waveform, start)
    assert whole.shape == (2, 6, 32, 32, 3)
    first, carry = generate(variables, waveform[:, : 2 * stride + window], start)
    second, carry = generate(variables, waveform[:, 3 * stride :], carry)
    np.testing.assert_allclose(np.concatenate([first, second], axis=1), whole, atol=1e-4)
    np.testing.assert_allclose(carry["content"], last["content"], atol=1e-4)
    # Frames differ by more than that, and so do those that other modules have heard.
    assert np.abs(np.diff(whole, axis=1)).max(axis=(0, 2, 3, 4)).min() > 1e-3
    doubled = jax.tree.map(lambda leaf: 2 * leaf, variables[system.AUDIO2AU])
    other, _ = generate({**variables, system.AUDIO2AU: doubled}, waveform, start)
    assert np.abs(other - whole).max() > 1e-3


def test_sizes_are_those_of_the_paper(make_batch):
    config = au_talking_head_2021_grid.get_config()
    config.data.num_frames = 2
    config.loss.perceptual = 0.0
    batch = make_batch(config, [2])
    assert batch["video"].shape == (1, 2, 112, 112, 3)
    variables = jax.eval_shape(functools.partial(system.init, config), jax.random.key(0), batch)
    units = variables[system.AUDIO2AU]["params"]["units"]
    # Five modules; 64 numbers of each go to the generator.
    assert units["Dense_2"]["kernel"].shape == (5, 64, 1)
    assert sum("kernel" in name for name in units["LSTM_0"]) == 4
    assert sum(name.startswith("Dense") for name in units) == 3
    judge = variables[system.CLASSIFIER]["params"]
    # 56 x 112 lower faces, halved twice.
    assert judge["Dense_0"]["kernel"].shape == (14 * 28 * 64, 256)
    assert [sum(name.startswith(kind) for name in judge) for kind in ("Conv", "Dense")] == [4, 3]
    params = variables[system.GENERATOR]["params"]
    assert params["content"]["input_kernel_0"].shape == (512 + 512 + 320, 3 * 512)
    encoder = params["identity_encoder"]
    assert sum(name.startswith("ConvBlock") for name in encoder) == 4
    assert encoder["Conv_0"]["kernel"].shape == (7, 7, 512, 512)
    audio = params["audio_encoder"]
    assert [sum(n.startswith(kind) for n in audio) for kind in ("ConvBlock", "Dense")] == [5, 2]
    # Six layers; three double the picture alone, the other three have a half for each input.
    decoder = params["decoder"]
    layers = [name for name in decoder if name.startswith(("Conv", "Upsample"))]
    assert len(layers) == 6 + 4
    assert decoder["Dense_0"]["kernel"].shape == (512, 7 * 7 * 512)
    frame = variables[system.FRAME]["params"]["ImageEncoder_0"]
    assert frame["ConvBlock_0"]["Conv_0"]["kernel"].shape == (4, 4, 3, 64)
    video, carry = jax.eval_shape(
        functools.partial(system.generate, config),
        variables,
        batch["still"],
        batch["waveform"],
        KEYS[:1],
    )
    assert video.shape == (1, 2, 112, 112, 3) and carry["content"].shape == (1, 1, 512)


def test_a_weight_without_vgg19_says_where_to_get_it(make_batch):
    config = au_talking_head_2021_grid.get_config()
    with pytest.raises(UserError, match="vgg19-dcbb9e9d.pth"):
        system.init(config, jax.random.key(0), {})
    config.loss.vgg19 = "nowhere.pth"
    with pytest.raises(UserError, match=r"no file nowhere.pth"):
        system.init(config, jax.random.key(0), {})

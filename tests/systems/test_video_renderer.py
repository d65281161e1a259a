"""The renderer: its windows, what it must not see, the terms of Eq. 4, who learns, its size."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from configs import everybodys_talkin_2020_renderer
from flax_talk.errors import UserError
from flax_talk.losses import gradient_penalty, total_variation
from flax_talk.portrait.masks import Square, mouth_square
from flax_talk.systems import video_renderer as system
from flax_talk.training.loop import train_and_evaluate

KEYS = jax.random.split(jax.random.key(0), 2)
SIZE = (32, 32)
SQUARE = mouth_square(SIZE)
# What the network sees, and the square in it.
BOX = Square(16, 8, 32, 24)
PART = Square(SQUARE.top - 16, SQUARE.left - 8, SQUARE.bottom - 16, SQUARE.right - 8)


@pytest.fixture
def tiny():
    config = everybodys_talkin_2020_renderer.get_config("tiny")
    config.data.update(dict(image_size=SIZE, num_frames=4))
    config.view.update(dict(num_frames=3, box=(0.5, 0.25, 1.0, 0.75)))
    config.renderer.num_layers = config.renderer_discriminator.num_layers = 2
    return config


@pytest.fixture
def draw(make_batch, draw_variables):
    """A batch with landmarks, and random variables of every player."""

    def make(config, lengths=(4, 3)):
        batch = make_batch(config, list(lengths))
        shape = (*batch["mask"].shape, 68, 2)
        low, high = (SQUARE.left, SQUARE.top), (SQUARE.right, SQUARE.bottom)
        places = np.random.default_rng(5).uniform(low, high, shape)
        batch["landmarks"] = places.astype(np.float32)
        shapes = jax.eval_shape(lambda: system.init(config, jax.random.key(0), batch))
        return batch, draw_variables(shapes)

    return make


def test_sizes_at_full_size(make_batch):
    config = everybodys_talkin_2020_renderer.get_config()
    config.loss.perceptual = 0.0
    batch = make_batch(config, [15])
    variables = jax.eval_shape(lambda: system.init(config, jax.random.key(0), batch))
    assert set(variables) == {system.RENDERER, system.DISCRIMINATOR}
    params = variables[system.RENDERER]["params"]
    # Seven frames of three colours and a heat map.
    assert params["ConvBlock_0"]["Conv_0"]["kernel"].shape == (4, 4, 28, 64)
    assert 70e6 < sum(leaf.size for leaf in jax.tree.leaves(params)) < 80e6
    landmarks = np.zeros((1, 15, 20, 2), np.float32)
    video, carry = jax.eval_shape(
        lambda variables: system.render(config, variables, batch["video"], landmarks, KEYS[:1]),
        variables,
    )
    assert video.shape == (1, 15, 128, 96, 3) and carry["seen"].shape == (1, 6, 128, 96, 4)


@pytest.mark.parametrize("whole_face", [False, True])
def test_a_frame_is_drawn_from_its_window_and_not_from_the_hidden_mouth(tiny, draw, whole_face):
    if whole_face:
        tiny.view.update(dict(whole_face=True, box=(0.0, 0.0, 1.0, 1.0)))
    tiny.loss.adversarial = 0.0
    batch, variables = draw(tiny)
    mouth = batch["landmarks"][:, :, system.MOUTH]

    @jax.jit
    def render(video, mouth, carry):
        return system.render(tiny, variables, video, mouth, KEYS, carry)

    video = np.asarray(batch["video"], np.float32) / 127.5 - 1
    start = system.start(tiny, video, mouth, KEYS)
    whole, last = render(video, mouth, start)
    assert whole.shape == video.shape and np.abs(whole).max() <= 1
    # What is under the square does not matter; around it the frame stays as it is.
    other = video.copy()
    SQUARE.cut(other)[:] *= -1
    np.testing.assert_array_equal(render(other, mouth, start)[0], whole)
    around = np.ones(SIZE, bool)
    around[SQUARE.top : SQUARE.bottom, SQUARE.left : SQUARE.right] = False
    same = np.asarray(whole == video)[:, :, around]
    assert not same.all() if whole_face else same.all()
    # Frame 1 is in the windows of frames 1, 2 and 3; in the whole-face form of 2 and 3.
    reached = np.array([False, not whole_face, True, True])
    for changed in (video.copy(), mouth.copy()):
        changed[:, 1] *= 0.5
        inputs = (video, changed) if changed.ndim == 4 else (changed, mouth)
        moved = np.abs(SQUARE.cut(render(*inputs, start)[0] - whole)).max(axis=(0, 2, 3, 4))
        np.testing.assert_array_equal(moved > 0, reached)
    # A stream in pieces is the whole, noise and all.
    first, carry = render(video[:, :2], mouth[:, :2], start)
    second, carry = render(video[:, 2:], mouth[:, 2:], carry)
    np.testing.assert_allclose(np.concatenate([first, second], axis=1), whole, atol=1e-5)
    jax.tree.map(np.testing.assert_array_equal, carry, last)


def test_each_player_learns_from_its_own_loss_alone(tiny, draw, check_players):
    batch, _ = draw(tiny)
    metrics = check_players(tiny, landmarks=batch["landmarks"])
    names = {
        system.RENDERER: ("reconstruction", "total_variation", "adversarial"),
        system.DISCRIMINATOR: ("real", "fake", "gradient_penalty"),
    }
    for player, terms in names.items():
        weighted = sum(metrics[f"{player}/{name}_weighted"] for name in terms)
        assert metrics[f"{player}/loss"] == pytest.approx(weighted, rel=1e-5)
        for name in terms:
            weight = tiny.loss[name] if name not in ("real", "fake") else 1
            value = weight * metrics[f"{player}/{name}"]
            assert metrics[f"{player}/{name}_weighted"] == pytest.approx(value, rel=1e-5)


class Fixed:
    """In place of a player: returns what `output` makes of the inputs."""

    def __init__(self, output):
        self.output = output

    def apply(self, variables, *inputs, train=False, mutable=()):
        result = self.output(*inputs)
        return (result, {"batch_stats": {}}) if mutable else result


def test_terms_are_those_of_equation_4(tiny, draw, monkeypatch):
    batch, _ = draw(tiny)
    tiny.loss.update(dict(perceptual=0.5, num_frames=2))
    index = np.array([[0, 2], [1, 0]])
    rows = np.arange(2)[:, None]
    real = BOX.cut(batch["video"][rows, index] / 127.5 - 1)
    drawn = np.random.default_rng(1).uniform(-1, 1, (4, 16, 16, 3)).astype(np.float32)
    fake = real.copy()
    PART.cut(fake)[:] = PART.cut(drawn.reshape(real.shape))

    def judge(frames, maps):
        assert maps.shape == (2, 2, 16, 16) and maps.min() >= 0 and maps.max() <= 1
        return 0.2 + 3 * frames[..., 0, 0, 0] + 4 * frames[..., -1, -1, 2]

    def look(weights, images, names):
        return {"relu1_2": 2 * images, "relu4_4": images[:, ::2]}

    players = {
        system.RENDERER: Fixed(lambda windows, base: jnp.asarray(drawn)),
        system.DISCRIMINATOR: Fixed(judge),
    }
    monkeypatch.setattr(system, "players", lambda *_: players)
    monkeypatch.setattr(system, "sample_frames", lambda *_: index)
    monkeypatch.setattr(system.step, "vgg19", lambda config: ())
    monkeypatch.setattr(system, "vgg19_features", look)
    variables = {name: {"params": {}, "batch_stats": {}} for name in players}
    losses, _, metrics = system.losses(tiny, variables, batch, KEYS)

    error = np.abs(fake - real)
    mouth = PART.cut(fake)
    steps = [np.abs(np.diff(mouth, axis=axis)).mean() for axis in (2, 3)]
    # The corners are outside the square: real and drawn frames get the same scores.
    score = 0.2 + 3 * real[..., 0, 0, 0] + 4 * real[..., -1, -1, 2]
    expected = {
        "renderer/reconstruction": PART.cut(error).mean(),
        "renderer/total_variation": sum(steps),
        "renderer/perceptual": (2 * error.mean() + error[:, :, ::2].mean()) / 2,
        "renderer/adversarial": 0.5 * np.square(score - 1).mean(),
        "renderer_discriminator/real": 0.5 * np.square(score - 1).mean(),
        "renderer_discriminator/fake": 0.5 * np.square(score).mean(),
        "renderer_discriminator/gradient_penalty": 16.0,  # A slope of (3, 4), 5 long.
    }
    for name, value in expected.items():
        assert float(metrics[name]) == pytest.approx(value, rel=1e-4), name
    total = sum(
        tiny.loss[name.partition("/")[2]] * value
        for name, value in expected.items()
        if name.startswith("renderer/")
    )
    assert float(losses[system.RENDERER]) == pytest.approx(total, rel=1e-4)


@pytest.mark.parametrize(
    ("box", "message"),
    [((0.5, 0.5, 1.0, 1.0), "cuts off the mouth"), ((0.4, 0.0, 1.0, 1.0), "19 x 32 pixels")],
)
def test_a_box_that_does_not_do_is_one_line(tiny, box, message):
    tiny.view.box = box
    with pytest.raises(UserError, match=message):
        system.init(tiny, KEYS[0], {"video": np.zeros((1, 1, *SIZE, 3), np.uint8)})


def test_the_penalty_looks_between_real_and_drawn():
    real, fake = np.zeros((3, 2, 2, 1), np.float32), np.ones((3, 2, 2, 1), np.float32)
    share = np.array([0, 0.5, 1], np.float32)
    # The slope of the sum of squares is 2 x: of four pixels, 4 x long.
    got = gradient_penalty(lambda x: jnp.square(x).sum(axis=(1, 2, 3)), real, fake, share)
    np.testing.assert_allclose(got, [9, 1, 1], atol=1e-4)


def test_total_variation_is_that_of_neighbours():
    ramp = np.broadcast_to(np.arange(5.0)[:, None, None] * 0.3, (2, 5, 4, 3))
    np.testing.assert_allclose(total_variation(ramp), 0.3, rtol=1e-5)


def test_the_tiny_run_trains_and_is_measured_beside_a_still_mouth(tmp_path, drawn_data):
    config = everybodys_talkin_2020_renderer.get_config("tiny")
    config.data.update(dict(dataset="grid", builder_config="drawn", prepare=False))
    config.data.update(dict(data_dir=drawn_data, image_size=(64, 32), num_frames=4, eval_frames=4))
    # Four virtual devices; and no discriminator, which would take longest to compile.
    config.data.batch_size = 4
    config.loss.adversarial = 0.0
    config.renderer.num_layers = 2
    config.data.splits.update(dict(train="s1", validation="s2", test="s2"))
    config.train.max_steps = config.train.checkpoint_every = 2
    scores = train_and_evaluate(config, tmp_path)
    names = {"psnr", "ssim", "psnr_mouth", "ssim_mouth", "l1_mouth"}
    detail = {"total_variation_mouth", "real/total_variation_mouth"}
    still = {f"still/{name}" for name in names}
    assert set(scores) == {"finished", "step", *names, *still, *detail}
    # The square is a part of the frame, and the rest is equal.
    assert np.isfinite(list(scores.values())).all()
    assert scores["psnr"] > scores["psnr_mouth"]


def test_the_whole_face_form_is_measured_beside_the_frame_before(tiny, draw, monkeypatch):
    tiny.view.update(dict(whole_face=True, box=(0.0, 0.0, 1.0, 1.0)))
    batch, _ = draw(tiny)

    def render(config, variables, video, *_):
        return jnp.concatenate([video[:, :1], video[:, :-1]], axis=1), {}

    monkeypatch.setattr(system, "render", render)
    scores = system.measure(tiny, {}, batch, KEYS)
    for name in ("psnr", "ssim", "psnr_mouth", "ssim_mouth", "l1_mouth"):
        np.testing.assert_allclose(scores[f"previous/{name}"], scores[name])
        assert not np.allclose(scores[f"still/{name}"], scores[name])
    # The frame before has been real, once.
    one, other = (scores[f"{prefix}total_variation_mouth"] for prefix in ("", "real/"))
    np.testing.assert_allclose(one, other, rtol=0.05)

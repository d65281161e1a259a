import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from configs import temporal_gan_2019_grid
from flax_talk.nets.convolutions import batch_norm
from flax_talk.nets.discriminators import FrameDiscriminator
from flax_talk.systems import temporal_gan as system
from input_pipeline.audio import cut_windows

LENGTHS = [10, 8]


def keys(count, seed=0):
    return jax.random.split(jax.random.key(seed), count)


def softplus(x):
    return np.log1p(np.exp(x))


def split(variables):
    """Variables of `init` as (params, batch_stats), each by player."""
    return [
        {player: entry[kind] for player, entry in variables.items()}
        for kind in ("params", "batch_stats")
    ]


def join(params, stats):
    return {player: {"params": params[player], "batch_stats": stats[player]} for player in params}


# What the judges are shown: players that only record it


class Recorder:
    """In place of a player: returns what `output` makes of the inputs."""

    def __init__(self, output):
        self.output, self.calls = output, []

    def apply(self, variables, *inputs, train=False, mutable=(), **options):
        self.calls.append(inputs)
        result = self.output(*inputs)
        return (result, {"batch_stats": {}}) if mutable else result


EMPTY = {"params": {}, "batch_stats": {}}


def number_frames(config, lengths):
    """A batch whose lower halves and windows tell clip and frame: 40 x clip + frame."""
    t, (h, w) = config.data.num_frames, config.data.image_size
    stride, window = system.audio_geometry(config)
    b = len(lengths)
    numbers = 40 * np.arange(b)[:, None] + np.arange(t)
    video = np.full((b, t, h, w, 3), 255, np.uint8)
    video[:, :, h // 2 :] = numbers[:, :, None, None, None]
    at = np.arange((t - 1) * stride + window)
    frame_of_sample = np.clip((at - (window - stride) // 2) // stride, 0, t - 1)
    return {
        "still": video[:, 0] // 2,
        "video": video,
        "waveform": numbers[:, frame_of_sample].astype(np.float32),
        "mask": np.arange(t) < np.array(lengths)[:, None],
    }


FAKE = 100


def number_of(images):
    """The number in the bottom right corner of images [..., H, W, 3]."""
    return np.rint((np.asarray(images)[..., -1, -1, 0] + 1) * 127.5).astype(int)


def numbered_generator(video):
    """A generator whose frames have the numbers of the real ones, plus FAKE."""
    fake = (video.astype(np.float32) + FAKE) / 127.5 - 1
    return Recorder(lambda *inputs: (jnp.asarray(fake), None))


@pytest.fixture
def run_recorded(tiny, monkeypatch):
    """Runs the losses with recorders as players; tiny images, nothing to compile."""
    tiny.data.image_size = (4, 4)

    def run(players, batch, seed=0):
        monkeypatch.setattr(system, "players", lambda config, axis_name=None: players)
        variables = {name: EMPTY for name in players}
        batch = {name: jnp.asarray(value) for name, value in batch.items()}
        return system.losses(tiny, variables, batch, keys(len(batch["mask"]), seed))

    return run


def test_sync_discriminator_sees_its_three_kinds_of_pairs_with_weights_1_half_half(
    tiny, run_recorded
):
    logits = {"in sync": 0.3, "shifted": -0.4, "generated": 0.9}
    seen = []

    def judge(snippets, audio):
        numbers, sounds = number_of(snippets), np.asarray(audio[:, audio.shape[1] // 2])
        assert snippets.shape[1:] == (5, 2, 4, 3)  # The lower halves.
        generated = numbers >= FAKE
        assert generated.all() or not generated.any()
        numbers = np.where(generated, numbers - FAKE, numbers)
        np.testing.assert_array_equal(np.diff(numbers, axis=1), 1)
        clips, frames = numbers // 40, numbers % 40
        np.testing.assert_array_equal(clips[:, 0], [0, 0, 1, 1])
        lengths = np.array(LENGTHS)[clips[:, 0]]
        assert (frames >= 0).all() and (frames[:, -1] < lengths).all()
        shift = sounds - numbers[:, 2]
        if (shift == 0).all():
            kind = "generated" if generated.all() else "in sync"
        else:
            kind = "shifted"
            assert not generated.any()
            # Clip 1 is so short that some of its snippets have no place to shift to.
            assert (np.abs(shift[:2]) >= tiny.loss.min_shift).all()
            assert (sounds // 40 == clips[:, 0]).all()
            assert (sounds % 40 < lengths).all()
        seen.append(kind)
        return jnp.full(len(numbers), logits[kind])

    batch = number_frames(tiny, LENGTHS)
    players = {
        system.GENERATOR: numbered_generator(batch["video"]),
        system.SYNC: Recorder(judge),
    }
    losses, _, metrics = run_recorded(players, batch)
    assert sorted(seen) == ["generated", "generated", "in sync", "shifted"]
    expected = softplus(-0.3) + 0.5 * softplus(-0.4) + 0.5 * softplus(0.9)
    assert float(losses[system.SYNC]) == pytest.approx(expected, rel=1e-5)
    assert float(metrics["generator/sync"]) == pytest.approx(softplus(-0.9), rel=1e-5)
    assert metrics["sync_discriminator/accuracy_real"] == 1
    assert metrics["sync_discriminator/accuracy_shifted"] == 1
    assert metrics["sync_discriminator/accuracy_fake"] == 0


def test_frame_discriminator_sees_valid_frames_with_their_still(tiny, run_recorded):
    tiny.loss.num_frames = 50
    drawn = []

    def judge(frames, still):
        numbers = number_of(frames)
        generated = numbers >= FAKE
        assert generated.all() or not generated.any()
        numbers = np.where(generated, numbers - FAKE, numbers)
        for clip, length in enumerate([10, 4]):
            assert set(numbers[clip]) == set(range(40 * clip, 40 * clip + length))
            assert number_of(still)[clip] == 40 * clip // 2
        drawn.append(numbers)
        return jnp.full(frames.shape[:2], -0.6 if generated.all() else 0.2)

    batch = number_frames(tiny, [10, 4])
    players = {
        system.GENERATOR: numbered_generator(batch["video"]),
        system.FRAME: Recorder(judge),
    }
    losses, _, metrics = run_recorded(players, batch)
    # The same frames real, generated for the discriminator, and for the generator.
    assert len(drawn) == 3 and all((numbers == drawn[0]).all() for numbers in drawn)
    assert float(losses[system.FRAME]) == pytest.approx(softplus(-0.2) + softplus(-0.6), rel=1e-5)
    assert float(metrics["generator/frame"]) == pytest.approx(softplus(0.6), rel=1e-5)


def test_sequence_discriminator_sees_whole_videos_their_audio_and_mask(tiny, run_recorded):
    batch = number_frames(tiny, LENGTHS)

    def judge(video, windows, mask):
        numbers = number_of(video)
        generated = numbers >= FAKE
        assert generated.all() or not generated.any()
        sounds = windows[..., windows.shape[-1] // 2]
        np.testing.assert_array_equal(np.where(generated, numbers - FAKE, numbers), sounds)
        np.testing.assert_array_equal(mask, batch["mask"])
        return jnp.full(len(video), -0.6 if generated.all() else 0.2)

    recorder = Recorder(judge)
    players = {
        system.GENERATOR: numbered_generator(batch["video"]),
        system.SEQUENCE: recorder,
    }
    losses, _, metrics = run_recorded(players, batch)
    assert len(recorder.calls) == 3
    expected = softplus(-0.2) + softplus(-0.6)
    assert float(losses[system.SEQUENCE]) == pytest.approx(expected, rel=1e-5)
    assert float(metrics["generator/sequence"]) == pytest.approx(softplus(0.6), rel=1e-5)


def test_without_l1_the_generator_learns_from_its_judges_alone(tiny, run_recorded):
    tiny.loss.reconstruction = 0.0
    batch = number_frames(tiny, LENGTHS)
    players = {
        system.GENERATOR: numbered_generator(batch["video"]),
        system.FRAME: Recorder(lambda frames, still: jnp.full(frames.shape[:2], 0.2)),
    }
    losses, _, metrics = run_recorded(players, batch)
    assert metrics["generator/reconstruction"] > 0
    assert float(losses[system.GENERATOR]) == pytest.approx(softplus(-0.2), rel=1e-5)


def test_padded_frames_do_not_influence_the_reconstruction(tiny, run_recorded, make_batch):
    tiny.data.image_size = (4, 4)
    tiny.loss.update(dict(upper_reconstruction=100.0, mouth_reconstruction=100.0))
    batch = make_batch(tiny, [10, 7])
    fake = np.random.default_rng(1).uniform(-1, 1, batch["video"].shape).astype(np.float32)

    def reconstruction(video, fake):
        generator = Recorder(lambda *inputs: (jnp.asarray(fake), None))
        _, _, metrics = run_recorded({system.GENERATOR: generator}, batch | {"video": video})
        names = ("reconstruction", "upper_reconstruction", "mouth_reconstruction")
        return [float(metrics[f"generator/{name}"]) for name in names]

    before = reconstruction(batch["video"], fake)
    difference = np.abs(fake - (batch["video"] / 127.5 - 1))
    valid = np.concatenate([difference[0], difference[1, :7]])
    expected = [valid[:, 2:].mean(), valid[:, :2].mean(), valid[:, 2:3, 1:3].mean()]
    np.testing.assert_allclose(before, expected, rtol=1e-5)
    changed, changed_fake = batch["video"].copy(), fake.copy()
    changed[1, 7:], changed_fake[1, 7:] = 0, np.nan
    assert reconstruction(changed, changed_fake) == before
    changed[1, 6] = 0
    assert reconstruction(changed, fake) != before


def test_noise_has_the_variance_of_the_paper_in_training_and_less_in_use(
    tiny, monkeypatch, make_batch
):
    tiny.data.image_size = (4, 4)
    tiny.generator.noise_dim = 2000
    batch = make_batch(tiny, LENGTHS)
    generator = Recorder(lambda still, windows, noise, *_: (jnp.zeros(batch["video"].shape), {}))
    monkeypatch.setattr(system, "players", lambda *_: {system.GENERATOR: generator})
    variables = {system.GENERATOR: EMPTY}
    system.losses(tiny, variables, batch, keys(2))
    system.generate(tiny, variables, batch["still"], batch["waveform"], keys(2))
    training, use = [np.asarray(inputs[2]) for inputs in generator.calls]
    for noise, std in ((training, 0.6**0.5), (use, 0.33)):
        assert noise.shape == (2, 10, 2000)
        # 40 000 draws: the deviation is known to 0.35 %.
        assert noise.std() == pytest.approx(std, rel=0.02)
        assert abs(noise.mean()) < 0.02 * std + 0.01
        # White: no two frames or clips have the same.
        rows = noise.reshape(20, -1)
        correlation = np.corrcoef(rows) - np.eye(20)
        assert np.abs(correlation).max() < 0.15


# Where the judges look


def test_frames_are_drawn_uniformly_from_the_valid_ones():
    lengths = np.array([1, 2, 7, 75])
    mask = np.arange(75) < lengths[:, None]
    index = np.asarray(system.sample_frames(keys(4), mask, 15_000))
    for row, length in zip(index, lengths, strict=True):
        counts = np.bincount(row, minlength=75)
        assert counts[length:].sum() == 0
        np.testing.assert_allclose(counts[:length] * length / 15_000, 1, atol=0.35)


@pytest.mark.parametrize(("snippet_frames", "min_shift"), [(5, 3), (5, 1), (3, 6)])
def test_snippets_and_their_shifted_audio_lie_in_the_clip(tiny, snippet_frames, min_shift):
    tiny.loss.update(dict(snippet_frames=snippet_frames, min_shift=min_shift))
    most, draws = 16, 600
    half = snippet_frames // 2
    lengths = np.repeat(np.arange(most + 1), draws)
    mask = np.arange(most) < lengths[:, None]
    sample = jax.jit(lambda rng, mask: system.sample_snippets(tiny, rng, mask))
    drawn = [np.asarray(x) for x in sample(keys(len(lengths)), mask)]
    for length in range(most + 1):
        rows = slice(length * draws, (length + 1) * draws)
        centre, shifted, valid = [x[rows].reshape(-1) for x in drawn]
        assert ((centre >= 0) & (centre < most) & (shifted >= 0) & (shifted < most)).all()
        places = range(half, length - half)
        allowed = {(c, s) for c in places for s in places if abs(c - s) >= min_shift}
        # Every allowed pair is drawn, and nothing else is called valid.
        got = set(zip(centre[valid].tolist(), shifted[valid].tolist(), strict=True))
        assert got == allowed, length
        # What is called invalid has no allowed pair.
        assert not set(centre[~valid].tolist()) & {c for c, _ in allowed}


# The losses themselves


class ToyGenerator(nn.Module):
    @nn.compact
    def __call__(self, still, windows, noise, carry=None, train=False):
        b, t = windows.shape[:2]
        x = jnp.concatenate([windows[..., ::500], noise], axis=-1)
        x = nn.tanh(batch_norm(train, jnp.float32, None)(nn.Dense(8)(x)))
        video = nn.Dense(still[0].size)(x).reshape(b, t, *still.shape[1:])
        return jnp.tanh(video + still[:, None]), carry

    def teach(self, still, windows, noise, drawing=True, train=False):
        return self(still, windows, noise, train=train)[0], None


class ToyJudge(nn.Module):
    """A logit for each entry of the first `lead` axes of the first input."""

    lead: int = 1

    @nn.compact
    def __call__(self, first, *others, train=False):
        x = nn.Dense(6)(first.reshape(*first.shape[: self.lead], -1))
        for other in others:
            ones = (1,) * (self.lead - 1)
            x += nn.Dense(6)(other.astype(jnp.float32).reshape(len(other), *ones, -1))
        x = nn.tanh(batch_norm(train, jnp.float32, None)(x))
        return nn.Dense(1)(x)[..., 0]


FRAMES = np.array([[0, 9], [7, 3]])
CENTRE, SHIFTED = np.array([[2, 7], [5, 3]]), np.array([[7, 4], [2, 4]])
VALID = np.array([[True, True], [True, False]])


@pytest.fixture
def fixed_draws(monkeypatch):
    """Replaces the draws by known ones."""

    def noise(config, rng, frames, std):
        shape = (*frames.shape, config.generator.noise_dim)
        return np.random.default_rng(0).normal(size=shape).astype(np.float32) * std

    monkeypatch.setattr(system, "sample_noise", noise)
    monkeypatch.setattr(system, "sample_frames", lambda *_: FRAMES)
    monkeypatch.setattr(system, "sample_snippets", lambda *_: (CENTRE, SHIFTED, VALID))


def naive_logits(config, modules, params, stats, batch):
    """The generated video and every logit, player by player, as the paper has them."""
    still, video = (batch[name].astype(jnp.float32) / 127.5 - 1 for name in ("still", "video"))
    windows = cut_windows(batch["waveform"], *system.audio_geometry(config))
    rows = np.arange(2)[:, None]

    def apply(player, *inputs):
        variables = {"params": params[player], "batch_stats": stats[player]}
        return modules[player].apply(variables, *inputs, train=True, mutable=["batch_stats"])[0]

    def snippets(video):
        middle = video.shape[2] // 2
        picked = [video[:, :, middle:][rows, CENTRE + offset] for offset in range(-2, 3)]
        stacked = jnp.stack(picked, axis=2)
        return stacked.reshape(4, 5, *stacked.shape[3:])

    noise = system.sample_noise(config, None, batch["mask"], 0.6**0.5)
    fake, _ = apply(system.GENERATOR, still, windows, noise)
    in_sync, shifted = (windows[rows, at].reshape(4, -1) for at in (CENTRE, SHIFTED))
    logits = {
        "frame real": apply(system.FRAME, video[rows, FRAMES], still),
        "frame fake": apply(system.FRAME, fake[rows, FRAMES], still),
        "sync real": apply(system.SYNC, snippets(video), in_sync),
        "sync shifted": apply(system.SYNC, snippets(video), shifted),
        "sync fake": apply(system.SYNC, snippets(fake), in_sync),
        "sequence real": apply(system.SEQUENCE, video, windows, batch["mask"]),
        "sequence fake": apply(system.SEQUENCE, fake, windows, batch["mask"]),
    }
    return fake, logits


def naive_losses(xp, fake, logits, batch):
    """(loss by player, unweighted terms of the generator), by numpy or jax.numpy."""
    video = batch["video"] / 127.5 - 1
    middle = video.shape[2] // 2
    valid = VALID.reshape(-1)

    def log_loss(name, real, where=None):
        sign = -1 if real else 1
        values = xp.log(1 + xp.exp(sign * logits[name]))
        return values.mean() if where is None else values[where].mean()

    error = xp.abs(fake - video)[:, :, middle:].mean((2, 3, 4))
    terms = {
        "reconstruction": error[batch["mask"]].mean(),
        "frame": log_loss("frame fake", True),
        "sync": log_loss("sync fake", True, valid),
        "sequence": log_loss("sequence fake", True),
    }
    weights = {"reconstruction": 600, "frame": 1, "sync": 0.8, "sequence": 0.2}
    halves = log_loss("sync shifted", False, valid) + log_loss("sync fake", False, valid)
    losses = {
        system.GENERATOR: sum(weights[name] * terms[name] for name in terms),
        system.FRAME: log_loss("frame real", True) + log_loss("frame fake", False),
        system.SYNC: log_loss("sync real", True, valid) + halves / 2,
        system.SEQUENCE: log_loss("sequence real", True) + log_loss("sequence fake", False),
    }
    return losses, terms


def test_each_player_gets_the_gradient_of_its_own_loss_and_no_other(
    tiny, make_batch, monkeypatch, fixed_draws
):
    """The networks are toys here; the losses are not."""
    tiny.data.image_size = (4, 4)
    batch = make_batch(tiny, LENGTHS)
    modules = {
        system.GENERATOR: ToyGenerator(),
        system.FRAME: ToyJudge(lead=2),
        system.SYNC: ToyJudge(),
        system.SEQUENCE: ToyJudge(),
    }
    monkeypatch.setattr(system, "players", lambda *_: modules)
    init = jax.jit(lambda: system.init(tiny, jax.random.key(0), batch))
    params, stats = split(init())

    def losses(params):
        return system.losses(tiny, join(params, stats), batch, keys(2))[0]

    def naive(params):
        return naive_losses(jnp, *naive_logits(tiny, modules, params, stats, batch), batch)[0]

    ours, reference = jax.jit(lambda p: (jax.jacrev(losses)(p), jax.jacrev(naive)(p)))(params)
    total = jax.jit(jax.grad(lambda params: sum(losses(params).values())))(params)
    for player in modules:
        for other in modules:
            leaves = jax.tree.leaves(ours[player][other])
            if other != player:
                assert all((np.asarray(leaf) == 0).all() for leaf in leaves), (player, other)
        expected = reference[player][player]
        largest = max(np.abs(leaf).max() for leaf in jax.tree.leaves(expected))
        compare = functools.partial(np.testing.assert_allclose, rtol=1e-4, atol=1e-5 * largest)
        for got in (total[player], ours[player][player]):
            jax.tree.map(compare, got, expected)
    # Without the separation each would pull at the other.
    for player, other in ((system.GENERATOR, system.SYNC), (system.SYNC, system.GENERATOR)):
        assert any((leaf != 0).any() for leaf in jax.tree.leaves(reference[player][other]))


def test_losses_are_those_worked_out_from_the_networks(
    tiny, make_batch, draw_variables, fixed_draws
):
    batch = make_batch(tiny, LENGTHS)
    modules = system.players(tiny)
    shapes = jax.eval_shape(lambda: system.init(tiny, jax.random.key(0), batch))
    params, stats = split(draw_variables(shapes))

    @jax.jit
    def run(params, batch):
        return (
            system.losses(tiny, join(params, stats), batch, keys(2)),
            naive_logits(tiny, modules, params, stats, batch),
        )

    (losses, new_stats, metrics), (fake, logits) = run(params, batch)
    fake, logits = jax.tree.map(np.asarray, (fake, logits))
    expected, terms = naive_losses(np, fake, logits, batch)
    assert set(losses) == set(expected)
    for player, value in expected.items():
        assert float(losses[player]) == pytest.approx(value, rel=1e-4), player
        assert metrics[f"{player}/loss"] == losses[player]
    weights = {"reconstruction": 600, "frame": 1, "sync": 0.8, "sequence": 0.2}
    for name, value in terms.items():
        assert float(metrics[f"generator/{name}"]) == pytest.approx(value, rel=1e-4), name
        weighted = metrics[f"generator/{name}_weighted"]
        assert float(weighted) == pytest.approx(weights[name] * value, rel=1e-4), name
    names = {f"{player}/loss" for player in expected}
    names |= {f"generator/{name}{suffix}" for name in terms for suffix in ("", "_weighted")}
    judges = [player for player in expected if player != system.GENERATOR]
    names |= {f"{player}/accuracy_{kind}" for player in judges for kind in ("real", "fake")}
    assert set(metrics) == names | {"sync_discriminator/accuracy_shifted"}
    for player in judges:
        short = system.WEIGHTS[player]
        for kind, sign in (("real", 1), ("fake", -1)):
            right = sign * logits[f"{short} {kind}"] > 0
            share = right[VALID.reshape(-1)].mean() if short == "sync" else right.mean()
            assert float(metrics[f"{player}/accuracy_{kind}"]) == pytest.approx(share)
    # Every player's running statistics have moved, finitely.
    assert jax.tree.structure(new_stats) == jax.tree.structure(stats)
    for player in stats:
        moved = jax.tree.map(lambda a, b: (a != b).any(), new_stats[player], stats[player])
        assert all(jax.tree.leaves(moved)), player
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(new_stats))


@pytest.mark.parametrize("player", [system.FRAME, system.SYNC, system.SEQUENCE])
def test_a_weight_of_zero_removes_the_discriminator(tiny, make_batch, player):
    tiny.loss[system.WEIGHTS[player]] = 0.0
    batch = make_batch(tiny, LENGTHS)

    def run():
        variables = system.init(tiny, jax.random.key(0), batch)
        return variables, system.losses(tiny, variables, batch, keys(2))

    variables, (losses, stats, metrics) = jax.eval_shape(run)
    kept = {system.GENERATOR, system.FRAME, system.SYNC, system.SEQUENCE} - {player}
    assert set(variables) == set(losses) == set(stats) == kept
    removed = (f"{player}/", f"generator/{system.WEIGHTS[player]}")
    assert not [name for name in metrics if name.startswith(removed)]


def test_the_mouth_can_be_learned_from_the_sound_without_drawing(tiny, make_batch):
    tiny.loss.update(dict(landmarks=2.0, reconstruction=0.0, frame=0.0, sync=0.0, sequence=0.0))
    landmarks = np.random.default_rng(0).uniform(0, 64, (2, 10, 68, 2)).astype(np.float32)
    batch = make_batch(tiny, [10, 7]) | {"landmarks": landmarks}

    def run(batch):
        variables = system.init(tiny, jax.random.key(0), batch)

        def loss(params):
            entry = {system.GENERATOR: {**variables[system.GENERATOR], "params": params}}
            losses, _, metrics = system.losses(tiny, entry, batch, keys(2))
            return losses[system.GENERATOR], metrics

        params = variables[system.GENERATOR]["params"]
        return *jax.value_and_grad(loss, has_aux=True)(params), variables

    (loss, metrics), gradient, _ = jax.jit(run)(batch)
    assert "generator/reconstruction" not in metrics
    assert float(loss) == pytest.approx(2 * float(metrics["generator/landmarks"]))
    moved = {
        name: any(np.abs(leaf).max() > 0 for leaf in jax.tree.leaves(entry))
        for name, entry in gradient.items()
    }
    assert [name for name in sorted(moved) if moved[name]] == ["audio_encoder", "content", "mouth"]
    # What can be learned is what the head reads: the same mouth, and its mean over time is free.
    batch["landmarks"] = landmarks + 5
    (shifted, _), _, _ = jax.jit(run)(batch)
    assert float(shifted) == pytest.approx(float(loss), rel=1e-4)


def test_full_size_variables_have_one_entry_for_each_player(make_batch):
    config = temporal_gan_2019_grid.get_config()
    config.data.num_frames = 5
    batch = make_batch(config, [5])
    variables = jax.eval_shape(lambda: system.init(config, jax.random.key(0), batch))
    assert set(variables) == {system.GENERATOR, system.FRAME, system.SYNC, system.SEQUENCE}
    params = variables[system.GENERATOR]["params"]
    # Content 256, noise 10, identity 128.
    assert params["decoder"]["Dense_0"]["kernel"].shape == (394, 4 * 3 * 1024)
    assert params["content"]["recurrent_kernel_0"].shape == (256, 3 * 256)
    assert params["noise"]["recurrent_kernel_0"].shape == (10, 3 * 10)
    assert "recurrent_kernel_1" not in params["content"]


# Use


@pytest.fixture(scope="module")
def animate(make_tiny, make_batch, draw_variables):
    """(still, frames' audio, compiled generate) of a generator with drawn parameters."""
    config = make_tiny()
    config.loss.update(dict(frame=0.0, sync=0.0, sequence=0.0))
    batch = make_batch(config, LENGTHS)
    shapes = jax.eval_shape(lambda: system.init(config, jax.random.key(0), batch))
    variables = draw_variables(shapes)
    stride, window = system.audio_geometry(config)

    def audio(start, stop):
        return batch["waveform"][:, start * stride : (stop - 1) * stride + window]

    generate = jax.jit(lambda *inputs: system.generate(config, variables, *inputs))
    return batch["still"], audio, generate


def test_a_stream_in_chunks_equals_the_whole(animate):
    still, audio, generate = animate
    whole, last = generate(still, audio(0, 6), keys(2))
    assert whole.shape == (2, 6, 64, 32, 3) and whole.dtype == jnp.float32
    first, carry = generate(still, audio(0, 3), keys(2))
    second, carry = generate(still, audio(3, 6), keys(2), carry)
    np.testing.assert_allclose(np.concatenate([first, second], axis=1), whole, atol=1e-5)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-5), carry, last)
    np.testing.assert_array_equal(carry["frame"], [6, 6])
    # The carry matters: the second chunk by itself is another video.
    alone, _ = generate(still, audio(3, 6), keys(2))
    assert np.abs(alone - second).max() > 1e-3


def test_video_is_a_function_of_the_key_of_each_example(animate):
    still, audio, generate = animate
    video, _ = generate(still, audio(0, 6), keys(2))
    again, _ = generate(still, audio(0, 6), keys(2))
    np.testing.assert_array_equal(video, again)
    rng = jnp.stack([keys(2)[0], keys(2, seed=1)[1]])
    other, _ = generate(still, audio(0, 6), rng)
    np.testing.assert_array_equal(other[0], video[0])
    assert np.abs(other[1] - video[1]).max() > 1e-3


def test_floats_and_bytes_are_the_same_still(animate):
    still, audio, generate = animate
    video, _ = generate(still, audio(0, 6), keys(2))
    other, _ = generate(still.astype(np.float32) / 127.5 - 1, audio(0, 6), keys(2))
    np.testing.assert_allclose(video, other, atol=1e-5)


def test_compiler_merges_the_two_judgements_of_the_generated_video():
    """Held constant in one input or the other, a discriminator runs forward only once."""
    discriminator = FrameDiscriminator(width=2)
    frames = jnp.linspace(-1, 1, 2 * 64 * 64 * 3).reshape(2, 1, 64, 64, 3)
    variables = discriminator.init(jax.random.key(0), frames, frames[:, 0], False)
    stop = jax.lax.stop_gradient

    def forward(params, frames):
        entry = {**variables, "params": params}
        inputs = (frames, stop(frames[:, 0]), True)
        return discriminator.apply(entry, *inputs, mutable=["batch_stats"])[0].sum()

    def own(params, frames):
        return jax.nn.softplus(forward(params, stop(frames)))

    def of_generator(params, frames):
        return jax.nn.softplus(-forward(stop(params), frames))

    def both(params, frames):
        return own(params, frames) + of_generator(params, frames)

    def operations(function):
        compiled = jax.jit(function).lower(variables["params"], frames).compile()
        return compiled.cost_analysis()["flops"]

    once = operations(forward)
    separate = sum(operations(jax.grad(f, argnums=(0, 1))) for f in (own, of_generator))
    together = operations(jax.grad(both, argnums=(0, 1)))
    assert together == pytest.approx(separate - once, rel=0.05)
    assert together < 0.95 * separate

"""What a frame hears, both equations, who learns from them, and a clip that is learned."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from configs import everybodys_talkin_2020_grid
from flax_talk.errors import UserError
from flax_talk.face_model import model as face_model
from flax_talk.systems import audio_to_expression as system
from flax_talk.systems import get_system
from flax_talk.training import optimizers, step

RATE = 16_000


def make_config(stage="expression", frames=3):
    config = everybodys_talkin_2020_grid.get_config(f"tiny_{stage}")
    config.data.update(dict(audio_rate=RATE, num_frames=frames, image_size=(32, 24)))
    config.data.speakers = ("a", "b", "c")
    return config


def add_truth(batch, seed=0):
    """A batch with a moving face, and the landmarks of it."""
    random, (b, t) = np.random.default_rng(seed), batch["mask"].shape
    truth = {
        "geometry": random.normal(size=(b, 199)),
        "expression": random.normal(size=(b, t, 29)),
        "pose": np.concatenate(
            [
                random.normal(0, 0.1, (b, t, 3)),
                random.normal(12, 1, (b, t, 2)),
                np.full((b, t, 1), 15),
            ],
            axis=-1,
        ),
    }
    truth = {name: value.astype(np.float32) for name, value in truth.items()}
    every = np.stack([mouth(truth, i, expression=None, part=slice(None)) for i in range(b)])
    return batch | truth | {"landmarks": every, "speaker_index": np.arange(b, dtype=np.int32)}


def mouth(batch, clip, expression=None, part=face_model.MOUTH):
    expression = batch["expression"][clip] if expression is None else expression
    points = face_model.projected_landmarks(
        face_model.load_default(), batch["geometry"][clip], expression, batch["pose"][clip]
    )
    return np.asarray(points)[:, part]


@pytest.mark.parametrize("stage", ["expression", "landmark"])
def test_loss_and_measures_are_equations_3_and_5(make_batch, monkeypatch, stage):
    config = make_config(stage)
    config.remove_identity = False
    config.loss.update(dict(expression=2.0, landmarks=0.5))
    batch = add_truth(make_batch(config, [3, 2]))
    random = np.random.default_rng(1)
    output = random.normal(size=(6, 29 if stage == "expression" else 40)).astype(np.float32)
    monkeypatch.setattr(system, "_translate", lambda c, v, windows: (windows, jnp.asarray(output)))
    per_clip = []
    for clip, frames in enumerate((3, 2)):
        answer = output.reshape(2, 3, -1)[clip]
        if stage == "expression":
            points = mouth(batch, clip, answer)
        else:
            points = 2.4 * answer.reshape(3, 20, 2) + np.float32([12, 0.67 * 32])
        e = np.linalg.norm(answer[..., :29] - batch["expression"][clip], axis=-1)[:frames]
        ldmk = np.linalg.norm(points - mouth(batch, clip), axis=-1).mean(axis=-1)[:frames]
        per_clip.append((e, ldmk))
    e, ldmk = (np.concatenate(parts) for parts in zip(*per_clip, strict=True))
    variables = {system.TRANSLATION: {"params": {}, "batch_stats": {}}}
    run = jax.jit(
        lambda batch: (
            system.losses(config, variables, batch, None),
            system.measure(config, variables, batch, None),
        )
    )
    (losses, _, metrics), values = run(batch)
    assert metrics["audio_to_expression/landmarks"] == pytest.approx(ldmk.mean(), rel=1e-4)
    expected = 0.5 * ldmk.mean() + (2 * e.mean() if stage == "expression" else 0)
    assert losses[system.TRANSLATION] == pytest.approx(expected, rel=1e-4)

    for name, parts in (("E_exp", 0), ("E_ldmk", 1)):
        if stage == "expression" or name == "E_ldmk":
            expected = [clip[parts].mean() for clip in per_clip]
            np.testing.assert_allclose(values[name], expected, rtol=1e-4)
    mean = batch["expression"][1, :2].mean(axis=0)
    if stage == "expression":
        distance = np.linalg.norm(batch["expression"][1, :2] - mean, axis=-1).mean()
        assert values["clip_mean/E_exp"][1] == pytest.approx(distance, rel=1e-4)
    constant = mouth(batch, 1, np.broadcast_to(mean, (3, 29))) - mouth(batch, 1)
    expected = np.linalg.norm(constant[:2], axis=-1).mean()
    assert values["clip_mean/E_ldmk"][1] == pytest.approx(expected, rel=1e-4)
    moved = np.linalg.norm(mouth(batch, 1)[:1] - mouth(batch, 1)[:2], axis=-1).mean()
    assert values["still/E_ldmk"][1] == pytest.approx(moved, rel=1e-4)


def test_uniform_loss_is_least_where_all_speakers_are_equally_likely():
    def loss(logits):
        return system.uniform_cross_entropy(jax.nn.log_softmax(logits))

    logits = jnp.zeros(7)
    assert loss(logits) == pytest.approx(np.log(7), rel=1e-6)
    np.testing.assert_allclose(jax.grad(loss)(logits), 0, atol=1e-6)
    others = np.random.default_rng(0).normal(size=(20, 7)).astype(np.float32)
    assert jax.vmap(loss)(others).min() > np.log(7) + 1e-3


def test_both_networks_learn_and_the_frozen_judge_does_not(make_batch, draw_variables):
    config = make_config()
    batch = add_truth(make_batch(config, [3, 3]))
    state = jax.eval_shape(lambda: system.init(config, jax.random.key(0), batch))
    variables = draw_variables(state)
    params = {player: entry["params"] for player, entry in variables.items()}

    def losses(params):
        entries = {name: {**variables[name], "params": params[name]} for name in params}
        return system.losses(config, entries, batch, None)[0]

    grads = jax.jit(jax.jacrev(losses))(params)
    assert set(grads) == {system.ID_REMOVING, system.TRANSLATION}

    def reached(loss, player):
        return np.mean([(np.asarray(g) != 0).any() for g in jax.tree.leaves(grads[loss][player])])

    assert reached(system.ID_REMOVING, system.ID_REMOVING) == 1
    assert reached(system.ID_REMOVING, system.TRANSLATION) == 0
    assert reached(system.TRANSLATION, system.TRANSLATION) == 1
    assert reached(system.TRANSLATION, system.ID_REMOVING) == 1
    for loss in grads:
        assert reached(loss, system.SPEAKER) == 0


def test_a_frame_hears_from_800_ms_before_it_to_200_ms_after_it(
    make_batch, draw_variables, monkeypatch
):
    """And nothing else, in pieces or at once."""
    monkeypatch.setattr(system, "_CHUNK", 8)
    config = make_config(frames=30)
    wave = 0.1 * make_batch(config, [30])["waveform"]
    batch = {"waveform": wave}
    state = jax.eval_shape(lambda: system.init(config, jax.random.key(0), batch))
    variables = draw_variables(state)
    middle = 20 * RATE // 25 + round(1.61 * RATE) // 2

    @jax.jit
    def hear(wave):
        x, removed = system.features(config, variables, wave)
        e = system.expressions(config, variables, wave)
        return x[:, 20], removed[:, 20], e[:, 20]

    before = hear(wave)
    removed, e = jax.jit(lambda x: system._translate(config, variables, x))(before[0])
    np.testing.assert_allclose(before[1], removed, atol=1e-5)
    np.testing.assert_allclose(before[2], e, atol=1e-5)
    assert np.abs(removed - before[0]).max() > 1e-2
    outside = wave.copy()
    outside[:, : middle - 8 * RATE // 10] = 0
    outside[:, middle + 2 * RATE // 10 :] = 0
    for one, other in zip(hear(outside), before, strict=True):
        np.testing.assert_array_equal(one, other)
    for first, column in ((middle - 795 * RATE // 1000, 0), (middle + RATE // 5 - 20, 97)):
        inside = wave.copy()
        inside[:, first : first + 20] = 0.9
        changed = np.abs(np.asarray(hear(inside)[0]) - before[0]).max(axis=(0, 2)) > 1e-3
        assert changed[column] and changed.sum() <= 3
    config.data.window_seconds = 1.6
    with pytest.raises(UserError, match="window_seconds is 1.6: set it to 1.61"):
        system.expressions(config, variables, wave)


def test_a_clip_is_learned_by_heart():
    """Whose expression follows the loudness, some frames late."""
    config = make_config(frames=16)
    config.remove_identity = False
    config.audio_to_expression.update(dict(hidden=12, stack=14))
    random, frames = np.random.default_rng(0), 16
    time = np.arange(round((0.6 + 1.61) * RATE)) / RATE
    loudness = np.abs(np.sin(5 * time))
    wave = 0.3 * loudness * random.normal(size=len(time))
    batch = add_truth({"waveform": np.float32(wave)[None], "mask": np.ones((1, frames), bool)})
    follow = loudness[round(0.805 * RATE) :: RATE // 25][:frames, None]
    batch["expression"][0] = follow * random.normal(size=29)
    system_variables = jax.jit(lambda: system.init(config, jax.random.key(0), batch))()
    optimizer = optax.adam(2e-2)

    def total(params):
        entries = {k: {**system_variables[k], "params": params[k]} for k in params}
        return sum(system.losses(config, entries, batch, None)[0].values())

    @jax.jit
    def learn(params):
        def body(carry, _):
            updates, state = optimizer.update(jax.grad(total)(carry[0]), carry[1])
            return (optax.apply_updates(carry[0], updates), state), None

        return jax.lax.scan(body, (params, optimizer.init(params)), length=80)[0][0]

    params = learn({k: entry["params"] for k, entry in system_variables.items()})
    variables = {k: {**system_variables[k], "params": params[k]} for k in params}
    values = jax.jit(lambda v: system.measure(config, v, batch, None))(variables)
    for name in ("E_exp", "E_ldmk"):
        assert values[name][0] < 0.35 * values[f"clip_mean/{name}"][0]


@pytest.mark.parametrize("stage", ["speaker", "landmark"])
def test_tiny_stages_train(make_batch, stage):
    """Two steps move every parameter that has a gradient, and what they reach is measured."""
    config = make_config(stage, frames=2)
    module = get_system(config.system)
    batch = add_truth(make_batch(config, [2, 2]))
    players = jax.eval_shape(lambda: module.init(config, jax.random.key(0), batch))
    optimizer = optimizers.make_optimizer(config.optimizer, players, 1)
    first = jax.jit(lambda: step.init_state(module, config, optimizer, batch))()
    advance = jax.jit(lambda state: step.train_step(module, config, optimizer, state, batch))
    state, _ = advance(first)
    state, metrics = advance(state)
    assert int(state.step) == 2 and all(np.isfinite(value) for value in metrics.values())
    for player, params in state.params.items():
        pairs = zip(jax.tree.leaves(params), jax.tree.leaves(first.params[player]), strict=True)
        assert any(not np.array_equal(new, old) for new, old in pairs), player
    found = jax.jit(lambda v: module.measure(config, v, batch, None))(state.variables)
    assert all(value.shape == (2,) for value in found.values())
    scores = module.summarise(config, {name: float(v.mean()) for name, v in found.items()})
    assert config.early_stopping.metric in scores

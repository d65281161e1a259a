import jax
import jax.numpy as jnp
import numpy as np
import pytest

from flax_talk.nets.discriminators import (
    FrameDiscriminator,
    SequenceDiscriminator,
    SyncDiscriminator,
)
from flax_talk.nets.encoders import AudioEncoder, ImageEncoder
from flax_talk.nets.recurrent import GRU

H, W, WINDOW, RATE = 32, 32, 50, 1000


def random(*shape, seed=0):
    return np.random.default_rng(seed).uniform(-1, 1, shape).astype(np.float32)


@pytest.mark.parametrize(
    ("module", "inputs", "logits"),
    [
        (FrameDiscriminator(), [(2, 4, 128, 96, 3), (2, 128, 96, 3)], (2, 4)),
        (SyncDiscriminator(), [(6, 5, 64, 96, 3), (6, 10_000)], (6,)),
        (SequenceDiscriminator(), [(2, 75, 128, 96, 3), (2, 75, 10_000), (2, 75)], (2,)),
        (
            SequenceDiscriminator(conditional=True),
            [(2, 75, 128, 96, 3), (2, 75, 10_000), (2, 75)],
            (2,),
        ),
    ],
    ids=["frame", "sync", "sequence", "sequence conditional"],
)
def test_full_size_gives_one_logit_for_each_judged(module, inputs, logits):
    # (2, 75) is the mask.
    inputs = [
        jax.ShapeDtypeStruct(shape, bool if shape == (2, 75) else jnp.float32) for shape in inputs
    ]

    def run(*inputs):
        return module.init_with_output(jax.random.key(0), *inputs, train=True)

    got, variables = jax.eval_shape(run, *inputs)
    assert got.shape == logits and got.dtype == jnp.float32
    params = variables["params"]
    if isinstance(module, FrameDiscriminator):  # Six layers, frame and still as 6 channels.
        trunk = params["ImageEncoder_0"]
        assert len(trunk) == 6
        assert trunk["ConvBlock_0"]["Conv_0"]["kernel"].shape == (4, 4, 6, 64)
        assert trunk["Conv_0"]["kernel"].shape == (4, 3, 1024, 1)
    elif isinstance(module, SyncDiscriminator):  # Five frames as 15 channels, half as high.
        trunk = params["ImageEncoder_0"]
        assert trunk["ConvBlock_0"]["Conv_0"]["kernel"].shape == (4, 4, 15, 64)
        assert trunk["Conv_0"]["kernel"].shape == (2, 3, 1024, 256)
    else:
        assert params["ImageEncoder_0"]["ConvBlock_0"]["Conv_0"]["kernel"].shape[0] == 3
        features = 512 if module.conditional else 256
        assert params["GRU_0"]["input_kernel_0"].shape == (features, 3 * 256)
        assert params["Dense_0"]["kernel"].shape == (256, 1)
        assert ("AudioEncoder_0" in params) == module.conditional


def prepare(module, *inputs):
    """The module compiled with running statistics: each example is judged by itself."""
    variables = jax.jit(lambda: module.init(jax.random.key(0), *inputs, train=False))()
    return variables, jax.jit(lambda *inputs: module.apply(variables, *inputs, train=False))


def test_frame_logit_depends_on_its_frame_and_its_still_alone():
    frames, still = random(2, 3, H, W, 3), random(2, H, W, 3, seed=1)
    _, judge = prepare(FrameDiscriminator(width=2), frames, still)
    before = judge(frames, still)
    changed = frames.copy()
    changed[1, 2] *= -1
    different = np.asarray(judge(changed, still) != before)
    np.testing.assert_array_equal(different, [[False] * 3, [False, False, True]])
    changed = still.copy()
    changed[0] *= -1
    different = np.asarray(judge(frames, changed) != before)
    np.testing.assert_array_equal(different, [[True] * 3, [False] * 3])


@pytest.fixture(scope="module", params=[False, True], ids=["frames", "frames and audio"])
def sequence(request):
    t = 16
    inputs = random(2, t, H, W, 3), random(2, t, WINDOW, seed=1)
    mask = np.arange(t) < np.array([[6], [16]])
    module = SequenceDiscriminator(
        features=4, hidden=4, width=2, conditional=request.param, audio_rate=RATE
    )
    _, judge = prepare(module, *inputs, mask)
    return request.param, judge, *inputs, mask


def test_sequence_logit_ignores_what_lies_beyond_the_end(sequence):
    """Five convolutions, three frames deep, see five frames past the last valid one."""
    _, judge, video, audio, mask = sequence
    before = judge(video, audio, mask)
    beyond, seen, valid = video.copy(), video.copy(), video.copy()
    beyond[0, 6 + 5 :] *= -1
    seen[0, 6 + 4] *= -1
    valid[0, 5] *= -1
    np.testing.assert_array_equal(judge(beyond, audio, mask), before)
    assert judge(seen, audio, mask)[0] != before[0]
    assert judge(valid, audio, mask)[0] != before[0]
    silent = audio.copy()
    silent[0, 6:] = 0
    np.testing.assert_array_equal(judge(video, silent, mask), before)


def test_sequence_logit_depends_on_all_frames_and_their_order(sequence):
    _, judge, video, audio, mask = sequence
    before = judge(video, audio, mask)
    first = video.copy()
    first[1, 0] *= -1
    assert judge(first, audio, mask)[1] != before[1]
    assert judge(video[:, ::-1], audio, mask)[1] != before[1]


def test_sequence_logit_depends_on_the_audio_only_if_conditional(sequence):
    conditional, judge, video, audio, mask = sequence
    same = np.asarray(judge(video, -audio, mask) == judge(video, audio, mask))
    np.testing.assert_array_equal(same, [not conditional] * 2)


def test_sequence_logit_of_2018_is_that_of_single_frames_their_audio_and_two_layers(
    draw_variables,
):
    t, length, features = 5, 3, 4
    video, audio = random(1, t, H, W, 3), random(1, t, WINDOW, seed=1)
    mask = np.arange(t)[None] < length
    form = dict(kernel_time=0, negative_slope=0.0, tanh=True, conditional=True, audio_width=2)
    layers = dict(num_layers=2, classifier_layers=2)
    module = SequenceDiscriminator(features, 6, width=2, **form, **layers, audio_rate=RATE)
    inputs = (video, audio, mask, False)
    variables = draw_variables(jax.eval_shape(lambda: module.init(jax.random.key(0), *inputs)))
    params = variables["params"]

    @jax.jit
    def naive(video, audio):
        """Of the valid frames alone, each of which is encoded by itself."""

        def part(name):
            return {key: entry[name] for key, entry in variables.items() if name in entry}

        image = ImageEncoder(features, width=2, negative_slope=0.0)
        code = jnp.tanh(image.apply(part("ImageEncoder_0"), video, False))
        sound = AudioEncoder(features, RATE, 2).apply(part("AudioEncoder_0"), audio, False)
        states, _ = GRU(6, 2).apply(part("GRU_0"), jnp.concatenate([code, sound], axis=-1)[None])
        first, second = params["Dense_0"], params["Dense_1"]
        state = jnp.maximum(states[0, -1] @ first["kernel"] + first["bias"], 0)
        return state @ second["kernel"] + second["bias"]

    expected = naive(video[0, :length], audio[0, :length])
    got = jax.jit(lambda: module.apply(variables, *inputs))()
    np.testing.assert_allclose(got, expected, rtol=1e-4)


def test_sync_logit_falls_with_the_distance_of_the_embeddings():
    n, features, width = 3, 6, 2
    snippets, audio = random(n, 5, H, W, 3), random(n, WINDOW, seed=1)
    variables, judge = prepare(SyncDiscriminator(features, width, RATE), snippets, audio)
    got = judge(snippets, audio)

    @jax.jit
    def embed(snippets, audio):
        """The streams by themselves, the snippet stacked frame after frame."""
        entry = {
            name: {key: variables[key][name] for key in ("params", "batch_stats")}
            for name in ("ImageEncoder_0", "AudioEncoder_0")
        }
        stacked = jnp.concatenate([snippets[:, i] for i in range(5)], axis=-1)
        lips = ImageEncoder(features, width=width).apply(entry["ImageEncoder_0"], stacked, False)
        sound = AudioEncoder(features, RATE).apply(entry["AudioEncoder_0"], audio, False)
        return jnp.tanh(lips), sound

    lips, sound = embed(snippets, audio)
    distance = np.linalg.norm(np.asarray(lips) - np.asarray(sound), axis=-1)
    weight, bias = variables["params"]["weight"], variables["params"]["bias"]
    assert weight < 0 < bias
    np.testing.assert_allclose(got, weight * distance + bias, rtol=1e-4, atol=1e-5)
    assert (np.abs(judge(snippets, -audio) - got) > 1e-6).all()


def test_sync_gradient_is_finite_where_the_embeddings_agree():
    module = SyncDiscriminator(4, 2, RATE)
    snippets, audio = random(1, 5, H, W, 3), random(1, WINDOW)

    @jax.jit
    def gradient(snippets, audio):
        variables = module.init(jax.random.key(0), snippets, audio, train=False)
        zeros = jax.tree.map(jnp.zeros_like, variables["params"])
        zeros |= {"weight": variables["params"]["weight"], "bias": variables["params"]["bias"]}

        def logit(params):
            return module.apply({**variables, "params": params}, snippets, audio, False).sum()

        return jax.grad(logit)(zeros)

    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(gradient(snippets, audio)))

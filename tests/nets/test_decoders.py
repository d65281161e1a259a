import jax
import jax.numpy as jnp
import numpy as np
import pytest

from flax_talk.nets import convolutions, decoders
from flax_talk.nets.decoders import FrameDecoder

# Papers: the image is 128 x 96, the latent 256 + 128 + 10.
SKIPS = [(2, 128 >> i, 96 >> i, 32 * 2**i) for i in range(1, 6)]
LATENT = 256 + 128 + 10


def test_decoder_has_the_sizes_of_the_papers():
    shapes = [(2, 3, LATENT), (2, 128, 96, 3), *SKIPS]
    latent, still, *skips = [jax.ShapeDtypeStruct(shape, jnp.float32) for shape in shapes]

    def run(latent, still, skips):
        decoder = FrameDecoder()
        return decoder.init_with_output(jax.random.key(0), latent, still, skips, train=False)

    video, variables = jax.eval_shape(run, latent, still, skips)
    assert video.shape == (2, 3, 128, 96, 3)
    assert video.dtype == jnp.float32
    params = variables["params"]
    kernels = {
        name: entry["kernel"].shape
        for name, entry in params.items()
        if not name.startswith("BatchNorm")
    }
    widths = [1024, 512, 256, 128]
    expected = {"Dense_0": (LATENT, 4 * 3 * 1024), "Upsample_4": (4, 4, 64, 3)}
    for block, width in enumerate(widths):
        # The frame's half and the skip's half of one convolution of 2 x width channels.
        expected[f"Conv_{2 * block}"] = (3, 3, width, width)
        expected[f"Conv_{2 * block + 1}"] = (3, 3, width, width)
        expected[f"Upsample_{block}"] = (4, 4, width, width // 2)
    assert kernels == expected
    count = sum(leaf.size for leaf in jax.tree.leaves(params))
    blocks = sum(2 * 9 * c * c + 16 * c * (c // 2) + 2 * c + 2 * (c // 2) for c in widths)
    assert count == LATENT * 12_288 + 2 * 1024 + blocks + 16 * 64 * 3 == 41_060_992


def naive(variables, latent, skips):
    """The decoder in the papers' words, frame by frame: concatenate, one 3x3 convolution."""
    params, stats = variables["params"], variables["batch_stats"]
    count = iter(range(100))

    def activate(x):
        name = f"BatchNorm_{next(count)}"
        x = (x - stats[name]["mean"]) / jnp.sqrt(stats[name]["var"] + 1e-5)
        return jnp.maximum(x * params[name]["scale"] + params[name]["bias"], 0)

    def upsample(x, kernel):
        return jax.lax.conv_transpose(
            x,
            kernel[::-1, ::-1],
            (2, 2),
            ((2, 2), (2, 2)),
            dimension_numbers=("NHWC", "HWIO", "NHWC"),
        )

    _, h, w, channels = skips[-1].shape
    x = activate((latent @ params["Dense_0"]["kernel"]).reshape(-1, h, w, channels))
    blocks = sum(name.startswith("Conv") for name in params) // 2
    for block, skip in enumerate(skips[::-1][:blocks]):
        halves = [params[f"Conv_{2 * block + i}"]["kernel"] for i in range(2)]
        x = jax.lax.conv_general_dilated(
            jnp.concatenate([x, skip], axis=-1),
            jnp.concatenate(halves, axis=2),
            (1, 1),
            "SAME",
            dimension_numbers=("NHWC", "HWIO", "NHWC"),
        )
        x = activate(x)
        if skip is not skips[0]:
            x = activate(upsample(x, params[f"Upsample_{block}"]["kernel"]))
    return jnp.tanh(upsample(x, params["Upsample_4"]["kernel"]))


@pytest.mark.parametrize("num_skips", [4, 5])
def test_a_convolution_split_over_frame_and_skip_is_that_of_their_concatenation(num_skips):
    b, t = 2, 3
    random = np.random.default_rng(0)

    def draw(*shape):
        return random.normal(size=shape).astype(np.float32)

    skips = [draw(b, 64 >> i, 32 >> i, 2**i) for i in range(1, 6)]
    latent, still = draw(b, t, 7), draw(b, 64, 32, 3)
    decoder = FrameDecoder(num_skips)
    shapes = jax.eval_shape(
        lambda: decoder.init(jax.random.key(0), latent, still, skips, train=False)
    )
    variables = jax.tree.map(lambda s: 0.2 * np.abs(draw(*s.shape)) + 0.1, shapes)
    variables["params"] = jax.tree.map(lambda s: 0.3 * draw(*s.shape), shapes["params"])

    @jax.jit
    def run(variables, latent, skips):
        video = decoder.apply(variables, latent, still, skips, train=False)
        repeated = [jnp.repeat(skip, t, axis=0) for skip in skips]
        halves = decoder.apply(variables, still, skips, method="halves")
        later = decoder.apply(variables, latent, still, halves, train=False)
        return video, later, naive(variables, latent.reshape(b * t, -1), repeated)

    video, later, expected = run(variables, latent, skips)
    np.testing.assert_allclose(later, video, atol=1e-6)
    assert video.shape == (b, t, 64, 32, 3)
    np.testing.assert_allclose(video, np.reshape(expected, video.shape), atol=1e-5)
    assert 0.01 < np.abs(video).max() < 1


def test_frames_decoded_a_few_at_a_time_on_a_cpu_are_those_of_native_convolutions(monkeypatch):
    t = 7
    random = np.random.default_rng(0)

    def draw(*shape):
        return random.normal(size=shape).astype(np.float32)

    skips = [draw(2, 64 >> i, 32 >> i, 8 * 2**i) for i in range(1, 6)]
    latent, still = draw(2, t, 7), draw(2, 64, 32, 3)
    decoder = FrameDecoder(num_skips=5)
    inputs = (latent, still, skips, False)
    shapes = jax.eval_shape(lambda: decoder.init(jax.random.key(0), *inputs))
    variables = jax.tree.map(lambda s: np.abs(draw(*s.shape)) + 0.5, shapes)
    variables["params"] = jax.tree.map(
        lambda s: draw(*s.shape) / np.prod(s.shape[:-1]) ** 0.5, shapes["params"]
    )
    monkeypatch.setattr(decoders, "_CHUNK_BYTES", 3 * skips[0].nbytes)

    def run(variables):
        return decoder.apply(variables, *inputs)

    def prepare(variables):
        return decoder.apply(variables, *inputs, mutable=[convolutions.PREPARED])[1]

    prepared = jax.jit(prepare)(variables)
    entry = prepared[convolutions.PREPARED]
    assert {name[:4] for name in entry} == {"Conv", "Upsa"}
    fast = jax.jit(run)({**variables, **prepared})
    for module in (convolutions, decoders):
        monkeypatch.setattr(module, "implementation", lambda: "native")
    native = jax.jit(lambda variables: decoder.apply(variables, *inputs))(variables)
    assert np.abs(native).max() > 0.1 and (native[:, 0] != native[:, 1]).any()
    np.testing.assert_allclose(fast, native, atol=1e-5)


def test_a_residual_decoder_starts_with_the_still_and_changes_it():
    random = np.random.default_rng(0)
    skips = [random.normal(size=(2, 32 >> i, 32 >> i, 2)).astype(np.float32) for i in range(1, 6)]
    latent = random.normal(size=(2, 3, 7)).astype(np.float32)
    still = random.uniform(-1, 1, (2, 32, 32, 3)).astype(np.float32)
    decoder = FrameDecoder(num_skips=5, residual=True)

    @jax.jit
    def step():
        inputs = (latent, still, skips)
        video, variables = decoder.init_with_output(jax.random.key(0), *inputs, train=False)

        def run(params):
            return decoder.apply({**variables, "params": params}, *inputs, train=False)

        def error(params):
            return jnp.abs(run(params) - 0.5).mean()

        before, gradient = jax.value_and_grad(error)(variables["params"])
        moved = jax.tree.map(lambda p, g: p - 0.3 * g, variables["params"], gradient)
        return video, before, error(moved), run(moved)

    video, before, after, changed = step()
    np.testing.assert_array_equal(video, np.repeat(still[:, None], 3, axis=1))
    assert after < before
    assert np.abs(changed).max() <= 1 and (changed[:, 0] != changed[:, 1]).any()

"""The U-Net of the renderer and its discriminator, each frame by itself."""

import jax
import numpy as np

from flax_talk.nets.renderer import Renderer, RendererDiscriminator


def random(*shape, seed=0):
    return np.random.default_rng(seed).uniform(-1, 1, shape).astype(np.float32)


def test_drawn_as_changes_frames_start_as_their_base(draw_variables):
    windows, base = random(2, 16, 16, 8), random(2, 16, 16, 3)
    module = Renderer(width=2, num_layers=2, bottleneck_layers=1, residual=True)
    variables = jax.eval_shape(lambda: module.init(jax.random.key(0), windows, base, False))
    assert {name for name in variables["params"] if "Upsample" in name} == {
        "Upsample_0",
        "Upsample_1",
    }
    variables = draw_variables(variables)
    last = variables["params"]["Upsample_1"]

    @jax.jit
    def draw(kernel):
        params = {**variables["params"], "Upsample_1": {"kernel": kernel}}
        return module.apply({**variables, "params": params}, windows, base, False)

    np.testing.assert_array_equal(draw(0 * last["kernel"]), base)
    assert (draw(last["kernel"]) != base).mean() > 0.5
    fresh = jax.jit(lambda: module.init(jax.random.key(0), windows, base, False))()
    assert not np.asarray(fresh["params"]["Upsample_1"]["kernel"]).any()


def test_a_score_depends_on_its_frame_and_its_map_alone(draw_variables):
    frames, maps = random(2, 3, 16, 16, 3), random(2, 3, 16, 16, seed=1)
    module = RendererDiscriminator(width=2, num_layers=2)
    shapes = jax.eval_shape(lambda: module.init(jax.random.key(0), frames, maps, True))
    assert set(shapes) == {"params"}  # No statistics: the batch normalises nothing.
    variables = draw_variables(shapes)
    judge = jax.jit(lambda frames, maps: module.apply(variables, frames, maps, True))
    before = np.asarray(judge(frames, maps))
    assert before.shape == (2, 3)
    for changed in (frames.copy(), maps.copy()):
        changed[1, 2] *= -1
        inputs = (changed, maps) if changed.ndim == 5 else (frames, changed)
        different = judge(*inputs) != before
        np.testing.assert_array_equal(different, [[False] * 3, [False, False, True]])

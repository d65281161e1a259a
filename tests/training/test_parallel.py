import jax
import jax.numpy as jnp
import numpy as np
import pytest

from flax_talk.errors import UserError
from flax_talk.training import parallel


@pytest.fixture(scope="module")
def mesh():
    mesh = parallel.make_mesh()
    assert mesh.size == 4
    return mesh


def test_batch_is_spread_and_state_is_everywhere(mesh):
    batch = parallel.shard_batch(mesh, {"x": np.arange(24).reshape(8, 3)})["x"]
    np.testing.assert_array_equal(batch, np.arange(24).reshape(8, 3))
    assert [shard.data.shape for shard in batch.addressable_shards] == [(2, 3)] * 4
    state = parallel.replicate(mesh, {"w": np.arange(5)})["w"]
    assert [shard.data.shape for shard in state.addressable_shards] == [(5,)] * 4
    assert state.is_fully_replicated


@pytest.mark.parametrize("batch_size", [6, 1, 3])
def test_batch_that_devices_cannot_share_is_one_clear_line(batch_size):
    message = rf"config.data.batch_size={batch_size} .* 4 devices: use a multiple of 4"
    with pytest.raises(UserError, match=message) as caught:
        parallel.check_batch_size(batch_size)
    assert "\n" not in str(caught.value)


def test_batch_whose_parts_devices_cannot_share_is_one_clear_line():
    parallel.check_batch_size(16, accumulate=2)
    message = "config.data.batch_size=12 .* in config.train.accumulate=2 parts: use a multiple of 8"
    with pytest.raises(UserError, match=message):
        parallel.check_batch_size(12, accumulate=2)


@pytest.mark.parametrize("batch_size", [4, 8])
def test_batch_that_devices_can_share_passes(batch_size):
    parallel.check_batch_size(batch_size)


def test_unknown_kind_is_one_clear_line(mesh):
    with pytest.raises(UserError, match="config.parallel='xmap'.*'shard_map' or 'pmap'"):
        parallel.parallelize(lambda state, batch: state, mesh, "xmap")


@pytest.mark.parametrize("kind", ["shard_map", "pmap"])
def test_each_device_gets_its_slice_in_order(mesh, kind):
    def device(state, batch):
        index = jax.lax.axis_index(parallel.AXIS)
        part = state + index * 100 + batch["x"]
        return {"parts": jax.lax.all_gather(part, parallel.AXIS), "sum": jax.lax.psum(part, "data")}

    batch = parallel.shard_batch(mesh, {"x": np.arange(8)})
    got = parallel.parallelize(device, mesh, kind)(jnp.array(1000), batch)
    expected = 1000 + 100 * np.arange(4)[:, None] + np.arange(8).reshape(4, 2)
    np.testing.assert_array_equal(got["parts"], expected)
    np.testing.assert_array_equal(got["sum"], expected.sum(0))


@pytest.mark.parametrize("donate", [False, True])
def test_memory_of_a_donated_state_is_reused(mesh, donate):
    step = parallel.parallelize(lambda s, b: s + 1, mesh, "shard_map", donate_state=donate)
    batch = parallel.shard_batch(mesh, {"x": np.zeros(4)})
    state = parallel.replicate(mesh, np.zeros(1000, np.float32))
    after = step(state, batch)
    np.testing.assert_array_equal(after, np.ones(1000))
    assert state.is_deleted() == donate

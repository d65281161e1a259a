"""Checkpoints survive what happens to files: half saves, damage, full disks, other sizes."""

import errno
import json
import os
from pathlib import Path

import grain
import jax.numpy as jnp
import numpy as np
import pytest

from flax_talk.errors import UserError
from flax_talk.systems import check_config
from flax_talk.training import checkpoints as ckpt
from flax_talk.training.checkpoints import Checkpoints, load_variables
from flax_talk.training.step import TrainState


def make_state(step: int, width: int = 200) -> TrainState:
    """A state whose numbers say which step it is of; no chunk of them compresses away."""
    numbers = np.random.default_rng(step).normal(size=(width, 50)).astype(np.float32)
    moments = {"generator": {"kernel": jnp.asarray(numbers[::-1])}}
    return TrainState(
        step=jnp.int32(step),
        params={"generator": {"kernel": jnp.asarray(numbers)}},
        batch_stats={"generator": {}},
        opt_state=moments,
        rng=jnp.array([1, step], jnp.uint32),
    )


def clips():
    return iter(grain.MapDataset.range(100).to_iter_dataset())


@pytest.fixture
def run(tmp_path) -> Path:
    """A run with checkpoints of steps 2 and 4, the better of which was 2."""
    saved, iterator = Checkpoints(tmp_path, keep=2), clips()
    for step in (2, 4):
        next(iterator)
        saved.save(make_state(step), iterator, {"best_step": 2})
        if step == 2:
            assert saved.save_best(make_state(step))
    saved.close()
    return tmp_path


def restored(run, width=200):
    saved, iterator = Checkpoints(run, keep=2), clips()
    try:
        state, progress = saved.restore(make_state(0, width), iterator)
    finally:
        saved.close()
    return state, next(iterator), progress


def steps_in(folder):
    return sorted(int(path.name) for path in folder.iterdir() if path.name.isdigit())


def largest_file(folder: Path) -> Path:
    return max((p for p in folder.rglob("*") if p.is_file()), key=lambda p: p.stat().st_size)


def cut(folder):
    path = largest_file(folder)
    os.truncate(path, path.stat().st_size // 2)


def flip(folder):
    path = largest_file(folder)
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 4
    path.write_bytes(content)


def empty(folder):
    for path in folder.rglob("*"):
        if path.is_file():
            os.truncate(path, 0)


def remove(folder):
    largest_file(folder).unlink()


def test_the_newest_is_restored_with_the_loaders_place(run):
    state, clip, progress = restored(run)
    assert (int(state.step), clip, progress) == (4, 2, {"best_step": 2})
    np.testing.assert_array_equal(
        state.params["generator"]["kernel"], make_state(4).params["generator"]["kernel"]
    )


@pytest.mark.parametrize("damage", [cut, flip, empty, remove])
def test_a_damaged_newest_one_is_named_and_the_one_before_is_used(run, damage, caplog):
    damage(run / "checkpoints" / "4")
    state, clip, _ = restored(run)
    assert (int(state.step), clip) == (2, 1)
    (line,) = (r.getMessage() for r in caplog.records if r.levelname == "WARNING")
    assert line.startswith(f"checkpoint 4 of {run} is damaged (") and "\n" not in line
    assert line.endswith("moved to damaged, 2 is used")
    # The run goes on, and saves a step of that number again.
    saved = Checkpoints(run, keep=2)
    saved.save(make_state(4), clips(), {})
    saved.close()
    assert int(restored(run)[0].step) == 4
    assert steps_in(run / "checkpoints") == [2, 4] and steps_in(run / "damaged") == [4]


@pytest.mark.parametrize("damage", [cut, flip])
def test_animation_takes_another_where_the_best_is_damaged(run, damage, caplog):
    damage(run / "best" / "2")
    variables, step = load_variables(run)
    assert step == 4 and "best/2 is damaged" in caplog.text
    np.testing.assert_array_equal(
        variables["generator"]["params"]["kernel"], make_state(4).params["generator"]["kernel"]
    )
    for step in (2, 4):
        cut(run / "checkpoints" / str(step))
    with pytest.raises(UserError, match="is damaged .* there is no other"):
        load_variables(run)


def test_none_that_can_be_read_is_one_line_and_moves_nothing(run):
    for step in (2, 4):
        cut(run / "checkpoints" / str(step))
    with pytest.raises(UserError, match="no checkpoint in .* can be read") as caught:
        restored(run)
    assert "\n" not in str(caught.value) and steps_in(run / "checkpoints") == [2, 4]


def test_other_sizes_are_one_line_and_move_nothing(run):
    with pytest.raises(UserError, match="give the sizes that it was trained with"):
        restored(run, width=300)
    assert steps_in(run / "checkpoints") == [2, 4] and not (run / "damaged").exists()


def test_what_a_killed_save_leaves_is_not_chosen_and_removed(run):
    """As it looks when a process dies between the writing and the renaming."""
    half = run / "checkpoints" / "6.orbax-checkpoint-tmp"
    (run / "checkpoints" / "4").rename(half)
    assert int(restored(run)[0].step) == 2
    assert not half.exists()


def fails(error):
    def fail(*args, **kwargs):
        raise error

    return fail


def test_a_full_disk_is_reported_and_costs_no_other_checkpoint(run, monkeypatch, caplog):
    saved = Checkpoints(run, keep=2)
    with monkeypatch.context() as patch:
        full = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        patch.setattr(ckpt.ocp.CheckpointManager, "save", fails(full))
        saved.save(make_state(6), clips(), {})
        assert not saved.settle() and not saved.save_best(make_state(6))
    lines = [r.getMessage() for r in caplog.records if r.levelname == "WARNING"]
    assert [line.split(" of ")[0] for line in lines] == ["checkpoint 6"] * 2
    assert all("could not be saved (No space left on device)" in line for line in lines)
    saved.save(make_state(8), clips(), {})
    assert saved.settle() and saved.save_best(make_state(8))
    saved.close()
    assert steps_in(run / "checkpoints") == [4, 8] and steps_in(run / "best") == [8]


def test_a_disk_that_fills_up_in_the_background_is_noticed(run, monkeypatch, caplog):
    """The writing, not the call, fails: what is written of it is removed, to make place."""
    saved = Checkpoints(run, keep=2)
    finalize = "orbax.checkpoint._src.handlers.base_pytree_checkpoint_handler"
    with monkeypatch.context() as patch:
        message = "RESOURCE_EXHAUSTED: Failed to write [os_error_code='28']\n" * 30
        handler = f"{finalize}.BasePyTreeCheckpointHandler._write_metadata_after_commits"
        patch.setattr(handler, fails(ValueError(message)))
        saved.save(make_state(6), clips(), {})
        assert not saved.settle()
    assert "checkpoint 6" in caplog.text and "(No space left on device)" in caplog.text
    assert "Traceback" not in caplog.text
    saved.save(make_state(8), clips(), {})
    saved.close()
    assert steps_in(run / "checkpoints") == [4, 8]
    assert int(restored(run)[0].step) == 8


def test_a_best_one_of_a_future_that_was_given_up_makes_place(run):
    """A run that goes on from step 2 in another way validates at steps 3 and 4 again."""
    saved = Checkpoints(run, keep=2)
    assert saved.save_best(make_state(5))
    other = make_state(7).replace(step=jnp.int32(3))
    assert saved.save_best(other)
    saved.close()
    variables, step = load_variables(run)
    assert step == 3
    np.testing.assert_array_equal(
        variables["generator"]["params"]["kernel"], other.params["generator"]["kernel"]
    )


@pytest.mark.parametrize("content", ["[]", "{}", '{"system": 3}', "{", "\xff"])
def test_a_config_that_is_none_is_one_line(tmp_path, content):
    (tmp_path / "config.json").write_text(content, "latin1")
    with pytest.raises(UserError, match="config.json is damaged"):
        ckpt.load_config(tmp_path)


@pytest.mark.parametrize(
    ("part", "field"), [("", "generator"), ("data", "window_seconds"), ("generator", "width")]
)
def test_a_config_that_lacks_a_field_is_one_line(tiny, part, field):
    check_config(tiny, "run")
    del (tiny[part] if part else tiny)[field]
    with pytest.raises(UserError, match="run: its config.json lacks .*: restore it") as caught:
        check_config(tiny, "run")
    assert "\n" not in str(caught.value)


def test_config_is_read_as_written(tmp_path):
    (tmp_path / "config.json").write_text(json.dumps({"system": "syncnet", "seed": 3}))
    assert ckpt.load_config(tmp_path).seed == 3

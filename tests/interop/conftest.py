"""Writers of published layouts, for tests that have no such file."""

import numpy as np
import pytest

from flax_talk.interop.torch_files import write_torch


@pytest.fixture
def save_torch():
    """Writes {name: array} as `torch.save` does with a state dict of float32."""

    def save(path, state):
        arrays = {name: np.asarray(array, np.float32) for name, array in state.items()}
        return write_torch(path, arrays)

    return save

"""Writers of published layouts, for tests that have no such file."""

import collections
import io
import pickle
import sys
import types
import zipfile

import numpy as np
import pytest


@pytest.fixture
def save_torch(monkeypatch):
    """Writes {name: float32 array} as `torch.save` does with a state dict, without PyTorch."""
    torch, utils = types.ModuleType("torch"), types.ModuleType("torch._utils")

    def rebuild():
        """Stands for PyTorch's function of this name, of which a pickle holds the name only."""

    rebuild.__module__, rebuild.__qualname__ = "torch._utils", "_rebuild_tensor_v2"
    utils._rebuild_tensor_v2 = rebuild
    torch.FloatStorage = type("FloatStorage", (), {"__module__": "torch"})

    class Pickler(pickle.Pickler):
        def persistent_id(self, value):
            if not isinstance(value, bytes):
                return None
            key = str(len(self.storages))
            self.storages[key] = value
            return "storage", torch.FloatStorage, key, "cpu", len(value) // 4

        def reducer_override(self, value):
            if not isinstance(value, np.ndarray):
                return NotImplemented
            stride = tuple(step // 4 for step in value.strides)
            hooks = collections.OrderedDict()
            return rebuild, (value.tobytes(), 0, value.shape, stride, False, hooks)

    def save(path, state):
        stream = io.BytesIO()
        pickler = Pickler(stream, protocol=2)
        pickler.storages = {}
        state = {name: np.ascontiguousarray(x, np.float32) for name, x in state.items()}
        with monkeypatch.context() as patch:
            patch.setitem(sys.modules, "torch", torch)
            patch.setitem(sys.modules, "torch._utils", utils)
            pickler.dump(collections.OrderedDict(state))
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("archive/data.pkl", stream.getvalue())
            for key, data in pickler.storages.items():
                archive.writestr(f"archive/data/{key}", data)
        return path

    return save

"""VGG-19's weights from the files in which they are published.

Three layouts of the same network (Simonyan and Zisserman 2015): torchvision's `vgg19-*.pth`,
whose pixels have the mean and deviation of ImageNet; Keras's
`vgg19_weights_tf_dim_ordering_tf_kernels_notop.h5`, whose pixels are in the order of Caffe (BGR)
with the mean subtracted; and `.npz` in Keras's convention, of which some layers may be stored
in 8 bits.
"""

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from flax_talk.errors import UserError
from flax_talk.interop.array_files import check_finite, read_hdf5, read_npz
from flax_talk.interop.torch_files import read_torch
from flax_talk.nets.perceptual import BLOCKS, CONVOLUTIONS, Vgg19Weights

_CAFFE_MEAN = (123.68, 116.779, 103.939)  # RGB, of 0..255
_TORCH_MEAN, _TORCH_DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # RGB, of 0..1


def load_vgg19(path: str | Path) -> Vgg19Weights:
    """Reads VGG-19's convolutions.

    Args:
        path: a file, by its ending:
            `.pth`, `.pt`: state dict of torchvision, `features.0.weight` and so on;
            `.h5`, `.hdf5`: Keras, a group `block1_conv1` and so on with kernel and bias;
            `.npz`: `block1_conv1/kernel`, `block1_conv1/bias` and so on as Keras has them, or
            instead of a name, `name|u8` and `name|scale_min`, for u8 scale + min.

    Returns:
        Arrays float32 on the host.

    Raises:
        UserError: the file is missing, of another kind, or holds another network.
    """
    path = Path(path)
    readers = {
        ".pth": _read_torchvision,
        ".pt": _read_torchvision,
        ".h5": _read_keras,
        ".hdf5": _read_keras,
        ".npz": _read_npz,
    }
    if path.suffix not in readers:
        raise UserError(f"{path} is no file of VGG-19: give one that ends in {', '.join(readers)}")
    if not path.is_file():
        raise UserError(f"no file {path}: give torchvision's or Keras's weights of VGG-19")
    weights = readers[path.suffix](path)
    _check(weights, path)
    check_finite({"kernels": weights.kernels, "biases": weights.biases}, path)
    return weights


def _read_torchvision(path: Path) -> Vgg19Weights:
    state = read_torch(path)
    # Layers are numbered with their rectifiers and the pooling between blocks.
    index, indices = 0, {}
    for block, (count, _) in enumerate(BLOCKS, start=1):
        for i in range(1, count + 1):
            indices[f"conv{block}_{i}"] = index
            index += 2
        index += 1
    state = state if isinstance(state, Mapping) else {}
    kernels = {name: _get(state, f"features.{i}.weight", path) for name, i in indices.items()}
    biases = {name: _get(state, f"features.{i}.bias", path) for name, i in indices.items()}
    return Vgg19Weights(
        mean=np.float32(_TORCH_MEAN) * 255,
        scale=1 / (np.float32(_TORCH_DEVIATION) * 255),
        kernels={name: np.transpose(kernel, (2, 3, 1, 0)) for name, kernel in kernels.items()},
        biases=biases,
    )


def _read_keras(path: Path) -> Vgg19Weights:
    def place(name: str, rank: int) -> str | None:
        block = name.split("/")[0]
        # Releases name the two differently; their ranks are always these.
        return f"{block}/{'kernel' if rank == 4 else 'bias'}" if block.startswith("block") else None

    return _from_caffe(read_hdf5(path, place), path)


def _read_npz(path: Path) -> Vgg19Weights:
    arrays = read_npz(path)
    for name in [name for name in arrays if name.endswith("|u8")]:
        scale, least = _get(arrays, name.replace("|u8", "|scale_min"), path)
        arrays[name.removesuffix("|u8")] = arrays[name] * scale + least
    return _from_caffe(arrays, path)


def _from_caffe(arrays: Mapping[str, np.ndarray], path: Path) -> Vgg19Weights:
    """Weights of arrays `block1_conv1/kernel` and so on, HWIO, the first for BGR."""
    kernels, biases = (
        {
            name: _get(
                arrays, f"{name.replace('conv', 'block').replace('_', '_conv')}/{kind}", path
            )
            for name in CONVOLUTIONS
        }
        for kind in ("kernel", "bias")
    )
    kernels["conv1_1"] = kernels["conv1_1"][:, :, ::-1]
    mean = np.float32(_CAFFE_MEAN)
    return Vgg19Weights(mean, np.ones(3, np.float32), kernels, biases)


def _get(arrays: Mapping[str, np.ndarray], name: str, path: Path) -> np.ndarray:
    if name not in arrays:
        raise UserError(f"no {name} in {path}: give the weights of VGG-19")
    return arrays[name]


def _check(weights: Vgg19Weights, path: Path) -> None:
    """Makes float32 of the arrays in place; UserError for shapes of another network."""
    channels = 3
    for name in CONVOLUTIONS:
        features = BLOCKS[int(name[4]) - 1][1]
        kernel = np.ascontiguousarray(weights.kernels[name], np.float32)
        bias = np.asarray(weights.biases[name], np.float32)
        if kernel.shape != (3, 3, channels, features) or bias.shape != (features,):
            raise UserError(
                f"{name} in {path} is {kernel.shape}, in VGG-19 (3, 3, {channels}, {features}): "
                "give the weights of VGG-19"
            )
        weights.kernels[name], weights.biases[name] = kernel, bias
        channels = features

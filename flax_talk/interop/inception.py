"""Inception v3's weights from the files in which they are published.

Two state dicts of PyTorch with the same names: the weights for FID, which pytorch-fid publishes as
`pt_inception-2015-12-05-*.pth` and with which published values of FID were computed, and
torchvision's `inception_v3_google-*.pth`. The number of classes tells them apart. Names of layers
are ours as well; the auxiliary classifier of torchvision's file, which serves training alone, is
left there. Values of FID and IS by the one and by the other do not compare.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from flax_talk.errors import UserError
from flax_talk.interop.array_files import check_finite
from flax_talk.interop.torch_files import read_torch
from flax_talk.nets.inception import SIZE, InceptionV3

# Name and layout by the shape of the last bias.
_WEIGHTS = {(1008,): ("inception fid", True), (1000,): ("inception_v3 torchvision", False)}

_ACCEPTED = (
    "give pt_inception-2015-12-05-6726825d.pth from the releases of github.com/mseitzer/pytorch-fid"
    " or inception_v3_google-0cc3c7bd.pth from download.pytorch.org/models"
)
_NAMES = {
    "kernel": "weight",
    "scale": "weight",
    "bias": "bias",
    "mean": "running_mean",
    "var": "running_var",
}


class Inception(NamedTuple):
    """A network with its weights: `net.apply(variables, images)`.

    Attributes:
        name: which weights: "inception fid" or "inception_v3 torchvision".
        net: the network.
        variables: {"params", "batch_stats"}, arrays float32 on the host.
    """

    name: str
    net: InceptionV3
    variables: dict[str, Any]


def load_inception(path: str | Path | None, width: float = 1.0) -> Inception:
    """Reads the network for FID and IS.

    Args:
        path: a published file, or another state dict with its names: `Conv2d_1a_3x3.conv.weight`
            and so on, up to `fc.bias`.
        width: multiplier of the channels, 1 in published files.

    Returns:
        See `Inception`; its layout is that of the file.

    Raises:
        UserError: no file is given, or it is missing, damaged, or holds another network.
    """
    if path is None:
        raise UserError(
            "FID and IS need the weights of an Inception network, which are not part of this "
            f"package: {_ACCEPTED}"
        )
    state = read_torch(path)
    if not isinstance(state, Mapping):
        raise UserError(f"{path} holds no state dict: {_ACCEPTED}")
    classes = _get(state, "fc.bias", path).shape
    if classes not in _WEIGHTS:
        raise UserError(f"fc.bias of {path} is {classes}, not (1008,) or (1000,): {_ACCEPTED}")
    kind, fid = _WEIGHTS[classes]
    net = InceptionV3(fid, width)
    left = {
        name
        for name in map(str, state)
        if not name.startswith("AuxLogits.") and not name.endswith(".num_batches_tracked")
    }

    def read(place: tuple, leaf: jax.ShapeDtypeStruct) -> np.ndarray:
        *layer, leaf_name = (key.key for key in place[1:])
        name = ".".join([*layer, _NAMES[leaf_name]])
        array = _channels_last(_get(state, name, path))
        if array.shape != leaf.shape:
            raise UserError(
                f"{name} of {path} is {array.shape}, in Inception v3 {leaf.shape}: {_ACCEPTED}"
            )
        left.remove(name)
        return array

    shapes = jax.eval_shape(net.init, jax.random.key(0), jnp.zeros((1, SIZE, SIZE, 3)))
    variables = jax.tree_util.tree_map_with_path(read, shapes)
    if left:
        raise UserError(f"{min(left)} of {path} is no part of Inception v3: {_ACCEPTED}")
    check_finite(variables, path)
    return Inception(kind, net, variables)


def _get(state: Mapping[str, Any], name: str, path: str | Path) -> np.ndarray:
    if not isinstance(state.get(name), np.ndarray):
        raise UserError(f"no {name} in {path}: {_ACCEPTED}")
    return np.asarray(state[name], np.float32)


def _channels_last(array: np.ndarray) -> np.ndarray:
    """[O, I, *size] -> [*size, I, O]; other arrays pass."""
    if array.ndim > 1:
        array = np.moveaxis(array, (0, 1), (-1, -2))
    return np.ascontiguousarray(array)

"""SyncNet's weights from the file in which they are published, `syncnet_v2.model`.

A state dict of PyTorch, of the network of Chung and Zisserman, "Out of time: automated lip sync in
the wild", 2016. It sees pixels of 0..255 in the order blue, green, red; ours are in [-1, 1] and red
first, which is worked into the first convolution, exactly, as nothing is padded there. Our network
has the other layers as they are, but for the order of axes: the lips' convolutions, all but the
first, look at one frame and lose the axis of time. Averages and variances are those of the
file, and the small constant beside the variance is PyTorch's.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from flax_talk.errors import UserError
from flax_talk.interop.array_files import check_finite
from flax_talk.interop.torch_files import read_torch
from flax_talk.nets.syncnet import COLUMNS_PER_FRAME, WINDOW_FRAMES, SyncNet

_STREAMS = {"video": "lip", "audio": "aud"}

# Places of the six convolutions among rectifiers and poolings; a normalisation follows each.
_CONVOLUTIONS = (0, 4, 8, 11, 14, 18)

_NORM = "BatchNorm_0"


def load_syncnet(
    path: str | Path, net: SyncNet | None = None, size: tuple[int, int] = (224, 224)
) -> dict[str, dict[str, Any]]:
    """Reads SyncNet's variables.

    Args:
        path: `syncnet_v2.model`, or another state dict with its names: `netcnnlip.0.weight` and so
            on, of netcnnlip, netfclip, netcnnaud and netfcaud.
        net: the network to fill; of the published widths by default.
        size: height and width of the pictures that it sees, `config.view.size`.

    Returns:
        Variables of `flax_talk.systems.syncnet` for the config syncnet_grid, {"syncnet": {"params",
        "batch_stats"}}, arrays float32 on the host.

    Raises:
        UserError: the file is missing, damaged, or holds another network.
    """
    net = SyncNet() if net is None else net
    state = read_torch(path)
    if not isinstance(state, Mapping):
        raise UserError(f"{path} holds no state dict: give syncnet_v2.model")

    def get(name: str, matrix: bool = False) -> np.ndarray:
        if name not in state or (matrix and np.ndim(state[name]) < 2):
            raise UserError(f"no {name} in {path}: give syncnet_v2.model")
        return np.asarray(state[name], np.float32)

    params: dict[str, Any] = {}
    stats: dict[str, Any] = {}

    def normalised(layer: str, kind: str, kernel: np.ndarray, place: str, norm: str) -> None:
        params[layer] = {
            kind: {"kernel": kernel, "bias": get(f"{place}.bias")},
            _NORM: {"scale": get(f"{norm}.weight"), "bias": get(f"{norm}.bias")},
        }
        stats[layer] = {
            _NORM: {"mean": get(f"{norm}.running_mean"), "var": get(f"{norm}.running_var")}
        }

    for ours, theirs in _STREAMS.items():
        cnn, fc = f"netcnn{theirs}", f"netfc{theirs}"
        for number, place in enumerate(_CONVOLUTIONS, start=1):
            kernel = _channels_last(get(f"{cnn}.{place}.weight", matrix=True))
            if ours == "video" and number > 1 and kernel.shape[0] == 1:
                kernel = kernel[0]
            layer = f"{ours}_conv{number}"
            normalised(layer, "conv", kernel, f"{cnn}.{place}", f"{cnn}.{place + 1}")
        # One pixel is left of each window, so that flattening it has no order to mind.
        normalised(f"{ours}_hidden", "dense", get(f"{fc}.0.weight").T, f"{fc}.0", f"{fc}.1")
        params[f"{ours}_embedding"] = {
            "kernel": get(f"{fc}.3.weight").T,
            "bias": get(f"{fc}.3.bias"),
        }
    _check({"params": params, "batch_stats": stats}, net, size, path)
    check_finite({"params": params, "batch_stats": stats}, path)
    params["video_conv1"]["conv"] = _of_pixels(**params["video_conv1"]["conv"])
    return {"syncnet": {"params": params, "batch_stats": stats}}


def _channels_last(kernel: np.ndarray) -> np.ndarray:
    """[O, I, *size] -> [*size, I, O]."""
    return np.moveaxis(kernel, (0, 1), (-1, -2))


def _of_pixels(kernel: np.ndarray, bias: np.ndarray) -> dict[str, np.ndarray]:
    """A convolution of BGR 0..255 as one of RGB in [-1, 1]."""
    kernel = 127.5 * kernel[..., ::-1, :]
    return {"kernel": kernel, "bias": bias + kernel.sum(axis=(0, 1, 2, 3))}


def _check(
    variables: dict[str, Any], net: SyncNet, size: tuple[int, int], path: str | Path
) -> None:
    video = jnp.zeros((1, WINDOW_FRAMES, *size, 3))
    mfcc = jnp.zeros((1, WINDOW_FRAMES * COLUMNS_PER_FRAME, 13))
    expected = jax.eval_shape(lambda: net.init(jax.random.key(0), video, mfcc, train=False))
    found = dict(jax.tree_util.tree_leaves_with_path(variables))
    for place, leaf in jax.tree_util.tree_leaves_with_path(expected):
        if found[place].shape != leaf.shape:
            name = "/".join(key.key for key in place[1:])
            raise UserError(
                f"{name} of {path} is {found[place].shape}, in SyncNet {leaf.shape}: "
                "give syncnet_v2.model, or the net's sizes"
            )

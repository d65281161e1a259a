"""LipNet's weights from the Keras files in which they are published.

A file of `save_weights` of the network of Assael et al., "LipNet", 2016, as the public Keras code
has it: `conv1` to `conv3` with a normalisation `batc1` to `batc3` after each, bidirectional GRUs
`gru1` and `gru2`, and the matrix `dense1`. What differs from ours, and how it is bridged:

* Pictures come as width x height there: the kernels' axes, and the rows of the first GRU's input
  matrix, which follow the flattened picture, are put in our order.
* The gates are in the order update, reset, new; ours are reset, update, new.
* The reset applies to the state before its matrix, and the gates are Keras's `hard_sigmoid`, the
  default of the release they were trained with: attributes of our network, which the variant
  `:published` of the config lipnet_grid sets. It also has pixels in [0, 1].
* The constant beside the variances is 0.001 and ours 0.00001: the rest is added to the variances.
"""

import re
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from flax_talk.errors import UserError
from flax_talk.interop.array_files import check_finite, read_hdf5
from flax_talk.nets.lipreader import LipReader

PUBLISHED = dict(norm=True, reset_after=False, gate="hard_sigmoid")
"""Attributes of the `LipReader` whose weights are published."""

_LAYERS = re.compile(r"(conv|batc)[123]|(forward|backward)_gru[12]|dense1")
_EPSILON = 1e-3 - 1e-5


def load_lipnet(
    path: str | Path, net: LipReader | None = None, size: tuple[int, int] = (50, 100)
) -> dict[str, dict[str, Any]]:
    """Reads LipNet's variables.

    Args:
        path: an `.h5` file of Keras's `save_weights`, or of `save`.
        net: the network to fill; `LipReader(**PUBLISHED)` by default.
        size: height and width of the pictures that it sees, `config.view.size`.

    Returns:
        Variables of `flax_talk.systems.lipnet` with the variant `:published` of the config
        lipnet_grid, {"lipreader": {"params", "batch_stats"}}, arrays float32 on the host.

    Raises:
        UserError: the file is missing, damaged, or holds another network; or h5py is missing.
    """
    path = Path(path)
    net = LipReader(**PUBLISHED) if net is None else net
    arrays = _read(path)

    def get(name: str, rank: int) -> np.ndarray:
        if name not in arrays or arrays[name].ndim != rank:
            raise UserError(f"no {name} in {path}: give the Keras weights of LipNet")
        return np.asarray(arrays[name], np.float32)

    params: dict[str, Any] = {"gru": {}}
    stats: dict[str, Any] = {}
    for i in range(3):
        kernel = get(f"conv{i + 1}/kernel", 5).swapaxes(1, 2)
        params[f"conv{i + 1}"] = {"kernel": kernel, "bias": get(f"conv{i + 1}/bias", 1)}
        if net.norm:
            ours, theirs = f"BatchNorm_{i}", f"batc{i + 1}"
            params[ours] = {"scale": get(f"{theirs}/gamma", 1), "bias": get(f"{theirs}/beta", 1)}
            variance = get(f"{theirs}/moving_variance", 1) + np.float32(_EPSILON)
            stats[ours] = {"mean": get(f"{theirs}/moving_mean", 1), "var": variance}
    for layer in range(2):
        for direction in ("forward", "backward"):
            name = f"{direction}_gru{layer + 1}"
            kernel = get(f"{name}/kernel", 2)
            if layer == 0:
                kernel = _rows_of_flattened(kernel, size, params["conv3"]["bias"].size, path)
            # A second bias is of the product that the reset comes after.
            if not net.reset_after:
                input_bias = get(f"{name}/bias", 1)
                biases = np.stack([input_bias, np.zeros_like(input_bias)])
            else:
                biases = get(f"{name}/bias", 2)
            params["gru"][f"{direction}_{layer}"] = {
                "input_kernel_0": _gates(kernel),
                "recurrent_kernel_0": _gates(get(f"{name}/recurrent_kernel", 2)),
                "input_bias_0": _gates(biases[0]),
                "recurrent_bias_0": _gates(biases[1]),
            }
    params["labels"] = {"kernel": get("dense1/kernel", 2), "bias": get("dense1/bias", 1)}
    variables = {"params": params, "batch_stats": stats}
    _check(variables, net, size, path)
    check_finite(variables, path)
    return {"lipreader": variables}


def _read(path: Path) -> dict[str, np.ndarray]:
    """Arrays such as `conv1/kernel`, by layer and kind; what else is in the file is left there."""

    def place(name: str, _: int) -> str | None:
        *groups, leaf = name.split("/")
        layers = [group for group in groups if _LAYERS.fullmatch(group)]
        if not layers or groups[0] == "optimizer_weights":
            return None
        # Releases number what comes twice in a process: kernel:0, kernel_1:0.
        kind = re.sub(r"(_\d+)?(:\d+)?$", "", leaf)
        return f"{layers[-1]}/{kind}"

    return read_hdf5(path, place)


def _gates(array: np.ndarray) -> np.ndarray:
    """[..., 3 H] in the order update, reset, new -> reset, update, new."""
    width = array.shape[-1] // 3
    update, reset, new = np.split(array, [width, 2 * width], axis=-1)
    return np.concatenate([reset, update, new], axis=-1)


def _rows_of_flattened(
    kernel: np.ndarray, size: tuple[int, int], channels: int, path: Path
) -> np.ndarray:
    """[W' H' C, N] -> [H' W' C, N], where H' x W' is what three poolings leave of a picture."""
    height, width = ((n + 1) // 2 // 8 for n in size)
    if len(kernel) != height * width * channels:
        raise UserError(
            f"gru1 of {path} has {len(kernel)} inputs, of pictures of {size[0]} x {size[1]} come "
            f"{height * width * channels}: give the Keras weights of LipNet, or the right size"
        )
    pixels = kernel.reshape(width, height, channels, -1)
    return pixels.swapaxes(0, 1).reshape(kernel.shape)


def _check(variables: dict[str, Any], net: LipReader, size: tuple[int, int], path: Path) -> None:
    video, mask = jnp.zeros((1, 1, *size, 3)), jnp.ones((1, 1), bool)
    expected = jax.eval_shape(
        lambda: {"batch_stats": {}, **net.init(jax.random.key(0), video, mask)}
    )
    found = dict(jax.tree_util.tree_leaves_with_path(variables))
    for place, leaf in jax.tree_util.tree_leaves_with_path(expected):
        if found[place].shape != leaf.shape:
            name = "/".join(key.key for key in place[1:])
            raise UserError(
                f"{name} of {path} is {found[place].shape}, in LipNet {leaf.shape}: give the Keras "
                "weights of LipNet, or the net's sizes"
            )

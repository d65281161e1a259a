"""VGGVox's weights from the file in which they are published, `vggvox_ident_net.mat`.

A network of MatConvNet, of Nagrani, Chung and Zisserman, "VoxCeleb: a large-scale speaker
identification dataset", 2017: `net.layers`, each with a name (conv1 .. conv5, fc6 .. fc8, bn1 ..
bn7) and its weights. Kernels are [rows, columns, channels in, channels out], as ours; a
normalisation holds scales, offsets, and moments (mean, deviation with MatConvNet's small constant).
In the file for identification the normalisations are worked into the convolutions and missing
here, as everywhere that they are: then ours change nothing. It hears `nets.speaker.spectrogram`.
"""

from pathlib import Path
from typing import Any

import jax
import numpy as np

from flax_talk.errors import UserError
from flax_talk.interop.array_files import check_finite
from flax_talk.nets.speaker import ROWS, VGGVox

_EPSILON = 1e-5  # of `nets.convolutions.batch_norm`
_NORMALISED = ("conv1", "conv2", "conv3", "conv4", "conv5", "fc6", "fc7")


def load_vggvox(path: str | Path, net: VGGVox | None = None) -> dict[str, Any]:
    """Reads VGGVox's variables.

    Args:
        path: `vggvox_ident_net.mat`, or another .mat file (before version 7.3) of its layout.
        net: the network to fill; of the published widths by default.

    Returns:
        {"params", "batch_stats"} of `net`, arrays float32 on the host.

    Raises:
        UserError: the file is missing, damaged, or holds another network.
    """
    net = VGGVox() if net is None else net
    layers = _read_layers(path)

    def get(name: str, count: int) -> list[np.ndarray]:
        if len(layers.get(name, ())) != count:
            raise UserError(f"no layer {name} in {path}: give vggvox_ident_net.mat")
        return layers[name]

    params: dict[str, Any] = {}
    stats: dict[str, Any] = {}
    for name in _NORMALISED:
        kernel, bias = get(name, 2)
        norm = f"bn{name[-1]}"
        size = bias.size
        if norm in layers:
            scale, offset, moments = get(norm, 3)
            mean, deviation = moments.reshape(-1, 2).T
        else:
            scale, offset = np.ones(size), np.zeros(size)
            mean, deviation = np.zeros(size), np.ones(size)
        params[name] = {
            "Conv_0": {"kernel": kernel, "bias": bias.ravel()},
            "BatchNorm_0": {"scale": scale.ravel(), "bias": offset.ravel()},
        }
        stats[name] = {"BatchNorm_0": {"mean": mean, "var": np.square(deviation) - _EPSILON}}
    kernel, bias = get("fc8", 2)
    params["fc8"] = {"kernel": kernel.reshape(-1, bias.size), "bias": bias.ravel()}
    variables = jax.tree.map(np.float32, {"params": params, "batch_stats": stats})
    _check(variables, net, path)
    check_finite(variables, path)
    return variables


def _read_layers(path: str | Path) -> dict[str, list[np.ndarray]]:
    """Weights by the names of layers that have some."""
    from scipy.io import loadmat

    if not Path(path).is_file():
        raise UserError(f"no file {path}: give vggvox_ident_net.mat")
    try:
        layers = loadmat(path)["net"][0, 0]["layers"].ravel()
        found = {}
        for layer in (entry[0, 0] for entry in layers):
            if "weights" in layer.dtype.names and layer["weights"].size:
                arrays = [np.asarray(weight, np.float64) for weight in layer["weights"].ravel()]
                found[str(layer["name"][0])] = arrays
    except Exception as error:  # A damaged file, or one of other contents, can fail in any way.
        raise UserError(f"{path} is no network of MatConvNet ({error})") from error
    return found


def _check(variables: dict[str, Any], net: VGGVox, path: str | Path) -> None:
    picture = jax.ShapeDtypeStruct((1, 100, ROWS), np.float32)
    key = jax.eval_shape(lambda: jax.random.key(0))
    wanted = jax.eval_shape(lambda key, x: net.init(key, x, train=False), key, picture)
    shapes = jax.tree.map(np.shape, variables)
    if shapes != jax.tree.map(lambda leaf: leaf.shape, dict(wanted)):
        raise UserError(f"{path}: its layers have other sizes than VGGVox: give another file")

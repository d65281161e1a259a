"""Weights of temporal_gan_2019 in the files of its authors, such as `grid.dat`, read and written.

A file of `torch.save`: a dictionary of three state dicts, of sizes and rates, and of the mean face
that stills are aligned to. Its layers are ours, except that

* axes are in another order, as always between the two;
* the decoder's 3x3 convolutions are transposed ones, whose kernels are flipped, and convolve input
  and skip together, which ours does apart;
* the content code comes from as many GRU layers as the file has, two, where the paper says one.

What the authors' published inference code does around them becomes fields of the config: it aligns
five landmarks to those of the mean face, shows the output x as 125 x + 125, and draws noise of
standard deviation 0.33. Stills it scales as ours are, to p / 127.5 - 1. Whether the frames of the
training, which is not published, were scaled by 125 or by 127.5 is unknown: we follow the
inference. A file that is written here tells scale and deviation in two entries more, which that
code does not read.
"""

from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import traverse_util
from ml_collections import ConfigDict

from flax_talk.errors import UserError
from flax_talk.interop.array_files import check_finite
from flax_talk.interop.torch_files import read_torch, write_torch
from flax_talk.nets.encoders import audio_layers
from flax_talk.systems.temporal_gan import GENERATOR, audio_geometry, players
from flax_talk.training.checkpoints import load_config, load_variables
from input_pipeline.datasets.grid import Grid, subject_split
from input_pipeline.faces import STABLE_POINTS, alignment_target, canonical_points

SYSTEM = "temporal_gan_2019"

_PIXEL_SCALE = 125.0
_NOISE_STD = 0.33
_STRIDED = 5  # layers of the identity encoder that halve the image
_SKIPS = 4

_Path = tuple[str, ...]
_State = dict[str, dict[str, np.ndarray]]


def load_temporal_gan(path: str | Path) -> tuple[ConfigDict, dict[str, Any]]:
    """Reads a published generator.

    Args:
        path: `grid.dat`, `timit.dat` or `crema.dat`, or a file of `save_temporal_gan`.

    Returns:
        (config of all that animates and evaluates, variables {"generator": {"params",
        "batch_stats"}}, arrays float32 on the host). Every size is the file's. Which data it was
        trained on the file does not say: splits and data set are those of GRID.

    Raises:
        UserError: the file is missing, cut off, of another kind, or holds another network.
    """
    file = read_torch(path)
    if not isinstance(file, Mapping):
        raise UserError(f"{path} holds no weights of {SYSTEM}: give grid.dat")
    config = _read_config(file, path)
    leaves = {}
    for entry, shape in zip(_entries(config), _shapes(config), strict=True):
        array = _get(_get(file, entry.part, path), entry.name, path, entry.part)
        if np.shape(array) != shape:
            raise UserError(
                f"{entry.part}: {entry.name} of {path} is {np.shape(array)}, by its other sizes "
                f"{shape}: download the file again, or give one of {SYSTEM}"
            )
        parts = np.split(np.asarray(array, np.float32), len(entry.ours))
        for ours, part in zip(entry.ours, parts, strict=True):
            leaves[ours] = np.ascontiguousarray(entry.layout.ours(part))
    check_finite(leaves, path)
    return config, {GENERATOR: traverse_util.unflatten_dict(leaves)}


def save_temporal_gan(
    path: str | Path, config: ConfigDict, variables: dict[str, Any], dtype: str = "float32"
) -> Path:
    """Writes a generator as `load_temporal_gan`, and the authors' code, read it.

    Args:
        path: the file to write.
        config, variables: of a run, see `flax_talk.training.checkpoints`; the generator is kept.
        dtype: of the parameters, "float32" or "float16"; batch statistics stay float32.

    Returns:
        The path.

    Raises:
        UserError: the authors' network has not all that the generator has, or the file cannot be
            written.
    """
    if config.system != SYSTEM:
        raise UserError(f"a run of {config.system} has no form in PyTorch: only {SYSTEM} has")
    size = config.generator
    if size.num_skips != _SKIPS or size.residual:
        raise UserError(
            f"{SYSTEM} of the authors has num_skips=4 and residual=False, this generator "
            f"num_skips={size.num_skips} and residual={size.residual}: train one like theirs"
        )
    leaves = traverse_util.flatten_dict(variables[GENERATOR])
    entries = list(_entries(config))
    # The mouth's landmarks are read in training only.
    if {ours for e in entries for ours in e.ours} != {o for o in leaves if o[1] != "mouth"}:
        raise UserError(f"the generator has other layers than {SYSTEM} of the authors")
    state: _State = {"encoder": {}, "encoder_id": {}, "generator": {}}
    for entry in entries:
        array = _theirs(entry, leaves)
        stored = np.float32 if entry.ours[0][0] == "batch_stats" else dtype
        state[entry.part][entry.name] = array.astype(stored)
    return write_torch(path, {**state, **_written_sizes(config)})


def export_temporal_gan(checkpoint: str | Path, out: str | Path, dtype: str = "float32") -> Path:
    """`save_temporal_gan` of the best variables of a run, or of an exported checkpoint."""
    config = load_config(Path(checkpoint))
    variables, _ = load_variables(Path(checkpoint))
    return save_temporal_gan(out, config, variables, dtype)


class _Layout(NamedTuple):
    """An array's axes there and here, as functions to here and to there."""

    ours: Callable[[np.ndarray], np.ndarray]
    theirs: Callable[[np.ndarray], np.ndarray]


class _Entry(NamedTuple):
    """An array of a state dict, and the leaves that it is here, one after the other on axis 0."""

    part: str
    name: str
    ours: tuple[_Path, ...]
    layout: _Layout


def _flipped(kernel: np.ndarray) -> np.ndarray:
    return kernel[::-1, ::-1]


_VECTOR = _Layout(lambda x: x, lambda x: x)
_MATRIX = _Layout(np.transpose, np.transpose)
# [O, I, *size] and [*size, I, O]; of transposed convolutions [I, O, *size].
_CONV = _Layout(
    lambda x: np.moveaxis(x, (1, 0), (-2, -1)), lambda x: np.moveaxis(x, (-2, -1), (1, 0))
)
_TRANSPOSED = _Layout(
    lambda x: np.moveaxis(x, (0, 1), (-2, -1)), lambda x: np.moveaxis(x, (-2, -1), (0, 1))
)
_FLIPPED = _Layout(
    lambda x: _flipped(_TRANSPOSED.ours(x)), lambda x: _TRANSPOSED.theirs(_flipped(x))
)


def _first_layout(size: tuple[int, int]) -> _Layout:
    """[I, O, H, W] and [I, H W O]: of one pixel, a transposed convolution is a matrix."""
    return _Layout(
        lambda x: np.moveaxis(x, 1, -1).reshape(len(x), -1),
        lambda x: np.moveaxis(x.reshape(len(x), *size, -1), -1, 1),
    )


def _entries(config: ConfigDict) -> Iterator[_Entry]:
    """Every array of the three state dicts."""

    def layer(part, name, *ours, layout):
        return _Entry(part, f"{name}.weight", tuple(("params", *o, "kernel") for o in ours), layout)

    def bias(part, name, ours):
        return _Entry(part, f"{name}.bias", (("params", *ours, "bias"),), _VECTOR)

    def norm(part, name, *ours):
        kinds = {
            "weight": ("params", "scale"),
            "bias": ("params", "bias"),
            "running_mean": ("batch_stats", "mean"),
            "running_var": ("batch_stats", "var"),
        }
        for kind, (collection, leaf) in kinds.items():
            yield _Entry(part, f"{name}.{kind}", ((collection, *ours, leaf),), _VECTOR)

    def gru(part, name, ours, layers):
        # Both have the gates in the order reset, update, new.
        for i in range(layers):
            for source, theirs in (("input", "ih"), ("recurrent", "hh")):
                kernel, bias = (("params", ours, f"{source}_{x}_{i}") for x in ("kernel", "bias"))
                yield _Entry(part, f"{name}.weight_{theirs}_l{i}", (kernel,), _MATRIX)
                yield _Entry(part, f"{name}.bias_{theirs}_l{i}", (bias,), _VECTOR)

    _, window = audio_geometry(config)
    depth = len(audio_layers(window, config.data.audio_rate))
    for i in range(depth):
        block = ("audio_encoder", f"ConvBlock_{i}")
        yield layer("encoder", f"encoder.cl.{i}", (*block, "Conv_0"), layout=_CONV)
        yield bias("encoder", f"encoder.cl.{i}", (*block, "Conv_0"))
        yield from norm("encoder", f"encoder.activations.{i}.0", *block, "BatchNorm_0")
    code = ("audio_encoder", "Conv_0")
    yield layer("encoder", f"encoder.cl.{depth}", code, layout=_CONV)
    yield bias("encoder", f"encoder.cl.{depth}", code)
    yield from gru("encoder", "rnn", "content", config.generator.content_layers)

    for i in range(_STRIDED):
        block = ("identity_encoder", f"ConvBlock_{i}")
        yield layer("encoder_id", f"cl.{i}.0", (*block, "Conv_0"), layout=_CONV)
        yield from norm("encoder_id", f"cl.{i}.1", *block, "BatchNorm_0")
    yield layer("encoder_id", f"cl.{_STRIDED}.0", ("identity_encoder", "Conv_0"), layout=_CONV)

    decoder = partial(layer, "generator")
    first = _first_layout(tuple(n // 2**_STRIDED for n in config.data.image_size))
    yield decoder("dcl.0.0", ("decoder", "Dense_0"), layout=first)
    yield from norm("generator", "dcl.0.1", "decoder", "BatchNorm_0")
    for i in range(_SKIPS):
        both = (("decoder", f"Conv_{2 * i + j}") for j in range(2))
        yield decoder(f"dcl.{i + 1}.dcl1", *both, layout=_FLIPPED)
        yield decoder(f"dcl.{i + 1}.dcl2", ("decoder", f"Upsample_{i}"), layout=_TRANSPOSED)
        for j in range(2):
            name = f"dcl.{i + 1}.activation{j + 1}.0"
            yield from norm("generator", name, "decoder", f"BatchNorm_{2 * i + j + 1}")
    last = ("decoder", f"Upsample_{_SKIPS}")
    yield decoder(f"dcl.{_SKIPS + 1}", last, layout=_TRANSPOSED)
    yield from gru("generator", "rnn_noise", "noise", 1)


def _theirs(entry: _Entry, leaves: Mapping[_Path, Any]) -> np.ndarray:
    return np.concatenate([entry.layout.theirs(np.asarray(leaves[ours])) for ours in entry.ours])


def _shapes(config: ConfigDict) -> Iterator[tuple[int, ...]]:
    """Of each of the `_entries`, by the sizes of the config."""
    _, window = audio_geometry(config)
    inputs = (
        jnp.zeros((1, *config.data.image_size, 3)),
        jnp.zeros((1, 1, window)),
        jnp.zeros((1, 1, config.generator.noise_dim)),
    )
    variables = jax.eval_shape(players(config)[GENERATOR].init, jax.random.key(0), *inputs)
    # Zeros that take no memory.
    zeros = jax.tree.map(lambda leaf: np.broadcast_to(np.float32(0), leaf.shape), variables)
    leaves = traverse_util.flatten_dict(zeros)
    for entry in _entries(config):
        yield _theirs(entry, leaves).shape


def _get(entries: Any, name: str, path: str | Path, part: str = "") -> Any:
    if not isinstance(entries, Mapping) or name not in entries:
        place = f"{part}: {name}" if part else name
        raise UserError(f"no {place} in {path}: give the weights of {SYSTEM}, such as grid.dat")
    return entries[name]


def _read_config(file: Mapping[str, Any], path: str | Path) -> ConfigDict:
    """The config of a file, from its sizes and rates and from the shapes of its layers."""

    def number(name, kind=int):
        value = _get(file, name, path)
        try:
            positive = float(value) > 0
        except (TypeError, ValueError):
            positive = False
        if not positive:
            raise UserError(f"{name} of {path} is {value!r}: give the weights of {SYSTEM}")
        return kind(value)

    def features(part, name):
        return len(_get(_get(file, part, path), f"{name}.weight", path, part))

    image_size = tuple(int(n) for n in np.ravel(_get(file, "img_size", path)))
    if len(image_size) != 2 or any(n <= 0 or n % 2**_STRIDED for n in image_size):
        raise UserError(f"img_size of {path} is {image_size}: only multiples of 32 can be read")
    audio_rate = number("audio_rate")
    if audio_rate < 1000:
        raise UserError(f"audio_rate of {path} is {audio_rate}: give the weights of {SYSTEM}")
    mean_face = np.asarray(_get(file, "mean_face", path), np.float32)
    if mean_face.shape != (68, 2) or not np.isfinite(mean_face[list(STABLE_POINTS)]).all():
        raise UserError(f"mean_face of {path} is not the 68 points of a face: download it again")
    target = mean_face[list(STABLE_POINTS)]
    is_ours = np.array_equal(target, canonical_points(image_size))

    prepared = {c.options.audio_rate: c.name for c in reversed(Grid.BUILDER_CONFIGS)}
    data = dict(
        dataset=Grid.name,
        builder_config=prepared.get(audio_rate, Grid.BUILDER_CONFIGS[0].name),
        data_dir="data",
        splits={name: subject_split(SYSTEM, name) for name in ("train", "validation", "test")},
        image_size=image_size,
        canonical_points=() if is_ours else target.tolist(),
        audio_rate=audio_rate,
        video_rate=number("video_rate", float),
        window_seconds=number("audio_feat_samples") / audio_rate,
        features=(),
        # Of an evaluation.
        eval_frames=75,
        batch_size=8,
        num_workers=0,
        prefetch=4,
    )
    generator = dict(
        identity_dim=number("id_enc_dim"),
        audio_dim=number("aud_enc_dim"),
        content_dim=number("rnn_gen_dim"),
        noise_dim=number("aux_latent"),
        width=features("encoder_id", "cl.0.0"),
        audio_width=features("encoder", "encoder.cl.0"),
        content_layers=max(1, sum(n.startswith("rnn.weight_ih_l") for n in file["encoder"])),
        noise_layers=1,
        num_skips=_SKIPS,
        residual=False,
    )
    generate = dict(
        noise_std=float(file.get("noise_std", _NOISE_STD)),
        pixel_scale=float(file.get("pixel_scale", _PIXEL_SCALE)),
    )
    fields = dict(system=SYSTEM, seed=0, dtype="float32")
    return ConfigDict(dict(**fields, data=data, generator=generator, generate=generate))


def _written_sizes(config: ConfigDict) -> dict[str, Any]:
    """What a file has beside its state dicts."""
    data, size = config.data, config.generator
    rate = float(data.video_rate)
    # The authors' code looks at these five points only.
    mean_face = np.full((68, 2), np.nan, np.float32)
    mean_face[list(STABLE_POINTS)] = alignment_target(data)
    return dict(
        mean_face=mean_face,
        img_size=tuple(data.image_size),
        audio_rate=data.audio_rate,
        video_rate=int(rate) if rate.is_integer() else rate,
        audio_feat_len=data.window_seconds,
        audio_feat_samples=audio_geometry(config)[1],
        id_enc_dim=size.identity_dim,
        rnn_gen_dim=size.content_dim,
        aud_enc_dim=size.audio_dim,
        aux_latent=size.noise_dim,
        sequential_noise=True,
        pixel_scale=config.generate.get("pixel_scale", 127.5),
        noise_std=config.generate.noise_std,
    )

"""Draws the networks of a system, their layers' shapes and what flows between them, from the code.

    python scripts/draw_architecture.py --config temporal_gan_2019_grid \\
        --out docs/pictures/architecture_temporal_gan_2019.png

The losses of the config are traced without being computed: every layer that is called tells its
shape, and names on the arrays that enter and leave a network tell what reaches what. A box is a
named part of the generator (one of its `setup`), or a whole network. Shapes are height x width x
channels, without the axes of clips and frames.
"""

import argparse
import functools
import importlib
import itertools
import math
from collections import defaultdict
from pathlib import Path
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax.ad_checkpoint import checkpoint_name
from jax.extend.core import ClosedJaxpr, Jaxpr
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import FancyArrowPatch, FancyBboxPatch
from ml_collections import ConfigDict

from flax_talk import figures
from flax_talk.systems import generating_players, get_system
from flax_talk.systems.hearing import audio_geometry
from input_pipeline.loader import TEXT_LENGTH

QUIET = ("BatchNorm", "Dropout")
"""Layers that keep the shape of their input."""

COLOURS = {"input": "#F1F3F5", "part": "#DCEBFA", "player": "#FBE5D6"}
WIDTH, LINE, COLUMN, GAP, EDGE = 2.2, 0.155, 3.0, 0.3, 0.15  # inches


class Tracer:
    """Interceptor of module calls: notes layers by box, and names what enters and leaves each.

    Attributes:
        layers: the (kind, shape) of each layer by box, in the order of the calls.
        kinds: "part" or "player" by box.
    """

    def __init__(self, players: dict[str, nn.Module], composed: tuple[str, ...]) -> None:
        self.layers: dict[str, list[tuple[str, tuple[int, ...]]]] = defaultdict(list)
        self.kinds: dict[str, str] = {}
        self._names = {type(module).__name__: name for name, module in players.items()}
        self._composed = composed
        self._player = self._box = ""
        self._has_parts = False
        self._seen: set[tuple[str, tuple[str, ...]]] = set()

    def __call__(self, call, args, kwargs, context):
        module = context.module
        if not module.path:
            # A lifted module has a class of its own inside.
            self._player = self._names.get(type(module).__name__, self._player)
            self._has_parts = self._player in self._composed and "setup" in vars(type(module))
        part = self._has_parts
        is_empty = getattr(module, "num_layers", 1) == 0
        opens = not self._box and len(module.path) == part and not is_empty
        if opens:
            self._box = f"{self._player}: {module.path[0]}" if part else self._player
            generates = self._player in self._composed
            self.kinds[self._box] = "part" if generates else "player"
            args, kwargs = _named((args, kwargs), f"in:{self._box}")
        rows = self.layers[self._box] if self._box else []
        before = len(rows)
        out = call(*args, **kwargs)
        kind, leaf = type(module).__name__, len(rows) == before
        place = (self._box, module.path)
        if self._box and place not in self._seen and context.method_name == "__call__":
            self._seen.add(place)
            shapes = [x.shape for x in jax.tree.leaves(out) if hasattr(x, "shape")]
            if leaf and shapes and kind not in QUIET:
                rows.append((kind, max(shapes, key=math.prod)))
        if opens:
            out = _named(out, f"out:{self._box}")
            self._box = ""
        return out


def _named(tree: Any, name: str) -> Any:
    return jax.tree.map(lambda x: checkpoint_name(x, name) if isinstance(x, jax.Array) else x, tree)


def trace(config: ConfigDict) -> tuple[Tracer, set[tuple[str, str]]]:
    """The boxes of a config's system, and the pairs (from, to) between which something flows.

    Sources are boxes and keys of the batch.
    """
    system = get_system(config.system)
    batch = _batch(config)
    variables = jax.eval_shape(lambda batch: system.init(config, jax.random.key(0), batch), batch)
    tracer = Tracer(system.players(config), generating_players(config.system))

    def losses(variables, batch):
        batch = {key: checkpoint_name(x, f"out:{key}") for key, x in batch.items()}
        rng = jax.random.split(jax.random.key(0), len(batch["mask"]))
        return system.losses(config, variables, batch, rng, True)

    with nn.intercept_methods(tracer):
        jaxpr = jax.make_jaxpr(losses)(variables, batch)
    edges: set[tuple[str, str]] = set()
    _flow(jaxpr.jaxpr, [set() for _ in jaxpr.jaxpr.invars], edges)
    return tracer, {(a, b) for a, b in edges if a not in (b, "mask")}


def _batch(config: ConfigDict) -> dict[str, jax.ShapeDtypeStruct]:
    """The shapes of two clips of the config, with all truth that the rendered corpus knows."""
    data = config.data
    b, t, (h, w) = 2, data.num_frames, data.image_size
    stride, window = audio_geometry(config)
    shapes = {
        "still": ((b, h, w, 3), jnp.uint8),
        "video": ((b, t, h, w, 3), jnp.uint8),
        "waveform": ((b, (t - 1) * stride + window), jnp.float32),
        "mask": ((b, t), bool),
        "landmarks": ((b, t, 68, 2), jnp.float32),
        "action_units": ((b, t, 5), jnp.float32),
        "geometry": ((b, 199), jnp.float32),
        "expression": ((b, t, 29), jnp.float32),
        "pose": ((b, t, 6), jnp.float32),
        "speaker_index": ((b,), jnp.int32),
        "text": ((b, TEXT_LENGTH), jnp.int32),
        "text_mask": ((b, TEXT_LENGTH), bool),
        "spelling": ((b, t), jnp.int32),
    }
    return {key: jax.ShapeDtypeStruct(*shape) for key, shape in shapes.items()}


def _flow(jaxpr: Jaxpr, arriving: list[set], edges: set[tuple[str, str]]) -> list[set]:
    """Which names reach the outputs of a program, and on the way which reach which."""
    reach = dict(zip(jaxpr.invars, arriving, strict=True))

    def of(atom) -> set:
        return reach.get(atom, set()) if not hasattr(atom, "val") else set()

    used = {id(x) for eqn in jaxpr.eqns for x in eqn.invars} | set(map(id, jaxpr.outvars))
    for eqn in jaxpr.eqns:
        incoming = [of(x) for x in eqn.invars]
        everything = set().union(*incoming)
        outgoing = [everything] * len(eqn.outvars)
        inner = [
            p.jaxpr if isinstance(p, ClosedJaxpr) else p
            for p in eqn.params.values()
            if isinstance(p, ClosedJaxpr | Jaxpr)
        ]
        if eqn.primitive.name == "name":
            direction, _, name = eqn.params["name"].partition(":")
            if direction == "in" and id(eqn.outvars[0]) in used:
                edges |= {(source, name) for source in everything}
            elif direction == "out":
                outgoing = [{name}]
        elif len(inner) == 1 and len(inner[0].invars) == len(incoming):
            outgoing = _flow(inner[0], incoming, edges)
        reach |= dict(zip(eqn.outvars, outgoing, strict=True))
    return [of(x) for x in jaxpr.outvars]


def draw(tracer: Tracer, edges: set[tuple[str, str]]) -> Figure:
    """Boxes in columns, each behind all that it hears of, and arrows between them.

    What a player hears of the batch is a line of its box, as arrows across the picture would
    hide it.
    """
    heard = defaultdict(list)
    for source, name in sorted(edges):
        if source not in tracer.kinds and tracer.kinds[name] == "player":
            heard[name].append(source)
    edges = {(a, b) for a, b in edges if a not in heard.get(b, ())}
    names = [*sorted({a for a, _ in edges} - set(tracer.kinds)), *tracer.kinds]
    lines = {name: _lines(tracer.layers.get(name, [])) for name in names}
    for name, sources in heard.items():
        lines[name] = [("of the batch", ", ".join(sources)), *lines[name]]
    heights = {name: LINE * (len(lines[name]) + 1) + EDGE for name in names}
    columns = _columns(names, edges)
    height = max(sum(heights[name] + GAP for name in column) for column in columns) + GAP
    figure = Figure(figsize=(COLUMN * len(columns), height))
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set(xlim=(0, COLUMN * len(columns)), ylim=(0, height))
    axes.axis("off")
    places = {}
    for i, column in enumerate(columns):
        free = (height - sum(heights[name] for name in column)) / (len(column) + 1)
        top = height
        for name in column:
            top -= free
            places[name] = (COLUMN * i + (COLUMN - WIDTH) / 2, top - heights[name] / 2)
            _draw_box(axes, name, tracer.kinds.get(name, "input"), lines[name], places[name])
            top -= heights[name]
    style = dict(arrowstyle="-|>", mutation_scale=8, linewidth=0.8, color="#868E96", zorder=0)
    for a, b in sorted(edges):
        (x0, y0), (x1, y1) = places[a], places[b]
        axes.add_patch(FancyArrowPatch((x0 + WIDTH, y0), (x1, y1), **style))
    return figure


def _draw_box(
    axes: Axes, name: str, kind: str, lines: list[tuple[str, str]], place: tuple[float, float]
) -> None:
    """A title and two texts a line; `place` is the middle of the left side."""
    x, middle = place
    height = LINE * (len(lines) + 1) + EDGE
    style = dict(boxstyle="round,pad=0,rounding_size=0.06", linewidth=0.8, edgecolor="#495057")
    corner = (x, middle - height / 2)
    axes.add_patch(FancyBboxPatch(corner, WIDTH, height, facecolor=COLOURS[kind], **style))
    y = middle + height / 2 - EDGE / 2 - LINE / 2
    title = name.partition(": ")[2] or name
    axes.text(x + WIDTH / 2, y, title, ha="center", va="center", size=8, weight="bold")
    for row, (left, right) in enumerate(lines, 1):
        axes.text(x + 0.1, y - LINE * row, left, va="center", size=6.5)
        axes.text(x + WIDTH - 0.1, y - LINE * row, right, ha="right", va="center", size=6.5)


def _columns(names: list[str], edges: set[tuple[str, str]]) -> list[list[str]]:
    """Names by the length of the longest way that leads to them; ways around a circle end.

    Parts that nothing leads to stand before what they lead to.
    """
    depth = dict.fromkeys(names, 0)
    for _ in names:
        for a, b in edges:
            depth[b] = max(depth[b], min(depth[a] + 1, len(names)))
    led_to = {b for _, b in edges}
    for name in names:
        following = [depth[b] for a, b in edges if a == name]
        if ":" in name and name not in led_to and following:
            depth[name] = min(following) - 1
    columns = [[n for n in names if depth[n] == d] for d in sorted(set(depth.values()))]
    # Neighbours of like height cross fewer arrows.
    backwards = list(itertools.pairwise(reversed(columns)))
    for beside, column in [*backwards, *itertools.pairwise(columns)]:
        column.sort(key=functools.partial(_height, beside=beside, edges=edges))
    return columns


def _height(name: str, beside: list[str], edges: set[tuple[str, str]]) -> float:
    """Mean place of a name's neighbours in the column beside it; the middle if it has none."""
    rows = [i for i, other in enumerate(beside) if {(name, other), (other, name)} & edges]
    return sum(rows) / len(rows) if rows else (len(beside) - 1) / 2


def _lines(layers: list[tuple[str, tuple[int, ...]]]) -> list[tuple[str, str]]:
    """Kind and shape of each layer; one line for neighbours that are alike."""
    lines: list[tuple[str, str]] = []
    counts: list[int] = []
    for kind, shape in layers:
        line = (kind, " × ".join(map(str, shape[1:])))
        if lines and lines[-1] == line:
            counts[-1] += 1
        else:
            lines.append(line)
            counts.append(1)
    return [
        (kind if n == 1 else f"{n} × {kind}", shape)
        for (kind, shape), n in zip(lines, counts, strict=True)
    ]


def main() -> None:
    """Writes the picture of one config."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--config", required=True, help="NAME[:VARIANT] of a file in configs/")
    parser.add_argument("--out", type=Path, required=True, help="PNG file")
    options = parser.parse_args()
    name, _, variant = options.config.partition(":")
    config = importlib.import_module(f"configs.{name}").get_config(variant)
    if "perceptual" in config.loss:
        # What VGG-19 sees is no network of the system, and its weights are not here.
        config.loss.perceptual = 0.0
    figures.save(draw(*trace(config)), options.out)


if __name__ == "__main__":
    main()

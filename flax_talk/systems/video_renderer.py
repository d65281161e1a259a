"""A video and the landmarks that its mouth shall have, to the video with the mouth redrawn.

Song et al., "Everybody's Talkin': Let Me Talk as You Want", 2020, section 3.3: the neural video
rendering network of everybodys_talkin_2020. It sees the frames t - 6 .. t with a square of noise
over the mouth, and a heat map of the mouth's landmarks for each, and draws frame t (`Renderer`);
losses are those of Eq. 4. One network learns all speakers. The whole-face form of appendix C.1 sees
t - 6 .. t - 1 and draws all of frame t.

Ours: faces are aligned, and the square is fixed in them; around it a frame is the target's own, so
that L1 and total variation are of the square alone, while the discriminator and VGG-19 see all that
the network sees, which `config.view.box` can make a part of the frame; terms are means over pixels
and colours; the weights of Eq. 4, which is a plain sum; the penalty is on the gradient of the
discriminator's score by the frame, its heat map held constant, between real frames and drawn ones;
some frames of each clip are drawn in a step; before the first frame stands the first frame; and,
off unless asked for, frames as changes of the colours around the square.
"""

import functools
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from ml_collections import ConfigDict

from flax_talk import losses as terms
from flax_talk.errors import UserError
from flax_talk.images import to_float
from flax_talk.metrics import reconstruction
from flax_talk.nets.perceptual import vgg19_features
from flax_talk.nets.renderer import Renderer, RendererDiscriminator
from flax_talk.portrait.heat_maps import heat_maps
from flax_talk.portrait.masks import Square, fill_from_around, fill_with_noise, mouth_square
from flax_talk.systems import step
from flax_talk.systems.temporal_gan import gather_time, sample_frames

Variables = dict[str, dict[str, Any]]
Carry = dict[str, jax.Array]

RENDERER = "renderer"
DISCRIMINATOR = "renderer_discriminator"

GENERATING = (RENDERER,)
"""Players that `render` needs."""

MOUTH = slice(48, 68)
"""The mouth's among the 68 landmarks."""


def players(config: ConfigDict, axis_name: str | None = None) -> dict[str, nn.Module]:
    """The modules by player; `config.loss.adversarial` = 0 leaves the discriminator out."""
    dtype = jnp.dtype(config.dtype)
    modules: dict[str, nn.Module] = {
        RENDERER: Renderer(**config.renderer, dtype=dtype, axis_name=axis_name)
    }
    if config.loss.adversarial > 0:
        modules[DISCRIMINATOR] = RendererDiscriminator(**config.renderer_discriminator, dtype=dtype)
    return modules


def view(config: ConfigDict) -> tuple[Square, Square]:
    """The part of a frame that the network sees, in pixels of the frame, and the mouth's square in
    pixels of that part.

    Raises:
        UserError: the part lacks some of the square, or the network cannot halve it.
    """
    height, width = config.data.image_size
    top, left, bottom, right = config.view.box
    box = Square(*map(round, (top * height, left * width, bottom * height, right * width)))
    mouth = mouth_square((height, width))
    square = Square(
        mouth.top - box.top, mouth.left - box.left, mouth.bottom - box.top, mouth.right - box.left
    )
    sides, unit = (box.bottom - box.top, box.right - box.left), 2**config.renderer.num_layers
    if min(square) < 0 or square.bottom > sides[0] or square.right > sides[1]:
        raise UserError(f"config.view.box cuts off the mouth: hold all of {tuple(mouth)} in it")
    if any(side % unit for side in sides):
        raise UserError(
            f"config.view.box is {sides[0]} x {sides[1]} pixels: "
            f"choose multiples of {unit}, or another config.renderer.num_layers"
        )
    return box, square


def look(
    config: ConfigDict, video: jax.Array, mouth_landmarks: jax.Array
) -> tuple[jax.Array, jax.Array]:
    """What of a video is in the box: float [B, T, h, w, 3] in [-1, 1], and landmarks in its
    pixels."""
    box, _ = view(config)
    return box.cut(to_float(video)), mouth_landmarks - jnp.array([box.left, box.top])


def start(
    config: ConfigDict, video: jax.Array, mouth_landmarks: jax.Array, rng: jax.Array
) -> Carry:
    """What stands before the first frame: itself, over and over.

    Args:
        video: [B, T, H, W, 3], uint8 or float in [-1, 1].
        mouth_landmarks: [B, T, 20, 2], pixels.
        rng: [B] keys.

    Returns:
        `seen` [B, F - 1, h, w, 4], the frames that the next window begins with, F of
        `config.view`, and `frame` [B], the number of the next one.
    """
    number = jnp.zeros(len(video), jnp.int32)
    still, mouth = look(config, video[:, :1], mouth_landmarks[:, :1])
    first = observe(config, still, mouth, rng, number)
    return {"seen": jnp.repeat(first, config.view.num_frames - 1, axis=1), "frame": number}


def observe(
    config: ConfigDict,
    video: jax.Array,
    mouth_landmarks: jax.Array,
    rng: jax.Array,
    number: jax.Array,
) -> jax.Array:
    """Frames as the network sees them: the mouth hidden, and its heat map as a fourth colour.

    Args:
        video, mouth_landmarks: of `look`.
        rng: [B] keys.
        number: [B], of the first frame of each clip, on which the noise depends.

    Returns:
        float32 [B, T, h, w, 4].
    """
    frames = number[:, None] + jnp.arange(video.shape[1])
    keys = jax.vmap(jax.vmap(jax.random.fold_in, (None, 0)))(rng, frames)
    hidden = fill_with_noise(video, view(config)[1], keys, config.view.noise)
    maps = heat_maps(mouth_landmarks, video.shape[-3:-1], config.view.deviation)
    return jnp.concatenate([hidden, maps[..., None]], axis=-1)


def cut_windows(
    config: ConfigDict, seen: jax.Array, index: jax.Array
) -> tuple[jax.Array, jax.Array]:
    """What the network needs to draw frames.

    Args:
        seen: [B, F - 1 + T, h, w, 4]: a carry's, and what `observe` returns.
        index: [B, K] of the T frames.

    Returns:
        (windows [B K, h, w, 4 F], stacked over channels, or 4 (F - 1) where frame t itself is not
        seen; the last frame of each, its square filled from around, [B K, h, w, 3]).
    """
    last = config.view.num_frames - (1 if config.view.whole_face else 0)
    windows = gather_time(seen, index[..., None] + jnp.arange(last))
    windows = jnp.moveaxis(windows, 2, -2).reshape(-1, *seen.shape[2:4], 4 * last)
    return windows, fill_from_around(windows[..., -4:-1], view(config)[1])


def compose(config: ConfigDict, drawn: jax.Array, video: jax.Array) -> jax.Array:
    """The mouth's square as drawn, around it the target; both [..., h, w, 3] in [-1, 1]."""
    if config.view.whole_face:
        return drawn
    _, square = view(config)
    return square.paste(square.cut(drawn), video)


def init(config: ConfigDict, rng: jax.Array, batch: dict[str, jax.Array]) -> Variables:
    """Initial variables of every player.

    Args:
        rng: one key.
        batch: as the loader yields it; only shapes matter.

    Raises:
        UserError: as of `step.vgg19` and of `view`, before anything is trained.
    """
    step.vgg19(config)
    modules = players(config)
    video = view(config)[0].cut(to_float(batch["video"])[:1, :1])
    seen = jnp.zeros((1, config.view.num_frames, *video.shape[2:4], 4))
    windows = cut_windows(config, seen, jnp.zeros((1, 1), jnp.int32))
    inputs = {RENDERER: windows, DISCRIMINATOR: (video, video[..., 0])}
    return step.init(modules, rng, {name: inputs[name] for name in modules})


def losses(
    config: ConfigDict,
    variables: Variables,
    batch: dict[str, jax.Array],
    rng: jax.Array,
    train: bool = True,
    axis_name: str | None = None,
) -> tuple[dict[str, jax.Array], dict[str, Any], dict[str, jax.Array]]:
    """Losses of every player on one batch (Eq. 4).

    Args:
        variables: of `init`.
        batch: `video` [B, T, H, W, 3] (uint8, or float in [-1, 1]), `landmarks` [B, T, 68, 2] in
            pixels, `mask` [B, T].
        rng: [B] keys.
        train: batch normalisation by the batch.
        axis_name: device axis of the batch, if it is spread.

    Returns:
        (losses by player, new batch statistics by player, metrics by name).
    """
    modules = players(config, axis_name)
    turn = step.Players(config, modules, variables, train)
    noise_rng, frame_rng, share_rng = jax.vmap(lambda key: jax.random.split(key, 3))(rng).T
    mask, clips = batch["mask"], (batch["video"], batch["landmarks"][:, :, MOUTH])
    carry = start(config, *clips, noise_rng)
    video, mouth = look(config, *clips)
    seen = observe(config, video, mouth, noise_rng, carry["frame"])
    index = sample_frames(frame_rng, mask, config.loss.num_frames)
    valid = jnp.broadcast_to(mask.any(axis=1, keepdims=True), index.shape)
    real, maps = gather_time(video, index), gather_time(seen[..., 3], index)
    windows = cut_windows(config, jnp.concatenate([carry["seen"], seen], axis=1), index)
    fake = compose(config, turn.apply(RENDERER, *windows).reshape(real.shape), real)

    def mean(values):
        return terms.masked_mean(values.reshape(valid.shape), valid, axis_name)

    def part(frames):
        return frames if config.view.whole_face else view(config)[1].cut(frames)

    renderer = {
        "reconstruction": mean(terms.l1(part(fake), part(real))),
        "total_variation": mean(terms.total_variation(part(fake))),
    }
    total: dict[str, Any] = {}
    metrics: dict[str, Any] = {}
    if (weights := step.vgg19(config)) is not None:
        feel = functools.partial(vgg19_features, weights, names=config.loss.perceptual_layers)
        felt = [feel(x.reshape(-1, *x.shape[2:]).astype(config.dtype)) for x in (fake, real)]
        renderer["perceptual"] = mean(terms.features_l1(*felt).astype(jnp.float32))

    if DISCRIMINATOR in modules:
        constant = jax.lax.stop_gradient(fake)
        on_real = turn.apply(DISCRIMINATOR, real, maps)
        on_fake = turn.apply(DISCRIMINATOR, constant, maps)
        share = jax.vmap(lambda key: jax.random.uniform(key, index.shape[1:]))(share_rng)

        def score(frames):
            return turn.apply(DISCRIMINATOR, frames.reshape(real.shape), maps).reshape(-1)

        true, false = (x.reshape(-1, *x.shape[2:]) for x in (real, constant))
        values = {
            "real": mean(terms.least_squares(on_real, 1)),
            "fake": mean(terms.least_squares(on_fake, 0)),
            "gradient_penalty": mean(terms.gradient_penalty(score, true, false, share.reshape(-1))),
        }
        weighted = values | {
            "gradient_penalty": config.loss.gradient_penalty * values["gradient_penalty"]
        }
        total[DISCRIMINATOR] = sum(weighted.values())
        metrics |= _named(DISCRIMINATOR, total[DISCRIMINATOR], values, weighted)
        metrics[f"{DISCRIMINATOR}/accuracy_real"] = mean((on_real > 0.5).astype(jnp.float32))
        metrics[f"{DISCRIMINATOR}/accuracy_fake"] = mean((on_fake < 0.5).astype(jnp.float32))
        judged = turn.judge(DISCRIMINATOR, fake, maps)
        renderer["adversarial"] = mean(terms.least_squares(judged, 1))

    weighted = {name: config.loss[name] * value for name, value in renderer.items()}
    total[RENDERER] = sum(weighted.values())
    metrics |= _named(RENDERER, total[RENDERER], renderer, weighted)
    return total, turn.stats, metrics


def _named(
    player: str, loss: jax.Array, values: dict[str, jax.Array], weighted: dict[str, jax.Array]
) -> dict[str, jax.Array]:
    """A player's loss, and its terms without and with their weights, by the names of metrics."""
    named = {f"{player}/loss": loss}
    named |= {f"{player}/{name}": value for name, value in values.items()}
    return named | {f"{player}/{name}_weighted": value for name, value in weighted.items()}


def render(
    config: ConfigDict,
    variables: Variables,
    video: jax.Array,
    mouth_landmarks: jax.Array,
    rng: jax.Array,
    carry: Carry | None = None,
) -> tuple[jax.Array, Carry]:
    """Redraws mouths.

    Args:
        variables: of `init`; only the renderer's are used.
        video: [B, T, H, W, 3] aligned faces, uint8 or float in [-1, 1]; what is under the
            square does not matter.
        mouth_landmarks: [B, T, 20, 2], those that the mouths shall have, pixels.
        rng: [B] keys, of the noise in the square.
        carry: of the call before, to go on with the next frames of the same videos.

    Returns:
        (video [B, T, H, W, 3] float32 in [-1, 1], outside the square the same; carry).
    """
    video = to_float(video)
    carry = carry or start(config, video, mouth_landmarks, rng)
    seen = observe(config, *look(config, video, mouth_landmarks), rng, carry["frame"])
    seen = jnp.concatenate([carry["seen"], seen], axis=1)
    module, count = players(config)[RENDERER], video.shape[1]

    def draw(t):
        windows = cut_windows(config, seen, jnp.full((len(video), 1), t))
        return module.apply(variables[RENDERER], *windows, train=False)

    # Frame by frame: the windows of all frames at once would be seven times the video.
    drawn = jnp.moveaxis(jax.lax.map(draw, jnp.arange(count)), 0, 1)
    carry = {"seen": seen[:, count:], "frame": carry["frame"] + count}
    box, _ = view(config)
    return box.paste(compose(config, drawn, box.cut(video)), video), carry


def measure(
    config: ConfigDict, variables: Variables, batch: dict[str, jax.Array], rng: jax.Array
) -> dict[str, jax.Array]:
    """How near redrawn mouths are to those that were hidden: each measure [B].

    Args:
        variables: of `init`.
        batch: see `losses`.
        rng: [B] keys.

    Returns:
        `psnr` and `ssim` of the frames, `psnr_mouth`, `ssim_mouth` and `l1_mouth` of the square; as
        `still/...` the same with the square of the clip's first frame, or in the whole-face form
        with all of it, in every frame; in that form, which sees the frames before, also as
        `previous/...` for the frame before. `total_variation_mouth` of the square, to which detail
        adds, and as `real/...` that of the real frames.
    """
    real, mask = to_float(batch["video"]), batch["mask"]
    # A clip that fills the batch has no valid frame; with all of its frames it is finite.
    frames = mask | ~mask.any(axis=1, keepdims=True)
    fake, _ = render(config, variables, real, batch["landmarks"][:, :, MOUTH], rng)
    still, square = jnp.broadcast_to(real[:, :1], real.shape), mouth_square(real.shape[-3:-1])
    videos = {"": fake, "still/": still}
    if config.view.whole_face:
        videos["previous/"] = jnp.concatenate([real[:, :1], real[:, :-1]], axis=1)
    else:
        videos["still/"] = square.paste(square.cut(still), real)
    measures = {}
    for prefix, shown in videos.items():
        for suffix, part in (("", lambda x: x), ("_mouth", square.cut)):
            a, b = part(shown), part(real)
            measures[f"{prefix}psnr{suffix}"] = reconstruction.video_psnr(a, b, frames)
            similarity = reconstruction.ssim(a, b)
            measures[f"{prefix}ssim{suffix}"] = similarity.mean(axis=1, where=frames)
        error = terms.l1(square.cut(shown), square.cut(real))
        measures[f"{prefix}l1_mouth"] = error.mean(axis=1, where=frames)
    for prefix, shown in {"": fake, "real/": real}.items():
        variation = terms.total_variation(square.cut(shown))
        measures[f"{prefix}total_variation_mouth"] = variation.mean(axis=1, where=frames)
    return measures

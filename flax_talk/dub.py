"""Dubs a portrait video: its mouth follows another voice, and nothing else of it changes.

Song et al., "Everybody's Talkin': Let Me Talk as You Want", 2020: the five stages of
everybodys_talkin_2020, fit, translate, retime, render and finish, from a video and a sound to a
video. Each is a function here; what it finds can be kept in a folder, as arrays and as a video to
look at, and is then not worked out again. Ours: the new mouth is the detected one, moved by as much
as the model's moves from the fitted to the new expression, so that what a fit misses of a person
stays; faces are redrawn in aligned crops and warped back; what is written says what it is.
"""

import functools
import zipfile
import zlib
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict, FrozenConfigDict
from tqdm import tqdm

from flax_talk.animate import DEFAULT_VOICE, read_speech
from flax_talk.errors import UserError
from flax_talk.face_model.fit import Fit, fit
from flax_talk.face_model.fitting_files import draw_fit
from flax_talk.face_model.model import MOUTH, load_default, mouth_landmarks
from flax_talk.images import to_uint8
from flax_talk.labelling import mark, synthetic_tags
from flax_talk.portrait import blending, masks, retiming, smoothing, teeth
from flax_talk.portrait import deflicker as flicker
from flax_talk.systems import audio_to_expression, check_config, get_system, video_renderer
from flax_talk.systems.hearing import audio_geometry
from flax_talk.training.checkpoints import load_config, load_variables
from flax_talk.training.optimizers import make_optimizer
from flax_talk.training.step import TrainState, train_step
from input_pipeline import faces, media
from input_pipeline.audio import pad_waveform, resample

SYSTEM = "everybodys_talkin_2020"
FPS = 25.0
AUDIO_RATE = 48_000
"""Of the sound that is written, Hz."""

STAGES = ("fit", "translate", "retime", "render", "finish")

_CHECKPOINTS = Path(__file__).parent / "checkpoints"
TRANSLATION = _CHECKPOINTS / "audio_to_expression"
RENDERER = _CHECKPOINTS / "video_renderer"
"""The checkpoints that come with the package; `docs/results/dubbing.md` is their card."""

ADAPTATION_STEPS = 150
"""Of training on the target, by default: a minute or two on two cores."""

_ADAPTING_RATE = 5e-4
_CHUNK_FRAMES = 25


class Trained(NamedTuple):
    """What a run has learned: its config, its variables, the step they are of, its folder."""

    config: FrozenConfigDict
    variables: dict[str, Any]
    step: int
    workdir: str


class Finish(NamedTuple):
    """Which steps are taken besides drawing the mouth; the paper's are all of them.

    Attributes:
        retime: frames of the target are chosen to suit the speech; else they follow one another.
        smooth: the mouth's landmarks rest where it rests (Algorithm 1).
        deflicker: colours of the redrawn square do not flicker (Eq. 7).
        teeth: fine detail of the target's teeth is added.
        blend: Poisson blending; else the soft mask alone mixes.
    """

    retime: bool = True
    smooth: bool = True
    deflicker: bool = True
    teeth: bool = True
    blend: bool = True


ALL_STEPS = Finish()


class Drawn(NamedTuple):
    """Redrawn faces of T' frames.

    Attributes:
        crops: uint8 [T', H, W, 3], aligned.
        mouth: float32 [T', 20, 2], the mouth that was asked for, in pixels of the crops.
        transforms: float32 [T', 2, 3] from pixels of the frames to those of the crops.
    """

    crops: np.ndarray
    mouth: np.ndarray
    transforms: np.ndarray


class Dub(NamedTuple):
    """What `dub_files` wrote: the file, its frames and frames per second, and the fit's error."""

    path: Path
    frames: int
    fps: float
    fit_error: float


def load(workdir: str | Path | Trained, system: Any) -> Trained:
    """A run of a stage.

    Args:
        workdir: folder that it was trained in, or exported; what is loaded already is returned.
        system: module of `flax_talk.systems` that it must be of.

    Raises:
        UserError: no run, or one of another system.
    """
    given = workdir if isinstance(workdir, Trained) else None
    config = given.config if given else load_config(Path(workdir))
    if get_system(config.system) is not system:
        folder, wanted = given.workdir if given else workdir, system.__name__.rpartition(".")[2]
        raise UserError(f"{folder} holds {config.system}: give a checkpoint of {wanted}")
    if given:
        return given
    check_config(config, workdir)
    return Trained(FrozenConfigDict(config), *load_variables(Path(workdir)), str(workdir))


def translate(model: Trained, waveform: np.ndarray, num_frames: int) -> np.ndarray:
    """Stage 2, what the mouth does by the sound.

    Args:
        model: of `systems.audio_to_expression`.
        waveform: float [S] mono in [-1, 1] at the config's audio_rate.
        num_frames: T'.

    Returns:
        float32 [T', E], coefficients of the default face model; of the baseline
        audio_to_landmark [T', 20, 2], pixels of the aligned crop.
    """
    config = model.config
    stride, window = audio_geometry(config)
    # One program serves all lengths of up to so many chunks.
    padded = -(-num_frames // _CHUNK_FRAMES) * _CHUNK_FRAMES
    audio = pad_waveform(waveform[: num_frames * stride], padded, stride, window)
    return np.asarray(_translate(config, model.variables, audio[None]))[0, :num_frames]


@partial(jax.jit, static_argnums=0)
def _translate(config, variables, audio):
    if audio_to_expression.predicts_landmarks(config):
        return audio_to_expression.landmarks(config, variables, audio)
    return audio_to_expression.expressions(config, variables, audio)


def place_mouth(
    target: Fit, landmarks: np.ndarray, expression: np.ndarray, index: np.ndarray
) -> np.ndarray:
    """Where the mouth shall be: the detected one, moved as the model's moves.

    Args:
        target: fit of the T frames of the target.
        landmarks: float [T, 68, 2] of the target, pixels.
        expression: float [T', E], of `translate`.
        index: int [T'], the target's frame behind each new one.

    Returns:
        float32 [T', 20, 2], pixels of the target's frames.
    """
    new, old = (
        mouth_landmarks(load_default(), target.geometry, e, target.pose[index])
        for e in (expression, target.expression[index])
    )
    return np.asarray(landmarks[index, MOUTH] + new - old, np.float32)


def adapt(
    model: Trained, frames: np.ndarray, landmarks: np.ndarray, steps: int, seed: int = 0
) -> Trained:
    """A renderer that has seen the target: it goes on learning on the target's own frames.

    The paper trains on footage of those whom it edits; a renderer that never saw a mouth can only
    guess it. Windows are drawn at random; the loss is that of the config without a discriminator.

    Args:
        model: of `systems.video_renderer`.
        frames: uint8 [T, h, w, 3].
        landmarks: float [T, 68, 2], pixels.
        steps: of training; 0 returns the model.
        seed: of the windows.
    """
    if not steps:
        return model
    config = ConfigDict(model.config.to_dict())
    config.loss.update(dict(adversarial=0.0, perceptual=0.0))
    config.optimizer.renderer.update(dict(learning_rate=_ADAPTING_RATE, decay=1.0))
    size, canonical = tuple(config.data.image_size), faces.alignment_target(config.data)
    crops, points, _ = faces.align(frames, landmarks, size, canonical)
    optimizer, update = _adapting_step(FrozenConfigDict(config), steps)
    variables = {video_renderer.RENDERER: model.variables[video_renderer.RENDERER]}
    params = {player: entry["params"] for player, entry in variables.items()}
    state = TrainState(
        step=jnp.zeros((), jnp.int32),
        params=params,
        batch_stats={player: entry["batch_stats"] for player, entry in variables.items()},
        opt_state=optimizer.init(params),
        rng=jax.random.key_data(jax.random.key(seed)),
    )
    state = jax.tree.map(jnp.array, state)
    random, length = np.random.default_rng(seed), config.data.num_frames
    window = np.arange(length)
    bar = tqdm(range(steps), desc="learning the face", unit="step", disable=None, leave=None)
    for _ in bar:
        first = random.integers(0, max(1, len(crops) - length + 1), config.data.batch_size)
        index = first[:, None] + window
        shown = np.minimum(index, len(crops) - 1)
        batch = {"video": crops[shown], "landmarks": points[shown], "mask": index < len(crops)}
        state, metrics = update(state, batch)
    bar.set_postfix(loss=float(metrics["renderer/loss"]))
    return model._replace(variables=state.variables)


@functools.cache
def _adapting_step(config: FrozenConfigDict, steps: int) -> tuple[Any, Callable]:
    """The optimizer and the compiled step of `adapt`, the same for every target."""
    optimizer = make_optimizer(config.optimizer, [video_renderer.RENDERER], steps)
    update = partial(train_step, video_renderer, config, optimizer)
    return optimizer, jax.jit(update, donate_argnums=0)


def redraw(
    model: Trained,
    frames: np.ndarray,
    landmarks: np.ndarray,
    index: np.ndarray,
    mouth: np.ndarray,
    is_aligned: bool = False,
    seed: int = 0,
) -> Drawn:
    """Stage 4, aligned faces with the new mouth.

    Args:
        model: of `systems.video_renderer`.
        frames: uint8 [T, h, w, 3], of the target.
        landmarks: float [T, 68, 2], pixels.
        index: int [T'].
        mouth: float [T', 20, 2], pixels of the frames, or of the crops if `is_aligned`.
        seed: of the noise that hides the mouth.
    """
    config = model.config
    size, canonical = tuple(config.data.image_size), faces.alignment_target(config.data)
    crops, _, transforms = faces.align(frames, landmarks, size, canonical)
    transforms = transforms[index]
    if not is_aligned:
        mouth = faces.transform_points(transforms, mouth)
    carry, drawn = None, []
    for start in range(0, len(index), _CHUNK_FRAMES):
        # The last chunk is filled with its last frame: one program for all.
        part = np.minimum(np.arange(start, start + _CHUNK_FRAMES), len(index) - 1)
        video, points = jnp.asarray(crops[index[part]]), jnp.asarray(mouth[part], jnp.float32)
        if carry is None:
            rng = jax.random.key(seed)[None]
            carry = _begin(config, video[None], points[None], rng)
        shown, carry = _render(config, model.variables, video[None], points[None], rng, carry)
        drawn.append(np.asarray(shown)[0, : len(index) - start])
    return Drawn(np.concatenate(drawn), np.asarray(mouth, np.float32), transforms)


@partial(jax.jit, static_argnums=0)
def _begin(config, video, mouth, rng):
    return video_renderer.start(config, video, mouth, rng)


@partial(jax.jit, static_argnums=0)
def _render(config, variables, video, mouth, rng, carry):
    shown, carry = video_renderer.render(config, variables, video, mouth, rng, carry)
    return to_uint8(shown), carry


def finish(
    frames: np.ndarray,
    landmarks: np.ndarray,
    index: np.ndarray,
    drawn: Drawn,
    steps: Finish = ALL_STEPS,
) -> Iterator[np.ndarray]:
    """Stage 5, the redrawn mouths in the frames of the target.

    Args:
        frames, landmarks, index: as of `redraw`.
        drawn: what it returned.
        steps: which to take.

    Yields:
        T' frames uint8 [h, w, 3]; where no mouth is, they equal those of the target.
    """
    crops = drawn.crops
    square = masks.mouth_square(crops.shape[1:3])
    if steps.teeth:
        size = crops.shape[1:3]
        widest = teeth.teeth_proxy(landmarks[:, MOUTH])
        proxy, points, _ = faces.align(frames[[widest]], landmarks[[widest]], size)
        crops = teeth.add_teeth(crops, drawn.mouth, proxy[0], points[0, MOUTH])
    if steps.deflicker:
        part = flicker.deflicker(square.cut(crops), drawn.mouth - (square.left, square.top))
        crops = np.array(crops)
        crops[:, square.top : square.bottom, square.left : square.right] = part
    for crop, mouth, transform, i in zip(crops, drawn.mouth, drawn.transforms, index, strict=True):
        yield _put_back(frames[i], landmarks[i, MOUTH], crop, mouth, transform, square, steps.blend)


def _put_back(
    frame: np.ndarray,
    old_mouth: np.ndarray,
    crop: np.ndarray,
    mouth: np.ndarray,
    transform: np.ndarray,
    square: masks.Square,
    blend: bool,
) -> np.ndarray:
    """One frame with the mouth of its crop; only the part around the mouth is worked on."""
    inverse = cv2.invertAffineTransform(transform)
    scale = float(np.sqrt(abs(np.linalg.det(inverse[:, :2]))))
    corners = [[x, y] for x in (square.left, square.right) for y in (square.top, square.bottom)]
    corners = faces.transform_points(inverse[None], np.array([corners], np.float32))[0]
    end = frame.shape[1::-1]
    left, top = np.clip(np.floor(corners.min(axis=0)), 0, end).astype(int)
    right, bottom = np.clip(np.ceil(corners.max(axis=0)) + 1, 0, end).astype(int)
    if right <= left or bottom <= top:
        return frame
    here = np.array([left, top])
    local = transform.copy()
    local[:, 2] += local[:, :2] @ here

    def back(image, interpolation):
        flags = interpolation | cv2.WARP_INVERSE_MAP
        return cv2.warpAffine(image, local, (int(right - left), int(bottom - top)), flags=flags)

    inside = np.zeros(crop.shape[:2], np.float32)
    inside[square.top : square.bottom, square.left : square.right] = 1
    new_mouth = faces.transform_points(inverse[None], mouth[None])[0]
    both = np.concatenate([new_mouth, old_mouth]) - here
    part = frame[top:bottom, left:right]
    soft = masks.soft_masks(both[None], part.shape[:2], 4 * scale, 2 * scale)
    soft = soft * (back(inside, cv2.INTER_NEAREST) > 0)
    redrawn = back(crop, cv2.INTER_CUBIC)
    if blend:
        mixed = blending.poisson_blend(redrawn[None], part[None], soft)[0]
    else:
        mixed = np.rint(soft[0, ..., None] * redrawn + (1 - soft[0, ..., None]) * part)
    shown = frame.copy()
    shown[top:bottom, left:right] = mixed
    return shown


def dub_files(
    video: str | Path,
    audio: str | Path | None,
    out: str | Path | None,
    *,
    text: str | None = None,
    voice: str = DEFAULT_VOICE,
    translation: str | Path | Trained = TRANSLATION,
    renderer: str | Path | Trained = RENDERER,
    adaptation: int = ADAPTATION_STEPS,
    steps: Finish = ALL_STEPS,
    keep: str | Path | None = None,
    until: str = "finish",
    detector: str = "dlib",
    seed: int = 0,
    visible_mark: bool = False,
) -> Dub:
    """Makes the person of a video say a recording, or a text.

    The video that is written (H.264 and AAC, 25 frames per second) is as long as the speech: longer
    than the target, whose frames then come more than once, or shorter. It appears complete or not
    at all.

    Args:
        video: the target, one face in every frame.
        audio: sound, or a video with sound; None where `text` is given.
        out: file to write, ending in .mp4; None if `until` is not "finish".
        text, voice: words to speak instead of `audio`, see `input_pipeline.speech.say`.
        translation, renderer: checkpoints of both networks, or what `load` made of them.
        adaptation: steps that the renderer learns on the target, see `adapt`.
        steps: which steps are taken.
        keep: folder for what each stage finds, which a second call on the same inputs goes on from:
            an npz and a video to look at for each.
        until: the last stage to take, of `STAGES`.
        detector: name of a face detector.
        seed: of the noise that hides the mouth.
        visible_mark: write SYNTHETIC into every frame.

    Raises:
        UserError: a file that is missing or cannot be read, no face throughout, no run in a folder,
            or a place that cannot be written.
    """
    if until not in STAGES:
        raise UserError(f"no stage {until!r}: use one of {', '.join(STAGES)}")
    if adaptation < 0:
        raise UserError(f"{adaptation} steps of adaptation: give 0 or more")
    if until == "finish":
        out = _check_out(out, [video, audio])
    elif keep is None:
        raise UserError(f"what the stage {until} finds is kept in a folder: give one")
    hearing, drawing = load(translation, audio_to_expression), load(renderer, video_renderer)
    find = faces.get_detector(detector)
    sound = read_speech(audio, text, voice, AUDIO_RATE)
    frames = media.read_video(video, FPS).frames
    kept = _Kept(keep)

    def track() -> dict[str, np.ndarray]:
        try:
            points = faces.detect_video(frames, find)
        except faces.ClipError as error:
            raise UserError(f"{video}: {error}: give a video of one face") from error
        return {"landmarks": points, **fit(load_default(), points)._asdict()}

    found = kept("fit", track, _fingerprint(video), detector)
    points = found.pop("landmarks")
    target = Fit(**found)
    kept.show("fit", lambda: draw_fit(load_default(), target, frames, points))
    error = float(np.sqrt(np.square(target.error).mean()))

    def done(count: int) -> Dub:
        return Dub(Path(out if out is not None else keep), count, FPS, error)

    if until == "fit":
        return done(len(frames))
    count = max(1, round(len(sound) * FPS / AUDIO_RATE))
    heard = resample(sound, AUDIO_RATE, hearing.config.data.audio_rate)
    moves = kept(
        "translate",
        lambda: {"output": translate(hearing, heard, count)},
        zlib.crc32(sound.tobytes()),
        (hearing.workdir, hearing.step),
    )["output"]
    if until == "translate":
        return done(count)

    def retime() -> dict[str, np.ndarray]:
        if not steps.retime:
            return {"index": retiming.identity(count, len(frames))}
        speech = retiming.speech_activity(sound, AUDIO_RATE, count, FPS)
        motion, blinks = retiming.head_motion(target.pose), retiming.blinking(points)
        return {"index": retiming.retime(speech, motion, blinks)}

    index = kept("retime", retime, steps.retime)["index"]
    kept.show("retime", lambda: (frames[i] for i in index), sound)
    if until == "retime":
        return done(count)

    def render() -> dict[str, np.ndarray]:
        is_aligned = audio_to_expression.predicts_landmarks(hearing.config)
        mouth = moves if is_aligned else place_mouth(target, points, moves, index)
        if steps.smooth:
            mouth = np.asarray(smoothing.smooth_landmarks(mouth))
        model = adapt(drawing, frames, points, adaptation, seed)
        return redraw(model, frames, points, index, mouth, is_aligned, seed)._asdict()

    inputs = steps.smooth, seed, adaptation, (drawing.workdir, drawing.step)
    drawn = Drawn(**kept("render", render, *inputs))
    kept.show("render", lambda: _draw_mouths(drawn), sound)
    if until == "render":
        return done(count)
    shown: Iterable[np.ndarray] = finish(frames, points, index, drawn, steps)
    shown = mark(shown) if visible_mark else shown
    media.write_video(out, shown, FPS, sound, AUDIO_RATE, synthetic_tags(SYSTEM))
    return done(count)


class _Kept:
    """A folder of what the stages have found; each is worked out again when its inputs change.

    Args:
        folder: None keeps nothing.
    """

    def __init__(self, folder: str | Path | None):
        self._folder = None if folder is None else Path(folder)
        self._key = 0
        self._is_new = False
        if self._folder is not None:
            try:
                self._folder.mkdir(parents=True, exist_ok=True)
            except OSError as error:
                raise UserError(f"{folder}: cannot be made ({error.strerror})") from error

    def __call__(
        self, name: str, make: Callable[[], dict[str, np.ndarray]], *inputs: Any
    ) -> dict[str, np.ndarray]:
        """The arrays of a stage; `inputs` is what they depend on besides the stages before."""
        self._key = zlib.crc32(repr((self._key, name, inputs)).encode())
        if self._folder is None:
            return make()
        path = self._folder / f"{name}.npz"
        if (arrays := self._read(path)) is not None:
            return arrays
        arrays, self._is_new = make(), True
        partial = path.with_name(f".{path.name}.partial")
        try:
            with partial.open("wb") as file:
                np.savez(file, key=self._key, **arrays)
            partial.replace(path)
        except OSError as error:
            partial.unlink(missing_ok=True)
            raise UserError(
                f"{path}: cannot be written ({error.strerror}): check the folder and its free space"
            ) from error
        return arrays

    def _read(self, path: Path) -> dict[str, np.ndarray] | None:
        try:
            with np.load(path) as file:
                stored = dict(file)
        except (OSError, ValueError, zipfile.BadZipFile):
            return None
        return stored if int(stored.pop("key", -1)) == self._key else None

    def show(
        self, name: str, draw: Callable[[], Iterable[np.ndarray]], sound: np.ndarray | None = None
    ) -> None:
        """Writes the video of a stage, if it is new."""
        if self._folder is None:
            return
        path = self._folder / f"{name}.mp4"
        if self._is_new or not path.exists():
            media.write_video(path, draw(), FPS, sound, AUDIO_RATE, synthetic_tags(SYSTEM))


def _draw_mouths(drawn: Drawn) -> Iterator[np.ndarray]:
    """Each crop beside itself with the mouth that was asked for, four times as large."""
    scale = 4
    for crop, mouth in zip(drawn.crops, drawn.mouth, strict=True):
        large = cv2.resize(crop, None, fx=scale, fy=scale, interpolation=cv2.INTER_CUBIC)
        marked = large.copy()
        for x, y in np.rint((mouth + 0.5) * scale - 0.5).astype(int).tolist():
            cv2.circle(marked, (x, y), 3, (255, 220, 0), -1, cv2.LINE_AA)
        yield np.concatenate([large, marked], axis=1)


def _check_out(out: str | Path | None, inputs: Iterable[str | Path | None]) -> Path:
    if out is None or Path(out).suffix.lower() != ".mp4":
        raise UserError(f"{out}: only mp4 is written: give --out a name that ends in .mp4")
    out = Path(out)
    for path in inputs:
        if path is not None and out.exists() and Path(path).exists() and out.samefile(path):
            raise UserError(f"{out}: would overwrite its own input: give --out another name")
    return out


def _fingerprint(path: str | Path) -> tuple[str, int, int]:
    found = Path(path).stat()
    return Path(path).name, found.st_size, found.st_mtime_ns

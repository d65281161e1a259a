"""What this machine can do, and what to install for the rest: `flax-talk doctor` and `info`.

No paper is behind it. What can be tried is tried: a detector is built, a word spoken, weights are
read. What is missing is a line that says what to do.
"""

import importlib.metadata
import importlib.util
import os
import platform
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import flax_talk
from flax_talk.errors import UserError

PACKAGES = ("jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "grain", "numpy", "av", "librosa")

EXTRAS = {
    "labels": ("ai_edge_litert", "runs the networks of `flax-talk label --model`, LiteRT"),
    "app": ("gradio", "draws the page of `flax-talk app`"),
    "completion": ("shtab", "writes shell completions"),
    "demo": ("skimage", "brings the photograph of the demo"),
    "beam": ("apache_beam", "prepares corpora on many machines"),
    "bfm": ("h5py", "reads Basel Face Models"),
}
"""By extra of `pip install 'flax-talk[EXTRA]'`: a module that it brings, and what for. What `dlib`
and `speech` bring is tried instead."""

ENCODERS = {"H.264": "libx264", "AAC": "aac"}
"""What `flax_talk` writes, by PyAV's names."""

DECODERS = {
    **{"H.264": "h264", "HEVC": "hevc", "VP9": "vp9", "AV1": "libdav1d", "MPEG-1": "mpeg1video"},
    **{"AAC": "aac", "MP3": "mp3", "Opus": "opus", "Vorbis": "vorbis", "FLAC": "flac"},
}
"""What recordings often come in."""

_GIBI = 2**30
_FREE_DISK, _MEMORY = 5 * _GIBI, 4 * _GIBI  # bytes below which a training may end


class Finding(NamedTuple):
    """One thing looked at: its name, whether all is well, what was found, and what to do if not."""

    name: str
    ok: bool
    found: str
    advice: str = ""


def environment() -> dict[str, Any]:
    """Versions, devices and face detectors, as `flax-talk info` tells them."""
    import jax

    from input_pipeline.faces import DETECTORS

    return {
        "flax-talk": flax_talk.__version__,
        "python": platform.python_version(),
        "packages": {name: importlib.metadata.version(name) for name in PACKAGES},
        "devices": [f"{device.platform}:{device.device_kind}" for device in jax.devices()],
        "detectors": {name: _detector(name) or "available" for name in DETECTORS},
    }


def examine() -> list[Finding]:
    """Looks at what the commands need, thing by thing."""
    checks: tuple[Callable[[], Iterator[Finding]], ...] = (
        *(_devices, _codecs, _detectors, _speech, _extras, _weights),
        *(_cache, _memory, _disk),
    )
    return [finding for check in checks for finding in check()]


def _devices() -> Iterator[Finding]:
    facts = environment()
    versions = [f"{name} {facts['packages'][name]}" for name in ("jax", "flax")]
    found = f"flax-talk {facts['flax-talk']}, Python {facts['python']}, {', '.join(versions)}"
    yield Finding("versions", True, found)
    devices = facts["devices"]
    idle_gpu = Path("/dev/nvidia0").exists() and all(name.startswith("cpu") for name in devices)
    advice = "there is an NVIDIA GPU that jax does not use: pip install 'jax[cuda12]'"
    cores = f"{os.cpu_count()} CPU cores"
    yield Finding(
        "devices", not idle_gpu, f"{', '.join(devices)}; {cores}", advice if idle_gpu else ""
    )


def _codecs() -> Iterator[Finding]:
    import av

    for verb, mode, codecs in (("writes", "w", ENCODERS), ("reads", "r", DECODERS)):
        missing = []
        for name, codec in codecs.items():
            try:
                av.Codec(codec, mode)
            except (av.error.FFmpegError, ValueError):
                missing.append(name)
        there = [name for name in codecs if name not in missing]
        advice = f"without {', '.join(missing)}: pip install --force-reinstall --only-binary av av"
        found = f"{', '.join(there) or 'nothing'} (PyAV {av.__version__})"
        yield Finding(f"{verb} media", not missing, found, advice if missing else "")


def _detectors() -> Iterator[Finding]:
    from input_pipeline.faces import DETECTORS

    for name in DETECTORS:
        reason = _detector(name)
        found, _, advice = (reason or "available").partition(": ")
        yield Finding(f"detector {name}", not reason, found, advice)


def _detector(name: str) -> str | None:
    """Why a face detector cannot be used, None if it can."""
    from input_pipeline.faces import get_detector

    try:
        get_detector(name)
    except UserError as error:
        return str(error)
    return None


def _speech() -> Iterator[Finding]:
    from input_pipeline.speech import say

    try:
        say("one")
    except UserError as error:
        found, _, advice = str(error).partition(": ")
        yield Finding("speech", False, found, advice)
    else:
        yield Finding("speech", True, "espeak-ng speaks texts")


def _extras() -> Iterator[Finding]:
    for extra, (module, purpose) in EXTRAS.items():
        there = importlib.util.find_spec(module) is not None
        advice = "" if there else f"pip install 'flax-talk[{extra}]'"
        state = "installed" if there else "not installed"
        yield Finding(f"extra {extra}", there, f"{state}; {purpose}", advice)


def _weights() -> Iterator[Finding]:
    from flax_talk.training.checkpoints import load_config, load_variables

    folder, names = Path(__file__).parent / "checkpoints", []
    for path in sorted(path for path in folder.iterdir() if path.is_dir()):
        try:
            load_config(path)
            load_variables(path)
        except UserError as error:
            yield Finding("weights", False, str(error), "pip install --force-reinstall flax-talk")
        else:
            names.append(path.name)
    advice = "" if names else "pip install --force-reinstall flax-talk"
    yield Finding("weights", bool(names), ", ".join(names) or f"none in {folder}", advice)


def _cache() -> Iterator[Finding]:
    import jax

    name = "compiled programs"
    folder = jax.config.values["jax_compilation_cache_dir"]
    if not folder:
        advice = "export JAX_COMPILATION_CACHE_DIR=~/.cache/jax, and a second run starts at once"
        yield Finding(name, False, "not kept between runs", advice)
    elif not os.access(_existing(Path(folder)), os.W_OK):
        yield Finding(name, False, f"{folder} cannot be written", "choose another folder")
    else:
        files = [path for path in Path(folder).glob("*") if path.is_file()]
        size = sum(path.stat().st_size for path in files) / 1e6
        yield Finding(name, True, f"kept in {folder} ({len(files)} files, {size:.0f} MB)")


def _memory() -> Iterator[Finding]:
    try:
        total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):
        return
    advice = "" if total >= _MEMORY else "take small variants of the configs, and smaller batches"
    yield Finding("memory", total >= _MEMORY, f"{total / _GIBI:.1f} GiB", advice)


def _disk() -> Iterator[Finding]:
    folder = Path.cwd()
    free = shutil.disk_usage(folder).free
    advice = "" if free >= _FREE_DISK else "make room: checkpoints and data sets take gigabytes"
    yield Finding("disk", free >= _FREE_DISK, f"{free / _GIBI:.1f} GiB free in {folder}", advice)


def _existing(folder: Path) -> Path:
    """The folder, or the nearest one above it that exists."""
    return next(path for path in (folder, *folder.absolute().parents) if path.exists())

"""A page in the browser, `flax-talk app`: animate a still, dub a video, watch frames being made.

No paper is behind it. Gradio draws the page and serves it on this machine alone unless told
otherwise; the page loads nothing from anywhere else. What is uploaded and made lives in a folder
that ends with the page, and is forgotten after an hour. Whatever the user can mend is shown as the
sentence of its `UserError`.
"""

import base64
import contextlib
import itertools
import os
import re
import signal
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from flax_talk import api
from flax_talk.animate import DEFAULT_VOICE, speech_chunks
from flax_talk.demo import TEXT, VOICES
from flax_talk.errors import UserError
from flax_talk.labelling import mark as marked
from input_pipeline import media

try:
    # Before it is imported: it would report its use otherwise.
    os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"
    import gradio as gr
    from gradio.components import Component
except ImportError as error:
    raise UserError("the page needs Gradio: pip install 'flax-talk[app]'") from error

HOST, PORT = "127.0.0.1", 7860
MAX_SECONDS = 60
"""Of speech, and of a video that is dubbed, by default."""

MAX_FILE = "50mb"
MAX_WAITING = 16
"""Requests in the queue; one is worked on at a time."""

_MAX_DUBBED_PIXELS = 1280 * 720
_KEPT_SECONDS = 3600
_CHUNK_FRAMES = 25
_SHOWN_HEIGHT = 384  # pixels of a streamed frame
_HEIGHT = 270  # pixels of the faces that are given
_PROGRESS, _BARS = gr.Progress(), gr.Progress(track_tqdm=True)
_PERSON = Path(__file__).parent / "examples" / "person.jpg"
_SYSTEM_FONTS = ("system-ui", "-apple-system", "Segoe UI", "Roboto", "sans-serif")
_CODE_FONTS = ("ui-monospace", "Menlo", "Consolas", "monospace")
# The browser itself refuses what would come from elsewhere.
_POLICY = (
    "default-src 'self' data: blob:; script-src 'self' 'unsafe-inline' 'unsafe-eval' blob:; "
    "style-src 'self' 'unsafe-inline'; object-src 'none'"
)
Checkpoints = list[tuple[str, api.Talker]]
_INTRODUCTION = """
# flax_talk

A face says what it never said. **What is made here is synthetic**: its file says so, and so does
its picture unless you choose otherwise. Use faces and voices of people who agreed to it. A still
shows a face from the front; a video to dub shows one in every frame.
"""


def create(checkpoints: Sequence[str | Path] = (), max_seconds: float = MAX_SECONDS) -> gr.Blocks:
    """The page, which `serve` shows.

    Args:
        checkpoints: folders that can be chosen besides the checkpoint that ships.
        max_seconds: of speech, and of a video that is dubbed.

    Raises:
        UserError: a folder that holds no run, or one that generates no video.
    """
    # Mistakes in the command show now, not at the first click.
    loaded = [(api.DEFAULT, api.load())]
    loaded += [(Path(path).resolve().name, api.load(path)) for path in checkpoints]
    with gr.Blocks(
        title="flax_talk",
        analytics_enabled=False,
        delete_cache=(_KEPT_SECONDS, _KEPT_SECONDS),
    ) as page:
        gr.Markdown(_INTRODUCTION)
        with gr.Tab("Animate", elem_id="animate-tab"):
            _animate_tab(loaded, max_seconds)
        with gr.Tab("Dub", elem_id="dub-tab"):
            _dub_tab(max_seconds)
        with gr.Tab("Stream", elem_id="stream-tab"):
            _stream_tab(loaded, max_seconds)
    return page.queue(max_size=MAX_WAITING, default_concurrency_limit=1)


def serve(
    page: gr.Blocks, host: str = HOST, port: int | None = PORT, max_file: str = MAX_FILE
) -> str:
    """Starts to show a page, in threads of this process.

    Args:
        page: of `create`.
        host: address to listen at; 0.0.0.0 shows it to the network.
        port: of it; None takes a free one.
        max_file: the largest upload, such as "50mb".

    Returns:
        Its address.

    Raises:
        UserError: the port is taken.
    """
    from starlette.middleware import Middleware

    fonts = dict(font=_SYSTEM_FONTS, font_mono=_CODE_FONTS)
    try:
        _, address, _ = page.launch(
            server_name=host,
            server_port=port,
            max_file_size=max_file,
            theme=gr.themes.Default(**fonts),
            app_kwargs={"middleware": [Middleware(_StayHere)]},
            footer_links=[],
            share=False,
            ssr_mode=False,
            quiet=True,
            prevent_thread_lock=True,
        )
    except OSError as error:
        raise UserError(f"no page at {host}:{port} ({error}): give another --port") from error
    return address


def run(
    checkpoints: Sequence[str | Path] = (),
    host: str = HOST,
    port: int = PORT,
    max_seconds: float = MAX_SECONDS,
    max_file: str = MAX_FILE,
) -> None:
    """Shows the page until it is interrupted; arguments and errors of `create` and `serve`."""
    # Whoever ends it, the folder goes with it.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    with tempfile.TemporaryDirectory(prefix="flax_talk_") as folder:
        os.environ["GRADIO_TEMP_DIR"] = folder
        page = create(checkpoints, max_seconds)
        print(f"flax_talk: {serve(page, host, port, max_file)} (Ctrl+C ends it)", flush=True)
        page.block_thread()


class _StayHere:
    """ASGI middleware that adds `_POLICY` to every answer."""

    def __init__(self, app: Any):
        self._app = app

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        async def send_with_policy(message: dict[str, Any]) -> None:
            if message["type"] == "http.response.start":
                headers = [(b"content-security-policy", _POLICY.encode())]
                message = {**message, "headers": [*message.get("headers", ()), *headers]}
            await send(message)

        await self._app(scope, receive, send_with_policy)


@contextlib.contextmanager
def _told() -> Iterator[None]:
    """Shows a `UserError` as its sentence, without the folders of uploads."""
    try:
        yield
    except UserError as error:
        folder = re.escape(str(_folder()))
        text = re.sub(rf"{folder}/(\w+/)*", "", str(error))
        raise gr.Error(text, title="That did not work", print_exception=False) from error


def _folder() -> Path:
    return Path(os.environ.get("GRADIO_TEMP_DIR") or Path(tempfile.gettempdir()) / "gradio")


def _new_file(name: str) -> Path:
    """A path in the folder that Gradio serves, so that it makes no copy, and clears."""
    _folder().mkdir(parents=True, exist_ok=True)
    return Path(tempfile.mkdtemp(dir=_folder())) / name


def _speech(audio: str | None, text: str, voice: str, rate: int, max_seconds: float) -> np.ndarray:
    """The waveform float32 [S] of a recording or a sentence, whichever is given."""
    text = text.strip()
    if bool(audio) == bool(text):
        raise UserError("give either a recording or a sentence")
    held, samples = [], 0
    for piece in speech_chunks(audio or None, text or None, voice.strip(), rate):
        held.append(piece)
        samples += len(piece)
        if samples > max_seconds * rate:
            raise UserError(f"the speech lasts longer than {max_seconds:g} s: give less of it")
    return np.concatenate(held)


def _given(value: Any, what: str) -> Any:
    if not value:
        raise UserError(f"there is no {what} yet: give one")
    return value


def _inputs(face: Callable[[], Component]) -> tuple[Component, Component, Component, Component]:
    """A face beside a recording, and below them a sentence and who speaks it."""
    with gr.Row():
        shown = face()
        sources = ["upload", "microphone"]
        audio = gr.Audio(type="filepath", sources=sources, label="Voice", buttons=[])
    with gr.Row():
        text = gr.Textbox(label="... or a sentence", lines=2, max_length=1000, scale=3)
        info = "such as en-us+f2"
        voice = gr.Textbox(DEFAULT_VOICE, label="Speaker", info=info, max_length=40)
    return shown, audio, text, voice


def _still_input() -> gr.Image:
    options = dict(sources=["upload", "webcam"], buttons=["fullscreen"], height=_HEIGHT)
    still: Any = gr.Image(type="filepath", label="Still", **options)
    # The file as it came: Gradio would open it, and what is wrong with it would be no sentence.
    still.preprocess = lambda payload: payload and payload.path
    return still


def _video_input() -> gr.Video:
    return gr.Video(sources=["upload", "webcam"], label="Video", height=_HEIGHT, buttons=[])


def _mark_input() -> gr.Checkbox:
    return gr.Checkbox(True, label="Write SYNTHETIC into the picture")


def _checkpoint_input(loaded: Checkpoints) -> gr.Dropdown:
    names = [f"{name}: {talk.config.system}, step {talk.model.step}" for name, talk in loaded]
    return gr.Dropdown(names, value=names[0], label="Checkpoint", type="index")


def _video_output(elem_id: str) -> gr.Video:
    return gr.Video(
        label="Result (synthetic)",
        interactive=False,
        autoplay=True,
        height=420,
        buttons=["download"],
        elem_id=elem_id,
    )


def _animate_tab(loaded: Checkpoints, max_seconds: float) -> None:
    def animate(still, audio, text, voice, index, seed, mark, progress=_PROGRESS):
        with _told():
            _, talk = loaded[index]
            data = talk.config.data
            progress(0, desc="hearing")
            _given(still, "still")
            waveform = _speech(audio, text, voice, data.audio_rate, max_seconds)
            total = max(1, round(len(waveform) * data.video_rate / data.audio_rate))
            seed, made = int(seed or 0), []
            for piece in talk.stream(still, [waveform], seed=seed, chunk_frames=_CHUNK_FRAMES):
                made.append(piece)
                progress((sum(map(len, made)), total), desc="drawing", unit="frames")
            frames = np.concatenate(made)
            system = talk.config.system
            video = api.Video(frames, waveform, data.audio_rate, data.video_rate, system)
            return str(video.save(_new_file("animated.mp4"), mark))

    with gr.Row():
        with gr.Column():
            still, audio, text, voice = _inputs(_still_input)
            with gr.Row():
                checkpoint = _checkpoint_input(loaded)
                seed = gr.Number(0, label="Seed", precision=0)
            mark = _mark_input()
            button = gr.Button("Animate", variant="primary", elem_id="animate")
        with gr.Column():
            result = _video_output("animated")
            gr.Examples(_examples(), [still, audio, text, voice], cache_examples=False)
    inputs = [still, audio, text, voice, checkpoint, seed, mark]
    button.click(animate, inputs, result, concurrency_id="device", api_name="animate")


def _dub_tab(max_seconds: float) -> None:
    from flax_talk import dub as dubbing

    def dub(video, audio, text, voice, adaptation, mark, progress=_BARS):
        with _told():
            progress(0, desc="hearing")
            _check_target(_given(video, "video"), max_seconds)
            rate = dubbing.AUDIO_RATE
            waveform = _speech(audio, text, voice, rate, max_seconds)
            sound = _new_file("speech.wav")
            _write_wav(sound, waveform, rate)
            out = _new_file("dubbed.mp4")
            options = dict(adaptation=int(adaptation), visible_mark=mark)
            return str(dubbing.dub_files(video, sound, out, **options).path)

    with gr.Row():
        with gr.Column():
            video, audio, text, voice = _inputs(_video_input)
            adaptation = gr.Slider(
                *(0, 400, dubbing.ADAPTATION_STEPS),
                step=10,
                label="Steps of learning the face",
                info="more look better and take longer: a second or less each",
            )
            mark = _mark_input()
            button = gr.Button("Dub", variant="primary", elem_id="dub")
        with gr.Column():
            result = _video_output("dubbed")
    inputs = [video, audio, text, voice, adaptation, mark]
    button.click(dub, inputs, result, concurrency_id="device", api_name="dub")


def _check_target(path: str, max_seconds: float) -> None:
    """Refuses a video that would fill the memory, before it is decoded."""
    first = media.read_video(path, max_frames=1)
    _, height, width, _ = first.frames.shape
    if height * width > _MAX_DUBBED_PIXELS:
        raise UserError(f"the video is {width}x{height}: make it 1280x720 or smaller")
    if first.declared is None or first.declared > max_seconds:
        raise UserError(f"the video must last at most {max_seconds:g} s: cut it")


def _write_wav(path: Path, waveform: np.ndarray, rate: int) -> None:
    import wave

    with wave.open(str(path), "wb") as file:
        file.setparams((1, 2, rate, 0, "NONE", ""))
        file.writeframes(np.rint(waveform * 32767).astype("<i2").tobytes())


def _stream_tab(loaded: Checkpoints, max_seconds: float) -> None:
    def stream(still, audio, text, voice, index, mark):
        with _told():
            _, talk = loaded[index]
            data = talk.config.data
            _given(still, "still")
            waveform = _speech(audio, text, voice, data.audio_rate, max_seconds)
            made, start = [], None
            for frame in itertools.chain.from_iterable(talk.stream(still, [waveform])):
                start = start or time.monotonic()
                made.append(frame)
                # Not sooner than they would be seen.
                time.sleep(max(0, start + len(made) / data.video_rate - time.monotonic()))
                seconds = len(made) / data.video_rate
                yield _picture(next(marked([frame])) if mark else frame, seconds), None
            system = talk.config.system
            video = api.Video(np.stack(made), waveform, data.audio_rate, data.video_rate, system)
            yield gr.skip(), str(video.save(_new_file("streamed.mp4"), mark))

    with gr.Row():
        with gr.Column():
            still, audio, text, voice = _inputs(_still_input)
            checkpoint = _checkpoint_input(loaded)
            mark = _mark_input()
            button = gr.Button("Stream", variant="primary", elem_id="stream")
        with gr.Column():
            shown = gr.HTML(label="Frames as they are made", elem_id="shown")
            result = _video_output("streamed")
    inputs = [still, audio, text, voice, checkpoint, mark]
    outputs = [shown, result]
    button.click(stream, inputs, outputs, concurrency_id="device", show_progress="hidden")


def _picture(frame: np.ndarray, seconds: float) -> str:
    scale = _SHOWN_HEIGHT / frame.shape[0]
    large = cv2.resize(frame, None, fx=scale, fy=scale, interpolation=cv2.INTER_CUBIC)
    content = base64.b64encode(media.encode_frames(large[None], 85)[0]).decode()
    text = f"synthetic frame at {seconds:.2f} s"
    return f'<img alt="{text}" src="data:image/jpeg;base64,{content}"><br>{text}'


def _examples() -> list[list[str | None]]:
    """Stills and sentences that need no network: a rendered person, and a photograph if there."""
    from flax_talk.demo import photograph

    rows = [[str(_PERSON), None, TEXT, VOICES["rendered"]]]
    with contextlib.suppress(UserError):
        path = _new_file("photograph.png")
        cv2.imwrite(str(path), photograph()[..., ::-1])
        rows.append([str(path), None, TEXT, VOICES["photograph"]])
    return rows

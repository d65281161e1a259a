"""The page in a real browser: upload, make, play, download, and what goes wrong; nothing else."""

import shutil
import socket
import wave

import av
import cv2
import numpy as np
import pytest

pytest.importorskip("gradio", reason="Gradio is not installed: pip install 'flax-talk[app]'")

from flax_talk import app, dub
from flax_talk.face_model.model import load_default
from input_pipeline import faces, media
from input_pipeline.synthetic.appearance import make_speaker
from input_pipeline.synthetic.renderer import Renderer, portrait_pose

SECONDS = 0.48
TAKE_BACK = {"image": "Remove Image", "audio": "Clear", "video": "Clear"}
PATIENCE = 240_000
get_detector = faces.get_detector


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """Folder with a still, a recording, a recording that is too long, and no picture at all."""
    folder = tmp_path_factory.mktemp("files")
    random = np.random.default_rng(0)
    cv2.imwrite(str(folder / "still.png"), random.integers(0, 256, (128, 96, 3), np.uint8))
    media.write_video(folder / "target.mp4", np.full((12, 96, 64, 3), 90, np.uint8), 25.0)
    (folder / "broken.png").write_text("this is not a picture")
    for name, seconds in (("speech.wav", SECONDS), ("lecture.wav", 3)):
        with wave.open(str(folder / name), "wb") as sound:
            sound.setparams((1, 2, 16_000, 0, "NONE", ""))
            tone = np.sin(np.arange(int(16_000 * seconds)) / 20)
            sound.writeframes((9_000 * tone).astype("<i2").tobytes())
    return folder


@pytest.fixture(scope="module")
def address(tiny_run, drawn_face, tmp_path_factory):
    """A page with the tiny run besides the checkpoint that ships; faces are where it says."""
    connect = socket.socket.connect

    def connect_here(self, place):
        assert self.family == socket.AF_UNIX or place[0] in ("127.0.0.1", "::1", "localhost"), place
        return connect(self, place)

    with pytest.MonkeyPatch.context() as patch:
        # Neither the browser nor the server asks anyone else.
        patch.setattr(socket.socket, "connect", connect_here)
        patch.setattr("input_pipeline.faces.get_detector", lambda name="dlib": drawn_face())
        patch.setenv("GRADIO_TEMP_DIR", str(tmp_path_factory.mktemp("gradio")))
        page = app.create([tiny_run], max_seconds=2)
        yield app.serve(page, port=None)
        page.close()


@pytest.fixture
def dubbed(files, monkeypatch):
    """What the page asks of a dub, which is not made but copied."""
    asked = []

    def dub_files(video, audio, out, **options):
        asked.append({**options, "samples": len(media.read_audio(audio, 48_000))})
        assert len(media.read_video(video).frames) == 12
        shutil.copy(files / "target.mp4", out)
        return dub.Dub(out, 12, 25.0, 0.0)

    monkeypatch.setattr(dub, "dub_files", dub_files)
    return asked


@pytest.fixture(scope="module")
def browser():
    playwright = pytest.importorskip(
        "playwright.sync_api", reason="pip install 'flax-talk[browser]'"
    )
    program = shutil.which("chromium") or shutil.which("google-chrome")
    if program is None:
        pytest.skip("there is no Chromium: apt-get install chromium")
    flags = ("no-first-run", "background-networking", "component-update", "sync", "quic")
    quiet = [f"--{'' if flag.startswith('no') else 'disable-'}{flag}" for flag in flags]
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=program, args=["--no-sandbox", *quiet])
        yield browser
        browser.close()


@pytest.fixture
def page(browser, address):
    """The page as a person sees it; what it asks of the network is in `page.asked`."""
    page = browser.new_page(viewport={"width": 1280, "height": 1000})
    page.set_default_timeout(PATIENCE)
    page.asked = []
    page.on("request", lambda request: page.asked.append(request.url))
    page.goto(address)
    page.get_by_role("heading", name="flax_talk").wait_for()
    yield page
    page.close()


def give(page, tab, **paths):
    """Uploads files to the inputs of a tab by their kind, "image", "audio" or "video"."""
    panel, there = page.locator(f"#{tab}-tab"), []
    for kind, path in paths.items():
        with page.expect_response(lambda answer: "/upload?" in answer.url):
            panel.locator(f'input[accept*="{kind}/"]').set_input_files(path)
        # A button to take it back comes once the page knows the file.
        label = TAKE_BACK[kind]
        panel.get_by_label(label, exact=True).nth(there.count(label)).wait_for()
        there.append(label)


def choose(page, tab, name):
    page.locator(f"#{tab}-tab").get_by_label("Checkpoint").click()
    page.get_by_role("option", name=name).click()


def play(page, element):
    """Plays the video of an element to its end; its length and size."""
    page.locator(f"#{element} video").wait_for()
    return page.evaluate(
        """async name => {
            const video = document.querySelector(`#${name} video`);
            const ended = new Promise(done => video.addEventListener("ended", done));
            video.muted = true; video.loop = false; video.currentTime = 0;
            await video.play();
            await ended;
            return [video.duration, video.videoWidth, video.videoHeight];
        }""",
        element,
    )


def test_a_still_and_a_voice_become_a_video_to_play_and_keep(
    page, address, files, tiny_run, tmp_path
):
    give(page, "animate", image=files / "still.png", audio=files / "speech.wav")
    choose(page, "animate", tiny_run.name)
    page.locator("#animate").click()
    seconds, width, height = play(page, "animated")
    assert (width, height) == (96, 128) and abs(seconds - SECONDS) < 0.05
    with page.expect_download() as download:
        page.locator("#animated").get_by_label("Download").click()
    download.value.save_as(tmp_path / "kept.mp4")
    with av.open(str(tmp_path / "kept.mp4")) as container:
        assert "Synthetic: made by flax_talk" in container.metadata["comment"]
        assert (container.streams.video[0].frames, len(container.streams.audio)) == (12, 1)
    outside = [url for url in page.asked if not url.startswith((address, "data:", "blob:"))]
    assert page.asked and not outside
    assert "default-src 'self'" in page.request.get(address).headers["content-security-policy"]


def test_mistakes_are_sentences(page, files):
    page.locator("#animate").click()
    page.get_by_text("there is no still yet: give one").wait_for()
    give(page, "animate", image=files / "still.png")
    page.locator("#animate").click()
    page.get_by_text("give either a recording or a sentence").wait_for()
    give(page, "animate", audio=files / "lecture.wav")
    page.locator("#animate").click()
    page.get_by_text("the speech lasts longer than 2 s: give less of it").wait_for()


def test_a_file_that_is_no_picture_is_a_sentence(page, files):
    give(page, "animate", image=files / "broken.png", audio=files / "speech.wav")
    page.locator("#animate").click()
    message = page.get_by_text("broken.png: neither an image nor a video")
    message.wait_for()
    assert "/" not in message.inner_text()


def test_frames_appear_while_they_are_made(page, files, tiny_run):
    page.get_by_role("tab", name="Stream").click()
    give(page, "stream", image=files / "still.png", audio=files / "speech.wav")
    choose(page, "stream", tiny_run.name)
    page.evaluate(
        """() => {
            window.seen = [];
            new MutationObserver(() => {
                const frame = document.querySelector("#shown img");
                if (frame && !window.seen.includes(frame.alt)) window.seen.push(frame.alt);
            }).observe(document.body, {subtree: true, childList: true, attributes: true});
        }"""
    )
    page.locator("#stream").click()
    page.locator("#shown img").wait_for()
    seconds, *_ = play(page, "streamed")
    assert abs(seconds - SECONDS) < 0.05
    seen = page.evaluate("window.seen")
    assert len(seen) > 2 and seen == sorted(seen) and seen[-1] == "synthetic frame at 0.48 s"


def test_a_dub_gets_what_is_chosen(page, files, dubbed):
    page.get_by_role("tab", name="Dub").click()
    give(page, "dub", video=files / "target.mp4", audio=files / "speech.wav")
    page.locator("#dub-tab").get_by_label("Write SYNTHETIC").uncheck()
    page.locator("#dub").click()
    assert abs(play(page, "dubbed")[0] - SECONDS) < 0.05
    (options,) = dubbed
    assert options == {"adaptation": 150, "visible_mark": False, "samples": 23_040}


@pytest.fixture
def person(tmp_path):
    """A video of a rendered person who opens the mouth."""
    speaker, size, count = make_speaker(3006), (256, 256), 30
    model = load_default()
    opened = np.abs(np.sin(np.arange(count) / 4))[:, None] * model.unit_weights(jawOpen=0.4)
    pose = np.tile(portrait_pose(speaker, size), (count, 1))
    frames = Renderer(size).render(speaker, opened @ model.units_to_expression, pose)
    media.write_video(tmp_path / "person.mp4", frames, 25.0)
    return tmp_path / "person.mp4"


@pytest.mark.soak
def test_a_video_is_really_dubbed(browser, person, tmp_path, monkeypatch):
    pytest.importorskip("dlib")
    # Not the drawn one of the page of the other tests.
    monkeypatch.setattr(faces, "get_detector", get_detector)
    monkeypatch.setenv("GRADIO_TEMP_DIR", str(tmp_path / "gradio"))
    shown = app.create(max_seconds=4)
    page = browser.new_page(viewport={"width": 1280, "height": 1000})
    page.set_default_timeout(PATIENCE)
    page.goto(app.serve(shown, port=None))
    page.get_by_role("tab", name="Dub").click()
    give(page, "dub", video=person)
    page.locator("#dub-tab").get_by_label("... or a sentence").fill("lay red with bin two now")
    page.locator("#dub-tab input[type=number]").fill("10")
    page.locator("#dub").click()
    seconds, *size = play(page, "dubbed")
    assert seconds > 1 and size == [256, 256]
    page.screenshot(path=tmp_path / "dubbed.png")
    with page.expect_download() as download:
        page.locator("#dubbed").get_by_label("Download").click()
    download.value.save_as(tmp_path / "kept.mp4")
    page.close()
    shown.close()
    target, dubbed = (media.read_video(tmp_path / name) for name in ("person.mp4", "kept.mp4"))
    changed = np.abs(dubbed.frames[:20].astype(int) - target.frames[:20]).mean(axis=(0, 3))
    # The mouth, and hardly anything above the nose.
    assert changed[150:].max() > 8 > 4 * changed[:100].mean()

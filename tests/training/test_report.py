"""A run's page holds what the run has logged, in one file that loads nothing."""

import base64
import re
import xml.etree.ElementTree as ElementTree

import numpy as np
import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from flax_talk import cli, figures
from flax_talk.errors import UserError
from flax_talk.evaluation.validation import Samples
from flax_talk.training import report
from flax_talk.training.checkpoints import save_config
from flax_talk.training.logging import Writer
from input_pipeline import media

RATE = 16_000


@pytest.fixture(scope="module")
def run(tmp_path_factory, make_tiny):
    """A folder as a run leaves it: it went back from step 4 to 2, and is being written."""
    workdir = tmp_path_factory.mktemp("runs") / "mine & yours"
    workdir.mkdir()
    save_config(make_tiny(), workdir)
    (workdir / "versions.json").write_text('{"jax": "0.10.2"}')
    random = np.random.default_rng(0)
    clips = random.integers(0, 256, (2, 6, 64, 32, 3), dtype=np.uint8)
    writer = Writer(workdir)
    for step, loss in ((1, 500.0), (2, 5.0), (4, 4.0), (2, 3.0)):
        terms = {"loss": loss, "sync": 0.5, "sync_weighted": 0.1, "accuracy_real": 0.9}
        writer.scalars(step, {f"train/generator/{name}": value for name, value in terms.items()})
    writer.scalars(2, {"validation/psnr": 21.5, "validation/still/psnr": np.nan})
    sound = 0.5 * np.sin(np.arange(RATE * 6 // 25) / 10)
    writer.samples(2, Samples(clips, clips[::-1], sound), 25.0, RATE)
    writer.histograms(2, {"generator": {"dense": {"kernel": np.arange(8.0), "bias": np.zeros(3)}}})
    writer.close()
    with (workdir / "metrics.jsonl").open("a") as file:
        file.write('{"step": 5, "train/gen')
    return workdir


def test_lines_are_those_of_the_newest_attempt_by_section_and_chart(run):
    history = report.read_history(run / "metrics.jsonl")
    steps, values = history["train/generator/loss"]
    assert (steps.tolist(), values.tolist()) == ([1, 2, 4], [500, 3, 4])
    charts = report.group(history)
    assert list(charts) == ["validation", "generator"]
    assert list(charts["validation"]["psnr"]) == ["run", "still"]
    assert {name: list(lines) for name, lines in charts["generator"].items()} == {
        "loss": [""],
        "sync": [""],
        "weighted terms": ["sync"],
        "accuracy": ["real"],
    }


def test_a_page_is_one_file_with_curves_samples_and_tables(run, tmp_path, capsys):
    evaluation = run / "evaluation"
    evaluation.mkdir()
    (evaluation / "table.md").write_text("| clips | generated |\n|---|---|\n| *psnr* <b> | 22 |\n")
    assert cli.main(["report", "--workdir", str(run), "--out", str(tmp_path / "a.html")]) == 0
    page = (tmp_path / "a.html").read_text()
    assert "a.html" in capsys.readouterr().out
    assert "<h1>mine &amp; yours</h1>" in page and "temporal_gan_2019" in page
    assert "<td><i>psnr</i> &lt;b&gt;</td><td>22</td>" in page and "0.10.2" in page
    drawings = re.findall(r"<svg.*?</svg>", page, re.S)
    texts = [" ".join(ElementTree.fromstring(svg).itertext()) for svg in drawings]
    assert len(texts) == 5 and any("loss 4" in text for text in texts)
    (video,) = re.findall(r'<video[^>]*src="data:video/mp4;base64,([^"]+)"', page)
    sources = re.findall(r'(?:src|href)="([^"]{5})', page)
    assert all(source.startswith(("data:", "#")) for source in sources)
    content = base64.b64decode(video)
    assert media.read_video(content).frames.shape == (6, 128, 64, 3)
    assert np.abs(media.read_audio(content, RATE)).max() > 0.3


def test_a_run_that_has_logged_nothing_has_a_page(tiny_run, tmp_path):
    page = report.write_report(tiny_run, tmp_path / "new.html").read_text()
    assert "nothing logged yet" in page and "<svg" not in page


def test_mistakes_are_one_line(run, tmp_path):
    with pytest.raises(UserError, match="no checkpoint in"):
        report.write_report(tmp_path)
    with pytest.raises(UserError, match="name end in .html"):
        report.write_report(run, tmp_path / "page.pdf")
    with pytest.raises(UserError, match="has no table.md"):
        report.write_report(run, tmp_path / "page.html", tmp_path)


def test_curves_skip_what_is_not_finite_and_take_a_scale_that_fits():
    steps = np.arange(1000.0)
    values = np.where(steps == 7, np.inf, 10 ** (steps / 200))
    figure = figures.curves({"loss": (steps, values)}, "terms")
    (axes,) = figure.axes
    assert axes.get_yscale() == "log"
    x, y = axes.lines[0].get_data()
    assert len(x) <= 400 and np.isfinite(y).all() and y[-1] > 0.95 * values[-1]
    assert figures.to_svg(figure) == figures.to_svg(figure)


def test_tensorboard_has_sound_moving_pictures_and_histograms(run):
    events = EventAccumulator(str(run / "tensorboard"), {"histograms": 0, "audio": 0, "images": 0})
    events.Reload()
    tags = events.Tags()
    names = {f"parameters/generator/dense/{name}" for name in ("bias", "kernel")}
    assert set(tags["histograms"]) == names
    (spread,) = events.Histograms("parameters/generator/dense/kernel")
    value = spread.histogram_value
    assert (value.min, value.max, value.num, value.sum) == (0, 7, 8, 28)
    (heard,) = events.Audio("samples/sound")
    assert (heard.sample_rate, heard.content_type) == (RATE, "audio/wav")
    sound = media.read_audio(heard.encoded_audio_string, RATE)
    assert len(sound) == RATE * 6 // 25 and abs(np.abs(sound).max() - 0.5) < 1e-3
    assert events.Images("samples/video")[0].encoded_image_string[:3] == b"GIF"

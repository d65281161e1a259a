"""Tables of videos: what is made, what is skipped, and what fails without ending anything."""

import csv
import json
import threading
import time

import cv2
import numpy as np
import pytest
import soundfile

from flax_talk import batch, cli
from flax_talk.animate import animate_files
from flax_talk.errors import UserError
from input_pipeline import media


@pytest.fixture
def table(tmp_path):
    """Writes pairs.csv and what its rows name: two stills, two recordings, what is no image."""
    random = np.random.default_rng(0)
    for name in ("ann", "bob"):
        picture = random.integers(0, 256, (128, 96, 3), dtype=np.uint8)
        cv2.imwrite(str(tmp_path / f"{name}.png"), picture)
    for name, seconds in (("short", 0.2), ("long", 1.1)):
        sound = random.uniform(-0.5, 0.5, round(16_000 * seconds))
        soundfile.write(tmp_path / f"{name}.wav", sound, 16_000)
    (tmp_path / "note.png").write_text("no image")

    def write(*lines):
        path = tmp_path / "pairs.csv"
        path.write_text("\n".join(lines) + "\n")
        return path

    return write


def reports(folder):
    with (folder / batch.REPORT).open(newline="") as file:
        return list(csv.DictReader(file))


def test_makes_what_it_can_and_says_what_not(table, tiny_run, tmp_path):
    path = table(
        "still,audio,out",
        "nobody.png,short.wav,",
        "ann.png,short.wav,",
        "bob.png,long.wav,sub/named.mp4",
        "note.png,short.wav,",
        "ann.png,,silent.mp4",
        ",short.wav,faceless.mp4",
    )
    out = tmp_path / "out"
    done = batch.animate_batch(path, out, checkpoint=tiny_run, detector="none")
    assert (done.made, done.skipped, done.frames) == (2, 0, 5 + 28)
    videos = {out / "ann_short.mp4": 5, out / "sub" / "named.mp4": 28}
    assert {p for p in out.rglob("*") if p.is_file()} == {*videos, out / batch.REPORT}
    assert {p: len(media.read_video(p).frames) for p in videos} == videos
    failed = {int(line["row"]): line["reason"] for line in reports(out)}
    assert list(failed) == [2, 5, 6, 7] == [failure.row for failure in done.failures]
    for row, reason in zip(
        failed, ("no such file", "note.png", "--audio", "no still"), strict=True
    ):
        assert reason in failed[row] and "\n" not in failed[row]
    # Side by side with others, a row gives what it gives alone.
    animate_files(
        tmp_path / "bob.png",
        tmp_path / "long.wav",
        tmp_path / "alone.mp4",
        tiny_run,
        detector="none",
    )
    assert (tmp_path / "alone.mp4").read_bytes() == (out / "sub" / "named.mp4").read_bytes()


def test_goes_on_where_it_was(table, tiny_run, tmp_path, capsys):
    path, out = table("still,audio", "nobody.png,long.wav"), tmp_path / "out"
    words = ["animate", "--batch", str(path), "--out-dir", str(out), "--checkpoint", str(tiny_run)]
    words += ["--detector", "none", "--json"]
    assert cli.main(words) == 2 and "no video could be made" in capsys.readouterr().err
    table("still,audio", "nobody.png,long.wav", "ann.png,short.wav", "bob.png,short.wav")
    assert cli.main(words) == 0
    told = json.loads(capsys.readouterr().out)
    assert (told["made"], told["skipped"], told["failures"][0]["row"]) == (2, 0, 2)
    first = (out / "ann_short.mp4").stat().st_mtime_ns
    (out / "bob_short.mp4").unlink()
    assert cli.main(words) == 0
    told = json.loads(capsys.readouterr().out)
    assert (told["made"], told["skipped"], len(told["failures"])) == (1, 1, 1)
    assert (out / "ann_short.mp4").stat().st_mtime_ns == first
    assert cli.main(words[:-1]) == 0
    assert "0 videos made, 2 there already, 1 failed (report.csv)" in capsys.readouterr().out


def test_rows_run_side_by_side_once_the_first_has_worked(tmp_path):
    rows = [batch.Row(n, {"n": str(n)}, tmp_path / f"{n}.mp4") for n in range(8)]
    under_way, most, alone = 0, 0, []
    lock = threading.Lock()

    def make(cells, out):
        nonlocal under_way, most
        with lock:
            under_way += 1
            most = max(most, under_way)
            alone.append(under_way == 1)
        time.sleep(0.05)
        with lock:
            under_way -= 1
        if cells["n"] in "05":
            raise ZeroDivisionError("of a bug,\nin two lines")
        return 10

    done = batch.run(rows, make, tmp_path / "out", jobs=3)
    assert most == 3 and all(alone[:2])
    assert (done.made, done.frames) == (6, 60)
    reason = "ZeroDivisionError: of a bug, in two lines"
    assert [failure[::2] for failure in done.failures] == [(0, reason), (5, reason)]


def test_an_interrupt_starts_no_more_rows(tmp_path):
    rows = [batch.Row(n, {}, tmp_path / f"{n}.mp4") for n in range(50)]
    begun = []

    def make(cells, out):
        begun.append(out)
        if len(begun) == 3:
            raise KeyboardInterrupt
        time.sleep(0.02)
        return 1

    with pytest.raises(KeyboardInterrupt):
        batch.run(rows, make, tmp_path, jobs=2)
    assert len(begun) < 10


def test_default_names_tell_the_rows_apart(table, tmp_path):
    lines = ("ann.png,long.wav,", 'bob.png,,"Hello, it is me."', "ann.png,,Hé!")
    rows = batch.read_table(table("still,audio,text", *lines), "o", ("still", "audio", "text"))
    assert [row.out.name for row in rows] == [
        "ann_long.mp4",
        "bob_Hello_it_is_me..mp4",
        "ann_Hé.mp4",
    ]
    assert rows[0].cells == {
        "still": str(tmp_path / "ann.png"),
        "audio": str(tmp_path / "long.wav"),
    }
    assert [row.number for row in rows] == [2, 3, 4]


@pytest.mark.parametrize(
    ("lines", "says"),
    [
        (("still,audio",), "no rows"),
        (("still,sound", "a,b"), "unknown column 'sound'"),
        (("audio,text", "a,b"), "no column still"),
        (("still,audio", "a,b,c"), "row 2 has more cells"),
        (("still,audio", "a.png,v.wav", "x/a.png,v.mp3"), "rows 2 and 3 both write"),
    ],
)
def test_a_wrong_table_is_one_line(table, tmp_path, lines, says):
    with pytest.raises(UserError, match=says):
        batch.animate_batch(table(*lines), tmp_path / "out")
    assert not (tmp_path / "out").exists()

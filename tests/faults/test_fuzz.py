"""Files that are damaged at random are read, or refused in one line; never a crash or a hang."""

import collections
import os

import av
import numpy as np
import pytest
from mutations import Reader, mutate
from PIL import Image

from flax_talk.interop.torch_files import write_torch
from input_pipeline import media

COUNT = int(os.environ.get("SOAK_MUTATIONS", "1000"))


def small_files(folder):
    """One of each kind, drawn: some moving blocks, a tone, some weights."""
    random = np.random.default_rng(0)
    frames = np.repeat(np.repeat(random.integers(0, 256, (12, 8, 6, 3)), 8, 1), 8, 2)
    frames = frames.astype(np.uint8)
    tone = 0.5 * np.sin(np.arange(12 * 640) / 8)
    media.write_video(folder / "a.mp4", frames, 25, tone, 16_000)
    for name, codec, form in (
        ("a.wav", "pcm_s16le", "s16"),
        ("a.mp3", "libmp3lame", "fltp"),
        ("a.ogg", "libopus", "flt"),
    ):
        samples = (32_767 * tone).astype(np.int16) if form == "s16" else tone.astype(np.float32)
        with av.open(str(folder / name), "w") as container:
            stream = container.add_stream(codec, rate=48_000, layout="mono")
            stream.codec_context.format = form
            frame = av.AudioFrame.from_ndarray(samples[None], form, "mono")
            frame.sample_rate, frame.pts = 48_000, 0
            container.mux([*stream.encode(frame), *stream.encode(None)])
    with av.open(str(folder / "a.mkv"), "w") as container:
        stream = container.add_stream("mpeg4", rate=25)
        stream.width, stream.height, stream.pix_fmt = 48, 64, "yuv420p"
        for picture in frames:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode())
    picture = Image.fromarray(frames[0])
    exif = Image.Exif()
    exif[0x0112] = 6
    picture.save(folder / "a.jpg", exif=exif)
    for name in ("a.png", "a.gif", "a.tiff", "a.webp"):
        picture.save(folder / name)
    weights = {"a": random.normal(size=(8, 20)).astype(np.float32), "b": np.zeros(3)}
    np.savez_compressed(folder / "a.npz", **weights)
    write_torch(folder / "a.pth", weights)
    h5py = pytest.importorskip("h5py")
    with h5py.File(folder / "a.h5", "w") as file:
        for name, array in weights.items():
            file[f"layer/{name}"] = array
    return sorted(folder.iterdir())


def run(sources, count, folder):
    """Reads so many mutations; returns the reader, what they said by kind, and the worst time."""
    reader, said, slowest = Reader(), collections.Counter(), 0.0
    contents = {path: path.read_bytes() for path in sources}
    try:
        for seed in range(count):
            source = sources[seed % len(sources)]
            path = folder / f"mutation{source.suffix}"
            path.write_bytes(mutate(contents[source], seed))
            outcome = reader(path)
            assert outcome.is_right, f"mutation {seed} of {source}: {outcome.said}"
            said[source.suffix, outcome.said == "read"] += 1
            slowest = max(slowest, outcome.seconds) if seed >= len(sources) else 0.0
    finally:
        reader.close()
    return reader, said, slowest


def test_a_few_damaged_files_of_each_kind(tmp_path):
    sources = small_files(tmp_path)
    assert len(sources) == 13
    folder = tmp_path / "damaged"
    folder.mkdir()
    reader, said, _ = run(sources, 39, folder)
    # Some are still good, some are not: else the damage would be none, or the files no files.
    assert 5 < sum(count for (_, is_read), count in said.items() if is_read) < 34
    assert reader.peak < 2 * 2**30
    # Nothing was left beside them.
    assert sorted(tmp_path.iterdir()) == sorted([*sources, folder])


@pytest.mark.soak
def test_many_damaged_files(tmp_path, real_media):
    """Of real recordings as well."""
    sources = small_files(tmp_path)
    sources += sorted((real_media / "grid").glob("s*/*.mpg"))[:2]
    folder = tmp_path / "damaged"
    folder.mkdir()
    reader, said, slowest = run(sources, COUNT, folder)
    read = sum(count for (_, is_read), count in said.items() if is_read)
    print(f"\n{COUNT} mutations: {read} read, {COUNT - read} refused in one line")
    print(f"slowest {slowest:.1f} s, largest {reader.peak / 2**20:.0f} MiB")

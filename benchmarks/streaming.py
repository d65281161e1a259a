"""How soon a frame follows its sound: python benchmarks/streaming.py [--full] [--minutes 60]

Sound arrives frame by frame. Timed is from the arrival of the last sound that a stretch of frames
needs to its pixels, with 2 cores; `delay` adds what is waited for first, the rest of the stretch
and of the window, and so is how far the picture runs behind the sound. A stretch keeps up where it
takes less time than it lasts, 40 ms for each of its frames. `--full` adds the published size, with
drawn weights; `--minutes` animates a file of that length and samples the memory of this process.
"""

import argparse
import os
import tempfile
import threading
import time
from pathlib import Path

import report

SECONDS_OF_A_FRAME = 0.04


def main() -> None:
    """Prints a row for each network and stretch, and one for a long file."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--full", action="store_true", help="also the published size")
    parser.add_argument("--frames", type=int, default=250, help="timed, of each row")
    parser.add_argument("--chunks", type=int, nargs="+", default=[1, 5, 25], help="frames")
    parser.add_argument("--minutes", type=float, default=0, help="length of a file")
    parser.add_argument("--cores", type=int, default=2, help="that may be used")
    parser.add_argument("--out", help="JSON file")
    args = parser.parse_args()
    report.use_cores(args.cores)

    from inputs import drawn

    from configs import temporal_gan_2019_grid
    from flax_talk.animate import load_generator

    models = {"shipped, width 16": load_generator()}
    if args.full:
        models["published size, width 64"] = drawn(temporal_gan_2019_grid.get_config())
    rows = []
    columns = ("network", "frames at once", "p50 ms", "p99 ms", "ms/frame p50", "CPU ms/frame")
    columns += ("share of 40 ms, p50", "p99", "delay p50 ms", "delay p99 ms", "keeps up")
    for name, model in models.items():
        for chunk_frames in args.chunks:
            rows.append({"network": name, **measure(model, chunk_frames, args.frames)})
    report.print_table(rows, columns)
    if args.minutes:
        found = [long_file(models["shipped, width 16"], args.minutes)]
        print()
        report.print_table(found, list(found[0]))
        rows += found
    print(f"\nload of the machine: {os.getloadavg()[0]:.1f} processes")
    report.write(args.out, "streaming", rows)


def measure(model, chunk_frames: int, frames: int) -> dict[str, object]:
    """Times of the stretches of one stream."""
    import numpy as np
    from inputs import crop, speech

    from flax_talk.animate import stream
    from flax_talk.systems import get_system

    config = model.config
    stride, window = get_system(config.system).audio_geometry(config)
    rate, still = config.data.audio_rate, crop(config)
    warm, count = 3, max(20, frames // chunk_frames)
    seconds = (count + warm) * chunk_frames * SECONDS_OF_A_FRAME + 1
    sound, arrived = speech(rate, seconds), 0.0

    def arriving():
        nonlocal arrived
        for start in range(0, len(sound), stride):
            arrived = time.perf_counter()
            yield sound[start : start + stride]

    times = []
    for number, _ in zip(range(warm + count), stream(model, still, arriving(), 0, chunk_frames)):  # noqa: B905
        times.append(time.perf_counter() - arrived)
        if number == warm - 1:
            busy = time.process_time()
    busy = time.process_time() - busy
    p50, p99 = (1000 * float(np.quantile(times[warm:], q)) for q in (0.5, 0.99))
    lasts = 1000 * SECONDS_OF_A_FRAME * chunk_frames
    ahead = 1000 * (window - stride) / 2 / rate
    return {
        "frames at once": chunk_frames,
        "p50 ms": p50,
        "p99 ms": p99,
        "ms/frame p50": p50 / chunk_frames,
        "CPU ms/frame": 1000 * busy / count / chunk_frames,
        "share of 40 ms, p50": p50 / lasts,
        "p99": p99 / lasts,
        # Of the first frame of a stretch, which waits for the others, from its own last sound.
        "delay p50 ms": p50 + ahead + lasts - 40,
        "delay p99 ms": p99 + ahead + lasts - 40,
        "keeps up": "yes" if p99 <= lasts else "no" if p50 > lasts else "on average",
    }


def long_file(model, minutes: float) -> dict[str, object]:
    """Memory of this process while a file becomes a video, after its first minute and at most."""
    import cv2
    import psutil
    import soundfile
    from inputs import crop, speech

    from flax_talk.animate import animate_files

    rate, process, samples = 16_000, psutil.Process(), []
    with tempfile.TemporaryDirectory() as folder:
        still, audio, out = (Path(folder, name) for name in ("still.png", "a.wav", "out.mp4"))
        cv2.imwrite(str(still), crop(model.config)[..., ::-1])
        minute = speech(rate, 60)
        with soundfile.SoundFile(str(audio), "w", rate, 1) as file:
            for _ in range(max(1, round(minutes))):
                file.write(minute)
        animate_files(still, None, out, model, text="hello", detector="none")
        done = threading.Event()

        def watch():
            while not done.wait(0.5):
                samples.append((time.perf_counter() - start, process.memory_info().rss / 1e6))

        before, start = process.memory_info().rss / 1e6, time.perf_counter()
        watcher = threading.Thread(target=watch)
        watcher.start()
        made = animate_files(still, audio, out, model, detector="none")
        done.set()
        watcher.join()
        seconds = time.perf_counter() - start
    first = seconds / max(1, round(minutes))
    return {
        "file, minutes": max(1, round(minutes)),
        "frames": made.frames,
        "seconds": seconds,
        "ms/frame": 1000 * seconds / made.frames,
        "MB before": before,
        "MB in the first minute": max(rss for at, rss in samples if at <= first),
        "MB at most": max(rss for _, rss in samples),
        "MB at the end": samples[-1][1],
    }


if __name__ == "__main__":
    main()

"""How fast the cheap measures are, beside scikit-image's: python benchmarks/metrics.py

Frames per second of the measures that need no network, on rendered faces and what noise makes of
them, at 128 x 96 and 256 x 256; those that scikit-image has, too, in turns with it, and how far
the two are apart at most. Needs scikit-image, which comes with `pip install 'flax-talk[demo]'`.
"""

import argparse
import os

import report


def main() -> None:
    """Prints a row for each measure and size."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--frames", type=int, default=75, help="of a video")
    parser.add_argument("--rounds", type=int, default=5, help="of all measures, in turns")
    parser.add_argument("--cores", type=int, default=2, help="that may be used")
    parser.add_argument("--out", help="JSON file")
    args = parser.parse_args()
    report.use_cores(args.cores)
    rows = []
    for size in ((128, 96), (256, 256)):
        rows += measure(size, args.frames, args.rounds)
    columns = ("measure", "H x W", "frames/s", "scikit-image", "times as fast", "apart by")
    report.print_table(rows, columns)
    print(f"\nload of the machine: {os.getloadavg()[0]:.1f} processes")
    report.write(args.out, "metrics", rows)


def measure(size: tuple[int, int], frames: int, rounds: int) -> list[dict[str, object]]:
    """Rows of one size."""
    import jax
    import numpy as np
    from inputs import portrait
    from skimage import metrics

    from flax_talk.metrics import expression, geometry, reconstruction, sharpness

    random = np.random.default_rng(0)
    height, width = size
    face = portrait(3006)[:height, (256 - width) // 2 :][:, :width]
    truth = np.stack([np.roll(face, shift, axis=1) for shift in range(frames)])
    noisy = np.clip(truth + random.normal(0, 12, truth.shape), 0, 255).astype(np.uint8)
    # As evaluation has them: float in [-1, 1].
    x, y = (np.float32(video) / 127.5 - 1 for video in (noisy, truth))
    points = random.uniform(0, height, (frames, 68, 2)).astype(np.float32)

    def theirs(function, **options):
        # Of intensities from 0 on, as ours and as those of files.
        pairs = [(b + 1, a + 1) for a, b in zip(x, y, strict=True)]
        return lambda: np.array([function(b, a, data_range=2.0, **options) for b, a in pairs])

    gauss = dict(gaussian_weights=True, sigma=1.5, use_sample_covariance=False)
    gauss |= dict(channel_axis=-1, win_size=11)
    psnr, ssim, uniform, error = map(
        jax.jit,
        (
            reconstruction.psnr,
            reconstruction.ssim,
            reconstruction.ssim_uniform,
            geometry.landmark_error,
        ),
    )
    ours = {
        "psnr": lambda: psnr(x, y),
        "ssim": lambda: ssim(x, y),
        "ssim_uniform": lambda: uniform(x, y),
        "cpbd": lambda: sharpness.cpbd(noisy),
        "fdbm": lambda: sharpness.fdbm(x),
        "landmark_error": lambda: error(points, points[::-1]),
        "blinks": lambda: expression.detect_blinks(np.asarray(expression.eye_aspect_ratio(points))),
    }
    others = {
        "psnr": theirs(metrics.peak_signal_noise_ratio),
        "ssim": theirs(metrics.structural_similarity, **gauss),
        "ssim_uniform": theirs(metrics.structural_similarity, channel_axis=-1),
    }
    turns = {("ours", name): call for name, call in ours.items()}
    turns |= {("theirs", name): call for name, call in others.items()}
    best = {name: min(times) for name, times in report.alternate(turns, rounds).items()}
    rows = []
    for name, call in ours.items():
        row = {
            "measure": name,
            "H x W": f"{height} x {width}",
            "frames/s": frames / best["ours", name],
        }
        if name in others:
            row["scikit-image"] = frames / best["theirs", name]
            row["times as fast"] = row["frames/s"] / row["scikit-image"]
            row["apart by"] = float(np.abs(np.asarray(call()) - others[name]()).max())
        rows.append(row)
    return rows


if __name__ == "__main__":
    main()

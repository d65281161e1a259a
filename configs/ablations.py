"""Ablations of the papers on temporal GANs: what each changes in a config, and what was published.

    config.update(ABLATIONS["temporal_gan_2019"]["no_sync"])

Vougioukas et al. 2018, Tables 2 and 3, and 2020, Tables 5 and 6. Ours: without any discriminator
the L1 loss is on the whole frame, as the caption of a figure in both papers has it (2018 Fig. 4,
2020 Fig. 10). On the lower half alone nothing would train the upper half, and the published PSNR
of the whole frame would be out of reach.
"""

_STATIC = {
    "system": "static_gan",
    "generator": {"content_layers": 0, "noise_layers": 0},
    "loss": {"sync": 0.0, "sequence": 0.0},
}

ABLATIONS: dict[str, dict[str, dict]] = {
    "temporal_gan_2018": {
        "l1": {"loss": {"frame": 0.0, "sequence": 0.0, "upper_reconstruction": 400.0}},
        "l1_frame": {"loss": {"sequence": 0.0}},
        "full": {},
        "static": _STATIC,
    },
    "temporal_gan_2019": {
        "full": {},
        "no_adversarial": {
            "loss": {"frame": 0.0, "sync": 0.0, "sequence": 0.0, "upper_reconstruction": 600.0}
        },
        "no_l1": {
            "loss": {
                "reconstruction": 0.0,
                "upper_reconstruction": 0.0,
                "mouth_reconstruction": 0.0,
            }
        },
        "no_frame": {"loss": {"frame": 0.0}},
        "no_sync": {"loss": {"sync": 0.0}},
        "no_sequence": {"loss": {"sequence": 0.0}},
        "static": _STATIC,
    },
}
"""By system and row: fields of its config and their values."""

_COLUMNS_2018 = ("psnr", "ssim", "fdbm", "cpbd", "acd", "wer")
_COLUMNS_2020 = (
    *("psnr", "ssim", "cpbd", "acd", "wer"),
    *("offset", "confidence", "blinks_per_second", "blink_seconds"),
)
_ROWS_2018 = {
    "l1": (28.47, 0.859, 0.101, 0.210, 0.90e-4, 0.2790),
    "l1_frame": (27.71, 0.840, 0.114, 0.274, 1.04e-4, 0.2794),
    "full": (27.98, 0.844, 0.114, 0.277, 1.02e-4, 0.2545),
    "static": (27.39, 0.831, 0.113, 0.280, 1.07e-4, 0.372),
}
_ROWS_2020 = {
    "full": (27.100, 0.818, 0.268, 1.47e-4, 0.231, 1, 7.4, 0.45, 0.36),
    "no_adversarial": (28.467, 0.855, 0.210, 1.92e-4, 0.266, 1, 7.1, 0.02, 0.16),
    "no_l1": (26.516, 0.805, 0.270, 1.03e-4, 0.564, 1, 6.3, 0.41, 0.32),
    "no_frame": (26.474, 0.804, 0.252, 1.96e-4, 0.232, 1, 7.3, 0.16, 0.28),
    "no_sync": (27.548, 0.829, 0.263, 1.19e-4, 0.278, 1, 7.2, 0.21, 0.32),
    "no_sequence": (27.590, 0.829, 0.259, 1.13e-4, 0.270, 1, 7.4, 0.03, 0.16),
    "static": (27.023, 0.811, 0.249, 1.42e-4, 0.364, 2, 6.5, 0.04, 0.29),
}

PUBLISHED: dict[str, dict[str, dict[str, float]]] = {
    system: {row: dict(zip(columns, values, strict=True)) for row, values in rows.items()}
    for system, columns, rows in (
        ("temporal_gan_2018", _COLUMNS_2018, _ROWS_2018),
        ("temporal_gan_2019", _COLUMNS_2020, _ROWS_2020),
    )
}
"""The same rows as published, on the ten test speakers of GRID, not measured here. `wer` is a
share, `offset` in frames."""

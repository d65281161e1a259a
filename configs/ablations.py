"""Ablations of the papers: what each row changes in a config.

    config.update(ABLATIONS["temporal_gan_2019"]["no_sync"])
    flax-talk ablate --system temporal_gan_2019 --dataset synthetic_grid --workdir runs/ablation

Vougioukas et al. 2018, Tables 2 and 3, and 2020, Tables 5 and 6; Chen et al. 2021, Table 2, whose
rows add one term after the other. Ours: without any discriminator
the L1 loss is on the whole frame, as the caption of a figure in both papers has it (2018 Fig. 4,
2020 Fig. 10). On the lower half alone nothing would train the upper half, and the published PSNR
of the whole frame would be out of reach.
"""

_STATIC = {
    "system": "static_gan",
    "generator": {"content_layers": 0, "noise_layers": 0},
    "loss": {"sync": 0.0, "sequence": 0.0},
}

# In the order in which the rows add them; the classifier comes with the loss that asks it.
_AU_TERMS = (
    "perceptual",
    "identity",
    "adversarial",
    "action_units",
    "au_classifier",
    "audio2au",
)

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
    "au_talking_head_2021": {
        row: {"loss": dict.fromkeys(absent, 0.0)}
        for row, absent in (
            ("rec", _AU_TERMS),
            ("per", _AU_TERMS[1:]),
            ("id", _AU_TERMS[2:]),
            ("adv", _AU_TERMS[3:]),
            ("au", _AU_TERMS[5:]),
            ("full", ()),
        )
    },
}
"""By system and row: fields of its config and their values. What was published of each row has the
same name in `flax_talk.evaluation.published`."""

"""Rows of the papers' tables, to be shown beside ours.

They were measured on other people's clips, by other judges: none of them compares with a number
that this package prints for another set of clips, or with judges of its own.
"""

from typing import NamedTuple


class Row(NamedTuple):
    """A row of a table of a paper.

    Attributes:
        paper: name of the paper's system.
        table: its number and data set.
        name: of the row; of an ablation that of `configs/ablations.py`.
        values: by column of `flax_talk.evaluation.measures.COLUMNS`, in the paper's units.
    """

    paper: str
    table: str
    name: str
    values: dict[str, float]


def _rows(paper: str, table: str, columns: str, rows: dict[str, tuple]) -> list[Row]:
    names = columns.split()
    return [
        Row(
            paper,
            table,
            name,
            {key: x for key, x in zip(names, values, strict=True) if x is not None},
        )
        for name, values in rows.items()
    ]


PUBLISHED: list[Row] = [
    *_rows(
        "temporal_gan_2018",
        "Tables 2 and 3, GRID",
        "psnr ssim fdbm cpbd acd wer",
        {
            "real": (None, None, 0.121, 0.281, 0.74e-4, 0.2140),
            "l1": (28.47, 0.859, 0.101, 0.210, 0.90e-4, 0.2790),
            "l1_frame": (27.71, 0.840, 0.114, 0.274, 1.04e-4, 0.2794),
            "full": (27.98, 0.844, 0.114, 0.277, 1.02e-4, 0.2545),
            "static": (27.39, 0.831, 0.113, 0.280, 1.07e-4, 0.372),
        },
    ),
    *_rows(
        "temporal_gan_2019",
        "Tables 4, 5 and 6, GRID",
        "psnr ssim cpbd acd wer av_offset av_confidence blinks_per_second blink_duration",
        {
            "real": (None, None, None, 0.98e-4, 0.2176, None, None, 0.39, 0.4),
            "full": (27.100, 0.818, 0.268, 1.47e-4, 0.231, 1, 7.4, 0.45, 0.36),
            "no_adversarial": (28.467, 0.855, 0.210, 1.92e-4, 0.266, 1, 7.1, 0.02, 0.16),
            "no_l1": (26.516, 0.805, 0.270, 1.03e-4, 0.564, 1, 6.3, 0.41, 0.32),
            "no_frame": (26.474, 0.804, 0.252, 1.96e-4, 0.232, 1, 7.3, 0.16, 0.28),
            "no_sync": (27.548, 0.829, 0.263, 1.19e-4, 0.278, 1, 7.2, 0.21, 0.32),
            "no_sequence": (27.590, 0.829, 0.259, 1.13e-4, 0.270, 1, 7.4, 0.03, 0.16),
            "static": (27.023, 0.811, 0.249, 1.42e-4, 0.364, 2, 6.5, 0.04, 0.29),
            "speech2vid": (22.662, 0.720, 0.255, 1.48e-4, 0.582, 1, 5.3, 0.00, 0.00),
        },
    ),
    *_rows(
        "au_talking_head_2021",
        "Tables 1 and 2, GRID",
        "psnr ssim au_f1 au_accuracy",
        {
            "cran": (28.041, 0.694, 0.710, 0.7871),
            "speech2vid": (28.863, 0.755, 0.738, 0.7897),
            "rec": (28.681, 0.746, 0.725, 0.7777),
            "per": (28.897, 0.748, 0.732, 0.7876),
            "id": (29.403, 0.753, 0.735, 0.7927),
            "adv": (29.528, 0.755, 0.736, 0.7955),
            "au": (29.618, 0.764, 0.740, 0.8020),
            "full": (29.838, 0.769, 0.751, 0.8092),
        },
    ),
    *_rows(
        "everybodys_talkin_2020",
        "Table 5, GRID",
        "psnr ssim inception_score fid",
        {"whole face": (30.01, 0.94, 23.53, 9.01)},
    ),
]


def rows_beside(system: str) -> list[Row]:
    """The rows of the papers that have measured a system, none of them if no paper has."""
    name = "static" if system == "static_gan" else system
    papers = {row.paper for row in PUBLISHED if name in (row.paper, row.name)}
    return [row for row in PUBLISHED if row.paper in papers]

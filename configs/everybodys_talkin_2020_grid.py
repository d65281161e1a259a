"""Everybody's Talkin' (Song, Wu, Qian, He, Loy, 2020) on GRID, stage by stage.

    python train.py --config configs/everybodys_talkin_2020_grid.py:expression \\
        --workdir runs/expression

The expression stage starts from the run of the speaker stage, `runs/speaker`, and takes face
parameters: `flax-talk fit --data DATA_DIR/grid/aligned_128x96`. Not run: it needs the whole corpus
and, at this width, an accelerator.

    :speaker           VGGVox, which names the speakers of the training split
    :expression        ID-removing and audio to expression, against the frozen VGGVox; what the
                       file is without a variant
    :landmark          the paper's baseline "2D": landmarks in the place of the expression
    :small_speaker     the same stages at a width that two CPU cores can train; not run
    :small_expression
    :small_landmark
    :tiny              seconds on a CPU, for tests: :expression from nothing; it learns nothing
    :tiny_speaker      and the other stages likewise
    :tiny_expression
    :tiny_landmark

The stage `renderer`, in the same sizes, is that of `everybodys_talkin_2020_renderer`. The paper's
baseline without ID-removing is

    python train.py --config configs/everybodys_talkin_2020_grid.py:expression \\
        --workdir runs/expression_baseline --config.remove_identity=False
"""

from ml_collections import ConfigDict

from configs import common
from flax_talk.errors import UserError
from flax_talk.nets.speaker import SHORT_ROW_STRIDES
from flax_talk.systems.audio_to_expression import ID_REMOVING, TRANSLATION
from flax_talk.systems.speaker_identification import SPEAKER, WINDOW_SECONDS
from input_pipeline.datasets.grid import subject_split

SYSTEMS = {
    "speaker": "speaker_identification",
    "expression": "audio_to_expression",
    "landmark": "audio_to_landmark",
}
STAGES = (*SYSTEMS, "renderer")
VARIANTS = ("", "tiny", *(f"{size}{stage}" for size in ("", "small_", "tiny_") for stage in STAGES))


def get_config(variant: str = "") -> ConfigDict:
    """The paper's config, or a variant of it."""
    if variant not in VARIANTS:
        raise UserError(
            f"no variant {variant!r} of everybodys_talkin_2020: use one of "
            + ", ".join(f":{name}" for name in VARIANTS if name)
        )
    size, stage = split_variant(variant)
    config = common.get_config()
    # Whose speakers: ours, as the paper names no list.
    for split in ("train", "validation", "test"):
        config.data.splits[split] = subject_split("temporal_gan_2019", split)
    if stage == "renderer":
        from configs import everybodys_talkin_2020_renderer

        return everybodys_talkin_2020_renderer.renderer(config, size)
    config.system = SYSTEMS[stage]
    speakers = config.data.splits.train.split("+")
    config.data.speakers = tuple(speakers)
    if stage == "speaker":
        # Other sentences of the same speakers.
        for split, part in (("train", ":-60"), ("validation", "-60:-30"), ("test", "-30:")):
            config.data.splits[split] = "+".join(f"{name}[{part}]" for name in speakers)
    # Sound has no mirror image. Frames and clips in a step (ours).
    config.data.update(dict(window_seconds=WINDOW_SECONDS, mirror=False))
    config.data.update(dict(num_frames=8, batch_size=32))
    config.data.features = ("speaker_index",)
    if stage != "speaker":
        config.data.features = ("face_parameters", "speaker_index")

    # Coefficients, the log energy first, and what they are divided by (ours).
    config.mfcc = ConfigDict(dict(coefficients=13, deviation=20.0))
    # Widths of the published VGGVox; strides for as few rows as there are coefficients (ours).
    config.speaker = ConfigDict(
        dict(
            features=(96, 256, 384, 256, 256),
            hidden=4096,
            code_dim=1024,
            row_strides=SHORT_ROW_STRIDES,
        )
    )
    # Without it the coefficients are heard as they are: the paper's baseline.
    config.remove_identity = stage == "expression"
    # Widths, number of matrices, depth (ours).
    config.id_removing = ConfigDict(dict(hidden=128, num_matrices=16, stack=1))
    config.audio_to_expression = ConfigDict(dict(hidden=256, num_layers=2, stack=1))
    config.loss = ConfigDict(
        dict(
            # Weights of both terms of Eq. 3; the landmarks are in pixels (ours: the paper has
            # "different coefficients").
            expression=1.0,
            landmarks=1.0,
            # Weight of Eq. 2 (ours: 0.1 did not help, see docs/everybodys_talkin_2020.md).
            uniform=1.0,
        )
    )
    # The speaker network judges x', and is measured, at one frame in so many (ours).
    config.speaker_every = 15
    config.optimizer = ConfigDict(
        {
            # Frozen but in its own stage.
            SPEAKER: common.adam(1e-3 if stage == "speaker" else 0.0, decay=0.9),
            ID_REMOVING: common.adam(5e-4, decay=0.95),
            TRANSLATION: common.adam(5e-4, decay=0.95),
        }
    )
    config.optimizer[ID_REMOVING].clip_norm = config.optimizer[TRANSLATION].clip_norm = 1.0
    config.train.num_epochs = 50
    metric = {"speaker": "accuracy", "expression": "E_exp", "landmark": "E_ldmk"}[stage]
    mode = "max" if stage == "speaker" else "min"
    config.early_stopping.update(dict(metric=metric, mode=mode, patience=10))
    {"small": small, "tiny": tiny}.get(size, lambda config, stage: None)(config, stage)
    if stage == "expression" and size != "tiny":
        config.train.initialize_from = "runs/small_speaker" if size else "runs/speaker"
    return config


def split_variant(variant: str) -> tuple[str, str]:
    """(size, stage) of a variant: "", "small" or "tiny", and one of `STAGES`."""
    size = variant.partition("_")[0] if variant.startswith(("small", "tiny")) else ""
    return size, variant.removeprefix(size).removeprefix("_") or "expression"


def small(config: ConfigDict, stage: str) -> None:
    """Five to ten minutes on two cores."""
    config.speaker.update(dict(features=(16, 32, 48, 32, 32), hidden=128, code_dim=64))
    config.id_removing.update(dict(hidden=48, num_matrices=8, stack=4))
    config.audio_to_expression.update(dict(hidden=96, num_layers=1, stack=4))
    # A clip gives few frames, since neighbours say the same, and few pictures are decoded.
    config.data.num_frames = 1 if stage == "speaker" else 4
    for player in (ID_REMOVING, TRANSLATION):
        config.optimizer[player].update(dict(learning_rate=4e-3, decay=0.85))
    config.train.update(dict(log_every=20, validate_every=5, checkpoint_every=200))
    config.train.update(dict(max_steps=400 if stage == "speaker" else 300, validation_clips=32))
    config.early_stopping.patience = 0


def tiny(config: ConfigDict, stage: str) -> None:
    """The same parts, as narrow as they go."""
    del stage
    config.speaker.update(dict(features=(4,) * 5, hidden=4, code_dim=4))
    config.id_removing.update(dict(hidden=4, num_matrices=2, stack=8))
    config.audio_to_expression.update(dict(hidden=4, num_layers=1, stack=8))
    config.data.update(dict(num_frames=2, eval_frames=6, batch_size=2))
    config.train.update(dict(max_steps=4, log_every=1, checkpoint_every=2, validation_clips=2))
    config.early_stopping.patience = 0

"""AU talking head (Chen, Liu, Liu, Yan, Wang, BMVC 2021) on GRID.

    python train.py --config configs/au_talking_head_2021_grid.py:full --workdir runs/full

The paper's sizes, losses and rates, in its four stages, each of which starts from the runs of the
former, `runs/audio2au` and so on. Not run: it needs action units of the whole corpus, which
`flax-talk label` reads from OpenFace's files or makes a proxy of, and an accelerator.

    :audio2au          Audio-to-AU modules, from sound
    :au_classifier     AU classifier, from real frames
    :generator         goes on from both, without the discriminator
    :full              goes on from there with it; what the file is without a variant
    :small_audio2au    the same stages at a width that two CPU cores can train, without VGG-19;
    :small_au_classifier  not run
    :small_generator
    :small_full
    :small_ablation    all losses at once, from the first two stages; see configs/ablations.py
    :tiny              seconds on a CPU, for tests: all of :full, from nothing; it learns nothing
    :tiny_audio2au     and the stages likewise
    :tiny_au_classifier
    :tiny_generator
    :tiny_full

All stages, one after the other, each in a folder of runs/au: `:recipe`, `:small_recipe` and
`:tiny_recipe`.

    python train.py --config configs/au_talking_head_2021_grid.py:small_recipe --workdir runs/au
    python train.py --config configs/au_talking_head_2021_grid.py:small_audio2au \\
        --workdir runs/small_audio2au
"""

from ml_collections import ConfigDict

from configs import common
from flax_talk.errors import UserError
from flax_talk.systems.action_units import AUDIO2AU, CLASSIFIER, WINDOW_SECONDS

STAGES = ("audio2au", "au_classifier", "generator", "full")
VARIANTS = (
    "",
    "tiny",
    *(
        f"{size}{stage}"
        for size in ("", "small_", "tiny_")
        for stage in (*STAGES, "ablation", "recipe")
    ),
)

# 27 and 6 speakers (paper); which, and the three of the 27 that validate, is ours.
TEST = (2, 4, 11, 13, 15, 18)
VALIDATION = (9, 20, 23)
TRAIN = tuple(i for i in range(1, 35) if i not in (21, *TEST, *VALIDATION))


def get_config(variant: str = "") -> ConfigDict:
    """The paper's config, or a variant of it."""
    if variant not in VARIANTS:
        raise UserError(
            f"no variant {variant!r} of au_talking_head_2021: use one of "
            + ", ".join(f":{name}" for name in VARIANTS if name)
        )
    size = variant.partition("_")[0] if variant.startswith(("small", "tiny")) else ""
    stage = variant.removeprefix(size).removeprefix("_") or "full"
    if stage == "recipe":
        return common.recipe(get_config, recipe_stages(variant))

    config = common.get_config()
    for split, speakers in (("train", TRAIN), ("validation", VALIDATION), ("test", TEST)):
        config.data.splits[split] = "+".join(f"s{number}" for number in speakers)
    config.data.update(dict(builder_config="aligned_112x112", image_size=(112, 112)))
    # 28 columns of coefficients, 280 ms (paper), and what it takes to work them out.
    config.data.window_seconds = WINDOW_SECONDS
    # Frames and clips in a step (ours).
    config.data.update(dict(num_frames=25, batch_size=16, features=("action_units",)))

    # Coefficients without the energy (paper), and what they are divided by (ours).
    config.mfcc = ConfigDict(dict(coefficients=12, deviation=20.0))
    config.action_units = ConfigDict(
        dict(
            # Intensity, 0 to 1, from which on a unit is activated: the first of the five grades of
            # the facial action coding system, and that of OpenFace's states (ours).
            threshold=0.2,
            # Share of the training frames in which each is: equal shares, equal weights, until
            # the labels of a corpus are counted.
            rates=(0.5, 0.5, 0.5, 0.5, 0.5),
            # Smooth term of the Dice loss (ours).
            smooth=1.0,
        )
    )
    # Length of a unit's code (paper), channels and other widths (ours).
    config.audio2au = ConfigDict(dict(width=32, hidden=128, code_dim=64))
    config.au_classifier = ConfigDict(dict(width=32, hidden=(256, 64)))
    config.generator = ConfigDict(
        dict(
            # Length of the identity and audio codes (paper), and width of the GRU (ours).
            code_dim=512,
            hidden=512,
            # Channels of the first image and the first audio layer (ours).
            width=64,
            audio_width=64,
            # Frames are decoded as changes of the still (ours, off).
            residual=False,
        )
    )
    # Channels, slope of LeakyReLU (ours); Eq. 4 is of the frame alone.
    config.frame_discriminator = ConfigDict(dict(width=64, negative_slope=0.2, conditional=False))
    config.loss = ConfigDict(
        dict(
            # Weights of the generator's terms (paper). Without adversarial there is no
            # discriminator.
            reconstruction=1.5,
            identity=1.5,
            perceptual=0.07,
            action_units=0.02,
            adversarial=0.002,
            # Weights of the modules' and the classifier's own loss. Without audio2au there are no
            # modules, and the generator hears no units; au_classifier=0 only freezes a classifier
            # that action_units asks for.
            audio2au=1.0,
            au_classifier=1.0,
            # File of VGG-19's weights, see flax_talk/interop/vgg19.py; empty only with
            # perceptual=0.
            vgg19="",
            # Layers that the perceptual loss compares (ours).
            perceptual_layers=("relu1_2", "relu2_2", "relu3_4", "relu4_4", "relu5_4"),
            # Frames of a clip that VGG-19, classifier and discriminator see in a step (ours).
            num_frames=4,
        )
    )
    fine_tuned = stage in ("generator", "full")
    config.optimizer = ConfigDict(
        dict(
            generator=adam(2e-4),
            frame_discriminator=adam(2e-4),
            audio2au=adam(1e-6 if fine_tuned else 2e-4),
            au_classifier=adam(1e-7 if fine_tuned else 2e-4),
        )
    )
    # Epochs of each stage: 20 (paper) of the generator without a discriminator, 20 with it.
    config.train.num_epochs = 20
    config.early_stopping.metric = "psnr"
    {"small": small, "tiny": tiny}.get(size, lambda config: None)(config)
    choose_stage(config, variant, stage, size)
    return config


def adam(learning_rate: float, decay: float = 1.0) -> ConfigDict:
    """One player's optimizer, with the paper's beta 1."""
    config = common.adam(learning_rate, decay)
    config.b1 = 0.5
    return config


def recipe_stages(variant: str) -> list[str]:
    """The variants that `variant`, such as "small_recipe", trains one after the other."""
    return [variant.removesuffix("recipe") + stage for stage in STAGES]


def choose_stage(config: ConfigDict, variant: str, stage: str, size: str) -> None:
    """What each stage trains, and from what it starts."""
    config.system = "au_talking_head_2021"
    if stage in ("audio2au", "au_classifier"):
        config.system = "action_units"
        player = AUDIO2AU if stage == "audio2au" else CLASSIFIER
        nothing = dict.fromkeys(
            ("reconstruction", "identity", "perceptual", "action_units", "adversarial"), 0.0
        )
        config.loss.update(nothing | {AUDIO2AU: 0.0, CLASSIFIER: 0.0} | {player: 1.0})
        config.early_stopping.update(dict(metric=f"{player}/f1", mode="max"))
        # Sound has no mirror image.
        config.data.mirror = player == CLASSIFIER
        if size == "small" and player == CLASSIFIER:
            # Neighbouring frames are alike: few of many clips say more.
            config.data.update(dict(num_frames=3, batch_size=24))
            config.optimizer.au_classifier = adam(1e-3, decay=0.93)
            config.train.update(dict(max_steps=2000, validate_every=5))
    elif size == "small":
        # Few frames of many people: of four it learns what they look like.
        config.data.update(dict(num_frames=6, batch_size=10))
    if stage == "generator":
        config.loss.adversarial = 0.0
    if variant != "tiny":
        prefix = f"runs/{size}_" if size else "runs/"
        first = ("audio2au", "au_classifier")
        former = {"generator": first, "ablation": first, "full": ("generator",)}
        runs = [f"{prefix}{name}" for name in former.get(stage, ())]
        config.train.initialize_from = ",".join(runs)


def small(config: ConfigDict) -> None:
    """What two cores can train, on clips that are prepared for the other systems too."""
    config.data.update(dict(builder_config="aligned_128x96", image_size=(128, 96)))
    config.data.update(dict(num_frames=15, batch_size=4))
    config.audio2au.update(dict(width=8, hidden=32, code_dim=16))
    config.au_classifier.update(dict(width=8, hidden=(64, 32)))
    config.generator.update(dict(code_dim=128, hidden=128, width=16, audio_width=16, residual=True))
    config.frame_discriminator.width = 16
    config.loss.update(dict(perceptual=0.0, num_frames=2))
    for player in config.optimizer.values():
        player.learning_rate *= 5
    config.train.update(dict(max_steps=1000, log_every=20, samples_every=200))
    config.train.update(dict(checkpoint_every=200, validation_clips=32))


def tiny(config: ConfigDict) -> None:
    """The same parts, as narrow as they go."""
    config.data.update(dict(builder_config="aligned_128x96", image_size=(128, 96)))
    config.data.update(dict(num_frames=6, eval_frames=8, batch_size=2))
    config.audio2au.update(dict(width=2, hidden=4, code_dim=2))
    config.au_classifier.update(dict(width=2, hidden=(4, 4)))
    config.generator.update(dict(code_dim=8, hidden=8, width=2, audio_width=2))
    config.frame_discriminator.width = 2
    config.loss.update(dict(perceptual=0.0, num_frames=2))
    config.train.update(dict(max_steps=4, log_every=1, samples_every=4))
    config.train.update(dict(checkpoint_every=2, validation_clips=2))

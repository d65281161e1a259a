"""Fields that every run has, with the values that most runs keep.

A config file starts from `get_config()` here and changes what its paper or its scale asks for.
Anything can be changed on the command line too: `--config.data.batch_size=4`.
"""

from collections.abc import Callable, Sequence

from ml_collections import ConfigDict

from input_pipeline.datasets import subject_splits

# Splits of the checkpoints that ship: rendered people, and GRID without its last clips of s1 and
# without s26 and s31. What comes twice weighs twice.
MIXTURE = dict(
    train="synthetic_grid/default/train + grid/aligned_128x96/s1[:-30] + grid/aligned_128x96/s4 "
    "+ grid/aligned_128x96/s4 + grid/aligned_128x96/s4",
    validation="synthetic_grid/default/validation[:16] + grid/aligned_128x96/s1[-16:]",
    test="synthetic_grid/default/test",
)


def get_config() -> ConfigDict:
    """Data, training and logging fields; a system's own fields are in its file."""
    config = ConfigDict()
    # Name of the system, see flax_talk/systems.
    config.system = ""
    # Seeds the parameters, the order of the data, the noise.
    config.seed = 0
    # Computation in "float32" or "bfloat16"; parameters and recurrences stay float32.
    config.dtype = "float32"
    # How a step is spread over devices: "shard_map" or "pmap".
    config.parallel = "shard_map"

    config.data = data = ConfigDict()
    # Prepared by `flax-talk prepare DATASET --data-dir DIR`.
    data.dataset = "grid"
    data.builder_config = "aligned_128x96"
    data.data_dir = "data"
    # Prepare it before training if it is not there; only for what is rendered.
    data.prepare = False
    # Split expressions: a data set's own splits (GRID: one for each speaker), slices, sums.
    data.splits = ConfigDict(dict(train="", validation="", test=""))
    # Height and width of the aligned faces, as prepared.
    data.image_size = (128, 96)
    # Where five landmarks of an aligned face lie, (x, y) in pixels, see input_pipeline/faces.py;
    # our own places, those of prepared data, if empty. Imported checkpoints have their authors'.
    data.canonical_points = ()
    # Samples per second of the audio, as prepared, and frames per second.
    data.audio_rate = 50_000
    data.video_rate = 25.0
    # Length of the audio window centred on each frame.
    data.window_seconds = 0.2
    # Frames of a training sequence (T), and the most of a validation clip.
    data.num_frames = 75
    data.eval_frames = 75
    # Clips in a step, over all devices.
    data.batch_size = 16
    # Add a mirrored copy of each training clip.
    data.mirror = True
    # Identity image in training: the "first" frame of the clip, or a "random" one.
    data.still = "first"
    # What batches hold besides, see input_pipeline/loader.py: "mfcc", "words", "action_units",
    # "face_parameters", "speaker_index".
    data.features = ()
    # Names of the speakers that "speaker_index" counts.
    data.speakers = ()
    # Most characters of a clip's text, for the feature "words".
    data.text_length = 40
    # Decoding processes (0: in this one) and batches made ahead.
    data.num_workers = 0
    data.prefetch = 4

    config.train = train = ConfigDict()
    # Stop after this many epochs, or after max_steps if that is not 0.
    train.num_epochs = 100
    train.max_steps = 0
    # Steps between log lines, between pictures, and between checkpoints.
    train.log_every = 50
    train.samples_every = 1000
    train.checkpoint_every = 1000
    # Newest checkpoints kept; the best one is kept beside them.
    train.keep_checkpoints = 2
    # What a loss or gradient that is not finite does: "stop" ends the run, "skip" leaves out the
    # update and goes on.
    train.on_divergence = "stop"
    # Validation once every so many epochs, on so many clips at most (0: all).
    train.validate_every = 1
    train.validation_clips = 0
    # Work what a network works out on the way out again for its gradient: less memory, more time.
    train.remat = False
    # Parts that a device's examples go through in, one after the other, for one update; batch
    # normalisation sees one part. Divides the batch.
    train.accumulate = 1

    # Folder of another run whose variables this one starts from, or several, separated by commas,
    # each for the players that it has; none if empty.
    train.initialize_from = ""

    config.early_stopping = stop = ConfigDict()
    # Validation metric that chooses the best checkpoint, and whether "max" or "min" is better.
    stop.metric = "psnr_lower"
    stop.mode = "max"
    # Stop after this many validations without a better one; 0 never stops.
    stop.patience = 0
    return config


def use_synthetic_grid(config: ConfigDict, tiny: bool = False) -> None:
    """Trains a config on the rendered corpus, which is prepared if need be; `tiny` on four clips
    of it."""
    builder_config = "tiny" if tiny else "default"
    config.data.update(dict(dataset="synthetic_grid", builder_config=builder_config, prepare=True))
    config.data.splits = ConfigDict(dict(train="train", validation="validation", test="test"))


def recipe(get_config: Callable[[str], ConfigDict], stages: Sequence[str]) -> ConfigDict:
    """Stages that one command trains one after the other, see `flax_talk.training.recipe`.

    Args:
        get_config: of a config file.
        stages: its variants, in order. One that starts from "runs/NAME" starts from stage NAME.
    """
    configs = {name: get_config(name) for name in stages}
    for config in configs.values():
        former = config.train.initialize_from.replace(" ", "").split(",")
        known = (name.removeprefix("runs/") for name in former)
        config.train.initialize_from = ",".join(name for name in known if name in configs)
    return ConfigDict(dict(stages=tuple(stages), recipe=configs))


def use_corpus(config: ConfigDict, dataset: str, paper: str) -> None:
    """Trains a config on a paper's speakers of a recorded corpus, or on the corpus's own splits."""
    config.data.dataset = dataset
    own = {split: split for split in ("train", "validation", "test")}
    config.data.splits = ConfigDict(subject_splits(dataset).get(paper, own))


def adam(learning_rate: float, decay: float = 1.0, every: int = 1, after: int = 0) -> ConfigDict:
    """One player's optimizer.

    Args:
        learning_rate: at the start.
        decay: factor by which the rate is multiplied ...
        every: ... each time this many epochs have passed ...
        after: ... since this epoch.
    """
    return ConfigDict(
        dict(
            learning_rate=learning_rate,
            decay=decay,
            decay_every_epochs=every,
            decay_after_epochs=after,
            b1=0.9,
            b2=0.999,
            # Largest global norm of the player's gradient; 0 does not clip.
            clip_norm=0.0,
        )
    )

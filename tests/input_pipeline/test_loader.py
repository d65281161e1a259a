import shutil

import ml_collections
import numpy as np
import pytest
import tensorflow_datasets as tfds

from flax_talk.errors import UserError
from input_pipeline import audio, faces, loader, media, text

HEIGHT, WIDTH, STRIDE, WINDOW = 16, 12, 40, 80


def example(clip: int, length: int):
    """A clip whose frames, samples and points tell the clip and the frame they are of."""
    frames = np.zeros((length, HEIGHT, WIDTH, 3), np.uint8)
    frames[..., 0] = 10 * clip
    frames[..., 1] = 10 * np.arange(length)[:, None, None]
    frames[:, :, : WIDTH // 2, 2] = 200
    samples = 1000 * clip + 10 * np.arange(length) + 5
    points = np.stack(np.broadcast_arrays(np.arange(68) / 8, np.arange(length)[:, None]), axis=-1)
    return {
        "id": f"s1/{clip}",
        "speaker": "s1",
        "video": media.encode_frames(frames),
        "waveform": np.repeat(samples, STRIDE).astype(np.int16),
        "landmarks": points.astype(np.float32),
    }


LENGTHS = (8, 7, 9, 5, 3)
SOURCE = [example(clip, length) for clip, length in enumerate(LENGTHS)]


def config(**changes):
    fields = dict(
        num_frames=4,
        eval_frames=8,
        mirror=True,
        still="first",
        image_size=(HEIGHT, WIDTH),
        audio_rate=1000,
        video_rate=25,
        window_seconds=0.08,
        batch_size=2,
        num_workers=0,
        prefetch=2,
    )
    return ml_collections.ConfigDict(fields | changes)


def batches(count, source=SOURCE, train=True, seed=0, shard=(0, 1), **changes):
    dataset = loader.make_loader(
        source,
        config(**changes),
        train=train,
        seed=seed,
        process_index=shard[0],
        process_count=shard[1],
    )
    iterator = iter(dataset)
    return [next(iterator) for _ in range(count)]


def assert_equal(first, second):
    assert len(first) == len(second)
    for one, other in zip(first, second, strict=True):
        assert one.keys() == other.keys()
        for name in one:
            np.testing.assert_array_equal(one[name], other[name], err_msg=name)


def clip_numbers(batch):
    return np.rint(batch["video"][:, 0, ..., 0].mean((1, 2)) / 10).astype(int)


def frame_numbers(batch):
    return np.rint(batch["video"][..., 1].mean((2, 3)) / 10).astype(int)


def is_mirrored(batch):
    """The blue half of each clip is on the right."""
    return batch["video"][:, 0, :, -1, 2].mean(1) > 100


def test_batch_has_the_documented_arrays():
    [batch] = batches(1)
    expected = {
        "still": ((2, HEIGHT, WIDTH, 3), np.uint8),
        "video": ((2, 4, HEIGHT, WIDTH, 3), np.uint8),
        "waveform": ((2, 3 * STRIDE + WINDOW), np.float32),
        "mask": ((2, 4), np.bool_),
        "landmarks": ((2, 4, 68, 2), np.float32),
    }
    assert {name: (value.shape, value.dtype) for name, value in batch.items()} == expected


def test_order_is_a_function_of_the_seed():
    first = batches(6)
    assert_equal(first, batches(6))
    other = batches(6, seed=1)
    assert any((a["video"] != b["video"]).any() for a, b in zip(first, other, strict=True))


def test_an_epoch_has_each_clip_and_its_mirrored_copy_once_and_is_reshuffled():
    epochs = [batches(10)[:5], batches(10)[5:]]
    drawn = [
        [pair for b in epoch for pair in zip(clip_numbers(b), is_mirrored(b), strict=True)]
        for epoch in epochs
    ]
    assert drawn[0] != drawn[1]
    for epoch in drawn:
        assert sorted(epoch) == [(clip, side) for clip in range(5) for side in (False, True)]
    plain = batches(5, mirror=False)
    assert not any(is_mirrored(batch).any() for batch in plain)


def test_sound_and_landmarks_are_those_of_the_frames():
    starts = set()
    for batch in batches(100):
        windows = audio.cut_windows(batch["waveform"], STRIDE, WINDOW)
        frames, clips = frame_numbers(batch), clip_numbers(batch)
        middle = windows[:, :, WINDOW // 2]
        expected = (1000 * clips[:, None] + 10 * frames + 5) / 32767
        valid = batch["mask"]
        np.testing.assert_allclose(middle[valid], expected[valid], rtol=1e-5)
        np.testing.assert_array_equal(batch["landmarks"][:, :, 0, 1], frames)
        np.testing.assert_array_equal(np.rint(batch["still"][..., 1].mean((1, 2)) / 10), 0)
        starts |= set(zip(clips.tolist(), frames[:, 0].tolist(), strict=True))
    possible = {(c, s) for c, n in enumerate(LENGTHS) for s in range(max(n - 4, 0) + 1)}
    assert starts == possible


def test_short_clip_holds_its_last_frame_in_silence():
    [batch] = batches(1, source=[SOURCE[4]], batch_size=1, mirror=False)
    np.testing.assert_array_equal(batch["mask"], [[True, True, True, False]])
    np.testing.assert_array_equal(frame_numbers(batch), [[0, 1, 2, 2]])
    np.testing.assert_array_equal(batch["landmarks"][0, 3], batch["landmarks"][0, 2])
    before = (WINDOW - STRIDE) // 2
    assert (batch["waveform"][0, before : before + 3 * STRIDE] != 0).all()
    assert (batch["waveform"][0, before + 3 * STRIDE :] == 0).all()


def test_another_canonical_face_moves_pictures_and_landmarks():
    target = faces.canonical_points((HEIGHT, WIDTH)) + np.float32([2, 1])
    [plain] = batches(1, train=False)
    [moved] = batches(1, train=False, canonical_points=target.tolist())
    np.testing.assert_allclose(moved["landmarks"], plain["landmarks"] + [2, 1], atol=1e-4)
    for name in ("still", "video"):
        shifted = plain[name][..., :-1, :-2, :].astype(int)
        assert np.abs(moved[name][..., 1:, 2:, :] - shifted).max() <= 1
    np.testing.assert_array_equal(moved["waveform"], plain["waveform"])


def test_mirrored_points_keep_their_meaning():
    swap = loader.MIRRORED_LANDMARKS
    np.testing.assert_array_equal(swap[swap], np.arange(68))
    for one, other in [(0, 16), (17, 26), (31, 35), (36, 45), (40, 47), (48, 54), (55, 59)]:
        assert swap[one] == other
    for on_the_axis in (8, 27, 28, 29, 30, 33, 51, 57, 62, 66):
        assert swap[on_the_axis] == on_the_axis
    drawn = batches(5, source=[SOURCE[0]], num_frames=8, batch_size=1)
    [plain, *_] = [b for b in drawn if not is_mirrored(b)[0]]
    [mirrored, *_] = [b for b in drawn if is_mirrored(b)[0]]
    np.testing.assert_array_equal(mirrored["video"], plain["video"][:, :, :, ::-1])
    np.testing.assert_array_equal(mirrored["still"], plain["still"][:, :, ::-1])
    points = mirrored["landmarks"][..., swap, :]
    np.testing.assert_array_equal(points[..., 0], WIDTH - 1 - plain["landmarks"][..., 0])
    np.testing.assert_array_equal(points[..., 1], plain["landmarks"][..., 1])


def test_still_can_be_any_frame_of_the_clip():
    drawn = batches(60, source=[SOURCE[0]], still="random", batch_size=1, num_frames=2)
    stills = {round(batch["still"][..., 1].mean() / 10) for batch in drawn}
    assert stills == set(range(8))


@pytest.mark.parametrize("prefetch", [0, 3])
def test_resume_is_exact(prefetch):
    dataset = loader.make_loader(SOURCE, config(prefetch=prefetch), train=True, seed=3)
    iterator = iter(dataset)
    for _ in range(7):
        next(iterator)
    state = iterator.get_state()
    expected = [next(iterator) for _ in range(4)]
    resumed = iter(dataset)
    resumed.set_state(state)
    assert_equal([next(resumed) for _ in range(4)], expected)


def test_processes_share_the_batches_of_one():
    whole = batches(6, batch_size=4)
    shares = [batches(6, batch_size=4, shard=(index, 2)) for index in range(2)]
    for batch, first, second in zip(whole, *shares, strict=True):
        assert_equal([{name: value[:2] for name, value in batch.items()}], [first])
        assert_equal([{name: value[2:] for name, value in batch.items()}], [second])
    with pytest.raises(UserError, match="batch_size 3"):
        batches(1, batch_size=3, shard=(0, 2))


def test_workers_do_not_change_the_batches():
    assert_equal(batches(5, num_workers=2), batches(5))


@pytest.mark.parametrize("count", [1, 2])
def test_evaluation_has_each_clip_once_in_order(count):
    shares = [
        list(
            loader.make_loader(
                SOURCE,
                config(batch_size=4),
                train=False,
                seed=0,
                process_index=index,
                process_count=count,
            )
        )
        for index in range(count)
    ]
    assert [len(share) for share in shares] == [2] * count
    # The shares of each batch, one behind the other, are the clips in order.
    parts = [part for batch in zip(*shares, strict=True) for part in batch]
    clips = np.concatenate([clip_numbers(part) for part in parts])
    masks = np.concatenate([part["mask"] for part in parts])
    np.testing.assert_array_equal(clips[:5], range(5))
    np.testing.assert_array_equal(masks.sum(1), [8, 7, 8, 5, 3, 0, 0, 0])
    assert masks[1].tolist() == [True] * 7 + [False]
    for share in shares:
        for batch in share:
            assert not is_mirrored(batch).any()
            assert batch["video"].shape[:2] == (4 // count, 8)
            np.testing.assert_array_equal(batch["still"], batch["video"][:, 0])


def test_damaged_frame_names_its_clip():
    broken = SOURCE[0] | {"video": [b"not an image"] * 8}
    with pytest.raises(UserError, match="s1/0.*not a JPEG"):
        batches(1, source=[broken], train=False, batch_size=1)


# Words as TFDS reads them; the last ends 0.01 s behind the clip's last frame.
WORDS = {
    "word": [b"bin", b"at", b"soon"],
    "start": [np.float32(0.0), np.float32(0.12), np.float32(0.2)],
    "end": [np.float32(0.12), np.float32(0.2), np.float32(0.33)],
}


def test_features_come_when_asked_for_and_change_nothing_else():
    source = [example | {"words": WORDS} for example in SOURCE]
    plain = batches(5, source=source)
    asked = batches(5, source=source, features=("mfcc", "words"), text_length=12)
    extra = {"mfcc", "text", "text_mask", "spelling"}
    assert set(asked[0]) == set(plain[0]) | extra
    assert_equal([{k: v for k, v in b.items() if k not in extra} for b in asked], plain)
    with pytest.raises(UserError, match="'phonemes': choose from mfcc, words"):
        batches(1, features=("phonemes",))


def test_mfcc_columns_are_those_of_the_frames():
    """Whole clips and windows of them: four columns for a frame, cut out of the clip's."""
    random = np.random.default_rng(0)
    source = [
        one | {"waveform": random.integers(-9000, 9000, len(one["waveform"])).astype(np.int16)}
        for one in SOURCE
    ]
    for train in (True, False):
        for batch in batches(3, source=source, train=train, features=("mfcc",)):
            assert batch["mfcc"].shape == (2, 4 * batch["mask"].shape[1], 13)
            assert batch["mfcc"].dtype == np.float32
            numbers = zip(clip_numbers(batch), frame_numbers(batch)[:, 0], strict=True)
            for row, (clip, start) in enumerate(numbers):
                wave = source[clip]["waveform"] / 32767
                whole = audio.mfcc(wave, 1000, 4 * 20)
                expected = whole[4 * start :][: batch["mfcc"].shape[1]]
                np.testing.assert_allclose(batch["mfcc"][row], expected, atol=1e-4)


def test_action_units_are_those_of_the_frames():
    """Mirrored or not; the last frame's past the end of a clip."""
    units = np.arange(8)[:, None] / 10 + np.arange(5) / 100
    source = [one | {"action_units": units[: len(one["video"])]} for one in SOURCE]
    for batch in batches(5, source=source, features=("action_units",)):
        assert batch["action_units"].dtype == np.float32
        np.testing.assert_allclose(batch["action_units"], units[frame_numbers(batch)], rtol=1e-6)
    with pytest.raises(UserError, match="no action units"):
        batches(1, features=("action_units",))


def test_face_parameters_are_those_of_the_frames():
    """The last frame's past the end of a clip; of mirrored clips they would be wrong."""
    geometry, moving = np.arange(3) / 10, np.arange(9)[:, None] + np.arange(6) / 10
    truth = {"geometry": geometry, "expression": 2 * moving, "pose": moving}
    source = [one | truth for one in SOURCE]
    asked = dict(features=("face_parameters",))
    for batch in batches(5, source=source, mirror=False, **asked):
        np.testing.assert_allclose(batch["geometry"], [geometry] * 2, rtol=1e-6)
        expected = moving[frame_numbers(batch)]
        np.testing.assert_allclose(batch["pose"], expected, rtol=1e-6)
        np.testing.assert_allclose(batch["expression"], 2 * expected, rtol=1e-6)
        assert batch["pose"].dtype == np.float32
    with pytest.raises(UserError, match="mirror=False"):
        batches(1, source=source, **asked)
    with pytest.raises(UserError, match="flax-talk fit"):
        batches(1, mirror=False, **asked)


def test_fitted_face_parameters_are_read_from_beside_the_clips(drawn_data, tmp_path):
    shutil.copytree(drawn_data, tmp_path, dirs_exist_ok=True)
    changes = dict(dataset="grid", builder_config="drawn", data_dir=str(tmp_path), mirror=False)
    sizes = dict(image_size=(64, 32), audio_rate=50_000, splits={"train": "s2"})
    asked = config(features=("face_parameters",), **changes, **sizes)
    [version] = (tmp_path / "grid" / "drawn").glob("*.*.*")
    # Other tests may have fitted the clips that all share.
    shutil.rmtree(version / loader.FITS, ignore_errors=True)
    with pytest.raises(UserError, match="flax-talk fit --data .*grid/drawn"):
        loader.open_source(asked, "train")
    (version / loader.FITS).mkdir()
    source = loader.open_source(asked, "train")
    with pytest.raises(UserError, match="flax-talk fit --data"):
        source[1]
    plain = loader.open_source(config(**changes, **sizes), "train")
    path = version / loader.FITS / f"{plain[1]['id'].decode()}.npz"
    path.parent.mkdir(parents=True, exist_ok=True)
    pose = np.random.default_rng(0).normal(size=(20, 6))
    np.savez(path, geometry=np.ones(3), expression=pose[:, :2], pose=pose, error=np.zeros(20))
    example = source[1]
    assert len(source) == 3 and example["id"] == plain[1]["id"]
    np.testing.assert_array_equal(example["pose"], pose)


def test_speakers_are_counted_in_the_order_of_the_config():
    source = [one | {"speaker": name} for one, name in zip(SOURCE, "abacb", strict=True)]
    changes = dict(features=("speaker_index",), speakers=("b", "a"), mirror=False, batch_size=5)
    [batch] = batches(1, source=source, train=False, **changes)
    assert batch["speaker_index"].tolist() == [1, 0, 1, -1, 0]
    assert batch["speaker_index"].dtype == np.int32


def test_text_is_of_the_words_within_the_frames():
    source = [SOURCE[0] | {"words": WORDS}]
    [whole] = batches(1, source=source, train=False, features=("words",), text_length=12)
    assert whole["text"].dtype == np.int32 and whole["text"].shape == (2, 12)
    assert text.decode(whole["text"][0][whole["text_mask"][0]]) == "bin at soon"
    assert whole["text_mask"][0].tolist() == [True] * 11 + [False]
    spelt = "".join((*text.ALPHABET, "_")[label] for label in whole["spelling"][0])
    assert spelt.rstrip("_") == "bn a son"
    # Frames from 0.04 s on: the first word has begun before.
    expected = {0: "bin", 1: "at", 2: "at", 3: "at", 4: "soon"}
    changes = dict(features=("words",), text_length=12, batch_size=1, mirror=False)
    seen = set()
    for batch in batches(40, source=source, **changes):
        start = frame_numbers(batch)[0, 0]
        assert text.decode(batch["text"][0][batch["text_mask"][0]]) == expected[start]
        frames = slice(start, start + batch["spelling"].shape[1])
        np.testing.assert_array_equal(batch["spelling"][0], whole["spelling"][0, frames])
        seen.add(start)
    assert seen == set(expected)


@pytest.mark.parametrize(
    ("words", "length", "message"),
    [
        ([b"bin", b"at", b"soon"], 10, "s1/0: its text has 11 char.*data.text_length"),
        ([b"Bin", b"at", b"soon"], 20, "s1/0: text 'Bin at soon' has 'B'"),
    ],
)
def test_a_text_that_cannot_be_labels_names_its_clip(words, length, message):
    source = [SOURCE[0] | {"words": WORDS | {"word": words}}]
    with pytest.raises(UserError, match=message):
        batches(1, source=source, train=False, features=("words",), text_length=length)


class Speakers(tfds.core.GeneratorBasedBuilder):
    VERSION = tfds.core.Version("1.0.0")
    name = "speakers"

    def _info(self):
        features = {
            "id": tfds.features.Text(),
            "video": tfds.features.Sequence(tfds.features.Tensor(shape=(), dtype=np.bytes_)),
            "waveform": tfds.features.Tensor(shape=(None,), dtype=np.int16),
            "landmarks": tfds.features.Tensor(shape=(None, 68, 2), dtype=np.float32),
        }
        metadata = tfds.core.MetadataDict(
            image_size=[HEIGHT, WIDTH], video_rate=25, audio_rate=1000
        )
        return tfds.core.DatasetInfo(
            builder=self, features=tfds.features.FeaturesDict(features), metadata=metadata
        )

    def _split_generators(self, dl_manager):
        return {
            "s1": self._generate_examples(SOURCE[:3]),
            "s4": self._generate_examples(SOURCE[3:]),
        }

    def _generate_examples(self, examples):
        for one in examples:
            yield one["id"], {key: one[key] for key in ("id", "video", "waveform", "landmarks")}


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data")
    Speakers(data_dir=folder, file_format="array_record").download_and_prepare()
    return folder


def on_disk(data_dir, expression, **changes):
    return config(
        dataset="speakers",
        builder_config="",
        data_dir=str(data_dir),
        splits=dict(train=expression),
        **changes,
    )


def test_source_on_disk_follows_the_split_expression(data_dir, caplog):
    source = loader.open_source(on_disk(data_dir, "s1[:-1]+s9 + s4"), "train")
    ids = sorted(source[i]["id"] for i in range(len(source)))
    assert len(ids) == 4 and ids[-2:] == [b"s1/3", b"s1/4"]
    assert "lacks the splits s9" in caplog.text
    by_id = {f"s1/{clip}".encode(): one for clip, one in enumerate(SOURCE)}
    in_memory = [by_id[source[i]["id"]] for i in range(len(source))]
    assert_equal(batches(3, source=source), batches(3, source=in_memory))


def test_data_sets_are_joined_and_weighted_by_repetition(data_dir):
    source = loader.open_source(on_disk(data_dir, "s4 + speakers/s1[:1] + s4"), "train")
    ids = [source[i]["id"] for i in range(len(source))]
    assert ids[:2] == ids[3:] == [b"s1/3", b"s1/4"] and len(ids) == 5
    assert ids[2] in {b"s1/0", b"s1/1", b"s1/2"}


def test_damaged_shard_is_one_clear_line(data_dir, tmp_path):
    shutil.copytree(data_dir, tmp_path, dirs_exist_ok=True)
    [shard] = tmp_path.rglob("speakers-s1.array_record*")
    shard.write_bytes(shard.read_bytes()[:1000])
    source = loader.open_source(on_disk(tmp_path, "s1"), "train")
    with pytest.raises(UserError, match="prepare the data set again") as caught:
        batches(1, source=source)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("expression", "changes", "message"),
    [
        ("s2+s3[:5]", {}, "none of the splits.*s1, s4"),
        ("s1[:0]", {}, "cannot read split"),
        ("s1[:-30]", {}, "cannot read split"),
        ("s1", {"audio_rate": 16_000}, "audio_rate 1000.*16000"),
        ("s1", {"image_size": (128, 96)}, "image_size.*128, 96"),
        ("s1", {"builder_config": "other"}, "other.*no prepared data set"),
    ],
)
def test_wrong_config_is_one_clear_line(data_dir, expression, changes, message):
    fields = on_disk(data_dir, expression)
    fields.update(changes)
    with pytest.raises(UserError, match=message) as caught:
        loader.open_source(fields, "train")
    assert "\n" not in str(caught.value)

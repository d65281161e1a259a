"""The checkpoint that comes with the package: it speaks, rests in silence, and is small."""

import numpy as np
import pytest
from PIL import Image

from flax_talk import demo
from flax_talk.animate import SHIPPED, animate, load_generator
from flax_talk.losses import mouth_region
from input_pipeline import media
from input_pipeline.audio import resample
from input_pipeline.speech import say
from input_pipeline.synthetic.appearance import make_speaker
from input_pipeline.synthetic.renderer import Renderer, aligned_pose

pytest.importorskip("espeakng_loader")


@pytest.fixture(scope="module")
def model():
    return load_generator()


def still_of(seed):
    """An aligned face that no data set holds."""
    speaker, rest = make_speaker(seed), np.zeros((1, 29), np.float32)
    return Renderer().render(speaker, rest, aligned_pose(speaker, rest, np.zeros((1, 2))))[0]


def test_is_small_and_says_what_it_is(model):
    files = {path.name: path.stat().st_size for path in SHIPPED.iterdir()}
    assert set(files) == {"config.json", "variables.npz"} and sum(files.values()) < 40e6
    assert model.config.system == "temporal_gan_2019" and model.step > 0
    # Nothing of the machine it was trained on.
    assert "/" not in model.config.data.data_dir
    adversarial = ("frame", "sync", "sequence")
    assert all(model.config.loss[name] > 0 for name in adversarial)


def test_the_mouth_moves_with_speech_and_rests_in_silence(model):
    spoken = say("my mother bought apples", "en-gb-x-rp+m3")
    sound = resample(spoken.waveform, spoken.sample_rate, model.config.data.audio_rate)
    still = still_of(901)
    speech, silence = (animate(model, still, wave).astype(float) for wave in (sound, 0 * sound))

    def motion(video):
        return mouth_region(video).std(axis=0).mean()

    assert motion(speech) > 3 * motion(silence)
    # It is still the same person.
    assert np.abs(speech[:, :64] - still[:64]).mean() < 12


def test_the_demo_makes_both_faces_speak(tmp_path):
    pytest.importorskip("dlib")
    pytest.importorskip("skimage")
    videos = demo.run(tmp_path, "my mother bought apples")
    assert [path.name for path in videos] == ["demo_rendered.mp4", "demo_photograph.mp4"]
    for path in videos:
        frames = media.read_video(path).frames
        assert len(frames) > 20 and mouth_region(frames).std(axis=0).mean() > 0.5
        assert np.abs(media.read_audio(path, 16_000)).max() > 0.05
    with Image.open(tmp_path / "demo.webp") as picture:
        assert 20 < picture.n_frames <= len(frames) and picture.size == (336, 224)

import importlib.util

import numpy as np
import pytest

from flax_talk.errors import UserError
from flax_talk.interop import vgg19
from flax_talk.metrics.perceptual import perceptual_distance
from flax_talk.nets.perceptual import CONVOLUTIONS

NARROW = ((2, 4), (2, 5), (4, 6), (4, 7), (4, 8))
# Layers of torchvision's `vgg19().features` that are convolutions.
TORCHVISION = (0, 2, 5, 7, 10, 12, 14, 16, 19, 21, 23, 25, 28, 30, 32, 34)


@pytest.fixture(autouse=True)
def narrow(monkeypatch, request):
    """A network of few channels, so that the files are small."""
    if "real_weights" not in request.fixturenames:
        monkeypatch.setattr(vgg19, "BLOCKS", NARROW)


@pytest.fixture
def real_weights(real_media):
    path = real_media.parent / "models" / "vgg19_conv_compact.npz"
    if not path.is_file():
        pytest.skip(f"no weights of VGG-19 in {path}")
    return vgg19.load_vgg19(path)


def draw(seed=0):
    """Kernels [3, 3, C, O] and biases [O] in order, for the channels of Caffe: BGR."""
    random = np.random.default_rng(seed)
    channels, arrays = 3, []
    for name in CONVOLUTIONS:
        features = NARROW[int(name[4]) - 1][1]
        kernel = random.normal(size=(3, 3, channels, features)).astype(np.float32)
        arrays.append((kernel, random.normal(size=features).astype(np.float32)))
        channels = features
    return arrays


def caffe_names():
    return [f"block{name[4]}_conv{name[6]}" for name in CONVOLUTIONS]


def save_npz(path, arrays, quantised=("block4", "block5")):
    """Stores the arrays, those of some blocks in 8 bits; returns what is left of them."""
    stored, left = {}, []
    for name, pair in zip(caffe_names(), arrays, strict=True):
        left.append([])
        for kind, array in zip(("kernel", "bias"), pair, strict=True):
            if not name.startswith(quantised):
                stored[f"{name}/{kind}"] = array
                left[-1].append(array)
                continue
            scale, least = np.ptp(array) / 255, array.min()
            levels = np.rint((array - least) / scale).astype(np.uint8)
            stored[f"{name}/{kind}|u8"] = levels
            stored[f"{name}/{kind}|scale_min"] = np.array([scale, least], np.float64)
            left[-1].append(levels * np.float64(scale) + np.float64(least))
    np.savez(path, **stored)
    return left


def save_keras(path, arrays, keras2=False):
    h5py = pytest.importorskip("h5py")
    with h5py.File(path, "w") as file:
        for name, (kernel, bias) in zip(caffe_names(), arrays, strict=True):
            if keras2:
                group = file.create_group(f"{name}/{name}")
                group["kernel:0"], group["bias:0"] = kernel, bias
            else:
                group = file.create_group(name)
                group[f"{name}_W_1:0"], group[f"{name}_b_1:0"] = kernel, bias
        for block in range(1, 6):
            file.create_group(f"block{block}_pool")


def torchvision_state(arrays):
    """The same weights as torchvision has them: OIHW, the first for RGB, and a classifier."""
    state = {}
    for index, (kernel, bias) in zip(TORCHVISION, arrays, strict=True):
        kernel = kernel[:, :, ::-1] if index == 0 else kernel
        state[f"features.{index}.weight"] = kernel.transpose(3, 2, 0, 1)
        state[f"features.{index}.bias"] = bias
    return state | {"classifier.0.weight": np.zeros((4, 8)), "classifier.0.bias": np.zeros(4)}


def check(weights, arrays):
    """Equal weights, the first for RGB, and float32 throughout."""
    assert list(weights.kernels) == list(weights.biases) == list(CONVOLUTIONS)
    for name, (kernel, bias) in zip(CONVOLUTIONS, arrays, strict=True):
        kernel = kernel[:, :, ::-1] if name == "conv1_1" else kernel
        np.testing.assert_allclose(weights.kernels[name], kernel, rtol=1e-6, atol=1e-6)
        np.testing.assert_allclose(weights.biases[name], bias, rtol=1e-6, atol=1e-6)
        assert weights.kernels[name].dtype == weights.biases[name].dtype == np.float32


def check_caffe_pixels(weights):
    pixels = np.array([[103.939 + 3, 116.779 + 2, 123.68 + 1]])[:, ::-1]
    np.testing.assert_allclose((pixels - weights.mean) * weights.scale, [[1, 2, 3]], rtol=1e-5)


@pytest.mark.parametrize("quantised", [("block4", "block5"), ("none",)])
def test_npz_is_read(tmp_path, quantised):
    arrays = draw()
    left = save_npz(tmp_path / "vgg19.npz", arrays, quantised)
    weights = vgg19.load_vgg19(tmp_path / "vgg19.npz")
    check(weights, left)
    check_caffe_pixels(weights)


@pytest.mark.parametrize("keras2", [False, True])
def test_keras_file_is_read(tmp_path, keras2):
    save_keras(tmp_path / "vgg19.h5", draw(), keras2)
    weights = vgg19.load_vgg19(tmp_path / "vgg19.h5")
    check(weights, draw())
    check_caffe_pixels(weights)


def test_torchvision_file_is_read(tmp_path, save_torch):
    weights = vgg19.load_vgg19(save_torch(tmp_path / "vgg19.pth", torchvision_state(draw())))
    check(weights, draw())
    pixels = 255 * np.array([0.485 + 0.229, 0.456 - 0.224, 0.406 + 2 * 0.225])
    np.testing.assert_allclose((pixels - weights.mean) * weights.scale, [1, -1, 2], rtol=1e-5)


def test_a_wrong_file_is_named(tmp_path, save_torch):
    with pytest.raises(UserError, match="vgg19.zip is no file of VGG-19: give one that ends in"):
        vgg19.load_vgg19(tmp_path / "vgg19.zip")
    for name in ("a.npz", "a.h5", "a.pth"):
        with pytest.raises(UserError, match=f"no file .*{name}: give torchvision's or Keras's"):
            vgg19.load_vgg19(tmp_path / name)
        (tmp_path / name).write_bytes(b"not what it should be")
        with pytest.raises(UserError, match=f"{name} is not a whole"):
            vgg19.load_vgg19(tmp_path / name)


def test_another_network_is_named(tmp_path, save_torch):
    arrays = draw()
    state = torchvision_state(arrays)
    del state["features.34.bias"]
    with pytest.raises(UserError, match="no features.34.bias in .*vgg.pth"):
        vgg19.load_vgg19(save_torch(tmp_path / "vgg.pth", state))
    wide = [*arrays[:3], (np.zeros((3, 3, 5, 9)), np.zeros(9)), *arrays[4:]]
    save_npz(tmp_path / "vgg.npz", wide)
    with pytest.raises(UserError, match=r"conv2_2 in .*vgg.npz is \(3, 3, 5, 9\), in VGG-19"):
        vgg19.load_vgg19(tmp_path / "vgg.npz")
    save_npz(tmp_path / "short.npz", arrays)
    with np.load(tmp_path / "short.npz") as file:
        kept = {name: file[name] for name in file if name != "block5_conv1/bias|scale_min"}
    np.savez(tmp_path / "short.npz", **kept)
    with pytest.raises(UserError, match=r"no block5_conv1/bias\|scale_min in .*short.npz"):
        vgg19.load_vgg19(tmp_path / "short.npz")


def test_h5py_is_asked_for(tmp_path, monkeypatch):
    (tmp_path / "vgg19.h5").touch()
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(UserError, match="vgg19.h5 takes h5py: pip install h5py"):
        vgg19.load_vgg19(tmp_path / "vgg19.h5")


def test_the_real_network_sees_blur(real_weights):
    """A picture is the less like itself the more it is blurred."""
    assert real_weights.kernels["conv5_4"].shape == (3, 3, 512, 512)
    skimage = pytest.importorskip("skimage")
    image = skimage.data.astronaut()[::5, ::5][:64, :64] / 255.0
    blurred = [skimage.filters.gaussian(image, s, channel_axis=-1) for s in (0.5, 1, 2)]
    video = np.stack([image, *blurred]).astype(np.float32) * 2 - 1
    values = np.asarray(perceptual_distance(real_weights, video, np.stack([video[0]] * 4)))
    assert values[0] == 0 and (np.diff(values) > 1e-5).all()

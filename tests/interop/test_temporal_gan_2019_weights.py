"""Narrow generators in the authors' layout, computed from their files by definition."""

import json
from functools import partial

import cv2
import jax
import numpy as np
import pytest

from configs.temporal_gan_2019_grid import get_config
from flax_talk import animate, cli
from flax_talk.errors import UserError
from flax_talk.interop.temporal_gan_2019 import (
    export_temporal_gan,
    load_temporal_gan,
    save_temporal_gan,
)
from flax_talk.interop.torch_files import read_torch, write_torch
from flax_talk.systems import temporal_gan
from flax_talk.training.checkpoints import load_config, load_variables, save_config
from input_pipeline import faces, media

STABLE = [33, 36, 39, 42, 45]
WIDTH, AUDIO_WIDTH, IDENTITY, AUDIO, CONTENT, NOISE = 3, 2, 6, 7, 5, 4
# Kernel, stride and padding of the audio encoder's layers, and the steps that they leave.
LAYERS = {
    (16_000, 3200): ([(80, 16, 32), (4, 2, 1), (4, 2, 1), (4, 2, 1), (10, 5, 3)], 5),
    (50_000, 2500): ([(250, 50, 100), (4, 2, 1), (10, 5, 3)], 5),
}


def draw_file(size=(128, 96), rate=16_000, samples=3200, seed=0):
    """A file in the authors' layout: names and shapes of `grid.dat`, but narrow."""
    random = np.random.default_rng(seed)
    parts = {"encoder": {}, "encoder_id": {}, "generator": {}}

    def weight(part, name, *shape, fan_in, bias=False):
        parts[part][f"{name}.weight"] = random.normal(size=shape) * np.sqrt(2 / fan_in)
        if bias:
            parts[part][f"{name}.bias"] = random.normal(size=shape[0])

    def norm(part, name, features):
        parts[part][f"{name}.weight"] = random.uniform(0.5, 1.5, features)
        # Few units are dead, of the few that there are.
        parts[part][f"{name}.bias"] = random.normal(0.5, 0.5, features)
        parts[part][f"{name}.running_mean"] = random.normal(0, 0.3, features)
        parts[part][f"{name}.running_var"] = random.uniform(0.5, 2, features)
        parts[part][f"{name}.num_batches_tracked"] = np.array(7)

    def gru(part, name, layer, inputs, width):
        for kind, columns in (("ih", inputs), ("hh", width)):
            # Large, as is the decoder's first, so that frames differ from each other.
            matrix = 3 * random.normal(size=(3 * width, columns)) / np.sqrt(columns)
            parts[part][f"{name}.weight_{kind}_l{layer}"] = matrix
            parts[part][f"{name}.bias_{kind}_l{layer}"] = random.normal(size=3 * width) / 2

    layers, left = LAYERS[rate, samples]
    channels = 1
    for i, (kernel, _, _) in enumerate(layers):
        features = AUDIO_WIDTH * 2**i
        shape = (features, channels, kernel)
        weight("encoder", f"encoder.cl.{i}", *shape, fan_in=channels * kernel, bias=True)
        norm("encoder", f"encoder.activations.{i}.0", features)
        channels = features
    last = f"encoder.cl.{len(layers)}"
    weight("encoder", last, AUDIO, channels, left, fan_in=4 * channels * left, bias=True)
    for layer, inputs in enumerate((AUDIO, CONTENT)):
        gru("encoder", "rnn", layer, inputs, CONTENT)

    channels = 3
    for i in range(5):
        features = WIDTH * 2**i
        weight("encoder_id", f"cl.{i}.0", features, channels, 4, 4, fan_in=16 * channels)
        norm("encoder_id", f"cl.{i}.1", features)
        channels = features
    h, w = size[0] // 32, size[1] // 32
    weight("encoder_id", "cl.5.0", IDENTITY, channels, h, w, fan_in=4 * channels * h * w)

    latent = CONTENT + NOISE + IDENTITY
    weight("generator", "dcl.0.0", latent, channels, h, w, fan_in=latent / 9)
    norm("generator", "dcl.0.1", channels)
    for i in range(1, 5):
        weight("generator", f"dcl.{i}.dcl1", 2 * channels, channels, 3, 3, fan_in=18 * channels)
        norm("generator", f"dcl.{i}.activation1.0", channels)
        weight("generator", f"dcl.{i}.dcl2", channels, channels // 2, 4, 4, fan_in=4 * channels)
        channels //= 2
        norm("generator", f"dcl.{i}.activation2.0", channels)
    weight("generator", "dcl.5", channels, 3, 4, 4, fan_in=32 * channels)
    gru("generator", "rnn_noise", 0, NOISE, NOISE)
    for state in parts.values():
        for name, array in state.items():
            if not name.endswith("tracked"):
                state[name] = array.astype(np.float32)
    mean_face = random.uniform(0.1, 0.9, (68, 2)) * size[::-1]
    mean_face[STABLE] = faces.canonical_points(size) + (4, -3)
    return parts | dict(
        mean_face=mean_face,
        img_size=size,
        audio_rate=rate,
        video_rate=25,
        audio_feat_len=samples / rate,
        audio_feat_samples=samples,
        id_enc_dim=IDENTITY,
        rnn_gen_dim=CONTENT,
        aud_enc_dim=AUDIO,
        aux_latent=NOISE,
        sequential_noise=True,
    )


class Reference:
    """The layers of the authors' network, channels first, in double precision."""

    def __init__(self, file):
        self.file = file

    def get(self, part, name):
        return self.file[part][name].astype(np.float64)

    def convolve(self, x, part, name, stride, padding):
        """[N, C, *size] -> [N, O, *size']; kernels [O, C, *size]."""
        kernel = self.get(part, f"{name}.weight")
        rank = kernel.ndim - 2
        x = np.pad(x, [(0, 0), (0, 0)] + [(padding, padding)] * rank)
        axes = tuple(range(2, 2 + rank))
        patches = np.lib.stride_tricks.sliding_window_view(x, kernel.shape[2:], axes)
        patches = patches[(slice(None), slice(None), *[slice(None, None, stride)] * rank)]
        y = np.tensordot(patches, kernel, ([1, *range(-rank, 0)], [1, *range(2, 2 + rank)]))
        if f"{name}.bias" in self.file[part]:
            y = y + self.get(part, f"{name}.bias")
        return np.moveaxis(y, -1, 1)

    def spread(self, x, name, stride, padding):
        """Transposed convolution: each pixel adds its multiple of the kernel [I, O, k, l]."""
        kernel = self.get("generator", f"{name}.weight")
        (n, _, h, w), (_, o, k, length) = x.shape, kernel.shape
        y = np.zeros((n, o, (h - 1) * stride + k, (w - 1) * stride + length))
        for i in range(h):
            for j in range(w):
                place = (slice(i * stride, i * stride + k), slice(j * stride, j * stride + length))
                y[:, :, *place] += np.tensordot(x[:, :, i, j], kernel, 1)
        return y[:, :, padding : y.shape[2] - padding, padding : y.shape[3] - padding]

    def activate(self, x, part, name):
        weight, bias, mean, var = (
            self.get(part, f"{name}.{kind}").reshape(-1, *(1,) * (x.ndim - 2))
            for kind in ("weight", "bias", "running_mean", "running_var")
        )
        return np.maximum((x - mean) / np.sqrt(var + 1e-5) * weight + bias, 0)

    def gru(self, x, part, name):
        """[T, F] -> [T, H]."""
        layer = 0
        while f"{name}.weight_ih_l{layer}" in self.file[part]:
            w_x, b_x, w_h, b_h = (
                self.get(part, f"{name}.{kind}_l{layer}")
                for kind in ("weight_ih", "bias_ih", "weight_hh", "bias_hh")
            )
            state, states = np.zeros(w_h.shape[1]), []
            for row in x:
                r_x, z_x, n_x = np.split(w_x @ row + b_x, 3)
                r_h, z_h, n_h = np.split(w_h @ state + b_h, 3)
                reset, update = 1 / (1 + np.exp(-r_x - r_h)), 1 / (1 + np.exp(-z_x - z_h))
                state = (1 - update) * np.tanh(n_x + reset * n_h) + update * state
                states.append(state)
            x, layer = np.stack(states), layer + 1
        return x

    def video(self, still, windows, noise):
        """[3, H, W], [T, samples], [T, noise] -> [T, 3, H, W]."""
        file = self.file
        layers, _ = LAYERS[file["audio_rate"], file["audio_feat_samples"]]
        x = windows[:, None]
        for i, (_, stride, padding) in enumerate(layers):
            x = self.convolve(x, "encoder", f"encoder.cl.{i}", stride, padding)
            x = self.activate(x, "encoder", f"encoder.activations.{i}.0")
        x = np.tanh(self.convolve(x, "encoder", f"encoder.cl.{len(layers)}", 1, 0))[..., 0]
        content = self.gru(x, "encoder", "rnn")

        x, skips = still[None], []
        for i in range(5):
            x = self.convolve(x, "encoder_id", f"cl.{i}.0", 2, 1)
            x = self.activate(x, "encoder_id", f"cl.{i}.1")
            skips.append(x)
        identity = np.tanh(self.convolve(x, "encoder_id", "cl.5.0", 1, 0)).reshape(1, -1)

        frames = len(windows)
        noise = np.tanh(self.gru(noise, "generator", "rnn_noise"))
        latent = np.concatenate([content, noise, identity.repeat(frames, 0)], axis=1)
        x = self.activate(
            self.spread(latent[..., None, None], "dcl.0.0", 1, 0), "generator", "dcl.0.1"
        )
        for i in range(1, 5):
            x = np.concatenate([x, skips[5 - i].repeat(frames, 0)], axis=1)
            for j, (stride, padding) in enumerate([(1, 1), (2, 1)], start=1):
                x = self.spread(x, f"dcl.{i}.dcl{j}", stride, padding)
                x = self.activate(x, "generator", f"dcl.{i}.activation{j}.0")
        return np.tanh(self.spread(x, "dcl.5", 2, 1))


def test_pixels_are_those_of_the_published_network(tmp_path):
    file = draw_file()
    config, variables = load_temporal_gan(write_torch(tmp_path / "grid.dat", file))
    assert {leaf.dtype for leaf in jax.tree.leaves(variables)} == {np.dtype(np.float32)}
    assert config.generator.content_layers == 2
    random = np.random.default_rng(1)
    frames, stride, samples = 5, 640, 3200
    still = random.integers(0, 256, (8, 6, 3)).repeat(16, axis=0).repeat(16, axis=1)
    padding = np.zeros((samples - stride) // 2)
    speech = random.uniform(-1, 1, frames * stride)
    audio = np.concatenate([padding, speech, padding]).astype(np.float32)
    rng = jax.random.key(2)[None]
    generate = jax.jit(partial(temporal_gan.generate, config))
    video, _ = generate(variables, still[None].astype(np.uint8), audio[None], rng)

    white = temporal_gan.sample_noise(config, rng, np.arange(frames)[None], 1.0)[0]
    windows = np.stack([audio[t * stride : t * stride + samples] for t in range(frames)])
    reference = Reference(file).video(
        still.transpose(2, 0, 1) / 127.5 - 1,
        windows.astype(np.float64),
        0.33 * np.asarray(white, np.float64),
    )
    # Neither saturated nor the same for every frame.
    assert 0.5 < np.quantile(np.abs(reference), 0.9) < 0.95
    assert np.ptp(reference, axis=0).mean() > 0.02
    expected = 125 * reference.transpose(0, 2, 3, 1) + 125
    np.testing.assert_allclose(127.5 * (video[0] + 1) / 125, expected / 125, atol=1e-4)


def test_a_file_keeps_everything_that_is_read_of_it(tmp_path):
    file = draw_file()
    config, variables = load_temporal_gan(write_torch(tmp_path / "grid.dat", file))
    again = read_torch(save_temporal_gan(tmp_path / "again.dat", config, variables))
    for part in ("encoder", "encoder_id", "generator"):
        kept = {name: x for name, x in file[part].items() if not name.endswith("tracked")}
        assert set(again[part]) == set(kept)
        for name, array in kept.items():
            np.testing.assert_array_equal(again[part][name], array)
    np.testing.assert_array_equal(again["mean_face"][STABLE], np.float32(file["mean_face"][STABLE]))
    plain = [name for name in file if not isinstance(file[name], dict | np.ndarray)]
    assert {name: again[name] for name in plain} == {name: file[name] for name in plain}


def test_our_own_come_back_as_they_were(tiny_run, tmp_path):
    path = export_temporal_gan(tiny_run, tmp_path / "ours.dat")
    config, variables = load_temporal_gan(path)
    run = load_config(tiny_run)
    assert config.generator.to_dict() == run.generator.to_dict()
    assert config.generate.to_dict() == run.generate.to_dict()
    fields = ("canonical_points", "image_size", "audio_rate", "video_rate", "window_seconds")
    for field in fields:
        assert list(np.ravel(config.data[field])) == list(np.ravel(run.data[field])), field
    expected, _ = load_variables(tiny_run)
    jax.tree.map(np.testing.assert_array_equal, variables["generator"], dict(expected["generator"]))
    half = export_temporal_gan(tiny_run, tmp_path / "half.dat", dtype="float16")
    assert read_torch(half)["generator"]["dcl.5.weight"].dtype == np.float16
    assert read_torch(half)["generator"]["dcl.0.1.running_var"].dtype == np.float32


def without(file, part, name):
    return {**file, part: {key: x for key, x in file[part].items() if key != name}}


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda f: [1], "holds no weights of temporal_gan_2019"),
        (lambda f: f | {"encoder_id": None}, "no encoder_id: cl.0.0.weight in .*grid.dat"),
        (lambda f: without(f, "generator", "dcl.3.dcl2.weight"), "no generator: dcl.3.dcl2.weight"),
        (lambda f: without(f, "encoder", "rnn.bias_hh_l1"), "no encoder: rnn.bias_hh_l1 in"),
        (lambda f: f | {"audio_rate": 0}, "audio_rate of .*grid.dat is 0"),
        (lambda f: f | {"img_size": (100, 96)}, "img_size of .* is .100, 96.: only multiples"),
        (lambda f: f | {"mean_face": f["mean_face"][:5]}, "mean_face of .* is not the 68 points"),
        (
            lambda f: f | {"id_enc_dim": 9},
            "encoder_id: cl.5.0.weight of .* is .6, 48, 4, 3., by its other sizes .9, 48, 4, 3.",
        ),
    ],
)
def test_another_network_is_named(tmp_path, change, says):
    path = write_torch(tmp_path / "grid.dat", change(draw_file()))
    with pytest.raises(UserError, match=says):
        load_temporal_gan(path)


@pytest.mark.parametrize(
    ("field", "value", "says"),
    [
        ("system", "syncnet", "a run of syncnet has no form in PyTorch"),
        ("generator.num_skips", 5, "has num_skips=4 .* this generator num_skips=5 and"),
        ("generator.residual", True, "this generator num_skips=4 and residual=True"),
        ("generator.content_layers", 3, "has other layers"),
    ],
)
def test_what_the_authors_network_has_not_is_not_written(tiny_run, tmp_path, field, value, says):
    variables, _ = load_variables(tiny_run)
    config = get_config("tiny")
    config.update_from_flattened_dict({field: value})
    with pytest.raises(UserError, match=says):
        save_temporal_gan(tmp_path / "ours.dat", config, variables)
    assert not list(tmp_path.iterdir())


@pytest.fixture
def checkpoint(tmp_path, capsys):
    """Made by the command line of a file whose faces are elsewhere than ours."""
    path = write_torch(tmp_path / "grid.dat", draw_file((64, 32), 50_000, 2500))
    out = tmp_path / "published"
    assert cli.main(["import", "temporal_gan_2019", str(path), "--out", str(out), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["path"] == str(out / "variables.npz")
    return out


def test_what_is_imported_animates_and_is_evaluated(checkpoint, drawn_data, tmp_path, capsys):
    cv2.imwrite(str(tmp_path / "grey.png"), np.full((64, 32, 3), 128, np.uint8))
    sound = np.random.default_rng(3).uniform(-0.5, 0.5, 20_000).astype(np.float32)
    frames = np.zeros((10, 64, 32, 3), np.uint8)
    media.write_video(tmp_path / "speech.mp4", frames, 25, sound, 50_000)
    words = ["animate", "--still", "grey.png", "--audio", "speech.mp4", "--out", "out.mp4"]
    words = [str(tmp_path / word) if "." in word else word for word in words]
    assert cli.main([*words, "--checkpoint", str(checkpoint), "--detector", "none"]) == 0
    assert "10 frames, 0.40 s" in capsys.readouterr().out
    config = load_config(checkpoint)
    config.data.update(dict(batch_size=4, eval_frames=5))
    save_config(config, checkpoint)
    words = ["evaluate", "--checkpoint", str(checkpoint), "--data-dir", drawn_data, "--json"]
    words += ["--metrics", "psnr,fdbm"]
    assert cli.main([*words, "--split", "grid/drawn/s2"]) == 0
    result = json.loads(capsys.readouterr().out)
    assert result["clips"] == 3
    assert np.isfinite(list(result["rows"]["generated"].values())).all()
    words = ["export", "--checkpoint", str(checkpoint), "--format", "torch", "--json"]
    assert cli.main([*words, "--out", str(tmp_path / "again.dat")]) == 0
    config, variables = load_temporal_gan(tmp_path / "again.dat")
    assert config == load_temporal_gan(tmp_path / "grid.dat")[0]
    expected, step = load_variables(checkpoint)
    assert step == 0
    jax.tree.map(np.testing.assert_array_equal, variables, expected)


def test_stills_are_aligned_to_the_mean_face(checkpoint, tmp_path, monkeypatch):
    random = np.random.default_rng(4)
    image = cv2.GaussianBlur(random.integers(0, 256, (90, 80, 3), np.uint8), (9, 9), 3)
    landmarks = np.zeros((68, 2), np.float32)
    landmarks[STABLE] = 1.2 * faces.canonical_points((64, 32)) + (20, 5)
    face = faces.Face(np.float32([0, 0, 80, 90]), landmarks)
    monkeypatch.setitem(faces.DETECTORS, "known", lambda: lambda image: [face])
    cv2.imwrite(str(tmp_path / "still.png"), image[..., ::-1])
    data = load_config(checkpoint).data
    crop = animate.aligned_still(tmp_path / "still.png", "known", data)
    target = np.float32(draw_file((64, 32), 50_000, 2500)["mean_face"][STABLE])
    expected, moved, _ = faces.align(image[None], landmarks[None], (64, 32), target)
    np.testing.assert_allclose(moved[0, STABLE], target, atol=1e-3)
    np.testing.assert_array_equal(crop, expected[0])


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"", "is not a whole file of torch.save: it ends too soon, after 0 bytes"),
        (None, "is not a whole file of torch.save: it ends too soon, after 50000 bytes"),
        (b"version https://git-lfs.github.com/spec/v1\n", "is a git-lfs pointer"),
        (b"<!doctype html><title>Quota exceeded</title>", "is a web page"),
    ],
)
def test_a_file_that_did_not_arrive_is_one_line(tmp_path, capsys, content, says):
    path = tmp_path / "grid.dat"
    whole = write_torch(path, draw_file()).read_bytes()
    path.write_bytes(whole[:50_000] if content is None else content)
    words = ["import", "temporal_gan_2019", str(path), "--out", str(tmp_path / "published")]
    assert cli.main(words) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"flax-talk: {path} {says}")
    assert list(tmp_path.iterdir()) == [path]

"""temporal_gan_2019 in PyTorch, for comparison: the layers of `flax_talk.systems.temporal_gan`.

Written with PyTorch's own layers as its users would. The generator's parameters have the names of
the authors' files, so that `flax_talk.interop.temporal_gan_2019` carries ours over.
"""

from pathlib import Path

import torch
from torch import nn

from flax_talk.nets.encoders import audio_layers

STRIDED = 5
"""Layers of each image encoder that halve the image."""


class AudioEncoder(nn.Module):
    """Windows [N, samples] to codes [N, code_dim]."""

    def __init__(self, code_dim: int, window: int, rate: int, width: int):
        super().__init__()
        convolutions, activations, channels, length = [], [], 1, window
        for i, (kernel, stride, padding) in enumerate(audio_layers(window, rate)):
            features = width * 2**i
            convolutions.append(nn.Conv1d(channels, features, kernel, stride, padding))
            activations.append(nn.Sequential(nn.BatchNorm1d(features), nn.ReLU(inplace=True)))
            channels, length = features, (length + 2 * padding - kernel) // stride + 1
        convolutions.append(nn.Conv1d(channels, code_dim, length))
        self.cl, self.activations = nn.ModuleList(convolutions), nn.ModuleList(activations)

    def forward(self, windows):
        x = windows[:, None]
        for convolution, activation in zip(self.cl[:-1], self.activations, strict=True):
            x = activation(convolution(x))
        return torch.tanh(self.cl[-1](x)[..., 0])


class ContentEncoder(nn.Module):
    """Windows [B, T, samples] to content codes [B, T, content_dim]."""

    def __init__(self, audio_dim, content_dim, layers, **audio):
        super().__init__()
        self.encoder = AudioEncoder(audio_dim, **audio)
        self.rnn = nn.GRU(audio_dim, content_dim, layers, batch_first=True)

    def forward(self, windows):
        codes = self.encoder(windows.flatten(0, 1))
        return self.rnn(codes.unflatten(0, windows.shape[:2]))[0]


class IdentityEncoder(nn.Module):
    """Stills [B, 3, H, W] to codes [B, code_dim] and skips, largest first."""

    def __init__(self, code_dim, width, image_size):
        super().__init__()
        layers, channels = [], 3
        for i in range(STRIDED):
            features = width * 2**i
            convolution = nn.Conv2d(channels, features, 4, 2, 1, bias=False)
            layers.append(nn.Sequential(convolution, nn.BatchNorm2d(features), nn.ReLU(True)))
            channels = features
        size = tuple(n // 2**STRIDED for n in image_size)
        layers.append(nn.Sequential(nn.Conv2d(channels, code_dim, size, bias=False)))
        self.cl = nn.ModuleList(layers)

    def forward(self, still):
        x, skips = still, []
        for layer in self.cl[:-1]:
            x = layer(x)
            skips.append(x)
        return torch.tanh(self.cl[-1](x)[..., 0, 0]), skips


class Block(nn.Module):
    """A frame and a skip [N, C, H, W] to [N, C / 2, 2 H, 2 W]."""

    def __init__(self, channels):
        super().__init__()
        half = channels // 2
        self.dcl1 = nn.ConvTranspose2d(2 * channels, channels, 3, 1, 1, bias=False)
        self.activation1 = nn.Sequential(nn.BatchNorm2d(channels), nn.ReLU(inplace=True))
        self.dcl2 = nn.ConvTranspose2d(channels, half, 4, 2, 1, bias=False)
        self.activation2 = nn.Sequential(nn.BatchNorm2d(half), nn.ReLU(inplace=True))

    def forward(self, x, skip):
        x = self.activation1(self.dcl1(torch.cat([x, skip], dim=1)))
        return self.activation2(self.dcl2(x))


class Decoder(nn.Module):
    """Codes of T frames, the noise, and the skips of their clip to frames [B, T, 3, H, W]."""

    def __init__(self, code_dim, noise_dim, width, image_size):
        super().__init__()
        channels = width * 2 ** (STRIDED - 1)
        size = tuple(n // 2**STRIDED for n in image_size)
        layers = [
            nn.Sequential(
                nn.ConvTranspose2d(code_dim + noise_dim, channels, size, bias=False),
                nn.BatchNorm2d(channels),
                nn.ReLU(True),
            )
        ]
        for i in range(STRIDED - 1):
            layers.append(Block(channels // 2**i))
        layers.append(nn.ConvTranspose2d(width, 3, 4, 2, 1, bias=False))
        self.dcl = nn.ModuleList(layers)
        self.rnn_noise = nn.GRU(noise_dim, noise_dim, batch_first=True)

    def forward(self, content, noise, identity, skips):
        b, t = content.shape[:2]
        noise = torch.tanh(self.rnn_noise(noise)[0])
        identity = identity[:, None].expand(-1, t, -1)
        latent = torch.cat([content, noise, identity], dim=-1).flatten(0, 1)
        x = self.dcl[0](latent[..., None, None])
        for block, skip in zip(self.dcl[1:-1], reversed(skips), strict=False):
            x = block(x, skip.repeat_interleave(t, dim=0))
        return torch.tanh(self.dcl[-1](x)).unflatten(0, (b, t))


class Generator(nn.Module):
    """Stills [B, 3, H, W], windows [B, T, samples], noise [B, T, N] to frames [B, T, 3, H, W]."""

    def __init__(self, config, window: int):
        super().__init__()
        size, image_size = config.generator, config.data.image_size
        audio = dict(window=window, rate=config.data.audio_rate, width=size.audio_width)
        self.encoder = ContentEncoder(
            size.audio_dim, size.content_dim, size.content_layers, **audio
        )
        self.encoder_id = IdentityEncoder(size.identity_dim, size.width, image_size)
        code_dim = size.content_dim + size.identity_dim
        self.generator = Decoder(code_dim, size.noise_dim, size.width, image_size)

    def forward(self, still, windows, noise):
        identity, skips = self.encoder_id(still)
        return self.generator(self.encoder(windows), noise, identity, skips)


class ImageEncoder(nn.Module):
    """Images [N, C, H, W] or videos [N, C, T, H, W] to vectors [N, features(, T)]."""

    def __init__(self, channels, features, width, size, slope=0.2, kernel_time=0):
        super().__init__()
        conv, norm = (nn.Conv3d, nn.BatchNorm3d) if kernel_time else (nn.Conv2d, nn.BatchNorm2d)
        time = (lambda of_time, *rest: (of_time, *rest)) if kernel_time else (lambda _, *rest: rest)
        layers = []
        for i in range(STRIDED):
            out = width * 2**i
            kernel, stride = time(kernel_time, 4, 4), time(1, 2, 2)
            layers.append(
                conv(channels, out, kernel, stride, time(kernel_time // 2, 1, 1), bias=i == 0)
            )
            layers += [norm(out)] if i else []
            layers.append(nn.LeakyReLU(slope, inplace=True))
            channels = out
        last = time(1, *(n // 2**STRIDED for n in size))
        self.layers = nn.Sequential(*layers, conv(channels, features, last))

    def forward(self, x):
        return self.layers(x)[..., 0, 0]


class FrameDiscriminator(nn.Module):
    """Frames [B, K, 3, H, W] and stills [B, 3, H, W] to logits [B, K]."""

    def __init__(self, config):
        super().__init__()
        size = config.frame_discriminator
        self.trunk = ImageEncoder(6, 1, size.width, config.data.image_size, size.negative_slope)

    def forward(self, frames, still):
        pairs = torch.cat([frames, still[:, None].expand_as(frames)], dim=2)
        return self.trunk(pairs.flatten(0, 1)).view(frames.shape[:2])


class SequenceDiscriminator(nn.Module):
    """Videos [B, T, 3, H, W] to logits [B]."""

    def __init__(self, config):
        super().__init__()
        size = config.sequence_discriminator
        self.encoder = ImageEncoder(
            3,
            size.features,
            size.width,
            config.data.image_size,
            size.negative_slope,
            size.kernel_time,
        )
        self.rnn = nn.GRU(size.features, size.hidden, size.num_layers, batch_first=True)
        self.classifier = nn.Linear(size.hidden, 1)

    def forward(self, video):
        features = self.encoder(video.transpose(1, 2)).transpose(1, 2)
        return self.classifier(self.rnn(features)[0][:, -1])[:, 0]


class SyncDiscriminator(nn.Module):
    """Snippets of lower halves [N, S, 3, H / 2, W] and windows [N, samples] to logits [N]."""

    def __init__(self, config, window: int):
        super().__init__()
        size, (height, width) = config.sync_discriminator, config.data.image_size
        channels = 3 * config.loss.snippet_frames
        self.lips = ImageEncoder(channels, size.features, size.width, (height // 2, width))
        self.sound = AudioEncoder(size.features, window, config.data.audio_rate, 16)
        self.weight = nn.Parameter(torch.tensor(-4.0 / size.features**0.5))
        self.bias = nn.Parameter(torch.tensor(2.0))

    def forward(self, snippets, windows):
        lips = torch.tanh(self.lips(snippets.flatten(1, 2)))
        distance = ((lips - self.sound(windows)).square().sum(-1) + 1e-8).sqrt()
        return self.weight * distance + self.bias


class Training:
    """The train step of `flax_talk.systems.temporal_gan`: the same losses, the same updates.

    Whole clips only: every frame is valid. As is usual in PyTorch, the discriminators learn first,
    and the generator from their new parameters.
    """

    def __init__(self, config, window: int):
        self.loss, self.window = config.loss, window
        self.generator = Generator(config, window)
        self.frame = FrameDiscriminator(config)
        self.sync = SyncDiscriminator(config, window)
        self.sequence = SequenceDiscriminator(config)
        rates = config.optimizer
        self.optimizers = {
            name: torch.optim.Adam(getattr(self, name).parameters(), rate.learning_rate)
            for name, rate in (
                ("generator", rates.generator),
                ("frame", rates.frame_discriminator),
                ("sync", rates.sync_discriminator),
                ("sequence", rates.sequence_discriminator),
            )
        }

    def step(self, still, video, windows, noise, index, centre, shifted) -> float:
        """One update of every player.

        Args:
            still: [B, 3, H, W]; video: [B, T, 3, H, W], in [-1, 1].
            windows: [B, T, samples]; noise: [B, T, N].
            index: [B, K], the frames that the frame discriminator sees.
            centre, shifted: [B, K], where the synchronisation discriminator looks.

        Returns:
            The generator's loss.
        """
        rows = torch.arange(len(still))[:, None]
        softplus, weights = nn.functional.softplus, self.loss
        half = weights.snippet_frames // 2
        offsets = torch.arange(-half, half + 1)
        lower = video.shape[3] // 2

        def snippets(video):
            places = (centre[..., None] + offsets).flatten(1)
            cut = video[:, :, :, lower:][rows, places]
            return cut.unflatten(1, (centre.shape[1], -1)).flatten(0, 1)

        def sound(places):
            return windows[rows, places].flatten(0, 1)

        fake = self.generator(still, windows, noise)
        constant = fake.detach()
        frame = softplus(-self.frame(video[rows, index], still)).mean()
        frame = frame + softplus(self.frame(constant[rows, index], still)).mean()
        sync = softplus(-self.sync(snippets(video), sound(centre))).mean()
        sync = sync + 0.5 * softplus(self.sync(snippets(video), sound(shifted))).mean()
        sync = sync + 0.5 * softplus(self.sync(snippets(constant), sound(centre))).mean()
        sequence = softplus(-self.sequence(video)).mean()
        sequence = sequence + softplus(self.sequence(constant)).mean()
        for name, loss in (("frame", frame), ("sync", sync), ("sequence", sequence)):
            self._update(name, loss)

        judges = (self.frame, self.sync, self.sequence)
        for judge in judges:
            judge.requires_grad_(False)
        total = weights.reconstruction * (fake - video)[..., lower:, :].abs().mean()
        total = total + weights.frame * softplus(-self.frame(fake[rows, index], still)).mean()
        judged = self.sync(snippets(fake), sound(centre))
        total = total + weights.sync * softplus(-judged).mean()
        total = total + weights.sequence * softplus(-self.sequence(fake)).mean()
        self._update("generator", total)
        for judge in judges:
            judge.requires_grad_(True)
        return float(total.detach())

    def _update(self, name, loss):
        optimizer = self.optimizers[name]
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()


def load(generator: Generator, path: Path) -> None:
    """Puts the weights of a file of `save_temporal_gan` into a generator."""
    file = torch.load(path, weights_only=False)
    for part in ("encoder", "encoder_id", "generator"):
        state = {name: torch.as_tensor(array) for name, array in file[part].items()}
        left = getattr(generator, part).load_state_dict(state, strict=False)
        missing = [name for name in left.missing_keys if "num_batches" not in name]
        assert not missing and not left.unexpected_keys, (missing, left.unexpected_keys)

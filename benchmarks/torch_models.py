"""temporal_gan_2019 in PyTorch, for comparison: the layers of `flax_talk.systems.temporal_gan`.

Written with PyTorch's own layers as its users would. The generator's parameters have the names of
the authors' files, so that `flax_talk.interop.temporal_gan_2019` carries ours over.
"""

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

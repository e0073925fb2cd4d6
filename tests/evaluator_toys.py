"""Toy encoders and labelled rows that evaluators are tested on."""

import io
from dataclasses import replace

import numpy as np
import torch
from PIL import Image
from sklearn.datasets import load_digits
from torch import nn

from ssl_runner.contract import Features, Samples, Split
from ssl_runner.dataset.shapes import Shapes
from ssl_runner.duration import Duration
from ssl_runner.layers.image_encoder import ImageEncoder

EVERY = Duration.parse("10%")
IMAGE = Samples("image", (3, 32, 32))
KINDS = {"text": Samples("text", (6,), vocabulary=9), "audio": Samples("audio", (1, 40), rate=8000)}


class Flat(ImageEncoder):
    """Features are the samples themselves, of whatever kind, so that they can be written down."""

    def __init__(self, dim=2):
        super().__init__((0.0,), (1.0,))
        self.dim, self.layer = dim, nn.Linear(2, 2)

    def forward(self, x, keep=None):
        pooled = x.float().flatten(1)
        return Features(pooled, pooled[:, None], (1,))


class Pixels(ImageEncoder):
    """Features are a coarse picture of 4 x 4. It keeps what it has seen."""

    dim = 3 * 16

    def __init__(self):
        super().__init__((0.0,) * 3, (1.0,) * 3)
        self.layer, self.seen = nn.Linear(2, 2), []

    def forward(self, x, keep=None):
        self.seen.append(x)
        pooled = nn.functional.adaptive_avg_pool2d(x, 4).flatten(1)
        return Features(pooled, pooled[:, None], (1,))


class Small(ImageEncoder):
    """A convolution, batch norm and dropout: state, modes and a global draw. `blind` sees pixels one by one."""

    dim = 8

    def __init__(self, seed=0, blind=False, dropout=0.2):
        super().__init__((0.5,) * 3, (0.25,) * 3)
        torch.manual_seed(seed)  # as the runner does: it seeds the global generators
        self.conv, self.norm, self.drop = nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8), nn.Dropout(dropout)
        if blind:
            self.conv.weight.data[:, :, [0, 0, 0, 1, 1, 2, 2, 2], [0, 1, 2, 0, 2, 0, 1, 2]] = 0

    def forward(self, x, keep=None):
        maps = self.drop(self.norm(self.conv(self.normalise(x))).relu())
        tokens = maps.flatten(2).transpose(1, 2)
        return Features(tokens.mean(1), tokens, tuple(maps.shape[2:]))


def same(rows):
    """Rows that are their own features."""
    return rows.float()


def encoded(encoder):
    return lambda rows: encoder(rows[torch.arange(len(rows))].float() / 255).pooled


def metrics(evaluator, encoder=None, encode=same):
    """What the runner gets: the encoder is frozen."""
    encoder = (encoder or Flat()).eval()
    with torch.no_grad():
        return dict(evaluator(encoder, encode))


def numbers(evaluator, encoder=None, encode=same):
    """Values by name."""
    return {name: metric.value for name, metric in metrics(evaluator, encoder, encode).items()}


def blobs(n, classes=3, d=6, spread=1.0, seed=0):
    """Gaussian classes that overlap at spread 1; the classes' centres are always the same."""
    centres = torch.randn(24, d, generator=torch.Generator().manual_seed(99))[:classes]
    y = torch.arange(n) % classes
    return Split(centres[y] + spread * torch.randn(n, d, generator=torch.Generator().manual_seed(seed)), y)


def corners(n, classes=3, seed=0, spread=0.3):
    """Classes along axes, far apart if the spread is small."""
    y = torch.arange(n) % classes
    return Split(5 * torch.eye(8)[y] + spread * torch.randn(n, 8, generator=torch.Generator().manual_seed(seed)), y)


def digits():
    x, y = load_digits(return_X_y=True)
    order = torch.randperm(len(x), generator=torch.Generator().manual_seed(0))
    x, y = torch.tensor(x, dtype=torch.float32)[order], torch.tensor(y)[order]
    return Split(x[:600], y[:600]), Split(x[600:1000], y[600:1000])


def stripes(n, classes=2, seed=0):
    """Upright and lying stripes (class 2: none) of random phase and contrast: all classes have the same mean colour."""
    rng = torch.Generator().manual_seed(seed)
    y = torch.arange(n) % classes
    wave = torch.tensor([1.0, -1.0]).repeat(4)  # (8,)
    phase = torch.randint(0, 2, (n,), generator=rng) * 2 - 1
    depth = (0.2 + 0.2 * torch.rand(n, generator=rng)) * phase
    fields = torch.stack([wave.expand(8, 8), wave[:, None].expand(8, 8), torch.zeros(8, 8)])
    x = 0.5 + depth.view(-1, 1, 1) * fields[y] + 0.05 * torch.randn(n, 8, 8, generator=rng)
    return Split((x.clamp(0, 1) * 255).to(torch.uint8)[:, None].repeat(1, 3, 1, 1), y)


def photographs():
    """300 images with something in every corner: coarse random colours, finer ones on them, and noise."""
    rng = torch.Generator().manual_seed(0)

    def field(size, amount):
        coarse = amount * torch.randn(300, 3, size, size, generator=rng)
        return nn.functional.interpolate(coarse, size=32, mode="bicubic")

    return (128 + field(4, 40) + field(10, 25) + field(32, 4)).round().clamp(0, 255).to(torch.uint8)


def saved(x, **options):
    """An image through a file."""
    file = io.BytesIO()
    Image.fromarray(x.permute(1, 2, 0).squeeze(2).numpy()).save(file, **options)
    return torch.from_numpy(np.array(Image.open(file))).reshape(*x.shape[1:], len(x)).permute(2, 0, 1)


class Tagged:
    """Shapes without a class, with several labels at once: whether each channel of the background is light."""

    def __init__(self, *, images: int, test: int):
        self.shapes = Shapes(images=images, test=test)
        self.samples, self.rows, self.targets = self.shapes.samples, self.shapes.rows, (*self.shapes.targets, "tags")

    def load(self):
        def tagged(split):
            return Split(split.x, targets={**split.targets, "tags": split.targets["background"] > 0.5})

        data = self.shapes.load()
        splits = {name: tagged(getattr(data, name)) for name in ("bank", "validation", "test")}
        return replace(data, classes=(), **splits)

"""Toy encoders and labelled rows that evaluators are tested on."""

import csv
import io
import random
from dataclasses import replace

import numpy as np
import torch
from PIL import Image
from sklearn.datasets import load_digits
from torch import nn

from ssl_runner.augment.image.views import Views
from ssl_runner.contract import Features, Samples, Split
from ssl_runner.dataset.shapes import Shapes
from ssl_runner.duration import Duration
from ssl_runner.layers.image_encoder import ImageEncoder

EVERY = Duration.parse("10%")
IMAGE, STRIPES = (Samples("image", (3, side, side)) for side in (32, 8))
AUGMENT = Views(scale=(0.8, 1.0), jitter=0.0, grey=0.0)
KINDS = {"text": Samples("text", (6,), vocabulary=9), "audio": Samples("audio", (1, 40), rate=8000)}
# Settings with which a protocol takes a moment, on few rows.
QUICK = {"finetune": {"epochs": 1}, "few_label": {"labels": (1, 4), "draws": 2, "steps": 2}, "cluster": {"restarts": 2}}
QUICK |= {"knn": {"k": 3}, "leakage": {"k": 3}, "robustness": {"k": 3, "corruptions": ("noise",)}}
QUICK |= {"geometry": {"samples": 40}, "projector": {"samples": 40}}


def quick(name):
    """The same as one types them."""
    settings = {key: list(each) if isinstance(each, tuple) else each for key, each in QUICK.get(name, {}).items()}
    return [f"evaluator.{name}.{key}={each}" for key, each in settings.items()]


class Flat(ImageEncoder):
    """Features are a measure of the samples, of whatever kind, at first these themselves; it keeps what it has seen."""

    def __init__(self, dim=2, measure=lambda x: x.float().flatten(1)):
        super().__init__((0.0,) * 3, (1.0,) * 3)
        self.dim, self.layer, self.measure, self.seen = dim, nn.Linear(2, 2), measure, []

    def forward(self, x, keep=None):
        self.seen.append(x)
        pooled = self.measure(x)
        return Features(pooled, pooled[:, None], (1,))


def pixels():
    """Its features are a coarse picture of 4 x 4."""
    return Flat(48, lambda x: nn.functional.adaptive_avg_pool2d(x, 4).flatten(1))


class Small(ImageEncoder):
    """A convolution, batch norm and dropout: state, modes and a global draw. `blind` sees pixels one by one."""

    dim = 8

    def __init__(self, seed=0, blind=False, dropout=0.2):
        super().__init__((0.5,) * 3, (0.25,) * 3)
        torch.manual_seed(seed), random.seed(seed), np.random.seed(seed % 2**32)  # noqa: NPY002  as the runner does
        self.conv, self.norm, self.drop = nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8), nn.Dropout(dropout)
        if blind:
            self.conv.weight.data[:, :, [0, 0, 0, 1, 1, 2, 2, 2], [0, 1, 2, 0, 2, 0, 1, 2]] = 0

    def forward(self, x, keep=None):
        maps = self.drop(self.norm(self.conv(self.normalise(x))).relu())
        tokens = maps.flatten(2).transpose(1, 2)
        return Features(tokens.mean(1), tokens, tuple(maps.shape[2:]))


def encoded(encoder):
    return lambda rows: encoder(rows[torch.arange(len(rows))].float() / 255).pooled


def metrics(evaluator, encoder=None, encode=None):
    """What the runner gets: the encoder is frozen. Without one, rows are their own features."""
    encode = encode or (encoded(encoder.eval()) if encoder else lambda rows: rows.float())
    with torch.no_grad():
        return dict(evaluator(encoder or Flat(), encode))


def numbers(evaluator, encoder=None, encode=None):
    """Values by name, without details."""
    return {name: metric.value for name, metric in metrics(evaluator, encoder, encode).items() if not metric.detail}


def blobs(n, classes=3, d=6, spread=1.0, seed=0, centres=None):
    """Gaussian classes that overlap at spread 1; the classes' centres are always the same."""
    if centres is None:
        centres = torch.randn(24, d, generator=torch.Generator().manual_seed(99))
    y = torch.arange(n) % classes
    return Split(centres[y] + spread * torch.randn(n, d, generator=torch.Generator().manual_seed(seed)), y)


def corners(n, classes=3, seed=0, spread=0.3):
    """Classes along axes, far apart if the spread is small."""
    return blobs(n, classes, 8, spread, seed, 5 * torch.eye(8))


def digits():
    x, y = (torch.from_numpy(each) for each in load_digits(return_X_y=True))
    bank, query = torch.randperm(len(x), generator=torch.Generator().manual_seed(0))[:1000].split([600, 400])
    return Split(x[bank].float(), y[bank]), Split(x[query].float(), y[query])


def stripes(n, classes=2, seed=0):
    """Upright and lying stripes (class 2: none) of random phase and contrast: all classes have the same mean colour."""
    rng, y = torch.Generator().manual_seed(seed), torch.arange(n) % classes
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


def table(path, *columns):
    """Columns of a CSV file, row by row."""
    with path.open() as file:
        return [tuple(row[column] for column in columns) for row in csv.DictReader(file)]


class Tagged:
    """Shapes without a class, with several labels at once: whether each channel of the background is light."""

    def __init__(self, *, images: int, test: int):
        self.shapes = Shapes(images=images, test=test)
        self.samples, self.rows, self.targets = self.shapes.samples, self.shapes.rows, (*self.shapes.targets, "tags")

    def load(self):
        data = self.shapes.load()
        splits = {name: getattr(data, name) for name in ("bank", "validation", "test")}
        tags = {name: {**each.targets, "tags": each.targets["background"] > 0.5} for name, each in splits.items()}
        return replace(data, classes=(), **{name: Split(each.x, targets=tags[name]) for name, each in splits.items()})

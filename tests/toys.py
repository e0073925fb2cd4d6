"""Small encoders, batches, contexts and the choices of conf/ for tests that need no job."""

import inspect
from functools import cache
from importlib import import_module

import torch
import torch.nn.functional as F
import yaml
from torch import Tensor, nn

from ssl_runner.augment.image.mask import patchify
from ssl_runner.augment.image.views import Views
from ssl_runner.config.compose import TREE
from ssl_runner.contract import Batch, Context, Features, Pretext
from ssl_runner.duration import Duration, Length
from ssl_runner.layers.counter_rng import CounterRng
from ssl_runner.layers.image_encoder import ImageEncoder
from ssl_runner.testing.jobs import EMBEDDED

SHAPE = (3, 8, 8)


class Conv(ImageEncoder):
    """A convolution, batch norm and the mean over places; a kernel of 1 pixel cannot see which way up an image is."""

    def __init__(self, dim: int = 12, kernel: int = 3, channels: int = 3):
        super().__init__((0.5,) * channels, (0.25,) * channels)
        self.dim = dim
        self.convolution = nn.Conv2d(channels, dim, kernel, stride=min(2, kernel), padding=kernel // 2, bias=False)
        self.norm = nn.BatchNorm2d(dim)

    def forward(self, x: Tensor, keep: Tensor | None = None) -> Features:
        maps = F.relu(self.norm(self.convolution(self.normalise(x))))
        return Features(maps.mean((2, 3)), maps.flatten(2).transpose(1, 2), tuple(maps.shape[2:]))


class Patches(ImageEncoder):
    """Patches of 2x2 pixels of an 8x8 image; each token reads its own patch, its place and the mean of those kept."""

    in_two_steps = True

    def __init__(self, dim: int = 16, mean: float = 0.5, std: float = 0.25):
        super().__init__((mean,) * 3, (std,) * 3)
        self.dim, self.patches = dim, nn.Linear(12, dim)
        self.place, self.mix = nn.Parameter(torch.randn(1, 16, dim)), nn.Linear(dim, dim)
        self.asked: list[bool] = []  # whether tokens were dropped, at each call

    def forward(self, x: Tensor, keep: Tensor | None = None) -> Features:
        self.asked.append(keep is not None)
        tokens = self.patches(patchify(self.normalise(x), (2, 2)))
        if tokens.shape[1] == 16:
            tokens = tokens + self.place
        if keep is not None:
            tokens = torch.take_along_dim(tokens, keep[..., None], dim=1)
        tokens = F.gelu(tokens) + self.mix(tokens.mean(1, keepdim=True))
        return Features(tokens.mean(1), tokens, (x.shape[2] // 2, x.shape[3] // 2))


def choice(group: str, name: str) -> tuple[type, dict, dict]:
    """The class that a YAML names, its settings as the constructor takes them, and the constructor's defaults."""
    settings = yaml.safe_load((TREE / group / f"{name}.yaml").read_text())
    for file in settings.pop("defaults", [])[1:] if group == "dataset" else ():
        settings |= yaml.safe_load((TREE / group / file.replace("@_here_", ".yaml")).read_text())
    settings.pop("recommends", None)
    module, _, kind = settings.pop("_target_").rpartition(".")
    target = getattr(import_module(module), kind)
    defaults = {key: p.default for key, p in inspect.signature(target).parameters.items()}
    for key, value in settings.items():
        parse = Duration.parse if isinstance(defaults.get(key), Duration) else lambda given: given
        settings[key] = tuple(value) if isinstance(value, list) else parse(value)
    assert all(p.kind is p.KEYWORD_ONLY for p in inspect.signature(target).parameters.values())
    return target, settings, defaults


@cache
def kind_of(group: str, name: str) -> str:
    """The kind of samples that a choice is of, or the first of those that it takes; images, unless it says another."""
    return getattr(choice(group, name)[0], "kinds", ("image",))[0]


def noise_of(kind: str, n: int = 8, seed: int = 0) -> Batch:
    """Noise as the embedded dataset of a kind has its samples."""
    target, settings, _ = choice("dataset", EMBEDDED[kind])
    samples = target(**settings).samples
    return Batch(samples.example(n, torch.Generator().manual_seed(seed)), torch.arange(n))


def still(**changes) -> Views:
    """A recipe that changes nothing, but for `changes`."""
    return Views(**{"scale": (1.0, 1.0), "ratio": (1.0, 1.0), "flip": 0.0, "jitter": 0.0, "grey": 0.0} | changes)


def context(seed: int = 0, step: int = 0, steps: int = 100) -> Context:
    return Context(step, Length(steps, 10, 8), CounterRng(seed, torch.device("cpu")), lambda: iter(()))


def batch(n: int = 8, seed: int = 0, shape: tuple[int, ...] = SHAPE) -> Batch:
    return Batch(torch.rand(n, *shape, generator=torch.Generator().manual_seed(seed)), torch.arange(n))


def colours(step: int, n: int = 32) -> Tensor:
    """Flat images of a colour of their own under fresh noise: what two views of a sample share is the colour."""
    rng = torch.Generator().manual_seed(10_000 + step)
    flat = torch.rand(n, 3, 1, 1, generator=rng)
    return (flat + 0.3 * torch.randn(n, *SHAPE, generator=rng)).clamp(0, 1)


def sweep_of(rows: int, size: int = 13):
    """ctx.sweep of rows of single colours, in batches of `size`."""
    parts = torch.arange(rows).split(size)
    return lambda: (Batch(colours(0, rows)[part], part) for part in parts)


def train(pretext: Pretext, steps: int, samples, rate: float = 1e-2, spoil=lambda views: views) -> None:
    """A plain loop for methods of one group: `samples(step)` are its images."""
    optimizer = torch.optim.Adam([p for p in pretext.parameters() if p.requires_grad], rate)
    pretext.train()
    for step in range(steps):
        ctx, x = context(step, step, steps), samples(step)
        with torch.no_grad():
            pretext.before_step(ctx)
            views = spoil(pretext.views(Batch(x, torch.arange(len(x))), ctx))
        optimizer.zero_grad()
        loss = pretext(views)
        loss.value.backward()
        optimizer.step()
        with torch.no_grad():
            pretext.after_step(ctx, loss.kept)


def number(scalar: Tensor) -> float:
    return scalar.detach().item()


def gradients(module: nn.Module) -> dict[str, float | None]:
    """The size of each parameter's gradient; None if it has none."""
    return {name: None if p.grad is None else float(p.grad.abs().sum()) for name, p in module.named_parameters()}


def wander(*modules: nn.Module) -> None:
    """Moves every parameter at random."""
    for p in (each for module in modules for each in module.parameters()):
        p.data.add_(0.1 * torch.randn_like(p))

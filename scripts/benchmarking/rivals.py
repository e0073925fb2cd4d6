"""What a user would otherwise train on CIFAR-10: the SimCLR recipes of lightly and solo-learn, by their own transforms.

Settings are of lightly's docs/source/getting_started/benchmarks/cifar10_benchmark.py and of solo-learn's
scripts/pretrain/cifar/simclr.yaml with augmentations/symmetric.yaml: ResNet-18, its views, head, temperature, batch and
optimizer, their epochs cut to the minutes that are allowed, with the cosine of the learning rate over these.

In the rivals' favour: images are decoded before, workers start and fetch before the clock does, nothing is logged or
saved, and the images' normalisation is the encoder's, so that its features are read as the runner's are. Lightly's head
and loss are its own. solo-learn pins an old Lightning and is not installed: its views are torchvision's on PIL images
in a DataLoader, as there, its loss is the runner's (the same function), and LARS is the runner's, which is faster.
"""

import math
import time
from collections.abc import Callable
from dataclasses import dataclass

import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.utils.data import DataLoader

from benchmarking.photographs import Endless, Photographs, Several, batches_of
from benchmarking.place import Place
from ssl_runner.contract import Encoder
from ssl_runner.layers.heads import mlp
from ssl_runner.loss.info_nce import nt_xent
from ssl_runner.optimizer.lars import LARS


@dataclass
class Rival:
    transform: Callable
    batch: int
    head: nn.Module
    loss: Callable[[Tensor, Tensor], Tensor]
    optimizer: torch.optim.Optimizer
    lr: float
    warm_up: float = 0.0  # share of the time

    def rate(self, share: float) -> float:
        """The learning rate once a share of the time is over."""
        if share < self.warm_up:
            return self.lr * share / self.warm_up
        return self.lr * 0.5 * (1 + math.cos(math.pi * (share - self.warm_up) / (1 - self.warm_up)))


def lightly(encoder: Encoder) -> Rival:
    from lightly.loss import NTXentLoss
    from lightly.models.modules import SimCLRProjectionHead
    from lightly.transforms import SimCLRTransform

    transform = SimCLRTransform(input_size=32, gaussian_blur=0.0, normalize=None)
    head = SimCLRProjectionHead(encoder.dim, 512, 128)
    parameters = [*encoder.parameters(), *head.parameters()]
    optimizer = torch.optim.SGD(parameters, lr=0.06, momentum=0.9, weight_decay=5e-4)
    return Rival(transform, 128, head, NTXentLoss(), optimizer, lr=0.06)


def solo_learn(encoder: Encoder) -> Rival:
    from torchvision.transforms import v2 as T

    view = T.Compose(
        [
            T.RandomResizedCrop(32, (0.08, 1.0), interpolation=T.InterpolationMode.BICUBIC),
            T.RandomApply([T.ColorJitter(0.8, 0.8, 0.8, 0.2)], p=0.8),
            T.RandomGrayscale(0.2),
            T.RandomApply([T.GaussianBlur(3, (0.1, 2.0))], p=0.5),
            T.RandomHorizontalFlip(0.5),
            T.PILToTensor(),
            T.ToDtype(torch.float32, scale=True),
        ]
    )
    head = mlp((encoder.dim, 2048, 256), norm=False)
    parameters = [*nn.ModuleDict({"encoder": encoder, "head": head}).named_parameters()]
    optimizer = LARS(batch_size=256, lr=0.4, weight_decay=1e-4, trust=0.02, trust_clip=True).build(parameters)

    def loss(first: Tensor, second: Tensor) -> Tensor:
        return nt_xent(torch.cat((first, second)), 0.2)[0]

    return Rival(Several(view, view), 256, head, loss, optimizer, lr=0.4, warm_up=0.01)


def train(name: str, encoder: Encoder, images: NDArray, seconds: float, place: Place) -> int:
    """Trains an encoder in place for some seconds, on (N, H, W, C) uint8, and returns the steps that it took."""
    encoder = place.model(encoder.train())
    rival = RIVALS[name](encoder)
    head, steps, share = place.model(rival.head.train()), 0, 0.0
    workers = max(place.workers)
    data = DataLoader(Photographs(images, rival.transform), rival.batch, sampler=Endless(len(images)), drop_last=True,
                      num_workers=workers)  # fmt: skip
    with batches_of(data) as batches:
        batch = next(batches)  # the workers have started
        began = time.perf_counter()
        while share < 1:
            for group in rival.optimizer.param_groups:
                group["lr"] = rival.rate(share)
            views = [place.images(view) for view in batch[0]]
            with place.autocast():
                loss = rival.loss(*(head(encoder(view).pooled) for view in views))
            rival.optimizer.zero_grad()
            loss.backward()
            rival.optimizer.step()
            batch, steps = next(batches), steps + 1
            place.synchronise()
            share = (time.perf_counter() - began) / seconds
    return steps


RIVALS: dict[str, Callable[[Encoder], Rival]] = {"lightly": lightly, "solo-learn": solo_learn}

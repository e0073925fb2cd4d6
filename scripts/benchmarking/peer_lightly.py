"""`peer-lightly`: lightly's transforms, DataLoader, heads and losses in the plain PyTorch loop of its examples.

The same as in the runner: the encoder, batch, optimizer class and rate, precision, sizes of the heads, temperature, and
the views' parameters (crop, flip, jitter, grey, no blur). What differs is lightly's: per-sample transforms on PIL
images, a forward pass for each view, its own loss, a batch norm at the end of its SimCLR head; and without `+ours` the
optimizer is torch's default (on a CPU a loop over the tensors, where the runner's is one fused kernel).

In the peer's favour: it does not normalise, for the encoder does; of 0 workers and one a core (beside a GPU 8 and one a
core, at most 16) it has what is faster here; no epoch ends; neither the start of the workers nor their first two waves
of batches are counted; and nothing is logged, scheduled, seeded or checked.

lightly has no rotation task and none of its masked autoencoders takes another's encoder. There the runner's task scores
what lightly's transforms made: a crop and a flip of each sample, turned as a batch once the loader has yielded it; or
its MAETransform (bicubic, the runner's is bilinear), with lightly's random_token_mask.
"""

import copy
from collections.abc import Callable
from typing import Any

import torch
from lightly.loss import NegativeCosineSimilarity, NTXentLoss
from lightly.models.modules import BYOLPredictionHead, BYOLProjectionHead, SimCLRProjectionHead
from lightly.models.utils import deactivate_requires_grad, random_token_mask, update_momentum
from lightly.transforms import BYOLTransform, MAETransform, SimCLRTransform
from lightly.transforms.byol_transform import BYOLView1Transform, BYOLView2Transform
from lightly.transforms.torchvision_v2_compatibility import torchvision_transforms as T
from torch import Tensor, nn

from benchmarking.handed import views_of
from benchmarking.loop import ByWorkers, timed, warm_up
from benchmarking.photographs import Several, batches_of, loader, photographs
from benchmarking.place import Place
from benchmarking.work import SIDE, Work
from ssl_runner.augment.image.views import Views
from ssl_runner.contract import Pretext


class SimCLR(nn.Module):
    def __init__(self, ours: Any, place: Place):
        super().__init__()
        self.backbone = ours.encoder
        self.projection_head = SimCLRProjectionHead(ours.encoder.dim, ours.hidden, ours.out)
        self.criterion = NTXentLoss(temperature=ours.temperature)

    def forward(self, images: list[Tensor]) -> Tensor:
        z0, z1 = (self.projection_head(self.backbone(x).pooled) for x in images)
        return self.criterion(z0, z1)

    def before(self) -> None:
        pass


class BYOL(nn.Module):
    def __init__(self, ours: Any, place: Place):
        super().__init__()
        self.backbone, self.momentum = ours.encoder, ours.momentum
        self.projection_head = BYOLProjectionHead(ours.encoder.dim, ours.hidden, ours.out)
        self.prediction_head = BYOLPredictionHead(ours.out, ours.hidden, ours.out)
        self.backbone_momentum = copy.deepcopy(self.backbone)
        self.projection_head_momentum = copy.deepcopy(self.projection_head)
        deactivate_requires_grad(self.backbone_momentum)
        deactivate_requires_grad(self.projection_head_momentum)
        self.criterion = NegativeCosineSimilarity()

    def forward(self, images: list[Tensor]) -> Tensor:
        p0, p1 = (self.prediction_head(self.projection_head(self.backbone(x).pooled)) for x in images)
        with torch.no_grad():
            z0, z1 = (self.projection_head_momentum(self.backbone_momentum(x).pooled) for x in images)
        return 0.5 * (self.criterion(p0, z1) + self.criterion(p1, z0))

    def before(self) -> None:
        update_momentum(self.backbone, self.backbone_momentum, m=self.momentum)
        update_momentum(self.projection_head, self.projection_head_momentum, m=self.momentum)


class Handed(nn.Module):
    """The runner's task, for what lightly has none of."""

    def __init__(self, ours: Pretext, place: Place):
        super().__init__()
        self.ours, self.place = ours, place

    def forward(self, images: list[Tensor]) -> Tensor:
        return self.ours(views_of(self.ours, images, self.place)).value

    def before(self) -> None:
        pass


class Masked(Handed):
    def forward(self, images: list[Tensor]) -> Tensor:
        size = (len(images[0]), self.ours.tokens)
        keep, masked = random_token_mask(size, self.ours.ratio, mask_class_token=True, device=self.place.device)
        return self.ours((images[0], keep, masked)).value


METHODS: dict[str, Callable[[Any, Place], Any]] = {"simclr": SimCLR, "byol": BYOL, "mae": Masked}


def transform(pretext: Any, name: str) -> Callable:
    """lightly's transform of a task, with the runner's parameters."""
    views: Views = pretext.augment
    if name == "mae":
        return MAETransform(input_size=SIDE, min_scale=views.scale[0], normalize=None)  # type: ignore[arg-type]
    if name == "rotation":
        crop = [T.RandomResizedCrop(SIDE, views.scale, views.ratio), T.RandomHorizontalFlip(views.flip), T.ToTensor()]
        return Several(T.Compose(crop))
    if name == "simclr":
        return SimCLRTransform(**words(views))
    first, second = words(views), words(pretext.augment_prime)
    first["solarization_prob"], second["solarization_prob"] = views.solarise, pretext.augment_prime.solarise
    return BYOLTransform(BYOLView1Transform(**first), BYOLView2Transform(**second))


def words(views: Views) -> dict[str, Any]:
    """A recipe of the runner's as lightly names it."""
    colour = {"cj_bright": views.brightness, "cj_contrast": views.contrast, "cj_sat": views.saturation}
    chances = {"cj_prob": views.jitter, "random_gray_scale": views.grey, "hf_prob": views.flip}
    size = {"input_size": SIDE, "min_scale": views.scale[0], "normalize": None}
    return {**size, **colour, **chances, "cj_strength": 1.0, "cj_hue": views.hue, "gaussian_blur": views.blur}


class Contestant(ByWorkers):
    def __init__(self, setting: Work, ours: bool):
        self.work, job = setting, setting.job()
        self.place = Place(job.device.build(), ours)
        pretext = setting.task()
        self.model: Any = self.place.model(METHODS.get(setting.pretext, Handed)(pretext, self.place).train())
        self.score = self.place.compiled(self.model)
        self.optimizer = self.place.optimizer(job.optimizer.build(batch_size=setting.batch), self.model)
        self.data = photographs(setting, transform(pretext, setting.pretext))
        self.choose_workers(self.place.workers, setting.trials)

    def run_with(self, steps: int, workers: int) -> float:
        with batches_of(loader(self.data, self.work, self.place, workers)) as batches:
            return timed(self.place, batches, self.learn, warm_up(workers), steps)

    def learn(self, batch: tuple[list[Tensor], Tensor]) -> None:
        self.place.step_begins()
        self.model.before()
        images = [self.place.images(x) for x in batch[0]]
        with self.place.autocast():
            loss = self.score(images)
        loss.backward()
        self.optimizer.step()
        self.optimizer.zero_grad()

    def close(self) -> None:
        pass

"""Section `augmentation`: views a second of the SimCLR recipe for 32 x 32, augmentation alone, from uint8 images in
memory to a float batch of 256 in [0, 1].

`fused` is the runner's, `kornia` the same recipe batched, `torchvision-pil` and `torchvision-tensor` one image at a
time, as in a DataLoader. On one thread each is by itself; on all of them the batched ones use torch's threads, the
per-sample ones a DataLoader with a worker for each core, over whole waves of their batches. Each has a process of its
own; only `fused` has the runner's allocator, as its users have.
"""

import itertools
import statistics
from collections.abc import Callable
from contextlib import ExitStack, closing
from dataclasses import dataclass
from typing import Any

import torch
from rich.table import Table
from torch import Tensor

from benchmarking.augmenters import kornia_batched, torchvision_pil, torchvision_tensor
from benchmarking.choices import installed
from benchmarking.loop import timed, warm_up, whole
from benchmarking.photographs import Photographs, batches_of, endless
from benchmarking.place import Place
from benchmarking.process import Hired
from benchmarking.settings import Settings
from benchmarking.turns import alternate, ratio
from benchmarking.work import pictures
from ssl_runner.augment.image.views import Views
from ssl_runner.data.machine import usable_cores
from ssl_runner.device.placement import Placement
from ssl_runner.layers.counter_rng import CounterRng

BATCH, ROWS = 256, 10_240
NAMES = ("fused", "kornia", "torchvision-pil", "torchvision-tensor")


@dataclass(frozen=True)
class Recipe:
    """Who augments, on a device and by how many threads or worker processes."""

    name: str
    device: str
    threads: int


class Each(torch.utils.data.Dataset):
    """Transformed rows of a tensor."""

    def __init__(self, images: Tensor, transform: Callable):
        self.images, self.transform = images, transform

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        return self.transform(self.images[index]), 0


class Contestant:
    def __init__(self, setting: Recipe, ours: bool):
        self.setting, self.note, self.took = setting, "", None
        self.workers = setting.threads if setting.threads > 1 else 0  # of those that take one image at a time
        self.place = Place(Placement(name=setting.device, threads=setting.threads), ours)  # type: ignore[arg-type]
        views, images = Views(), pictures(ROWS)
        self.batched: Callable[[Tensor], Any] | None = None
        if setting.name == "fused":
            rng = CounterRng(0, self.place.device)
            self.batched = lambda x: views(x, rng)
        elif setting.name == "kornia":
            self.batched = kornia_batched(views, self.place.device)
        elif setting.name == "torchvision-pil":
            array = images.permute(0, 2, 3, 1).contiguous().numpy()
            self.data: Any = Photographs(array, torchvision_pil(views))
        else:
            self.data = Each(images, torchvision_tensor(views))
        self.images = images.to(self.place.device)

    def turn(self, steps: int) -> int:
        return steps if self.batched is not None else whole(steps, self.workers)

    def run(self, steps: int) -> float:
        if self.batched is not None:
            return timed(self.place, itertools.cycle(self.images.split(BATCH)), self.augment, 1, steps)
        with batches_of(endless(self.data, BATCH, self.workers)) as batches:
            return timed(self.place, batches, lambda _: None, warm_up(self.workers), steps)

    @torch.no_grad()
    def augment(self, x: Tensor) -> None:
        assert self.batched is not None
        self.batched(x.float().div_(255))

    def close(self) -> None:
        pass


def measure(settings: Settings, tell: Callable[[str], None]) -> dict[str, Any]:
    names = [name for name in NAMES if name != "kornia" or installed("kornia")]
    found: dict[str, Any] = {"rows": [], "rounds": {}}
    with ExitStack() as stack:
        hired = {
            name: stack.enter_context(closing(Hired("benchmarking.augmentation", ours=name == "fused")))
            for name in names
        }
        for threads in dict.fromkeys((1,) if settings.quick else (1, usable_cores())):
            for name, each in hired.items():
                each.prepare(Recipe(name, settings.device, threads))
            rounds = alternate(
                hired,
                rounds=min(3, settings.rounds) if settings.quick else settings.rounds,
                seconds=min(0.5, settings.seconds / 2),
                tell=lambda doing, n=threads: tell(f"augmentation on {n} threads, {doing}"),  # type: ignore[misc]
            )
            found["rounds"][str(threads)] = rounds
            for name, times in rounds.items():
                row = {"contestant": name, "threads": threads, "images_per_second": BATCH / statistics.median(times)}
                found["rows"].append({**row, "fused_to_it": ratio(times, rounds["fused"])})
    return found


def tables(found: dict[str, Any]) -> list[Table]:
    table = Table("augmentation alone", "threads", "views/s", "fused to it", box=None)
    for row in found["rows"]:
        speed = f"{row['images_per_second']:,.0f}"
        table.add_row(row["contestant"], str(row["threads"]), speed, f"{row['fused_to_it']:.1f}")
    return [table]

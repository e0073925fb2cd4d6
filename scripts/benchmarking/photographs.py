"""Images as the peers' users have them: a dataset of PIL images, transformed one by one in a DataLoader."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler

from benchmarking.place import Place
from benchmarking.work import Work, pictures


class Photographs(Dataset):
    """The form of torchvision's CIFAR10: a uint8 array, each item a PIL image, transformed, and a label."""

    def __init__(self, images: NDArray, transform: Callable[[Image.Image], Any]):
        self.images, self.transform = images, transform  # (N, H, W, C)

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> tuple[Any, int]:
        return self.transform(Image.fromarray(self.images[index])), 0


def photographs(work: Work, transform: Callable[[Image.Image], Any]) -> Photographs:
    return Photographs(pictures(work.rows).permute(0, 2, 3, 1).contiguous().numpy(), transform)


class Several:
    """Views of an image, one for each transform."""

    def __init__(self, *transforms: Callable[[Image.Image], Tensor]):
        self.transforms = transforms

    def __call__(self, image: Image.Image) -> list[Tensor]:
        return [transform(image) for transform in self.transforms]


class Endless(Sampler[int]):
    """Permutations of the rows, one after another: a turn never meets the end of an epoch, where workers start anew."""

    def __init__(self, rows: int):
        self.rows = rows

    def __iter__(self) -> Iterator[int]:
        while True:
            yield from torch.randperm(self.rows).tolist()


def endless(data: Dataset, batch: int, workers: int, pinned: bool = False) -> DataLoader:
    """As lightly's and solo-learn's examples have their loaders, but for the end of an epoch."""
    order = Endless(len(data))  # type: ignore[arg-type]
    return DataLoader(data, batch, sampler=order, drop_last=True, num_workers=workers, pin_memory=pinned)


def loader(data: Dataset, work: Work, place: Place, workers: int) -> DataLoader:
    return endless(data, work.batch, workers, pinned=place.device.type == "cuda")


@contextmanager
def batches_of(data: DataLoader) -> Iterator[Iterator[Any]]:
    """Its batches; its workers end here, whatever happens, so that they do not work while others have their turn."""
    iterator = iter(data)
    try:
        yield iterator
    finally:
        if hasattr(iterator, "_shutdown_workers"):
            iterator._shutdown_workers()

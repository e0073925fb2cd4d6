"""Images as the peers' users have them: a dataset of PIL images, transformed one by one in a DataLoader."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from numpy.typing import NDArray
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

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
    """Views of an image, one for each transform; or, `turned`, the only one in its four right-angle turns."""

    def __init__(self, *transforms: Callable[[Image.Image], Tensor], turned: bool = False):
        self.transforms, self.turned = transforms, turned

    def __call__(self, image: Image.Image) -> list[Tensor]:
        views = [transform(image) for transform in self.transforms]
        return [views[0].rot90(k, (1, 2)) for k in range(4)] if self.turned else views


def loader(dataset: Dataset, work: Work, place: Place, workers: int) -> DataLoader:
    """As lightly's and solo-learn's examples have it."""
    pinned = place.device.type == "cuda"
    return DataLoader(dataset, work.batch, shuffle=True, drop_last=True, num_workers=workers, pin_memory=pinned)


def warm_up(workers: int, batches: int) -> int:
    """Steps until a loader that had nothing to do no longer lives on what it has fetched ahead."""
    return min(2 * workers + 1, max(1, batches // 2))


@contextmanager
def epoch(batches: DataLoader) -> Iterator[Iterator[Any]]:
    """The batches of one epoch; its workers end here, so that they do not work while others have their turn."""
    iterator = iter(batches)
    yield iterator
    if hasattr(iterator, "_shutdown_workers"):
        iterator._shutdown_workers()

"""CIFAR-10 and CIFAR-100: photographs of 32 x 32 in ten classes or a hundred, 50,000 for training, 10,000 for test.

Krizhevsky. Learning multiple layers of features from tiny images. Technical report, University of Toronto, 2009.
"""

import warnings
from pathlib import Path

import torch

from ssl_runner.contract import Samples, Split
from ssl_runner.data.download import Published


class CIFAR10(Published):
    """Ten classes of animals and vehicles, in the files of `cifar-10-batches-py`."""

    samples = Samples("image", (3, 32, 32))
    folder = "cifar-10-batches-py"
    files = (*(f"data_batch_{i}" for i in range(1, 6)), "test_batch", "batches.meta")
    url = "https://www.cs.toronto.edu/~kriz/cifar-10-python.tar.gz"
    archive = "cifar-10-python.tar.gz"
    counts = (5000,) * 10

    def read(self, folder: Path) -> tuple[Split, Split, tuple[str, ...]]:
        from torchvision import datasets

        published = getattr(datasets, type(self).__name__)
        flat = type(published.__name__, (published,), {"base_folder": ""})
        with warnings.catch_warnings():  # torchvision holds each file against its published MD5 before it unpickles it
            # 2025-12: the published pickles hold dtypes in a way that NumPy 2.4 deprecates.
            warnings.filterwarnings("ignore", message=r".*align should be passed")
            parts = [flat(folder, train=True), flat(folder, train=False)]
        images = [torch.from_numpy(part.data).permute(0, 3, 1, 2).contiguous() for part in parts]  # (N, 3, 32, 32)
        train, test = (Split(x, torch.tensor(part.targets)) for x, part in zip(images, parts, strict=True))
        return train, test, tuple(parts[0].classes)


class CIFAR100(CIFAR10):
    """A hundred classes, the fine labels, in the files of `cifar-100-python`."""

    folder = "cifar-100-python"
    files = ("train", "test", "meta")
    url = "https://www.cs.toronto.edu/~kriz/cifar-100-python.tar.gz"
    archive = "cifar-100-python.tar.gz"
    counts = (500,) * 100

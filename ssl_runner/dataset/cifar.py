"""Photographs of 32 x 32 in ten classes or a hundred: 50,000 training and 10,000 test images.

Krizhevsky. Learning multiple layers of features from tiny images. Technical report, University of Toronto, 2009.
"""

import warnings
from typing import Annotated, ClassVar

import torch
from annotated_types import Ge, Interval

from ssl_runner.contract import Data, Samples
from ssl_runner.data.download import Published


class CIFAR10:
    """Ten classes of animals and vehicles.

    Args:
        root: folder that holds `cifar-10-batches-py`, or that folder itself.
        download: fetch and unpack the archive into the root where the files are absent.
        validation: share of the training images, the same of every class; 0 for none.
        split_seed: of that share. It is the data's own: runs of other seeds see the same split.

    Raises:
        FileNotFoundError: absent and not to be downloaded.
    """

    PUBLISHED: ClassVar = Published(
        name="cifar10",
        folder="cifar-10-batches-py",
        files=(*(f"data_batch_{i}" for i in range(1, 6)), "test_batch", "batches.meta"),
        url="https://www.cs.toronto.edu/~kriz/cifar-10-python.tar.gz",
        counts=(5000,) * 10,
        archive="cifar-10-python.tar.gz",
    )

    def __init__(
        self,
        *,
        root: str = "data",
        download: bool = True,
        validation: Annotated[float, Interval(ge=0, lt=1)] = 0.1,
        split_seed: Annotated[int, Ge(0)] = 0,
    ):
        self.root = root
        self.download = download
        self.validation = validation
        self.split_seed = split_seed
        self.samples = Samples("image", (3, 32, 32))
        self.rows = self.PUBLISHED.rows(validation)
        self.PUBLISHED.require(root, download)

    def load(self) -> Data:
        """Reads and checks the files. Raises ConnectionError where a download fails, ValueError where one is torn."""
        from torchvision import datasets

        published = getattr(datasets, type(self).__name__)
        folder = self.PUBLISHED.fetch(self.root, lambda aside: published(aside, download=True))
        flat = type(published.__name__, (published,), {"base_folder": ""})
        try:  # torchvision holds each file against its published MD5 before it unpickles it
            with warnings.catch_warnings():
                # 2025-12: the published pickles hold dtypes in a way that NumPy 2.4 deprecates.
                warnings.filterwarnings("ignore", message=r".*align should be passed")
                train, test = flat(folder, train=True), flat(folder, train=False)
        except RuntimeError as problem:
            raise self.PUBLISHED.torn(folder, problem) from problem
        images, labels = (
            [torch.from_numpy(part.data).permute(0, 3, 1, 2).contiguous() for part in (train, test)],  # (N, 3, 32, 32)
            [torch.tensor(part.targets) for part in (train, test)],
        )
        return self.PUBLISHED.supervised(
            folder,
            (images[0], labels[0]),
            (images[1], labels[1]),
            classes=tuple(train.classes),
            validation=self.validation,
            seed=self.split_seed,
        )


class CIFAR100(CIFAR10):
    """A hundred classes, the fine labels.

    Args: as of CIFAR10, `cifar-100-python` in place of `cifar-10-batches-py`.
    """

    PUBLISHED: ClassVar = Published(
        name="cifar100",
        folder="cifar-100-python",
        files=("train", "test", "meta"),
        url="https://www.cs.toronto.edu/~kriz/cifar-100-python.tar.gz",
        counts=(500,) * 100,
        archive="cifar-100-python.tar.gz",
    )

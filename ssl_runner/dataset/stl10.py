"""Photographs of 96 x 96: 100,000 without labels to learn from, 5,000 and 8,000 of ten classes to be measured on.

Coates, Lee, Ng. An analysis of single-layer networks in unsupervised feature learning. AISTATS 2011.
"""

from pathlib import Path
from typing import Annotated, ClassVar

import numpy as np
import torch
from annotated_types import Ge, Interval
from jaxtyping import Int, UInt8
from torch import Tensor

from ssl_runner.contract import Data, Samples, Split
from ssl_runner.data.download import Published
from ssl_runner.data.image_files.cache import mapped
from ssl_runner.data.split import Subset
from ssl_runner.data.statistics import fingerprint, statistics

PIXELS = 3 * 96 * 96  # bytes an image


class STL10:
    """The unlabelled part is the training set, the labelled one bank and validation. Files are mapped, not copied.

    Args:
        root: folder that holds `stl10_binary`, or that folder itself.
        download: fetch and unpack the archive (2.6 GB) into the root where the files are absent.
        validation: share of the 5,000 labelled images, the same of every class; 0 for none.
        split_seed: of that share. It is the data's own: runs of other seeds see the same split.

    Raises:
        FileNotFoundError: absent and not to be downloaded.
    """

    PUBLISHED: ClassVar = Published(
        name="stl10",
        folder="stl10_binary",
        files=("unlabeled_X.bin", "train_X.bin", "train_y.bin", "test_X.bin", "test_y.bin"),
        url="http://ai.stanford.edu/~acoates/stl10/stl10_binary.tar.gz",
        counts=(500,) * 10,
        archive="stl10_binary.tar.gz",
    )
    UNLABELLED: ClassVar = 100_000
    CLASSES: ClassVar = ("airplane", "bird", "car", "cat", "deer", "dog", "horse", "monkey", "ship", "truck")

    def __init__(
        self,
        *,
        root: str = "data",
        download: bool = True,
        validation: Annotated[float, Interval(ge=0, lt=1)] = 0.2,
        split_seed: Annotated[int, Ge(0)] = 0,
    ):
        self.root = root
        self.download = download
        self.validation = validation
        self.split_seed = split_seed
        self.samples = Samples("image", (3, 96, 96))
        self.rows = self.UNLABELLED
        self.PUBLISHED.require(root, download)

    def load(self) -> Data:
        """Maps the files. Raises ConnectionError where a download fails, ValueError where a file is torn."""
        folder = self.PUBLISHED.fetch(self.root, self._fetch)
        train = self._images(folder / "unlabeled_X.bin")
        if len(train) != self.UNLABELLED:
            raise self.PUBLISHED.torn(folder, f"{len(train)} images in unlabeled_X.bin, published {self.UNLABELLED}")
        images, labels = self._images(folder / "train_X.bin"), self._labels(folder / "train_y.bin")
        bank, validation = self.PUBLISHED.labelled(folder, images, labels, self.validation, self.split_seed)
        test = Split(self._images(folder / "test_X.bin"), self._labels(folder / "test_y.bin"))
        mean, std = statistics(train)
        some = Subset(train, torch.arange(0, len(train), 100))  # 2.8 GB would take long
        return Data(
            train=train,
            bank=bank,
            validation=validation,
            test=test,
            mean=mean,
            std=std,
            classes=self.CLASSES,
            fingerprint=fingerprint(some, bank.x, bank.y, test.y),
        )

    def _images(self, path: Path) -> UInt8[Tensor, "n 3 96 96"]:
        if path.stat().st_size % PIXELS or not path.stat().st_size:
            raise self.PUBLISHED.torn(path.parent, f"{path.name} has {path.stat().st_size} bytes, {PIXELS} an image")
        x = mapped(np.memmap(path, dtype=np.uint8, mode="r").reshape(-1, 3, 96, 96))
        return x.transpose(2, 3)  # the files hold columns

    def _labels(self, path: Path) -> Int[Tensor, " n"]:
        return torch.from_numpy(np.fromfile(path, dtype=np.uint8)).long() - 1  # the files count from 1

    def _fetch(self, aside: str) -> object:
        from torchvision import datasets

        return datasets.STL10(aside, split="test", download=True)

"""STL-10: photographs of 96 x 96, 100,000 unlabelled for training, 5,000 and 8,000 of ten classes for measuring.

Coates, Lee, Ng. An analysis of single-layer networks in unsupervised feature learning. AISTATS 2011.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np
import torch
from jaxtyping import Int, UInt8
from torch import Tensor

from ssl_runner.contract import Data, Samples, Split
from ssl_runner.data.download import Published
from ssl_runner.data.rows import Share, Subset, fingerprint, statistics, wrap_array

PIXELS = 3 * 96 * 96  # bytes an image


@dataclass(kw_only=True)
class STL10(Published):
    """The unlabelled part is the training set, the labelled one bank and validation. Files are mapped, not copied.

    The archive has 2.6 GB. Of the challenges, `subset` is of the unlabelled part, `label_noise` of the labelled one;
    images of both are corrupted or have parts missing.
    """

    validation: Share = 0.2  # of the 5,000 labelled images

    samples = Samples("image", (3, 96, 96))
    folder = "stl10_binary"
    files = ("unlabeled_X.bin", "train_X.bin", "train_y.bin", "test_X.bin", "test_y.bin")
    url = "http://ai.stanford.edu/~acoates/stl10/stl10_binary.tar.gz"
    archive = "stl10_binary.tar.gz"
    calls = ({"split": "test"},)
    counts = (500,) * 10
    classes = ("airplane", "bird", "car", "cat", "deer", "dog", "horse", "monkey", "ship", "truck")
    training_counts: ClassVar = (100_000,)  # type: ignore[misc]  # unlabelled, and none of them is held out
    has_labels: ClassVar = True  # type: ignore[misc]

    def load(self) -> Data:
        """Maps the files. Raises ConnectionError if a download fails, ValueError if a file is torn."""
        folder = self.fetch()
        train = self.images(folder / "unlabeled_X.bin")
        if len(train) != self.training_counts[0]:
            raise self.torn(folder, f"{len(train)} images in unlabeled_X.bin, published {self.training_counts[0]}")
        files = ((folder / f"{part}_X.bin", folder / f"{part}_y.bin") for part in ("train", "test"))
        labelled, test = (Split(self.images(x), labels(y)) for x, y in files)
        bank, validation = self.split(folder, labelled)
        some = Subset(train, torch.arange(0, len(train), 100))  # 2.8 GB would take long
        digest = fingerprint(some, bank.x, bank.y, test.y)
        return self.apply(Data(train, bank, validation, test, *statistics(train), self.classes, digest))

    def images(self, path: Path) -> UInt8[Tensor, "n 3 96 96"]:
        size = path.stat().st_size
        if size % PIXELS or not size:
            raise self.torn(path.parent, f"{path.name} has {size} bytes, {PIXELS} an image")
        x = wrap_array(np.memmap(path, dtype=np.uint8, mode="r").reshape(-1, 3, 96, 96))
        return x.transpose(2, 3)  # the files hold columns


def labels(path: Path) -> Int[Tensor, " n"]:
    return torch.from_numpy(np.fromfile(path, dtype=np.uint8)).long() - 1  # the files count from 1

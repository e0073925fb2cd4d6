"""Handwritten digits and clothes, 28 x 28 grey: 60,000 training and 10,000 test images in ten classes each.

MNIST: LeCun, Bottou, Bengio, Haffner. Gradient-based learning applied to document recognition. Proc. IEEE 1998.
Fashion-MNIST: Xiao, Rasul, Vollgraf. Fashion-MNIST: a novel image dataset for benchmarking. arXiv:1708.07747.
"""

import gzip
import math
import struct
import zlib
from pathlib import Path
from typing import Annotated, ClassVar

import torch
from annotated_types import Ge, Interval
from jaxtyping import UInt8
from torch import Tensor

from ssl_runner.contract import Data, Samples
from ssl_runner.data.download import Published

FILES = ("train-images-idx3-ubyte", "train-labels-idx1-ubyte", "t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte")


class MNIST:
    """Ten handwritten digits.

    Args:
        root: folder that holds the four idx files, gzipped or not, or `MNIST/raw` with them. It may be read-only.
        download: fetch them into the root where they are absent.
        validation: share of the training images, the same of every class; 0 for none.
        split_seed: of that share. It is the data's own: runs of other seeds see the same split.

    Raises:
        FileNotFoundError: absent and not to be downloaded.
    """

    PUBLISHED: ClassVar = Published(
        name="mnist",
        folder="MNIST/raw",
        files=FILES,
        url="https://ossci-datasets.s3.amazonaws.com/mnist/",
        counts=(5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949),
    )
    CLASSES: ClassVar = tuple("0123456789")

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
        self.samples = Samples("image", (1, 28, 28))
        self.rows = self.PUBLISHED.rows(validation)
        self.PUBLISHED.require(root, download)

    def load(self) -> Data:
        """Reads the files. Raises ConnectionError where a download fails, ValueError where a file is torn."""
        folder = self.PUBLISHED.fetch(self.root, self._fetch)
        try:
            images, labels, test_images, test_labels = (idx(folder / file) for file in FILES)
        except ValueError as problem:
            raise self.PUBLISHED.torn(folder, problem) from problem
        return self.PUBLISHED.supervised(
            folder,
            (images[:, None], labels.long()),  # (N, 28, 28) -> (N, 1, 28, 28)
            (test_images[:, None], test_labels.long()),
            classes=self.CLASSES,
            validation=self.validation,
            seed=self.split_seed,
        )

    def _fetch(self, aside: str) -> object:
        from torchvision import datasets

        return getattr(datasets, type(self).__name__)(aside, download=True)


class FashionMNIST(MNIST):
    """Ten kinds of clothes, in files of MNIST's names; Debian's package dataset-fashion-mnist holds them.

    Args: as of MNIST, `FashionMNIST/raw` in place of `MNIST/raw`.
    """

    PUBLISHED: ClassVar = Published(
        name="fashion_mnist",
        folder="FashionMNIST/raw",
        files=FILES,
        url="https://github.com/zalandoresearch/fashion-mnist (or install Debian's package dataset-fashion-mnist)",
        counts=(6000,) * 10,
    )
    CLASSES: ClassVar = (
        "T-shirt/top",
        "Trouser",
        "Pullover",
        "Dress",
        "Coat",
        "Sandal",
        "Shirt",
        "Sneaker",
        "Bag",
        "Ankle boot",
    )


def idx(path: Path) -> UInt8[Tensor, "*shape"]:
    """The bytes of an idx file, gzipped or not: two zeros, 8 for uint8, the number of axes, their lengths, the numbers.

    torchvision's reader takes no gzipped file.

    Raises:
        ValueError: the file is cut short or no idx file of bytes.
    """
    try:
        raw = path.read_bytes() if path.is_file() else gzip.decompress(path.with_name(f"{path.name}.gz").read_bytes())
    except (EOFError, gzip.BadGzipFile, zlib.error) as problem:
        raise ValueError(f"{path.name}.gz: {problem}") from problem
    if len(raw) < 4 or raw[:3] != b"\0\0\x08" or len(raw) < 4 + 4 * raw[3]:
        raise ValueError(f"{path.name} is no idx file of bytes")
    start = 4 + 4 * raw[3]
    shape = struct.unpack(f">{raw[3]}I", raw[4:start])
    if len(raw) != start + math.prod(shape):
        raise ValueError(f"{path.name} has {len(raw)} bytes, its header wants {start + math.prod(shape)}")
    return torch.frombuffer(bytearray(raw), dtype=torch.uint8, offset=start).view(shape)

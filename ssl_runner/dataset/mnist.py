"""MNIST and Fashion-MNIST: digits and clothes, 28 x 28 grey, ten classes, 60,000 for training, 10,000 for test.

MNIST: LeCun, Bottou, Bengio, Haffner. Gradient-based learning applied to document recognition. Proc. IEEE 1998.
Fashion-MNIST: Xiao, Rasul, Vollgraf. Fashion-MNIST: a novel image dataset for benchmarking. arXiv:1708.07747.
"""

import gzip
import struct
import zlib
from pathlib import Path

import torch
from jaxtyping import UInt8
from torch import Tensor

from ssl_runner.contract import Samples, Split
from ssl_runner.data.download import Published


class MNIST(Published):
    """Ten handwritten digits, in four idx files, gzipped or not."""

    samples = Samples("image", (1, 28, 28))
    folder = "MNIST/raw"
    files = ("train-images-idx3-ubyte", "train-labels-idx1-ubyte", "t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte")
    url = "https://ossci-datasets.s3.amazonaws.com/mnist/"
    counts = (5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949)

    def read(self, folder: Path) -> tuple[Split, Split, tuple[str, ...]]:
        images, labels, test_images, test_labels = (read_idx(folder / file) for file in self.files)
        train = Split(images[:, None], labels.long())  # (N, 28, 28) -> (N, 1, 28, 28)
        return train, Split(test_images[:, None], test_labels.long()), self.classes


class FashionMNIST(MNIST):
    """Ten kinds of clothes, in files of MNIST's names; Debian's package dataset-fashion-mnist holds them."""

    folder = "FashionMNIST/raw"
    url = "https://github.com/zalandoresearch/fashion-mnist (or install Debian's package dataset-fashion-mnist)"
    counts = (6000,) * 10
    classes = ("T-shirt/top", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot")


def read_idx(path: Path) -> UInt8[Tensor, "*shape"]:
    """The bytes of an idx file, gzipped or not: two zeros, 8 for uint8, the number of axes, their lengths, the numbers.

    torchvision's reader takes no gzipped file. Raises ValueError if the file is cut short or no idx file of bytes.
    """
    try:
        raw = path.read_bytes() if path.is_file() else gzip.decompress(path.with_name(f"{path.name}.gz").read_bytes())
        if raw[:3] != b"\0\0\x08":
            raise ValueError(f"it begins with {raw[:3]!r}")
        shape = struct.unpack_from(f">{raw[3]}I", raw, offset=4)
        return torch.frombuffer(bytearray(raw), dtype=torch.uint8, offset=4 + 4 * len(shape)).view(shape)
    except (EOFError, IndexError, RuntimeError, ValueError, gzip.BadGzipFile, struct.error, zlib.error) as problem:
        raise ValueError(f"{path.name} is no whole idx file of bytes, gzipped or not: {problem}") from problem

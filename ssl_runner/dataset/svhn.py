"""SVHN: house numbers cropped to a digit of 32 x 32, 73,257 for training, 26,032 for test.

Netzer, Wang, Coates, Bissacco, Wu, Ng. Reading digits in natural images with unsupervised feature learning. NIPS
workshop 2011.
"""

from pathlib import Path

import torch

from ssl_runner.contract import Samples, Split
from ssl_runner.data.download import Published


class SVHN(Published):
    """Ten digits, the `train` and `test` parts; the `extra` part is left out."""

    samples = Samples("image", (3, 32, 32))
    files = ("train_32x32.mat", "test_32x32.mat")
    url = "http://ufldl.stanford.edu/housenumbers/"
    calls = ({"split": "train"}, {"split": "test"})
    counts = (4948, 13861, 10585, 8497, 7458, 6882, 5727, 5595, 5045, 4659)

    def read(self, folder: Path) -> tuple[Split, Split, tuple[str, ...]]:
        from torchvision import datasets

        parts = [datasets.SVHN(folder, **arguments) for arguments in self.calls]  # the files hold (H, W, C, N)
        train, test = (Split(torch.from_numpy(x.data).contiguous(), torch.from_numpy(x.labels)) for x in parts)
        return train, test, self.classes

"""House numbers from the street, cropped to a digit of 32 x 32: 73,257 training and 26,032 test images.

Netzer, Wang, Coates, Bissacco, Wu, Ng. Reading digits in natural images with unsupervised feature learning. NIPS
workshop 2011.
"""

from typing import Annotated, ClassVar

import torch
from annotated_types import Ge, Interval

from ssl_runner.contract import Data, Samples
from ssl_runner.data.download import Published


class SVHN:
    """Ten digits, the `train` and `test` parts; the `extra` part is left out.

    Args:
        root: folder that holds `train_32x32.mat` and `test_32x32.mat`.
        download: fetch them into the root where they are absent.
        validation: share of the training images, the same of every class; 0 for none.
        split_seed: of that share. It is the data's own: runs of other seeds see the same split.

    Raises:
        FileNotFoundError: absent and not to be downloaded.
    """

    PUBLISHED: ClassVar = Published(
        name="svhn",
        folder="",
        files=("train_32x32.mat", "test_32x32.mat"),
        url="http://ufldl.stanford.edu/housenumbers/",
        counts=(4948, 13861, 10585, 8497, 7458, 6882, 5727, 5595, 5045, 4659),
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

        def fetch(aside: str) -> None:
            for part in ("train", "test"):
                datasets.SVHN(aside, split=part, download=True)

        folder = self.PUBLISHED.fetch(self.root, fetch)
        try:
            train, test = (datasets.SVHN(folder, split=part) for part in ("train", "test"))
        except RuntimeError as problem:
            raise self.PUBLISHED.torn(folder, problem) from problem
        images = [torch.from_numpy(part.data).contiguous() for part in (train, test)]  # the files hold (H, W, C, N)
        return self.PUBLISHED.supervised(
            folder,
            (images[0], torch.from_numpy(train.labels)),
            (images[1], torch.from_numpy(test.labels)),
            classes=tuple("0123456789"),
            validation=self.validation,
            seed=self.split_seed,
        )

"""scikit-learn's bundled handwriting: 1,797 grey digits of 8 x 8 pixels; nothing is downloaded.

Source: the test part of Optical Recognition of Handwritten Digits, E. Alpaydin and C. Kaynak, UCI repository, 1998.
"""

from __future__ import annotations

from typing import Annotated, Literal

import torch
from annotated_types import Ge, Interval
from torch import nn

from ssl_runner.contract import Data, Samples, Split
from ssl_runner.data.split import held_out, stratified
from ssl_runner.data.statistics import fingerprint, statistics

COUNTS = (178, 182, 177, 183, 181, 182, 181, 179, 174, 180)  # images of each digit


class Digits:
    """Ten handwritten digits, grey.

    Args:
        validation: share of what the test part leaves, the same of every digit; 0 for none.
        test: share of all images, likewise.
        size: pixels a side; above 8 the images are enlarged, linearly.
        seed: of the split. It is the data's own: runs of other seeds see the same split.
    """

    def __init__(
        self,
        *,
        validation: Annotated[float, Interval(ge=0, lt=1)] = 0.15,
        test: Annotated[float, Interval(ge=0, lt=1)] = 0.2,
        size: Literal[8, 16, 32] = 8,
        seed: Annotated[int, Ge(0)] = 0,
    ):
        self.validation = validation
        self.test = test
        self.size = size
        self.seed = seed
        self.samples = Samples("image", (1, size, size))
        kept = [count - held_out(count, test) for count in COUNTS]
        self.rows = sum(count - held_out(count, validation) for count in kept)

    def load(self) -> Data:
        from sklearn.datasets import load_digits  # a second of import, and only this dataset needs it

        bundle = load_digits()
        grey = torch.from_numpy(bundle.images).float()[:, None] * (255 / 16)  # 0 to 16 in the file
        if self.size > 8:
            grey = nn.functional.interpolate(grey, size=(self.size, self.size), mode="bilinear", align_corners=False)
        x, y = grey.round().to(torch.uint8), torch.from_numpy(bundle.target).long()
        rest, test = stratified(y, self.test, self.seed)
        part, held = stratified(y[rest], self.validation, self.seed)
        train, validation, unseen = (Split(x[rows], y[rows]) for rows in (rest[part], rest[held], test))
        mean, std = statistics(train.x)
        return Data(
            train=train.x,
            bank=train,
            validation=validation if len(held) else None,
            test=unseen if len(test) else None,
            mean=mean,
            std=std,
            classes=tuple("0123456789"),
            fingerprint=fingerprint(train.x, validation.x, unseen.x),
        )

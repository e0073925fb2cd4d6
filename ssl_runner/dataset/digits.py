"""scikit-learn's digits: 1,797 handwritten ones, grey, 8 x 8 pixels; nothing is downloaded.

Source: the test part of Optical Recognition of Handwritten Digits, E. Alpaydin and C. Kaynak, UCI repository, 1998.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Literal

import torch
from annotated_types import Ge
from torch import nn

from ssl_runner.contract import Data, Samples, Split
from ssl_runner.data.challenges import Challenges
from ssl_runner.data.rows import Share, fingerprint, held_out_count, statistics, stratified_split

COUNTS = (178, 182, 177, 183, 181, 182, 181, 179, 174, 180)  # images of each digit


@dataclass(kw_only=True)
class Digits(Challenges):
    """Ten handwritten digits, grey."""

    validation: Share = 0.15  # of what the test part leaves
    test: Share = 0.2  # of all images
    size: Literal[8, 16, 32] = 8  # pixels a side; above 8 the images are enlarged, linearly
    seed: Annotated[int, Ge(0)] = 0  # of the split, not of a run: runs of other seeds see the same split

    @property
    def samples(self) -> Samples:
        return Samples("image", (1, self.size, self.size))

    @property
    def training_counts(self) -> Sequence[int]:
        rest = [count - held_out_count(count, self.test) for count in COUNTS]
        return [count - held_out_count(count, self.validation) for count in rest]

    def load(self) -> Data:
        from sklearn.datasets import load_digits  # a second of import, and only this dataset needs it

        bundle = load_digits()
        grey = torch.from_numpy(bundle.images).float()[:, None] * (255 / 16)  # 0 to 16 in the file
        if self.size > 8:
            grey = nn.functional.interpolate(grey, size=(self.size, self.size), mode="bilinear", align_corners=False)
        x, y = grey.round().to(torch.uint8), torch.from_numpy(bundle.target).long()
        rest, test = stratified_split(y, self.test, self.seed)
        part, held = stratified_split(y[rest], self.validation, self.seed)
        bank, validation, unseen = (Split(x[rows], y[rows]) for rows in (rest[part], rest[held], test))
        digest = fingerprint(bank.x, validation.x, unseen.x)
        measured = (split if len(split.x) else None for split in (validation, unseen))
        return self.apply(Data(bank.x, bank, *measured, *statistics(bank.x), tuple("0123456789"), digest))

"""Pictograms rendered by code: ten shapes in free colour, place, size, tilt and surroundings (rendering/scene.py)."""

from typing import Annotated

import torch
from annotated_types import Ge, Interval

from ssl_runner.contract import Data, Samples, Split
from ssl_runner.data.split import held_out, stratified
from ssl_runner.data.statistics import fingerprint, statistics
from ssl_runner.rendering.pictograms import OUTLINES
from ssl_runner.rendering.scene import FACTORS, Scene


class Shapes:
    """Ten classes of pictograms, `size` x `size` RGB, rendered on the spot; nothing is downloaded.

    Args:
        images: training images, validation among them.
        test: test images; they depend on `seed` and not on `images`.
        validation: share of `images`, the same of every class; 0 for none.
        size: pixels a side.
        seed: of the images and of the split. It is the data's own: runs of other seeds see the same data.
    """

    def __init__(
        self,
        *,
        images: Annotated[int, Ge(20)] = 10_000,
        test: Annotated[int, Ge(0)] = 2_000,
        validation: Annotated[float, Interval(ge=0, lt=1)] = 0.1,
        size: Annotated[int, Ge(16)] = 32,
        seed: Annotated[int, Ge(0)] = 0,
    ):
        self.images = images
        self.test = test
        self.validation = validation
        self.size = size
        self.seed = seed
        self.samples = Samples("image", (3, size, size))
        self.targets = FACTORS
        counts = [len(range(label, images, len(OUTLINES))) for label in range(len(OUTLINES))]
        self.rows = images - sum(held_out(count, validation) for count in counts)

    def load(self) -> Data:
        """Renders all images: some seconds for 10,000 of 32 x 32."""
        scene = Scene(self.images, self.size, torch.Generator().manual_seed(2 * self.seed))
        images, targets = scene.render(), scene.targets()
        train, validation = (
            Split(images[rows], scene.shape[rows], {name: factor[rows] for name, factor in targets.items()})
            for rows in stratified(scene.shape, self.validation, self.seed)
        )
        unseen = Scene(self.test, self.size, torch.Generator().manual_seed(2 * self.seed + 1))
        test = Split(unseen.render(), unseen.shape, unseen.targets())
        mean, std = statistics(train.x)
        return Data(
            train=train.x,
            bank=train,
            validation=validation if len(validation.y) else None,
            test=test if self.test else None,
            mean=mean,
            std=std,
            classes=tuple(OUTLINES),
            fingerprint=fingerprint(train.x, validation.x, test.x),
        )

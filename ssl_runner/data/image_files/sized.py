"""Images of files made one size: the settings of it, and training images kept in more pixels for views to be cut of."""

from dataclasses import dataclass, replace
from typing import Annotated, ClassVar, Literal

from annotated_types import Ge

from ssl_runner.contract import Data, Rows, Samples
from ssl_runner.data.challenges import Challenges
from ssl_runner.data.image_files.decode import MAX_PIXELS, choose_size
from ssl_runner.data.image_files.depth import PixelRange, Setting
from ssl_runner.data.resize import resized_data
from ssl_runner.data.rows import statistics


@dataclass(kw_only=True)
class SizedImages(Challenges):
    """What datasets of image files share. One calls `check_range` and `set_size` before it asks for its samples."""

    size: Annotated[int, Ge(8)] | None = None  # pixels a side; None keeps squares of one size up to 96, others get 64
    # Pixels a side of the training images that views are cut of, more than size, so that small crops keep their detail;
    # None: the size. Encoder and evaluators get the size.
    stored: Annotated[int, Ge(8)] | None = None
    labelled: str | None = None  # folder of labelled images to measure on, none of which is learnt from
    channels: Literal[1, 3] = 3  # 3 for RGB, 1 for grey
    resize: Literal["crop", "squash"] = "crop"  # keep the centred square, or all of the image with its sides made equal
    range: Setting = "auto"  # what becomes black and white of more than 8 bits: auto, full, image or [LOW, HIGH]
    max_pixels: Annotated[int, Ge(1)] = MAX_PIXELS  # of an image that is decoded; larger ones are unreadable

    measured: ClassVar[int] = 10_000  # rows, at most, of which mean and deviation are taken

    def check_range(self) -> None:
        """Raises ValueError for a range that is upside down."""
        if not isinstance(self.range, str) and not self.range[0] < self.range[1]:
            raise ValueError(f"range: given {list(self.range)}; type dataset.range=[LOW,HIGH] with LOW below HIGH")

    def set_size(self, common: tuple[int, int] | None) -> None:
        """Chooses the size of samples. common: what the images have, see `common_size`. Raises ValueError."""
        size, self._why = choose_size(common, self.size)
        self.samples = Samples("image", (self.channels, size, size))
        if self.stored is not None and self.stored < size:
            given = f"stored: given {self.stored}, fewer pixels a side than the {size} of a sample ({self._why})"
            raise ValueError(f"{given}; type dataset.stored={2 * size}, or leave it out")
        self._side = self.stored or size

    @property
    def larger(self) -> bool:
        """Whether views are cut of more pixels than a sample has."""
        return self._side > self.samples.shape[1]

    @property
    def stored_samples(self) -> Samples:
        """What views are cut of."""
        return Samples("image", (self.channels, self._side, self._side))

    def describe_size(self, pixels: PixelRange) -> str:
        """How the images are read, for the log."""
        shape = " x ".join(map(str, self.samples.shape[1:]))
        more = f"; views are cut of {self._side} x {self._side} (dataset.stored)" if self.larger else ""
        return f"read as {shape}, {self._why}{more}" + (f"; {pixels.describe()}" if pixels.sampled else "")

    def moments(self, train: Rows) -> tuple[tuple[float, ...], tuple[float, ...]]:
        """Mean and deviation, or none yet: `finish` takes them of resized rows."""
        return ((), ()) if self.larger else statistics(train, self.measured)

    def finish(self, data: Data) -> Data:
        """Data with the challenges applied, of the size of samples; in more pixels, training rows are kept beside."""
        data = self.apply(data, self.measured)
        return replace(resized_data(data, self.samples), stored=data.train) if self.larger else data

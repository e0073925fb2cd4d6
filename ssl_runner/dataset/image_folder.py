"""Images of your own: any tree of files, with class folders or none, with train/, val/ and test/ folders or none."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import torch
from annotated_types import Ge
from jaxtyping import Int
from torch import Tensor

from ssl_runner.contract import Data, Rows, Samples, Split
from ssl_runner.data.challenges import Challenges
from ssl_runner.data.image_files.cache import load_images
from ssl_runner.data.image_files.decode import SUFFIXES, common_side
from ssl_runner.data.image_files.folders import plan_rows
from ssl_runner.data.image_files.source import Source
from ssl_runner.data.rows import Share, Subset, fingerprint, statistics

LARGEST, OTHERWISE = 96, 64  # pixels a side: the largest that is kept as it is, and what larger or mixed ones become

logger = logging.getLogger("ssl_runner")


@dataclass(kw_only=True)
class ImageFolder(Challenges):
    """Image files of a folder, upright, RGB or grey and square, decoded once into a cache or each time they are needed.

    A folder train/ makes val/ (or valid/, validation/) and test/ beside it parts of their own; without it the root is
    one tree. A part without a folder is a seeded share of every class of the training images, test taken first. The
    folders below a part are its classes; without them, or with one, there are no labels: nothing is held out, and
    bank, validation and test are None. Hidden files and files of other suffixes are left out.

    Raises FileNotFoundError for a folder that does not exist or has no images, ValueError for folders that contradict
    each other.
    """

    root: str
    size: Annotated[int, Ge(8)] | None = None  # pixels a side; None keeps squares of one size up to 96, others get 64
    channels: Literal[1, 3] = 3  # 3 for RGB, 1 for grey
    resize: Literal["crop", "squash"] = "crop"  # keep the centred square, or all of the image with its sides made equal
    labels: bool = True  # false if folders are no classes
    validation: Share = 0.1  # of the training images, if there is no folder
    test: Share = 0.1  # the same
    split_seed: Annotated[int, Ge(0)] = 0  # of these shares, not of a run: runs of other seeds see the same split
    max_broken: Annotated[int, Ge(0)] = 10  # unreadable files that are named and left out; one more is an error
    # Folder of decoded images; true for $XDG_CACHE_HOME/ssl_runner or ~/.cache/ssl_runner, false for memory alone.
    cache: bool | str = True
    # Decode on demand, for sets larger than the disk. An unreadable file is then a grey image, its row being promised.
    stream: bool = False
    workers: Annotated[int, Ge(1)] | None = None  # threads that decode; None for one a core

    def __post_init__(self) -> None:
        self._folder = Path(self.root).expanduser()
        if not self._folder.is_dir():
            raise FileNotFoundError(
                f"dataset.root={self.root} is no folder (looked at {self._folder.absolute()}"
                f"{', a file: unpack it' if self._folder.is_file() else ''}); type dataset.root=FOLDER; "
                f"dataset=shapes and dataset=digits need neither files nor network"
            )
        shares = {"test": self.test, "validation": self.validation}
        self._plan = plan_rows(self._folder, labels=self.labels, shares=shares, split_seed=self.split_seed)
        if not self._plan.files:
            raise FileNotFoundError(
                f"dataset.root={self.root} holds no training images (looked below {self._folder.absolute()}); "
                f"type dataset.root=FOLDER with files of {' '.join(SUFFIXES)}"
            )
        side = self.size or common_side([self._folder / file for file in self._plan.files])
        size = side if self.size or 8 <= side <= LARGEST else OTHERWISE
        self.samples = Samples("image", (self.channels, size, size))
        self._counts = self.count(self._plan.parts["train"])  # with unreadable files, until they are known
        super().__post_init__()

    @property
    def training_counts(self) -> Sequence[int]:
        return self._counts

    def count(self, index: Int[Tensor, " n"]) -> list[int]:
        """Files a class of some, or how many they are if there are no classes."""
        classes = len(self._plan.classes)
        return self._plan.y[index].bincount(minlength=classes).tolist() if classes else [len(index)]

    def load(self) -> Data:
        """Maps the cache, or decodes all images and writes it. Raises ValueError if too many cannot be read."""
        plan = self._plan
        for folder in plan.ignored:
            why = "to measure on it takes class folders in it and in the training images"
            logger.warning("%s is left out: %s", self._folder / folder, why)
        size = self.samples.shape[1]
        source = Source(self._folder, plan.files, size, self.channels, self.resize, self.max_broken, self.workers)
        # A digest of all rows of a stream would take as long as an epoch.
        rows, digest = (source, source.signature()) if self.stream else load_images(source, self.cache)
        readable = torch.ones(len(plan.files), dtype=torch.bool)
        readable[list(source.broken)] = False
        index = {part: each[readable[each]] for part, each in plan.parts.items()}
        splits = {part: Split(select(rows, i), plan.y[i]) for part, i in index.items() if len(i)}
        if "train" not in splits:
            raise ValueError(f"no training image in {self._folder} can be read; type dataset.root=FOLDER of others")
        train = splits["train"]
        self._counts = self.count(index["train"])
        parts = (train if plan.classes else None, splits.get("validation"), splits.get("test"))
        whole = fingerprint(torch.frombuffer(bytearray.fromhex(digest), dtype=torch.uint8), *index.values())
        measured = 1_000 if self.stream else 10_000
        data = Data(train.x, *parts, *statistics(train.x, measured), plan.classes, whole)
        return self.apply(data, measured)


def select(rows: Rows, index: Int[Tensor, " n"]) -> Rows:
    """Rows of an ascending index, one or more, uncopied: a view if they lie side by side, else a Subset."""
    first, last = int(index[0]), int(index[-1])
    if isinstance(rows, Tensor) and last - first + 1 == len(index):
        return rows[first : last + 1]
    return Subset(rows, index)

"""Images of your own: any tree of files, with class folders or none, with train/, val/ and test/ folders or none."""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Literal

import torch
from annotated_types import Ge, Interval
from jaxtyping import Int
from torch import Tensor

from ssl_runner.contract import Data, Split
from ssl_runner.data.image_files.decode import SUFFIXES, common_size, open_image
from ssl_runner.data.image_files.depth import sampled_range
from ssl_runner.data.image_files.folders import Labels, plan_rows
from ssl_runner.data.image_files.labelled import plan_labelled, read_rows, select
from ssl_runner.data.image_files.names import Names
from ssl_runner.data.image_files.sized import SizedImages
from ssl_runner.data.image_files.source import Source
from ssl_runner.data.places import expand_home
from ssl_runner.data.rows import Share
from ssl_runner.errors import printable

logger = logging.getLogger("ssl_runner")


@dataclass(kw_only=True)
class ImageFolder(SizedImages):
    """Image files of a folder, upright, RGB or grey and square, decoded once into a cache or each time they are needed.

    A folder train/ makes val/, test/ and unlabeled/ beside it parts of their own; without it the root is one tree. A
    part without a folder is a seeded share of every class of the training images, test taken first. The folders below a
    part are its classes; without them, or with one, there are no labels: nothing is held out, and bank, validation and
    test are None. Unlabelled images are learnt from, and in no other part. With a folder `labelled` all images of the
    root are unlabelled, and bank, validation and test are those of that folder. docs/image_folders.md has the names,
    and what is left out.

    Raises FileNotFoundError for a folder that does not exist or has no images, ValueError for folders that contradict
    each other.
    """

    root: str
    labels: Labels = "auto"  # whether folders are classes; auto: unless they are called shard_0, shard_1, ... or alike
    validation: Share = 0.1  # of the training images, if there is no folder
    test: Share = 0.1  # the same
    split_seed: Annotated[int, Ge(0)] = 0  # of these shares, not of a run: runs of other seeds see the same split
    max_broken: Annotated[int, Ge(0)] = 10  # unreadable files that are named and left out; one more is an error
    # Folder of decoded images; true for $XDG_CACHE_HOME/ssl_runner or ~/.cache/ssl_runner, false for memory alone.
    cache: bool | str = True
    # Decode on demand, for sets larger than the disk; auto: if they fit neither the cache's disk nor memory. An
    # unreadable file is then a grey image, its row being promised.
    stream: bool | Literal["auto"] = "auto"
    workers: Annotated[int, Interval(ge=0, le=1024)] | None = None  # images decoded at once: see `Source`

    def __post_init__(self) -> None:
        self._folder = expand_home(self.root)
        shown = printable(self.root)
        if not self._folder.is_dir():
            raise FileNotFoundError(
                f"dataset.root={shown} is no folder (looked at {printable(self._folder.absolute())}"
                f"{', a file: unpack it' if self._folder.is_file() else ''}); type dataset.root=FOLDER; "
                f"dataset=shapes and dataset=digits need neither files nor network"
            )
        self.check_range()
        shares = {"test": self.test, "validation": self.validation}
        how = {"shares": shares, "split_seed": self.split_seed}
        self._beside = plan_labelled(self.labelled, self._folder, labels=self.labels, **how) if self.labelled else None
        labelled = self._beside and self._beside.folder
        plan = self._plan = plan_rows(self._folder, labels=self.labels, labelled=labelled, **how)
        self._counts = self.count(plan.parts)  # before unreadable files are left out; exact once loaded
        if not self.rows:
            raise FileNotFoundError(
                f"dataset.root={shown} holds no training images (looked below {printable(self._folder.absolute())}"
                f"{plan.describe_left_out()}); type dataset.root=FOLDER with files of {' '.join(SUFFIXES)}"
            )
        self.set_size(common_size([self._folder / file for file in plan.files]))
        super().__post_init__()

    @property
    def training_counts(self) -> Sequence[int]:
        return self._counts

    @property
    def has_labels(self) -> bool:
        return bool(self._plan.classes) or self._beside is not None

    def count(self, parts: Mapping[str, Int[Tensor, " _"]]) -> list[int]:
        """Training rows a class, or one number if some or all of them have no label."""
        rows, classes = train_rows(parts), len(self._plan.classes)
        some = not classes or len(rows) > len(parts["train"])
        return [len(rows)] if some else self._plan.y[rows].bincount(minlength=classes).tolist()

    def load(self) -> Data:
        """Maps the cache, or decodes all images and writes it. Raises ValueError if too many cannot be read."""
        plan, size = self._plan, self._side
        for line in plan.warnings:
            logger.warning(line)
        paths = [self._folder / file for file in plan.files]
        pixels = sampled_range(paths, self.range, lambda path: open_image(path, size, self.max_pixels))
        how = {"size": size, "channels": self.channels, "resize": self.resize, "max_broken": self.max_broken}
        how |= {"workers": self.workers, "max_pixels": self.max_pixels, "pixels": pixels}
        # Absolute: a process that decodes may be in another folder.
        source = Source(self._folder.absolute(), Names(plan.files), **how)
        rows, index, digest = read_rows(source, plan, self.cache, self.stream)
        learnt = train_rows(index)
        if not len(learnt):
            raise ValueError(
                f"no training image in {printable(self._folder)} can be read; type dataset.root=FOLDER of others"
            )
        splits = {part: Split(select(rows, i), plan.y[i]) for part, i in index.items() if len(i) and plan.classes}
        bank = splits.get("train")
        train = select(rows, learnt) if bank is None or len(learnt) > len(bank.x) else bank.x
        self._counts = self.count(index)
        counts = {part: len(i) for part, i in index.items()}
        logger.info("images: %s; %s", plan.describe(counts), self.describe_size(pixels))
        measured, classes = (bank, splits.get("validation"), splits.get("test")), plan.classes
        if self._beside is not None:
            measured, classes, digest = self._beside.load(how, self.cache, self.stream, digest)
        return self.finish(Data(train, *measured, *self.moments(train), classes, digest))


def train_rows(parts: Mapping[str, Int[Tensor, " _"]]) -> Int[Tensor, " n"]:
    """Rows that are learnt from: those of training, then those without labels."""
    return torch.cat([parts[part] for part in ("train", "unlabelled") if part in parts])

"""Shards of images, packed or published: WebDataset tar, Hugging Face parquet and arrow files, local or by URL."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Annotated, ClassVar

import torch
from annotated_types import Ge, Gt, Interval
from jaxtyping import Int
from torch import Tensor

from ssl_runner.contract import Data, Split
from ssl_runner.data.image_files.decode import open_image
from ssl_runner.data.image_files.depth import sampled_range
from ssl_runner.data.image_files.labelled import plan_labelled
from ssl_runner.data.image_files.sized import SizedImages
from ssl_runner.data.image_files.source import VERSION
from ssl_runner.data.places import cache_folder, expand_home
from ssl_runner.data.rows import Share, Subset, evenly_spaced, fingerprint
from ssl_runner.data.shards.build import find_index
from ssl_runner.data.shards.cache import ShardCache
from ssl_runner.data.shards.fetch import Fetcher
from ssl_runner.data.shards.location import locate
from ssl_runner.data.shards.parts import describe_parts, split_rows, warnings
from ssl_runner.data.shards.rows import AHEAD, SPARE, ShardRows
from ssl_runner.layers.ranges import Count

SAMPLED = 64  # images of which the range is looked at

logger = logging.getLogger("ssl_runner")


@dataclass(kw_only=True)
class Shards(SizedImages):
    """Images of shards, read in their order with the samples of some mixed. docs/shards.md has what is read.

    Shards are of training, validation, test or unlabelled by their names; a part without any is a seeded share of every
    class of the training images, test taken first. Without labels nothing is held out, and bank, validation and test
    are None. Training images without a label are learnt from, and in no other part. With a folder `labelled` of image
    files all images of the shards are, and bank, validation and test are those of that folder.

    Raises FileNotFoundError if there are no shards, ValueError if they contradict each other or their index, OSError if
    they cannot be read.
    """

    root: str  # the folder of the shards, or its URL, in which braces may stand for several shards
    labels: bool = True  # whether the labels of the shards are used
    image_key: str | None = None  # the images' suffix in tar shards, or column; None for the first that is one
    label_key: str | None = None  # the same of labels; None for `cls`, or the column that the file calls a class
    validation: Share = 0.1  # of the training images, if there are no shards of it
    test: Share = 0.1  # the same
    split_seed: Annotated[int, Ge(0)] = 0  # of these shares, not of a run: runs of other seeds see the same split
    shuffle: Count = 16  # shards of which samples are mixed at a time
    max_broken: Annotated[int, Ge(0)] = 10  # unreadable images that are named and left grey; one more is an error
    # Folder of downloaded and unpacked shards; None for ssl_runner/shards in $XDG_CACHE_HOME or ~/.cache.
    cache: str | None = None
    cache_size: Annotated[float, Gt(0)] = 50.0  # GB that they may take; the least recently used are removed
    workers: Annotated[int, Interval(ge=0, le=1024)] | None = None  # images decoded at once: see `Source`

    measured: ClassVar[int] = 1_000

    def __post_init__(self) -> None:
        self.check_range()
        location = locate(self.root)
        folder = self.cache or f"{cache_folder()}/shards"
        cache = ShardCache(expand_home(folder), int(self.cache_size * 1e9))
        self._fetcher = Fetcher(location, cache, self.image_key, self.label_key)
        self._index = index = find_index(self._fetcher)
        shares = {"test": self.test, "validation": self.validation}
        how = {"labels": self.labels, "shares": shares, "split_seed": self.split_seed}
        self._beside = plan_labelled(self.labelled, None, **how) if self.labelled else None
        labels = index.table["label"][index.rows_of("train")]
        labelled = self.labels and self._beside is None and len(index.classes) > 1 and (labels >= 0).any()
        self._classes = index.classes if labelled else ()
        self._y = torch.from_numpy(index.table["label"].astype("int64")).clamp(min=0)
        self._parts = split_rows(index, bool(self._classes), shares, self.split_seed)
        if not self.rows:
            raise FileNotFoundError(f"dataset.root={location.shown} holds no training images; type dataset.root=FOLDER")
        largest = sorted((shard.bytes for shard in index.shards), reverse=True)[: self.shuffle + AHEAD + SPARE]
        unpacked = any(not shard.name.endswith(".tar") for shard in index.shards)
        if (location.remote or unpacked) and sum(largest) > cache.limit:
            needed = f"{self.shuffle} shards are read at a time, which take {sum(largest) / 1e9:.1f} GB"
            raise ValueError(f"cache_size: given {self.cache_size:g}, and {needed}; give more, or a smaller shuffle")
        self.set_size(index.pixels)
        super().__post_init__()

    @property
    def training_counts(self) -> Sequence[int]:
        if not self._classes or "unlabelled" in self._parts:
            return [len(self.learnt())]
        return self._y[self._parts["train"]].bincount(minlength=len(self._classes)).tolist()

    @property
    def has_labels(self) -> bool:
        return bool(self._classes) or self._beside is not None

    def learnt(self) -> Int[Tensor, " n"]:
        """Rows that are learnt from: those of training and those without labels, in the order of the shards."""
        return torch.cat([self._parts[part] for part in ("train", "unlabelled") if part in self._parts]).sort().values

    def load(self) -> Data:
        """Reads some images of a few shards to measure them. Raises OSError and ValueError for what cannot be read."""
        index, size, learnt = self._index, self._side, self.learnt()
        for line in warnings(index, self._parts, self._beside is not None):
            logger.warning(line)
        how = {"size": size, "channels": self.channels, "resize": self.resize, "max_broken": self.max_broken}
        how |= {"workers": self.workers, "max_pixels": self.max_pixels}
        rows = ShardRows(index=index, fetcher=self._fetcher, window=self.shuffle, **how)
        sample = learnt[evenly_spaced(Subset(rows, learnt), SAMPLED)].tolist()
        files = [rows.content(row) for row in sample]
        pixels = sampled_range(files, self.range, lambda file: open_image(file, size, self.max_pixels))
        rows = replace(rows, pixels=pixels)
        splits = {part: Split(Subset(rows, i), self._y[i]) for part, i in self._parts.items() if self._classes}
        bank = splits.get("train")
        train = bank.x if bank and "unlabelled" not in splits else Subset(rows, learnt)
        parts = describe_parts(index, self._parts, self._classes)
        logger.info("shards: %s; %s", parts, self.describe_size(pixels))
        key = f"{VERSION} {size} {self.channels} {self.resize}{pixels.key} {index.digest()}"
        known = torch.tensor(list(key.encode()), dtype=torch.uint8)
        digest = fingerprint(known, *self._parts.values())
        measured, classes = (bank, splits.get("validation"), splits.get("test")), self._classes
        if self._beside is not None:
            measured, classes, digest = self._beside.load(how | {"pixels": pixels}, self.cache or True, "auto", digest)
        return self.finish(Data(train, *measured, *self.moments(train), classes, digest))

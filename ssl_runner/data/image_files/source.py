"""Image files as rows: a digest of what they are, all of them decoded one after another, or each when asked for."""

import hashlib
import logging
import math
import os
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from jaxtyping import Bool, Int, UInt8
from torch import Tensor
from torch.utils.data import get_worker_info

from ssl_runner.data.image_files.decode import MAX_PIXELS, read_image
from ssl_runner.data.image_files.depth import PixelRange
from ssl_runner.data.machine import usable_cores
from ssl_runner.duration import Phase
from ssl_runner.errors import plural, printable

VERSION = 2  # of what read_image makes of a file: a key of another version is another key
SAMPLED, HEAD = 64, 2**16  # files, at least, of which the beginning goes into the key, and its bytes
BATCH, BATCH_BYTES = 4096, 2**26  # images decoded before the next ones, and bytes that they may be
GREY = 127  # what a file that cannot be read looks like

logger = logging.getLogger("ssl_runner")


@dataclass(frozen=True, eq=False)
class Source:
    """Image files below a root, a row each, decoded at each request: for sets that fit on no disk a second time.

    A file that cannot be read is a grey image: a promised row must be there. A request that meets one raises ValueError
    once more than `max_broken` have been unreadable, also to several processes at once, which share their count. It can
    be pickled: no thread outlives a request.
    """

    root: Path
    files: Sequence[str]  # below the root
    size: int  # see read_image
    channels: Literal[1, 3]
    resize: Literal["crop", "squash"]
    max_broken: int
    # Images decoded at once, None for one a core, 16 at most: by so many processes for the steps of training, and by
    # threads for all else (the cache, statistics, evaluators). 0: by threads alone, one a core.
    workers: int | None = None
    max_pixels: int = MAX_PIXELS
    pixels: PixelRange = field(default_factory=PixelRange)
    broken: dict[int, str] = field(default_factory=dict)  # why, by row; of what has been read
    remarks: dict[str, int] = field(default_factory=dict)  # how many images they are true of, by what was remarked
    unreadable: Bool[Tensor, " n"] = field(init=False)  # by row, of what has been read; shared by processes

    def __post_init__(self) -> None:
        object.__setattr__(self, "unreadable", torch.zeros(len(self.files), dtype=torch.bool))

    @property
    def processes(self) -> int:
        """How many read the steps of training: see engine/workers.py."""
        return cores() if self.workers is None else self.workers

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """(N, C, H, W) of all rows."""
        return len(self.files), self.channels, self.size, self.size

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, index: Int[Tensor, " b"]) -> UInt8[Tensor, "b c h w"]:
        images, broken = self.read(index.tolist())
        for name in self.describe({row: why for row, why in broken.items() if row not in self.broken}):
            logger.warning("cannot read %s: it is a grey image", name)
        for remark in self.pixels.remarks.keys() - self.remarks:
            logger.warning("an image has %s", remark)
            self.remarks[remark] = 1
        self.record(broken)
        return torch.from_numpy(images)

    def content(self, row: int) -> Path | bytes:
        """Where the image of a row is, or what is in its file."""
        return self.root / self.files[row]

    def read(self, rows: Sequence[int]) -> tuple[UInt8[np.ndarray, "b c s s"], dict[int, str]]:
        """The images in order, and why by row for those that cannot be read and are plain grey."""
        images = np.full((len(rows), *self.shape[1:]), GREY, dtype=np.uint8)
        broken: dict[int, str] = {}
        how = (self.size, self.channels, self.resize, self.pixels, self.max_pixels)

        def fill(positions: range) -> None:
            for i in positions:
                try:
                    images[i] = read_image(self.content(rows[i]), *how)
                except Exception as problem:  # Pillow's readers raise a dozen types on bytes that they do not expect
                    broken[rows[i]] = f"{type(problem).__name__}: {problem}"

        if get_worker_info() is not None:  # one of several processes
            fill(range(len(rows)))
        else:
            workers = max(1, min(self.workers or cores(), len(rows)))
            with ThreadPoolExecutor(workers) as pool:
                list(pool.map(fill, (range(i, len(rows), 4 * workers) for i in range(4 * workers))))
        return images, dict(sorted(broken.items()))

    def record(self, broken: Mapping[int, str]) -> None:
        """Adds to what cannot be read. Raises ValueError, with the first three, if it is more than max_broken."""
        if not broken:
            return
        self.broken.update(broken)
        self.unreadable[list(broken)] = True  # a place a row: processes at once then count each file, and each once
        if self.unreadable.sum() > self.max_broken:
            raise ValueError(
                f"more than max_broken={self.max_broken} images cannot be read: "
                f"{'; '.join(self.describe(self.broken)[:3])}{' ...' * (len(self.broken) > 3)}. "
                f"Mend or remove them, or type dataset.max_broken=N to allow N of them"
            )

    def forget_broken(self) -> None:
        self.broken.clear()
        self.unreadable.zero_()

    def describe(self, broken: Mapping[int, str]) -> list[str]:
        """Name and reason of each, such that any terminal and log can take it, whatever the bytes of the name."""
        return [printable(f"{self.files[i]} ({broken[i]})") for i in broken]

    @cached_property
    def signatures(self) -> tuple[str, str]:
        """Hex digests of how the files are read, their names, sizes and times, and the beginnings of some: the key of a
        cache; and of names and sizes alone, which are the same wherever the files lie.

        Archives are often unpacked with one time for all files, and bitmaps are all of one size: so the bytes of some.
        """
        how = f"{VERSION} {self.size} {self.channels} {self.resize}{self.pixels.key}"
        digest, anywhere = hashlib.blake2b(how.encode(), digest_size=16), hashlib.blake2b(digest_size=16)
        for file in self.files:
            digest.update(os.fsencode(f"\0{file}\0"))
            anywhere.update(os.fsencode(f"\0{file}\0"))
            with suppress(OSError):
                stat = (self.root / file).stat()
                digest.update(f"{stat.st_size} {stat.st_mtime_ns}".encode())
                anywhere.update(str(stat.st_size).encode())
        for file in self.files[:: max(1, len(self.files) // SAMPLED)]:
            with suppress(OSError), (self.root / file).open("rb") as opened:
                digest.update(opened.read(HEAD))
        return digest.hexdigest(), anywhere.hexdigest()

    def decode(self, write: Callable[[memoryview], object]) -> None:
        """Calls `write` with the bytes of all rows in order, some thousands of rows at a time.

        Raises ValueError if more than max_broken cannot be read.
        """
        rows = range(len(self.files))
        step = max(1, min(BATCH, BATCH_BYTES // math.prod(self.shape[1:])))
        started = time.monotonic()
        with warnings.catch_warnings(), Phase("decoding", len(rows), "images") as phase:
            warnings.simplefilter("ignore")  # Pillow warns of odd metadata, a line a file
            for first in rows[::step]:
                images, broken = self.read(rows[first : first + step])
                self.record(broken)
                write(images.data)
                phase.advance(len(images))
        logger.info("decoded %s in %.1f s", plural(len(self.files), "image"), time.monotonic() - started)
        self.remarks.update({remark: len(paths) for remark, paths in self.pixels.remarks.items()})


def cores() -> int:
    """Cores that this process may use, its share of them if others train beside it on this machine; 16 at most."""
    return max(1, min(usable_cores() // int(os.environ.get("LOCAL_WORLD_SIZE", "1")), 16))

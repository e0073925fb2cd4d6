"""Image files as rows: a digest of what they are, and all of them decoded one after another."""

import hashlib
import logging
import os
import time
import warnings
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from jaxtyping import UInt8
from numpy import ndarray

from ssl_runner.data.image_files.decode import Reader
from ssl_runner.data.image_files.unreadable import require_few

VERSION = 1  # of what Reader makes of a file: a key of another version is another key
SAMPLED, HEAD = 64, 2**16  # files, at least, of which the beginning goes into the key, and its bytes
LOG_EVERY = 10  # seconds between lines of the log

logger = logging.getLogger("ssl_runner")


@dataclass(frozen=True)
class Source:
    """Image files below a root, a row each, and how they are read."""

    root: Path
    files: Sequence[str]
    reader: Reader

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """(N, C, H, W) of all rows."""
        return len(self.files), self.reader.channels, self.reader.size, self.reader.size

    def paths(self, rows: Iterable[int]) -> list[Path]:
        return [self.root / self.files[row] for row in rows]

    def signature(self) -> str:
        """Hex digest of how the files are read, their names, sizes and times, and the beginnings of some.

        Archives are often unpacked with one time for all files, and bitmaps are all of one size: so the bytes of some.
        """
        how = f"{VERSION} {self.reader.size} {self.reader.channels} {self.reader.resize}"
        digest = hashlib.blake2b(how.encode(), digest_size=16)
        for file in self.files:
            try:
                stat = (self.root / file).stat()
                digest.update(os.fsencode(f"\0{file}\0{stat.st_size} {stat.st_mtime_ns}"))
            except OSError:
                digest.update(os.fsencode(f"\0{file}\0"))
        for path in self.paths(range(0, len(self.files), max(1, len(self.files) // SAMPLED))):
            try:
                with path.open("rb") as opened:
                    digest.update(opened.read(HEAD))
            except OSError:
                continue
        return digest.hexdigest()

    def decode(
        self, keep: Callable[[int, UInt8[ndarray, "b c s s"]], object], max_broken: int
    ) -> tuple[dict[int, str], str]:
        """Calls `keep` with all rows in order, some thousands at a time, and the number of the first.

        Returns why by row for those that cannot be read and are plain grey, and the hex digest of names and rows.
        Raises ValueError if they are more than max_broken.
        """
        digest = hashlib.blake2b(digest_size=16)
        for file in self.files:
            digest.update(os.fsencode(f"{file}\0"))
        broken: dict[int, str] = {}
        started = logged = time.monotonic()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Pillow warns of odd metadata, a line a file
            for first, rows, why in self.reader.read_batches(self.paths(range(len(self.files)))):
                broken |= why
                require_few(self.files, broken, max_broken)
                digest.update(rows.data)
                keep(first, rows)
                if time.monotonic() - logged > LOG_EVERY:
                    logged = time.monotonic()
                    logger.info("decoded %d of %d images", first + len(rows), len(self.files))
        logger.info("decoded %d images in %.1f s", len(self.files), time.monotonic() - started)
        return broken, digest.hexdigest()

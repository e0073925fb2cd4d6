"""Folder of downloaded and unpacked shards, of a bounded size: the least recently used are removed."""

import contextlib
import errno
import fcntl
import logging
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from ssl_runner.run_folder.atomic import HALVES, remove_abandoned, replacing

SHARD = ".shard"  # ends the names of what is kept
TRIES = 5  # to open what another process may remove meanwhile

logger = logging.getLogger("ssl_runner")


@dataclass(frozen=True)
class ShardCache:
    """Whole shards by key, shared by all processes of a machine. A key is text that any file may be called."""

    folder: Path
    limit: int  # bytes of all whole shards; what is open when it is removed takes its place until it is closed

    def open(self, key: str, size: int, make: Callable[[IO[bytes]], None]) -> int:
        """A descriptor of a shard, which `make` writes if it is absent. One process makes it, others wait for it.

        size: bytes, about, that it takes. Raises OSError, and what `make` raises: then nothing is kept.
        """
        path = self.folder / f"{key}{SHARD}"
        for _ in range(TRIES):
            with contextlib.suppress(FileNotFoundError):
                file = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
                with contextlib.suppress(OSError):  # another user's
                    os.utime(path)
                return file
            self.folder.mkdir(parents=True, exist_ok=True)
            with self.locked(key):
                if path.exists():
                    continue
                with self.locked("room"):
                    self.make_room(size)
                try:
                    with contextlib.ExitStack() as until_it_is_kept, replacing(path) as half:
                        make(half)
                        half.flush()
                        until_it_is_kept.enter_context(self.locked("room"))
                        self.make_room(Path(half.name).stat().st_size)
                except OSError as error:
                    if error.errno in (errno.ENOSPC, errno.EDQUOT):
                        remedy = "type dataset.cache=FOLDER on a larger disk, or a smaller dataset.cache_size"
                        raise OSError(error.errno, f"{self.folder} is full; {remedy}") from error
                    raise
        raise OSError(errno.EBUSY, f"shards vanish from {self.folder}; type dataset.cache=FOLDER of this run's own")

    def rename(self, key: str, to: str) -> None:
        """Keeps a shard under another key from now on."""
        with contextlib.suppress(FileNotFoundError):  # it is removed already
            (self.folder / f"{key}{SHARD}").replace(self.folder / f"{to}{SHARD}")

    def remove(self, key: str) -> None:
        (self.folder / f"{key}{SHARD}").unlink(missing_ok=True)

    @contextlib.contextmanager
    def locked(self, key: str) -> Iterator[None]:
        with (self.folder / f"{key}.lock").open("wb") as lock:
            with contextlib.suppress(OSError):  # some file systems have no locks: then a shard is fetched twice
                fcntl.flock(lock, fcntl.LOCK_EX)
            yield

    def make_room(self, size: int) -> None:
        """Removes the least recently used shards until `size` bytes fit in beside the others."""
        remove_abandoned(self.folder, HALVES)
        kept = []
        for path in self.folder.glob(f"*{SHARD}"):
            with contextlib.suppress(FileNotFoundError):
                stat = path.stat()
                kept.append((stat.st_mtime_ns, stat.st_size, path))
        total = sum(each[1] for each in kept)
        for _, freed, path in sorted(kept):
            if total + size <= self.limit:
                return
            with contextlib.suppress(OSError):  # another user's
                path.unlink()
            total -= freed

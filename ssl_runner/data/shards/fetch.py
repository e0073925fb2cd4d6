"""Shards as open files of this machine: local ones as they are, remote ones downloaded, parquet and arrow unpacked."""

import hashlib
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import IO

import numpy as np

from ssl_runner.data.shards.cache import ShardCache
from ssl_runner.data.shards.columns import scan_columns, unpack_columns, unpacked_places
from ssl_runner.data.shards.location import Folder, Remote
from ssl_runner.data.shards.scan import Scan, Shard
from ssl_runner.data.shards.tar import scan_tar
from ssl_runner.errors import printable


class OpenShard:
    """A file that is closed once nobody has it any more."""

    def __init__(self, file: int, cached: bool):
        self.file, self.cached = file, cached
        self.path = Path(f"/dev/fd/{file}")  # it may have no name any more
        self.places: np.ndarray | None = None  # where each image begins, and the last one ends; None: the index has it

    def __del__(self) -> None:
        os.close(self.file)


@dataclass(frozen=True)
class Fetcher:
    location: Folder | Remote
    cache: ShardCache
    image_key: str | None = None
    label_key: str | None = None

    def open(self, shard: Shard) -> OpenShard:
        """A shard whose images can be read. Raises OSError, and ValueError with its name if it is damaged."""
        if shard.name.endswith(".tar"):
            return self.download(shard)
        with self.naming(shard):
            key = self.key(shard, "images", self.image_key)
            unpacked = OpenShard(self.cache.open(key, shard.bytes, partial(self.unpack, shard)), cached=True)
            unpacked.places = unpacked_places(unpacked.file, shard.samples)
        return unpacked

    def unpack(self, shard: Shard, to: IO[bytes]) -> None:
        opened = self.download(shard)  # it is closed once it has no name here
        unpack_columns(opened.path, to, self.image_key)
        if self.location.remote:
            self.cache.remove(self.key(shard))  # nothing else is read of it

    def scan(self, shard: Shard) -> Scan:
        """What is in a shard. Raises as `open` does."""
        opened = self.download(shard)
        read = scan_tar if shard.name.endswith(".tar") else scan_columns
        with self.naming(shard):
            scan = read(opened.path, self.image_key, self.label_key)
        with opened.path.open("rb") as file:
            scan.sha256 = hashlib.file_digest(file, "sha256").hexdigest()
        scan.bytes = os.fstat(opened.file).st_size
        if self.location.remote:
            self.cache.rename(self.key(shard), self.key(replace(shard, bytes=scan.bytes, sha256=scan.sha256)))
        return scan

    def download(self, shard: Shard) -> OpenShard:
        """The file as it is. Its bytes, and its checksum if it arrives, must be those of the index if that has them."""
        location = self.location
        with self.naming(shard):
            if isinstance(location, Folder):
                file = os.open(location.path(shard.name), os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
                opened = OpenShard(file, cached=False)
            else:
                file = self.cache.open(self.key(shard), shard.bytes, partial(self.fetch, shard))
                opened = OpenShard(file, cached=True)
            if shard.bytes and (size := os.fstat(opened.file).st_size) != shard.bytes:
                raise ValueError(f"it has {size:,} bytes, and the index says {shard.bytes:,}")
        return opened

    def fetch(self, shard: Shard, to: IO[bytes]) -> None:
        assert isinstance(self.location, Remote)
        self.location.download(shard.name, Path(to.name), shard.bytes)
        with Path(to.name).open("rb") as file:
            if shard.sha256 and hashlib.file_digest(file, "sha256").hexdigest() != shard.sha256:
                raise ValueError(
                    "what arrived has another checksum than the index says; upload the shard again, or type "
                    "dataset.cache=FOLDER of a new folder if the shards have been changed since they were indexed"
                )

    def key(self, shard: Shard, *more: object) -> str:
        known = "\0".join(map(str, (self.location.place, shard.name, shard.bytes, shard.sha256, *more)))
        return hashlib.blake2b(known.encode(), digest_size=16).hexdigest()

    @contextmanager
    def naming(self, shard: Shard) -> Iterator[None]:
        """Adds the name of the shard to what is raised."""
        name = printable(f"{shard.name} of {self.location.shown}")
        try:
            yield
        except FileNotFoundError as error:
            raise FileNotFoundError(f"{name} is missing; pack or upload it again") from error
        except ValueError as error:
            raise error if str(error).startswith(name) else ValueError(f"{name}: {error}") from error

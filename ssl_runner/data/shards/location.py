"""Where shards lie: a folder, or a folder by URL that fsspec reads (http, https, s3, gs, az, hf)."""

import contextlib
import os
import re
import time
from collections.abc import Iterable, Mapping
from functools import cached_property
from itertools import islice
from pathlib import Path
from typing import Any

from ssl_runner.data.image_files.listing import natural_key
from ssl_runner.data.places import expand_home
from ssl_runner.data.shards.columns import INSTALL
from ssl_runner.data.shards.scan import SUFFIXES
from ssl_runner.errors import one_line, printable
from ssl_runner.run_folder.atomic import read_file

SCHEMES = {"http": "aiohttp", "https": "aiohttp", "s3": "s3fs", "gs": "gcsfs", "az": "adlfs", "hf": "huggingface_hub"}
MOST = 100_000  # shards that a pattern may name
DEPTH = 4  # folders below one another that are looked into
TRIES, PAUSE = 3, 1.0  # of a download, and seconds before the second one


class Folder:
    """Shards of a folder of this machine, and of the folders below it."""

    remote = False

    def __init__(self, root: str):
        self.root = expand_home(root)
        self.shown = printable(root)
        if not self.root.is_dir():
            file = ", a file: give the folder that holds it" if self.root.is_file() else ""
            looked = printable(self.root.absolute())
            raise FileNotFoundError(f"dataset.root={self.shown} is no folder (looked at {looked}{file})")
        self.place = str(self.root.resolve())

    def sizes(self) -> Mapping[str, int]:
        """Bytes of all shards by name, in natural order. Raises OSError."""
        sizes = {}
        for folder, folders, files in os.walk(self.root):
            folders[:] = [name for name in folders if not name.startswith(".")]
            for path in (Path(folder, file) for file in files if file.endswith(SUFFIXES) and not file.startswith(".")):
                if path.is_file():
                    sizes[path.relative_to(self.root).as_posix()] = path.stat().st_size
        return {name: sizes[name] for name in sorted(sizes, key=natural_key)}

    def versions(self, names: Iterable[str]) -> list[int]:
        """A number of each shard that is another one once the shard is."""
        return [(self.root / name).stat().st_mtime_ns for name in names]

    def path(self, name: str) -> Path:
        return self.root / name

    def read(self, name: str, most: int) -> bytes | None:
        """The content of a small file; None if it is absent. Raises OSError."""
        with contextlib.suppress(FileNotFoundError):
            return read_file(self.root / name, most)
        return None


class Remote:
    """Shards below a URL, of which braces may stand for several: `https://host/train-{000000..000146}.tar`."""

    remote = True

    def __init__(self, root: str):
        self.shown, self.place = printable(root), root
        scheme = root.partition("://")[0]
        if scheme not in SCHEMES:
            given = f"dataset.root={self.shown} begins with {printable(scheme)}://"
            raise ValueError(f"{given}; possible are {', '.join(f'{each}://' for each in SCHEMES)} and folders")
        head, brace, _ = root.partition("{")
        base = head.rpartition("/")[0] if brace else root.rstrip("/")
        self.base, self.pattern = base, root[len(base) + 1 :] if brace else ""

    @cached_property
    def files(self) -> Any:
        """The file system. Raises ModuleNotFoundError with what to type."""
        scheme = self.base.partition("://")[0]
        try:
            import fsspec

            return fsspec.filesystem(scheme)
        except ImportError:
            package = SCHEMES[scheme]
            install = INSTALL if package == "aiohttp" else f"{INSTALL} {package}"
            raise ModuleNotFoundError(f"dataset.root={self.shown} is read with {package}; type {install}") from None

    def sizes(self) -> Mapping[str, int]:
        """Bytes of all shards by name, 0 if the server does not say. Raises ConnectionError."""
        if self.pattern:
            ends = [int(each) for each in re.findall(r"\.\.(\d+)", self.pattern)]
            names = [] if max(ends, default=0) > MOST else list(islice(expand_braces(self.pattern), MOST + 1))
            if not 0 < len(names) <= MOST:
                raise ValueError(f"dataset.root={self.shown} names more than {MOST:,} shards; name fewer")
            return dict.fromkeys(names, 0)
        files = self.files
        try:
            found = files.find(self.base, maxdepth=DEPTH, detail=True)
        except Exception as error:  # each file system has exceptions of its own
            raise self.unreachable("", error) from error
        start = files._strip_protocol(self.base).rstrip("/") + "/"
        names = {name.partition(start)[2]: each.get("size") or 0 for name, each in found.items()}
        return {name: names[name] for name in sorted(names, key=natural_key) if name.endswith(SUFFIXES)}

    def versions(self, names: Iterable[str]) -> list[int]:
        return []

    def read(self, name: str, most: int) -> bytes | None:
        """The content of a small file; None if it is absent. Raises ConnectionError."""
        files = self.files
        try:
            content = files.cat_file(f"{self.base}/{name}")
        except Exception as error:
            # Who may not list a store is forbidden to read what is not there.
            if isinstance(error, FileNotFoundError | PermissionError) or getattr(error, "status", None) in (401, 403):
                return None
            raise self.unreachable(name, error) from error
        if len(content) > most:
            raise ValueError(f"{self.shown}/{name} has {len(content):,} bytes, and {most:,} at most are read")
        return content

    def download(self, name: str, to: Path, size: int) -> None:
        """Raises ConnectionError if it fails three times, or if other than `size` bytes arrive; 0: any."""
        for attempt in range(TRIES):
            try:
                self.files.get_file(f"{self.base}/{name}", str(to))
                if size in (0, arrived := to.stat().st_size):
                    return
                problem: Exception = ConnectionError(f"{arrived:,} bytes arrived of {size:,}")
            except FileNotFoundError as error:
                raise FileNotFoundError(f"{printable(name)} is missing at {self.shown}") from error
            except Exception as error:
                problem = error
            if attempt + 1 < TRIES:
                time.sleep(PAUSE * 4**attempt)
        raise self.unreachable(name, problem) from problem

    def unreachable(self, name: str, error: Exception) -> ConnectionError:
        reason = printable(one_line(error) or type(error).__name__)
        return ConnectionError(f"cannot read {printable(f'{self.base}/{name}'.rstrip('/'))} ({reason})")


def expand_braces(pattern: str) -> Any:
    """Names that a pattern stands for, as in `train-{00..12}.tar`. Raises ModuleNotFoundError with what to type."""
    try:
        from braceexpand import braceexpand
    except ModuleNotFoundError:
        raise ModuleNotFoundError(f"braces in dataset.root need braceexpand; type {INSTALL}") from None
    return braceexpand(pattern)


def locate(root: str) -> Folder | Remote:
    """Raises FileNotFoundError if there is no such folder, ValueError for a URL that is not read."""
    return Remote(root) if "://" in root else Folder(root)

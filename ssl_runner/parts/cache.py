"""Decoded images on disk, so that the second run starts at once.

An entry is KEY.npy, uint8 (N, C, H, W), beside KEY.json, which names what could not be read. Both are written under
another name, synced and renamed, the .npy last: an entry is whole or absent, also where two runs write the same one.
"""

import errno
import hashlib
import json
import logging
import os
import shutil
import tempfile
import time
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import IO, NamedTuple

import numpy as np
import torch
from jaxtyping import UInt8
from torch import Tensor

from ssl_runner.parts.image import Reader

VERSION = 1  # of what Reader makes of a file: an entry of another version is not read
SAMPLED, HEAD = 64, 2**16  # files of which the beginning goes into the key, and its bytes
IN_MEMORY = 2**32  # bytes that are held in memory where the folder cannot be written
STALE = 24 * 3600  # seconds after which a half-written file is nobody's any more

logger = logging.getLogger("ssl_runner")


class Decoded(NamedTuple):
    """Images in the order of their files; those that could not be read are plain grey."""

    rows: UInt8[Tensor, "n c h w"]
    broken: dict[int, str]  # why, by row
    digest: str  # of names and rows


def default_folder() -> Path:
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "ssl_runner"


def signature(root: Path, files: Sequence[str], reader: Reader) -> str:
    """A key of files and of how they are read: names below the root, sizes and times, and the beginnings of some.

    Archives are often unpacked with one time for all files, and bitmaps are all of one size: so the bytes of some.
    """
    digest = hashlib.blake2b(f"{VERSION} {reader.size} {reader.channels} {reader.resize}".encode(), digest_size=16)
    for file in files:
        try:
            stat = (root / file).stat()
            digest.update(os.fsencode(f"\0{file}\0{stat.st_size} {stat.st_mtime_ns}"))
        except OSError:
            digest.update(os.fsencode(f"\0{file}\0"))
    for i in range(0, len(files), max(1, len(files) // SAMPLED)):
        try:
            with (root / files[i]).open("rb") as file:
                digest.update(file.read(HEAD))
        except OSError:
            continue
    return digest.hexdigest()


def decoded(root: Path, files: Sequence[str], reader: Reader, *, folder: Path | None, max_broken: int) -> Decoded:
    """The images of all files, mapped from the cache in a folder, where they are decoded first if they are not there.

    Args:
        folder: of the cache; None for none, all in memory.
        max_broken: how many files may be unreadable.

    Raises:
        ValueError: more than that are.
        OSError: the folder cannot be written, and the images are too many for memory.
    """
    if folder is None:
        return _in_memory(root, files, reader, max_broken)
    key = signature(root, files, reader)
    known = _read(folder, key, (len(files), reader.channels, reader.size, reader.size))
    if known is not None and not _mended(root, files, reader, known.broken):
        _judge(files, known.broken, max_broken)
        logger.info("images mapped from %s", folder / f"{key}.npy")
        return known
    size = len(files) * reader.channels * reader.size**2
    try:
        return _write(folder, key, root, files, reader, max_broken)
    except OSError as problem:
        if size > IN_MEMORY:
            raise OSError(
                f"cannot keep {size / 2**30:.1f} GiB of decoded images in {folder} ({problem}); "
                f"name a folder with dataset.cache=FOLDER, or decode on demand with dataset.stream=true"
            ) from problem
        logger.warning("cannot keep decoded images in %s (%s): they stay in memory for this run only", folder, problem)
        return _in_memory(root, files, reader, max_broken)


def mapped(array: UInt8[np.ndarray, "*shape"]) -> UInt8[Tensor, "*shape"]:
    """A tensor on a read-only array, without a copy. Writing to it ends the process: rows are to be indexed."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="The given NumPy array is not writable")
        return torch.from_numpy(array)


def printable(file: str) -> str:
    """A name that any terminal and log can take, whatever its bytes."""
    return os.fsencode(file).decode(errors="backslashreplace")


def name_broken(names: Sequence[str], whole: int) -> None:
    """Warns of files that cannot be read: the first ten by name, and how many there are."""
    for name in names[:10]:
        logger.warning("cannot read %s", name)
    logger.warning("%d of %d images cannot be read and are left out", len(names), whole)


def too_many(names: Sequence[str], max_broken: int) -> ValueError:
    return ValueError(
        f"more than max_broken={max_broken} images cannot be read: {'; '.join(names[:3])}{' ...' * (len(names) > 3)}. "
        f"Mend or remove them, or type dataset.max_broken=N to leave up to N out"
    )


def _in_memory(root: Path, files: Sequence[str], reader: Reader, max_broken: int) -> Decoded:
    rows = torch.empty(len(files), reader.channels, reader.size, reader.size, dtype=torch.uint8)
    broken, digest = _decode(root, files, reader, max_broken, rows.numpy())
    return Decoded(rows, broken, digest)


def _decode(
    root: Path, files: Sequence[str], reader: Reader, max_broken: int, into: np.ndarray | IO[bytes]
) -> tuple[dict[int, str], str]:
    """Decodes all files into an array or a file; what could not be read, and the digest."""
    digest = hashlib.blake2b(digest_size=16)
    for file in files:
        digest.update(os.fsencode(f"{file}\0"))
    broken: dict[int, str] = {}
    paths = [root / file for file in files]
    started = told = time.monotonic()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Pillow warns of odd metadata, a line a file
        for first, rows, why in reader.batches(paths):
            broken |= why
            if len(broken) > max_broken:
                raise too_many(_named(files, broken), max_broken)
            digest.update(rows.data)
            if isinstance(into, np.ndarray):
                into[first : first + len(rows)] = rows
            else:
                into.write(rows.data)
            if time.monotonic() - told > 10:
                told = time.monotonic()
                logger.info("decoded %d of %d images", first + len(rows), len(files))
    logger.info("decoded %d images in %.1f s", len(files), time.monotonic() - started)
    _judge(files, broken, max_broken)
    return broken, digest.hexdigest()


def _write(folder: Path, key: str, root: Path, files: Sequence[str], reader: Reader, max_broken: int) -> Decoded:
    shape = (len(files), reader.channels, reader.size, reader.size)
    folder.mkdir(parents=True, exist_ok=True)
    for half in folder.glob("*.tmp"):
        if time.time() - half.stat().st_mtime > STALE:
            half.unlink(missing_ok=True)
    if shutil.disk_usage(folder).free < np.prod(shape, dtype=np.int64):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    with tempfile.NamedTemporaryFile(dir=folder, prefix=f"{key}.", suffix=".tmp", delete=False) as file:
        try:
            header = {"descr": "|u1", "fortran_order": False, "shape": shape}
            np.lib.format.write_array_header_1_0(file, header)
            # Written, not mapped: on a full disk a write says so, a mapped page kills the process.
            broken, digest = _decode(root, files, reader, max_broken, file)
            note = {"root": str(root), "digest": digest, "broken": broken}
            _settle(file, folder / f"{key}.npy", before=(folder / f"{key}.json", json.dumps(note, indent=1)))
        except BaseException:
            Path(file.name).unlink(missing_ok=True)
            raise
    entry = _read(folder, key, shape)
    if entry is None:
        raise OSError(f"{folder / key}.npy is gone as soon as it was written")
    return entry


def _settle(file: IO[bytes], there: Path, before: tuple[Path, str] | None = None) -> None:
    """Syncs a file and renames it, after a text has got its own name in the same way."""
    if before is not None:
        path, text = before
        with tempfile.NamedTemporaryFile(dir=path.parent, prefix=path.name, suffix=".tmp", delete=False) as note:
            note.write(text.encode())
            _settle(note, path)
    file.flush()
    os.fsync(file.fileno())
    Path(file.name).replace(there)


def _read(folder: Path, key: str, shape: tuple[int, ...]) -> Decoded | None:
    """An entry, or None where it is absent or torn."""
    try:
        note = json.loads((folder / f"{key}.json").read_text())
        rows = np.lib.format.open_memmap(folder / f"{key}.npy", mode="r")
        if rows.shape != shape or rows.dtype != np.uint8:
            return None
        return Decoded(mapped(rows), {int(i): why for i, why in note["broken"].items()}, note["digest"])
    except (OSError, ValueError, EOFError, KeyError, AttributeError, TypeError):
        return None


def _mended(root: Path, files: Sequence[str], reader: Reader, broken: dict[int, str]) -> bool:
    """Whether a file that could not be read now can: a disk that was away, a permission that was lacking."""
    return bool(broken) and len(reader.batch([root / files[i] for i in broken])[1]) < len(broken)


def _judge(files: Sequence[str], broken: dict[int, str], max_broken: int) -> None:
    if len(broken) > max_broken:
        raise too_many(_named(files, broken), max_broken)
    if broken:
        name_broken(_named(files, broken), len(files))


def _named(files: Sequence[str], broken: dict[int, str]) -> list[str]:
    return [f"{printable(files[i])} ({why})" for i, why in broken.items()]

"""Cache of decoded images on disk, so that the second run starts at once.

An entry is KEY.npy, uint8 (N, C, H, W), beside KEY.json, which names what could not be read. The .npy gets its name
last: an entry is whole or absent, also if two runs write the same one.
"""

import errno
import json
import logging
import math
import os
import shutil
import warnings
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import UInt8
from torch import Tensor

from ssl_runner.data.image_files.index import Source
from ssl_runner.data.image_files.unreadable import require_few, warn
from ssl_runner.run_folder.atomic import HALF, remove_abandoned, replacing

IN_MEMORY = 2**32  # bytes that are held in memory if the folder cannot be written

logger = logging.getLogger("ssl_runner")


class DecodedImages(NamedTuple):
    """Images in the order of their files; those that could not be read are plain grey."""

    rows: UInt8[Tensor, "n c h w"]
    broken: dict[int, str]  # why, by row
    digest: str  # of names and rows


def default_folder() -> Path:
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "ssl_runner"


def load_images(source: Source, *, folder: Path | None, max_broken: int) -> DecodedImages:
    """All images, mapped from the cache in a folder, into which they are decoded if it does not have them.

    Files that cannot be read are named in the log. folder: of the cache; None for none, all in memory.
    Raises ValueError if more than max_broken files cannot be read, OSError if the folder cannot be written and the
    images are too many for memory.
    """
    images = decode(source, max_broken) if folder is None else map_or_decode(source, folder, max_broken)
    require_few(source.files, images.broken, max_broken)  # the entry may come from a run that allowed more
    warn(source.files, images.broken)
    return images


def wrap_array(array: UInt8[np.ndarray, "*shape"]) -> UInt8[Tensor, "*shape"]:
    """A tensor on a read-only array, without a copy. Writing to it ends the process: rows are to be indexed."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="The given NumPy array is not writable")
        return torch.from_numpy(array)


def decode(source: Source, max_broken: int) -> DecodedImages:
    rows = torch.empty(source.shape, dtype=torch.uint8)

    def keep(first: int, some: np.ndarray) -> None:
        rows[first : first + len(some)] = torch.from_numpy(some)

    return DecodedImages(rows, *source.decode(keep, max_broken))


def map_or_decode(source: Source, folder: Path, max_broken: int) -> DecodedImages:
    remove_abandoned(folder, f"*{HALF}")
    key = source.signature()
    entry = read_entry(folder, key, source)
    if entry is not None and not any_readable_now(source, entry.broken):
        logger.info("images mapped from %s", folder / f"{key}.npy")
        return entry
    try:
        return write_entry(folder, key, source, max_broken)
    except OSError as problem:
        size = math.prod(source.shape)
        if size > IN_MEMORY:
            raise OSError(
                f"cannot keep {size / 2**30:.1f} GiB of decoded images in {folder} ({problem}); "
                f"name a folder with dataset.cache=FOLDER, or decode on demand with dataset.stream=true"
            ) from problem
        logger.warning("cannot keep decoded images in %s (%s): they stay in memory for this run only", folder, problem)
        return decode(source, max_broken)


def write_entry(folder: Path, key: str, source: Source, max_broken: int) -> DecodedImages:
    folder.mkdir(parents=True, exist_ok=True)
    if shutil.disk_usage(folder).free < math.prod(source.shape):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    # Written, not mapped: on a full disk a write says so, a mapped page kills the process.
    with replacing(folder / f"{key}.npy") as file:
        header = {"descr": "|u1", "fortran_order": False, "shape": source.shape}
        np.lib.format.write_array_header_1_0(file, header)
        broken, digest = source.decode(lambda _, rows: file.write(rows.data), max_broken)
        with replacing(folder / f"{key}.json") as note:
            note.write(json.dumps({"root": str(source.root), "digest": digest, "broken": broken}, indent=1).encode())
    entry = read_entry(folder, key, source)
    if entry is None:
        raise OSError(f"{folder / key}.npy was written and cannot be read back")
    return entry


def read_entry(folder: Path, key: str, source: Source) -> DecodedImages | None:
    """An entry, or None if it is absent or torn."""
    try:
        note = json.loads((folder / f"{key}.json").read_text())
        rows = np.lib.format.open_memmap(folder / f"{key}.npy", mode="r")
        if rows.shape != source.shape or rows.dtype != np.uint8:
            return None
        return DecodedImages(wrap_array(rows), {int(i): why for i, why in note["broken"].items()}, note["digest"])
    except (OSError, ValueError, EOFError, KeyError, AttributeError, TypeError):
        return None


def any_readable_now(source: Source, broken: dict[int, str]) -> bool:
    """Whether a file that could not be read now can: a disk is back, a permission was given."""
    return bool(broken) and len(source.reader.read_batch(source.paths(broken))[1]) < len(broken)

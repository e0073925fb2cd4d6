"""Cache of decoded images on disk, so that the second run starts at once; and whether they fit there, or in memory.

An entry is flowers-64px-KEY.npy, uint8 (N, C, H, W), beside a .json that names the folder and what could not be read.
The .npy gets its name last: an entry is whole or absent, also if two runs write the same one.
"""

import errno
import io
import logging
import math
import os
import re
import shutil
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from jaxtyping import UInt8
from torch import Tensor

from ssl_runner.contract import Rows
from ssl_runner.data.image_files.source import Source
from ssl_runner.data.machine import available_memory
from ssl_runner.data.places import cache_folder, expand_home
from ssl_runner.data.rows import wrap_array
from ssl_runner.errors import are
from ssl_runner.run_folder.atomic import HALVES, read_json, remove_abandoned, replacing, write_json

GIB = 2**30
IN_MEMORY = 4 * GIB  # bytes that are held in memory if the folder cannot be written

logger = logging.getLogger("ssl_runner")


def load_images(source: Source, cache: bool | str, stream: bool | Literal["auto"]) -> Rows:
    """All images as a tensor, mapped from the cache, into which they are decoded if need be; or the source itself.

    Files that cannot be read are named in the log. cache: the folder; True for the user's, False for memory alone.
    stream: whether images are decoded at each request; auto: if they fit neither the disk nor memory. A line says what
    was chosen. Raises ValueError if too many files cannot be read, OSError if the folder cannot be written and the
    images are too many for memory.
    """
    if stream is True:
        return source
    folder, images = cache if isinstance(cache, str) else cache_folder(), None
    try:
        place = expand_home(folder) if cache else None
        if stream == "auto" and not fits(source, place):
            return source
        images = cached_images(source, place) if place is not None else None
    except OSError as problem:
        if (size := math.prod(source.shape)) > IN_MEMORY:
            given = f"cannot keep {size / GIB:.1f} GiB of decoded images in {folder} ({problem})"
            remedy = "name a folder with dataset.cache=FOLDER, or decode on demand with dataset.stream=true"
            raise OSError(f"{given}; {remedy}") from problem
        logger.warning("cannot keep decoded images in %s (%s): they stay in memory for this run only", folder, problem)
    if images is None:
        content = io.BytesIO()
        source.forget_broken()  # of a pass whose images could not be kept
        source.decode(content.write)
        images = torch.frombuffer(content.getbuffer(), dtype=torch.uint8).view(source.shape)
    for remark, count in source.remarks.items():
        logger.warning("%d of %d images %s %s", count, len(source), "has" if count == 1 else "have", remark)
    for name in source.describe(source.broken)[:10]:
        logger.warning("cannot read %s", name)
    if many := len(source.broken):
        logger.warning("%d of %d images cannot be read and %s left out", many, len(source), are(many))
    return images


def fits(source: Source, folder: Path | None) -> bool:
    """Whether the decoded images are in the folder, or fit there, or else in memory. Says which, and the other way."""
    size, free, memory = math.prod(source.shape), 0, min(IN_MEMORY, available_memory() // 2)
    if folder is not None:
        if entry_path(folder, source).exists():
            return True
        there = next(each for each in (folder.absolute(), *folder.absolute().parents) if each.is_dir())
        free = shutil.disk_usage(there).free
    disk = f"{folder} ({amount(free)} free)" if folder else "a cache (dataset.cache=false)"
    if size > max(free, memory):
        choice = f"fit neither in {disk} nor in memory ({amount(memory)} of it), and are decoded on demand"
        other = "to keep them decoded, type dataset.cache=FOLDER on a larger disk"
    else:
        choice = f"are kept in {disk if size <= free else f'memory ({amount(memory)} of it may be taken)'}"
        other = "to decode them on demand, type dataset.stream=true"
    logger.info("images: %s once decoded, which %s; %s", amount(size), choice, other)
    return size <= max(free, memory)


def amount(size: int) -> str:
    return f"{size / GIB:,.1f} GiB" if size > GIB / 10 else f"{size / 2**20:,.1f} MiB"


def cached_images(source: Source, folder: Path) -> UInt8[Tensor, "n c h w"]:
    """The images of an entry, which is written if it is absent. Raises OSError and ValueError as `load_images`."""
    remove_abandoned(folder, HALVES)
    path = entry_path(folder, source)
    entry = read_entry(path, source)
    # What could not be read perhaps can now: a disk is back, a permission was given.
    if entry is None or len(source.read(list(entry[1]))[1]) < len(entry[1]):
        write_entry(path, source)
        entry = read_entry(path, source)
        if entry is None:
            raise OSError(f"{path} was written and cannot be read back")
    else:
        logger.info("images mapped from %s", path)
    rows, broken, remarks = entry
    source.remarks.update(remarks)
    source.forget_broken()
    source.record(broken)  # the entry may come from a run that allowed more
    return rows


def entry_path(folder: Path, source: Source) -> Path:
    """The entry of these images, whatever the folder was called that they were in; or the place of a new one."""
    key = source.signatures[0]
    name = re.sub(r"[^\w-]", "_", source.root.name, flags=re.ASCII)[:40] or "images"
    return next(folder.glob(f"*{key}.npy"), folder / f"{name}-{source.size}px-{key}.npy")


def write_entry(path: Path, source: Source) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    if shutil.disk_usage(path.parent).free < math.prod(source.shape):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    # Written, not mapped: on a full disk a write says so, a mapped page kills the process.
    with replacing(path) as file:
        header = {"descr": "|u1", "fortran_order": False, "shape": source.shape}
        np.lib.format.write_array_header_1_0(file, header)
        source.decode(file.write)
        note = {"root": str(source.root), "broken": source.broken, "remarks": source.remarks}
        write_json(path.with_suffix(".json"), note)


def read_entry(path: Path, source: Source) -> tuple[UInt8[Tensor, "n c h w"], dict[int, str], dict[str, int]] | None:
    """Images, why by row for those that could not be read, remarks; None if the entry is absent or torn."""
    try:
        note = read_json(path.with_suffix(".json"))
        rows = np.lib.format.open_memmap(path, mode="r")
        if rows.shape != source.shape or rows.dtype != np.uint8:
            return None
        broken = {int(i): why for i, why in note["broken"].items()}
        return wrap_array(rows), broken, dict(note.get("remarks", {}))
    except (OSError, ValueError, EOFError, KeyError, AttributeError, TypeError):
        return None

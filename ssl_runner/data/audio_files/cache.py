"""Cache of decoded recordings on disk: an entry is NAME-8000hz-KEY.npy, int16 (N, 1, T), as that of images is uint8.

Beside it is a .json that names the folder, by which `ssl-runner cache` knows it.
"""

import hashlib
import io
import logging
import os
import re
import time
import warnings
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Int16
from torch import Tensor

from ssl_runner.data.audio_files.decode import cut_rows, read_wave
from ssl_runner.data.audio_files.plan import ClipPlan
from ssl_runner.data.image_files.source import cores
from ssl_runner.data.places import cache_folder, expand_home
from ssl_runner.duration import Phase
from ssl_runner.run_folder.atomic import HALVES, read_json, remove_abandoned, replacing, write_json

VERSION = 1  # of what decode.py makes of a file
TOGETHER = 256  # files decoded before the next ones

logger = logging.getLogger("ssl_runner")


def load_clips(root: Path, plan: ClipPlan, rate: int, length: int, cache: bool | str) -> Int16[Tensor, "n 1 t"]:
    """All rows of a plan, mapped from the cache, into which they are decoded if need be; cache False: in memory.

    What cannot be decoded is silence: see `heard`. If the folder cannot be written, they stay in memory.
    """
    shape = (sum(plan.counts), 1, length)
    if cache:
        folder = expand_home(cache if isinstance(cache, str) else cache_folder())
        name = re.sub(r"[^\w-]", "_", root.absolute().name, flags=re.ASCII)[:40] or "recordings"
        path = folder / f"{name}-{rate}hz-{key_of(root, plan, rate, length)}.npy"
        try:
            if (rows := read_entry(path, shape)) is None:
                folder.mkdir(parents=True, exist_ok=True)
                remove_abandoned(folder, HALVES)
                write_entry(path, root, plan, rate, length)
                rows = read_entry(path, shape)
            else:
                logger.info("recordings mapped from %s", path)
            if rows is not None:
                return rows
        except OSError as problem:
            logger.warning("cannot keep decoded recordings in %s (%s): they stay in memory", folder, problem)
    content = io.BytesIO()
    decode(root, plan, rate, length, content.write)
    return torch.frombuffer(content.getbuffer(), dtype=torch.int16).view(shape)


def write_entry(path: Path, root: Path, plan: ClipPlan, rate: int, length: int) -> None:
    """Decodes into the cache. The .npy gets its name last: an entry is whole or absent."""
    header = {"descr": np.dtype(np.int16).str, "fortran_order": False, "shape": (sum(plan.counts), 1, length)}
    with replacing(path) as file:
        np.lib.format.write_array_header_1_0(file, header)
        decode(root, plan, rate, length, file.write)
        write_json(path.with_suffix(".json"), {"kind": "recordings", "root": str(root.absolute())})


def decode(root: Path, plan: ClipPlan, rate: int, length: int, write: Callable[[bytes], object]) -> None:
    """Calls `write` with the bytes of all rows in order."""

    def read(place: int) -> bytes:
        try:
            return cut_rows(read_wave(root / plan.files[place], rate), length, plan.counts[place]).tobytes()
        except Exception as problem:  # libsndfile's errors, and numpy's of what it returned
            logger.warning("cannot read %s (%s): it is left out", plan.files[place], problem)
            return bytes(2 * plan.counts[place] * length)

    started, files = time.monotonic(), range(len(plan.files))
    with Phase("decoding", len(files), "recordings") as phase, ThreadPoolExecutor(cores()) as pool:
        for first in files[::TOGETHER]:
            for rows in pool.map(read, files[first : first + TOGETHER]):
                write(rows)
                phase.advance(1)
    logger.info("decoded %d recordings in %.1f s", len(files), time.monotonic() - started)


def heard(rows: Int16[Tensor, "n 1 t"]) -> Tensor:
    """Which rows hold any sound, (n,)."""
    return torch.cat([part.flatten(1).any(1) for part in rows.split(1024)])


def key_of(root: Path, plan: ClipPlan, rate: int, length: int) -> str:
    """Hex digest of how files are read, and of their names, sizes and times."""
    digest = hashlib.blake2b(f"{VERSION} {rate} {length}".encode(), digest_size=16)
    for file, count in zip(plan.files, plan.counts, strict=True):
        digest.update(os.fsencode(f"\0{file}\0{count}"))
        with suppress(OSError):
            stat = (root / file).stat()
            digest.update(f"{stat.st_size} {stat.st_mtime_ns}".encode())
    return digest.hexdigest()


def read_entry(path: Path, shape: tuple[int, ...]) -> Int16[Tensor, "n 1 t"] | None:
    """Rows of an entry; None if it is absent or torn, or has no note."""
    try:
        if not read_json(path.with_suffix(".json")):
            return None
        rows = np.lib.format.open_memmap(path, mode="r")
    except (OSError, ValueError, EOFError):
        return None
    if rows.shape != shape or rows.dtype != np.int16:
        return None
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="The given NumPy array is not writable")
        return torch.from_numpy(rows)

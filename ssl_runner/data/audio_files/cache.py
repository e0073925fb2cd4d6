"""Cache of decoded recordings on disk: an entry is NAME-8000hz-KEY.npy, int16 (N, 1, T), as that of images is uint8.

Beside it is a .json that names the folder, by which `ssl-runner cache` knows it, and the rows that hold no sound, so
that nobody has to read a hundred gigabytes to find them.
"""

import hashlib
import io
import logging
import os
import re
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float32, Int16
from torch import Tensor

from ssl_runner.data.audio_files.decode import cut_rows, read_wave
from ssl_runner.data.audio_files.plan import ClipPlan
from ssl_runner.data.image_files.source import cores
from ssl_runner.data.places import cache_folder, expand_home
from ssl_runner.data.rows import wrap_array
from ssl_runner.duration import Phase
from ssl_runner.errors import one_line, plural
from ssl_runner.run_folder.atomic import HALVES, read_json, remove_abandoned, replacing, write_json

VERSION = 1  # of what decode.py makes of a file
TOGETHER = 256  # files decoded before the next ones

logger = logging.getLogger("ssl_runner")


class Clips(NamedTuple):
    """Decoded recordings."""

    rows: Int16[Tensor, "n 1 t"]
    broken: dict[str, str]  # why, by name, of files that cannot be decoded: their rows are silence
    silent: list[int]  # rows that hold no sound


def load_clips(root: Path, plan: ClipPlan, rate: int, length: int, cache: bool | str) -> Clips:
    """All rows of a plan, mapped from the cache, into which they are decoded if need be; cache False: in memory.

    If the folder cannot be written, rows stay in memory.
    """
    shape = (sum(plan.counts), 1, length)
    if cache:
        folder = expand_home(cache if isinstance(cache, str) else cache_folder())
        name = re.sub(r"[^\w-]", "_", root.absolute().name, flags=re.ASCII)[:40] or "recordings"
        path = folder / f"{name}-{rate}hz-{key_of(root, plan, rate, length)}.npy"
        try:
            entry = read_entry(path, shape)
            # What could not be read perhaps can now: a disk is back, a permission was given.
            if entry is None or any(not isinstance(read_file(root / file, rate), str) for file in entry.broken):
                folder.mkdir(parents=True, exist_ok=True)
                remove_abandoned(folder, HALVES)
                write_entry(path, root, plan, rate, length)
                entry = read_entry(path, shape)
            else:
                logger.info("recordings mapped from %s", path)
            if entry is not None:
                return entry
        except OSError as problem:
            logger.warning("cannot keep decoded recordings in %s (%s): they stay in memory", folder, problem)
    content = io.BytesIO()
    found = decode(root, plan, rate, length, content.write)
    return Clips(torch.frombuffer(content.getbuffer(), dtype=torch.int16).view(shape), *found)


def write_entry(path: Path, root: Path, plan: ClipPlan, rate: int, length: int) -> None:
    """Decodes into the cache. The .npy gets its name last: an entry is whole or absent."""
    header = {"descr": np.dtype(np.int16).str, "fortran_order": False, "shape": (sum(plan.counts), 1, length)}
    with replacing(path) as file:
        np.lib.format.write_array_header_1_0(file, header)
        broken, silent = decode(root, plan, rate, length, file.write)
        note = {"kind": "recordings", "root": str(root.absolute()), "broken": broken, "silent": silent}
        write_json(path.with_suffix(".json"), note)


def decode(
    root: Path, plan: ClipPlan, rate: int, length: int, write: Callable[[bytes], object]
) -> tuple[dict[str, str], list[int]]:
    """Calls `write` with the bytes of all rows in order. Returns what `Clips` says of them."""

    def read(place: int) -> bytes | str:
        wave = read_file(root / plan.files[place], rate)
        return wave if isinstance(wave, str) else cut_rows(wave, length, plan.counts[place]).tobytes()

    started, files, broken, silent, row = time.monotonic(), range(len(plan.files)), dict[str, str](), list[int](), 0
    with Phase("decoding", len(files), "recordings") as phase, ThreadPoolExecutor(cores()) as pool:
        for first in files[::TOGETHER]:
            places = files[first : first + TOGETHER]
            for place, rows in zip(places, pool.map(read, places), strict=True):
                if isinstance(rows, str):
                    broken[plan.files[place]], rows = rows, bytes(2 * plan.counts[place] * length)
                sounds = np.frombuffer(rows, np.int16).reshape(plan.counts[place], length).any(axis=1)
                silent += (row + np.flatnonzero(~sounds)).tolist()
                row += plan.counts[place]
                write(rows)
                phase.advance(1)
    logger.info("decoded %s in %.1f s", plural(len(files), "recording"), time.monotonic() - started)
    return broken, silent


def read_file(path: Path, rate: int) -> Float32[np.ndarray, " n"] | str:
    """The wave of a file, or why it cannot be decoded."""
    try:
        wave = read_wave(path, rate)
    except Exception as problem:  # libsndfile's errors, and numpy's of what it returned
        return one_line(problem) or type(problem).__name__
    return wave if len(wave) else "no sound is behind its header"


def key_of(root: Path, plan: ClipPlan, rate: int, length: int) -> str:
    """Hex digest of how files are read, and of their names, sizes and times."""
    digest = hashlib.blake2b(f"{VERSION} {rate} {length}".encode(), digest_size=16)
    for file, count in zip(plan.files, plan.counts, strict=True):
        digest.update(os.fsencode(f"\0{file}\0{count}"))
        with suppress(OSError):
            stat = (root / file).stat()
            digest.update(f"{stat.st_size} {stat.st_mtime_ns}".encode())
    return digest.hexdigest()


def read_entry(path: Path, shape: tuple[int, ...]) -> Clips | None:
    """None if it is absent or torn."""
    try:
        note = read_json(path.with_suffix(".json"))
        broken, silent = dict(note["broken"]), [int(row) for row in note["silent"]]
        rows = np.lib.format.open_memmap(path, mode="r")
    except (OSError, ValueError, EOFError, KeyError, TypeError):
        return None
    if rows.shape != shape or rows.dtype != np.int16:
        return None
    return Clips(wrap_array(rows), broken, silent)

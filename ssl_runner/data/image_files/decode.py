"""Decoding image files of any size and mode to uint8 squares, many at a time."""

import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Literal

import numpy as np
from jaxtyping import UInt8
from PIL import Image, ImageOps

SUFFIXES = frozenset(
    f".{kind}"
    for kind in (
        *("avif", "bmp", "dib", "gif", "j2k", "jfif", "jp2", "jpe", "jpeg", "jpg"),
        *("pbm", "pgm", "png", "pnm", "ppm", "tga", "tif", "tiff", "webp"),
    )
)
GREY = 127  # what a file that cannot be read looks like
BATCH, BATCH_BYTES = 4096, 2**26  # images decoded before the next ones, and bytes that they may be
DEEP = ("I", "I;16", "I;16L", "I;16B", "I;16N")  # Pillow's modes of 16-bit grey


@cache
def formats() -> tuple[str, ...]:
    """Pillow's names of the formats that are read, whatever a file is called; for PostScript it would run a program."""
    known = Image.registered_extensions()
    return tuple(sorted({known[suffix] for suffix in SUFFIXES if suffix in known}))


@dataclass(frozen=True)
class Reader:
    """How an image file becomes an array: size in pixels, channels and what is done with what is not square."""

    size: int
    channels: Literal[1, 3] = 3
    resize: Literal["crop", "squash"] = "crop"  # the centred square, or all of it with its sides made equal
    workers: int | None = None  # threads; None for one a core

    def read(self, path: Path) -> UInt8[np.ndarray, "c s s"]:
        """The first frame, upright by its EXIF tag, on white if it is transparent, resized with antialiasing.

        Raises whatever Pillow makes of a broken file.
        """
        with Image.open(path, formats=formats()) as file:
            # A JPEG decodes to a half, a quarter or an eighth at a fraction of the cost.
            file.draft(None, (2 * self.size, 2 * self.size))
            ImageOps.exif_transpose(file, in_place=True)
            image = to_channels(file, self.channels)
            if image.size != (self.size, self.size):
                image = image.resize((self.size, self.size), Image.Resampling.BICUBIC, self.box(*image.size))
            array = np.asarray(image).reshape(self.size, self.size, self.channels)
        return np.ascontiguousarray(array.transpose(2, 0, 1))  # (C, H, W)

    def read_batch(self, paths: Sequence[Path]) -> tuple[UInt8[np.ndarray, "b c s s"], dict[int, str]]:
        """The images in order, and why by position for those that cannot be read and are plain grey.

        The threads live as long as the call: a reader can be pickled, and a process that holds one forked.
        """
        rows = np.full((len(paths), self.channels, self.size, self.size), GREY, dtype=np.uint8)
        broken: dict[int, str] = {}

        def fill(positions: range) -> None:
            for i in positions:
                try:
                    rows[i] = self.read(paths[i])
                except Exception as problem:  # Pillow's readers raise a dozen types on bytes that they do not expect
                    broken[i] = f"{type(problem).__name__}: {problem}"

        workers = min(self.workers or core_count(), len(paths))
        if workers <= 1:
            fill(range(len(paths)))
        else:
            with ThreadPoolExecutor(workers) as pool:
                list(pool.map(fill, (range(i, len(paths), 4 * workers) for i in range(4 * workers))))
        return rows, dict(sorted(broken.items()))

    def read_batches(self, paths: Sequence[Path]) -> Iterator[tuple[int, UInt8[np.ndarray, "b c s s"], dict[int, str]]]:
        """All images in order: position of the first, images, and why by position for those that cannot be read."""
        step = max(1, min(BATCH, BATCH_BYTES // (self.channels * self.size**2)))
        for first in range(0, len(paths), step):
            rows, broken = self.read_batch(paths[first : first + step])
            yield first, rows, {first + i: why for i, why in broken.items()}

    def box(self, width: int, height: int) -> tuple[float, float, float, float]:
        """Left, top, right, bottom: to resize the short side and crop the centre is to resize the centred square."""
        if self.resize == "squash":
            return 0.0, 0.0, float(width), float(height)
        side = min(width, height)
        left, top = (width - side) / 2, (height - side) / 2
        return left, top, left + side, top + side


def to_channels(image: Image.Image, channels: int) -> Image.Image:
    """The image in 8-bit grey or RGB: CMYK, palettes and YCbCr converted, transparency laid on white, 16 bits made 8.

    Raises ValueError for floating-point pixels, whose range is not in the file.
    """
    if image.mode == "F":
        raise ValueError("floating-point pixels have no known range; save the image with 8 or 16 bits")
    if image.mode in DEEP:
        image = Image.fromarray((np.asarray(image).astype(np.float32).clip(0, 65535) / 257 + 0.5).astype(np.uint8))
    elif image.has_transparency_data:
        above = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), above)
    if channels == 3:
        return image.convert("RGB")
    return image.convert("L") if image.mode in ("1", "L", "RGB") else image.convert("RGB").convert("L")


def common_side(paths: Sequence[Path], probes: int = 32) -> int | None:
    """Pixels a side if the headers of evenly spaced files all tell the same square, else None."""
    sizes = set()
    for i in range(0, len(paths), max(1, len(paths) // probes)):
        try:
            with Image.open(paths[i], formats=formats()) as image:
                sizes.add(image.size)
        except Exception:  # as in Reader.read_batch; it is named when it is read
            continue
    width, height = sizes.pop() if len(sizes) == 1 else (0, 1)
    return width if width == height else None


def core_count() -> int:
    """Cores that this process may use, 16 at most."""
    count = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return min(count, 16)

"""Decoding an image file of any size and mode to a uint8 square."""

from collections.abc import Sequence
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Literal

import numpy as np
from jaxtyping import UInt8
from PIL import Image, ImageOps

SUFFIXES = (
    *(".avif", ".bmp", ".dib", ".gif", ".j2k", ".jfif", ".jp2", ".jpe", ".jpeg", ".jpg"),
    *(".pbm", ".pgm", ".png", ".pnm", ".ppm", ".tga", ".tif", ".tiff", ".webp"),
)
DEEP = ("I", "I;16", "I;16L", "I;16B", "I;16N")  # Pillow's modes of 16-bit grey


@cache
def formats() -> tuple[str, ...]:
    """Pillow's names of the formats that are read, whatever a file is called; for PostScript it would run a program."""
    known = Image.registered_extensions()
    return tuple(sorted({known[suffix] for suffix in SUFFIXES if suffix in known}))


def read_image(
    path: Path, size: int, channels: Literal[1, 3] = 3, resize: Literal["crop", "squash"] = "crop"
) -> UInt8[np.ndarray, "c s s"]:
    """The first frame, upright by its EXIF tag, on white if it is transparent, resized with antialiasing.

    size: pixels a side. resize: keep the centred square, or all of the image with its sides made equal.
    Raises whatever Pillow makes of a broken file.
    """
    with Image.open(path, formats=formats()) as file:
        file.draft(None, (2 * size, 2 * size))  # a JPEG decodes to a half, a quarter or an eighth at less cost
        ImageOps.exif_transpose(file, in_place=True)
        fit = ImageOps.fit if resize == "crop" else Image.Image.resize
        image = fit(to_channels(file, channels), (size, size), Image.Resampling.BICUBIC)
        array = np.asarray(image).reshape(size, size, channels)
    return np.ascontiguousarray(array.transpose(2, 0, 1))  # (C, H, W)


def to_channels(image: Image.Image, channels: int) -> Image.Image:
    """The image in 8-bit grey or RGB: CMYK, palettes and YCbCr converted, transparency laid on white, 16 bits made 8.

    Raises ValueError for floating-point pixels, whose range is not in the file.
    """
    if image.mode == "F":
        raise ValueError("floating-point pixels have no known range; save the image with 8 or 16 bits")
    if image.mode in DEEP:
        image = Image.fromarray((np.asarray(image).astype(np.float32).clip(0, 65535) / 257 + 0.5).astype(np.uint8))
    elif image.has_transparency_data:
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image.convert("RGBA"))
    if channels == 3:
        return image.convert("RGB")
    return image.convert("L") if image.mode in ("1", "L", "RGB") else image.convert("RGB").convert("L")


def common_side(paths: Sequence[Path], probes: int = 32) -> int:
    """Pixels a side if the headers of evenly spaced files all tell the same square, else 0."""
    sizes = set()
    for path in paths[:: max(1, len(paths) // probes)]:
        # Pillow raises a dozen types; what cannot be read is named when it is read.
        with suppress(Exception), Image.open(path, formats=formats()) as image:
            sizes.add(image.size)
    width, height = sizes.pop() if len(sizes) == 1 else (0, 0)
    return width if width == height else 0

"""Decoding an image file of any size and mode to a uint8 square."""

from collections.abc import Sequence
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Literal

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import UInt8
from PIL import Image, ImageOps, features

from ssl_runner.data.image_files.depth import ORIENTATION, PixelRange, depth_of, readable_from

try:
    import simplejpeg  # the extra `jpeg`
except ImportError:
    simplejpeg = None

SUFFIXES = (
    *(".avif", ".bmp", ".dib", ".gif", ".j2k", ".jfif", ".jp2", ".jpe", ".jpeg", ".jpg"),
    *(".pbm", ".pgm", ".png", ".pnm", ".ppm", ".tga", ".tif", ".tiff", ".webp"),
)
HEIC = (".heic", ".heif", ".hif")
REMEDIES = {".avif": "pip install 'pillow>=11.3'", **dict.fromkeys(HEIC, "pip install 'ssl-runner[heic]'")}
WHOLE = PixelRange("full")
MAX_PIXELS = 180_000_000  # of an image that is decoded; in colour they take half a gigabyte
LARGEST, OTHERWISE = 96, 64  # pixels a side: the largest that is kept as it is, and what larger or mixed ones become
NEW_SUBFILE_TYPE, REDUCED = 254, 1  # a tag of TIFF, and the bit of a page that is a smaller copy of another


@cache
def readable() -> dict[str, str]:
    """Pillow's name of the format by suffix; which ones, depends on what is installed."""
    with suppress(ImportError):
        from pillow_heif import register_heif_opener  # the extra `heic`

        register_heif_opener()
    # Pillow's own limit is met before a header can be read; `open_image` has it as a setting.
    Image.MAX_IMAGE_PIXELS = None
    known = Image.registered_extensions()
    if ".avif" in known and not features.check("avif"):
        known = {suffix: name for suffix, name in known.items() if name != "AVIF"}
    return {suffix: known[suffix] for suffix in (*SUFFIXES, *HEIC) if suffix in known}


@cache
def formats() -> tuple[str, ...]:
    """Pillow's names of the formats that are read, whatever a file is called; for PostScript it would run a program."""
    return tuple(sorted(set(readable().values())))


def read_image(
    path: Path | bytes,
    size: int,
    channels: Literal[1, 3] = 3,
    resize: Literal["crop", "squash"] = "crop",
    pixels: PixelRange = WHOLE,
    max_pixels: int = MAX_PIXELS,
) -> UInt8[np.ndarray, "c s s"]:
    """The first frame, upright by its EXIF tag, on white if it is transparent, resized with antialiasing.

    path: of the file, or its content. size: pixels a side. resize: keep the centred square, or all of the image with
    its sides made equal.
    Raises whatever Pillow makes of a broken file, and ValueError for one of more than max_pixels.
    """
    with open_image(path, size, max_pixels) as file:
        array = decode_jpeg(file, channels)
        if array is None:
            depth = depth_of(file)
            upright = pixels.to_bytes(file, depth, path) if depth else file
            ImageOps.exif_transpose(upright, in_place=True)
            array = np.array(to_channels(upright, channels))
    if resize == "crop":
        (height, width), side = array.shape[:2], min(array.shape[:2])
        top, left = (height - side) // 2, (width - side) // 2
        array = array[top : top + side, left : left + side]
    image = torch.from_numpy(array.reshape(*array.shape[:2], channels)).permute(2, 0, 1)[None]  # (1, C, H, W)
    if image.shape[2:] != (size, size):
        # Of bytes it is a sum of integers: the same bits whatever the processor, 1.2 to 3 times as fast as Pillow's.
        image = F.interpolate(image, size=(size, size), mode="bicubic", antialias=True)
    return image[0].contiguous().numpy()


def decode_jpeg(file: Image.Image, channels: int) -> UInt8[np.ndarray, "h w *c"] | None:
    """The pixels that Pillow would decode, by libjpeg-turbo without it; None if only Pillow can decode the file.

    That is all but upright JPEGs in RGB or grey, all that is broken, and every file without the extra `jpeg`.
    """
    colours = {("RGB", 3): "RGB", ("L", 3): "RGB", ("L", 1): "GRAY"}.get((file.mode, channels))
    upright = file.format == "JPEG" and file.getexif().get(ORIENTATION, 1) == 1
    if simplejpeg is None or colours is None or not upright:
        return None
    width, height = file.size  # reduced by open_image; of the sizes that can be decoded, it is the least that has these
    file.fp.seek(0)
    with suppress(ValueError):
        return simplejpeg.decode_jpeg(file.fp.read(), colours, min_height=height, min_width=width)
    return None


def open_image(path: Path | bytes, size: int, max_pixels: int = MAX_PIXELS) -> Image.Image:
    """An image of which the header is read, set to decode to no more pixels than `size` a side can use.

    A JPEG decodes to a half, a quarter or an eighth, always. Of more than max_pixels, JPEG 2000 does the same, and of a
    TIFF a smaller copy among its pages is taken. Raises ValueError if there are still too many.
    """
    file = Image.open(readable_from(path), formats=formats())
    width, height = file.size
    file.draft(None, (2 * size, 2 * size))
    if not file.info.get("progressive"):  # such a JPEG is held whole, however small it becomes
        width, height = file.size
    if width * height > max_pixels and file.format in ("JPEG2000", "TIFF"):
        try:
            width, height = reduce_image(file, 2 * size, max_pixels)
        except BaseException:
            file.close()
            raise
    if width * height > max_pixels:
        file.close()
        raise ValueError(
            f"{width} x {height} pixels are more than dataset.max_pixels={max_pixels}; "
            f"type dataset.max_pixels={width * height} if the memory holds that many for each of dataset.workers"
        )
    return file


def reduce_image(file: Image.Image, side: int, max_pixels: int) -> tuple[int, int]:
    """Sets a JPEG 2000 or TIFF file to a smaller copy of its image, if it has one of at least `side` pixels a side.

    Returns width and height that it decodes to.
    """
    width, height = file.size
    if file.format == "JPEG2000":
        levels = (min(file.size) // side).bit_length() - 1
        enough = (each for each in range(levels) if (width >> each) * (height >> each) <= max_pixels)
        if level := next(enough, max(levels, 0)):
            file.reduce = level
        return width >> level, height >> level
    pages = {}
    for page in range(1, file.n_frames):
        file.seek(page)
        if file.tag_v2.get(NEW_SUBFILE_TYPE, 0) & REDUCED and min(file.size) >= side:
            pages[file.width * file.height] = page
    file.seek(pages[min(pages)] if pages else 0)
    return file.size


def to_channels(image: Image.Image, channels: int) -> Image.Image:
    """The image in 8-bit grey or RGB: CMYK, palettes and YCbCr converted, transparency laid on white."""
    if image.has_transparency_data:
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image.convert("RGBA"))
    if channels == 3:
        return image.convert("RGB")
    return image.convert("L") if image.mode in ("1", "L", "RGB") else image.convert("RGB").convert("L")


def common_size(paths: Sequence[Path | bytes], probes: int = 32) -> tuple[int, int] | None:
    """Width and height if the headers of evenly spaced files all tell the same, else None."""
    sizes = set()
    for path in paths[:: max(1, len(paths) // probes)]:
        # Pillow raises a dozen types; what cannot be read is named when it is read.
        with suppress(Exception), Image.open(readable_from(path), formats=formats()) as image:
            sizes.add(image.size)
    return sizes.pop() if len(sizes) == 1 else None


def choose_size(common: tuple[int, int] | None, size: int | None) -> tuple[int, str]:
    """Pixels a side, and why. common: what `common_size` says of the images, size: the setting."""
    if size:
        return size, f"dataset.size={size}"
    remedy = "dataset.size=N for another size"
    if common is None:
        return OTHERWISE, f"as the files differ in size; {remedy}"
    width, height = common
    if width == height and 8 <= width <= LARGEST:
        return width, "the size of the files"
    return OTHERWISE, f"as the files have {width} x {height}; {remedy}"

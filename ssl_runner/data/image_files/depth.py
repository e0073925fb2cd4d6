"""Pixels deeper than 8 bits: which files have them, what range of values they use, and that range as 0 to 255."""

import io
import sys
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
from jaxtyping import Shaped, UInt8
from PIL import Image

Setting = Literal["auto", "full", "image"] | tuple[float, float]
SUFFIXES = (".png", ".tif", ".tiff", ".pgm", ".pnm", ".ppm", ".jp2", ".j2k")  # of files that can be deep
SAMPLED = 64  # files, at most, of which headers and, if they are deep, pixels are read
BITS = (8, 10, 12, 14, 16)  # that cameras and scanners have
BITS_PER_SAMPLE, SAMPLE_FORMAT, SIGNED = 258, 339, 2  # tags of TIFF, and a value of the second
ORIENTATION = 274  # a tag of EXIF
GREY_ALPHA = "LA;16B"  # in a PNG, which Pillow opens as RGBA


def readable_from(file: Path | bytes) -> Path | io.BytesIO:
    """A file as Pillow opens it: by its path, or its content."""
    return io.BytesIO(file) if isinstance(file, bytes) else file


class Depth(NamedTuple):
    """A type of deep pixels."""

    kind: str
    whole: tuple[float, float]  # its range; of floating point [0, 1]
    mode: str = "L"  # Pillow's, of the same image in 8 bits


def depth_of(image: Image.Image) -> Depth | None:
    """The type of the pixels, from the header alone; None for 8 bits."""
    if image.mode == "F":
        return Depth("floating-point", (0.0, 1.0))
    if image.mode.startswith("I"):
        tags = getattr(image, "tag_v2", {})
        bits, signed = tags.get(BITS_PER_SAMPLE, (16,))[0], tags.get(SAMPLE_FORMAT, (1,))[0] == SIGNED
        low = -(2.0 ** (bits - 1)) if signed else 0.0
        return Depth(f"{'signed ' * signed}{bits}-bit", (low, low + 2.0**bits - 1))
    # Pillow opens colours of 16 bits with 8; the tiles tell what is in the file.
    tiles = " ".join(str(tile.args) for tile in image.tile) if image.format in ("PNG", "TIFF") else ""
    return Depth("16-bit", (0.0, 65535.0), "LA" if GREY_ALPHA in tiles else image.mode) if ";16" in tiles else None


def deep_values(image: Image.Image, depth: Depth, path: Path | bytes) -> Shaped[np.ndarray, "h w *c"]:
    """Pixels as the file has them, channels last."""
    if depth.mode == "L":
        values = np.asarray(image)
        return values.view(np.uint32) if depth.whole[0] == 0 and values.dtype == np.int32 else values
    # Pillow keeps one byte of two, by the order that it is told they have: of the wrong order it keeps the other one.
    with Image.open(readable_from(path), formats=(str(image.format),)) as other:
        if image.format == "TIFF":
            other.seek(image.tell())
        other.tile = [tile._replace(args=swapped(tile.args)) for tile in other.tile]
        lower, upper = np.asarray(other), np.asarray(image)
    return lower.view(">u2") if depth.mode == "LA" else upper.astype(np.uint16) * 256 + lower


def swapped(arguments: Any) -> Any:
    """What a decoder of Pillow is told of a tile, with the other order of bytes; all bytes of grey with opacity."""
    if not isinstance(arguments, str):
        return (swapped(arguments[0]), *arguments[1:])
    native = "L" if sys.byteorder == "little" else "B"
    order = arguments[-1].replace("N", native)
    return "RGBA" if arguments == GREY_ALPHA else arguments[:-1] + {"B": "L", "L": "B"}[order]


@dataclass(frozen=True, eq=False)
class PixelRange:
    """What 0 and 255 stand for in deep files, the same in all files of a set unless the setting is `image`."""

    setting: Setting = "auto"
    sampled: dict[str, tuple[float, float]] = field(default_factory=dict)  # by kind, of the sampled files
    remarks: dict[str, set[int]] = field(default_factory=dict)  # on what was read so far

    @property
    def key(self) -> str:
        """What it adds to the key of a cache: nothing if all files have 8 bits."""
        return f" range={self.setting} {sorted(self.sampled.items())}" if self.sampled or self.setting != "auto" else ""

    def limits(self, values: Shaped[np.ndarray, "h w *c"], depth: Depth, path: Path | bytes) -> tuple[float, float]:
        if self.setting == "image":
            finite = values[np.isfinite(values)]
            return (float(finite.min()), float(finite.max())) if finite.size else (0.0, 1.0)
        if self.setting == "auto" and depth.kind not in self.sampled:
            remark = f"{depth.kind} pixels, which no sampled file has, and are read over {span(*depth.whole)}"
            self.remarks.setdefault(remark, set()).add(hash(path))
        if isinstance(self.setting, str):
            return self.sampled.get(depth.kind, depth.whole) if self.setting == "auto" else depth.whole
        return self.setting

    def to_bytes(self, image: Image.Image, depth: Depth, path: Path | bytes) -> Image.Image:
        """The image in 8 bits."""
        values = deep_values(image, depth, path)
        colours = colours_of(values, depth)
        low, high = self.limits(colours, depth, path)
        if not (low <= colours.min() and colours.max() <= high):  # NaN is in no range
            self.remarks.setdefault(f"values outside {span(low, high)}, which are clipped", set()).add(hash(path))
        scaled = scale(colours, low, high)
        if colours.shape != values.shape:
            scaled = np.concatenate([scaled, scale(values[..., -1:], *depth.whole)], axis=2)
        made = Image.frombytes(depth.mode, scaled.shape[1::-1], scaled.tobytes())
        made.getexif()[ORIENTATION] = image.getexif().get(ORIENTATION, 1)
        return made

    def describe(self) -> str:
        """`16-bit images read over 0 to 4095 (12 bits) (dataset.range=auto)`; nothing if all sampled ones have 8."""
        how = {"full": "over the whole range of the type", "image": "each over its own range"}.get(str(self.setting))
        shown = self.setting if isinstance(self.setting, str) else "[{:.10g},{:.10g}]".format(*self.setting)
        ranges = self.sampled if isinstance(self.setting, str) else dict.fromkeys(self.sampled, self.setting)
        return ", ".join(
            f"{kind} images read {how or f'over {span(*limits)}'} (dataset.range={shown})"
            for kind, limits in sorted(ranges.items())
        )


def colours_of(values: Shaped[np.ndarray, "h w *c"], depth: Depth) -> Shaped[np.ndarray, "h w *d"]:
    """The channels without opacity."""
    return values[..., :-1] if depth.mode in ("LA", "RGBA", "RGBX") else values


def scale(values: Shaped[np.ndarray, "*shape"], low: float, high: float) -> UInt8[np.ndarray, "*shape"]:
    numbers = values.astype(np.float32 if values.dtype.itemsize <= 2 else np.float64)
    scaled = np.nan_to_num((numbers - low) / ((high - low) / 255 or 1.0), nan=0.0) + 0.5
    return scaled.clip(0, 255).astype(np.uint8)


def span(low: float, high: float) -> str:
    bits = next((f" ({bits} bits)" for bits in BITS if (low, high) == (0, 2**bits - 1)), "")
    return f"{low:.10g} to {high:.10g}{bits}"


def auto_range(kind: str, low: float, high: float) -> tuple[float, float]:
    """Of the least and largest value: [0, 1], the fewest bits that hold both, or from one to the other."""
    if kind == "floating-point":
        return (0.0, 1.0) if low >= 0 and high <= 1 else (low, high)
    fewest = next((bits for bits in BITS if low >= 0 and high < 2**bits), None)
    return (low, high) if fewest is None else (0.0, 2.0**fewest - 1)


def sampled_range(
    paths: Sequence[Path | bytes], setting: Setting, opened: Callable[[Path | bytes], Image.Image]
) -> PixelRange:
    """The range of a set of files, from evenly spaced ones. `opened`: a file by its header, with a limit of pixels."""
    candidates = [path for path in paths if isinstance(path, bytes) or path.suffix.lower() in SUFFIXES]

    def extent(path: Path | bytes) -> tuple[str, float, float] | None:
        with suppress(Exception), opened(path) as image:  # what cannot be read is named when it is read
            depth = depth_of(image)
            if depth is None or setting != "auto":
                return depth and (depth.kind, *depth.whole)
            values = colours_of(deep_values(image, depth, path), depth)
            finite = values[np.isfinite(values)]
            return (depth.kind, float(finite.min()), float(finite.max())) if finite.size else None
        return None

    with ThreadPoolExecutor() as pool:
        extents = [each for each in pool.map(extent, candidates[:: -(-len(candidates) // SAMPLED) or 1]) if each]
    sampled = {}
    for kind in {each[0] for each in extents}:
        lows, highs = zip(*(each[1:] for each in extents if each[0] == kind), strict=True)
        sampled[kind] = auto_range(kind, min(lows), max(highs)) if setting == "auto" else (lows[0], highs[0])
    return PixelRange(setting, sampled)

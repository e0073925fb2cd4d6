"""Pixels deeper than 8 bits: the range that a set of files uses, in PNG, TIFF, PGM; images larger than the limit."""

import struct
import zlib
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from image_trees import WHOLE, everything, load, paint, paint_classes
from PIL import Image

from ssl_runner.data.image_files.decode import read_image
from ssl_runner.data.image_files.depth import PixelRange, auto_range


@pytest.fixture
def root(tmp_path) -> Path:
    (tmp_path / "set").mkdir()
    return tmp_path / "set"


def write_png16(path: Path, values: np.ndarray) -> None:
    """A PNG of 16 bits and 2, 3 or 4 channels, as Pillow writes none."""
    h, w, c = values.shape
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in values)
    header = struct.pack(">IIBBBBB", w, h, 16, {2: 4, 3: 2, 4: 6}[c], 0, 0, 0)
    chunks = [(b"IHDR", header), (b"IDAT", zlib.compress(rows)), (b"IEND", b"")]
    parts = [struct.pack(">I", len(d)) + t + d + struct.pack(">I", zlib.crc32(t + d)) for t, d in chunks]
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + b"".join(parts))


def write_tiff(path: Path, values: np.ndarray, order: str = "<", packed: bool = False) -> None:
    """A TIFF of 16 or 32 bits and 1, 3 or 4 channels; `packed` by libtiff's deflate."""
    h, w, c = values.shape
    data, bits = values.astype(values.dtype.newbyteorder(order)).tobytes(), 8 * values.dtype.itemsize
    data = zlib.compress(data) if packed else data
    depths = struct.pack(f"{order}{max(c, 2)}H", *[bits] * max(c, 2))
    tags = {256: w, 257: h, 258: bits if c == 1 else 8, 259: 8 if packed else 1, 262: 1 if c == 1 else 2}
    tags |= {273: 8 + len(depths), 277: c, 278: h, 279: len(data)} | ({338: 2} if c == 4 else {})
    count = {258: c}
    entries = [
        struct.pack(f"{order}HHI", tag, 3, count.get(tag, 1))
        + (struct.pack(f"{order}I", value) if count.get(tag, 1) > 2 else struct.pack(f"{order}HH", value, 0))
        for tag, value in tags.items()
    ]
    header = struct.pack(f"{order}2sHI", b"II" if order == "<" else b"MM", 42, 8 + len(depths) + len(data))
    pages = struct.pack(f"{order}H", len(tags)) + b"".join(entries) + b"\0" * 4
    path.write_bytes(header + depths + data + pages)


def ramp(low: float, high: float, dtype) -> np.ndarray:
    """16 x 16 values from low to high, equal in each row."""
    return (
        np.linspace(low, high, 16).round(6 if np.dtype(dtype).kind == "f" else 0).astype(dtype)[:, None].repeat(16, 1)
    )


def column(path: Path, setting="auto", **settings) -> list[int]:
    """The first column of the first image of a folder, as 0 to 255."""
    return everything(load(path, range=setting, **WHOLE, **settings).train)[0, 0, :, 0].tolist()


EVEN = [round(17 * k) for k in range(16)]  # black to white in 16 steps
CASES = {  # suffix, dtype, least and largest value, setting, what is expected at both ends, words of the log
    "12 bits in a 16-bit PNG": ("png", np.uint16, 0, 4095, "auto", (0, 255), "16-bit images read over 0 to 4095 (12 b"),
    "10 bits in a 16-bit TIFF": ("tif", np.uint16, 0, 1023, "auto", (0, 255), "(10 bits) (dataset.range=auto)"),
    "14 bits in a PGM": ("pgm", np.uint16, 0, 16383, "auto", (0, 255), "(14 bits)"),
    "8 bits in a 16-bit PNG": ("png", np.uint16, 0, 255, "auto", (0, 255), "(8 bits)"),
    "a part of 12 bits": ("png", np.uint16, 2048, 3000, "auto", (128, 187), "(12 bits)"),
    "16 bits": ("png", np.uint16, 0, 65535, "auto", (0, 255), "(16 bits)"),
    "12 bits over all of the type": ("png", np.uint16, 0, 4095, "full", (0, 16), "over the whole range of the type"),
    "each image's own": ("png", np.uint16, 2048, 3000, "image", (0, 255), "each over its own range"),
    "a pair": ("png", np.uint16, 0, 4095, (1000.0, 3000.0), (0, 255), "over 1000 to 3000 (dataset.range=[1000,3"),
    "32-bit integers": ("tif", np.int32, 0, 4095, "auto", (0, 255), "signed 32-bit images read over 0 to 4095 (12"),
    "below zero": ("tif", np.int32, -1000, 3000, "auto", (0, 255), "-1000 to 3000"),
    "above 16 bits": ("tif", np.int32, 0, 1_000_000, "auto", (0, 255), "0 to 1000000 "),
    "all of 32 bits": ("tif", np.int32, -(2**31), 2**31 - 1, "full", (0, 255), "whole range"),
    "floating point in [0, 1]": (
        "tif",
        np.float32,
        0.25,
        0.5,
        "auto",
        (64, 128),
        "floating-point images read over 0 to 1",
    ),
    "floating point": ("tif", np.float32, -7.5, 12.5, "auto", (0, 255), "-7.5 to 12.5"),
}


@pytest.mark.parametrize(("suffix", "dtype", "low", "high", "setting", "ends", "words"), CASES.values(), ids=CASES)
def test_deep_pixels_keep_their_contrast(root, caplog, suffix, dtype, low, high, setting, ends, words):
    caplog.set_level("INFO")
    values = ramp(low, high, dtype)
    Image.fromarray(values).save(root / f"x.{suffix}")
    found = column(root, setting)
    assert (found[0], found[-1]) == ends
    assert words in caplog.text
    if ends == (0, 255) and setting in ("auto", "image"):
        assert np.abs(np.array(found) - EVEN).max() <= 1
    assert ("clipped" in caplog.text) == isinstance(setting, tuple)


def test_unsigned_32_bits_are_no_negative_numbers(root):
    write_tiff(root / "x.tif", ramp(0, 2**32 - 1, np.uint32)[..., None])
    assert np.abs(np.array(column(root)) - EVEN).max() <= 1


WRITERS = [(write_png16, 2), (write_png16, 3), (write_png16, 4)]
WRITERS += [(partial(write_tiff, order=order, packed=packed), n) for order in "<>" for packed in (0, 1) for n in (3, 4)]


@pytest.mark.parametrize(("write", "channels"), WRITERS)
def test_colours_of_16_bits_are_read_from_all_their_bits(root, write, channels):
    """Pillow reads the upper 8 of them: 16 shades of 12 bits."""
    values = ramp(0, 4095, np.uint16)[..., None].repeat(channels, 2)
    if channels != 3:
        values[..., -1] = 65535
        values[:, 8:, -1] = 0  # transparent: white
    write(root / "x.tif", values)
    image = everything(load(root, **WHOLE).train)[0]
    assert image.shape == (3, 16, 16)
    assert all((np.abs(each[:, 0].numpy() - EVEN) <= 1).all() for each in image)
    assert (image[..., 12] == 255).all() == (channels != 3)


def test_images_of_a_set_stay_comparable_and_what_is_clipped_is_said(root, caplog):
    """A dark file and a bright one have one range; one that is brighter than all sampled ones is clipped."""
    caplog.set_level("WARNING")
    names = [f"{k:03}.png" for k in range(200)]
    for name in names:
        Image.fromarray(np.full((8, 8), 500, dtype=np.uint16)).save(root / name)
    Image.fromarray(np.full((8, 8), 4000, dtype=np.uint16)).save(root / names[0])
    Image.fromarray(np.full((8, 8), 60000, dtype=np.uint16)).save(root / names[1])  # every fourth is sampled
    for _ in range(2):  # decoded, and from the cache
        caplog.clear()
        data = load(root, size=8, **WHOLE)
        assert everything(data.train)[:3, 0, 0, 0].tolist() == [249, 255, 31]
        assert caplog.messages == ["1 of 200 images has values outside 0 to 4095 (12 bits), which are clipped"]
    caplog.clear()
    stream = load(root, size=8, **WHOLE, stream=True).train
    for _ in range(2):
        everything(stream)
    assert caplog.messages == ["an image has values outside 0 to 4095 (12 bits), which are clipped"]


def test_deep_files_that_no_sample_met_are_said(root, caplog):
    for k in range(200):
        paint(root / f"{k:03}.png", k, (8, 8), "L")
    Image.fromarray(np.full((8, 8), 65535, dtype=np.uint16)).save(root / "001.png")
    assert everything(load(root, **WHOLE).train)[1].unique().tolist() == [255]
    assert "16-bit pixels, which no sampled file has, and are read over 0 to 65535 (16 bits)" in caplog.text


def test_values_that_are_no_numbers_are_black_and_said(root, caplog):
    values = ramp(0, 1, np.float32)
    values[0], values[1] = np.nan, np.inf
    Image.fromarray(values).save(root / "x.tif")
    found = column(root)
    assert found[:2] == [0, 255]
    assert found[2:] == EVEN[2:]
    assert "clipped" in caplog.text


def test_a_constant_image_is_divided_by_no_zero(root):
    Image.fromarray(np.full((8, 8), 9, dtype=np.uint16)).save(root / "x.png")
    assert set(column(root, "image")) == {0}
    Image.fromarray(np.full((8, 8), 7.5, dtype=np.float32)).save((root / "x.png").rename(root / "x.tif"))
    assert set(column(root)) == {0}


def test_deep_images_are_upright(root):
    exif = Image.Exif()
    exif[274] = 6  # to be turned clockwise: left comes to the top
    values = ramp(0, 4095, np.uint16).T
    for name in ("x.png", "x.tif"):
        Image.fromarray(np.ascontiguousarray(values)).save(root / name, exif=exif)
        assert column(root)[0] < 5 < 250 < column(root)[-1]
        (root / name).unlink()


def test_the_key_of_a_cache_follows_the_range_and_of_8_bits_is_as_before(root, tmp_path):
    paint_classes(root)
    load(root)
    (plain,) = (tmp_path / "cache").glob("*.npy")
    assert PixelRange().key == ""
    Image.fromarray(ramp(0, 4095, np.uint16)).save(root / "ant" / "x.png")
    for setting in ("auto", "full", "image", (0.0, 1.0), (0.0, 2.0)):
        load(root, range=setting)
    assert len({*(tmp_path / "cache").glob("*.npy")} - {plain}) == 5


def test_the_range_is_the_fewest_bits_that_hold_all(root):
    for most, bits in ((0, 8), (255, 8), (256, 10), (4095, 12), (4096, 14), (65535, 16)):
        assert auto_range("16-bit", 0.0, float(most)) == (0, 2**bits - 1)
    assert auto_range("16-bit", -1.0, 5.0) == (-1, 5)
    with pytest.raises(ValueError, match=r"range: given \[5\.0, 5\.0\]; type dataset\.range"):
        load(root, range=(5.0, 5.0))


def test_an_image_of_too_many_pixels_is_named_with_what_to_type(root, caplog):
    paint_classes(root)
    paint(root / "ant" / "wide.png", 1, (64, 32))
    data = load(root, max_pixels=2047, size=16, **WHOLE)
    assert len(data.train) == 20
    assert "64 x 32 pixels are more than dataset.max_pixels=2047; type dataset.max_pixels=2048" in caplog.text
    assert len(load(root, max_pixels=2048, size=16, **WHOLE).train) == 21, "what could not be read is tried again"


@pytest.mark.slow
def test_an_image_of_more_pixels_than_pillow_allows_is_read_if_the_limit_does(root):
    paint(root / "x.png", 1, (20_000, 10_000), "1")
    with pytest.raises(ValueError, match=r"type dataset\.max_pixels=200000000"):
        read_image(root / "x.png", 8)
    assert read_image(root / "x.png", 8, max_pixels=200_000_000).min() == 255


def test_a_progressive_jpeg_is_held_whole_and_so_counts_as_whole(root):
    for progressive in (False, True):
        paint(root / f"{progressive}.jpg", 1, (512, 256), progressive=progressive)
    assert read_image(root / "False.jpg", 8, max_pixels=9999).shape == (3, 8, 8)
    with pytest.raises(ValueError, match="512 x 256 pixels are more than"):
        read_image(root / "True.jpg", 8, max_pixels=9999)


@pytest.mark.parametrize("kind", ["jpg", "jp2", "tif"])
def test_an_image_above_the_limit_is_decoded_to_a_smaller_one_if_its_format_can(root, kind):
    coarse = np.random.default_rng(0).integers(0, 256, (16, 16, 3), dtype=np.uint8)
    image = Image.fromarray(coarse).resize((1024, 1024), Image.Resampling.BICUBIC)
    copies = [image.resize((n, n), Image.Resampling.BOX) for n in (256, 64)]
    for copy in copies:
        copy.encoderinfo = {"tiffinfo": {254: 1}}
    image.save(root / f"x.{kind}", **({"save_all": True, "append_images": copies} if kind == "tif" else {}))
    small = read_image(root / f"x.{kind}", 32, max_pixels=256 * 256)
    difference = np.abs(small.astype(int) - read_image(root / f"x.{kind}", 32))
    assert (difference.mean(), difference.max()) == (pytest.approx(0, abs=4), pytest.approx(0, abs=40))
    with pytest.raises(ValueError, match="pixels are more than"):
        read_image(root / f"x.{kind}", 32, max_pixels=63 * 63)

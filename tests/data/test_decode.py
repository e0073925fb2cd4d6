"""Decoding of image files: modes of pixels, orientation, squares, reduced JPEG."""

from pathlib import Path

import numpy as np
import pytest
from image_trees import paint
from PIL import Image

from ssl_runner.data.image_files.decode import Reader


def pixel(path: Path, channels: int = 3, size: int = 16) -> list[int]:
    return Reader(size, channels).read(path)[:, size // 2, size // 2].tolist()


@pytest.mark.parametrize(
    ("mode", "colour", "wanted"),
    [
        ("RGB", (10, 20, 30), [10, 20, 30]),
        ("RGB", (10, 20, 30), [round(0.299 * 10 + 0.587 * 20 + 0.114 * 30)]),
        ("L", 99, [99, 99, 99]),
        ("1", 1, [255]),
        ("RGBA", (200, 0, 0, 0), [255, 255, 255]),  # transparent: the white below
        ("RGBA", (0, 0, 0, 51), [204, 204, 204]),  # a fifth of black on white
        ("LA", (100, 255), [100, 100, 100]),
        ("I;16", 257 * 80, [80, 80, 80]),
        ("I;16", 257 * 80, [80]),
        ("I;16", 65535, [255]),
    ],
)
def test_modes(tmp_path, mode, colour, wanted):
    paint(tmp_path / "x.png", colour, mode=mode)
    assert pixel(tmp_path / "x.png", channels=len(wanted)) == wanted


def test_palettes_inks_and_numbers_without_a_range(tmp_path):
    palette = Image.new("P", (16, 16), 1)
    palette.putpalette([0, 0, 0, 5, 150, 250])
    for name, how in (("x.png", {}), ("y.png", {"transparency": 1}), ("x.gif", {})):
        palette.save(tmp_path / name, **how)
        assert pixel(tmp_path / name) == ([255, 255, 255] if how else [5, 150, 250])
    paint(tmp_path / "x.jpg", (255, 0, 0, 0), mode="CMYK", quality=95)
    assert np.allclose(pixel(tmp_path / "x.jpg"), [0, 255, 255], atol=3)  # cyan ink
    paint(tmp_path / "x.tif", 0.5, mode="F")
    with pytest.raises(ValueError, match="floating"):
        pixel(tmp_path / "x.tif")


def test_upright_and_square(tmp_path):
    """Red on the left, blue on the right, 40 x 20; the tag says which way is up."""
    p = tmp_path / "x.png"
    picture = Image.new("RGB", (40, 20), "red")
    picture.paste("blue", (20, 0, 40, 20))
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned clockwise by 90 degrees: left comes to the top
    for how, red, blue in (({}, (5, 0), (5, 9)), ({"exif": exif}, (0, 5), (9, 5))):
        picture.save(p, **how)
        array = Reader(10).read(p)
        assert array.shape == (3, 10, 10)
        assert array[:, *red].tolist() == [255, 0, 0]
        assert array[:, *blue].tolist() == [0, 0, 255]
    marked = Image.new("RGB", (40, 20), "green")
    marked.paste("white", (0, 0, 5, 20))
    marked.save(p)
    assert Reader(10).read(p)[:, 5, 0].tolist() == [0, 128, 0]  # white is outside the centred square
    assert Reader(10, resize="squash").read(p)[:, 5, 0].min() > 250


def test_reduced_jpeg_is_the_image(tmp_path):
    """A JPEG decoded to a part of its size, then resized, is what the whole of it resized is."""
    coarse = Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8))
    coarse.resize((512, 512), Image.Resampling.BICUBIC).save(tmp_path / "x.jpg", quality=95)
    with Image.open(tmp_path / "x.jpg") as image:
        whole = np.asarray(image.resize((128, 128), Image.Resampling.BICUBIC)).transpose(2, 0, 1)
    difference = np.abs(Reader(128).read(tmp_path / "x.jpg").astype(int) - whole)
    assert difference.mean() < 3, difference.mean()
    assert difference.max() < 30, difference.max()

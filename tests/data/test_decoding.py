"""Decoding of JPEGs without Pillow, to the pixels that Pillow makes; resizing near to what Pillow makes."""

from itertools import product

import numpy as np
import pytest
from PIL import Image

from ssl_runner.data.image_files import decode
from ssl_runner.data.image_files.decode import read_image

NOISE = Image.fromarray(np.random.default_rng(0).integers(0, 256, (40, 40, 3), dtype=np.uint8))
SIZES, SIDES = ((64, 64), (65, 47), (201, 333), (17, 9)), (8, 32)


def jpeg(path, size, mode="RGB", **how):
    NOISE.resize(size, Image.Resampling.BICUBIC).convert(mode).save(path, quality=90, **how)
    return path


@pytest.fixture
def decoded(monkeypatch):
    """Counts the files that simplejpeg has decoded."""
    simplejpeg, counted = pytest.importorskip("simplejpeg"), []

    class Counting:
        @staticmethod
        def decode_jpeg(*arguments, **how):
            counted.append(simplejpeg.decode_jpeg(*arguments, **how))
            return counted[-1]

    monkeypatch.setattr(decode, "simplejpeg", Counting)
    return counted


@pytest.mark.parametrize("mode", ["RGB", "L"])
def test_a_jpeg_has_the_pixels_that_pillow_makes(tmp_path, monkeypatch, decoded, mode):
    for size, side, progressive, subsampling in product(SIZES, SIDES, (False, True), (0, 2)):
        path = jpeg(tmp_path / "x.jpg", size, mode, progressive=progressive, subsampling=subsampling)
        for channels in (3, 1):
            read, before = read_image(path, side, channels), len(decoded)
            with monkeypatch.context() as patch:
                patch.setattr(decode, "simplejpeg", None)
                assert np.array_equal(read, read_image(path, side, channels)), (size, side, progressive, subsampling)
            assert len(decoded) == before
    assert len(decoded) == 32 if mode == "RGB" else 64
    assert min(each.shape[0] for each in decoded) < 47, "none was decoded to a part of its size"


def test_what_pillow_alone_can_decode_is_left_to_it(tmp_path, decoded):
    exif = Image.Exif()
    exif[0x0112] = 3  # half a turn
    turned = read_image(jpeg(tmp_path / "x.jpg", (32, 32), exif=exif), 32)
    assert np.array_equal(turned[:, ::-1, ::-1], read_image(jpeg(tmp_path / "y.jpg", (32, 32)), 32))
    assert len(decoded) == 1, "the second, which is upright"
    read_image(jpeg(tmp_path / "x.jpg", (32, 32), "CMYK"), 32)
    jpeg(tmp_path / "z.png", (32, 32)).rename(tmp_path / "z.jpg")
    read_image(tmp_path / "z.jpg", 32)
    cut = tmp_path / "y.jpg"
    cut.write_bytes(cut.read_bytes()[:-100])
    with pytest.raises(OSError, match="truncated"):
        read_image(cut, 32)
    assert len(decoded) == 1


@pytest.mark.parametrize(("size", "side"), [((160, 160), 64), ((200, 120), 128), ((48, 48), 64), ((64, 80), 33)])
@pytest.mark.parametrize("channels", [3, 1])
def test_images_are_resized_as_pillow_does(tmp_path, size, side, channels):
    """To two steps of 255, as it sums in other integers; nothing outside of the centred square is read."""
    path = tmp_path / "x.png"
    NOISE.resize(size, Image.Resampling.NEAREST).convert("RGB" if channels == 3 else "L").save(path)
    left, top = ((each - min(size)) // 2 for each in size)
    with Image.open(path) as image:
        square = image.crop((left, top, left + min(size), top + min(size)))
        wanted = np.asarray(square.resize((side, side), Image.Resampling.BICUBIC)).reshape(side, side, channels)
    difference = read_image(path, side, channels).astype(int) - wanted.transpose(2, 0, 1)
    assert np.abs(difference).max() <= 2


def test_an_image_of_the_size_is_as_it_is(tmp_path):
    NOISE.save(tmp_path / "x.png")
    assert np.array_equal(read_image(tmp_path / "x.png", 40), np.asarray(NOISE).transpose(2, 0, 1))

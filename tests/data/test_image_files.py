"""Image files: modes of pixels, orientation, squares; the cache of decoded images, torn or on a full disk."""

import os
from contextlib import suppress
from pathlib import Path
from pkgutil import resolve_name
from types import SimpleNamespace
from unittest.mock import Mock

import numpy as np
import pytest
import torch
from image_trees import WHOLE, everything, load, paint, paint_classes, red
from PIL import Image

from ssl_runner.data.image_files import cache, source
from ssl_runner.data.image_files.decode import read_image

MODES = {
    "colour": ("RGB", (10, 20, 30), [10, 20, 30]),
    "the luma of a colour": ("RGB", (10, 20, 30), [round(0.299 * 10 + 0.587 * 20 + 0.114 * 30)]),
    "grey": ("L", 99, [99, 99, 99]),
    "one bit": ("1", 1, [255]),
    "transparent: the white below": ("RGBA", (200, 0, 0, 0), [255, 255, 255]),
    "a fifth of black on white": ("RGBA", (0, 0, 0, 51), [204, 204, 204]),
    "opaque grey": ("LA", (100, 255), [100, 100, 100]),
    "16 bits": ("I;16", 257 * 80, [80, 80, 80]),
    "16 bits to one channel": ("I;16", 257 * 80, [80]),
    "16 bits, all of them": ("I;16", 65535, [255]),
}


@pytest.fixture
def root(tmp_path) -> Path:
    return paint_classes(tmp_path / "set")


@pytest.fixture
def decode(monkeypatch) -> Mock:
    """What decodes a file, and counts how often."""
    spy = Mock(side_effect=read_image)
    monkeypatch.setattr(source, "read_image", spy)
    return spy


def pixel(path: Path, channels: int = 3) -> list[int]:
    return read_image(path, 16, channels)[:, 8, 8].tolist()


def files(root: Path, pattern: str = "*") -> list[Path]:
    return sorted((root.parent / "cache").glob(pattern))


@pytest.mark.parametrize(("mode", "colour", "wanted"), MODES.values(), ids=MODES)
def test_modes_become_grey_or_rgb(tmp_path, mode, colour, wanted):
    paint(tmp_path / "x.png", colour, mode=mode)
    assert pixel(tmp_path / "x.png", len(wanted)) == wanted


def test_palettes_and_inks(tmp_path):
    palette = Image.new("P", (16, 16), 1)
    palette.putpalette([0, 0, 0, 5, 150, 250])
    for name, how in (("x.png", {}), ("y.png", {"transparency": 1}), ("x.gif", {})):
        palette.save(tmp_path / name, **how)
        assert pixel(tmp_path / name) == ([255, 255, 255] if how else [5, 150, 250])
    paint(tmp_path / "x.jpg", (255, 0, 0, 0), mode="CMYK", quality=95)
    assert np.allclose(pixel(tmp_path / "x.jpg"), [0, 255, 255], atol=3)  # cyan ink


def test_images_are_upright_and_square(tmp_path):
    """Red on the left, blue on the right, 40 x 20; the tag says which way is up."""
    path, picture, exif = tmp_path / "x.png", Image.new("RGB", (40, 20), "red"), Image.Exif()
    picture.paste("blue", (20, 0, 40, 20))
    exif[0x0112] = 6  # to be turned clockwise by 90 degrees: left comes to the top
    for how, red_at, blue_at in (({}, (5, 0), (5, 9)), ({"exif": exif}, (0, 5), (9, 5))):
        picture.save(path, **how)
        array = read_image(path, 10)
        assert array.shape == (3, 10, 10)
        assert (array[:, *red_at].tolist(), array[:, *blue_at].tolist()) == ([255, 0, 0], [0, 0, 255])
    picture.paste("white", (0, 0, 5, 20))
    picture.save(path)
    assert read_image(path, 10)[:, 5, 0].tolist() == [255, 0, 0]  # white is outside the centred square
    assert read_image(path, 10, resize="squash")[:, 5, 0].min() > 250


def test_a_jpeg_decoded_to_a_part_of_its_size_is_the_image(tmp_path):
    coarse = Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8))
    coarse.resize((512, 512), Image.Resampling.BICUBIC).save(tmp_path / "x.jpg", quality=95)
    with Image.open(tmp_path / "x.jpg") as image:
        whole = np.asarray(image.resize((128, 128), Image.Resampling.BICUBIC)).transpose(2, 0, 1)
    difference = np.abs(read_image(tmp_path / "x.jpg", 128).astype(int) - whole)
    assert (difference.mean(), difference.max()) == (pytest.approx(0, abs=3), pytest.approx(0, abs=30))


def test_a_second_run_decodes_nothing(root, tmp_path, monkeypatch, decode):
    first, again = load(root), load(root)
    assert decode.call_count == 20
    assert torch.equal(everything(first.train), everything(again.train))
    assert [file.suffix for file in files(root)] == [".json", ".npy"]
    assert {file.stat().st_mode & 0o777 for file in files(root)} == {0o644}  # a cache is a group's
    assert load(root, cache=False).fingerprint == first.fingerprint == again.fingerprint
    (tmp_path / "moved").mkdir()
    root = root.rename(tmp_path / "moved" / "set")
    load(root, cache=str(tmp_path / "cache"))
    assert decode.call_count == 40  # once more in memory, none of the moved
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "user"))
    load(root, cache=True)
    assert len(list(tmp_path.glob("user/ssl_runner/*.npy"))) == 1


def test_the_key_follows_names_content_and_settings(root):
    fingerprints = [load(root).fingerprint]
    for file, colour in ((root / "ant" / "0.png", 99), (new := root / "ant" / "new.png", 98)):
        paint(file, (colour, 0, 0))
        os.utime(file, ns=(1, 1))
        assert colour in red(load(root, **WHOLE).train)
        fingerprints.append(load(root).fingerprint)
    new.unlink()
    assert load(root).fingerprint == fingerprints[1]
    assert len(files(root, "*.npy")) == len(set(fingerprints)) == 3  # changed, added; removed is as before
    for settings in ({"channels": 1}, {"size": 8}, {"resize": "squash"}):
        load(root, **settings)
    assert len(files(root, "*.npy")) == 6


def test_the_key_follows_the_time_of_every_file_and_the_bytes_of_some(tmp_path, monkeypatch):
    monkeypatch.setattr(source, "SAMPLED", 1)  # the first
    for colour in (10, 200):  # of the same names, sizes and times, as archives are often unpacked
        root = tmp_path / str(colour)
        for k in range(5):
            paint(root / f"{k}.bmp", colour + k, mode="L")
            os.utime(root / f"{k}.bmp", ns=(7, 7))
        assert red(load(root).train) == [colour + k for k in range(5)]
    paint(root / "3.bmp", 77, mode="L")
    assert red(load(root).train) == [200, 201, 202, 77, 204]


@pytest.mark.parametrize("harm", ["cut", "empty", "other", "note", "fewer"])
def test_a_torn_entry_is_rebuilt(root, decode, harm):
    before, (entry,) = everything(load(root).train).clone(), files(root, "*.npy")
    raw = entry.read_bytes()
    if harm == "note":
        entry.with_suffix(".json").write_text("{")
    else:
        np.save(fewer := root / "fewer.npy", before[:1].numpy())
        harms = {"cut": raw[:-1], "empty": b"", "other": b"x" * len(raw), "fewer": fewer.read_bytes()}
        entry.unlink()  # the mapping of the first run keeps its file
        entry.write_bytes(harms[harm])
    assert torch.equal(everything(load(root).train), before)
    assert decode.call_count == 40
    assert entry.read_bytes() == raw


def test_two_runs_may_write_the_same_entry(root, monkeypatch):
    """The second writes it from beginning to end while the first is in the midst of it."""
    read, rows = source.Source.read, []

    def read_overtaken(self, batch):
        if batch.start:
            monkeypatch.setattr(source.Source, "read", read)
            rows.append(everything(load(root).train))
        return read(self, batch)

    monkeypatch.setattr(source, "BATCH", 10)
    monkeypatch.setattr(source.Source, "read", read_overtaken)
    rows.append(everything(load(root).train))
    assert len(rows) == 2
    assert all(torch.equal(each, everything(load(root, cache=False).train)) for each in rows)
    assert len(files(root)) == 2


FAILURES = {  # a folder is synced after its file
    "the note's sync": ("os.fsync", 0, OSError, []),
    "the images' sync": ("os.fsync", 2, OSError, [".json"]),
    "the note's name": ("pathlib.Path.replace", 0, OSError, []),
    "the images' name": ("pathlib.Path.replace", 1, OSError, [".json"]),
    "an interrupt": ("ssl_runner.data.image_files.source.Source.read", 1, KeyboardInterrupt, []),
}


@pytest.mark.parametrize(("name", "allowed", "error", "left"), FAILURES.values(), ids=FAILURES)
def test_a_failed_write_leaves_no_entry(root, monkeypatch, caplog, name, allowed, error, left):
    """A disk that is full only when the file is synced, a name that cannot be given, a run that is cut off."""
    original, calls = resolve_name(name), []

    def fail(*arguments):
        calls.append(arguments)
        if len(calls) > allowed:
            raise error(28, "No space left on device")
        return original(*arguments)

    with monkeypatch.context() as patch, suppress(KeyboardInterrupt):
        patch.setattr(source, "BATCH", 10)
        patch.setattr(name, fail)
        assert (len(load(root).train), error) == (16, OSError)
    assert (len(calls), [file.suffix for file in files(root)]) == (allowed + 1, left)
    assert ("No space left" in caplog.text) == (error is OSError)
    assert len(load(root).train) == 16


def test_what_a_killed_run_left_is_removed_once_it_is_old(root):
    """Also if the entry is there and nothing is decoded; what another run may be writing stays."""
    load(root)
    names = ("0.npy.a_cdefgh.half", "0.npy.b_cdefgh.half", "notes.half")
    old, young, foreign = (root.parent / "cache" / name for name in names)
    for file in (old, young, foreign):
        file.write_bytes(b"torn")
        if file != young:
            os.utime(file, (1, 1))
    load(root)
    assert [file.exists() for file in (old, young, foreign)] == [False, True, True]


def test_images_that_cannot_be_kept_stay_in_memory(root, tmp_path, caplog, monkeypatch):
    (tmp_path / "file").write_text("no folder")
    assert len(load(root, cache=str(tmp_path / "file")).train) == 16
    assert "memory" in caplog.text
    monkeypatch.setattr("shutil.disk_usage", lambda _: SimpleNamespace(free=10))
    assert len(load(root).train) == 16
    assert "No space left" in caplog.text
    assert files(root) == []
    monkeypatch.setattr(cache, "IN_MEMORY", 100)
    with pytest.raises(OSError, match=r"dataset\.cache=FOLDER.*dataset\.stream=true"):
        load(root, cache=str(tmp_path / "file"), stream=False)


def test_a_mended_file_is_read(root, monkeypatch):
    """A file that could not be read for a reason outside of it, and now can; its name, size and time are the same."""
    refused = {"3.png": Mock(side_effect=PermissionError(13, "Permission denied"))}
    with monkeypatch.context() as patch:
        patch.setattr(source, "read_image", lambda path, *how: refused.get(path.name, read_image)(path, *how))
        assert len(load(root, **WHOLE).train) == 18
    assert len(load(root, **WHOLE).train) == 20

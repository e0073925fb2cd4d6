"""Folders of image files as tests make them, and rows as they compare them."""

import struct
import sys
from functools import cache
from pathlib import Path

import torch
from PIL import Image

from ssl_runner.contract import Data
from ssl_runner.data.image_files import decode, listing
from ssl_runner.dataset.image_folder import ImageFolder

WHOLE = {"validation": 0.0, "test": 0.0}  # nothing held out


def everything(rows) -> torch.Tensor:
    return rows[torch.arange(len(rows))]


def red(rows) -> list[int]:
    """A number a row: the red of its first pixel."""
    return everything(rows)[:, 0, 0, 0].tolist()


def keys(rows) -> set[bytes]:
    return {row.numpy().tobytes() for row in everything(rows)}


def require_disjoint(data: Data) -> None:
    """No row is in two of train, validation and test, and none is lost."""
    parts = [data.train, *(part.x for part in (data.validation, data.test) if part)]
    assert len(set().union(*map(keys, parts))) == sum(map(len, parts))


def paint(path: Path, colour, size=(16, 16), mode="RGB", **how) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new(mode, size, colour).save(path, **how)


def paint_classes(root: Path, names=("ant", "bee"), each: int = 10, first: int = 0) -> Path:
    """Files 0.png, 1.png, ... a class; red tells the class, green the file."""
    for i, name in enumerate(names):
        for k in range(each):
            paint(root / name / f"{k}.png", (10 * i + first, k, 7))
    return root


def folder(root: Path, **settings) -> ImageFolder:
    return ImageFolder(root=str(root), **{"cache": str(root.parent / "cache"), "workers": 2} | settings)


def load(root: Path, **settings) -> Data:
    return folder(root, **settings).load()


def spoil(root: Path) -> list[str]:
    """Five files that cannot be read: empty, no image, cut short, a link to nothing, too many pixels."""
    ant, bee = root / "ant", root / "bee"
    paint(ant / "cut.jpg", 5, (300, 300))
    (ant / "cut.jpg").write_bytes((ant / "cut.jpg").read_bytes()[:-600])
    (ant / "empty.png").write_bytes(b"")
    (bee / "text.jpg").write_text("no image at all")
    (bee / "dangling.png").symlink_to(root / "nothing")
    head = (ant / "0.png").read_bytes()
    (bee / "bomb.png").write_bytes(head[:16] + struct.pack(">II", 60_000, 60_000) + head[24:])
    return ["ant/cut.jpg", "ant/empty.png", "bee/bomb.png", "bee/dangling.png", "bee/text.jpg"]


def forget_extras(monkeypatch) -> None:
    """As if nothing that reads further formats were installed, nor registered by a test before."""
    Image.init()  # fills these tables, once
    for name in ("EXTENSION", "OPEN", "ID"):
        monkeypatch.setattr(Image, name, type(getattr(Image, name))(getattr(Image, name)))
    for suffix in decode.HEIC:
        Image.EXTENSION.pop(suffix, None)
    monkeypatch.setitem(sys.modules, "pillow_heif", None)
    readable = cache(decode.readable.__wrapped__)
    for module in (decode, listing):
        monkeypatch.setattr(module, "readable", readable)
    monkeypatch.setattr(decode, "formats", cache(decode.formats.__wrapped__))

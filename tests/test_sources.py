"""Datasets from files: what is read, what is held out, what is said of the absent, the torn and the broken."""

import gzip
import hashlib
import logging
import os
import pickle
import struct
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from ssl_runner.data.image_files import cache
from ssl_runner.data.image_files import folders as tree
from ssl_runner.data.image_files import index as source
from ssl_runner.data.image_files.decode import Reader
from ssl_runner.data.split import Subset
from ssl_runner.dataset.cifar import CIFAR10, CIFAR100
from ssl_runner.dataset.image_folder import ImageFolder
from ssl_runner.dataset.mnist import MNIST, FashionMNIST, read_idx
from ssl_runner.dataset.stl10 import STL10
from ssl_runner.dataset.svhn import SVHN
from ssl_runner.run_folder.atomic import replacing

numbers = np.random.default_rng(0)


def everything(rows) -> torch.Tensor:
    return rows[torch.arange(len(rows))]


def keys(rows) -> set[bytes]:
    return {row.numpy().tobytes() for row in everything(rows)}


def apart(data) -> None:
    """No row is in two of train, validation and test, and none is lost."""
    parts = [data.train, *(part.x for part in (data.validation, data.test) if part)]
    assert len(set().union(*(keys(x) for x in parts))) == sum(len(x) for x in parts)


# ---- mnist, fashion_mnist


def write_idx(path: Path, array: np.ndarray, packed: bool) -> None:
    raw = struct.pack(f">BBBB{array.ndim}I", 0, 0, 8, array.ndim, *array.shape) + array.tobytes()
    path.parent.mkdir(parents=True, exist_ok=True)
    if packed:
        path.with_name(path.name + ".gz").write_bytes(gzip.compress(raw))
    else:
        path.write_bytes(raw)


def mnist_files(folder: Path, packed: bool) -> tuple[np.ndarray, np.ndarray]:
    images = numbers.integers(0, 256, (60, 28, 28), dtype=np.uint8)
    labels = np.arange(40, dtype=np.uint8) % 10
    write_idx(folder / "train-images-idx3-ubyte", images[:40], packed)
    write_idx(folder / "train-labels-idx1-ubyte", labels, packed)
    write_idx(folder / "t10k-images-idx3-ubyte", images[40:], packed)
    write_idx(folder / "t10k-labels-idx1-ubyte", np.arange(20, dtype=np.uint8) % 10, packed)
    return images, labels


def counts(monkeypatch, kind, each: tuple[int, ...]) -> None:
    monkeypatch.setattr(kind, "counts", each)


@pytest.mark.parametrize("kind", [MNIST, FashionMNIST])
@pytest.mark.parametrize("place", ["flat", "torchvision", "raw"])
@pytest.mark.parametrize("packed", [True, False])
def test_mnist_layouts(tmp_path, monkeypatch, kind, place, packed):
    counts(monkeypatch, kind, (4,) * 10)
    folder = tmp_path / {"flat": "", "torchvision": f"{kind.__name__}/raw", "raw": "raw"}[place]
    images, labels = mnist_files(folder, packed)
    before = sorted(tmp_path.rglob("*"))
    dataset = kind(root=str(tmp_path), download=False, validation=0.25)
    data = dataset.load()
    assert sorted(tmp_path.rglob("*")) == before  # nothing is written beside the files
    assert dataset.rows == len(data.train) == 30
    assert dataset.samples.shape == tuple(data.train.shape[1:]) == (1, 28, 28)
    apart(data)
    assert data.bank.x is data.train
    assert torch.equal(data.test.x, torch.from_numpy(images[40:])[:, None])
    of = {image.tobytes(): int(label) for image, label in zip(images[:40], labels, strict=True)}
    for part in (data.bank, data.validation):
        assert [of[x.numpy().tobytes()] for x in part.x] == part.y.tolist()
    assert data.validation.y.bincount().tolist() == [1] * 10
    assert len(data.classes) == 10
    assert data.mean[0] == pytest.approx(float(data.train.double().mean()) / 255, rel=1e-6)


def test_split_seed_and_fingerprint(tmp_path, monkeypatch):
    counts(monkeypatch, MNIST, (4,) * 10)
    mnist_files(tmp_path, packed=True)
    one, same, other = (MNIST(root=str(tmp_path), validation=0.25, split_seed=seed).load() for seed in (0, 0, 1))
    assert torch.equal(one.train, same.train)
    assert one.fingerprint == same.fingerprint != other.fingerprint
    assert keys(one.validation.x) != keys(other.validation.x)
    assert torch.equal(one.test.x, other.test.x)
    assert MNIST(root=str(tmp_path), validation=0.0).load().validation is None


def test_published_counts():
    """The rows that the constructor tells before anything is there are those of the published files."""
    assert MNIST(validation=0.0).rows == FashionMNIST(validation=0.0).rows == 60_000
    assert CIFAR10(validation=0.0).rows == CIFAR100(validation=0.0).rows == 50_000
    assert CIFAR10(validation=0.1).rows == 45_000
    assert SVHN(validation=0.0).rows == 73_257
    assert STL10().rows == STL10(validation=0.0).rows == 100_000


@pytest.mark.parametrize("kind", [MNIST, FashionMNIST, CIFAR10, CIFAR100, SVHN, STL10])
def test_absent(tmp_path, kind, monkeypatch):
    with pytest.raises(FileNotFoundError) as refused:
        kind(root=str(tmp_path / "nowhere"), download=False)
    wanted = (str(tmp_path / "nowhere"), *kind.files, kind.url, "dataset.root=", "dataset=shapes")
    assert all(word in str(refused.value) for word in (*wanted, "dataset.download=false"))

    def offline(*_, **__):
        raise OSError("the network is unreachable")

    monkeypatch.setattr("torchvision.datasets.utils._get_redirect_url", offline)
    monkeypatch.setattr("torchvision.datasets.utils._urlretrieve", offline)
    dataset = kind(root=str(tmp_path / "later"))  # may be downloaded: nothing to refuse yet
    with pytest.raises(ConnectionError) as failed:
        dataset.load()
    assert all(word in str(failed.value) for word in ("unreachable", str(tmp_path / "later"), *wanted[1:]))
    assert list((tmp_path / "later").iterdir()) == []


def test_download(tmp_path, monkeypatch):
    """torchvision fetches and unpacks; the files end where they are found the next time, and nothing else is left."""
    counts(monkeypatch, MNIST, (4,) * 10)
    mnist_files(tmp_path / "server", packed=True)
    asked = []

    def retrieve(url, filename, **_):
        asked.append(url)
        Path(filename).write_bytes((tmp_path / "server" / Path(url).name).read_bytes())

    monkeypatch.setattr("torchvision.datasets.utils._get_redirect_url", lambda url, **_: url)
    monkeypatch.setattr("torchvision.datasets.utils._urlretrieve", retrieve)
    served = [
        (file.name, hashlib.md5(file.read_bytes()).hexdigest()) for file in sorted((tmp_path / "server").iterdir())
    ]
    monkeypatch.setattr("torchvision.datasets.MNIST.resources", served)
    dataset = MNIST(root=str(tmp_path / "data"), validation=0.0)
    assert len(dataset.load().train) == 40
    assert len(asked) == 4
    there = {str(p.relative_to(tmp_path / "data")) for p in (tmp_path / "data").rglob("*") if p.is_file()}
    assert there == {f"MNIST/raw/{file}" for file in MNIST.files}
    assert not list((tmp_path / "data").glob(".*"))
    MNIST(root=str(tmp_path / "data"), download=False, validation=0.0).load()
    assert len(asked) == 4


def test_what_a_killed_download_left_is_removed_once_it_is_old(tmp_path, monkeypatch):
    counts(monkeypatch, MNIST, (4,) * 10)
    mnist_files(tmp_path / "data", packed=False)
    old, young = (tmp_path / "data" / f".ssl_runner-fetch-{name}" for name in ("old", "young"))
    for left in (old, young):
        (left / "MNIST").mkdir(parents=True)
        (left / "MNIST" / "torn").write_bytes(b"?")
    for each in (old / "MNIST" / "torn", old / "MNIST", old, young / "MNIST", young):  # a file is young in the second
        os.utime(each, (1, 1))
    MNIST(root=str(tmp_path / "data")).load()
    assert not old.exists()
    assert (young / "MNIST" / "torn").exists()


def test_torn_and_foreign_idx(tmp_path, monkeypatch):
    mnist_files(tmp_path, packed=True)
    with pytest.raises(ValueError, match=r"not those published.*delete them"):  # labels of another dataset
        FashionMNIST(root=str(tmp_path), download=False).load()
    counts(monkeypatch, MNIST, (4,) * 10)
    images = tmp_path / "train-images-idx3-ubyte.gz"
    images.write_bytes(images.read_bytes()[:-100])
    with pytest.raises(ValueError, match=r"train-images-idx3-ubyte"):
        MNIST(root=str(tmp_path), download=False).load()
    write_idx(tmp_path / "x", np.zeros((3, 4), np.uint8), packed=False)
    assert read_idx(tmp_path / "x").shape == (3, 4)
    for raw in (b"", b"\0\0\x09\1\0\0\0\1a", (tmp_path / "x").read_bytes()[:-1], b"\0\0\x08\3\0"):
        (tmp_path / "x").write_bytes(raw)
        with pytest.raises(ValueError, match="x "):
            read_idx(tmp_path / "x")


# ---- cifar, svhn, stl10


def pickled(path: Path, content: dict) -> list[str]:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(pickle.dumps(content))
    return [path.name, hashlib.md5(path.read_bytes()).hexdigest()]


@pytest.mark.parametrize("inside", [False, True])
@pytest.mark.parametrize(("kind", "classes", "label"), [(CIFAR10, 10, "labels"), (CIFAR100, 100, "fine_labels")])
def test_cifar(tmp_path, monkeypatch, kind, classes, label, inside):
    counts(monkeypatch, kind, (5,) * classes)
    folder = tmp_path / kind.folder
    *batches, test, meta = kind.files
    n = 5 * classes // len(batches)
    images = numbers.integers(0, 256, (n * len(batches) + 10, 3, 32, 32), dtype=np.uint8)
    y = [i % classes for i in range(len(images))]
    parts = [slice(i * n, (i + 1) * n) for i in range(len(batches))] + [slice(n * len(batches), None)]
    sums = [
        pickled(folder / file, {"data": images[part].reshape(-1, 3072), label: y[part]})
        for file, part in zip([*batches, test], parts, strict=True)
    ]
    source = f"torchvision.datasets.{kind.__name__}"
    names = {"filename": meta, "key": "names", "md5": None}
    names["md5"] = pickled(folder / meta, {"names": [f"kind {i}" for i in range(classes)]})[1]
    monkeypatch.setattr(f"{source}.train_list", sums[:-1])
    monkeypatch.setattr(f"{source}.test_list", sums[-1:])
    monkeypatch.setattr(f"{source}.meta", names)
    dataset = kind(root=str(folder if inside else tmp_path), download=False, validation=0.2)
    data = dataset.load()
    assert dataset.rows == len(data.train) == 4 * classes
    assert dataset.samples.shape == tuple(data.train.shape[1:])
    assert data.train.is_contiguous()
    apart(data)
    assert torch.equal(data.test.x, torch.from_numpy(images[-10:]))
    of = {image.tobytes(): i for image, i in zip(images[:-10], y, strict=False)}
    assert [of[x.numpy().tobytes()] for x in data.bank.x] == data.bank.y.tolist()
    assert data.classes[1] == "kind 1"
    with (folder / test).open("ab") as file:
        file.write(b"!")
    with pytest.raises(ValueError, match="not those published"):
        dataset.load()


def test_svhn(tmp_path, monkeypatch):
    from scipy.io import savemat

    counts(monkeypatch, SVHN, (2,) * 10)
    images = numbers.integers(0, 256, (30, 3, 32, 32), dtype=np.uint8)
    y = np.arange(30) % 10
    sums = {}
    for part, rows in {"train": slice(20), "test": slice(20, 30)}.items():
        file = tmp_path / f"{part}_32x32.mat"
        labels = np.where(y[rows] == 0, 10, y[rows]).astype(np.uint8)  # the files call a zero 10
        savemat(file, {"X": images[rows].transpose(2, 3, 1, 0), "y": labels[:, None]})
        sums[part] = ["", file.name, hashlib.md5(file.read_bytes()).hexdigest()]
    monkeypatch.setattr("torchvision.datasets.SVHN.split_list", sums)
    dataset = SVHN(root=str(tmp_path), download=False, validation=0.5)
    data = dataset.load()
    assert dataset.rows == len(data.train) == 10
    apart(data)
    assert torch.equal(data.test.x, torch.from_numpy(images[20:]))
    assert data.test.y.tolist() == list(range(10))
    assert data.bank.y.dtype == torch.int64


def test_stl10_learns_from_the_unlabelled(tmp_path, monkeypatch):
    counts(monkeypatch, STL10, (2,) * 10)
    monkeypatch.setattr(STL10, "rows", 7)
    folder = tmp_path / "stl10_binary"
    folder.mkdir()
    images = numbers.integers(0, 256, (37, 3, 96, 96), dtype=np.uint8)
    for file, rows in {"unlabeled_X": slice(7), "train_X": slice(7, 27), "test_X": slice(27, 37)}.items():
        images[rows].transpose(0, 1, 3, 2).tofile(folder / f"{file}.bin")
    (np.arange(20, dtype=np.uint8) % 10 + 1).tofile(folder / "train_y.bin")
    (np.arange(10, dtype=np.uint8) + 1).tofile(folder / "test_y.bin")
    dataset = STL10(root=str(tmp_path), download=False, validation=0.5)
    data = dataset.load()
    assert torch.equal(data.train, torch.from_numpy(images[:7]))
    assert dataset.rows == len(data.train) == 7
    assert keys(data.bank.x) | keys(data.validation.x) == {x.tobytes() for x in images[7:27]}
    assert len(data.bank.x) == len(data.validation.x) == 10
    assert torch.equal(data.test.x, torch.from_numpy(images[27:]))
    assert data.test.y.tolist() == list(range(10))
    with (folder / "unlabeled_X.bin").open("r+b") as file:
        file.truncate(7 * 3 * 96 * 96 - 5)
    with pytest.raises(ValueError, match=r"unlabeled_X\.bin"):
        STL10(root=str(folder), download=False).load()


# ---- image_folder


def paint(path: Path, colour, size=(16, 16), mode="RGB", **how) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new(mode, size, colour).save(path, **how)


def pixel(path: Path, channels: int = 3, size: int = 16) -> list[int]:
    return Reader(size, channels).read(path)[:, size // 2, size // 2].tolist()


def folder(root: Path, **settings) -> ImageFolder:
    return ImageFolder(root=str(root), **{"cache": str(root.parent / "cache"), "workers": 2} | settings)


def classes_of(root: Path, names=("ant", "bee"), each: int = 10, first: int = 0) -> None:
    for i, name in enumerate(names):
        for k in range(each):
            paint(root / name / f"{k}.png", (10 * i + first, k, 7))


def test_modes(tmp_path):
    """One pixel of each kind of file, known beforehand."""
    p = tmp_path / "x.png"
    paint(p, (10, 20, 30))
    assert pixel(p) == [10, 20, 30]
    assert pixel(p, channels=1) == [round(0.299 * 10 + 0.587 * 20 + 0.114 * 30)]
    paint(p, 99, mode="L")
    assert pixel(p) == [99, 99, 99]
    paint(p, 1, mode="1")
    assert pixel(p, channels=1) == [255]
    paint(p, (200, 0, 0, 0), mode="RGBA")
    assert pixel(p) == [255, 255, 255]  # transparent: the white below
    paint(p, (0, 0, 0, 51), mode="RGBA")
    assert pixel(p) == [204, 204, 204]  # a fifth of black on white
    paint(p, (100, 255), mode="LA")
    assert pixel(p) == [100, 100, 100]
    paint(p, 257 * 80, mode="I;16")
    assert pixel(p) == [80, 80, 80]
    assert pixel(p, channels=1) == [80]
    paint(p, 65535, mode="I;16")
    assert pixel(p, channels=1) == [255]
    palette = Image.new("P", (16, 16), 1)
    palette.putpalette([0, 0, 0, 5, 150, 250])
    palette.save(p)
    assert pixel(p) == [5, 150, 250]
    palette.save(p, transparency=1)
    assert pixel(p) == [255, 255, 255]
    palette.save(tmp_path / "x.gif")
    assert pixel(tmp_path / "x.gif") == [5, 150, 250]
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
    picture.save(p)
    red, blue = [255, 0, 0], [0, 0, 255]
    plain = Reader(10).read(p)
    assert plain.shape == (3, 10, 10)
    assert plain[:, 5, 0].tolist() == red
    assert plain[:, 5, 9].tolist() == blue
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned clockwise by 90 degrees: left comes to the top
    picture.save(p, exif=exif)
    turned = Reader(10).read(p)
    assert turned[:, 0, 5].tolist() == red
    assert turned[:, 9, 5].tolist() == blue
    marked = Image.new("RGB", (40, 20), "green")
    marked.paste("white", (0, 0, 5, 20))
    marked.save(p)
    green = [0, 128, 0]
    assert Reader(10).read(p)[:, 5, 0].tolist() == green  # outside the centred square
    assert Reader(10, resize="squash").read(p)[:, 5, 0].min() > 250


def test_reduced_jpeg_is_the_image(tmp_path):
    """A JPEG decoded to a part of its size, then resized, is what the whole of it resized is."""
    coarse = Image.fromarray(numbers.integers(0, 256, (64, 64, 3), dtype=np.uint8))
    coarse.resize((512, 512), Image.Resampling.BICUBIC).save(tmp_path / "x.jpg", quality=95)
    with Image.open(tmp_path / "x.jpg") as image:
        whole = np.asarray(image.resize((128, 128), Image.Resampling.BICUBIC)).transpose(2, 0, 1)
    difference = np.abs(Reader(128).read(tmp_path / "x.jpg").astype(int) - whole)
    assert difference.mean() < 3, difference.mean()
    assert difference.max() < 30, difference.max()


def test_single_tree(tmp_path):
    root = tmp_path / "set"
    classes_of(root, ("c10", "c9", "C1"))
    dataset = folder(root, validation=0.25, test=0.2)
    data = dataset.load()
    assert data.classes == ("C1", "c9", "c10")
    assert dataset.samples.shape == (3, 16, 16)
    assert (dataset.rows, len(data.validation.x), len(data.test.x)) == (18, 6, 6)
    assert len(data.train) == dataset.rows
    apart(data)
    colour = {"c10": 0, "c9": 10, "C1": 20}
    for part in (data.bank, data.validation, data.test):
        assert everything(part.x)[:, 0, 0, 0].tolist() == [colour[data.classes[i]] for i in part.y]
        assert len(set(part.y.bincount().tolist())) == 1
    assert keys(folder(root, validation=0.5, test=0.2).load().test.x) == keys(data.test.x)  # test is taken first
    assert keys(folder(root, validation=0.25, test=0.2, split_seed=1).load().test.x) != keys(data.test.x)
    bare = folder(root, validation=0.0, test=0.0).load()
    assert len(bare.train) == 30
    assert bare.validation is bare.test is None


@pytest.mark.parametrize("val", ["val", "valid", "validation"])
def test_part_folders(tmp_path, val):
    root = tmp_path / "set"
    classes_of(root / "train", first=0)
    classes_of(root / val, each=3, first=50)
    classes_of(root / "test", each=2, first=100)
    (root / "leftovers").mkdir()
    paint(root / "leftovers" / "x.png", 3)
    dataset = folder(root)
    data = dataset.load()
    assert isinstance(data.train, torch.Tensor)
    assert set(data.train[:, 0, 0, 0].tolist()) == {0, 10}
    assert set(data.validation.x[:, 0, 0, 0].tolist()) == {50, 60}
    assert set(data.test.x[:, 0, 0, 0].tolist()) == {100, 110}
    assert (dataset.rows, len(data.validation.y), len(data.test.y)) == (20, 6, 4)
    assert data.bank.y.tolist() == [0] * 10 + [1] * 10
    assert data.mean[1] == pytest.approx(4.5 / 255)  # of the training rows alone


def test_test_folder_is_never_trained_on(tmp_path):
    root = tmp_path / "set"
    classes_of(root / "train")
    classes_of(root / "test", each=2, first=100)
    data = folder(root).load()
    assert isinstance(data.train, Subset)
    assert set(everything(data.train)[:, 0, 0, 0].tolist()) == {0, 10}
    assert (len(data.train), len(data.validation.x), len(data.test.x)) == (18, 2, 4)


def test_without_labels(tmp_path):
    for name, settings in {"flat": {}, "one": {}, "dates": {"labels": False}}.items():
        root = tmp_path / name
        for k in range(5):
            below = {"flat": root, "one": root / "all", "dates": root / f"2020/0{k % 2}"}[name]
            paint(below / f"{k}.png", (k, 0, 0))
        classes_of(root / "more") if name == "dates" else None
        data = folder(root, **settings).load()
        assert len(data.train) == (25 if name == "dates" else 5)  # nothing is held out
        assert data.bank is data.validation is data.test is None
        assert data.classes == ()


def test_unlabelled_test_folder(tmp_path, caplog):
    root = tmp_path / "set"
    classes_of(root / "train")
    paint(root / "test" / "0.png", 5)
    data = folder(root).load()
    assert data.test is None
    assert len(data.train) == 18
    assert any("test" in r.getMessage() and "left out" in r.getMessage() for r in caplog.records)
    caplog.clear()
    assert folder(root, labels=False).load().test is None
    assert any("test is left out" in r.getMessage() for r in caplog.records)


def test_only_images_in_natural_order(tmp_path):
    root = tmp_path / "set"
    for name in ("10.png", "9.PNG", "a2/1.Jpg", "a10/1.png", ".hidden.png", ".git/x.png"):
        paint(root / name, 1, format="PNG")
    (root / "notes.txt").write_text("no image")
    (root / "link").symlink_to(root)  # a circle
    (root / "b").symlink_to(root / "a2")
    assert sorted(["b10", "\u0663", "x\u00b2y", "b9", "1"], key=tree.natural_key) == [
        "1",
        "b9",
        "b10",
        "x\u00b2y",
        "\u0663",
    ]
    assert tree.list_images(root) == ["9.PNG", "10.png", "a2/1.Jpg", "a10/1.png", "b/1.Jpg"]


def test_contradictions(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"no folder.*dataset\.root=FOLDER.*dataset=shapes"):
        folder(tmp_path / "nowhere")
    (tmp_path / "x.zip").write_text("")
    with pytest.raises(FileNotFoundError, match="unpack"):
        folder(tmp_path / "x.zip")
    (tmp_path / "empty").mkdir()
    with pytest.raises(FileNotFoundError, match="no training images"):
        folder(tmp_path / "empty")
    classes_of(tmp_path / "lone" / "test")
    with pytest.raises(ValueError, match="no train/"):
        folder(tmp_path / "lone")
    classes_of(tmp_path / "two" / "train")
    classes_of(tmp_path / "two" / "val")
    classes_of(tmp_path / "two" / "valid")
    with pytest.raises(ValueError, match=r"val/.*valid/|valid/.*val/"):
        folder(tmp_path / "two")
    classes_of(tmp_path / "strange" / "train")
    classes_of(tmp_path / "strange" / "test", ("ant", "cow"))
    with pytest.raises(ValueError, match=r"cow.*dataset\.labels=false"):
        folder(tmp_path / "strange")
    classes_of(tmp_path / "mixed")
    paint(tmp_path / "mixed" / "stray.png", 1)
    with pytest.raises(ValueError, match=r"stray\.png.*dataset\.labels=false"):
        folder(tmp_path / "mixed")
    assert folder(tmp_path / "mixed", labels=False).rows == 21


def test_size(tmp_path):
    for name, sizes, wanted in (
        ("same", [(28, 28)] * 3, 28),
        ("mixed", [(28, 28), (30, 30)], 64),
        ("tall", [(20, 28)], 64),
        ("large", [(97, 97)], 64),
    ):
        for k, size in enumerate(sizes):
            paint(tmp_path / name / f"{k}.png", k, size)
        assert folder(tmp_path / name).samples.shape == (3, wanted, wanted)
    assert folder(tmp_path / "same", size=40, channels=1).samples.shape == (1, 40, 40)
    assert tuple(folder(tmp_path / "same", size=40, channels=1).load().train.shape) == (3, 1, 40, 40)


def spoil(root: Path) -> list[str]:
    """Five files that cannot be read: empty, no image, cut short, a link to nothing, too many pixels."""
    paint(root / "ant" / "cut.jpg", 5, (300, 300))
    cut = root / "ant" / "cut.jpg"
    cut.write_bytes(cut.read_bytes()[:-600])
    (root / "ant" / "empty.png").write_bytes(b"")
    (root / "bee" / "text.jpg").write_text("no image at all")
    (root / "bee" / "dangling.png").symlink_to(root / "nothing")
    bomb = bytearray((root / "ant" / "0.png").read_bytes())
    bomb[16:24] = struct.pack(">II", 60_000, 60_000)
    (root / "bee" / "bomb.png").write_bytes(bomb)
    return ["ant/cut.jpg", "ant/empty.png", "bee/bomb.png", "bee/dangling.png", "bee/text.jpg"]


@pytest.mark.parametrize("cached", [True, False])
def test_broken_files(tmp_path, caplog, cached):
    root = tmp_path / "set"
    classes_of(root)
    names = spoil(root)
    settings = {"validation": 0.0, "test": 0.0, "size": 16} | ({} if cached else {"cache": False})
    for _ in range(2):  # decoded, and then from the cache
        caplog.clear()
        dataset = folder(root, max_broken=5, **settings)
        assert dataset.rows == 25
        data = dataset.load()
        assert dataset.rows == len(data.train) == len(data.bank.y) == 20
        assert [everything(data.train)[i, 0, 0, 0] // 10 for i in range(20)] == data.bank.y.tolist()
        said = [r.getMessage() for r in caplog.records if r.levelno == logging.WARNING]
        assert all(any(name in line for line in said) for name in names)
        assert said[-1].startswith("5 of 25")
        with pytest.raises(ValueError, match=r"max_broken=4.*ant/cut\.jpg.*dataset\.max_broken=N"):
            folder(root, max_broken=4, **settings).load()


def test_many_broken_are_counted(tmp_path, caplog):
    classes_of(tmp_path / "set")
    for k in range(13):
        (tmp_path / "set" / "ant" / f"bad{k}.png").write_bytes(b"?")
    folder(tmp_path / "set", max_broken=20).load()
    said = [r.getMessage() for r in caplog.records if r.levelno == logging.WARNING]
    assert len(said) == 11
    assert said[-1].startswith("13 of 33")


def entries(root: Path) -> list[Path]:
    return sorted((root.parent / "cache").glob("*.npy"))


def decodings(monkeypatch) -> list[Path]:
    """Files that are decoded from now on."""
    seen: list[Path] = []
    read = Reader.read

    def counted(self, path):
        seen.append(path)
        return read(self, path)

    monkeypatch.setattr(Reader, "read", counted)
    return seen


def test_second_run_decodes_nothing(tmp_path, monkeypatch):
    root = tmp_path / "set"
    classes_of(root)
    seen = decodings(monkeypatch)
    first = folder(root).load()
    assert len(seen) == 20
    again = folder(root).load()
    assert len(seen) == 20
    assert torch.equal(everything(first.train), everything(again.train))
    assert first.fingerprint == again.fingerprint
    assert len(entries(root)) == 1
    assert len(list((tmp_path / "cache").iterdir())) == 2
    assert folder(root, cache=False).load().fingerprint == first.fingerprint
    (tmp_path / "moved").mkdir()
    root.rename(tmp_path / "moved" / "set")
    folder(tmp_path / "moved" / "set", cache=str(tmp_path / "cache")).load()
    assert len(seen) == 40  # once more in memory, none of the moved


def test_key_follows_content(tmp_path):
    root = tmp_path / "set"
    classes_of(root)
    fingerprints = [folder(root).load().fingerprint]
    paint(root / "ant" / "0.png", (99, 0, 0))
    os.utime(root / "ant" / "0.png", ns=(1, 1))
    assert 99 in everything(folder(root, validation=0.0, test=0.0).load().train)[:, 0, 0, 0]
    fingerprints.append(folder(root).load().fingerprint)
    paint(root / "ant" / "new.png", (98, 0, 0))
    fingerprints.append(folder(root).load().fingerprint)
    (root / "ant" / "new.png").unlink()
    fingerprints.append(folder(root).load().fingerprint)
    assert len(entries(root)) == 3  # changed, added; removed is as before
    assert fingerprints[1] == fingerprints[3]
    assert len(set(fingerprints)) == 3
    folder(root, channels=1).load()
    folder(root, size=8).load()
    folder(root, resize="squash").load()
    assert len(entries(root)) == 6


def test_key_follows_the_time_of_every_file(tmp_path, monkeypatch):
    """Also of files of which no byte goes into the key."""
    monkeypatch.setattr(source, "SAMPLED", 1)
    root = tmp_path / "set"
    for k in range(5):
        paint(root / f"{k}.bmp", k, mode="L")
    assert folder(root).load().train[:, 0, 0, 0].tolist() == [0, 1, 2, 3, 4]
    paint(root / "3.bmp", 77, mode="L")
    assert folder(root).load().train[:, 0, 0, 0].tolist() == [0, 1, 2, 77, 4]


def test_same_names_sizes_and_times_in_another_tree(tmp_path):
    """Archives are often unpacked with one time for all files: the bytes tell them apart."""
    for name, colour in (("one", 10), ("two", 200)):
        paint(tmp_path / name / "set" / "0.bmp", colour, mode="L")
        os.utime(tmp_path / name / "set" / "0.bmp", ns=(7, 7))
    one, two = (
        folder(tmp_path / name / "set", cache=str(tmp_path / "cache")).load().train[0, 0, 0, 0]
        for name in ("one", "two")
    )
    assert (int(one), int(two)) == (10, 200)


@pytest.mark.parametrize("harm", ["cut", "empty", "other", "note"])
def test_torn_entry_is_rebuilt(tmp_path, monkeypatch, harm):
    root = tmp_path / "set"
    classes_of(root)
    before = everything(folder(root).load().train).clone()
    entry = entries(root)[0]
    raw = entry.read_bytes()
    if harm == "note":
        entry.with_suffix(".json").write_text("{")
    else:
        entry.unlink()  # the mapping of the first run keeps its file
        entry.write_bytes({"cut": raw[:-1], "empty": b"", "other": b"x" * len(raw)}[harm])
    seen = decodings(monkeypatch)
    assert torch.equal(everything(folder(root).load().train), before)
    assert len(seen) == 20
    assert entry.read_bytes() == raw


def test_two_runs_at_once(tmp_path, monkeypatch):
    """A second run writes the same entry from beginning to end while the first is in the midst of it."""
    root = tmp_path / "set"
    classes_of(root)
    batches = Reader.read_batches
    results: list[torch.Tensor] = []

    def overtaken(self, paths):
        monkeypatch.setattr(Reader, "read_batches", batches)
        first, rows, broken = next(batches(self, paths))
        half = len(paths) // 2
        yield first, rows[:half], broken
        results.append(folder(root).load().train)
        yield half, rows[half:], {}

    monkeypatch.setattr(Reader, "read_batches", overtaken)
    results.append(folder(root).load().train)
    assert len(results) == 2
    assert torch.equal(everything(results[0]), everything(results[1]))
    assert torch.equal(everything(results[0]), everything(folder(root, cache=False).load().train))
    assert len(list((tmp_path / "cache").iterdir())) == 2


def test_cut_off_while_writing_leaves_no_entry(tmp_path, monkeypatch):
    root = tmp_path / "set"
    classes_of(root)
    batches = Reader.read_batches

    def interrupted(self, paths):
        yield next(batches(self, paths[:5]))
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Reader, "read_batches", interrupted)
        with pytest.raises(KeyboardInterrupt):
            folder(root).load()
    assert list((tmp_path / "cache").iterdir()) == []
    assert len(folder(root).load().train) == 16


@pytest.mark.parametrize("call", ["fsync", "replace"])
def test_failed_write_leaves_nothing(tmp_path, monkeypatch, caplog, call):
    """A disk that is full only when the file is synced, at either file of an entry, or a name that cannot be given."""
    classes_of(tmp_path / "set")
    for allowed in (0, 2 if call == "fsync" else 1):  # a folder is synced after its file
        calls: list[object] = []
        original = os.fsync if call == "fsync" else Path.replace

        def failing(*arguments, calls=calls, original=original, allowed=allowed):
            calls.append(arguments)
            if len(calls) > allowed:
                raise OSError(28, "No space left on device")
            return original(*arguments)

        with monkeypatch.context() as patch:
            patch.setattr("os.fsync" if call == "fsync" else "pathlib.Path.replace", failing)
            assert len(folder(tmp_path / "set").load().train) == 16
        assert len(calls) == allowed + 1
        assert not list((tmp_path / "cache").glob("*.half")), allowed
        assert not entries(tmp_path / "set")
    assert any("No space left" in r.getMessage() for r in caplog.records)


def test_what_a_killed_run_left_is_removed_once_it_is_old(tmp_path):
    """Also where the entry is there and nothing is decoded; what another run may be writing stays."""
    root = tmp_path / "set"
    classes_of(root)
    folder(root).load()
    old, young, foreign = (tmp_path / "cache" / name for name in ("0.npy.a.half", "0.npy.b.half", "notes.tmp"))
    for file in (old, young, foreign):
        file.write_bytes(b"torn")
    for file in (old, foreign):
        os.utime(file, (1, 1))
    folder(root).load()
    assert not old.exists()
    assert young.exists()
    assert foreign.exists()


def test_unwritable_cache(tmp_path, caplog, monkeypatch):
    root = tmp_path / "set"
    classes_of(root)
    (tmp_path / "file").write_text("no folder")
    data = folder(root, cache=str(tmp_path / "file")).load()
    assert len(data.train) == 16
    assert any("memory" in r.getMessage() for r in caplog.records)
    monkeypatch.setattr(cache, "IN_MEMORY", 100)
    with pytest.raises(OSError, match=r"dataset\.cache=FOLDER.*dataset\.stream=true"):
        folder(root, cache=str(tmp_path / "file")).load()


def test_full_disk(tmp_path, caplog, monkeypatch):
    classes_of(tmp_path / "set")
    monkeypatch.setattr("shutil.disk_usage", lambda _: type("Usage", (), {"free": 10}))
    assert len(folder(tmp_path / "set").load().train) == 16
    assert any("No space left" in r.getMessage() for r in caplog.records)
    assert list((tmp_path / "cache").iterdir()) == []


def test_default_cache_folder(tmp_path, monkeypatch):
    classes_of(tmp_path / "set")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "user"))
    folder(tmp_path / "set", cache=True).load()
    assert len(list((tmp_path / "user" / "ssl_runner").glob("*.npy"))) == 1


def test_mended_file_is_read(tmp_path, monkeypatch):
    """A file that could not be read for a reason outside of it, and now can; its name, size and time are the same."""
    root = tmp_path / "set"
    classes_of(root)
    with monkeypatch.context() as patch:
        read = Reader.read

        def refused(self, path):
            if path.name == "3.png":
                raise PermissionError(13, "Permission denied")
            return read(self, path)

        patch.setattr(Reader, "read", refused)
        assert len(folder(root, validation=0.0, test=0.0).load().train) == 18
    assert len(folder(root, validation=0.0, test=0.0).load().train) == 20


def test_stream(tmp_path, caplog):
    root = tmp_path / "set"
    classes_of(root)
    kept, streamed = folder(root).load(), folder(root, stream=True, cache=str(tmp_path / "none")).load()
    assert not (tmp_path / "none").exists()
    for a, b in ((kept.bank, streamed.bank), (kept.validation, streamed.validation), (kept.test, streamed.test)):
        assert torch.equal(everything(a.x), everything(b.x))
        assert torch.equal(a.y, b.y)
    assert streamed.train[torch.tensor([3, 0])].shape == (2, 3, 16, 16)
    assert kept.mean == pytest.approx(streamed.mean)
    again = pickle.loads(pickle.dumps(streamed.train))  # a process that is spawned gets it so
    assert torch.equal(everything(again), everything(streamed.train))
    spoil(root)
    grey = folder(root, stream=True, max_broken=5, validation=0.0, test=0.0, size=16).load()
    assert len(grey.train) == 25
    names = grey.train.rows.source.files
    assert (everything(grey.train)[names.index("ant/empty.png")] == 127).all()
    assert everything(grey.train)[names.index("bee/9.png"), :, 0, 0].tolist() == [10, 9, 7]
    with pytest.raises(ValueError, match="max_broken=4"):
        everything(folder(root, stream=True, max_broken=4, validation=0.0, test=0.0, size=16).load().train)
    assert any("ant/empty.png" in r.getMessage() for r in caplog.records)


def test_others_may_read_what_was_written(tmp_path):
    """A temporary file is its owner's alone; what becomes of it is a group's cache, table or picture."""
    with replacing(tmp_path / "file") as file:
        file.write(b"content")
    assert (tmp_path / "file").stat().st_mode & 0o777 == 0o644

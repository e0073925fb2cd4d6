"""Published datasets: layouts of their files, splits, downloads, what is said of the absent and the torn."""

import gzip
import hashlib
import os
import pickle
import shutil
import struct
from pathlib import Path
from unittest.mock import Mock

import numpy as np
import pytest
import torch
from image_trees import keys, require_disjoint

from ssl_runner.dataset.cifar import CIFAR10, CIFAR100
from ssl_runner.dataset.mnist import MNIST, FashionMNIST, read_idx
from ssl_runner.dataset.stl10 import STL10
from ssl_runner.dataset.svhn import SVHN
from ssl_runner.run_folder.atomic import write


def random_images(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)


def md5(path: Path) -> str:
    return hashlib.md5(path.read_bytes()).hexdigest()


def require_loaded(dataset, rows: int, images: np.ndarray, y: np.ndarray, test: int):
    """So many training rows, disjoint parts, each image with its own label; the last `test` are the test rows."""
    data = dataset.load()
    assert (dataset.rows, *data.train.shape) == (rows, rows, *dataset.samples.shape)
    require_disjoint(data)
    assert data.bank.x is data.train
    assert data.train.is_contiguous()
    assert torch.equal(data.test.x.squeeze(1), torch.from_numpy(images[-test:]))
    assert data.bank.y.dtype == torch.int64
    label = {image.tobytes(): int(y) for image, y in zip(images, y, strict=True)}
    for part in (data.bank, data.validation, data.test):
        assert [label[x.numpy().tobytes()] for x in part.x] == part.y.tolist()
    return data


def write_idx(path: Path, array: np.ndarray, packed: bool) -> None:
    raw = struct.pack(f">BBBB{array.ndim}I", 0, 0, 8, array.ndim, *array.shape) + array.tobytes()
    write(path.with_name(path.name + ".gz" * packed), gzip.compress(raw) if packed else raw)


def write_mnist(folder: Path, packed: bool = True) -> tuple[np.ndarray, np.ndarray]:
    images, y = random_images(60, 28, 28), np.arange(60, dtype=np.uint8) % 10
    for part, rows in {"train": slice(40), "t10k": slice(40, None)}.items():
        write_idx(folder / f"{part}-images-idx3-ubyte", images[rows], packed)
        write_idx(folder / f"{part}-labels-idx1-ubyte", y[rows], packed)
    return images, y


@pytest.fixture
def root(tmp_path, monkeypatch) -> str:
    """A folder for MNIST or Fashion-MNIST of four training images a class."""
    for kind in (MNIST, FashionMNIST):
        monkeypatch.setattr(kind, "counts", (4,) * 10)
    return str(tmp_path / "data")


@pytest.mark.parametrize("kind", [MNIST, FashionMNIST])
@pytest.mark.parametrize("place", ["", "{}/raw", "raw"])
@pytest.mark.parametrize("packed", [True, False])
def test_mnist_is_read_from_any_layout(root, kind, place, packed):
    images, y = write_mnist(Path(root, place.format(kind.__name__)), packed)
    before = sorted(Path(root).rglob("*"))
    data = require_loaded(kind(root=root, download=False, validation=0.25), 30, images, y, test=20)
    assert sorted(Path(root).rglob("*")) == before  # nothing is written beside the files
    assert (data.train.shape[1:], len(data.classes)) == ((1, 28, 28), 10)
    assert data.validation.y.bincount().tolist() == [1] * 10
    assert data.mean[0] == pytest.approx(float(data.train.double().mean()) / 255, rel=1e-6)


def test_the_split_and_the_fingerprint_follow_the_seed(root):
    write_mnist(Path(root))
    one, same, other = (MNIST(root=root, validation=0.25, split_seed=seed).load() for seed in (0, 0, 1))
    assert torch.equal(one.train, same.train)
    assert one.fingerprint == same.fingerprint != other.fingerprint
    assert keys(one.validation.x) != keys(other.validation.x)
    assert torch.equal(one.test.x, other.test.x)
    assert MNIST(root=root, validation=0.0).load().validation is None


ROWS = {MNIST: 60_000, FashionMNIST: 60_000, CIFAR10: 50_000, CIFAR100: 50_000, SVHN: 73_257, STL10: 100_000}


@pytest.mark.parametrize(("kind", "rows"), ROWS.items())
def test_absent_files_are_refused_with_what_to_do_and_their_rows_are_known(tmp_path, kind, rows, monkeypatch):
    assert kind(validation=0.0).rows == rows
    assert kind(validation=0.1).rows == (rows if kind is STL10 else pytest.approx(0.9 * rows, abs=5))
    for name in ("_get_redirect_url", "_urlretrieve"):
        offline = Mock(side_effect=OSError("the network is unreachable"))
        monkeypatch.setattr(f"torchvision.datasets.utils.{name}", offline)
    folder = str(tmp_path / "nowhere")
    with pytest.raises(FileNotFoundError) as refused:
        kind(root=folder, download=False)
    dataset = kind(root=folder)  # may be downloaded: nothing to refuse yet
    with pytest.raises(ConnectionError) as failed:
        dataset.load()
    for error, word in ((refused, "dataset.download=false"), (failed, "unreachable")):
        words = (*kind.files, kind.url, "dataset.root=", "dataset=shapes", folder, word)
        assert all(each in str(error.value) for each in words)
    assert list(Path(folder).iterdir()) == []


def test_a_download_leaves_the_files_alone(tmp_path, root, monkeypatch):
    """torchvision fetches and unpacks; the files end where they are found the next time. What a killed download left is
    removed once it is old."""
    write_mnist(server := tmp_path / "server")
    old, young = torn = [Path(root, f".ssl_runner-fetch-{name}", "MNIST", "torn") for name in ("old", "young")]
    for each in torn:
        write(each, b"?")
    for each in (old, *old.parents[:2], *young.parents[:2]):  # a file is young in the second
        os.utime(each, (1, 1))
    retrieve = Mock(side_effect=lambda url, filename, **_: shutil.copy(server / Path(url).name, filename))
    monkeypatch.setattr("torchvision.datasets.utils._get_redirect_url", lambda url, **_: url)
    monkeypatch.setattr("torchvision.datasets.utils._urlretrieve", retrieve)
    served = [(file.name, md5(file)) for file in sorted(server.iterdir())]
    monkeypatch.setattr("torchvision.datasets.MNIST.resources", served)
    for download in (True, False):
        assert len(MNIST(root=root, download=download, validation=0.0).load().train) == 40
        assert retrieve.call_count == 4
    left = {path.relative_to(root).as_posix() for path in Path(root).rglob("*") if path.is_file()}
    assert left == {young.relative_to(root).as_posix(), *(f"MNIST/raw/{file}" for file in MNIST.files)}
    assert not old.parents[1].exists()


def test_torn_and_foreign_files_are_refused(root, tmp_path, monkeypatch):
    write_mnist(Path(root))
    monkeypatch.setattr(FashionMNIST, "counts", (6000,) * 10)
    with pytest.raises(ValueError, match=r"not those published.*delete them"):  # labels of another dataset
        FashionMNIST(root=root, download=False).load()
    images = Path(root, "train-images-idx3-ubyte.gz")
    images.write_bytes(images.read_bytes()[:-100])
    with pytest.raises(ValueError, match=r"not those published.*train-images-idx3-ubyte"):
        MNIST(root=root, download=False).load()
    write_idx(file := tmp_path / "x", np.zeros((3, 4), np.uint8), packed=False)
    assert read_idx(file).shape == (3, 4)
    whole = file.read_bytes()
    for raw in (b"", b"\0\0\x08", b"\0\0\x09\1\0\0\0\1a", whole[:-1], whole + b"\0", b"\0\0\x08\3\0"):
        file.write_bytes(raw)
        with pytest.raises(ValueError, match="x "):
            read_idx(file)


@pytest.mark.parametrize("inside", [False, True])
@pytest.mark.parametrize(("kind", "label"), [(CIFAR10, "labels"), (CIFAR100, "fine_labels")])
def test_cifar_is_read_against_its_checksums(tmp_path, monkeypatch, kind, label, inside):
    classes, folder, (*batches, meta) = len(kind.counts), tmp_path / kind.folder, kind.files
    monkeypatch.setattr(kind, "counts", (5,) * classes)
    images = random_images(5 * classes + 10, 3, 32, 32)
    y = np.arange(len(images)) % classes
    cuts = np.arange(1, len(batches)) * 5 * classes // (len(batches) - 1)
    content = {
        file: {"data": x.reshape(-1, 3072), label: part.tolist()}
        for file, x, part in zip(batches, np.split(images, cuts), np.split(y, cuts), strict=True)
    }
    content[meta] = {"names": [f"kind {i}" for i in range(classes)]}
    for file, each in content.items():
        write(folder / file, pickle.dumps(each))
    *train, test, names = ([file, md5(folder / file)] for file in content)
    published = {"train_list": train, "test_list": [test], "meta": {"filename": meta, "key": "names", "md5": names[1]}}
    for name, value in published.items():
        monkeypatch.setattr(f"torchvision.datasets.{kind.__name__}.{name}", value)
    dataset = kind(root=str(folder if inside else tmp_path), download=False, validation=0.2)
    data = require_loaded(dataset, 4 * classes, images, y, test=10)
    assert data.classes[1] == "kind 1"
    with (folder / batches[-1]).open("ab") as file:
        file.write(b"!")
    with pytest.raises(ValueError, match="not those published"):
        dataset.load()


def test_svhn_is_read_from_its_two_files(tmp_path, monkeypatch):
    from scipy.io import savemat

    monkeypatch.setattr(SVHN, "counts", (2,) * 10)
    images, y, sums = random_images(30, 3, 32, 32), np.arange(30) % 10, {}
    for part, rows in {"train": slice(20), "test": slice(20, 30)}.items():
        file = tmp_path / f"{part}_32x32.mat"
        labels = np.where(y[rows] == 0, 10, y[rows]).astype(np.uint8)  # the files call a zero 10
        savemat(file, {"X": images[rows].transpose(2, 3, 1, 0), "y": labels[:, None]})
        sums[part] = ["", file.name, md5(file)]
    monkeypatch.setattr("torchvision.datasets.SVHN.split_list", sums)
    require_loaded(SVHN(root=str(tmp_path), download=False, validation=0.5), 10, images, y, test=10)


def test_stl10_learns_from_the_unlabelled(tmp_path, monkeypatch):
    monkeypatch.setattr(STL10, "counts", (2,) * 10)
    monkeypatch.setattr(STL10, "training_counts", (7,))
    folder, images = tmp_path / "stl10_binary", random_images(37, 3, 96, 96)
    for file, rows in {"unlabeled": slice(7), "train": slice(7, 27), "test": slice(27, 37)}.items():
        write(folder / f"{file}_X.bin", images[rows].transpose(0, 1, 3, 2).tobytes())
        write(folder / f"{file}_y.bin", bytes(k % 10 + 1 for k in range(len(images[rows]))))
    data = STL10(root=str(tmp_path), download=False, validation=0.5).load()
    assert torch.equal(torch.cat([data.train, data.test.x]), torch.from_numpy(images[[*range(7), *range(27, 37)]]))
    assert keys(data.bank.x) | keys(data.validation.x) == {x.tobytes() for x in images[7:27]}
    assert len(data.bank.x) == len(data.validation.x) == 10
    assert data.test.y.tolist() == list(range(10))
    os.truncate(folder / "unlabeled_X.bin", 7 * 3 * 96 * 96 - 5)
    with pytest.raises(ValueError, match=r"unlabeled_X\.bin"):
        STL10(root=str(folder), download=False).load()

"""Folders of image files: parts, classes, sizes, unreadable files, rows decoded on demand."""

import pickle

import pytest
import torch
from image_trees import WHOLE, everything, folder, keys, load, paint, paint_classes, red, require_disjoint, spoil

from ssl_runner.data.image_files.listing import list_images, natural_key
from ssl_runner.data.rows import Subset


@pytest.fixture
def root(tmp_path):
    return tmp_path / "set"


def test_a_single_tree_is_split_by_class(root):
    paint_classes(root, ("c10", "c9", "C1"))
    dataset = folder(root, validation=0.25, test=0.2)
    data = dataset.load()
    assert data.classes == ("C1", "c9", "c10")
    assert dataset.samples.shape == (3, 16, 16)
    assert (dataset.rows, len(data.train), len(data.validation.x), len(data.test.x)) == (18, 18, 6, 6)
    require_disjoint(data)
    colour = {"c10": 0, "c9": 10, "C1": 20}
    for part in (data.bank, data.validation, data.test):
        assert red(part.x) == [colour[data.classes[i]] for i in part.y]
        assert len(set(part.y.bincount().tolist())) == 1
    assert keys(load(root, validation=0.5, test=0.2).test.x) == keys(data.test.x)  # test is taken first
    assert keys(load(root, validation=0.25, test=0.2, split_seed=1).test.x) != keys(data.test.x)
    bare = load(root, **WHOLE)
    assert (len(bare.train), bare.validation, bare.test) == (30, None, None)


@pytest.mark.parametrize("val", ["val", "valid", "validation", None])
def test_folders_of_parts_are_kept_apart(root, val):
    for part, each, first in (("train", 10, 0), ("test", 2, 100), *([(val, 3, 50)] if val else [])):
        paint_classes(root / part, each=each, first=first)
    paint(root / "leftovers" / "x.png", 3)
    dataset = folder(root)
    data = dataset.load()
    colours = [set(red(rows)) for rows in (data.train, data.validation.x, data.test.x)]
    assert colours == [{0, 10}, {50, 60} if val else {0, 10}, {100, 110}]
    assert (dataset.rows, len(data.validation.y), len(data.test.y)) == ((20, 6, 4) if val else (18, 2, 4))
    assert isinstance(data.train, torch.Tensor if val else Subset)
    if val:
        assert data.bank.y.tolist() == [0] * 10 + [1] * 10
        assert data.mean[1] == pytest.approx(4.5 / 255)  # of the training rows alone


@pytest.mark.parametrize(("below", "settings"), [("", {}), ("all", {}), ("2020/0{}", {"labels": False})])
def test_without_labels_nothing_is_held_out(root, below, settings):
    for k in range(5):
        paint(root / below.format(k % 2) / f"{k}.png", (k, 0, 0))
    if settings:
        paint(paint_classes(root / "more").parent / "stray.png", 1)
    data = load(root, **settings)
    assert data.bank is data.validation is data.test is None
    assert (len(data.train), data.classes) == (26 if settings else 5, ())


def test_a_test_folder_without_labels_to_measure_on_is_left_out(root, caplog):
    paint_classes(root / "train")
    paint(root / "test" / "0.png", 5)
    for settings, rows in (({}, 18), ({"labels": False}, 20)):
        caplog.clear()
        data = load(root, **settings)
        assert (data.test, len(data.train)) == (None, rows)
        assert "test is left out" in caplog.text
    paint(root / "train" / "one class" / "0.png", 5)
    for name in ("ant", "bee"):
        (root / "train" / name).rename(root / "test" / name)
    (root / "test" / "0.png").unlink()
    data = load(root)
    assert (data.test, len(data.train), data.classes) == (None, 1, ())


def test_only_images_are_listed_in_natural_order(root):
    for name in ("10.png", "9.PNG", "a2/1.Jpg", "a10/1.png", ".hidden.png", ".git/x.png"):
        paint(root / name, 1, format="PNG")
    (root / "notes.txt").write_text("no image")
    (root / "link").symlink_to(root)  # a circle
    (root / "b").symlink_to(root / "a2")
    assert list_images(root).files == ["9.PNG", "10.png", "a2/1.Jpg", "a10/1.png", "b/1.Jpg"]
    names = ["b10", "\u0663", "x\u00b2y", "b9", "1"]
    assert sorted(names, key=natural_key) == ["1", "b9", "b10", "x\u00b2y", "\u0663"]


CONTRADICTIONS = {
    "no folder": (None, FileNotFoundError, r"no folder.*dataset\.root=FOLDER.*dataset=shapes"),
    "a file": ("", FileNotFoundError, "unpack"),
    "an empty folder": ((), FileNotFoundError, "no training images"),
    "no training images": (("test/ant", "test/bee"), ValueError, "no train/"),
    "two validation parts": (("train/ant", "val/ant", "valid/ant"), ValueError, r"val/.*valid/|valid/.*val/"),
    "a class of test": (("train/ant", "train/bee", "test/ant", "test/cow"), ValueError, r"cow.*dataset\.labels=false"),
    "images beside classes": (("ant", "bee", "."), ValueError, r"x\.png.*dataset\.labels=false"),
}


@pytest.mark.parametrize(("tree", "error", "message"), CONTRADICTIONS.values(), ids=CONTRADICTIONS)
def test_folders_that_contradict_each_other_are_refused(root, tree, error, message):
    if tree is not None:
        root.write_text("") if tree == "" else root.mkdir()
    for place in tree or ():
        paint(root / place / "x.png", 1)
    with pytest.raises(error, match=message):
        folder(root)


SIZES = {"all alike": ([(28, 28)] * 3, 28), "two sizes": ([(28, 28), (30, 30)], 64)}
SIZES |= {"no square": ([(20, 28)], 64), "too large": ([(97, 97)], 64)}


@pytest.mark.parametrize(("sizes", "side"), SIZES.values(), ids=SIZES)
def test_squares_of_one_size_keep_it(root, sizes, side):
    for k, size in enumerate(sizes):
        paint(root / f"{k}.png", k, size)
    assert folder(root).samples.shape == (3, side, side)
    assert folder(root, size=40, channels=1).samples.shape == (1, 40, 40)
    assert load(root, size=40, channels=1).train.shape == (len(sizes), 1, 40, 40)


@pytest.mark.parametrize("cached", [True, False])
def test_unreadable_files_are_named_and_left_out(root, caplog, cached):
    caplog.set_level("WARNING")
    names, settings = spoil(paint_classes(root)), {"size": 16, **WHOLE} | ({} if cached else {"cache": False})
    for _ in range(2):  # decoded, and then from the cache
        caplog.clear()
        dataset = folder(root, max_broken=5, **settings)
        assert dataset.rows == 25
        data = dataset.load()
        assert dataset.rows == len(data.train) == 20
        assert [each // 10 for each in red(data.train)] == data.bank.y.tolist()
        assert all(any(name in line for line in caplog.messages) for name in names)
        assert caplog.messages[-1].startswith("5 of 25")
        with pytest.raises(ValueError, match=r"max_broken=4.*ant/cut\.jpg.*dataset\.max_broken=N"):
            load(root, max_broken=4, **settings)
    for k in range(8):
        (root / "ant" / f"bad{k}.png").write_bytes(b"?")
    caplog.clear()
    load(root, max_broken=20, **settings)
    *ten, last = caplog.messages  # the first, and how many there are
    assert (len(ten), last[:8]) == (10, "13 of 33")


def test_a_stream_has_the_rows_of_the_cache(root, tmp_path, caplog):
    paint_classes(root)
    kept, streamed = load(root), load(root, stream=True, cache=str(tmp_path / "none"))
    assert not (tmp_path / "none").exists()
    for a, b in ((kept.bank, streamed.bank), (kept.validation, streamed.validation), (kept.test, streamed.test)):
        assert all(map(torch.equal, (everything(a.x), a.y), (everything(b.x), b.y)))
    assert streamed.train[torch.tensor([3, 0])].shape == (2, 3, 16, 16)
    assert kept.mean == pytest.approx(streamed.mean)
    pickled = pickle.dumps(streamed.train)  # a process that is spawned gets it so
    assert torch.equal(everything(pickle.loads(pickled)), everything(streamed.train))
    spoil(root)
    grey = load(root, **WHOLE, stream=True, max_broken=5, size=16)
    rows, names = everything(grey.train), grey.train.rows.files
    assert len(rows) == 25
    assert (rows[names.index("ant/empty.png")] == 127).all()
    assert rows[names.index("bee/9.png"), :, 0, 0].tolist() == [10, 9, 7]
    with pytest.raises(ValueError, match="max_broken=4"):
        everything(load(root, **WHOLE, stream=True, max_broken=4, size=16).train)
    assert "ant/empty.png" in caplog.text

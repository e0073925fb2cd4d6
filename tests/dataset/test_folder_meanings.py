"""Folders as their owner means them: words for parts, unlabelled images, pieces of a whole, vanished classes."""

import pytest
from image_trees import WHOLE, folder, forget_extras, keys, load, paint, paint_classes, red
from runs import enter

from ssl_runner.data.check import check_data


@pytest.fixture
def root(tmp_path, caplog, monkeypatch):
    forget_extras(monkeypatch)
    caplog.set_level("INFO")
    return tmp_path / "set"


WORDS = [("training", "VAL", "testing"), ("TRAIN", "dev", "Eval"), ("Training", "Validation", "EVALUATION")]


@pytest.mark.parametrize(("train", "validation", "test"), WORDS)
def test_parts_have_many_names_in_any_case(root, train, validation, test):
    for part, each, first in ((train, 5, 0), (validation, 3, 50), (test, 2, 100)):
        paint_classes(root / part, each=each, first=first)
    data = load(root)
    colours = [set(red(rows)) for rows in (data.train, data.validation.x, data.test.x)]
    assert colours == [{0, 10}, {50, 60}, {100, 110}]


@pytest.mark.parametrize("pair", [("Train", "train"), ("train", "training"), ("unsup", "unlabeled"), ("dev", "val")])
def test_two_folders_of_one_part_are_refused(root, pair):
    for name in ("train", *pair):
        paint_classes(root / name)
    with pytest.raises(ValueError, match=rf"{pair[0]}/ and {pair[1]}/|{pair[1]}/ and {pair[0]}/"):
        folder(root)


@pytest.mark.parametrize("word", ["unlabeled", "Unlabelled", "unsup"])
@pytest.mark.parametrize("below", ["train", ""])
def test_unlabelled_images_are_learnt_from_and_in_no_other_part(root, word, below, caplog):
    paint_classes(root / below)
    for k in range(7):
        paint(root / word / f"{k % 2}" / f"{k}.png", (200 + k, 0, 0))
    dataset = folder(root)
    data = dataset.load()
    assert dataset.rows == len(data.train) == 16 + 7
    assert [each for each in red(data.train) if each >= 200] == [200, 202, 204, 206, 201, 203, 205]
    assert len(data.bank.x) == 16
    assert max(red(data.bank.x) + red(data.validation.x) + red(data.test.x)) == 10
    assert data.classes == ("ant", "bee")
    assert keys(data.bank.x) < keys(data.train)
    assert f"unlabelled 7 ({word}/)" in caplog.text
    assert check_data(data, dataset.samples) == []
    streamed = load(root, stream=True)
    assert (red(streamed.train), red(streamed.bank.x)) == (red(data.train), red(data.bank.x))


def test_unlabelled_images_alone_are_a_training_set(root):
    for k in range(4):
        paint(root / "unlabeled" / f"{k}.png", (k, 0, 0))
    data = load(root)
    assert (len(data.train), data.bank, data.validation, data.test) == (4, None, None, None)
    paint_classes(root / "test")
    with pytest.raises(ValueError, match=r"test/.* and no train/"):
        folder(root)


def test_an_unreadable_image_among_the_unlabelled_is_left_out(root):
    paint_classes(root / "train")
    paint(root / "unsup" / "1.png", (201, 0, 0))
    (root / "unsup" / "0.png").write_bytes(b"?")
    data = load(root, **WHOLE, size=16)
    assert red(data.train) == [*red(data.bank.x), 201]


SHARDS = [("shard_0", "shard_1"), ("part-00000", "part-00001"), ("Chunk3", "chunk12"), ("batch 1", "batch 2")]
SHARDS += [("split.7", "split.8"), ("shard-00000-of-00002", "shard-00001-of-00002"), ("fold1", "fold2")]
CLASSES = [("0", "1"), ("2020", "2021"), ("n01440764", "n01443537"), ("shard_0", "cat"), ("shard_0", "part_1")]
CLASSES += [("shard", "shards"), ("class_1", "class_2"), ("partridge1", "partridge2"), ("shard_a", "shard_b")]


@pytest.mark.parametrize("below", ["", "train"])
@pytest.mark.parametrize("names", SHARDS + CLASSES, ids="-".join)
def test_pieces_of_a_whole_are_no_classes_unless_one_says_so(root, names, below, caplog):
    paint_classes(root / below, names)
    data = load(root)
    assert (data.classes == ()) == (names in SHARDS)
    assert ("are pieces of a whole; dataset.labels=true makes them classes" in caplog.text) == (names in SHARDS)
    assert len(load(root, labels=True).classes) == 2
    assert load(root, labels=False).classes == ()


def test_one_line_says_what_was_found(root, caplog):
    for part, names, each in (("train", [f"c{k}" for k in range(7)], 10), ("val", ("c1", "c2"), 3)):
        paint_classes(root / part, names, each)
    paint(root / "unsup" / "x.png", 7)
    for k in range(3):
        (root / "train" / "c0" / f"{k}.HEIC").write_bytes(b"1")
    (root / "val" / "notes.txt").write_text("1")
    load(root)
    assert caplog.messages[-1] == (
        "images: train 63 (train/), unlabelled 1 (unsup/), validation 6 (val/), test 7 (a share of train); "
        "7 classes: c0, c1, c2, c3, c4, ...; left out: 3 .heic (needs: pip install 'ssl-runner[heic]'), "
        "1 .txt (no image); read as 16 x 16, the size of the files"
    )


REASONS = {  # sizes of files, settings, and the words
    "alike": ([(28, 28)] * 2, {}, "read as 28 x 28, the size of the files"),
    "mixed": (
        [(28, 28), (30, 30)],
        {},
        "read as 64 x 64, as the files differ in size; dataset.size=N for an",
    ),
    "no square": ([(20, 28)], {}, "read as 64 x 64, as the files have 20 x 28; dataset.size=N"),
    "large": ([(97, 97)], {}, "read as 64 x 64, as the files have 97 x 97; dataset.size=N"),
    "chosen": ([(97, 97)], {"size": 32}, "read as 32 x 32, dataset.size=32"),
    "no folders": ([(9, 9)], {}, "no labels, as there are no folders of classes"),
    "not wanted": ([(9, 9)], {"labels": False}, "no labels, as dataset.labels=false"),
}


@pytest.mark.parametrize(("sizes", "settings", "words"), REASONS.values(), ids=REASONS)
def test_the_line_has_the_size_and_why(root, sizes, settings, words, caplog):
    for k, size in enumerate(sizes):
        paint(root / f"{k}.png", k, size)
    load(root, **settings)
    assert words in caplog.messages[-1]


def test_classes_without_an_image_are_named(root, caplog):
    paint_classes(root / "train")
    paint_classes(root / "val", names=("ant",))
    for name in ("cow", "dog"):
        (root / "train" / name).mkdir()
    (root / "val" / "bee" / "deeper").mkdir(parents=True)
    for k in range(2):
        (root / "train" / "cow" / f"{k}.heic").write_bytes(b"1")
    assert load(root).classes == ("ant", "bee")
    wanted = "train/cow/ has 2 .heic (needs: pip install 'ssl-runner[heic]'); train/dog/ has nothing"
    assert f"no image, and so no class, in 2 folders: {wanted}" in caplog.messages
    assert "no image, and so no class, in 1 folder: val/bee/ has nothing" in caplog.messages
    caplog.clear()
    load(root, labels=False)
    assert "no image and are" not in caplog.text


def test_a_class_of_which_nothing_can_be_read_is_named(root, caplog):
    paint_classes(root)
    for k in range(2):
        (root / "cow").mkdir(exist_ok=True)
        (root / "cow" / f"{k}.png").write_bytes(b"?")
    data = load(root, size=16)
    assert "no training image of these classes can be read: cow" in caplog.messages
    assert data.bank.y.unique().tolist() == [0, 1]


def test_what_lies_beside_parts_is_named(root, caplog):
    paint_classes(root / "train")
    for name in ("bus/0.png", "x.png"):
        paint(root / name, 5)
    (root / "notes.txt").write_text("1")
    load(root)
    assert f"bus, x.png left out: beside train/, which makes {root} a folder of parts" in caplog.messages


def test_a_folder_of_what_is_not_read_says_what_it_has(root):
    root.mkdir()
    for name in ("a.heic", "b.zip"):
        (root / name).write_bytes(b"1")
    with pytest.raises(
        FileNotFoundError, match=r"holds no training images .*1 \.heic \(needs: pip.*\.zip \(unpack it\)"
    ):
        folder(root)


def test_the_console_says_it_when_a_run_begins_and_when_one_is_measured(root, here, capsys):
    paint_classes(root, ("a\x1b[31m", "b"))
    words = f"dataset=image_folder dataset.root={root} dataset.cache=false pretext=rotation length=2st batch_size=8"
    model = "model=convnet_small model.widths=[8,8,8] device=cpu evaluator=[knn] evaluator.knn.k=3 hydra.run.dir=run"
    line = "images: train 16, test 2 (a share of train), validation 2 (a share of train); 2 classes: a\\x1b[31m, b;"
    enter(capsys, f"{words} {model}", line)
    assert line in (here / "run" / "run.log").read_text()
    enter(capsys, "evaluate run knn evaluator.knn.k=3", line)

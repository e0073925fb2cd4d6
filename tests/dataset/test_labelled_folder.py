"""A labelled folder beside unlabelled training images: measured on, and never learnt from."""

import pytest
import torch
from image_trees import everything, folder, keys, load, paint, paint_classes, red
from PIL import Image
from runs import enter
from safetensors.torch import load_file
from shard_sets import shards, three_shards

from ssl_runner.data.check import check_data


@pytest.fixture
def root(tmp_path, caplog):
    """Forty images without labels, 100 to 139 by their red."""
    caplog.set_level("INFO")
    for k in range(40):
        paint(tmp_path / "set" / f"{k}.png", (100 + k, 0, 0))
    return tmp_path / "set"


@pytest.fixture
def beside(tmp_path):
    """Twenty of two classes, 0 and 10 by their red."""
    return paint_classes(tmp_path / "labelled")


def test_the_root_is_learnt_from_and_the_labelled_folder_measured_on(root, beside, caplog):
    dataset = folder(root, labelled=str(beside))
    data = dataset.load()
    assert check_data(data, dataset.samples) == []
    assert (dataset.rows, dataset.training_counts, data.classes) == (40, [40], ("ant", "bee"))
    assert red(data.train) == list(range(100, 140))
    parts = [data.bank, data.validation, data.test]
    assert [len(each.x) for each in parts] == [16, 2, 2]
    assert [[10 * y for y in each.y.tolist()] for each in parts] == [red(each.x) for each in parts]
    assert len(set().union(*(keys(each.x) for each in parts))) == 20, "no row is in two parts"
    assert "images: train 40; no labels, as dataset.labelled has them;" in caplog.text
    line = "bank 16, test 2 (a share of bank), validation 2 (a share of bank); 2 classes: ant, bee"
    assert f"labelled, measured on and not learnt from: {line}" in caplog.text


def test_its_folders_of_parts_are_the_parts(root, tmp_path, caplog):
    beside = tmp_path / "labelled"
    for part, each, first in (("train", 5, 0), ("valid", 3, 50), ("test", 2, 200), ("unsup", 4, 240)):
        paint_classes(beside / part, each=each, first=first)
    data = load(root, labelled=str(beside))
    colours = [set(red(each.x)) for each in (data.bank, data.validation, data.test)]
    assert colours == [{0, 10}, {50, 60}, {200, 210}]
    assert red(data.train) == list(range(100, 140))
    assert "bank 10 (train/), test 4 (test/), validation 6 (valid/)" in caplog.text
    assert f"{beside}/unsup is left out" in caplog.text


def test_folders_and_labels_of_the_root_mean_nothing_then(tmp_path, beside, caplog):
    root = paint_classes(tmp_path / "set" / "train", ("cat", "dog"), first=100).parent
    paint_classes(root / "val", ("cat", "dog"), first=200)
    paint_classes(root / "unsup", ("x",), each=3, first=150)
    data = load(root, labelled=str(beside))
    assert sorted(set(red(data.train))) == [100, 110, 150]
    assert data.classes == ("ant", "bee")
    assert f"{root}/val is left out: dataset.labelled is measured on" in caplog.text


@pytest.mark.parametrize("place", ["some/ant_and_bee", "labelled"])
def test_a_labelled_folder_in_the_root_is_left_out_of_training_by_any_link(root, place):
    beside = paint_classes(root / place)
    (root / "again").symlink_to(beside / "ant")
    dataset = folder(root, labelled=str(beside))
    assert dataset.rows == 40
    assert red(dataset.load().train) == list(range(100, 140))


def test_a_root_in_the_labelled_folder_is_its_unlabelled_part_or_refused(beside):
    for k in range(4):
        paint(beside / "unsup" / f"{k}.png", (100 + k, 0, 0))
    data = load(beside / "unsup", labelled=str(beside))
    assert (red(data.train), set(red(data.bank.x))) == ([100, 101, 102, 103], {0, 10})
    for root in (beside, beside / "ant"):
        with pytest.raises(
            ValueError, match=r"labelled holds dataset\.root, and what is measured on is not learnt from"
        ):
            folder(root, labelled=str(beside))


REFUSED = {
    "no folder": (
        "nowhere",
        {},
        FileNotFoundError,
        r"dataset\.labelled=nowhere is no folder .*type dataset\.labelled=",
    ),
    "no classes": ("set", {}, ValueError, r"has no classes \(no labels, as there are no folders of classes\)"),
    "no labels": ("labelled", {"labels": False}, ValueError, r"labels: given false, and dataset\.labelled=labelled is"),
    "imbalance": ("labelled", {"imbalance": 2.0}, ValueError, "the training rows have no labels"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_be_measured_on_is_refused_with_what_to_type(root, beside, case, monkeypatch):
    monkeypatch.chdir(root.parent)
    place, settings, kind, words = REFUSED[case]
    other = root.parent / "other"
    paint(other / "0.png", 1)
    with pytest.raises(kind, match=words):
        folder(other, labelled=place, **settings)


def test_kept_streamed_and_stored_larger_it_is_the_same(root, beside):
    kept, streamed = (load(root, labelled=str(beside), stream=stream) for stream in (False, True))
    assert kept.fingerprint == streamed.fingerprint
    for part in ("bank", "validation", "test"):
        assert torch.equal(everything(getattr(kept, part).x), everything(getattr(streamed, part).x))
    dataset = folder(root, labelled=str(beside), size=8, stored=16)
    data = dataset.load()
    assert check_data(data, dataset.samples) == []
    assert (tuple(data.stored[torch.arange(2)].shape), data.mean) == ((2, 3, 16, 16), kept.mean)


def test_another_labelled_folder_is_other_data(root, beside, tmp_path):
    data = load(root, labelled=str(beside))
    (beside / "bee" / "0.png").rename(beside / "ant" / "10.png")
    assert len({data.fingerprint, load(root, labelled=str(beside)).fingerprint, load(root).fingerprint}) == 3


def test_label_noise_is_of_the_bank_alone(root, beside):
    clean, data = load(root, labelled=str(beside)), load(root, labelled=str(beside), label_noise=0.5)
    assert (clean.bank.y != data.bank.y).any()
    assert torch.equal(clean.test.y, data.test.y)
    assert red(data.train) == red(clean.train)


def test_shards_are_measured_on_a_labelled_folder_too(tmp_path, caplog):
    caplog.set_level("INFO")
    beside = paint_classes(tmp_path / "labelled", first=200)
    three_shards(tmp_path / "shards")
    alone = shards(tmp_path / "shards", tmp_path / "cache").load()
    dataset = shards(tmp_path / "shards", tmp_path / "cache", labelled=str(beside))
    data = dataset.load()
    assert check_data(data, dataset.samples) == []
    assert (dataset.rows, len(data.bank.x), len(data.test.x), data.classes) == (len(data.train), 16, 2, ("ant", "bee"))
    assert not keys(data.train) & keys(data.bank.x)
    assert data.fingerprint != alone.fingerprint
    assert "bank 16, test 2" in caplog.text


SMALL = "pretext=simclr length=6st log_every=2st batch_size=8 model=convnet_small model.widths=[8,8,8] device=cpu"


def test_no_label_and_no_image_of_it_reaches_training(root, beside, here, capsys):
    """Two runs on the same root beside folders of other images, other labels and another number of classes."""
    paint_classes(here / "three", ("cow", "dog", "elk"), each=12, first=200)
    for run, place in (("one", beside), ("two", here / "three")):
        words = f"dataset=image_folder dataset.root={root} dataset.labelled={place} dataset.cache=false"
        enter(capsys, f"{words} {SMALL} evaluator=[knn] evaluator.knn.k=3 hydra.run.dir={run}", "labelled, measured on")
    one, two = (load_file(here / run / "encoder.safetensors") for run in ("one", "two"))
    assert one.keys() == two.keys()
    assert all(torch.equal(one[key], two[key]) for key in one)


def test_copies_of_what_is_measured_on_among_the_training_images_are_told(tmp_path, here, capsys):
    """Equally many images in the bank and in training: they are told apart by what they show."""
    rng = torch.Generator().manual_seed(0)
    for k in range(32):
        paint_noise(here / "labelled" / "ab"[k % 2] / f"{k}.png", rng)
    for k in range(25):
        paint_noise(here / "set" / f"{k}.png", rng)
    held_out = load(here / "set", labelled=str(here / "labelled")).test.x
    Image.fromarray(held_out[torch.tensor([0])][0].permute(1, 2, 0).numpy()).save(here / "set" / "copy.png")
    words = "dataset=image_folder dataset.root=set dataset.labelled=labelled dataset.cache=false evaluator=none"
    enter(capsys, f"{words} {SMALL} hydra.run.dir=run", "bank 26")
    enter(capsys, "evaluate run leakage split=test evaluator.leakage.k=3", "pretrained_on_share 0.25,")


def paint_noise(path, rng):
    """An image like no other: four by four patches of random colours."""
    path.parent.mkdir(parents=True, exist_ok=True)
    colours = torch.randint(256, (4, 4, 3), generator=rng, dtype=torch.uint8)
    Image.fromarray(colours.repeat_interleave(4, 0).repeat_interleave(4, 1).numpy()).save(path)

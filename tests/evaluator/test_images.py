"""Protocols on images: leakage of planted copies, robustness of features that are hit and of others."""

from typing import get_args

import pytest
import torch
from evaluator_toys import EVERY, IMAGE, Flat, encoded, numbers, photographs, pixels, saved, table
from matplotlib.image import imread
from torch.nn.functional import normalize

from ssl_runner.augment.image.corruption import STRENGTHS
from ssl_runner.contract import Split
from ssl_runner.dataset.shapes import Shapes
from ssl_runner.evaluator import leakage as leakage_file
from ssl_runner.evaluator import robustness as robustness_file
from ssl_runner.evaluator.leakage import Leakage
from ssl_runner.evaluator.robustness import Corruption, Robustness

PHOTOGRAPHS, Y = photographs(), torch.arange(300) % 4


def part(*rows, y=Y):
    return Split(PHOTOGRAPHS[slice(*rows)].clone(), y[slice(*rows)].clone())


def leakage(bank, query, folder, train=None, k=1):
    more = {"train": bank.x if train is None else train, "classes": 4, "sample": IMAGE, "folder": folder}
    return numbers(Leakage(every=EVERY, bank=bank, query=query, k=k, **more), pixels())


def robustness(bank, query, folder, encoder=None, encode=None, classes=10, **settings):
    more = {"classes": classes, "folder": folder, "sample": IMAGE, **settings}
    return numbers(Robustness(every=EVERY, bank=bank, query=query, **more), encoder or pixels(), encode)


@pytest.mark.slow
def test_copies_are_counted_and_listed_and_accuracy_is_measured_without_them(tmp_path):
    """Labels are drawn by lot: only copies can be right by more than chance. One copy has another label."""
    y = torch.randint(4, (300,), generator=torch.Generator().manual_seed(1))
    bank, query = part(200, y=y), part(200, None, y=y)
    query.x[:20], query.y[:20] = bank.x[:20], bank.y[:20]
    bank.x[100], bank.y[100] = saved(bank.x[0], format="jpeg", quality=70), bank.y[0]  # its row is exact all the same
    query.x[20], query.y[20] = saved(bank.x[20], format="jpeg", quality=70), (bank.y[20] + 1) % 4
    query.x[21], query.y[21] = bank.x[21].flip(2), bank.y[21]
    folder = tmp_path / "deep" / "folder"
    values = leakage(bank, query, folder)
    counts = {"leaked": 22, "exact": 20, "near": 1, "mirrored": 1, "conflicting": 1}
    counts |= {"leaked_share": 0.22, "conflicting_share": 0.01}
    assert {name: values[name] for name in counts} == counts
    # Whole: 20 copies are right, and 80 others have what they have.
    right = values["knn_top1_clean"] * 78
    assert 0.45 * 78 > right == pytest.approx(round(right))
    assert 20 + right <= values["knn_top1"] * 100 <= 20 + right + 1
    assert values["probe_top1"] > values["probe_top1_clean"]
    rows = table(folder / "duplicates.csv", "kind", "query_row", "bank_row", "query_label", "bank_label")
    assert [row[:3] for row in rows[20:]] == [("exact", "19", "19"), ("near", "20", "20"), ("mirrored", "21", "21")]
    assert rows[21][3:] == (str(int(query.y[20])), str(int(bank.y[20])))
    assert imread(folder / "duplicates.png").shape[1] > 1000


@pytest.mark.slow
def test_leakage_of_all_and_of_none(tmp_path, monkeypatch):
    """Training rows that are the bank's, or a copy of them, are not searched again."""
    searches, find = [], leakage_file.find_pairs
    monkeypatch.setattr(leakage_file, "find_pairs", lambda *rows, **limits: searches.append(0) or find(*rows, **limits))
    values = leakage(part(300), part(300), tmp_path)
    assert values["leaked_share"] == values["exact_share"] == 1
    assert "knn_top1_clean" not in values
    assert (tmp_path / "duplicates.png").exists()
    values = leakage(part(200), part(200, None), tmp_path, part(200).x)
    assert len(searches) == 2
    assert not any("pretrained" in name or "unseen" in name for name in values)
    clean = [values[f"{name}_clean"] for name in ("knn_top1", "probe_top1")]
    assert (values["leaked"], clean) == (0, [values["knn_top1"], values["probe_top1"]])
    assert [file.name for file in tmp_path.iterdir()] == ["duplicates.csv"]  # the picture of before would lie
    assert (tmp_path / "duplicates.csv").read_text().count("\n") == 1


def test_copies_among_the_training_rows_are_found_too(tmp_path):
    """The bank is a small labelled part beside them, and clean but for one row; three others were pretrained on."""
    bank, train, query = part(40), PHOTOGRAPHS[40:200], part(200, None)
    query.x[0], query.y[0] = bank.x[5], bank.y[5]
    query.x[1], query.x[2] = train[7], train[8].flip(2)
    query.x[3] = saved(train[9], format="jpeg", quality=70)
    query.x[4] = bank.x[6]
    values = leakage(bank, query, tmp_path, torch.cat([train, bank.x[6:7]]))
    assert (values["leaked"], values["pretrained_on"], values["pretrained_on_share"]) == (2, 4, 0.04)
    known, asked = (normalize(encoded(pixels())(rows), dim=1) for rows in (bank.x, query.x))
    right = (bank.y[(asked @ known.T).argmax(1)] == query.y).float()
    assert values["knn_top1_unseen"] == pytest.approx(float(right[5:].mean()))  # neither there nor in the bank
    assert values["knn_top1_clean"] == pytest.approx(float(torch.cat([right[1:4], right[5:]]).mean()))
    assert "probe_top1_unseen" in values
    pairs = [("exact", "1", "7"), ("mirrored", "2", "8"), ("near", "3", "9"), ("exact", "4", "160")]
    assert table(tmp_path / "pretrained_on.csv", "kind", "query_row", "train_row") == pairs
    assert table(tmp_path / "pretrained_on.csv", "query_label")[0] == (str(int(query.y[1])),)
    assert "train_label" not in (tmp_path / "pretrained_on.csv").read_text()
    assert imread(tmp_path / "pretrained_on.png").shape[1] > 1000


@pytest.fixture(scope="module")
def shapes():
    return Shapes(images=400, test=200, validation=0.0).load()


def test_numbers_of_robustness_have_names_and_means_and_a_picture(shapes, tmp_path):
    few, folder = Split(shapes.test.x[:60], shapes.test.y[:60]), tmp_path / "new" / "folder"
    values = robustness(shapes.bank, few, folder)
    for name in ("knn", "probe"):
        means = {}
        for kind in get_args(Corruption):
            five = [values.pop(f"{name}_{kind}_{strength}") for strength in STRENGTHS]
            means[kind] = values.pop(f"{name}_{kind}")
            assert means[kind] == pytest.approx(sum(five) / 5)
        assert values.pop(f"{name}_mean") == pytest.approx(sum(means.values()) / 6)
    assert set(values) == {"knn_clean", "probe_clean"}
    assert [each.name for each in folder.iterdir()] == ["robustness.png"]
    assert imread(folder / "robustness.png").shape[1] > 500


def test_accuracy_suffers_where_a_feature_is_hit_and_nowhere_else(tmp_path, rng):
    """The class is the image's contrast. Shrinking it is fatal, a grey square in the corner is not."""
    y = torch.arange(200) % 2
    pattern = torch.tensor([[1.0, -1.0], [-1.0, 1.0]]).repeat(16, 16)
    x = 128 + pattern * (20 + 40 * y.view(-1, 1, 1, 1)) + 4 * torch.randn(200, 3, 32, 32, generator=rng)
    bank = Split(x.round().clamp(0, 255).to(torch.uint8), y)
    contrast = Flat(2, lambda x: torch.stack([x.std((1, 2, 3)), torch.ones(len(x))], 1))
    settings = {"folder": tmp_path, "encoder": contrast, "classes": 2, "k": 5}
    values = robustness(bank, bank, corruptions=("contrast", "brightness"), **settings)
    assert (values["probe_clean"], values["probe_contrast_5"], values["probe_brightness_1"]) == (1, 0.5, 1)
    assert values["probe_mean"] == pytest.approx((values["probe_contrast"] + values["probe_brightness"]) / 2)
    mixed = torch.randperm(200, generator=rng)
    some = robustness(bank, Split(bank.x[mixed], y[mixed]), corruptions=("brightness",), samples=50, **settings)
    assert some["probe_clean"] == some["knn_clean"] == some["probe_brightness_1"] == 1


@pytest.mark.slow
def test_each_encoder_meets_the_same_images_and_few_at_once(shapes, tmp_path, monkeypatch):
    monkeypatch.setattr(robustness_file, "AT_ONCE", 16)
    first, second = pixels(), pixels()
    for seed, encoder in enumerate((first, second)):
        torch.manual_seed(seed)
        settings = {"corruptions": ("noise",), "samples": 40}
        robustness(shapes.bank, shapes.test, tmp_path, encoder, lambda x: x.float().flatten(1)[:, :48], **settings)
    assert [len(each) for each in first.seen] == [16, 16, 8] * 5  # at five strengths
    assert all(torch.equal(a, b) for a, b in zip(first.seen, second.seen, strict=True))


@pytest.mark.parametrize("measure", [leakage, robustness])
def test_too_many_neighbours_are_refused(tmp_path, measure):
    with pytest.raises(ValueError, match=rf"use evaluator\.{measure.__name__}\.k=9"):
        measure(part(9), part(9), tmp_path, k=20)

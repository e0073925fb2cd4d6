"""Leakage: planted copies counted, listed, and measured without."""

import csv

import pytest
import torch
from evaluator_toys import EVERY, IMAGE, Pixels, encoded, numbers, photographs, saved
from PIL import Image
from torch.nn.functional import normalize

from ssl_runner.contract import Split
from ssl_runner.evaluator import leakage as leakage_file
from ssl_runner.evaluator.leakage import Leakage

PHOTOGRAPHS = photographs()


def leakage(bank, query, folder, train=None, k=1):
    more = {"bank": bank, "query": query, "train": bank.x if train is None else train, "classes": 4, "sample": IMAGE}
    return Leakage(every=EVERY, folder=folder, k=k, **more)


def measured(*arguments):
    return numbers(leakage(*arguments), Pixels(), encoded(Pixels()))


def table(path):
    with path.open() as file:
        return list(csv.DictReader(file))


def test_copies_are_counted_and_listed_and_accuracy_is_measured_without_them(tmp_path):
    """Labels are drawn by lot: only copies can be right by more than chance. One copy has another label."""
    y = torch.randint(4, (300,), generator=torch.Generator().manual_seed(1))
    bank, query = (Split(PHOTOGRAPHS[s].clone(), y[s].clone()) for s in (slice(200), slice(200, None)))
    query.x[:20], query.y[:20] = bank.x[:20], bank.y[:20]
    bank.x[100], bank.y[100] = saved(bank.x[0], format="jpeg", quality=70), bank.y[0]  # its row is exact all the same
    query.x[20] = saved(bank.x[20], format="jpeg", quality=70)
    query.y[20] = (bank.y[20] + 1) % 4
    query.x[21], query.y[21] = bank.x[21].flip(2), bank.y[21]
    folder = tmp_path / "deep" / "folder"
    values = measured(bank, query, folder)
    counts = {"leaked": 22, "exact": 20, "near": 1, "mirrored": 1, "conflicting": 1}
    assert {name: values[name] for name in counts} == counts
    assert values["leaked_share"] == 0.22
    assert values["conflicting_share"] == 0.01
    # Whole: 20 copies are right, and 80 others have what they have.
    right = values["knn_top1_clean"] * 78
    assert right == pytest.approx(round(right))
    assert right < 0.45 * 78
    assert 20 + right <= values["knn_top1"] * 100 <= 20 + right + 1
    assert values["probe_top1"] > values["probe_top1_clean"]
    rows = table(folder / "duplicates.csv")
    assert [(row["kind"], row["query_row"], row["bank_row"]) for row in rows[20:]] == [
        ("exact", "19", "19"),
        ("near", "20", "20"),
        ("mirrored", "21", "21"),
    ]
    assert (int(rows[21]["query_label"]), int(rows[21]["bank_label"])) == (query.y[20], bank.y[20])
    with Image.open(folder / "duplicates.png") as picture:
        assert picture.size[0] > 1000


def test_leakage_of_all_and_of_none(tmp_path):
    y = torch.arange(300) % 4
    everything = Split(PHOTOGRAPHS, y)
    values = measured(everything, everything, tmp_path)
    assert values["leaked_share"] == values["exact_share"] == 1
    assert "knn_top1_clean" not in values
    assert (tmp_path / "duplicates.png").exists()
    values = measured(Split(PHOTOGRAPHS[:200], y[:200]), Split(PHOTOGRAPHS[200:], y[200:]), tmp_path)
    assert values["leaked"] == 0
    assert values["knn_top1_clean"] == values["knn_top1"]
    assert values["probe_top1_clean"] == values["probe_top1"]
    assert (tmp_path / "duplicates.csv").read_text().count("\n") == 1
    assert not (tmp_path / "duplicates.png").exists()  # the one of before would lie


def test_copies_among_the_training_rows_are_found_too(tmp_path):
    """The bank is a small labelled part beside them, and clean but for one row; three others were pretrained on."""
    y = torch.arange(300) % 4
    bank, train = Split(PHOTOGRAPHS[:40], y[:40]), PHOTOGRAPHS[40:200]
    query = Split(PHOTOGRAPHS[200:].clone(), y[200:].clone())
    query.x[0], query.y[0] = bank.x[5], bank.y[5]
    query.x[1], query.x[2] = train[7], train[8].flip(2)
    query.x[3] = saved(train[9], format="jpeg", quality=70)
    query.x[4] = bank.x[6]
    values = measured(bank, query, tmp_path, torch.cat([train, bank.x[6:7]]))
    assert (values["leaked"], values["pretrained_on"], values["pretrained_on_share"]) == (2, 4, 0.04)
    known, asked = (normalize(encoded(Pixels())(rows), dim=1) for rows in (bank.x, query.x))
    right = (bank.y[(asked @ known.T).argmax(1)] == query.y).float()
    assert values["knn_top1_unseen"] == pytest.approx(float(right[5:].mean()))  # neither there nor in the bank
    assert values["knn_top1_clean"] == pytest.approx(float(torch.cat([right[1:4], right[5:]]).mean()))
    assert "probe_top1_unseen" in values
    rows = table(tmp_path / "pretrained_on.csv")
    assert [(row["kind"], row["query_row"], row["train_row"]) for row in rows] == [
        ("exact", "1", "7"),
        ("mirrored", "2", "8"),
        ("near", "3", "9"),
        ("exact", "4", "160"),
    ]
    assert int(rows[0]["query_label"]) == query.y[1]
    assert "train_label" not in rows[0]
    with Image.open(tmp_path / "pretrained_on.png") as picture:
        assert picture.size[0] > 1000


def test_training_rows_that_are_the_banks_are_not_searched_again(tmp_path, monkeypatch):
    searches, original = [], leakage_file.find_pairs
    monkeypatch.setattr(
        leakage_file, "find_pairs", lambda *rows, **limits: searches.append(0) or original(*rows, **limits)
    )
    y = torch.arange(300) % 4
    bank, query = Split(PHOTOGRAPHS[:40], y[:40]), Split(PHOTOGRAPHS[200:], y[200:])
    for train in (bank.x, bank.x.clone()):
        assert not any("pretrained" in name or "unseen" in name for name in measured(bank, query, tmp_path, train))
    assert len(searches) == 2
    assert not (tmp_path / "pretrained_on.csv").exists()


def test_too_many_neighbours_are_refused(tmp_path):
    split = Split(PHOTOGRAPHS[:9], torch.zeros(9).long())
    with pytest.raises(ValueError, match=r"use evaluator\.leakage\.k=9"):
        leakage(split, split, tmp_path, k=20)

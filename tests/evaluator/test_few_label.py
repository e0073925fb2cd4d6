"""Few labels: draws that are stratified, paired and nested, intervals, a plot, and what methods may know."""

import csv
import logging
import math
import random

import numpy as np
import pytest
import torch
from evaluator_toys import EVERY, Small, corners, encoded, numbers, stripes
from PIL import Image

from ssl_runner.augment.image.views import Views
from ssl_runner.contract import Samples, Split
from ssl_runner.evaluator.few_label import FewLabel
from ssl_runner.probing.label_efficiency import Score, write_plot
from ssl_runner.probing.sampling import rank_within_class


def fresh(seed):
    """As the runner makes one: it seeds every global generator."""
    random.seed(seed)
    np.random.seed(seed % 2**32)  # noqa: NPY002  what the runner does
    return Small(seed)


def few(bank, query, folder, classes=2, **settings):
    augment = Views(scale=(0.8, 1.0), jitter=0.0, grey=0.0)
    settings = {"labels": (1, 4), "draws": 2, "steps": 4, "augment": augment, "batch_size": 16, **settings}
    runtime = {"fresh": fresh, "folder": folder, "sample": Samples("image", (3, 8, 8)), "classes": classes}
    return FewLabel(every=EVERY, bank=bank, query=query, **{**runtime, **settings})


def measured(evaluator, encoder=None):
    encoder = (encoder or Small()).eval()
    return numbers(evaluator, encoder, encoded(encoder))


def table(folder):
    return list(csv.DictReader((folder / "few_label.csv").read_text().splitlines()))


def test_draws_are_stratified_paired_nested_and_of_the_size_asked(tmp_path, monkeypatch):
    """All methods get the same rows; larger sets hold smaller ones; draws differ; a small class gives all it has."""
    bank = stripes(90, classes=3)
    kept = (bank.y < 2) | (torch.arange(90) < 9)  # of class 2 three rows
    bank, drawn = Split(bank.x[kept], bank.y[kept]), {}

    def guess(self, method, rows, seed, encoder, encode):
        drawn.setdefault((seed, len(rows)), []).append((method, rows.tolist()))
        return torch.zeros(12, 1, dtype=torch.int64)

    monkeypatch.setattr(FewLabel, "guess", guess)
    measured(few(bank, stripes(12, 3, seed=1), tmp_path, 3, labels=(5, 1), shares=(0.1,), draws=3))
    assert {size for _, size in drawn} == {3, 7, 13}
    for (seed, size), each in drawn.items():
        assert [method for method, _ in each] == ["probe", "knn", "finetune", "supervised"]
        assert all(rows == each[0][1] for _, rows in each)
        wanted = {3: [1, 1, 1], 7: [3, 3, 1], 13: [5, 5, 3]}[size]
        assert bank.y[each[0][1]].bincount().tolist() == wanted
        assert set(drawn[seed, 3][0][1]) <= set(each[0][1])
    assert len({tuple(rows[0][1]) for (_, size), rows in drawn.items() if size == 13}) == 3
    names = [(row["labels"], row["draw"], row["rows"], row["method"]) for row in table(tmp_path)]
    assert len(names) == len(set(names)) == 3 * 3 * 4
    assert ("0.1", "2", "7", "knn") in names


def test_the_interval_is_that_of_draws_that_share_half_of_their_rows(tmp_path, monkeypatch):
    hits = iter([4, 5, 6])

    def guess(self, method, rows, seed, encoder, encode):
        return torch.where(torch.arange(10) < next(hits), torch.arange(10) % 2, -1)[:, None]

    monkeypatch.setattr(FewLabel, "guess", guess)
    evaluator = few(stripes(20), stripes(10), tmp_path, labels=(5,), draws=3, methods=("knn",))
    width = 4.3026527 * 0.1 * (1 / 3 + 1) ** 0.5
    assert measured(evaluator) == pytest.approx({"mean": 0.5, "knn_5": 0.5, "knn_5_interval": width})
    assert [float(row["top1"]) for row in table(tmp_path)] == [0.4, 0.5, 0.6]


def test_draws_that_agree_have_no_interval(tmp_path, monkeypatch):
    """Neither a key nor a bar: no spread is no certainty."""
    evaluator = few(corners(90), corners(30, seed=1), tmp_path, 3, labels=(5,), methods=("knn",))
    assert numbers(evaluator) == {"mean": 1.0, "knn_5": 1.0}
    from matplotlib.axes import Axes

    bars, errorbar = [], Axes.errorbar
    monkeypatch.setattr(
        Axes, "errorbar", lambda self, x, y, e, **kw: bars.append(list(e)) or errorbar(self, x, y, e, **kw)
    )
    scores = [Score(labels, draw, 4, "knn", 0.5) for labels in ("1", "2") for draw in range(2)]
    write_plot(scores, {("2", "knn"): 0.1}, 2, tmp_path / "plot.png")
    assert math.isnan(bars[0][0])
    assert bars[0][1] == pytest.approx(10)


def test_end_to_end(tmp_path):
    """One label a class, and fewer rows than neighbours; one draw has no interval; the plot can be opened."""
    folder = tmp_path / "not" / "yet"
    evaluator = few(stripes(60), stripes(40, seed=1), folder, draws=1, k=20, labels=(1, 10))
    assert not folder.exists()
    values = measured(evaluator)
    assert set(values) == {"mean"} | {f"{m}_{n}" for m in ("probe", "knn", "finetune", "supervised") for n in (1, 10)}
    assert values["mean"] == pytest.approx((values["probe_1"] + values["probe_10"]) / 2)
    assert sorted(file.name for file in folder.iterdir()) == ["few_label.csv", "few_label.png"]
    with Image.open(folder / "few_label.png") as image:
        assert image.size == (900, 600)


def test_methods_know_no_rows_that_are_not_drawn(tmp_path):
    bank, query = stripes(60), stripes(40, seed=1)
    other = Split(bank.x.clone(), bank.y)
    other.x[rank_within_class(bank.y, torch.Generator().manual_seed(0)) >= 4] = 0
    assert measured(few(other, query, tmp_path, draws=1)) == measured(few(bank, query, tmp_path, draws=1))


def test_no_more_neighbours_vote_than_a_class_has_labels(tmp_path):
    bank, query = corners(90, spread=4.0), corners(90, seed=1, spread=4.0)
    values = [
        numbers(few(bank, query, tmp_path, 3, labels=(5,), methods=("knn",), k=k, temperature=10.0)) for k in (20, 5, 1)
    ]
    assert values[0] == values[1] != values[2]


def test_more_labels_help_where_there_is_something_to_learn(tmp_path):
    bank, query = corners(300, spread=3.0), corners(300, seed=1, spread=3.0)
    methods = ("probe", "knn")
    values = numbers(few(bank, query, tmp_path, 3, labels=(1, 5, 50), draws=5, methods=methods))
    for method in methods:
        assert values[f"{method}_1"] + 0.05 < values[f"{method}_5"] < values[f"{method}_50"] - 0.02


def test_numbers_of_labels_that_take_the_whole_bank_are_left_out(tmp_path):
    bank, query = stripes(20), stripes(10, seed=1)
    values = measured(few(bank, query, tmp_path, labels=(1, 10, 50), methods=("knn",)))
    assert set(values) - {"knn_1_interval"} == {"mean", "knn_1"}
    with pytest.raises(ValueError, match=r"take the whole bank of 20 rows.*evaluator\.few_label\.labels=\[1\]"):
        few(bank, query, tmp_path, labels=(10,))
    with pytest.raises(ValueError, match="query"):
        few(bank, Split(query.x[:0], query.y[:0]), tmp_path)


def test_a_random_encoder_of_its_own_for_each_draw(tmp_path):
    asked, values = [], []
    for seed, given in ((5, 8), (5, 9), (6, 8)):
        more = {"methods": ("supervised",), "labels": (1, 2), "draws": 3, "seed": seed}
        evaluator = few(stripes(20), stripes(10), tmp_path, fresh=lambda s: asked.append(s) or Small(s), **more)
        values.append(measured(evaluator, Small(given)))
    assert values[0] == values[1]
    assert asked[:6] == asked[6:12]
    assert asked[0:6:2] == asked[1:6:2]  # one for all numbers of labels of a draw
    assert len(set(asked[:6])) == 3
    assert not set(asked[:6]) & set(asked[12:])  # another seed shares none of them


def test_minutes_are_not_silent(tmp_path, caplog):
    with caplog.at_level(logging.INFO, "ssl_runner"):
        measured(few(stripes(20), stripes(10), tmp_path, methods=("finetune",), labels=(1,)))
    assert [each.message for each in caplog.records] == [f"few_label: draw {n} of 2 is done" for n in (1, 2)]

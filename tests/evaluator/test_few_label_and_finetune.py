"""Protocols that train with labels: draws, intervals and a plot of few labels; the epoch that fine-tuning chooses."""

import logging
import math

import pytest
import torch
from evaluator_toys import AUGMENT, EVERY, STRIPES, Small, corners, metrics, numbers, stripes, table
from matplotlib.axes import Axes
from matplotlib.image import imread

from ssl_runner.contract import Metric, Split
from ssl_runner.evaluator.few_label import FewLabel
from ssl_runner.evaluator.finetune import FineTune
from ssl_runner.evaluator.probe import Probe
from ssl_runner.probing.label_efficiency import rank_within_class

METHODS = ("probe", "knn", "finetune", "supervised")


def few(bank, query, folder, classes=2, **settings):
    settings = {"labels": (1, 4), "draws": 2, "steps": 4, "batch_size": 16, "fresh": Small, "folder": folder} | settings
    settings = {"sample": STRIPES, "classes": classes, "class_names": ("up", "flat", "none")[:classes]} | settings
    return FewLabel(every=EVERY, augment=AUGMENT, bank=bank, query=query, **settings)


def finetune(bank, query, validation=None, **settings):
    settings = {"epochs": 3, "batch_size": 16, "lr": 0.01, "head_lr": 0.05, "validation": validation} | settings
    settings |= {"sample": STRIPES, "classes": 2, "class_names": ("up", "flat")}
    return FineTune(every=EVERY, augment=AUGMENT, bank=bank, query=query, **settings)


def measured(evaluator, encoder=None):
    return numbers(evaluator, encoder or Small())


def test_draws_are_stratified_paired_nested_and_of_the_size_asked(tmp_path, monkeypatch):
    """All methods get the same rows; larger sets hold smaller ones; draws differ; a small class gives all it has."""
    bank = stripes(90, classes=3)
    kept = (bank.y < 2) | (torch.arange(90) < 9)  # of class 2 three rows
    bank, drawn = Split(bank.x[kept], bank.y[kept]), {}

    def guess(self, method, rows, seed, encoder, encode):
        drawn.setdefault((seed, len(rows)), []).append((method, rows.tolist()))
        return torch.zeros(12, 1, dtype=torch.int64), torch.ones(12, 1)

    monkeypatch.setattr(FewLabel, "guess", guess)
    measured(few(bank, stripes(12, 3, seed=1), tmp_path, 3, labels=(5, 1), shares=(0.1,), draws=3))
    assert {size for _, size in drawn} == {3, 7, 13}
    for (seed, size), each in drawn.items():
        assert [method for method, _ in each] == [*METHODS]
        assert all(rows == each[0][1] for _, rows in each)
        assert bank.y[each[0][1]].bincount().tolist() == {3: [1, 1, 1], 7: [3, 3, 1], 13: [5, 5, 3]}[size]
        assert set(drawn[seed, 3][0][1]) <= set(each[0][1])
    assert len({tuple(rows[0][1]) for (_, size), rows in drawn.items() if size == 13}) == 3
    names = table(tmp_path / "few_label.csv", "labels", "draw", "rows", "method")
    assert len(names) == len(set(names)) == 3 * 3 * 4
    assert ("0.1", "2", "7", "knn") in names


def test_the_interval_is_that_of_draws_that_share_half_of_their_rows(tmp_path, monkeypatch):
    """Draws that agree have neither a key nor a bar: no spread is no certainty."""
    bars, errorbar = [], Axes.errorbar
    monkeypatch.setattr(Axes, "errorbar", lambda *args, **more: bars.extend(args[3]) or errorbar(*args, **more))
    evaluator = few(corners(90), corners(30, seed=1), tmp_path, 3, labels=(5,), methods=("knn",))
    assert numbers(evaluator) == {"mean": 1.0, "knn_5": 1.0}
    hits = iter([4, 5, 6])
    rows, y = torch.arange(10), torch.arange(10) % 2
    sure = torch.ones(10, 1)
    monkeypatch.setattr(FewLabel, "guess", lambda *_: (torch.where(rows < next(hits), y, 1 - y)[:, None], sure))
    evaluator = few(stripes(20), stripes(10), tmp_path, labels=(5,), draws=3, methods=("knn",))
    width = 4.3026527 * 0.1 * (1 / 3 + 1) ** 0.5
    assert measured(evaluator) == pytest.approx({"mean": 0.5, "knn_5": 0.5, "knn_5_interval": width})
    assert bars == pytest.approx([math.nan, 100 * width], nan_ok=True)
    scores = table(tmp_path / "few_label.csv", "top1", "balanced_accuracy", "ece")
    right, balanced, wrong = ([*map(float, column)] for column in zip(*scores, strict=True))
    assert right == [0.4, 0.5, 0.6]
    assert balanced == pytest.approx(right)
    assert wrong == pytest.approx([0.6, 0.5, 0.4])


def test_few_labels_end_to_end(tmp_path, caplog):
    """One label a class, and fewer rows than neighbours; one draw has no interval; minutes are not silent."""
    folder = tmp_path / "not" / "yet"
    evaluator = few(stripes(60), stripes(40, seed=1), folder, draws=1, k=20, labels=(1, 10))
    assert not folder.exists()
    with caplog.at_level(logging.INFO, "ssl_runner"):
        values = measured(evaluator)
    said = [each.message for each in caplog.records]
    said = [line for line in said if line and not line.endswith(" left")]  # a slow machine says how long it will take
    assert said == ["few_label: draw 1 of 1 is done"]
    assert set(values) == {"mean"} | {f"{method}_{n}" for method in METHODS for n in (1, 10)}
    assert values["mean"] == pytest.approx((values["probe_1"] + values["probe_10"]) / 2)
    assert sorted(file.name for file in folder.iterdir()) == ["few_label.csv", "few_label.png"]
    assert imread(folder / "few_label.png").shape[:2] == (600, 900)


def test_a_class_with_fewer_rows_than_labels_is_named_and_accuracy_is_as_before(tmp_path, caplog):
    """Class 0 has seven rows and class 2 has none. Thirty labels take the whole bank, and a share is never short."""
    bank, query = stripes(60), stripes(40, seed=1)
    few_up = (torch.arange(60) < 14) | (bank.y == 1)
    bank = Split(bank.x[few_up], bank.y[few_up])
    more = {"methods": ("knn",), "labels": (7, 20, 30), "shares": (0.5,), "classes": 3}
    evaluator = few(bank, query, tmp_path, **more)
    with caplog.at_level(logging.WARNING, "ssl_runner"):
        values = metrics(evaluator, Small())
    assert [each.message for each in caplog.records] == [
        f"few_label: 30 labels a class take all {len(bank.y)} labelled rows, and are left out",
        "few_label: 7 labels a class are more than the rows of none (0), which give all they have",
        "few_label: 20 labels a class are more than the rows of up (7), none (0), which give all they have",
    ]
    assert values["short_7"] == Metric(1.0, None, "number", classes={"none": 0.0})
    assert values["short_20"] == Metric(2.0, None, "number", classes={"up": 7.0, "none": 0.0})
    assert not {"short_30", "short_0.5"} & values.keys()
    assert {"knn_7", "knn_20", "knn_0.5"} < values.keys()
    tail = torch.arange(9).repeat_interleave(torch.tensor([3, *[1] * 8]))
    tail = Split(torch.zeros(len(tail), 3, 8, 8, dtype=torch.uint8), tail)
    assert [*few(tail, tail, tmp_path, 9, class_names=tuple("abcdefghi"), labels=(2,)).short_classes()] == ["short_2"]
    assert "the rows of b (1), c (1), d (1), e (1), f (1) and 3 more, which" in caplog.records[-1].message


def test_methods_know_no_rows_that_are_not_drawn(tmp_path):
    bank, query = stripes(60), stripes(40, seed=1)
    other = Split(bank.x.clone(), bank.y)
    other.x[rank_within_class(bank.y, torch.Generator().manual_seed(0)) >= 4] = 0
    assert measured(few(other, query, tmp_path, draws=1)) == measured(few(bank, query, tmp_path, draws=1))


def test_no_more_neighbours_vote_than_a_class_has_labels_and_more_labels_help(tmp_path):
    bank, query = corners(300, spread=3.0), corners(300, seed=1, spread=3.0)
    settings = {"labels": (5,), "methods": ("knn",), "temperature": 10.0}
    values = [numbers(few(bank, query, tmp_path, 3, k=k, **settings)) for k in (20, 5, 1)]
    assert values[0] == values[1] != values[2]
    values = numbers(few(bank, query, tmp_path, 3, labels=(1, 5, 50), draws=5, methods=("probe", "knn")))
    for method in ("probe", "knn"):
        assert values[f"{method}_1"] + 0.05 < values[f"{method}_5"] < values[f"{method}_50"] - 0.02


def test_numbers_of_labels_that_take_the_whole_bank_are_left_out_and_empty_splits_refused(tmp_path):
    bank, query = stripes(20), stripes(10, seed=1)
    values = measured(few(bank, query, tmp_path, labels=(1, 10, 50), methods=("knn",)))
    assert set(values) - {"knn_1_interval"} == {"mean", "knn_1"}
    with pytest.raises(ValueError, match=r"take the whole bank of 20 rows.*evaluator\.few_label\.labels=\[1\]"):
        few(bank, query, tmp_path, labels=(10,))
    for splits, word in (((bank, stripes(0)), "query"), ((stripes(0), bank), "bank")):
        for evaluator in (finetune, lambda *splits: few(*splits, tmp_path)):
            with pytest.raises(ValueError, match=f"the {word} holds no labelled sample"):
                evaluator(*splits)


def test_a_random_encoder_of_its_own_for_each_draw(tmp_path):
    asked, values = [], []
    for seed, given in ((5, 8), (5, 9), (6, 8)):
        more = {"methods": ("supervised",), "labels": (1, 2), "draws": 3, "seed": seed}
        evaluator = few(stripes(20), stripes(10), tmp_path, fresh=lambda s: asked.append(s) or Small(s), **more)
        values.append(measured(evaluator, Small(given)))
    assert (values[0], asked[:6]) == (values[1], asked[6:12])
    a, b, c = asked[:6:2]
    assert asked[:6] == [a, a, b, b, c, c]  # one for all numbers of labels of a draw
    assert len({a, b, c, *asked[12:]}) == 6  # another seed shares none of them


def test_only_fine_tuning_can_tell_what_the_encoder_does_not_see():
    """Pixels one by one are alike in all classes: the probe is at chance, and the whole network learns."""
    bank, query, blind = stripes(64), stripes(60, seed=1), Small(blind=True, dropout=0.0)
    assert 0.35 < measured(Probe(every=EVERY, bank=bank, query=query, classes=2, class_names=()), blind)["top1"] < 0.65
    assert measured(finetune(bank, query, epochs=10), blind)["top1"] > 0.95


@pytest.mark.parametrize("validation", ["none", "query", "other"])
def test_the_epoch_is_not_chosen_on_what_is_reported(validation):
    """Other labels of the query: the same epoch and the same weights, so that the hits are the misses of before."""
    bank, query = stripes(48), stripes(30, seed=1)
    values, top1 = [], []
    for asked in (query, Split(query.x, 1 - query.y)):
        other = {"none": None, "query": asked, "other": stripes(12, seed=2)}[validation]
        values.append(measured(finetune(bank, asked, other, epochs=4)))
        top1.append(values[-1].pop("top1"))
    assert (values[0], top1[0]) == (values[1], pytest.approx(1 - top1[1]))


def test_the_epoch_is_the_best_on_validation_and_the_first_of_equals(monkeypatch):
    """Hits are dictated by the epoch; the query is then ranked by the weights of that epoch."""
    hits, seen = {1: 2, 2: 6, 3: 6, 4: 5}, []

    def rank_classes(network, x):
        seen.append((len(x), network.linear.weight.clone()))
        return torch.where(torch.arange(len(x)) < hits.get(len(seen), 10), y := torch.arange(len(x)) % 2, 1 - y)[
            :, None
        ], torch.ones(len(x), 1)

    monkeypatch.setattr("ssl_runner.evaluator.finetune.rank_classes", rank_classes)
    evaluator = finetune(stripes(32), stripes(10, seed=1), stripes(8, seed=2), epochs=4)
    assert measured(evaluator) == {"top1": 1.0, "epoch": 2.0, "choice_top1": 6 / 8}
    assert [n for n, _ in seen] == [8, 8, 8, 8, 10]
    assert torch.equal(seen[4][1], seen[1][1])
    assert not torch.equal(seen[4][1], seen[2][1])


def test_the_held_out_part_is_not_trained_on():
    """Without another validation the bank is split by class; with one, all of it is trained on."""
    bank, query = stripes(40), stripes(10, seed=1)
    rest, choice = finetune(bank, query, query, held_out=0.25).split_bank()
    assert (len(rest.y), choice.y.bincount().tolist()) == (30, [5, 5])
    rows = torch.cat([rest.x[torch.arange(30)], choice.x[torch.arange(10)]]).numpy()
    assert sorted(image.tobytes() for image in rows) == sorted(image.tobytes() for image in bank.x.numpy())
    assert finetune(bank, query, Split(query.x, query.y)).split_bank()[0] is bank
    values = measured(finetune(stripes(2), query, epochs=5))  # nothing can be held out
    assert values == {"top1": values["top1"], "epoch": 5}

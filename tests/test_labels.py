"""What is done with labels: fine-tuning, few labels, a picture. Planted classes, leaks, seeds, draws, intervals."""

import contextlib
import csv
import logging
import math
import random
from inspect import signature
from pathlib import Path
from typing import get_type_hints

import numpy as np
import pytest
import torch
import yaml
from PIL import Image
from scipy.stats import t
from torch import nn

import ssl_runner.probing.supervised as supervised
from ssl_runner.augment.image.views import Views
from ssl_runner.contract import Encoder, Features, Split
from ssl_runner.duration import Duration
from ssl_runner.engine.measure import measure
from ssl_runner.evaluator import projector as projector_file
from ssl_runner.evaluator.few_label import FewLabel
from ssl_runner.evaluator.finetune import FineTune
from ssl_runner.evaluator.probe import Probe
from ssl_runner.evaluator.projector import Projector, flattened, thumbnails
from ssl_runner.probing.intervals import common, half_width
from ssl_runner.probing.label_efficiency import Score, write_plot
from ssl_runner.probing.strata import places, spread
from ssl_runner.run.job import RUNTIME

CONF = Path(__file__).parents[1] / "conf" / "evaluator"
EVERY = Duration.parse("100%")
AUGMENT = Views(scale=(0.8, 1.0), jitter=0.0, grey=0.0)


class Small(Encoder):
    """A convolution, batch norm and dropout: state, modes and a global draw. `blind` sees pixels one by one."""

    dim = 8

    def __init__(self, seed=0, blind=False, dropout=0.2):
        super().__init__((0.5, 0.5, 0.5), (0.25, 0.25, 0.25))
        torch.manual_seed(seed)  # a runner's own way: it seeds the global generators
        self.conv, self.norm, self.drop = nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8), nn.Dropout(dropout)
        if blind:
            self.conv.weight.data *= torch.zeros(3, 3).index_put_((torch.tensor(1), torch.tensor(1)), torch.tensor(1.0))

    def forward(self, x, keep=None):
        maps = self.drop(self.norm(self.conv(self.normalise(x))).relu())
        tokens = maps.flatten(2).transpose(1, 2)
        return Features(tokens.mean(1), tokens, tuple(maps.shape[2:]))


def stripes(n, classes=2, seed=0):
    """Upright and lying stripes (class 2: none) of random phase and contrast: all classes have the same mean colour."""
    rng = torch.Generator().manual_seed(seed)
    y = torch.arange(n) % classes
    wave = torch.tensor([1.0, -1.0]).repeat(4)  # (8,)
    phase = torch.randint(0, 2, (n,), generator=rng) * 2 - 1
    depth = (0.2 + 0.2 * torch.rand(n, generator=rng)) * phase
    fields = torch.stack([wave.expand(8, 8), wave[:, None].expand(8, 8), torch.zeros(8, 8)])
    x = 0.5 + depth.view(-1, 1, 1) * fields[y] + 0.05 * torch.randn(n, 8, 8, generator=rng)
    return Split((x.clamp(0, 1) * 255).to(torch.uint8)[:, None].repeat(1, 3, 1, 1), y)


def encoded(encoder):
    return lambda rows: encoder(rows[torch.arange(len(rows))].float() / 255).pooled


def measured(evaluator, encoder):
    """As the runner calls it."""
    encoder.eval()
    with torch.no_grad():
        return dict(evaluator(encoder, encoded(encoder)))


def finetune(bank, query, validation=None, classes=2, **settings):
    settings = {"epochs": 3, "batch_size": 16, "augment": AUGMENT, "lr": 0.01, "head_lr": 0.05} | settings
    return FineTune(every=EVERY, bank=bank, query=query, validation=validation, classes=classes, **settings)


def few(bank, query, folder, classes=2, **settings):
    settings = {"labels": (1, 4), "draws": 2, "steps": 4, "augment": AUGMENT, "batch_size": 16} | settings
    return FewLabel(every=EVERY, bank=bank, query=query, classes=classes, fresh=fresh, folder=folder, **settings)


def fresh(seed):
    """As the runner makes one: it seeds every global generator."""
    random.seed(seed)
    np.random.seed(seed % 2**32)  # noqa: NPY002  what the runner does
    return Small(seed)


def drawn_states():
    """Of all global generators."""
    return torch.get_rng_state().tolist(), np.random.get_state()[1].tolist(), random.getstate()  # noqa: NPY002


def look(query, folder, classes=2, **settings):
    return Projector(every=EVERY, query=query, classes=classes, folder=folder, **settings)


ALL = pytest.mark.parametrize("make", ["finetune", "few", "look"])


def made(make, folder, bank, query):
    if make == "look":
        return look(query, folder)
    return few(bank, query, folder) if make == "few" else finetune(bank, query)


def test_only_fine_tuning_can_tell_what_the_encoder_does_not_see():
    """Pixels one by one are alike in all classes: the probe is at chance, and the whole network learns."""
    bank, query = stripes(64), stripes(60, seed=1)
    blind = Small(blind=True, dropout=0.0)
    probe = Probe(every=EVERY, bank=bank, query=query, classes=2)
    assert 0.35 < measured(probe, blind)["top1"] < 0.65
    assert measured(finetune(bank, query, epochs=10), blind)["top1"] > 0.95


@ALL
def test_the_encoder_and_the_generators_are_left_as_they_were(make, tmp_path):
    bank, query = stripes(32), stripes(20, seed=1)
    encoder = Small()
    encoder.norm.eval()
    encoder.conv.bias.requires_grad_(False)
    before = {name: value.clone() for name, value in encoder.state_dict().items()}
    evaluator = made(make, tmp_path, bank, query)
    encoder.train()
    encoder.norm.eval()
    modes = [module.training for module in encoder.modules()]
    state = drawn_states()[:2]  # beartype draws from Python's own, in tests
    with torch.no_grad():
        evaluator(encoder, encoded(Small().eval()))
        assert not torch.is_grad_enabled()
    assert drawn_states()[:2] == state
    assert all(torch.equal(before[name], value) for name, value in encoder.state_dict().items())
    assert [module.training for module in encoder.modules()] == modes
    assert all(parameter.grad is None for parameter in encoder.parameters())
    assert [name for name, p in encoder.named_parameters() if not p.requires_grad] == ["conv.bias"]


@ALL
def test_equal_seeds_give_equal_numbers_whatever_the_global_generators(make, tmp_path):
    bank, query = stripes(32), stripes(20, seed=1)
    encoder, found = Small(), []
    for seed in (1, 2):
        evaluator = made(make, tmp_path, bank, query)
        torch.manual_seed(seed)
        found.append(measured(evaluator, encoder))
    assert found[0] == found[1]


def test_another_seed_trains_otherwise():
    bank, encoder = stripes(32), Small().eval()
    recipe = supervised.Recipe(lr=0.01, head_lr=0.01, weight_decay=0.0, batch_size=16, augment=AUGMENT)

    def weights(seed):
        return supervised.fit(encoder, bank.x, bank.y, 2, recipe, steps=3, seed=seed).state_dict()

    a, b, c = weights(0), weights(0), weights(1)
    assert all(torch.equal(a[name], b[name]) for name in a)
    assert not torch.equal(a["encoder.conv.weight"], c["encoder.conv.weight"])


def test_whatever_draws_globally_draws_from_the_seed_and_leaves_no_trace():
    def draws():
        return torch.rand(()).item(), np.random.rand(), random.random()  # noqa: NPY002

    before, found = drawn_states(), []
    for seed in (5, 5, 2**62):
        with supervised.isolated(seed):
            found.append(draws())
        assert drawn_states() == before
    assert found[0] == found[1]
    assert all(one != other for one, other in zip(found[1], found[2], strict=True))
    with contextlib.suppress(FloatingPointError), supervised.isolated(0):
        draws()
        raise FloatingPointError
    assert drawn_states() == before


def test_a_generator_that_torch_does_not_fork_is_restored_too(monkeypatch):
    restored = []
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)
    monkeypatch.setattr(torch.mps, "get_rng_state", lambda: torch.tensor([7]))
    monkeypatch.setattr(torch.mps, "set_rng_state", lambda state: restored.append(state.tolist()))
    with supervised.isolated(0):
        pass
    assert restored == [[7]]


def flipped(split):
    return Split(split.x, 1 - split.y)


def test_the_epoch_is_not_chosen_on_what_is_reported():
    """Other labels of the query: the same epoch and the same weights, so that the hits are the misses of before."""
    bank, query = stripes(48), stripes(30, seed=1)
    for validation in ("none", "query", "other"):
        found = []
        for asked in (query, flipped(query)):
            other = {"none": None, "query": asked, "other": stripes(12, seed=2)}[validation]
            found.append(measured(finetune(bank, asked, other, epochs=4), Small()))
        one, two = found
        assert one["epoch"] == two["epoch"]
        assert one["choice_top1"] == two["choice_top1"]
        assert one["top1"] == pytest.approx(1 - two["top1"])


def test_the_epoch_is_the_best_on_validation_and_the_first_of_equals(monkeypatch):
    """Hits are dictated by the epoch; the query is then ranked by the weights of that epoch."""
    bank, query, other = stripes(32), stripes(10, seed=1), stripes(8, seed=2)
    hits, seen = {1: 2, 2: 6, 3: 6, 4: 5}, []

    def ranked(network, x):
        seen.append((len(x), network.linear.weight.clone()))
        right = hits[len(seen)] if len(seen) <= 4 else 10
        return torch.where(torch.arange(len(x)) < right, torch.arange(len(x)) % 2, -1)[:, None]

    monkeypatch.setattr("ssl_runner.evaluator.finetune.ranked", ranked)
    found = measured(finetune(bank, query, other, epochs=4), Small())
    assert found == {"top1": 1.0, "epoch": 2.0, "choice_top1": 6 / 8}
    assert [n for n, _ in seen] == [8, 8, 8, 8, 10]
    assert torch.equal(seen[4][1], seen[1][1])
    assert not torch.equal(seen[4][1], seen[2][1])


def test_the_held_out_part_is_not_trained_on(monkeypatch):
    """Without another validation the bank is parted by class; with one, all of it is trained on."""
    bank, query = stripes(40), stripes(10, seed=1)
    alone, choice = finetune(bank, query, query, held_out=0.25).parts()
    assert (len(alone.y), len(choice.y)) == (30, 10)
    assert choice.y.bincount().tolist() == [5, 5]
    rows = [image.tobytes() for image in torch.cat([alone.x[torch.arange(30)], choice.x[torch.arange(10)]]).numpy()]
    assert sorted(rows) == sorted(image.tobytes() for image in bank.x.numpy())
    assert finetune(bank, query, Split(query.x, query.y)).parts()[0] is bank


def test_with_nothing_to_hold_out_the_last_epoch_is_taken():
    bank = stripes(2)
    found = measured(finetune(bank, stripes(10, seed=1), epochs=5), Small())
    assert found["epoch"] == 5
    assert "choice_top1" not in found


def test_the_given_encoder_is_where_training_starts():
    """At a tiny rate it stays there, and it is a copy that is trained."""
    bank = stripes(32)
    still = supervised.Recipe(lr=1e-12, head_lr=1e-12, weight_decay=0.0, batch_size=16)
    given = Small(5).eval()
    network = supervised.fit(given, bank.x, bank.y, 2, still, steps=2, seed=0)
    torch.testing.assert_close(network.encoder.conv.weight, given.conv.weight)
    assert network.encoder.conv.weight.data_ptr() != given.conv.weight.data_ptr()


def test_an_encoder_of_another_scale_is_trained_alike():
    """Features times a thousand, plus a thousand: the classifier reads the same."""

    class Scaled(Small):
        def forward(self, x, keep=None):
            features = super().forward(x)
            return Features(features.pooled * 1000 + 1000, features.tokens, features.grid)

    bank = stripes(32)
    recipe = supervised.Recipe(lr=0.01, head_lr=0.05, weight_decay=0.0, batch_size=16)
    logits = []
    for kind in (Small, Scaled):
        network = supervised.fit(kind(0, dropout=0.0).eval(), bank.x, bank.y, 2, recipe, steps=5, seed=0)
        logits.append(network(bank.x.float() / 255).detach())
    torch.testing.assert_close(*logits, atol=0.02, rtol=0.02)


def test_it_trains_in_training_mode_also_after_a_look(monkeypatch):
    """Whoever looks at the end of an epoch puts the network into eval mode; batch norm and dropout come back."""
    bank, modes = stripes(32), []
    forward = Small.forward
    monkeypatch.setattr(Small, "forward", lambda self, x: modes.append(self.norm.training) or forward(self, x))

    def look(epoch, network):
        supervised.ranked(network, bank.x)

    recipe = supervised.Recipe(lr=0.01, head_lr=0.05, weight_decay=0.0, batch_size=16)
    network = supervised.fit(Small().eval(), bank.x, bank.y, 2, recipe, steps=4, seed=0, after_epoch=look)
    assert modes == [True] * 3 + [False] + [True] * 2 + [False]  # the first looks at the scale of the features
    assert not any(module.training for module in network.modules())


def test_rates_rise_and_fall():
    rates = [supervised.share(step, 10, 0.2) for step in range(10)]
    assert rates[:3] == pytest.approx([1 / 3, 2 / 3, 1])
    assert rates[2:] == sorted(rates[2:], reverse=True)
    assert rates[6] == pytest.approx(0.5)
    assert 0 < rates[-1] < 0.1
    assert supervised.share(0, 1, 0.0) == supervised.share(0, 1, 0.1) == 1


def test_biases_and_norms_do_not_decay_and_the_classifier_has_its_own_rate():
    network = supervised.Network(Small(), 2)
    recipe = supervised.Recipe(lr=0.1, head_lr=0.2, weight_decay=0.3, batch_size=1)
    names = {id(p): name for name, p in network.named_parameters()}
    found = [
        ({names[id(p)] for p in group["params"]}, group["lr"], group["weight_decay"])
        for group in supervised.groups(network, recipe)
    ]
    assert found == [
        ({"encoder.conv.weight"}, 0.1, 0.3),
        ({"encoder.conv.bias", "encoder.norm.weight", "encoder.norm.bias"}, 0.1, 0.0),
        ({"linear.weight"}, 0.2, 0.3),
        ({"linear.bias"}, 0.2, 0.0),
    ]


def test_an_encoder_that_is_frozen_as_a_whole_is_trained_none_the_less():
    bank, encoder = stripes(32), Small().eval().requires_grad_(False)
    recipe = supervised.Recipe(lr=0.1, head_lr=0.1, weight_decay=0.0, batch_size=16)
    network = supervised.fit(encoder, bank.x, bank.y, 2, recipe, steps=2, seed=0)
    assert not torch.equal(network.encoder.conv.weight, encoder.conv.weight)
    assert not encoder.conv.weight.requires_grad


def test_no_batch_is_larger_than_asked(monkeypatch):
    """Neither in training nor when a large query is ranked; each row is seen once an epoch."""
    bank, seen = stripes(40), []
    monkeypatch.setattr(supervised, "AT_ONCE", 7)
    original = supervised.read

    def watched(x, index, device):
        seen.append(index.tolist())
        return original(x, index, device)

    monkeypatch.setattr(supervised, "read", watched)
    recipe = supervised.Recipe(lr=0.01, head_lr=0.01, weight_decay=0.0, batch_size=16)
    network = supervised.fit(Small(), bank.x, bank.y, 2, recipe, steps=4, seed=0)
    assert [len(each) for each in seen] == [16] * 4
    assert len({*seen[0], *seen[1]}) == len({*seen[2], *seen[3]}) == 32
    assert seen[0] != seen[2]
    seen.clear()
    parts = supervised.ranked(network, bank.x)
    assert max(map(len, seen)) == 7
    monkeypatch.setattr(supervised, "AT_ONCE", 40)
    assert torch.equal(supervised.ranked(network, bank.x), parts)


@pytest.mark.parametrize("make", ["finetune", "few"])
def test_a_loss_that_is_no_number_is_refused(make, tmp_path):
    bank, broken = stripes(32), Small()
    broken.conv.weight.data.fill_(torch.nan)
    with pytest.raises(FloatingPointError, match="diverged"):
        measured(made(make, tmp_path, bank, bank), broken)


def test_places_draw_so_many_of_each_class():
    y = torch.tensor([0] * 10 + [2] * 3 + [1])[torch.randperm(14, generator=torch.Generator().manual_seed(0))]
    place = places(y, torch.Generator().manual_seed(0))
    for label, count in enumerate((10, 1, 3)):
        assert place[y == label].sort().values.tolist() == list(range(count))
    assert y[place < 2].bincount().tolist() == [2, 1, 2]
    firsts = [int(places(torch.zeros(4).long(), torch.Generator().manual_seed(s)).argmin()) for s in range(400)]
    assert all(60 < firsts.count(row) < 140 for row in range(4))


def test_spread_takes_each_class_by_its_share():
    y = torch.tensor([0] * 60 + [1] * 30 + [2] * 10)
    rows = spread(y, 20, torch.Generator().manual_seed(0))
    assert y[rows].bincount().tolist() == [12, 6, 2]
    assert rows.tolist() == sorted(set(rows.tolist()))
    assert spread(y, 1000, torch.Generator()).tolist() == list(range(100))


def table(folder):
    return list(csv.DictReader((folder / "few_label.csv").read_text().splitlines()))


def test_draws_are_stratified_paired_nested_and_of_the_size_asked(tmp_path, monkeypatch):
    """All methods get the same rows; larger sets hold smaller ones; draws differ; a small class gives all it has."""
    bank = stripes(90, classes=3)
    kept = (bank.y < 2) | (torch.arange(90) < 9)  # of class 2 three rows
    bank = Split(bank.x[kept], bank.y[kept])
    drawn = {}

    def guesses(self, method, rows, seed, encoder, encode):
        drawn.setdefault((seed, len(rows)), []).append((method, rows.tolist()))
        return torch.zeros(12, 1, dtype=torch.int64)

    monkeypatch.setattr(FewLabel, "guesses", guesses)
    measured(few(bank, stripes(12, 3, seed=1), tmp_path, 3, labels=(5, 1), shares=(0.1,), draws=3), Small())
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


def test_the_interval_by_hand(tmp_path, monkeypatch):
    """Mean 0.5 and deviation 0.1 of three draws: 4.303 * 0.1 / sqrt(3) if they share nothing. Here they share half."""
    assert half_width([0.4, 0.5, 0.6], 0.0) == pytest.approx(4.3026527 * 0.1 / 3**0.5)
    assert half_width([0.4, 0.5, 0.6], 0.0, 0.9) == pytest.approx(t.interval(0.9, 2, 0, 0.1 / 3**0.5)[1])
    hits = iter([4, 5, 6])

    def guesses(self, method, rows, seed, encoder, encode):
        return torch.where(torch.arange(10) < next(hits), torch.arange(10) % 2, -1)[:, None]

    monkeypatch.setattr(FewLabel, "guesses", guesses)
    evaluator = few(stripes(20), stripes(10), tmp_path, labels=(5,), draws=3, methods=("knn",))
    width = 4.3026527 * 0.1 * (1 / 3 + 1) ** 0.5
    assert measured(evaluator, Small()) == pytest.approx({"mean": 0.5, "knn_5": 0.5, "knn_5_interval": width})
    assert [float(row["top1"]) for row in table(tmp_path)] == [0.4, 0.5, 0.6]


def test_the_interval_covers_other_labels_also_where_draws_overlap():
    """A score is the mean of its rows, with mean 0 where they come from: 19 of 20 intervals hold it, by any bank."""
    rng = torch.Generator().manual_seed(0)
    for held, drawn in ((1000, 5), (120, 40), (120, 100)):
        inside = plain = 0
        for _ in range(1000):
            bank = torch.randn(held, generator=rng)
            scores = [float(bank[torch.randperm(held, generator=rng)[:drawn]].mean()) for _ in range(5)]
            mean = abs(sum(scores) / 5)
            inside += mean < half_width(scores, drawn / held)
            plain += mean < half_width(scores, 0.0)
        assert 0.93 < inside / 1000 < 0.97
    assert plain / 1000 < 0.45  # what an interval that takes draws for independent says of 100 rows of 120


def test_rows_in_common_by_hand():
    """Of equal classes the share of the bank; a class nearly used up counts whatever the size of the others."""
    assert common(torch.tensor([100, 100]), torch.tensor([120, 120])) == pytest.approx(100 / 120)
    assert common(torch.tensor([5, 5, 0]), torch.tensor([50, 50, 0])) == pytest.approx(0.1)
    assert common(torch.tensor([100, 100]), torch.tensor([10_000, 120])) == pytest.approx(50 * (1e-4 + 1 / 120))
    assert common(torch.tensor([5, 3]), torch.tensor([10, 3])) == pytest.approx((1 / 10 + 1 / 3) / (1 / 5 + 1 / 3))


def test_draws_that_agree_have_no_interval(tmp_path, monkeypatch):
    """Neither a key nor a bar: no spread is no certainty."""
    assert half_width([0.5, 0.5, 0.5], 0.1) is None
    assert half_width([0.5], 0.1) is None
    found = few(blobs(90), blobs(30, seed=1), tmp_path, 3, labels=(5,), methods=("knn",))(Small(), lambda rows: rows)
    assert found == {"mean": 1.0, "knn_5": 1.0}
    from matplotlib.axes import Axes

    bars, errorbar = [], Axes.errorbar
    monkeypatch.setattr(
        Axes, "errorbar", lambda self, x, y, e, **kw: bars.append(list(e)) or errorbar(self, x, y, e, **kw)
    )
    scores = [Score(labels, draw, 4, "knn", 0.5) for labels in ("1", "2") for draw in range(2)]
    write_plot(scores, {("2", "knn"): 0.1}, 2, tmp_path / "plot.png")
    assert math.isnan(bars[0][0])
    assert bars[0][1] == pytest.approx(10)


def test_few_labels_end_to_end(tmp_path):
    """One label a class, and fewer rows than neighbours; one draw has no interval; the plot can be opened."""
    folder = tmp_path / "not" / "yet"
    evaluator = few(stripes(60), stripes(40, seed=1), folder, draws=1, k=20, labels=(1, 10))
    assert not folder.exists()
    found = measured(evaluator, Small())
    assert set(found) == {"mean"} | {f"{m}_{n}" for m in ("probe", "knn", "finetune", "supervised") for n in (1, 10)}
    assert found["mean"] == pytest.approx((found["probe_1"] + found["probe_10"]) / 2)
    assert sorted(file.name for file in folder.iterdir()) == ["few_label.csv", "few_label.png"]
    with Image.open(folder / "few_label.png") as image:
        assert image.size == (900, 600)


def test_few_labels_know_no_others(tmp_path):
    """With the labels of all rows that are not drawn changed, every number stays."""
    bank, query = stripes(60), stripes(40, seed=1)
    place = places(bank.y, torch.Generator().manual_seed(0))
    drawn = place < 4
    evaluator = few(bank, query, tmp_path, draws=1)
    before = measured(evaluator, Small())
    other = Split(bank.x.clone(), bank.y)
    other.x[~drawn] = 0
    assert measured(few(other, query, tmp_path, draws=1), Small()) == before


def test_no_more_neighbours_vote_than_a_class_has_labels(tmp_path):
    bank, query = blobs(90, spread=4.0), blobs(90, seed=1, spread=4.0)
    found = [
        few(bank, query, tmp_path, 3, labels=(5,), methods=("knn",), k=k, temperature=10.0)(Small(), lambda rows: rows)
        for k in (20, 5, 1)
    ]
    assert found[0] == found[1] != found[2]


def test_more_labels_help_where_there_is_something_to_learn(tmp_path):
    bank, query = blobs(300, spread=3.0), blobs(300, seed=1, spread=3.0)
    methods = ("probe", "knn")
    found = few(bank, query, tmp_path, 3, labels=(1, 5, 50), draws=5, methods=methods)(Small(), lambda rows: rows)
    for method in methods:
        assert found[f"{method}_1"] + 0.05 < found[f"{method}_5"] < found[f"{method}_50"] - 0.02


def test_numbers_of_labels_that_take_the_whole_bank_are_left_out(tmp_path):
    bank, query = stripes(20), stripes(10, seed=1)
    found = measured(few(bank, query, tmp_path, labels=(1, 10, 50), methods=("knn",)), Small())
    assert set(found) - {"knn_1_interval"} == {"mean", "knn_1"}
    with pytest.raises(ValueError, match=r"take the whole bank of 20 rows.*evaluator\.few_label\.labels=\[1\]"):
        few(bank, query, tmp_path, labels=(10,))
    with pytest.raises(ValueError, match="query"):
        few(bank, Split(query.x[:0], query.y[:0]), tmp_path)


def test_a_random_encoder_of_its_own_for_each_draw(tmp_path):
    asked, found = [], []
    for seed, given in ((5, 8), (5, 9), (6, 8)):
        evaluator = few(stripes(20), stripes(10), tmp_path, methods=("supervised",), labels=(1, 2), draws=3, seed=seed)
        evaluator.fresh = lambda seed: asked.append(seed) or Small(seed)
        found.append(measured(evaluator, Small(given)))
    assert found[0] == found[1]
    assert asked[:6] == asked[6:12]
    assert asked[0:6:2] == asked[1:6:2]  # one for all numbers of labels of a draw
    assert len(set(asked[:6])) == 3
    assert not set(asked[:6]) & set(asked[12:])  # another seed shares none of them


def test_minutes_are_not_silent(tmp_path, caplog):
    with caplog.at_level(logging.INFO, "ssl_runner"):
        measured(few(stripes(20), stripes(10), tmp_path, methods=("finetune",), labels=(1,)), Small())
    assert [record.message for record in caplog.records] == [
        "few_label: draw 1 of 2 is done",
        "few_label: draw 2 of 2 is done",
    ]


def blobs(n, classes=3, seed=0, spread=0.3):
    """Samples that are their own features, far apart by class where the spread is small."""
    y = torch.arange(n) % classes
    return Split(5 * torch.eye(8)[y] + spread * torch.randn(n, 8, generator=torch.Generator().manual_seed(seed)), y)


def test_the_picture_keeps_classes_apart():
    split = blobs(60)
    points = flattened(split.x, 10.0, 0)
    assert torch.equal(points, flattened(split.x, 10.0, 0))
    away = torch.cdist(points, points).fill_diagonal_(torch.inf)
    assert torch.equal(split.y[away.argmin(1)], split.y)


def test_a_collapsed_or_narrow_encoder_has_a_picture(tmp_path):
    assert flattened(torch.ones(10, 4), 3.0, 0).abs().max() == 0
    assert flattened(torch.randn(10, 1, generator=torch.Generator().manual_seed(0)), 3.0, 0).isfinite().all()
    with torch.no_grad():
        found = look(stripes(20), tmp_path)(Small(), lambda rows: torch.ones(len(rows), 4))
    assert 0 <= found["trustworthiness"] <= 1


def test_trustworthiness_is_of_some_where_there_are_many(tmp_path, monkeypatch):
    """Its ranks are of n x n points."""
    import sklearn.manifold

    sizes, original = [], sklearn.manifold.trustworthiness
    monkeypatch.setattr(projector_file, "RANKED", 20)
    monkeypatch.setattr(
        sklearn.manifold, "trustworthiness", lambda x, y, **kw: sizes.append((len(x), len(y))) or original(x, y, **kw)
    )
    with torch.no_grad():
        found = look(blobs(60), tmp_path, 3)(Small(), lambda rows: rows)
    assert sizes == [(20, 20)]
    assert found["samples"] == 60
    assert 0.5 < found["trustworthiness"] <= 1


def test_projector_writes_what_tensorboard_reads(tmp_path, capsys):
    """Twice, with another sample: the second is all that there is. The plugin itself reads classes and rows."""
    from google.protobuf import text_format
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
    from tensorboard.plugins.projector.projector_config_pb2 import ProjectorConfig

    query = stripes(40)
    assert measured(look(query, tmp_path / "new", samples=30), Small())["samples"] == 30
    found = measured(look(query, tmp_path / "new", samples=20), Small())
    assert found["samples"] == 20
    assert 0.5 < found["trustworthiness"] <= 1
    assert not capsys.readouterr().out
    folder = tmp_path / "new"
    (event,) = folder.glob("events.out.tfevents.*")
    files = {file.relative_to(folder).as_posix() for file in folder.rglob("*") if file.is_file()}
    below = {f"00000/features/{name}" for name in ("tensors.tsv", "metadata.tsv", "sprite.png")}
    assert files == {event.name, "projector_config.pbtxt", "tsne.png"} | below
    config = text_format.Parse((folder / "projector_config.pbtxt").read_text(), ProjectorConfig())
    (embedding,) = config.embeddings
    assert {embedding.tensor_path, embedding.metadata_path, embedding.sprite.image_path} == below
    header, *rows = [line.split("\t") for line in (folder / embedding.metadata_path).read_text().splitlines()]
    assert header == ["class", "row"]
    assert [int(label) for label, _ in rows] == query.y[[int(row) for _, row in rows]].tolist()
    tensors = [
        [float(v) for v in line.split("\t")] for line in (folder / embedding.tensor_path).read_text().splitlines()
    ]
    encoder = Small().eval()
    with torch.no_grad():
        features = encoded(encoder)(query.x)[[int(row) for _, row in rows]]
    ratio = torch.tensor(tensors) / features
    torch.testing.assert_close(ratio, ratio.mean().expand_as(ratio), rtol=1e-2, atol=1e-2)
    assert list(embedding.sprite.single_image_dim) == [8, 8]
    with Image.open(folder / embedding.sprite.image_path) as sprite:
        assert sprite.size == (40, 40)  # five by five
        assert sprite.getpixel((8 * 3 + 2, 2)) == tuple(query.x[int(rows[3][1]), :, 2, 2].tolist())
    assert EventAccumulator(str(folder)).Reload().Tags()["images"] == ["tsne"]


def test_thumbnails_are_square_and_small_enough_for_tensorboard():
    assert thumbnails(torch.zeros(3, 100)) is None
    tall = torch.full((2, 1, 100, 50), 255, dtype=torch.uint8)
    small = thumbnails(tall)
    assert small.shape == (2, 1, 32, 32)
    assert small[0, 0].sum(0).nonzero().flatten().tolist() == list(range(8, 24))  # in the middle
    assert thumbnails(torch.rand(2, 5, 8, 8)).shape == (2, 1, 8, 8)
    most = signature(Projector.__init__).parameters["samples"].default
    assert projector_file.THUMBNAIL * most**0.5 < 8192
    exact = torch.randint(0, 256, (2, 3, 8, 8), dtype=torch.uint8)
    assert torch.equal((thumbnails(exact) * 255).round().to(torch.uint8), exact)


def test_many_classes_have_a_scale_and_few_a_legend():
    y = torch.arange(40)
    many = projector_file.picture(torch.randn(40, 2), y, 40)
    few_classes = projector_file.picture(torch.randn(40, 2), y % 3, 3)
    assert len(many.axes) == 2
    assert [text.get_text() for text in few_classes.legends[0].get_texts()] == ["0", "1", "2"]


def test_refusals():
    bank, none = stripes(20), stripes(0)
    for one, two, word in ((bank, none, "query"), (none, bank, "bank")):
        with pytest.raises(ValueError, match=word):
            finetune(one, two)
    with pytest.raises(ValueError, match="holds 4 rows and a picture wants 8"):
        look(stripes(4), Path())


@pytest.mark.parametrize(("name", "kind"), [("finetune", FineTune), ("few_label", FewLabel), ("projector", Projector)])
def test_yaml_spells_out_the_defaults(name, kind, composer):
    node = yaml.safe_load((CONF / f"{name}.yaml").read_text())
    assert set(node) - {"defaults"} == {name}
    node = node[name]
    assert node.pop("_target_") == f"{kind.__module__}.{kind.__name__}"
    Duration.parse(node.pop("every"))
    node.pop("augment", None)
    parameters = signature(kind.__init__).parameters.values()
    defaults = {p.name: p.default for p in parameters if p.default is not p.empty}
    assert {key: tuple(value) if isinstance(value, list) else value for key, value in node.items()} == defaults
    hints = set(get_type_hints(kind.__init__)) - {"return", "every", "augment"}
    assert hints - set(defaults) <= set(RUNTIME["evaluator"])
    composed = composer.compose([f"evaluator=[knn,{name}]"])
    assert not composed.problems
    if name != "projector":
        assert composed.content["evaluator"][name]["augment"]["scale"] == [0.5, 1.0]
        other = composer.compose([f"evaluator={name}", f"augment@evaluator.{name}.augment=simclr"])
        assert not other.problems
        assert other.content["evaluator"][name]["augment"]["jitter"] == 0.8
        off = composer.compose([f"evaluator={name}", f"evaluator.{name}.augment=null"])
        assert not off.problems
        assert off.content["evaluator"][name]["augment"] is None


def test_the_runner_measures_them(make, tmp_path):
    """Composed, checked, built and called as in a run, on validation and on test."""
    short = ("finetune.epochs=1", "few_label.steps=2", "few_label.draws=2", "few_label.labels=[1]")
    settings = [f"evaluator.{each}" for each in short]
    trainer = make("evaluator=none", "evaluator=[finetune,few_label,projector]", *settings)
    for split in ("validation", "test"):
        evaluators = getattr(trainer, split)
        found = measure(trainer.encoder, evaluators, torch.device("cpu"))
        assert {f"{name}/{evaluator.headline}" for name, evaluator in evaluators.items()} <= set(found)
        assert len(evaluators) == 3
        for file in (f"few_label/{split}-training/few_label.png", f"projector/{split}-training/tsne.png"):
            assert (tmp_path / "run" / "evaluation" / file).exists()

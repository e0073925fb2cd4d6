"""Fine-tuning: what only it can tell, and an epoch that is not chosen on what is reported."""

import pytest
import torch
from evaluator_toys import EVERY, Small, encoded, numbers, stripes

from ssl_runner.augment.image.views import Views
from ssl_runner.contract import Samples, Split
from ssl_runner.evaluator.finetune import FineTune
from ssl_runner.evaluator.probe import Probe

AUGMENT = Views(scale=(0.8, 1.0), jitter=0.0, grey=0.0)


def finetune(bank, query, validation=None, **settings):
    settings = {"epochs": 3, "batch_size": 16, "augment": AUGMENT, "lr": 0.01, "head_lr": 0.05, **settings}
    runtime = {"bank": bank, "query": query, "validation": validation, "sample": Samples("image", (3, 8, 8))}
    return FineTune(every=EVERY, classes=2, **runtime, **settings)


def measured(evaluator, encoder=None):
    encoder = (encoder or Small()).eval()
    return numbers(evaluator, encoder, encoded(encoder))


def test_only_fine_tuning_can_tell_what_the_encoder_does_not_see():
    """Pixels one by one are alike in all classes: the probe is at chance, and the whole network learns."""
    bank, query, blind = stripes(64), stripes(60, seed=1), Small(blind=True, dropout=0.0)
    assert 0.35 < measured(Probe(every=EVERY, bank=bank, query=query, classes=2), blind)["top1"] < 0.65
    assert measured(finetune(bank, query, epochs=10), blind)["top1"] > 0.95


@pytest.mark.parametrize("validation", ["none", "query", "other"])
def test_the_epoch_is_not_chosen_on_what_is_reported(validation):
    """Other labels of the query: the same epoch and the same weights, so that the hits are the misses of before."""
    bank, query = stripes(48), stripes(30, seed=1)
    values = []
    for asked in (query, Split(query.x, 1 - query.y)):
        other = {"none": None, "query": asked, "other": stripes(12, seed=2)}[validation]
        values.append(measured(finetune(bank, asked, other, epochs=4)))
    assert values[0]["epoch"] == values[1]["epoch"]
    assert values[0]["choice_top1"] == values[1]["choice_top1"]
    assert values[0]["top1"] == pytest.approx(1 - values[1]["top1"])


def test_the_epoch_is_the_best_on_validation_and_the_first_of_equals(monkeypatch):
    """Hits are dictated by the epoch; the query is then ranked by the weights of that epoch."""
    bank, query, other = stripes(32), stripes(10, seed=1), stripes(8, seed=2)
    hits, seen = {1: 2, 2: 6, 3: 6, 4: 5}, []

    def rank_classes(network, x):
        seen.append((len(x), network.linear.weight.clone()))
        right = hits[len(seen)] if len(seen) <= 4 else 10
        return torch.where(torch.arange(len(x)) < right, torch.arange(len(x)) % 2, -1)[:, None]

    monkeypatch.setattr("ssl_runner.evaluator.finetune.rank_classes", rank_classes)
    assert measured(finetune(bank, query, other, epochs=4)) == {"top1": 1.0, "epoch": 2.0, "choice_top1": 6 / 8}
    assert [n for n, _ in seen] == [8, 8, 8, 8, 10]
    assert torch.equal(seen[4][1], seen[1][1])
    assert not torch.equal(seen[4][1], seen[2][1])


def test_the_held_out_part_is_not_trained_on():
    """Without another validation the bank is split by class; with one, all of it is trained on."""
    bank, query = stripes(40), stripes(10, seed=1)
    rest, choice = finetune(bank, query, query, held_out=0.25).split_bank()
    assert (len(rest.y), len(choice.y)) == (30, 10)
    assert choice.y.bincount().tolist() == [5, 5]
    rows = torch.cat([rest.x[torch.arange(30)], choice.x[torch.arange(10)]]).numpy()
    assert sorted(image.tobytes() for image in rows) == sorted(image.tobytes() for image in bank.x.numpy())
    assert finetune(bank, query, Split(query.x, query.y)).split_bank()[0] is bank


def test_the_last_epoch_is_taken_if_nothing_can_be_held_out():
    values = measured(finetune(stripes(2), stripes(10, seed=1), epochs=5))
    assert values["epoch"] == 5
    assert "choice_top1" not in values


def test_empty_splits_are_refused():
    for bank, query, word in ((stripes(20), stripes(0), "query"), (stripes(0), stripes(20), "bank")):
        with pytest.raises(ValueError, match=word):
            finetune(bank, query)

"""Labels and held-out rows never reach training: every task is trained beside data in which only they were changed."""

from unittest.mock import Mock

import pytest
import torch
from conftest import in_turn, names

from ssl_runner.contract import Batch
from ssl_runner.testing.promises import relabelled, repainted, trained_bits

WORDS = ("length=6st",)


@pytest.mark.parametrize("pretext", in_turn(names("pretext")))
def test_a_task_learns_from_training_rows_and_from_no_label_or_held_out_image(make, pretext):
    """Evaluators see them at steps 0, 3 and 6 in between, so one that left something behind would be seen too."""
    words = (f"pretext={pretext}", *WORDS)
    plain = make(*words, folder="plain")
    other = make(*words, folder="other", change_data=lambda data: relabelled(repainted(data)))
    rows, original, seen = plain.learner.loader.rows, plain.learner.pretext.views, []

    def views(batch, ctx):
        """Every batch, also of ctx.sweep(), is the training rows that its index names, and has no other field."""
        for each in (batch, *ctx.sweep()):
            assert type(each) is Batch
            assert each._fields == ("x", "index")
            assert torch.equal(each.x, plain.learner.loader.samples.from_rows(rows[each.index]))
        seen.append(batch.index)
        return original(batch, ctx)

    plain.learner.pretext.views = views
    assert trained_bits(plain) == trained_bits(other)
    assert len(torch.cat(seen).unique()) > 60
    assert other.logbook.rows[-1] != plain.logbook.rows[-1], "what was changed is what is measured on"


PEEKS = {  # images and targets of a task that reads what it must not, and the change of the data that shows it
    "label": (lambda knn, batch, x, turns: (x, knn.bank.y[batch.index].repeat(4) % 4), relabelled),
    "held-out image": (lambda knn, batch, x, turns: (x + knn.query.x[:1] / 255, turns), repainted),
}


@pytest.mark.parametrize("leak", PEEKS)
def test_a_task_that_peeked_would_be_seen(make, leak):
    peek, change = PEEKS[leak]

    def peeking(run):
        knn, original = run.measurements.validation["knn"], run.learner.pretext.views
        run.learner.pretext.views = lambda batch, ctx: peek(knn, batch, *original(batch, ctx))
        return trained_bits(run)

    plain, other = make(*WORDS, folder="plain"), make(*WORDS, folder="other", change_data=change)
    assert peeking(plain) != peeking(other)


def test_evaluators_read_the_bank_and_their_own_split(make):
    look = Mock(side_effect=lambda data: data)
    run = make(change_data=look)
    (data,) = look.call_args.args
    for split, evaluators in ((data.validation, run.measurements.validation), (data.test, run.measurements.test)):
        for name in ("knn", "probe"):
            assert evaluators[name].bank is data.bank
            assert evaluators[name].query is split

"""The task's own loss on rows that it does not learn from: by hand, the same each time, and nothing is left changed."""

import math

import pytest
import torch
from conftest import tiny
from evaluator_toys import EVERY, metrics
from runs import enter, put, summary

from ssl_runner.config.compose import Composer
from ssl_runner.contract import Split
from ssl_runner.engine.held_out_loss import HeldOutLoss
from ssl_runner.engine.learner import frozen
from ssl_runner.evaluator.loss import HeldOutLoss as Evaluator
from ssl_runner.run.preflight import read_job
from ssl_runner.testing.promises import fit

ROWS = torch.randint(256, (44, 3, 32, 32), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)


def evaluated(**values):
    return metrics(Evaluator(every=EVERY, query=Split(ROWS), decode=None, score=lambda rows: values))


def test_perplexity_and_bits_are_those_of_the_mean_cross_entropy():
    """Of a guess among 256 bytes that are all as likely: 8 bits a byte."""
    found = evaluated(loss=9.0, cross_entropy=math.log(256), masked_accuracy=0.25, norm=3.0)
    given = {"cross_entropy": math.log(256), "masked_accuracy": 0.25, "norm": 3.0}
    values = {name: each.value for name, each in found.items()}
    assert values == pytest.approx({"loss": 9.0, "perplexity": 256.0, "bits": 8.0, **given})
    assert [found[name].better for name in ("loss", "perplexity", "masked_accuracy", "norm")] == [
        *("smaller", "smaller", "larger", None)
    ]
    assert evaluated(loss=1.0).keys() == {"loss"}
    with pytest.raises(FloatingPointError, match="diverged"):
        evaluated(loss=math.nan)
    with pytest.raises(ValueError, match="measure it in training, by evaluator="):
        Evaluator(every=EVERY, query=Split(ROWS), decode=None, score=None)


def test_bits_a_byte_are_of_the_bytes_that_tokens_write():
    """Three tokens of 3 + 3 + 5 bytes, told by 11 bits each."""
    pieces = {1: "cat", 2: "é!", 3: " sats"}

    def decode(ids):
        return "".join(pieces[each] for each in ids if each)

    rows = torch.tensor([[1, 2, 0, 0], [3, 0, 0, 0]])
    given = {"score": lambda rows: {"loss": 1.0, "cross_entropy": 11 * math.log(2)}}
    found = metrics(Evaluator(every=EVERY, query=Split(rows), decode=decode, **given))
    assert found["bits_a_byte"].value == pytest.approx(11 * 3 / 11)
    assert found["bits_a_byte"].better == "smaller"
    assert "bits_a_byte" not in metrics(Evaluator(every=EVERY, query=Split(rows), decode=None, **given))


def test_bits_a_byte_are_bits_where_a_token_is_a_byte(here, capsys):
    words = (
        "pretext=clm dataset=text_folder dataset.root=notes dataset.length=32 evaluator=[loss] length=4st device=cpu"
    )
    put("notes/b/c.txt", "one\n" * 20)
    put("notes/d/c.txt", "two words\n" * 20)
    enter(capsys, f"{words} batch_size=4 hydra.run.dir=run", "loss/loss")
    done = summary("run")["final"]
    assert done["loss/bits_a_byte"] == pytest.approx(done["loss/bits"])
    enter(capsys, f"{words} batch_size=4 dataset.tokenizer=words hydra.run.dir=other", "loss/loss")
    done = summary("other")["final"]
    assert done["loss/bits_a_byte"] < done["loss/bits"] / 2.9


def test_it_is_the_mean_over_whole_batches_and_a_short_set_is_one(make, monkeypatch):
    trainer = make("pretext=simclr", "batch_size=16", "evaluator=none")
    learner, score = trainer.learner, HeldOutLoss(trainer.learner)
    sizes = []
    forward = type(learner.pretext).forward

    def spied(pretext, views, group="main"):
        sizes.append(len(views[0]))
        return forward(pretext, views, group)

    monkeypatch.setattr(type(learner.pretext), "forward", spied)
    whole = score(ROWS)
    assert len(set(sizes)) == 1
    assert len(sizes) == 2, "44 rows are two batches of 16, and 12 that are left out"
    first, second = score(ROWS[:16]), score(ROWS[:16])
    assert first == second, "the draws are the same"
    with frozen(learner.pretext):
        other = score.score(ROWS, torch.arange(16, 32), torch.arange(16), 1, 0)
    assert whole["loss"] == pytest.approx((first["loss"] + float(other["loss"])) / 2)
    assert first["loss"] != pytest.approx(float(other["loss"]), abs=1e-3)
    torch.manual_seed(9)
    assert score(ROWS) == whole, "no global generator plays a part"
    assert math.isfinite(score(ROWS[:5])["loss"])


@pytest.mark.slow
def test_all_that_training_changes_is_left_as_it_was(make):
    """Batch norms, teachers, queues and modes; a run with the evaluator ends in the weights of one without it."""
    with_loss, without = (
        fit(make("pretext=byol", f"evaluator={chosen}", folder=folder))
        for folder, chosen in (("with", "[loss]"), ("without", "none"))
    )
    states = [each.learner.pretext.state_dict() for each in (with_loss, without)]
    assert all(torch.equal(each, states[1][name]) for name, each in states[0].items())
    rows = [row for row in with_loss.logbook.rows if "loss/loss" in row]
    assert rows[0]["step"] == 0
    assert any("test/loss/loss" in row for row in with_loss.logbook.rows)
    learner = with_loss.learner
    before = {name: each.clone() for name, each in learner.pretext.state_dict().items()}
    modes = [each.training for each in learner.pretext.modules()]

    def spoil(ctx):
        for buffer in learner.pretext.buffers():
            buffer.zero_()

    learner.pretext.before_step = spoil
    HeldOutLoss(learner)(ROWS)
    assert all(torch.equal(each, before[name]) for name, each in learner.pretext.state_dict().items())
    assert [m.training for m in learner.pretext.modules()] == modes


def test_a_loss_falls_where_training_helps_and_is_there_without_labels(here, capsys):
    words = tiny("pretext=rotation", "evaluator=[loss]", "length=60st", "evaluator.loss.every=50%", "hydra.run.dir=run")
    enter(capsys, words, "loss/loss")
    done = summary("run")
    assert done["headlines"] == ["loss/loss"]
    assert done["metrics"]["loss/loss"] == {"better": "smaller", "unit": "number"}
    assert done["final"].keys() >= {"loss/loss", "loss/accuracy", "test/loss/loss"}
    assert "raw" not in done
    enter(capsys, "evaluate run loss", "there is an encoder alone; measure it in training", status=2)


@pytest.mark.parametrize("task", ["instance_discrimination", "deepcluster_v2", "pirl"])
def test_a_task_that_keeps_something_of_each_row_is_refused_before_it_begins(task):
    content = Composer().compose(tiny(f"pretext={task}", "evaluator=[loss]")).content
    (line,) = read_job(content)[1]
    assert "keeps something of each training row, and has no loss on others; leave loss out" in line
    assert read_job(Composer().compose(tiny("pretext=simclr", "evaluator=[loss]")).content)[1] == []


def test_a_batch_that_is_too_small_is_the_only_thing_that_is_said():
    """The loss on held-out rows fails by it as well, and its task is not to blame."""
    content = Composer().compose(tiny("pretext=byol", "batch_size=1", "evaluator=[loss]")).content
    (line,) = read_job(content)[1]
    assert line.endswith("batch normalisation needs two; type batch_size=2, or more")

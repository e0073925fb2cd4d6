"""The loop around the steps: what is measured, logged and saved when, also after an interrupt or a kill."""

import contextlib
import copy
import io
import json
import logging
import re
import time
from types import SimpleNamespace
from unittest import mock

import pytest
import torch
from engine_toys import Slope, learner
from rich.console import Console
from runs import saved
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from toys import Conv

from ssl_runner.contract import Metric, Samples
from ssl_runner.duration import Duration, Length
from ssl_runner.engine import measurements
from ssl_runner.engine.encoding import Encoding
from ssl_runner.engine.learner import frozen
from ssl_runner.engine.logbook import Logbook, Window
from ssl_runner.engine.measurements import Measurements, measure
from ssl_runner.engine.progress import Progress
from ssl_runner.engine.trainer import Trainer

STEPS = 12


class Counted:
    """An evaluator that notes the first weight whenever it is asked."""

    version, headline = 1, "top1"

    def __init__(self, every=1.0):
        self.every, self.asked = Duration(every, "st"), []

    def __call__(self, encoder, encode):
        self.asked.append(float(encoder.weight[0]))
        return {"top1": Metric(0.5)}


class Ran:
    """A run in a folder: where it ended, its rows, what was asked of the evaluators."""

    def __init__(self, folder, *, at=None, death=None, terminal=False, **plan):
        stop, taught = SimpleNamespace(signal=None), learner(Slope(), steps=STEPS, lr=0.01)
        step = taught.step

        def cut(number, **more):
            """The step during which it is interrupted or killed."""
            numbers = step(number, **more)
            if number == at and death:
                raise death
            stop.signal = 2 if number == at else None
            return numbers

        taught.step = cut
        often, test = Counted(3.0), Counted()
        evaluators = {"validation": {"often": often, "rarely": Counted(5.0)}, "test": {"often": test}}
        self.progress = Progress(Console(file=io.StringIO(), force_terminal=terminal, width=200), taught.length)
        parts = {"learner": taught, "progress": self.progress}
        plan = {"log_every": 4, "save_every": 6, "show_every": 5, "keep": 2, **parts, **plan}
        measurements = Measurements(**parts, **evaluators)
        self.trainer = trainer = Trainer(**plan, folder=folder, measurements=measurements, provenance={"config": {}})
        self.asked, self.tested, self.end = often.asked, test.asked, None
        start = trainer.restore()
        logbook = Logbook(folder, start)
        with pytest.raises(death) if death else contextlib.nullcontext():
            self.end = trainer.fit(start, logbook, stop)
        logbook.close()
        self.rows, self.saved = logbook.rows, saved(folder)

    def is_whole(self):
        """Whether it was measured and logged as if nothing had disturbed it: at the end once, on schedule or off it."""
        names = ("often/top1", "rarely/top1", "test/often/top1", "train/loss")
        often, rarely, test, logged = ([row["step"] for row in self.rows if name in row] for name in names)
        assert (self.end, often, rarely, test) == (STEPS, [0, 3, 6, 9, 12], [0, 5, 10, 12], [12])
        return logged[-2:] == [8, 12]


def test_a_run_measures_logs_and_saves_on_schedule_and_at_its_end(tmp_path):
    ran = Ran(tmp_path)
    assert ran.is_whole()
    assert ran.saved == [6, 12]
    assert ran.asked == pytest.approx([1 - 0.02 * step for step in (0, 3, 6, 9, 12)]), "of the weights of that step"
    loss = [10 - 0.01 * 20 * step for step in range(STEPS)]  # a step lowers it by lr * |gradient|^2
    rows = [row for row in ran.rows if "train/loss" in row]
    assert [row["train/loss"] for row in rows] == pytest.approx([sum(loss[i : i + 4]) / 4 for i in (0, 4, 8)], rel=1e-5)
    assert [(row["step"], row["epoch"], row["optimizer/lr"]) for row in rows] == [(n, n, 0.01) for n in (4, 8, 12)]
    again = Ran(tmp_path)
    assert again.is_whole()
    assert not again.asked + again.tested, "a run that had reached its end is not measured again"


@pytest.mark.parametrize("at", [0, 2, 4, 5, 7, 10, STEPS - 1])
def test_nothing_is_measured_twice_after_an_interrupt(tmp_path, at):
    first, second = Ran(tmp_path, at=at), Ran(tmp_path)
    assert first.end == first.saved[-1] == at + 1
    assert bool(first.tested) == (at + 1 == STEPS)
    assert second.is_whole()
    assert len(asked := first.asked + second.asked) == 5
    assert asked[-1] == pytest.approx(1 - 0.02 * STEPS)


@pytest.mark.parametrize(("at", "again"), [(1, 0), (4, 1), (6, 0), (9, 1)])
def test_a_kill_measures_again_only_what_came_after_the_checkpoint(tmp_path, at, again):
    first, second = Ran(tmp_path, at=at, death=RuntimeError), Ran(tmp_path)
    assert second.progress.start == 6 * (at // 6)
    assert second.is_whole()
    assert len(first.asked) + len(second.asked) == 5 + again


@pytest.mark.parametrize("keep", [1, 2, 3])
def test_so_many_checkpoints_stay(tmp_path, keep):
    assert Ran(tmp_path, save_every=2, keep=keep).saved == [8, 10, 12][-keep:]


def test_a_long_time_without_a_checkpoint_ends_with_one(tmp_path, monkeypatch):
    monkeypatch.setattr("ssl_runner.engine.trainer.SAVE_AFTER", -1.0)
    assert Ran(tmp_path, save_every=100, keep=99).saved == [0, 3, 4, 5, 6, 8, 9, 10, 12], "wherever it stops to look"


def test_of_the_checkpoint_that_a_run_goes_on_from_its_config_alone_is_kept(tmp_path):
    Ran(tmp_path, at=6)
    assert Ran(tmp_path).trainer.restored == {"config": {}}


def test_the_rate_after_a_resume_is_of_the_steps_since(tmp_path, monkeypatch, caplog):
    monkeypatch.setattr("ssl_runner.engine.progress.REFRESH", -1)
    monkeypatch.setattr(logging.getLogger("ssl_runner"), "propagate", True)
    caplog.set_level(logging.INFO)
    Ran(tmp_path, at=6)
    with mock.patch.object(Progress, "line", autospec=True, side_effect=Progress.line) as line:
        progress = Ran(tmp_path, terminal=True).progress
    steps, done, seconds = zip(*(call.args[1:4] for call in line.call_args_list), strict=True)
    assert len(steps) > 5
    assert done == tuple(step - 7 for step in steps)
    assert list(seconds) == sorted(seconds), "the seconds go on over a log line"
    assert progress.samples_per_second == pytest.approx(5 * 8 / progress.seconds)
    Progress(Console(file=io.StringIO()), Length(1000, 100, 16)).report(910, 10, 1.0)
    assert "91 % epoch 9.1/10.0 step 910/1000 160 samples/s 0:09 left" in re.sub(r"\s+", " ", caplog.messages[-1])


def test_a_resumed_log_has_no_row_twice_in_metrics_nor_in_tensorboard(tmp_path):
    """What will be written again is dropped, and so is a row that a crash has torn."""
    for start, steps in ((0, (0, 5, 10)), (5, (10, 15))):
        book = Logbook(tmp_path, start)
        assert (book.has(5, "knn"), book.has(10, "knn")) == (start == 5, False)
        for step in steps:
            book.scalars(step, step / 10, {"knn/top1": step + start})
        book.close()
        with (tmp_path / "metrics.jsonl").open("a") as file:
            file.write('{"step": 15, "kn' if start == 0 else "")
    rows = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    curve = [(0, 0.0), (5, 5.0), (10, 15.0), (15, 20.0)]
    assert [(row["step"], row["knn/top1"]) for row in rows] == curve
    assert rows == sorted(rows, key=lambda row: row["time"])
    assert [(e.step, e.value) for e in EventAccumulator(str(tmp_path)).Reload().Scalars("knn/top1")] == curve


def test_evaluators_share_features_and_leave_the_encoder_as_it_was():
    encoder, data, seen = Conv(), torch.randint(0, 256, (23, 3, 8, 8), dtype=torch.uint8), []
    encoder.convolution.eval()
    encoder.register_forward_hook(lambda module, given, features: seen.append(len(features.pooled)))
    before = copy.deepcopy(encoder.state_dict())

    def evaluator(given, encode):
        assert not given.norm.training
        assert not torch.is_grad_enabled()
        assert len(encode(data)) == len(data)
        return {"top1": Metric(0.5)}

    encode = Encoding(encoder, Samples("image", (3, 8, 8)), torch.device("cpu"))
    values = measure({"a": evaluator, "b": evaluator}, encode)
    assert values == {"a/top1": Metric(0.5), "b/top1": Metric(0.5)}
    assert sum(seen) == len(data), "rows are encoded once"
    with pytest.raises(RuntimeError), frozen(encoder):
        raise RuntimeError
    assert (encoder.norm.training, encoder.convolution.training) == (True, False), "what was in eval mode stays so"
    torch.testing.assert_close(encoder.state_dict(), before, rtol=0, atol=0)


def test_what_raw_features_take_is_no_measure_of_later_measurements(make, monkeypatch):
    """They are measured before the first step alone, and a forecast goes by what a measurement takes."""

    def slow(evaluators, encode):
        time.sleep(1)
        return {f"raw/{name}/top1": Metric(0.5) for name in evaluators}

    monkeypatch.setattr(measurements, "measure_raw", slow)
    run = make("evaluator=[knn]", "evaluator.knn.k=3")
    logbook = Logbook(run.folder, 0)
    run.measurements.open(logbook)
    run.measurements.take(0, run.measurements.due(0, last=False)[""], "")
    logbook.close()
    assert 0 < run.measurements.seconds < 1
    assert {"knn/top1", "raw/knn/top1"} <= logbook.rows[0].keys()


def test_a_window_averages_over_the_steps_that_have_a_number_and_leaves_pauses_out(monkeypatch):
    clock = iter((100.0, 110.0, 150.0, 200.0))
    with monkeypatch.context() as patch:
        patch.setattr("ssl_runner.engine.logbook.clock", lambda: next(clock))
        window = Window()  # opened at 100
        with window.pause():  # from 110 to 150
            pass
        assert window.seconds == 200 - 100 - 40
    for step, value in enumerate((1.0, 2.0, 3.0, 6.0)):
        window.add({"train/loss": torch.tensor(value)} | ({"train/rare": torch.tensor(value)} if step % 3 == 0 else {}))
    assert window.steps == 4
    assert list(window.close().items()) == [("train/loss", 3.0), ("train/rare", 3.5)]
    assert Window().close() == {}

"""The loop around the steps: what is measured, logged and saved when, also after an interrupt or a kill."""

import io
import itertools
import logging
import re
from types import SimpleNamespace

import pytest
from engine_toys import Slope, learner
from rich.console import Console

from ssl_runner.contract import Metric
from ssl_runner.duration import Duration, Length
from ssl_runner.engine.logbook import Logbook
from ssl_runner.engine.measurements import Measurements
from ssl_runner.engine.progress import Progress
from ssl_runner.engine.trainer import Schedule, Trainer
from ssl_runner.run_folder import checkpoint

STEPS = 12


class Counted:
    """An evaluator that notes the first weight whenever it is asked."""

    every, version, headline = Duration(1.0, "st"), 1, "top1"  # Measurements decides how often

    def __init__(self):
        self.asked = []

    def __call__(self, encoder, encode):
        self.asked.append(float(encoder.weight[0]))
        return {"top1": Metric(0.5)}


class Cut(Slope):
    """Slope, interrupted or killed during a step."""

    def __init__(self, stop, at, death):
        super().__init__()
        self.stop, self.at, self.death = stop, at, death

    def after_step(self, ctx, kept):
        if ctx.step == self.at:
            if self.death is not None:
                raise self.death
            self.stop.signal = 2


class Ran:
    """A run in a folder: where it ended, its rows, what was asked of the evaluators."""

    def __init__(self, folder, *, at=None, death=None, terminal=False, **plan):
        stop = SimpleNamespace(signal=None)
        taught = learner(Cut(stop, at, death), steps=STEPS, lr=0.01)
        often, test = Counted(), Counted()
        progress = Progress(Console(file=io.StringIO(), force_terminal=terminal, width=200), taught.length)
        schedule = Schedule(**{"log_every": 4, "save_every": 6, "show_every": 5, "keep": 2, **plan})
        evaluators = {"validation": {"often": often, "rarely": Counted()}, "test": {"often": test}}
        measurements = Measurements(taught, progress, **evaluators, every={"often": 3, "rarely": 5})
        self.trainer = Trainer(taught, schedule, folder, progress, measurements, provenance={})
        self.asked, self.tested, self.end = often.asked, test.asked, None
        start = self.trainer.restore()
        logbook = Logbook(folder, start)
        try:
            self.end = self.trainer.fit(start, logbook, stop)
        except RuntimeError:
            assert death is RuntimeError
        logbook.close()
        self.rows = logbook.rows

    def measured(self, name="often/top1"):
        return [row["step"] for row in self.rows if name in row]

    @property
    def saved(self):
        return [int(path.stem) for path in checkpoint.steps(self.trainer.folder / "checkpoints")]


def test_evaluations_are_at_the_start_on_schedule_and_at_the_end(tmp_path):
    ran = Ran(tmp_path)
    assert ran.end == STEPS
    assert ran.measured() == [0, 3, 6, 9, 12], "once at the end, though it is on schedule too"
    assert ran.measured("rarely/top1") == [0, 5, 10, 12], "at the end, though it is off schedule"
    assert ran.measured("test/often/top1") == [12]
    assert ran.measured("train/loss") == [4, 8, 12]
    assert ran.saved == [6, 12]
    assert ran.asked == pytest.approx([1 - 0.02 * step for step in (0, 3, 6, 9, 12)]), "of the weights of that step"


def test_the_log_is_of_the_steps_since_the_last_one(tmp_path):
    rows = {row["step"]: row for row in Ran(tmp_path).rows if "train/loss" in row}
    loss = [10 - 0.01 * 20 * step for step in range(STEPS)]  # a step lowers it by lr * |gradient|^2
    for end in (4, 8, 12):
        assert rows[end]["train/loss"] == pytest.approx(sum(loss[end - 4 : end]) / 4, rel=1e-5)
        assert rows[end]["optimizer/lr"] == 0.01
        assert rows[end]["epoch"] == end


def test_an_interrupt_during_the_last_step_ends_the_run_whole(tmp_path):
    ran = Ran(tmp_path, at=STEPS - 1)
    assert ran.end == ran.saved[-1] == STEPS
    assert ran.measured()[-1] == ran.measured("test/often/top1")[-1] == STEPS


def whole(ran):
    """Whether a run was measured and logged as one that nothing disturbed."""
    assert ran.end == STEPS
    assert ran.measured() == [0, 3, 6, 9, 12]
    assert ran.measured("rarely/top1") == [0, 5, 10, 12]
    return ran.measured("train/loss")[-2:] == [8, 12]


@pytest.mark.parametrize("at", [0, 2, 4, 5, 7, 10])
def test_nothing_is_measured_twice_after_an_interrupt(tmp_path, at):
    first = Ran(tmp_path, at=at)
    assert first.end == first.saved[-1] == at + 1
    assert not first.tested
    second = Ran(tmp_path)
    assert whole(second)
    assert len(first.asked) + len(second.asked) == 5
    assert second.asked[-1] == pytest.approx(1 - 0.02 * STEPS)


@pytest.mark.parametrize(("at", "again"), [(1, 0), (4, 1), (6, 0), (9, 1)])
def test_a_kill_measures_again_only_what_came_after_the_checkpoint(tmp_path, at, again):
    first, second = Ran(tmp_path, at=at, death=RuntimeError), Ran(tmp_path)
    assert second.trainer.progress.start == 6 * (at // 6)
    assert whole(second)
    assert len(first.asked) + len(second.asked) == 5 + again


def test_a_run_that_had_reached_its_end_is_not_measured_again(tmp_path):
    Ran(tmp_path)
    ran = Ran(tmp_path)
    assert ran.end == STEPS
    assert not ran.asked
    assert not ran.tested
    assert ran.measured("test/often/top1") == [STEPS]


@pytest.mark.parametrize("keep", [1, 2, 3])
def test_so_many_checkpoints_stay(tmp_path, keep):
    assert Ran(tmp_path, save_every=2, keep=keep).saved == [8, 10, 12][-keep:]


def test_the_rate_after_a_resume_is_of_the_steps_since(tmp_path, monkeypatch, caplog):
    monkeypatch.setattr("ssl_runner.engine.progress.REFRESH", -1)
    monkeypatch.setattr(logging.getLogger("ssl_runner"), "propagate", True)
    caplog.set_level(logging.INFO)
    Ran(tmp_path, at=6)
    seen, line = [], Progress.line

    def noting(self, step, done, seconds, doing=""):
        seen.append((step, done, seconds))
        return line(self, step, done, seconds, doing)

    monkeypatch.setattr(Progress, "line", noting)
    progress = Ran(tmp_path, terminal=True).trainer.progress
    assert len(seen) > 5
    assert all(done == step - 7 for step, done, _ in seen)
    assert all(a[2] <= b[2] for a, b in itertools.pairwise(seen)), "the seconds go on over a log line"
    assert progress.samples_per_second == pytest.approx(5 * 8 / progress.seconds)
    progress = Progress(Console(file=io.StringIO()), Length(1000, 100, 16))
    progress.start = 900
    progress.report(910, 10, 1.0)
    said = re.sub(r"\s+", " ", caplog.messages[-1])
    assert "91 % epoch 9.1/10 step 910/1000 160 samples/s 0:09 left" in said

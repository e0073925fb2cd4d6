"""Progress of long phases: a live line with the time left on a terminal, a line now and then in a log."""

import contextlib
import io
import logging

import pytest
from runs import start

from ssl_runner import duration
from ssl_runner.duration import Length, Phase
from ssl_runner.engine.console import Terminal, journal
from ssl_runner.engine.progress import Progress

log = logging.getLogger("ssl_runner")


@pytest.fixture
def now(monkeypatch):
    """The clock, to be moved on by hand."""
    time = [0.0]
    monkeypatch.setattr(duration.time, "monotonic", lambda: time[0])
    return time


def phase(now, seconds=4.0):
    with Phase("encoding", 4, "samples") as each:
        for _ in range(4):
            now[0] += seconds
            each.advance()


def shown(terminal, act, **options):
    console = Terminal(file=io.StringIO(), force_terminal=terminal, width=100, **options)
    with journal(console):
        act(console)
    return console.file.getvalue()


def test_a_terminal_shows_the_time_left_in_one_line_that_is_gone_at_the_end(now):
    text = shown(True, lambda _: phase(now))
    for line in ("encoding: 1 of 4 samples, 0:12 left", "2 of 4 samples, 0:08 left", "3 of 4 samples, 0:04 left"):
        assert line in text
    assert "\n" not in text.replace("\r\n", "").strip() or text.count("\x1b[2K") >= 3
    assert text.rstrip().endswith("\x1b[2K") or "\x1b[?25h" in text.rsplit("left", 1)[1], "the cursor is back"


def test_a_log_has_a_line_every_ten_seconds_and_none_of_a_short_phase(now):
    assert shown(False, lambda _: phase(now)).splitlines() == ["encoding: 3 of 4 samples, 0:04 left"]
    assert shown(False, lambda _: phase(now, 0.1)) == ""
    assert shown(True, lambda _: phase(now, 0.01)) == ""


def test_run_log_has_the_lines_of_a_log_alone(now, tmp_path):
    with journal(Terminal(file=io.StringIO(), force_terminal=True)) as book:
        book.attach(tmp_path)
        phase(now)
    (line,) = (tmp_path / "run.log").read_text().splitlines()
    assert line.endswith("encoding: 3 of 4 samples, 0:04 left")


def test_while_training_it_is_drawn_in_the_place_of_the_training_line(now):
    def train(console):
        with Progress(console, Length(10, 10, 4)) as progress:
            progress.show(1, 1.0, doing="measuring knn")
            phase(now)
            progress.show(2, 1.0, doing="measuring probe")
        assert console.live is None

    text = shown(True, train)
    assert text.index("measuring knn") < text.index("encoding: 2 of 4") < text.index("measuring probe")


def test_both_numbers_of_epochs_are_rounded_alike():
    for steps, of_an_epoch, epochs in ((20, 8, "2.5/2.5"), (600, 900, "0.67/0.67"), (7, 1000, "0.0070/0.0070")):
        assert f"  epoch {epochs}  " in Progress(Terminal(), Length(steps, of_an_epoch, 4)).line(steps, 1, 1.0)


def test_a_phase_that_is_broken_off_leaves_no_line(now):
    def broken(console):
        with contextlib.suppress(ZeroDivisionError), Phase("t-SNE of 20 samples", 1) as each:
            now[0] += 1
            each.start()
            raise ZeroDivisionError
        assert console.live is None

    assert "t-SNE of 20 samples" in shown(True, broken)


@pytest.mark.slow
@pytest.mark.usefixtures("here")
def test_what_commands_do_for_long_is_said(whole):
    """By the real commands, with a phase that is told at each step."""
    script = "import sys; from ssl_runner import duration; duration.EVERY = duration.REFRESH = -1.0; "
    script += "from ssl_runner.__main__ import main; sys.exit(main(sys.argv[1:]))"

    def printed(*words):
        return start(*words, program=("-c", script)).communicate(timeout=120)[0]

    few = [f"evaluator.few_label.{each}" for each in ("draws=1", "labels=[1]", "steps=2")]
    text = printed("evaluate", str(whole), "few_label", "split=validation", "--to", "out", *few)
    for words in ("encoding: 32 of ", "training with labels: 1 of 2 steps", "few_label: 1 of 4 fits"):
        assert words in text, text

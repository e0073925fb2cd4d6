"""The clock that a stop by Ctrl-Z stops."""

import signal
import time

import pytest

from ssl_runner.engine import interrupt
from ssl_runner.engine.interrupt import Clock, Interrupt


def test_a_reading_waits_for_the_signal_that_ends_a_stop(monkeypatch):
    """Another thread was handed it, and runs only while this one sleeps."""
    clock, rest = Clock(), time.sleep
    before = clock()
    rest(1.2 * Clock.REST)  # what a stop looks like
    monkeypatch.setattr(time, "sleep", lambda _: clock.leave_out_stop(signal.SIGCONT, None))
    assert clock() - before < Clock.REST / 2


def test_a_rest_that_no_stop_explains_counts_and_only_a_long_one_waits(monkeypatch):
    clock, rest, waited = Clock(), time.sleep, []
    before = clock()
    monkeypatch.setattr(time, "sleep", waited.append)
    clock()
    assert not waited
    rest(1.2 * Clock.REST)
    assert clock() - before > Clock.REST
    assert {*waited} == {Clock.LOOK}
    waited.clear()
    rest(1.2 * Clock.REST)
    clock()
    assert not waited, "whoever waits so long for data waits no longer for a signal"


def test_a_reading_waits_briefly_and_not_at_all_where_a_run_begins(monkeypatch):
    """A job of a sweep is forked from a process that may have been idle for hours."""
    now, hours = [0.0], 36_000.0
    monkeypatch.setattr(time, "perf_counter", lambda: now[0])
    monkeypatch.setattr(time, "sleep", lambda seconds: now.append(now.pop() + seconds))
    monkeypatch.setattr(interrupt, "clock", clock := Clock())
    now[0] += hours
    with Interrupt():
        assert clock() == now[0] == hours
        now[0] += hours
        clock()
    assert 0 < now[0] - 2 * hours <= Clock.WAIT + Clock.LOOK


def test_the_first_signal_is_answered_at_once_and_only_a_second_ctrl_c_acts(capfd):
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's job in the background ignores it
    with Interrupt("it saves") as interrupt:
        signal.raise_signal(signal.SIGTERM)
        signal.raise_signal(signal.SIGTERM)
        signal.raise_signal(signal.SIGINT)
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
    signal.signal(signal.SIGINT, before)
    assert interrupt.signal == signal.SIGTERM
    assert capfd.readouterr().err == "\nSIGTERM: it saves\n"
    with Interrupt():
        signal.raise_signal(signal.SIGTERM)
    assert capfd.readouterr().err == ""

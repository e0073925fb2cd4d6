"""Turns of a contest: in alternation, over whole waves of workers, each contestant in a process of its own."""

import time
from contextlib import suppress
from itertools import islice
from types import SimpleNamespace

import pytest
from benchmarking.loop import fastest, timed, warm_up, whole
from benchmarking.photographs import Endless, batches_of, endless
from benchmarking.process import Failed, Hired
from benchmarking.turns import alternate, ratio


def scripted(name, seconds, turns, each=1):
    """A contestant that takes as long as it is told, and is counted fairly over a multiple of some steps."""
    seconds = iter(seconds)

    def run(steps):
        turns.append((name, steps))
        if (took := next(seconds)) < 0:
            raise Failed("it is gone")
        return took

    return SimpleNamespace(took=None, turn=lambda steps: whole(steps, each), run=run)


def test_turns_alternate_and_ratios_are_taken_within_a_round():
    turns = []
    # the machine is ten times slower in the second round, for both alike: a ratio of medians would say 2.5
    a, b = scripted("a", [0.1, 1.0, 10.0, 4.0], turns), scripted("b", [0.4, 2.0, 20.0, 8.0], turns, each=4)
    found = alternate({"a": a, "b": b}, rounds=3, seconds=1.0, tell=lambda _: None)
    assert [name for name, _ in turns] == ["a", "b", "a", "b", "b", "a", "a", "b"]
    assert [steps for _, steps in turns[2:]] == [10, 4, 4, 10, 10, 4]  # b's three are rounded up to a whole wave
    assert found == {"a": [1.0, 10.0, 4.0], "b": [2.0, 20.0, 8.0]}
    assert ratio(found["a"], found["b"]) == 0.5


def test_one_that_fails_in_a_round_has_no_more_turns():
    lost, how = [], {"rounds": 2, "seconds": 1, "tell": lambda _: None}
    hired = {"a": scripted("a", [1.0, 1.0, 1.0], []), "b": scripted("b", [1.0, -1.0], [])}
    assert alternate(hired, **how, lose=lambda name, _: lost.append(name)) == {"a": [1.0, 1.0]}
    assert lost == ["b"]
    with pytest.raises(Failed, match="it is gone"):
        alternate({"b": scripted("b", [-1.0], [])}, **how)


class Sleepy(list):
    """Items of 80 ms, and fewer of them than a turn takes."""

    def __getitem__(self, index):
        time.sleep(0.08)
        return super().__getitem__(index)


@pytest.mark.filterwarnings("ignore:This DataLoader will create")  # they sleep, and need no cores
@pytest.mark.parametrize("asked", [2, 3, 5, 6])
def test_batches_that_were_fetched_ahead_are_not_taken_for_speed(asked):
    """Four workers with items of 80 ms yield one in 20 ms, however few steps were asked for."""
    workers, place = 4, SimpleNamespace(synchronise=lambda: None)
    with batches_of(endless(Sleepy(range(7)), 1, workers)) as batches:
        took = timed(place, batches, lambda _: None, warm_up(workers), whole(asked, workers))
    assert took == pytest.approx(0.08 / workers, rel=0.2)


def test_workers_end_whatever_happens():
    with suppress(ZeroDivisionError), batches_of(endless(range(7), 1, 2)) as batches:
        next(batches)
        workers = batches._workers
        raise ZeroDivisionError
    assert not any(worker.is_alive() for worker in workers)


def test_epochs_follow_one_another_without_an_end():
    order = iter(Endless(5))
    assert [sorted(islice(order, 5)) for _ in range(2)] == [[0, 1, 2, 3, 4]] * 2


def test_the_fastest_number_of_workers_is_not_judged_by_what_is_cold():
    calls = []

    def run(steps, workers):
        calls.append((steps, workers))
        cold, disturbed = len(calls) == 1, len(calls) == 4
        return 9.0 if cold or disturbed else {0: 1.0, 8: 1.5}[workers]

    assert fastest(run, (0, 8)) == (0, 1.0)
    assert calls == [(1, 0), (4, 0), (16, 8), (4, 0), (16, 8)]


FRAGILE = """
import os
class Contestant:
    note, took = "here", None
    def __init__(self, setting, ours): self.setting = setting
    def turn(self, steps): return steps
    def run(self, steps):
        if self.setting == "dies": os._exit(3)
        return 1 / (steps if self.setting == "works" else 0)
    def close(self): pass
"""


def test_what_goes_wrong_in_a_contestant_s_process_is_raised_here(monkeypatch, tmp_path):
    (tmp_path / "fragile.py").write_text(FRAGILE)
    monkeypatch.syspath_prepend(str(tmp_path))
    hired = Hired("fragile")
    assert hired.prepare("raises") == "here"
    with pytest.raises(Failed, match="ZeroDivisionError") as raised:
        hired.run(1)
    assert raised.value.line == "ZeroDivisionError: division by zero"
    hired.prepare("dies")
    for _ in range(2):  # the second time its pipe is broken
        with pytest.raises(Failed, match=r"^fragile ended with exit code 3$"):
            hired.run(1)
    hired.prepare("works")  # in a new process
    assert hired.run(4) == 0.25
    hired.close()

"""Turns of a contest: in alternation, over whole waves of workers, each contestant in a process of its own."""

import time
from contextlib import suppress
from itertools import islice
from unittest.mock import Mock

import pytest
from benchmarking.loop import fastest, timed, warm_up, whole
from benchmarking.photographs import Endless, batches_of, endless
from benchmarking.process import Failed, Hired
from benchmarking.turns import alternate, ratio


def test_turns_alternate_and_ratios_are_taken_within_a_round():
    contest = Mock(**{"a.took": None, "b.took": None})
    # the machine is ten times slower in the second round, for both alike: a ratio of medians would say 2.5
    contest.a.run.side_effect, contest.b.run.side_effect = [0.1, 1.0, 10.0, 4.0], [0.4, 2.0, 20.0, 8.0]
    contest.a.turn, contest.b.turn = lambda steps: steps, lambda steps: whole(steps, 4)
    found = alternate({"a": contest.a, "b": contest.b}, rounds=3, seconds=1.0, tell=lambda _: None)
    assert [call[0] for call in contest.mock_calls] == [f"{name}.run" for name in "ababbaab"]
    steps = [call.args[0] for call in contest.mock_calls[2:]]
    assert steps == [10, 4, 4, 10, 10, 4]  # b's three are rounded up to a whole wave
    assert found == {"a": [1.0, 10.0, 4.0], "b": [2.0, 20.0, 8.0]}
    assert ratio(found["a"], found["b"]) == 0.5


def test_one_that_fails_in_a_round_has_no_more_turns():
    lost, how = [], {"rounds": 2, "seconds": 1, "tell": lambda _: None}
    hired = {"a": Mock(took=1.0), "b": Mock(took=1.0)}
    hired["a"].run.return_value, hired["b"].run.side_effect = 1.0, Failed("it is gone")
    assert alternate(hired, **how, lose=lambda name, _: lost.append(name)) == {"a": [1.0, 1.0]}
    assert (lost, hired["b"].run.call_count) == (["b"], 1)
    with pytest.raises(Failed, match="it is gone"):
        alternate(hired, **how)


class Sleepy(list):
    """Items of 80 ms, and fewer of them than a turn takes."""

    def __getitem__(self, index):
        time.sleep(0.08)
        return super().__getitem__(index)


@pytest.mark.filterwarnings("ignore:This DataLoader will create")  # they sleep, and need no cores
@pytest.mark.parametrize("asked", [2, 3, 5, 6])
def test_batches_that_were_fetched_ahead_are_not_taken_for_speed(asked):
    """Four workers with items of 80 ms yield one in 20 ms, however few steps were asked for."""
    with batches_of(endless(Sleepy(range(7)), 1, 4)) as batches:
        took = timed(Mock(), batches, Mock(), warm_up(4), whole(asked, 4))
    assert took == pytest.approx(0.08 / 4, rel=0.2)


def test_epochs_follow_one_another_without_an_end_and_workers_end_whatever_happens():
    order = iter(Endless(5))
    assert [sorted(islice(order, 5)) for _ in range(2)] == [[0, 1, 2, 3, 4]] * 2
    with suppress(ZeroDivisionError), batches_of(endless(range(7), 1, 2)) as batches:
        next(batches)
        workers = batches._workers
        raise ZeroDivisionError
    assert not any(worker.is_alive() for worker in workers)


def test_the_fastest_number_of_workers_is_not_judged_by_what_is_cold():
    run = Mock(side_effect=[9.0, 1.0, 1.5, 9.0, 1.5])  # the first is cold, the fourth disturbed
    assert fastest(run, (0, 8)) == (0, 1.0)
    assert [each.args for each in run.call_args_list] == [(1, 0), (4, 0), (16, 8), (4, 0), (16, 8)]


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


@pytest.mark.slow
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

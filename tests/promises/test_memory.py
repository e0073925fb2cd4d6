"""What a run holds does not grow with its steps: tensors alive, and things in containers of any kind."""

import gc
import logging
from collections import Counter, OrderedDict, defaultdict, deque

import pytest
from conftest import LESS, names
from torch import Tensor, nn

from ssl_runner.engine.interrupt import Interrupt
from ssl_runner.engine.learner import Learner
from ssl_runner.engine.logbook import Logbook

CONTAINERS = {list, dict, set, deque, Counter, OrderedDict, defaultdict}
LONG = ("evaluator=none", "dataset.size=16", "length=42st", "log_every=5st", "show_every=100st", "batch_size=4")
EARLY, LATE = 20, 40
FEW = 10  # things that may be more for any reason; one thing a step is 20


@pytest.fixture
def growth(make, tmp_path, monkeypatch):
    """What a run holds more at the later of two steps: tensors by shape, and things in containers of any kind.

    The rows that the logbook keeps are not counted. Blocks of Python's memory would tell less: caches of names grow.
    """
    monkeypatch.setattr(logging.getLogger("ssl_runner"), "disabled", True)  # pytest keeps every line that is logged

    def measure(*overrides):
        trainer, logbook, seen = make(*LONG, *overrides), Logbook(tmp_path / "run", 0), {}
        show = trainer.progress.show

        def look(step, *others, **named):
            show(step, *others, **named)
            if step in (EARLY, LATE):
                gc.collect()
                objects = gc.get_objects()
                alive = tuple(tuple(o.shape) for o in objects if type(o) in (Tensor, nn.Parameter))
                # The collector knows no dictionary of numbers and strings alone, but it knows who holds it.
                sizes = {id(o): len(o) for o in gc.get_referents(*objects) if type(o) in CONTAINERS}
                # Tuples, which are not counted themselves.
                seen[step] = alive, sum(sizes.values()) - sum(1 + len(row) for row in logbook.rows)

        trainer.progress.show = look
        with Interrupt() as interrupt, trainer.progress:
            trainer.fit(0, logbook, interrupt)
            logbook.close("completed")
        return Counter(seen[LATE][0]) - Counter(seen[EARLY][0]), seen[LATE][1] - seen[EARLY][1]

    return measure


@pytest.mark.parametrize("name", names("pretext"))
def test_memory_is_flat_in_the_number_of_steps(name, growth):
    tensors, things = growth(f"pretext={name}", *LESS.get(name, ()))
    assert not tensors, f"alive at step {LATE} and not at {EARLY}, by shape: {dict(tensors)}"
    assert things <= FEW, f"containers hold {things} things more at step {LATE} than at {EARLY}"


HOARDS = {
    "tensors": lambda hoard, step, numbers: hoard.setdefault("losses", []).extend(numbers.values()),
    "numbers": lambda hoard, step, numbers: hoard.setdefault("steps", []).append(float(step)),
    "a table": lambda hoard, step, numbers: hoard.setdefault("table", {}).update({step: float(step)}),
}


@pytest.mark.parametrize("kind", HOARDS)
def test_what_grows_with_the_steps_is_seen(kind, growth, monkeypatch):
    hoard, step = {}, Learner.step

    def hoarding(self, number, **named):
        numbers = step(self, number, **named)
        HOARDS[kind](hoard, number, numbers)
        return numbers

    monkeypatch.setattr(Learner, "step", hoarding)
    tensors, things = growth("pretext=flip")
    assert things >= LATE - EARLY - FEW
    assert tensors[()] >= LATE - EARLY if kind == "tensors" else not tensors

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


@pytest.fixture(autouse=True)
def unheard(monkeypatch):
    """pytest keeps every line that is logged."""
    monkeypatch.setattr(logging.getLogger("ssl_runner"), "disabled", True)


def held(trainer, folder, steps):
    """What a run holds more at the later of two steps: tensors by shape, and things in containers of any kind.

    The rows that the logbook keeps are not counted. Blocks of Python's memory would tell less: caches of names grow.
    """
    seen = {}  # of tuples, which are not counted themselves
    show = trainer.progress.show
    logbook = Logbook(folder, 0)

    def look(step, *others, **named):
        show(step, *others, **named)
        if step in steps:
            gc.collect()
            objects = gc.get_objects()
            alive = tuple(tuple(o.shape) for o in objects if type(o) in (Tensor, nn.Parameter))
            # The collector knows no dictionary of numbers and strings alone, but it knows who holds it.
            sizes = {id(o): len(o) for o in gc.get_referents(*objects) if type(o) in CONTAINERS}
            seen[step] = alive, sum(sizes.values()) - sum(1 + len(row) for row in logbook.rows)

    trainer.progress.show = look
    with Interrupt() as interrupt, trainer.progress:
        trainer.fit(0, logbook, interrupt)
        logbook.close("completed")
    (alive_early, early), (alive_late, late) = (seen[step] for step in steps)
    return Counter(alive_late) - Counter(alive_early), late - early


CONTAINERS = {list, dict, set, deque, Counter, OrderedDict, defaultdict}
LONG = ("evaluator=none", "dataset.size=16", "length=42st", "log_every=5st", "show_every=100st", "batch_size=4")
AT = (20, 40)
FEW = 10  # things that may be more for any reason; one thing a step is 20


@pytest.mark.parametrize("name", names("pretext"))
def test_memory_is_flat_in_the_number_of_steps(name, make, tmp_path):
    tensors_more, more = held(make(*LONG, f"pretext={name}", *LESS.get(name, ())), tmp_path / "run", AT)
    assert not tensors_more, f"alive at step {AT[1]} and not at {AT[0]}, by shape: {dict(tensors_more)}"
    assert more <= FEW, f"containers hold {more} things more at step {AT[1]} than at {AT[0]}"


def hoard_tensors(hoard, step, numbers):
    hoard.setdefault("losses", []).extend(numbers.values())


def hoard_numbers(hoard, step, numbers):
    hoard.setdefault("steps", []).append(float(step))


def hoard_a_table(hoard, step, numbers):
    hoard.setdefault("table", {})[step] = float(step)


@pytest.mark.parametrize("keep", [hoard_tensors, hoard_numbers, hoard_a_table])
def test_what_grows_with_the_steps_is_seen(keep, make, tmp_path, monkeypatch):
    hoard = {}
    step = Learner.step

    def hoards(self, number, **named):
        numbers = step(self, number, **named)
        keep(hoard, number, numbers)
        return numbers

    monkeypatch.setattr(Learner, "step", hoards)
    tensors_more, more = held(make(*LONG, "pretext=flip"), tmp_path / "run", AT)
    assert more >= AT[1] - AT[0] - FEW
    assert tensors_more[()] >= AT[1] - AT[0] if keep is hoard_tensors else not tensors_more

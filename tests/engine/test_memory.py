"""What a run that has run out of memory is told to type: the largest micro-batch that fits, by trying."""

import pytest
import torch
from conftest import MEASURED_ONCE
from runs import said, summary

from ssl_runner.__main__ import main
from ssl_runner.engine import memory
from ssl_runner.engine.memory import advise, is_out_of_memory
from ssl_runner.engine.objective import Objective

LIMIT = 5  # samples that fit


@pytest.fixture
def small_memory(monkeypatch):
    """A device that holds views of so many samples at most."""
    forward = Objective.forward

    def limited(self, views, group, samples):
        if len(views[0]) > LIMIT:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 MiB")
        return forward(self, views, group, samples)

    monkeypatch.setattr(Objective, "forward", limited)


@pytest.mark.slow
@pytest.mark.usefixtures("here", "small_memory")
def test_the_run_says_what_fits_and_that_is_what_fits(capsys):
    assert main([*MEASURED_ONCE, "pretext=simclr", "hydra.run.dir=run"]) == 1
    told = said(capsys, "accumulate=4", "batch_size=4")
    assert "micro-batches of 16 samples do not fit; 4 do" in told
    assert summary("run")["error"].startswith("out of memory on cpu: ")
    assert main([*MEASURED_ONCE, "pretext=simclr", "accumulate=4", "hydra.run.dir=again"]) == 0


@pytest.mark.usefixtures("small_memory")
def test_what_is_already_shared_out_is_reckoned_with(make):
    told = advise(make("evaluator=none", "pretext=simclr", "accumulate=2").learner, torch.OutOfMemoryError())
    assert "micro-batches of 8 samples do not fit; 4 do: type accumulate=4" in told
    assert told.endswith("or batch_size=8"), "in as many micro-batches as before"


def test_a_model_that_does_not_fit_at_all_and_a_step_that_does(make, monkeypatch):
    learner = make("evaluator=none").learner
    assert "leave out an evaluator" in advise(learner, MemoryError())
    monkeypatch.setattr(memory, "fits", lambda *_: False)
    assert "choose a smaller model" in advise(learner, MemoryError())


def test_what_is_out_of_memory_is_told_from_other_errors():
    ours = [torch.OutOfMemoryError("x"), MemoryError(), RuntimeError("DefaultCPUAllocator: can't allocate memory: 1")]
    others = [RuntimeError("mat1 and mat2 shapes"), ValueError("out of memory")]
    assert [is_out_of_memory(each) for each in (*ours, *others)] == [True] * 3 + [False] * 2

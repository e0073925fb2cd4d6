"""Tests that a team's own methods, data sets and protocols must pass; testing/plugin.py gives them their cases."""

import json
import os
import random
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from ssl_runner.run_folder.atomic import write
from ssl_runner.testing.promises import relabelled, repainted, resume_differences, trained_bits
from ssl_runner.testing.ranks import rank_differences
from ssl_runner.testing.traces import NEAR, STEPS, difference, traced

Make = Callable[..., Any]  # fixtures of testing/jobs.py


def test_resumes_bit_exactly(own_choice: str, trainer_of: Make) -> None:
    """A run that is evaluated, stopped after any step and resumed ends in the bits of one that is not.

    What breaks it: a plain attribute that a step changes (make it a buffer), a random number that is not drawn from
    ctx.rng in views(), an evaluator that leaves something behind.
    """
    turns = random.SystemRandom().randrange(1, 12)
    part = partial(trainer_of, own_choice, measured=True)
    assert not resume_differences(partial(trainer_of, own_choice), part, [(turns,)])


def test_learns_from_no_label(own_task: str, trainer_of: Make) -> None:
    """Beside data with other labels and other held-out samples it learns the same, bit for bit."""
    plain = trainer_of(own_task, "plain", measured=True)
    other = trainer_of(own_task, "other", measured=True, change_data=lambda data: relabelled(repainted(data)))
    assert trained_bits(plain) == trained_bits(other)


def test_two_processes_learn_what_one_learns(own_learner: str, content_of: Make, learner_of: Make) -> None:
    """What breaks it: a statistic of the batch without layers.gather.gather, a random number that is not of ctx.rng."""
    assert not rank_differences(learner_of, content_of(own_learner, "length=5st", "batch_size=12", "log_every=1st"))


def test_numbers_of_20_steps_are_what_they_were(own_learner: str, trainer_of: Make, golden: tuple[Path, bool]) -> None:
    """Bit for bit on the machine that recorded them, and elsewhere as far as rounding lets them.

    The first time they are recorded, to be committed; in CI (the variable CI is set) they must be there.
    """
    folder, update = golden
    now = traced(trainer_of(own_learner, "run", "device.threads=1", f"length={STEPS}st"))
    path = folder / f"{own_learner.replace('=', '-')}.json"
    if not update and not path.exists() and os.environ.get("CI"):
        pytest.fail(f"there is no {path}; type pytest here, and commit it", pytrace=False)
    if update or not path.exists():
        write(path, json.dumps(now, indent=1) + "\n")
        pytest.skip(f"{path} is written; commit it")
    if words := difference(json.loads(path.read_text(encoding="utf-8")), now, NEAR["float32"]):
        pytest.fail(f"{own_learner}: {words}\nif that is meant, type pytest --update-golden", pytrace=False)

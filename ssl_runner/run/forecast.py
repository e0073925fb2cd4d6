"""Forecast of a run on a CPU, from its first steps: how long it will take, and what to type for a shorter one."""

import logging
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

import torch

from ssl_runner.contract import Samples
from ssl_runner.data.machine import usable_cores
from ssl_runner.duration import clock
from ssl_runner.run.job import Job

if TYPE_CHECKING:
    from ssl_runner.engine.trainer import Trainer

log = logging.getLogger("ssl_runner")

LONG = 900.0  # seconds from which on it is worth a line
GOAL = 600.0  # seconds of the run that is proposed instead
LARGE = 1_000_000  # parameters
SMALL = {False: "convnet_small", True: "vit_mini"}  # models, by whether tokens are dropped
PIXELS = 32  # a side, of images that a CPU can learn from


def forecast(run: "Trainer", job: Job, samples: Samples) -> Callable[[int, float], None] | None:
    """A function to be called once, with a step and the seconds of one; None if the run has an accelerator."""
    if run.learner.device.device.type != "cpu":
        return None

    def say(step: int, seconds: float) -> None:
        for line in describe_cost(run, job, samples, step, seconds):
            log.info(line)

    return say


def describe_cost(run: "Trainer", job: Job, samples: Samples, step: int, seconds: float) -> Iterator[str]:
    """A line if the run is long."""
    length, measured = run.length, run.measurements
    measuring = measured.seconds * measurements_left(measured.every, step, length.steps)
    total = seconds * (length.steps - step) + measuring
    if total < LONG:
        return
    part = f", {clock(measuring)} of it to measure" if measuring > total / 10 else ""
    speed = f"{length.batch_size / seconds:,.0f} samples/s"
    threads = torch.get_num_threads()
    why = "on the CPU" if torch.accelerator.is_available() else "without an accelerator"
    shorter = [f"length={shorter_length(run, seconds)}", *smaller_choices(run, job, samples)]
    if measuring > total / 3:
        often = [name for name, every in measured.every.items() if length.steps // every > 2]
        shorter += [f"evaluator.{name}.every=50%" for name in often]
    cores = usable_cores() // int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
    shorter += [f"device.threads={cores} (now {threads})"] if cores > threads else []
    shorter += ["device=auto"] if torch.accelerator.is_available() else []
    yield f"{why} this takes about {clock(total)} more ({speed}{part}); for a shorter run type {', '.join(shorter)}"


def measurements_left(every: Mapping[str, int], step: int, steps: int) -> int:
    """How many measurements are left: one at each step at which an evaluator is due, and the test split."""
    due = {each for n in every.values() for each in range(n, steps, n) if each > step}
    return len(due) + 2 if every else 0  # the last step, and the test split


def shorter_length(run: "Trainer", seconds: float) -> str:
    """A length that takes about GOAL, in epochs if it is one or more."""
    steps, epoch = min(max(1, int(GOAL / seconds)), run.length.steps // 2 or 1), run.length.steps_per_epoch
    return f"{steps // epoch}ep" if steps >= epoch else f"{float(f'{steps:.1g}'):.0f}st"


def smaller_choices(run: "Trainer", job: Job, samples: Samples) -> Sequence[str]:
    """A smaller model and smaller images, if these are large."""
    encoder = run.measurements.encoder
    if samples.kind != "image":
        return []
    large = sum(p.numel() for p in encoder.parameters()) > LARGE
    words = [f"model={SMALL[encoder.in_two_steps]} (now {job.choices.get('model', 'another')})"] if large else []
    if samples.shape[1] > PIXELS and "size" in job.dataset.arguments:
        words.append(f"dataset.size={PIXELS} (now {samples.shape[1]})")
    return words

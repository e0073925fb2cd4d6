"""Evaluation during training: which evaluators are due at a step, their numbers, the health of the features."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import torch

from ssl_runner.contract import Encoder, Evaluator, Metric, Samples
from ssl_runner.engine import collapse
from ssl_runner.engine.causes import find_causes, measure_embedding
from ssl_runner.engine.encode import encoder_of
from ssl_runner.engine.frozen import frozen
from ssl_runner.engine.seed import seed_everything

if TYPE_CHECKING:
    from ssl_runner.engine.learner import Learner
    from ssl_runner.engine.logbook import Logbook
    from ssl_runner.engine.progress import Progress

log = logging.getLogger("ssl_runner")

TEST = "test/"  # what the names of numbers of the test split begin with


class Measurements:
    """Evaluators on the trained encoder: `validation` on schedule, `test` once, when the run is complete."""

    def __init__(
        self,
        learner: Learner,
        progress: Progress,
        *,
        validation: Mapping[str, Evaluator],
        test: Mapping[str, Evaluator],
        every: Mapping[str, int],
    ):
        self.learner, self.progress, self.every = learner, progress, every  # steps by evaluator
        self.validation, self.test = validation, test
        self.encoder = learner.pretext.trained()
        self.health: collapse.Health | None = None  # None if no geometry is measured
        self.meanings: dict[str, dict[str, Any]] = {}  # of each number that was measured

    @property
    def headlines(self) -> list[str]:
        """The numbers that stand for their evaluator."""
        return [f"{name}/{each.headline}" for name, each in self.validation.items()]

    @property
    def protocols(self) -> dict[str, dict[str, Any]]:
        """The version of each evaluator."""
        return {name: {"version": each.version} for name, each in {**self.validation, **self.test}.items()}

    def open(self, logbook: Logbook) -> None:
        """Goes on from what the log says."""
        self.logbook = logbook
        self.health = self.diagnose(logbook.rows)

    def due(self, step: int, last: bool) -> dict[str, dict[str, Evaluator]]:
        """By what their names begin with: at step 0 (the random encoder), on schedule, at the end; never twice."""
        validation = {
            name: each
            for name, each in self.validation.items()
            if (last or step % self.every[name] == 0) and not self.logbook.has(step, name)
        }
        test = dict(self.test) if last and not self.logbook.has(step, "test") else {}
        return {split: each for split, each in (("", validation), (TEST, test)) if each}

    def take(self, step: int, evaluators: Mapping[str, Evaluator], split: str) -> None:
        """Measures and logs. Raises FloatingPointError if features are not finite."""
        learner, examined = self.learner, not split and collapse.NAME in evaluators
        seed_everything(learner.seed, "measure", step)
        metrics = measure(self.encoder, evaluators, learner.loader.samples, learner.device.device)
        if examined:
            metrics |= measure_embedding(learner)
        values = {split + name: float(metric.value) for name, metric in metrics.items()}
        before = self.health
        if examined and (health := self.diagnose([*self.logbook.rows, {"step": step, **values}])):
            metrics[f"{collapse.NAME}/health"] = Metric(health.score, "larger", "number")
            values[f"{collapse.NAME}/health"] = health.score
            self.health = health
        self.meanings |= {
            split + name: {"better": metric.better, "unit": metric.unit} for name, metric in metrics.items()
        }
        self.logbook.scalars(step, step / learner.length.steps_per_epoch, values)
        self.tell(step, evaluators, metrics, split)
        if examined:
            self.announce(before)

    def tell(self, step: int, evaluators: Mapping[str, Evaluator], metrics: Mapping[str, Metric], split: str) -> None:
        """A line with what was measured: every share, and the headline of each evaluator."""
        headlines = {f"{name}/{each.headline}": name for name, each in evaluators.items()}
        shown = {name: each for name, each in metrics.items() if each.unit == "share" or name in headlines}
        if not split:
            shares = {headlines[name]: each for name, each in shown.items() if name in headlines}
            self.progress.shares |= {name: each.value for name, each in shares.items() if each.unit == "share"}
        numbers = ", ".join(f"{split}{name} {each.value:.4g}" for name, each in shown.items())
        self.progress.tell(f"step {step}: {numbers}")

    def diagnose(self, rows: Sequence[Mapping[str, Any]]) -> collapse.Health | None:
        """The collapse detector's verdict on all that was measured, with what may have caused it."""
        health = collapse.diagnose(rows)
        if health is None or health.verdict == "healthy":
            return health
        return replace(health, causes=find_causes(self.learner, rows))

    def announce(self, before: collapse.Health | None) -> None:
        """Says a verdict that is new: in the log, and in TensorBoard."""
        if self.health is None or self.health.verdict == (before.verdict if before else "healthy"):
            return
        say = log.info if self.health.verdict == "healthy" else log.warning
        say("%s", self.health)
        self.logbook.text("health", str(self.health), self.health.step)


def measure(
    encoder: Encoder, evaluators: Mapping[str, Evaluator], samples: Samples, device: torch.device
) -> dict[str, Metric]:
    """`knn/top1` and its like, of the evaluators given."""
    with frozen(encoder):
        encode = encoder_of(encoder, samples, device)
        return {
            f"{name}/{key}": metric
            for name, evaluator in evaluators.items()
            for key, metric in evaluator(encoder, encode).items()
        }

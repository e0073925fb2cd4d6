"""Evaluation during training: evaluators that are due at a step, on the frozen encoder; the health of the features."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ssl_runner.contract import Evaluator, Metric
from ssl_runner.device import ranks
from ssl_runner.engine import collapse
from ssl_runner.engine.encoding import Encoding
from ssl_runner.engine.learner import Learner, frozen
from ssl_runner.engine.seed import seed_everything
from ssl_runner.probing.raw_features import raw_features
from ssl_runner.run_folder.metrics import RAW
from ssl_runner.run_folder.results import meaning_of, write_confusion_rows

if TYPE_CHECKING:
    from ssl_runner.engine.held_out_loss import HeldOutLoss
    from ssl_runner.engine.logbook import LogRows
    from ssl_runner.engine.progress import Progress

log = logging.getLogger("ssl_runner")


@dataclass(kw_only=True)
class Measurements:
    """Evaluators on the trained encoder: `validation` on schedule, `test` once, when the run is complete."""

    learner: Learner
    progress: Progress
    validation: Mapping[str, Evaluator]
    test: Mapping[str, Evaluator]
    score: HeldOutLoss | None = None  # for evaluators of the held-out loss; it needs to know the step
    place: Callable[[str, str], Path] | None = None  # folder of an evaluator's files, by its name and the split
    health: collapse.Health | None = field(default=None, init=False)  # None if no geometry is measured
    meanings: dict[str, dict[str, Any]] = field(default_factory=dict, init=False)  # of each number that was measured
    last: Encoding | None = field(default=None, init=False)  # of the last step

    def __post_init__(self) -> None:
        self.encoder = self.learner.pretext.trained()
        self.seconds = 0.0  # that the last measurement took
        self.every = {name: self.learner.length.every(each.every) for name, each in self.validation.items()}  # steps

    def open(self, logbook: LogRows) -> None:
        """Goes on from what the log says."""
        self.logbook, self.health = logbook, self.diagnose(logbook.rows)

    def due(self, step: int, last: bool) -> dict[str, dict[str, Evaluator]]:
        """By what their names begin with: at step 0 (the random encoder), on schedule, at the end; never twice."""
        validation = {
            name: each
            for name, each in self.validation.items()
            if (last or step % self.every[name] == 0) and not self.logbook.has(step, name)
        }
        test = dict(self.test) if last and not self.logbook.has(step, "test") else {}
        return {split: each for split, each in (("", validation), ("test/", test)) if each}

    def take(self, step: int, evaluators: Mapping[str, Evaluator], split: str) -> None:
        """Measures and logs. Raises FloatingPointError if features are not finite."""
        learner, before = self.learner, self.health
        examined = not split and collapse.NAME in evaluators
        seed_everything(learner.seed, "measure", step)
        if self.score is not None:
            self.score.step = step
        began = time.perf_counter()
        raw = step == 0 and not split and any(getattr(each, "raw", False) for each in evaluators.values())
        encode = self.encoding(step, raw=raw)
        metrics = measure(evaluators, encode)
        if examined:
            metrics |= collapse.measure_embedding(learner)
            row = {"step": step, **{name: float(metric.value) for name, metric in metrics.items()}}
            if health := self.diagnose([*self.logbook.rows, row]):
                self.health = health
                metrics[f"{collapse.NAME}/health"] = Metric(collapse.SCORE[health.verdict], "larger", "number")
        self.seconds = time.perf_counter() - began
        if raw:
            metrics |= measure_raw(evaluators, encode)  # once, as raw features never learn
        if step == learner.length.steps:
            self.keep_confusions(step, metrics, split)  # before the log says that it was measured
        values = {split + name: float(metric.value) for name, metric in metrics.items()}
        self.meanings |= {split + name: meaning_of(each) for name, each in metrics.items() if not name.startswith(RAW)}
        self.logbook.scalars(step, step / learner.length.steps_per_epoch, values)
        self.tell(step, evaluators, metrics, split)
        changed = self.health is not None and self.health.verdict != (before.verdict if before else "healthy")
        if self.health is not None and changed and ranks.is_first():
            say = log.info if self.health.verdict == "healthy" else log.warning
            say("%s", self.health)
            self.logbook.text("health", str(self.health), self.health.step)

    def encoding(self, step: int, *, raw: bool) -> Encoding:
        """Features at a step, raw ones beside them if asked for. At the last step, test has what validation encoded."""
        if self.last is not None:
            return self.last
        samples = self.learner.loader.samples
        plain = raw_features(samples) if raw else None
        encode = Encoding(self.learner.trained(), samples, self.learner.device.device, plain)
        if step == self.learner.length.steps:
            self.last = encode
        return encode

    def keep_confusions(self, step: int, metrics: Mapping[str, Metric], split: str) -> None:
        """Writes the confusion matrix of each accuracy that has one."""
        for name, each in metrics.items():
            if each.confusion and self.place is not None and ranks.is_first():
                evaluator, _, number = name.partition("/")
                write_confusion_rows(self.place(evaluator, "test" if split else "validation"), number, step, each)

    def tell(self, step: int, evaluators: Mapping[str, Evaluator], metrics: Mapping[str, Metric], split: str) -> None:
        """A line with what was measured: the headline of each evaluator, and every share that is no detail."""
        headlines = {f"{name}/{each.headline}": name for name, each in evaluators.items()}
        shown = {
            name: each
            for name, each in metrics.items()
            if name.removeprefix(RAW) in headlines or (each.unit == "share" and not each.detail and RAW not in name)
        }
        if not split:
            shares = {name: each for name, each in shown.items() if name in headlines and each.unit == "share"}
            self.progress.shares |= {headlines[name]: each.value for name, each in shares.items()}
        numbers = ", ".join(f"{split}{name} {each.value:.4g}" for name, each in shown.items())
        self.progress.tell(f"step {step}: {numbers}")

    def diagnose(self, rows: Sequence[Mapping[str, Any]]) -> collapse.Health | None:
        """The collapse detector's verdict on all that was measured, with what may have caused it."""
        health = collapse.diagnose(rows)
        if health is None or health.verdict == "healthy":
            return health
        return replace(health, causes=collapse.find_causes(self.learner, rows))


def measure(evaluators: Mapping[str, Evaluator], encode: Encoding) -> dict[str, Metric]:
    """`knn/top1` and its like, of the evaluators given."""
    with frozen(encode.encoder):
        measured = {name: each(encode.encoder, encode) for name, each in evaluators.items()}
    return {f"{name}/{key}": metric for name, metrics in measured.items() for key, metric in metrics.items()}


def measure_raw(evaluators: Mapping[str, Evaluator], encode: Encoding) -> dict[str, Metric]:
    """`raw/knn/top1` and its like, of evaluators with a true `raw` on raw features; empty if there are none of them."""
    compared = {name: each for name, each in evaluators.items() if encode.plain and getattr(each, "raw", False)}
    with frozen(encode.encoder):
        measured = {name: each(encode.encoder, encode.raw) for name, each in compared.items()}
    return {f"{RAW}{name}/{key}": metric for name, metrics in measured.items() for key, metric in metrics.items()}

"""The loop of a run: learn, and on schedule measure, show, log and save."""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from torch import Tensor

from ssl_runner.contract import Evaluator
from ssl_runner.engine import collapse as doctor
from ssl_runner.engine.interrupt import Interrupt
from ssl_runner.engine.learner import Learner
from ssl_runner.engine.logbook import Logbook
from ssl_runner.engine.measure import frozen, measure
from ssl_runner.engine.progress import Progress
from ssl_runner.engine.seed import seed_everything
from ssl_runner.engine.window import Window
from ssl_runner.run_folder import checkpoint
from ssl_runner.run_folder.layout import CHECKPOINTS, STOP

log = logging.getLogger("ssl_runner")


class Diverged(Exception):
    """The loss is not finite."""


@dataclass(frozen=True)
class Schedule:
    """When a run logs, saves, shows pictures and measures, in optimizer steps."""

    steps: int
    log_every: int
    save_every: int
    show_every: int
    measure_every: Mapping[str, int]  # by evaluator
    keep: int  # how many checkpoints stay


class Trainer:
    """One run in one folder. `validation` evaluators run on schedule; `test` ones once, when the run is complete."""

    def __init__(
        self,
        learner: Learner,
        schedule: Schedule,
        folder: Path,
        progress: Progress,
        *,
        validation: Mapping[str, Evaluator],
        test: Mapping[str, Evaluator],
        provenance: Mapping[str, Any],
        on_collapse: Literal["warn", "stop"] = "warn",
    ):
        self.learner, self.schedule, self.folder, self.progress = learner, schedule, folder, progress
        self.validation, self.test = validation, test
        self.on_collapse = on_collapse
        self.health: doctor.Health | None = None  # None where no geometry is measured
        self.stopped = ""  # why the run ended before its last step
        self.provenance = provenance  # plain values about the run (config, versions), saved with each checkpoint
        self.encoder = learner.pretext.encoder
        self.per_epoch = learner.loader.steps_per_epoch
        self.loss_name = f"train/{learner.prefix(learner.main)}loss"
        self.checkpoints = folder / CHECKPOINTS
        self.wish = folder / STOP
        self.last_good: Path | None = None
        self.restored: Mapping[str, Any] = {}  # the checkpoint that the run goes on from
        self.checked = 0  # up to this step every loss is known to be finite

    def restore(self) -> int:
        """Loads the newest readable checkpoint of the folder and returns its step; 0 where there is none.

        Raises checkpoint.Unreadable where it is of another model, pretext task or optimizer.
        """
        for path, state in checkpoint.newest_first(self.checkpoints):
            try:
                self.learner.load(state)
            except (AttributeError, KeyError, RuntimeError, TypeError, ValueError) as error:
                reason = " ".join(str(error).split())[:200]
                raise checkpoint.Unreadable(f"{path} does not fit this config ({reason})") from None
            self.last_good, self.restored = path, state
            return state["step"]
        return 0

    def fit(self, start: int, logbook: Logbook, interrupt: Interrupt) -> int:
        """Trains from `start` and returns the step that was reached: `steps`, or less after an interrupt or a stop.

        Raises Diverged at a loss that is not finite, and OSError where the last checkpoint cannot be written.
        """
        self.logbook, self.window, self.checked = logbook, Window(), start
        self.progress.start = start
        self.progress.measured = logbook.latest(self.validation)
        self.progress.loss = logbook.latest(["train"]).get(self.loss_name)
        self.health = self.examine(logbook.rows)
        steps = self.schedule.steps
        for step in range(start, steps + 1):  # one turn more than there are steps: the end is measured and saved too
            last = step == steps
            if interrupt.signal is not None and not last:  # at the end there is nothing left but to measure and save
                self.save(step)
                return step
            self.evaluate(step, last)
            self.stopped = "" if last else self.reason_to_stop(step)
            if self.stopped:
                self.save(step, must=True)
                return step
            if last or (step > start and step % self.schedule.save_every == 0):
                self.save(step, must=last)
            if last:
                break
            if step % self.schedule.show_every == 0:
                self.show(step)
            logs = (step + 1) % self.schedule.log_every == 0 or step + 1 == steps
            self.learner.step(step, self.window, measure_gradient=logs)
            if logs:
                self.report(step + 1)
            self.progress.show(step + 1, self.window.seconds)
        return steps

    def evaluate(self, step: int, last: bool) -> None:
        """Runs what is due: at step 0 (the random encoder), on schedule and at the end. Never twice for a step."""
        due = {
            name: each
            for name, each in self.validation.items()
            if (last or step % self.schedule.measure_every[name] == 0) and not self.logbook.has(step, name)
        }
        if due:
            self._measure(step, due, prefix="")
        if last and self.test and not self.logbook.has(step, "test"):
            self._measure(step, self.test, prefix="test/")

    def _measure(self, step: int, evaluators: Mapping[str, Evaluator], prefix: str) -> None:
        self.check_finite(step, weights=True)
        seed_everything(self.learner.seed, "measure", step)
        self.progress.show(step, self.window.seconds, doing=f"measuring {prefix}{', '.join(evaluators)}")
        examined = not prefix and doctor.NAME in evaluators
        with self.window.pause():
            try:
                values = measure(self.encoder, evaluators, self.learner.device.device)
            except FloatingPointError as error:  # features can overflow where each weight is finite
                raise Diverged(f"{error} (step {step}); {self.good}") from None
            if examined:
                values |= doctor.embedding(self.learner)
        before = self.health
        if examined and (health := self.examine([*self.logbook.rows, {"step": step, **values}])):
            values[f"{doctor.NAME}/health"] = health.score
            self.health = health
        if prefix:
            values = {prefix + name.replace("/", "_"): value for name, value in values.items()}
        else:
            self.progress.measured.update(values)
        self.logbook.scalars(step, step / self.per_epoch, values)
        brief = f"{doctor.NAME}/"  # so many numbers that a line has room for the first of them only
        first = next((name for name in values if name.startswith(brief)), "")
        told = {name: value for name, value in values.items() if not name.startswith(brief) or name == first}
        self.progress.tell(f"step {step}: " + ", ".join(f"{name} {value:.4g}" for name, value in told.items()))
        if examined:
            self.announce(before)

    def examine(self, rows: Sequence[Mapping[str, Any]]) -> doctor.Health | None:
        """The doctor's verdict on all that was measured, with what may have caused it."""
        health = doctor.diagnose(rows)
        if health is None or health.verdict == "healthy":
            return health
        return replace(health, causes=doctor.suspects(self.learner, rows))

    def announce(self, before: doctor.Health | None) -> None:
        """Says a verdict that is new: in the log, and in TensorBoard."""
        if self.health is None or self.health.verdict == (before.verdict if before else "healthy"):
            return
        say = log.info if self.health.verdict == "healthy" else log.warning
        say("%s", self.health)
        self.logbook.text("health", str(self.health), self.health.step)

    def reason_to_stop(self, step: int) -> str:
        """Features that have collapsed, where that is to end the run, or somebody's wish; empty where there is none."""
        if self.on_collapse == "stop" and self.health is not None and self.health.verdict == "collapsed":
            return str(self.health)
        if step % self.schedule.log_every == 0 and self.wish.exists():
            return self.wish.read_text(errors="replace").strip() or "it was asked to"
        return ""

    def check_finite(self, step: int, weights: bool = False) -> None:
        """Raises Diverged where a loss since the last check was not finite, or a weight is not."""
        if not (self.learner.is_finite() if weights else bool(self.learner.finite)):
            raise Diverged(
                f"the loss or a weight was not finite between steps {self.checked} and {step}; {self.good}. "
                "Try a lower optimizer.lr, optimizer.clip=1, a longer optimizer.warm_up or device.precision=float32"
            )
        self.checked = step

    @property
    def good(self) -> str:
        return f"the last good checkpoint is {self.last_good}" if self.last_good else "there is no checkpoint yet"

    def report(self, step: int) -> None:
        """Writes the window that ends here, and opens the next."""
        self.check_finite(step)
        window, loader = self.window, self.learner.loader
        seconds = window.seconds
        values = window.close()
        self.progress.loss = values[self.loss_name]
        values["optimizer/lr"] = self.learner.rate(step - 1)
        values["speed/images_per_second"] = window.steps * loader.batch_size / seconds
        values["speed/data_wait"] = loader.waited / seconds
        values["speed/peak_memory_mb"] = self.learner.device.peak_memory_mb()
        self.logbook.scalars(step, step / self.per_epoch, values)
        self.progress.report(step, window.steps, seconds)
        self.window, loader.waited = Window(), 0.0

    def show(self, step: int) -> None:
        """A grid of the views that the encoder sees at this step, and the images that the method makes of them."""
        self.check_finite(step)
        loader = self.learner.loader
        with self.window.pause():
            waited, batch = loader.waited, loader.batches(step)[0]
            loader.waited = waited
            views = self.learner.views(batch, step, self.learner.main)
            images = [v for v in views if isinstance(v, Tensor) and v.ndim == 4 and v.is_floating_point()]
            for number, image in enumerate(images):
                self.logbook.images(step, f"views/{number}", image)
            with frozen(self.learner.pretext):
                for name, image in self.learner.pretext.pictures(views).items():
                    self.logbook.images(step, f"pictures/{name}", image)

    def save(self, step: int, must: bool = False) -> None:
        """Writes a checkpoint. A disk that refuses keeps the one before; only the last save must succeed."""
        self.check_finite(step, weights=True)
        with self.window.pause():
            try:
                state = {**self.learner.state(), **self.provenance}
                self.last_good = checkpoint.save(self.checkpoints, step, state, self.schedule.keep)
            except OSError as error:
                kept = f"the newest one is {self.last_good}" if self.last_good else "there is none yet"
                log.error("checkpoint of step %d could not be written (%s); %s", step, error, kept)
                if must:
                    raise

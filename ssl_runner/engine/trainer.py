"""Training loop: learn, and on schedule measure, show, log and save."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from ssl_runner.engine.pictures import pictures
from ssl_runner.engine.window import Window
from ssl_runner.errors import Diverged
from ssl_runner.run_folder import checkpoint
from ssl_runner.run_folder.layout import CHECKPOINTS, STOP

if TYPE_CHECKING:
    from ssl_runner.engine.interrupt import Interrupt
    from ssl_runner.engine.learner import Learner
    from ssl_runner.engine.logbook import Logbook
    from ssl_runner.engine.measurements import Measurements
    from ssl_runner.engine.progress import Progress

log = logging.getLogger("ssl_runner")


@dataclass(frozen=True)
class Schedule:
    """When a run logs, saves, shows pictures and measures, in optimizer steps."""

    log_every: int
    save_every: int
    show_every: int
    keep: int  # how many checkpoints stay


class Trainer:
    """One run in one folder."""

    def __init__(
        self,
        learner: Learner,
        schedule: Schedule,
        folder: Path,
        progress: Progress,
        measurements: Measurements,
        *,
        provenance: Mapping[str, Any],
        on_collapse: Literal["warn", "stop"] = "warn",
    ):
        self.learner, self.schedule, self.folder, self.progress = learner, schedule, folder, progress
        self.measurements, self.on_collapse = measurements, on_collapse
        self.provenance = provenance  # plain values about the run (config, versions), saved with each checkpoint
        self.length = learner.length
        self.loss_name = f"train/{learner.prefix(learner.main)}loss"
        self.stopped = ""  # why the run ended before its last step
        self.last_good: Path | None = None
        self.restored: Mapping[str, Any] = {}  # the checkpoint that the run goes on from
        self.checked = 0  # up to this step every loss is known to be finite

    def restore(self) -> int:
        """Loads the newest readable checkpoint of the folder and returns its step; 0 if there is none.

        Raises checkpoint.Unreadable if it is of another model, pretext task or optimizer.
        """
        for path, state in checkpoint.newest_first(self.folder / CHECKPOINTS):
            try:
                self.learner.load(state)
            except (AttributeError, KeyError, RuntimeError, TypeError, ValueError) as error:
                reason = " ".join(str(error).split())[:200]
                raise checkpoint.Unreadable(f"{path} does not fit this config ({reason})") from None
            self.last_good, self.restored = path, state
            return state["step"]
        return 0

    def fit(self, start: int, logbook: Logbook, interrupt: Interrupt) -> int:
        """Trains from `start` and returns the step that was reached: the last one, or less if it was cut off.

        Raises Diverged at a loss that is not finite, and OSError if the last checkpoint cannot be written.
        """
        self.open(start, logbook)
        schedule, steps = self.schedule, self.length.steps
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
            if last or (step > start and step % schedule.save_every == 0):
                self.save(step, must=last)
            if last:
                break
            if step % schedule.show_every == 0:
                self.show(step)
            logs = (step + 1) % schedule.log_every == 0 or step + 1 == steps
            self.window.add(self.learner.step(step, measure_gradient=logs))
            if logs:
                self.report(step + 1)
            self.progress.show(step + 1, self.window.seconds)
        return steps

    def open(self, start: int, logbook: Logbook) -> None:
        """Goes on from what the log says."""
        self.logbook, self.window, self.checked = logbook, Window(), start
        self.progress.start, self.progress.loss = start, logbook.latest("train").get(self.loss_name)
        self.measurements.open(logbook)

    def evaluate(self, step: int, last: bool) -> None:
        """Runs the evaluators that are due: on validation on schedule, on test at the end."""
        for split, evaluators in self.measurements.due(step, last).items():
            self.check_finite(step, weights=True)
            names = ", ".join(f"{split}{name}" for name in evaluators)
            self.progress.show(step, self.window.seconds, doing=f"measuring {names}")
            with self.window.pause():
                try:
                    self.measurements.take(step, evaluators, split)
                except FloatingPointError as error:  # features can overflow although each weight is finite
                    raise Diverged(f"{error} (step {step}); {self.good}") from None

    def reason_to_stop(self, step: int) -> str:
        """Why the run must end here: its features have collapsed, or a stop file is there; empty if it goes on."""
        health, stop_file = self.measurements.health, self.folder / STOP
        if self.on_collapse == "stop" and health is not None and health.verdict == "collapsed":
            return str(health)
        if step % self.schedule.log_every == 0 and stop_file.exists():
            return stop_file.read_text(errors="replace").strip() or "it was asked to"
        return ""

    def check_finite(self, step: int, weights: bool = False) -> None:
        """Raises Diverged if a loss since the last check was not finite, or a weight is not."""
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
        settings = self.learner.settings(step - 1)
        values["optimizer/lr"] = settings.lr
        if settings.weight_decay != self.learner.settings(0).weight_decay:  # it has a schedule
            values["optimizer/weight_decay"] = settings.weight_decay
        values["speed/samples_per_second"] = window.steps * self.length.batch_size / seconds
        values["speed/data_wait"] = loader.waited / seconds
        values["speed/peak_memory_mb"] = self.learner.device.peak_memory_mb()
        self.logbook.scalars(step, step / self.length.steps_per_epoch, values)
        self.progress.report(step, window.steps, seconds)
        self.window, loader.waited = Window(), 0.0

    def show(self, step: int) -> None:
        """Grids of the views and of the method's pictures, in TensorBoard."""
        self.check_finite(step)
        with self.window.pause():
            for name, images in pictures(self.learner, step).items():
                self.logbook.images(step, name, images)

    def save(self, step: int, must: bool = False) -> None:
        """Writes a checkpoint. A disk that refuses keeps the one before; only the last save must succeed."""
        self.check_finite(step, weights=True)
        with self.window.pause():
            try:
                state = {**self.learner.state(), **self.provenance}
                self.last_good = checkpoint.save(self.folder / CHECKPOINTS, step, state, self.schedule.keep)
            except OSError as error:
                kept = f"the newest one is {self.last_good}" if self.last_good else "there is none yet"
                log.error("checkpoint of step %d could not be written (%s); %s", step, error, kept)
                if must:
                    raise

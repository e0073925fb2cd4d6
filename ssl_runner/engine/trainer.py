"""Training loop: learn, and on schedule measure, show, log and save."""

import logging
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from ssl_runner.device import ranks
from ssl_runner.device.agreement import Agreement
from ssl_runner.engine.checkpoints import load_by_first, save_from_first
from ssl_runner.engine.events import TEXTS
from ssl_runner.engine.interrupt import Interrupt, clock
from ssl_runner.engine.learner import Learner
from ssl_runner.engine.logbook import SOUNDS, LogRows, Window
from ssl_runner.engine.panels import Decode, panels, spectrogram, table
from ssl_runner.engine.progress import Progress
from ssl_runner.errors import Diverged, one_line
from ssl_runner.run_folder import checkpoint
from ssl_runner.run_folder.atomic import read_text
from ssl_runner.run_folder.layout import CHECKPOINTS, STOP

if TYPE_CHECKING:
    from ssl_runner.engine.measurements import Measurements

SAVE_AFTER = 1800.0  # seconds without a checkpoint, whatever save_every says

log = logging.getLogger("ssl_runner")


@dataclass(kw_only=True)
class Trainer:
    """One run in one folder: it logs, saves and shows pictures every so many optimizer steps.

    All ranks go through the same steps, and the first one writes. What only some of them notice (a signal, a stop file,
    a full disk, a torn checkpoint) is told to all before any of them acts on it.
    """

    learner: Learner
    folder: Path
    log_every: int
    save_every: int
    show_every: int
    keep: int  # how many checkpoints stay
    progress: Progress
    measurements: "Measurements"
    provenance: Mapping[str, Any]  # plain values about the run (config, versions), saved with each checkpoint
    on_collapse: Literal["warn", "stop"] = "warn"
    decode: Decode | None = None  # ids to text
    stopped: str = field(default="", init=False)  # why the run ended before its last step
    last_good: Path | None = field(default=None, init=False)
    restored: Mapping[str, Any] = field(default_factory=dict, init=False)  # what the run that goes on was made of
    checked: int = field(default=0, init=False)  # up to this step every loss is known to be finite
    step: int = field(default=0, init=False)  # the current one

    def __post_init__(self) -> None:
        self.length = self.learner.length
        self.loss_name = f"train/{self.learner.prefix(self.learner.main)}loss"

    def restore(self, states: Iterable[tuple[Path, dict[str, Any]]] | None = None) -> int:
        """Loads the newest readable checkpoint of the folder and returns its step; 0 if there is none.

        `states`: the checkpoints, newest first, if they are read already. Raises checkpoint.Unreadable if each is of
        another model, pretext task or optimizer.
        """
        unfit = ""
        for path, state in load_by_first(states or checkpoint.newest_first(self.folder / CHECKPOINTS)):
            try:
                self.learner.load(state)
            except (AttributeError, KeyError, RuntimeError, TypeError, ValueError) as error:
                reason = one_line(error)[:200]
                unfit = unfit or f"{path} does not fit this config ({reason})"
                continue
            self.last_good = path
            self.restored = {name: each for name, each in state.items() if name in ("config", "input")}
            self.measurements.meanings = dict(state.get("meanings", {}))
            if unfit:
                log.warning("%s; going on from the one before it", unfit)
            return state["step"]
        if unfit:
            raise checkpoint.Unreadable(unfit)
        return 0

    def fit(self, start: int, logbook: LogRows, interrupt: Interrupt) -> int:
        """Trains from `start` and returns the step that was reached: the last one, or less if it was cut off.

        Raises Diverged at a loss that is not finite, and OSError if the last checkpoint cannot be written.
        """
        self.logbook, self.window, self.checked = logbook, Window(), start
        self.progress.start, self.progress.loss = start, logbook.latest(self.loss_name)
        self.measurements.open(logbook)
        self.saved = clock()
        agreement, steps = Agreement(self.learner.device.timeout), self.length.steps
        for step in range(start, steps + 1):  # one turn more than there are steps: the end is measured and saved too
            self.step, last = step, step == steps
            asked = agreement.largest(interrupt.signal or 0)
            if asked and not last:  # at the end there is nothing left but to measure and save
                interrupt.signal = asked
                self.save(step)
                return step
            news = self.evaluate(step, last) or step == start or step % self.log_every == 0
            self.stopped = self.reason_to_stop(step) if news and not last else ""
            if self.stopped:
                self.save(step, must=True)
                return step
            if last or step % self.show_every == 0:
                self.show(step)
            if last or (step > start and step % self.save_every == 0) or (news and self.is_overdue()):
                self.save(step, must=last)
            if last:
                break
            logs = (step + 1) % self.log_every == 0 or step + 1 == steps
            self.window.add(self.learner.step(step, measure_gradient=logs))
            if logs:
                self.report(step + 1)
            self.progress.show(step + 1, self.window.seconds)
        return steps

    def evaluate(self, step: int, last: bool) -> bool:
        """Runs the evaluators that are due, if any: on validation on schedule, on test at the end."""
        due = self.measurements.due(step, last)
        for split, evaluators in due.items():
            self.check_finite(step, weights=True)
            names = ", ".join(f"{split}{name}" for name in evaluators)
            self.progress.show(step, self.window.seconds, doing=f"measuring {names}")
            with self.window.pause():
                try:
                    self.measurements.take(step, evaluators, split)
                except FloatingPointError as error:  # features can overflow although each weight is finite
                    raise Diverged(f"{error} (step {step}); {self.good}") from None
        return bool(due)

    def reason_to_stop(self, step: int) -> str:
        """Why the run must stop at this step: collapsed features or a stop file; empty if it goes on."""
        health, stop_file, reason = self.measurements.health, self.folder / STOP, ""
        if self.on_collapse == "stop" and health is not None and health.verdict == "collapsed":
            reason = str(health)
        elif step % self.log_every == 0 and stop_file.is_file():
            reason = read_text(stop_file).strip() or "it was asked to"
        return ranks.of_first(reason)

    def is_overdue(self) -> bool:
        """Whether the last checkpoint is so old that much would be lost with the machine."""
        return ranks.of_first(clock() - self.saved > SAVE_AFTER)

    def check_finite(self, step: int, weights: bool = False) -> None:
        """Raises Diverged if a loss since the last check was not finite, or a weight is not."""
        if not (self.learner.is_finite() if weights else ranks.every(bool(self.learner.finite))):
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
        self.check_finite(step)  # which waits for all ranks, and so for the device
        window, learner, seconds = self.window, self.learner, self.window.seconds
        values = window.close()
        self.progress.loss = values[self.loss_name]
        settings = learner.settings(step - 1)
        values["optimizer/lr"] = settings.lr
        if settings.weight_decay != learner.settings(0).weight_decay:  # it has a schedule
            values["optimizer/weight_decay"] = settings.weight_decay
        values["speed/samples_per_second"] = window.steps * self.length.batch_size / seconds
        values["speed/data_wait"] = learner.waited / seconds
        values["speed/peak_memory_mb"] = learner.device.peak_memory_mb()
        self.logbook.scalars(step, step / self.length.steps_per_epoch, values)
        self.progress.report(step, window.steps, seconds)
        self.window, learner.waited = Window(), 0.0

    def show(self, step: int) -> None:
        """Writes views, what the method makes of them, clips and texts to TensorBoard."""
        self.check_finite(step)
        with self.window.pause():
            last = min(step, self.length.steps - 1)  # at the end the last batch, as no other comes
            samples = self.learner.loader.samples
            shown, rate = panels(samples.kind, *self.learner.look(last)), samples.rate
            for name, images in shown.images.items():
                self.logbook.images(step, name, images)
            for name, clips in shown.sounds.items() if rate else ():  # without one nobody knows how to play them
                self.logbook.sounds(step, name, clips, rate)
                self.logbook.images(step, name, spectrogram(clips[:SOUNDS], rate))
            if shown.texts:
                self.logbook.text(TEXTS, table(shown.texts, self.decode), step)

    def save(self, step: int, must: bool = False) -> None:
        """Writes a checkpoint. A disk that refuses keeps the one before; only the last save must succeed."""
        self.check_finite(step, weights=True)
        self.saved = clock()
        with self.window.pause():
            try:
                self.logbook.flush()
                state = {**self.learner.state(), **self.provenance, "meanings": self.measurements.meanings}
                self.last_good = save_from_first(self.folder / CHECKPOINTS, step, state, self.keep)
            except OSError as error:
                log.error("checkpoint of step %d could not be written (%s); %s", step, error, self.good)
                if must:
                    raise

"""Progress of a training run: epoch, step, loss, speed and time left, as log lines and as a live line."""

import logging
import math
import time
from collections.abc import Callable

from rich.console import Console
from rich.live import Live

from ssl_runner.duration import REFRESH, Length, clock
from ssl_runner.engine.console import Terminal, live_line, styled

log = logging.getLogger("ssl_runner")

KNOWN, PATIENCE = 20, 5.0  # steps, or seconds of steps, after which the time of the whole run is forecast


class Progress:
    """Epoch, step, loss, samples/s, time left and the latest accuracies of a run.

    On a terminal a live line shows them and the log lines go to run.log alone; elsewhere the log lines are seen.
    """

    def __init__(self, console: Console, length: Length):
        self.console, self.length = console, length
        self.start = 0  # where this process began
        self.loss: float | None = None
        self.shares: dict[str, float] = {}  # by evaluator
        self.done, self.seconds = 0, 0.0  # steps that were reported, and what they took
        self.forecast: Callable[[int, float], None] | None = None  # called once, with a step and the seconds of one
        self._live = live_line(console) if console.is_terminal else None
        self._shown = 0.0

    def __enter__(self) -> "Progress":
        if self._live:
            self._live.start()
        self.share(self._live)
        return self

    def __exit__(self, *_: object) -> None:
        self.share(None)
        if self._live:
            self._live.stop()

    def share(self, live: Live | None) -> None:
        """Has phases of an evaluator draw into this live line, since a terminal shows only one."""
        if isinstance(self.console, Terminal):
            self.console.live, self.console.shared = live, live is not None

    def show(self, step: int, seconds: float, doing: str = "") -> None:
        """Refreshes the live line, `seconds` after the last report, if there is a terminal."""
        done, spent = step - self.start, self.seconds + seconds
        if self.forecast and (done >= KNOWN or (done and spent > PATIENCE)):
            tell, self.forecast = self.forecast, None
            tell(step, spent / done)
        if self._live and (doing or time.perf_counter() - self._shown > REFRESH):
            self._shown = time.perf_counter()
            line = self.line(step, step - self.start, self.seconds + seconds, doing)
            self._live.update(styled(line), refresh=True)

    def report(self, step: int, steps: int, seconds: float) -> None:
        """A log line about the last `steps` steps, which took `seconds`."""
        self.done += steps
        self.seconds += seconds
        self.tell(self.line(step, self.done, self.seconds))

    def tell(self, line: str) -> None:
        log.info(line, extra={"routine": True})

    @property
    def samples_per_second(self) -> float:
        return self.done * self.length.batch_size / self.seconds if self.seconds else 0.0

    def line(self, step: int, done: int, seconds: float, doing: str = "") -> str:
        length, rate = self.length, done / seconds if seconds else 0.0
        places = max(1, 1 - math.floor(math.log10(length.epochs)))  # decimals: two digits of a run below one epoch
        parts = [
            f"{100 * step / length.steps:3.0f} %",
            f"epoch {step / length.steps_per_epoch:.{places}f}/{length.epochs:.{places}f}",
            f"step {step}/{length.steps}",
            f"loss {self.loss:.4f}" if self.loss is not None else "",
            f"{rate * length.batch_size:,.0f} samples/s",
            f"{clock((length.steps - step) / rate)} left" if rate else "",
            *(f"{name} {100 * value:.1f} %" for name, value in self.shares.items()),
            doing,
        ]
        return "  ".join(filter(None, parts))

"""What a person sees while a run goes on: a live line on a terminal, plain log lines elsewhere."""

import logging
import time

from rich.console import Console
from rich.live import Live
from rich.text import Text

log = logging.getLogger("ssl_runner")
REFRESH = 0.25  # seconds


class Progress:
    """Epoch, step, loss, images/s, time left and the last kNN of a run of `steps` optimizer steps.

    On a terminal a live line shows them and the log lines go to run.log alone; elsewhere the log lines are seen.
    """

    def __init__(self, console: Console, *, steps: int, steps_per_epoch: int, batch_size: int):
        self.steps, self.steps_per_epoch, self.batch_size = steps, steps_per_epoch, batch_size
        self.start = 0  # where this process began
        self.loss: float | None = None
        self.measured: dict[str, float] = {}
        self.done, self.seconds = 0, 0.0  # steps that were reported, and what they took
        self._live = Live(console=console, auto_refresh=False, transient=True) if console.is_terminal else None
        self._shown = 0.0

    def __enter__(self) -> "Progress":
        if self._live:
            self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._live:
            self._live.stop()

    def show(self, step: int, seconds: float, doing: str = "") -> None:
        """Refreshes the live line, `seconds` after the last report; nothing where there is no terminal."""
        if self._live and (doing or time.perf_counter() - self._shown > REFRESH):
            self._shown = time.perf_counter()
            line = self.line(step, step - self.start, self.seconds + seconds, doing)
            self._live.update(Text(line, style="cyan", no_wrap=True, overflow="ellipsis"), refresh=True)

    def report(self, step: int, steps: int, seconds: float) -> None:
        """A log line about the last `steps` steps, which took `seconds`."""
        self.done += steps
        self.seconds += seconds
        self.tell(self.line(step, self.done, self.seconds))

    def tell(self, line: str) -> None:
        log.info(line, extra={"routine": True})

    @property
    def images_per_second(self) -> float:
        return self.done * self.batch_size / self.seconds if self.seconds else 0.0

    def line(self, step: int, done: int, seconds: float, doing: str = "") -> str:
        rate = done / seconds if seconds else 0.0
        parts = [
            f"{100 * step / self.steps:3.0f} %",
            f"epoch {step / self.steps_per_epoch:.1f}/{self.steps / self.steps_per_epoch:.4g}",
            f"step {step}/{self.steps}",
            f"loss {self.loss:.4f}" if self.loss is not None else "",
            f"{rate * self.batch_size:,.0f} images/s",
            f"{clock((self.steps - step) / rate)} left" if rate else "",
            *(f"{n.removesuffix('/top1')} {100 * v:.1f} %" for n, v in self.measured.items() if n.endswith("/top1")),
            doing,
        ]
        return "  ".join(filter(None, parts))


def clock(seconds: float) -> str:
    """Seconds as 1:05 or 2:00:05."""
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{seconds:02d}" if hours else f"{minutes}:{seconds:02d}"

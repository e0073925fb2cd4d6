"""Durations with their unit (`200ep`, `5000st`, `5%`), the length of a run in steps, time left of a phase. No torch."""

from __future__ import annotations

import logging
import re
import time
from dataclasses import dataclass
from typing import ClassVar

REFRESH, EVERY = 0.25, 10.0  # seconds between two drawings of a live line, and between two log lines of a phase

log = logging.getLogger("ssl_runner")


@dataclass(frozen=True)
class Duration:
    """A length of training with its unit: `200ep` (epochs), `5000st` (optimizer steps), `5%` (of the whole run)."""

    amount: float
    unit: str

    FORM: ClassVar = re.compile(r"(?P<amount>\d{1,12}(\.\d+)?)(?P<unit>ep|st|%)")

    @classmethod
    def parse(cls, text: str | Duration) -> Duration:
        """Raises ValueError when the text is not a number followed by `ep`, `st` or `%`."""
        if isinstance(text, Duration):
            return text
        match = cls.FORM.fullmatch(str(text).strip())
        if match is None:
            raise ValueError(f"'{text}' is not a duration; write epochs as 200ep, steps as 5000st, a share as 5%")
        return cls(float(match["amount"]), match["unit"])

    def steps(self, steps_per_epoch: int, total: int | None = None) -> int:
        """Optimizer steps, rounded to the nearest. Raises ValueError for a percentage if `total` is not known."""
        if self.unit == "st":
            return round(self.amount)
        if self.unit == "ep":
            return round(self.amount * steps_per_epoch)
        if total is None:
            raise ValueError(f"{self} is a share of the run, and this is its length; write it as 200ep or 5000st")
        return round(self.amount / 100 * total)

    def __str__(self) -> str:
        return f"{self.amount:.12g}{self.unit}"  # as many digits as it may have: never 1e+06st


@dataclass(frozen=True)
class Length:
    """How long a run is: made once, when the number of training rows is known. Nobody else stores a number of steps."""

    steps: int  # optimizer steps of the whole run
    steps_per_epoch: int
    batch_size: int  # samples of an optimizer step, over all micro-batches and ranks

    @classmethod
    def of(cls, duration: Duration, rows: int, batch_size: int) -> Length:
        """The length of a run over `rows` training rows. Raises ValueError if it is a share, or less than one step."""
        if batch_size > rows:
            raise ValueError(f"batch_size: given {batch_size}, and the dataset has {rows} training rows")
        steps_per_epoch = rows // batch_size  # the last, incomplete batch of an epoch is dropped
        try:
            steps = duration.steps(steps_per_epoch)
        except ValueError as error:
            raise ValueError(f"length: {error}") from None
        if steps < 1:
            raise ValueError(f"length: given {duration}, less than one step; an epoch has {steps_per_epoch}")
        return cls(steps, steps_per_epoch, batch_size)

    @property
    def epochs(self) -> float:
        return self.steps / self.steps_per_epoch

    def every(self, duration: Duration) -> int:
        """An interval of at least one step, from a duration."""
        return max(1, duration.steps(self.steps_per_epoch, self.steps))


class Phase:
    """A long phase of a command: the logger says how far it is, and how long it will take, while it is entered.

    Its records are `live`, for the line below what a terminal shows, and every ten seconds a `routine` one, for logs.
    """

    def __init__(self, what: str, total: int, unit: str = ""):
        self.what, self.total, self.unit, self.done = what, total, unit, 0
        self.began = self.drawn = self.said = time.monotonic()

    def __enter__(self) -> Phase:
        return self

    def __exit__(self, *_: object) -> None:
        if self.drawn > self.began:
            self.drawn = self.began
            log.info("", extra={"live": True})

    def start(self) -> None:
        """Says that it has begun, of one that will not tell how far it is."""
        self.drawn = time.monotonic()
        log.info("%s", self.what, extra={"live": True})

    def advance(self, count: int = 1) -> None:
        """Says `encoding: 4,096 of 45,000 samples, 0:12 left`, if the last time was long ago."""
        self.done, now = self.done + count, time.monotonic()
        if self.done >= self.total:
            self.__exit__()
        elif now - self.drawn >= REFRESH:
            self.say(now)

    def say(self, now: float) -> None:
        left = clock((now - self.began) * (self.total - self.done) / self.done)
        words = "%s: %s of %s %s, %s left", self.what, f"{self.done:,}", f"{self.total:,}", self.unit, left
        self.drawn = now
        log.info(*words, extra={"live": True})
        if now - self.said > EVERY:
            self.said = now
            log.info(*words, extra={"routine": True})


def clock(seconds: float) -> str:
    """Seconds as 1:05 or 2:00:05."""
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{seconds:02d}" if hours else f"{minutes}:{seconds:02d}"

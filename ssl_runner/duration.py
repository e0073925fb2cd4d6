"""Durations with their unit (`200ep`, `5000st`, `5%`) and the length of a run in steps. No torch."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import ClassVar


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
        return f"{self.amount:g}{self.unit}"


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

"""Collapse detector: whether the features of a run are healthy, shrinking or collapsed.

The verdict is a pure function of what was measured so far, each number beside the run's own at step 0, so a resumed run
says the same. It reads `geometry/std` and `geometry/rank` of the encoder's features, and the same two of the embedding
that the loss sees: if that is a projection of the features it can collapse while they live on, and then nothing is
learnt. The limits leave room for what healthy runs do: over 13 runs of nine tasks `std` fell to half of its beginning,
`rank` to a third, and that of an embedding to a quarter (CIFAR-10 and shapes, convnets and a small ViT).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

if TYPE_CHECKING:
    from ssl_runner.contract import Suspect

NAME = "geometry"  # the key of the evaluator whose numbers are read
Verdict = Literal["healthy", "shrinking", "collapsed"]
Kind = Literal["complete", "dimensional"]
SCORE: Mapping[Verdict, int] = {"healthy": 2, "shrinking": 1, "collapsed": 0}


class Threshold(NamedTuple):
    """A number that falls as features collapse. Shares are of what it was at the start, the floor taken off both."""

    name: str
    kind: Kind
    floor: float  # the least it can be
    shrinking: float  # share below which it has shrunk
    below: float  # and it is below this
    collapsed: float  # share below which it has collapsed
    point: float  # so has it below this, and below half of the start


THRESHOLDS = (  # if several have collapsed, the first one speaks
    Threshold("embedding_std", "complete", 0, 0.4, 0.3, 0.15, 0.03),
    Threshold("std", "complete", 0, 0.4, 0.15, 0.15, 0.03),
    Threshold("embedding_rank", "dimensional", 1, 0.15, math.inf, 0.1, 0),
    Threshold("rank", "dimensional", 1, 0.15, math.inf, 0.1, 0),
)
WORDS = {  # of what has shrunk, and of what has collapsed
    "complete": ("the {} draw together", "all {} are one point"),
    "dimensional": ("the {} lose directions", "the {} fill a few directions only"),
}


@dataclass(frozen=True)
class Health:
    """What a run's features are like at `step`, and since which measurement."""

    verdict: Verdict
    step: int
    kind: Kind | None = None
    since: int | None = None
    sign: str = ""  # the number that says so
    causes: Sequence[Suspect] = field(default=(), compare=False)  # the likeliest first

    @property
    def score(self) -> int:
        """2 healthy, 1 shrinking, 0 collapsed."""
        return SCORE[self.verdict]

    def __str__(self) -> str:
        if self.verdict == "healthy":
            return f"the features are healthy at step {self.step}"
        kind = f" ({self.kind})" if self.verdict == "collapsed" else ""
        when = "at" if self.verdict == "collapsed" else "since"
        return f"{self.verdict}{kind} {when} step {self.since}: {self.sign}; {self.advice}"

    @property
    def advice(self) -> str:
        if not self.causes:
            return "no setting is far from where it usually is; try a lower optimizer.lr or a larger batch_size"
        return f"likely cause: {self.causes[0].cause}; type {self.causes[0].remedy}"

    def summary(self) -> dict[str, Any]:
        """For summary.json."""
        first = self.causes[0] if self.causes else None
        return {
            "verdict": self.verdict,
            "kind": self.kind,
            "since": self.since,
            "text": str(self),
            "sign": self.sign,
            "cause": first.cause if first else None,
            "remedy": first.remedy if first else None,
            "suspects": [{"cause": each.cause, "remedy": each.remedy} for each in self.causes],
        }


def diagnose(rows: Sequence[Mapping[str, Any]]) -> Health | None:
    """The verdict on the rows of metrics.jsonl; None if geometry was not measured.

    Features have collapsed if two measurements in a row say so, and shrink if two in a row say that at least:
    a transient is neither. A collapse that one measurement alone saw is called shrinking until the next one.
    """
    history = [row for row in rows if f"{NAME}/std" in row]
    if not history:
        return None
    start, step = history[0], history[-1]["step"]
    signs = [worst_sign(row, start) for row in history[1:]]
    collapsed = streak([each is not None and each[0] == "collapsed" for each in signs])
    shrunk = streak([each is not None for each in signs])
    if shrunk == 0 or (shrunk == 1 and collapsed == 0):
        return Health("healthy", step)
    last = signs[-1]
    assert last is not None
    if collapsed >= 2:
        return Health("collapsed", step, last[1], history[-collapsed]["step"], last[2])
    sign = f"{last[2]}, seen once so far" if collapsed else last[2]
    return Health("shrinking", step, last[1], history[-shrunk]["step"], sign)


def worst_sign(row: Mapping[str, Any], start: Mapping[str, Any]) -> tuple[Verdict, Kind, str] | None:
    """The worst that a measurement says by itself: verdict, kind and sign; None if it says nothing bad."""
    shrunk: tuple[Verdict, Kind, str] | None = None
    for each in THRESHOLDS:
        key = f"{NAME}/{each.name}"
        if key not in row or key not in start:
            continue
        value, before = row[key], start[key]
        share = (value - each.floor) / max(before - each.floor, 1e-9)
        whose = "embeddings" if each.name.startswith("embedding") else "features"
        small, smallest = (words.format(whose) for words in WORDS[each.kind])
        sign = f"({each.name} {value:.2g}, {before:.2g} at the start)"
        if share < each.collapsed or (share < 0.5 and value < each.point):
            return "collapsed", each.kind, f"{smallest} {sign}"
        if share < each.shrinking and value < each.below and shrunk is None:
            shrunk = "shrinking", each.kind, f"{small} {sign}"
    return shrunk


def streak(flags: Sequence[bool]) -> int:
    """How many at the end are true."""
    return next((i for i, flag in enumerate(reversed(flags)) if not flag), len(flags))

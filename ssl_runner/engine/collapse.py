"""Collapse detector: whether the features of a run are healthy, shrinking or collapsed, and what may have caused it.

The verdict is a pure function of what was measured so far, each number beside the run's own at step 0, so a resumed run
says the same. It reads `geometry/std` and `geometry/rank` of the encoder's features, and the same two of the embedding
that the loss sees: if that is a projection of the features it can collapse while they live on, and then nothing is
learnt. The limits leave room for what healthy runs do: over 13 runs of nine tasks `std` fell to half of its beginning,
`rank` to a third, and that of an embedding to a quarter (CIFAR-10 and shapes, convnets and a small ViT).
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice, takewhile
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import torch
from torch.func import functional_call

from ssl_runner.contract import Batch, Metric, Suspect
from ssl_runner.device import ranks
from ssl_runner.device.strategy import gathered
from ssl_runner.engine.dead_targets import find_remedies, find_sign
from ssl_runner.errors import plural
from ssl_runner.layers.gather import gather
from ssl_runner.loss.embedding import unit
from ssl_runner.probing.geometry import centred_rank, unit_std

if TYPE_CHECKING:
    from ssl_runner.engine.learner import Learner

NAME = "geometry"  # the key of the evaluator whose numbers are read
SAMPLES = 32  # that the embedding is measured on, from as many batches as it takes
Verdict = Literal["collapsed", "shrinking", "healthy"]
Kind = Literal["complete", "dimensional"]
SCORE: Mapping[Verdict, int] = {"collapsed": 0, "shrinking": 1, "healthy": 2}


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

    def __str__(self) -> str:
        if self.verdict == "healthy":
            return f"the features are healthy at step {self.step}"
        when = f"({self.kind}) at" if self.verdict == "collapsed" else "since"
        advice = "no setting is far from its usual value; try a lower optimizer.lr or a larger batch_size"
        if self.causes:
            advice = f"likely cause: {self.causes[0].cause}; type {self.causes[0].remedy}"
        return f"{self.verdict} {when} step {self.since}: {self.sign}; {advice}"

    def summary(self) -> dict[str, Any]:
        """For summary.json."""
        suspects = [{"cause": each.cause, "remedy": each.remedy} for each in self.causes]
        likeliest = suspects[0] if suspects else {"cause": None, "remedy": None}
        said = {"verdict": self.verdict, "kind": self.kind, "since": self.since, "text": str(self), "sign": self.sign}
        return {**said, **likeliest, "suspects": suspects}


def diagnose(rows: Sequence[Mapping[str, Any]]) -> Health | None:
    """The verdict on the rows of metrics.jsonl; None if geometry was not measured.

    Features have collapsed if two measurements in a row say so, and shrink if two in a row say that at least:
    a transient is neither. A collapse that one measurement alone saw is called shrinking until the next one, and so are
    healthy features whose targets are dead, see dead_targets.py.
    """
    history = [row for row in rows if f"{NAME}/std" in row]
    if not history:
        return None
    start, step = history[0], history[-1]["step"]
    newest = [worst_sign(row, start) for row in reversed(history[1:])]
    shrunk = list(takewhile(lambda sign: sign is not None, newest))
    collapsed = list(takewhile(lambda sign: sign is not None and sign[0] == "collapsed", newest))
    if not shrunk or (len(shrunk) == 1 and not collapsed):
        dead = find_sign(rows)
        return Health("shrinking", step, None, dead.since, dead.text) if dead else Health("healthy", step)
    assert newest[0] is not None
    _, kind, sign = newest[0]
    if len(collapsed) >= 2:
        return Health("collapsed", step, kind, history[-len(collapsed)]["step"], sign)
    once = ", seen once so far" if collapsed else ""
    return Health("shrinking", step, kind, history[-len(shrunk)]["step"], sign + once)


def worst_sign(row: Mapping[str, Any], start: Mapping[str, Any]) -> tuple[Verdict, Kind, str] | None:
    """Verdict, kind and sign of the worst number of one measurement; None if all numbers are healthy."""
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


def measure_embedding(learner: Learner) -> dict[str, Metric]:
    """`geometry/embedding_std` and `geometry/embedding_rank` of what the loss sees, on the run's first batches.

    Nothing if the method has no embedding, or if it is the encoder's features themselves. Each rank gives its share.
    The network is in training mode, as its loss is, and is left as it was: the pass works on copies of its buffers.
    """
    pooled: list[torch.Tensor] = []
    pretext, parts = learner.pretext, []
    hook = pretext.encoder.register_forward_hook(lambda module, given, features: pooled.append(features.pooled))
    try:
        learner.first_samples = learner.first_samples or read_first_samples(learner)
        for step, stride, few in learner.first_samples:
            views = learner.views(few, step, learner.main, stride=stride)
            buffers = {name: buffer.clone() for name, buffer in pretext.named_buffers()}
            with torch.no_grad(), learner.device.autocast(), gathered(learner.objective):
                embedding = functional_call(pretext, buffers, (views, learner.main)).embedding
            if embedding is None or any(each is embedding for each in pooled):
                return {}
            parts.append(embedding.float())
    finally:
        hook.remove()
    z = gather(torch.cat(parts))
    values = {"embedding_std": unit_std(unit(z)), "embedding_rank": centred_rank(z)} if z.isfinite().all() else {}
    return {f"{NAME}/{name}": Metric(value, None, "number") for name, value in values.items()}


def read_first_samples(learner: Learner) -> list[tuple[int, int, Batch]]:
    """A few samples of the first micro-batches, each with its step and their distance in the micro-batch."""
    loader, some = learner.loader, SAMPLES // ranks.count()
    batches = ((step, batch) for step in range(learner.length.steps) for batch in loader.batches(step))
    found = []
    for step, batch in islice(batches, math.ceil(SAMPLES * loader.accumulate / loader.length.batch_size)):
        stride = max(1, len(batch.x) // some)  # so that 2, 4, 8 ranks have the samples that one process has
        found.append((step, stride, Batch(*(each[::stride][:some].clone() for each in (batch.x, batch.index)))))
    return found


def find_causes(learner: Learner, rows: Sequence[Mapping[str, Any]]) -> list[Suspect]:
    """The settings that may have caused a collapse, the likeliest first: the method's own, and those of any run."""
    causes = [*learner.pretext.suspects(), *find_remedies(find_sign(rows), learner.pretext)]
    loader, recipe = learner.loader, learner.recipe
    batch_size = loader.length.batch_size
    together = batch_size // loader.accumulate
    if together < 16 and any(f"{NAME}/embedding_std" in row for row in rows):
        meet = f"{plural(together, 'sample')} {'meets' if together == 1 else 'meet'}"
        cause = f"batch_size={batch_size} with accumulate={loader.accumulate}, so {meet}"
        remedy = "batch_size=64 accumulate=1" if loader.accumulate > 1 else "batch_size=64"
        causes.append(Suspect(cause, remedy, 0.7 if together < 8 else 0.4))
    usual = inspect.signature(type(recipe)).parameters
    for name, attribute in (("lr", "peak"), ("weight_decay", "weight_decay")):
        value, default = getattr(recipe, attribute, 0.0), usual[name].default if name in usual else None
        if isinstance(default, float) and default > 0 and value >= 5 * default:
            cause = f"optimizer.{name} of {value:.4g}, {value / default:,.0f} times the usual {default:g}"
            causes.append(Suspect(cause, f"optimizer.{name}={default:g}", min(0.95, 0.4 * (value / default) ** 0.15)))
    newest = {name: value for row in rows for name, value in row.items()}
    loss = abs(newest.get(f"train/{learner.prefix(learner.main)}loss", torch.inf))
    for name, value in newest.items():
        if name.startswith("regulariser/") and value > 10 * loss:
            causes.append(Suspect(f"{name} is {value:.3g} beside a loss of {loss:.3g}", "regulariser=none", 0.8))
    return sorted(causes, key=lambda each: -each.weight)

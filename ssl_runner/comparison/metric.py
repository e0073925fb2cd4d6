"""What the name of a metric says: where it was measured, what goes with it, and whether larger is better."""

import re
from collections.abc import Mapping, Sequence
from typing import Protocol

DEFAULTS = ("probe/top1", "knn/top1")
STAGES = ("baseline", "best", "gain", "test")  # before the name of an evaluator, in a metric from summary.json
SPLITS = ("train/", "validation/", "test/")  # before that of a protocol, in one from evaluation/
# Protocols all of whose numbers say how much of the truth is found, half widths of intervals apart. A summary writes
# test/few_label_mean, an evaluation test/few_label/mean.
OF_SUCCESS = re.compile(r"(^|/)(few_label|robustness|factors)[/_].+(?<!_interval)$")
SUCCESS = re.compile(r"(^|[/_])(top\d+|accuracy|nmi|ari|purity)(_clean)?$")
FAILURE = re.compile(r"(^|[/_])(loss|error|leaked_share)$")
SHARE = re.compile(
    r"(top\d+|top\d+_clean|accuracy|nmi|purity|_share)$|(^|/)(few_label|robustness)[/_]"
)  # in state.js too


class Configured(Protocol):
    @property
    def settings(self) -> Mapping[str, str]: ...


def plain(metric: str | None) -> str:
    """Without `@dataset` and `#way`."""
    return (metric or "").partition("@")[0].partition("#")[0]


def is_share(metric: str | None) -> bool:
    """Whether it is told in per cent."""
    return bool(SHARE.search(plain(metric)))


def larger_is_better(metric: str | None) -> bool | None:
    """True for agreement with the truth, False for losses and errors; None of all else, of which it is not known.

    Rank, alignment, a probe's l2 or an epoch describe a run, and none of them is better when larger at every size.
    """
    name = plain(metric)
    if SUCCESS.search(name) or OF_SUCCESS.search(name):
        return True
    return False if FAILURE.search(name) else None


def default(metrics: Sequence[str]) -> str | None:
    """What is compared where nothing was asked for: of numbers at the end, one that is better when larger."""
    known = [name for name in metrics if larger_is_better(name) and not name.startswith(("baseline/", "best/"))]
    return next((name for name in (*DEFAULTS, *known) if name in known), None)


def evaluator_of(metric: str | None, runs: Sequence[Configured]) -> str | None:
    """The evaluator of the config that a metric came from, if any: probe of probe/top1 and of test/probe_top1."""
    if metric is None or (metric.count("/") == 2 and metric.startswith(SPLITS)) or metric.count("/") > 2:
        return None
    stage, _, rest = metric.partition("/")
    word = rest if stage in STAGES else stage
    known = {key.split(".")[1] for run in runs for key in run.settings if key.startswith("evaluator.")}
    return max(
        (name for name in known if word.startswith((f"{name}/", f"{name}_")) or word == name), key=len, default=None
    )


def companions(metric: str | None) -> tuple[str | None, str | None]:
    """The names of a metric of the random encoder, and on the test split."""
    if metric is None or metric.split("/")[0] in ("baseline", "best", "gain"):
        return None, None
    if metric.count("/") == 1 and not metric.startswith("test/"):
        return f"baseline/{metric}", f"test/{metric.replace('/', '_')}"
    if metric.count("/") == 1:
        return None, None
    return f"baseline/{metric}", f"test/{metric.partition('/')[2]}" if metric.startswith("validation/") else None

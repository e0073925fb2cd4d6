"""Runs as groups of equal settings, each group judged over its seeds."""

import difflib
import math
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from ssl_runner.comparison import evaluated, fairness
from ssl_runner.comparison.judge import Group, judge, mark_front
from ssl_runner.comparison.record import Run
from ssl_runner.comparison.settings import GROUPS, described, differing
from ssl_runner.comparison.statistics import interval

DEFAULTS = ("probe/top1", "knn/top1")
STAGES = ("baseline", "best", "gain", "test")  # before the name of an evaluator, in a metric from summary.json
SPLITS = ("train/", "validation/", "test/")  # before that of a protocol, in one from evaluation/
COMMON = (*GROUPS[:-1], "length", "batch_size")


@dataclass
class Comparison:
    """All that is shown of runs, in whatever form."""

    metric: str | None
    larger: bool  # is better
    keys: list[str]  # the settings that differ
    common: dict[str, str]
    groups: list[Group]  # the best first
    best: bool  # the first is shown to be the best
    unfinished: list[Run]
    metrics: list[str]  # that could have been asked for
    runs: list[Run] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    verdict: str = ""


class Unknown(ValueError):
    """No run has such a metric."""


def compare(runs: Sequence[Run], metric: str | None = None, smaller: bool = False) -> Comparison:
    """Puts completed runs into groups and judges them by a metric. Raises Unknown where no run has it."""
    offered, ambiguous = evaluated.offer(runs)
    runs = [replace(run, metrics={**run.metrics, **more}) for run, more in zip(runs, offered, strict=True)]
    done = [run for run in runs if run.completed]
    counted = Counter(name for run in done for name in run.metrics)
    metrics = sorted(counted, key=lambda name: ("/" in name and name.split("/")[0] in STAGES, name))
    if metric is None:
        metric = next((name for name in (*DEFAULTS, *metrics) if name in counted), None)
    elif done and metric not in counted:
        near = difflib.get_close_matches(metric, metrics, 3, 0.4) or metrics[:8]
        raise Unknown(f"{metric}: no completed run has it; possible are {', '.join(near) or 'none'}")
    larger = not smaller and not (metric or "").endswith(("loss", "error"))
    keys = differing(done, evaluator_of(metric, done))
    grouped: dict[tuple[str, ...], list[Run]] = defaultdict(list)
    for run in done:
        has = described(run)
        grouped[tuple(has.get(key, "-") for key in keys)].append(run)
    groups = [group(dict(zip(keys, values, strict=True)), members, metric) for values, members in grouped.items()]
    sign = -1 if larger else 1
    groups.sort(key=lambda each: sign * each.interval.mean if each.interval else math.inf)
    best, verdict = judge(groups, larger) if comparable(metric, keys) else (False, "")
    mark_front(groups, larger)
    first = described(done[0]) if done else {}
    same = {key: first[key] for key in COMMON if key in first and key not in keys}
    comparison = Comparison(
        metric=metric,
        larger=larger,
        keys=keys,
        common={key: value for key, value in same.items() if all(described(run).get(key) == value for run in done)},
        groups=groups,
        best=best,
        unfinished=[run for run in runs if not run.completed],
        metrics=metrics,
        runs=list(runs),
        verdict=verdict,
    )
    comparison.warnings = [*cautions(comparison, ambiguous), *fairness.warnings(done, [each.runs for each in groups])]
    return comparison


def comparable(metric: str | None, keys: Sequence[str]) -> bool:
    """Whether all values are of the same task: the dataset is the same, or all were measured on another one."""
    return not {"dataset", "dataset.root"} & {*keys} or "@" in (metric or "")


def evaluator_of(metric: str | None, runs: Sequence[Run]) -> str | None:
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


def group(settings: dict[str, str], runs: list[Run], metric: str | None) -> Group:
    baseline, test = companions(metric)
    values, tested = by_seed(runs, metric), by_seed(runs, test)
    random = by_seed(runs, baseline)

    def mean(numbers: Sequence[float]) -> float:
        return sum(numbers) / len(numbers)

    return Group(
        settings=settings,
        runs=sorted(runs, key=lambda run: (run.seed, run.name)),
        values=values,
        interval=interval([*values.values()]) if values else None,
        baseline=mean([*random.values()]) if random else None,
        test=interval([*tested.values()]) if tested else None,
        seconds=mean([run.seconds for run in runs]),
        images_seen=mean([run.images_seen for run in runs]),
        images_per_second=mean([run.images_per_second for run in runs]),
        steps=mean([run.step for run in runs]),
    )


def by_seed(runs: Sequence[Run], metric: str | None) -> dict[int, float]:
    """A metric by seed, of the runs that have it. Two runs of one seed are no two draws: their mean counts once."""
    found: dict[int, list[float]] = defaultdict(list)
    for run in runs:
        if metric is not None and metric in run.metrics:
            found[run.seed].append(run.metrics[metric])
    return {seed: sum(values) / len(values) for seed, values in sorted(found.items())}


def cautions(made: Comparison, ambiguous: dict[str, str]) -> list[str]:
    """What to know of the numbers themselves."""
    lines = [line for name, line in ambiguous.items() if name in ("", (made.metric or "").partition("#")[0])]
    if not comparable(made.metric, made.keys):
        lines.append("the datasets differ, and numbers on different data are not ranked by their differences")
    elif data := [key for key in made.keys if key.startswith("dataset.")]:
        lines.append(f"{', '.join(data)} differs: so may the rows that were measured, and not what was learnt alone")
    if measured := [key for key in made.keys if key.startswith("evaluator.")]:
        lines.append(f"{made.metric} was not measured in the same way everywhere: {', '.join(measured)} differs")
    done = [run for run in made.runs if run.completed]
    without = sum(made.metric not in run.metrics for run in done)
    if made.metric and without:
        lines.append(f"{made.metric} was not measured in {without} of {len(done)} completed runs")
    if ill := [f"{run.name} ({run.health})" for run in done if run.health not in (None, "healthy")]:
        lines.append(
            f"features were not healthy at the end of {len(ill)} runs: {', '.join(ill[:3])}{', ...' * (len(ill) > 3)}"
        )
    if again := sum(len(each.runs) - len({run.seed for run in each.runs}) for each in made.groups):
        repeat = "run repeats" if again == 1 else "runs repeat"
        lines.append(f"{again} {repeat} settings and seed of another: those of one seed count once, by their mean")
    return lines

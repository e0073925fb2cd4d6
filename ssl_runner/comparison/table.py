"""Runs as groups of equal settings, each group judged over its seeds."""

import difflib
import math
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from ssl_runner.comparison import evaluated, fairness
from ssl_runner.comparison.data import DATA, comparable, told_apart
from ssl_runner.comparison.judge import Group, judge, mark_front
from ssl_runner.comparison.metric import STAGES, companions, default, evaluator_of, larger_is_better
from ssl_runner.comparison.record import Run
from ssl_runner.comparison.settings import described, differing
from ssl_runner.comparison.statistics import interval
from ssl_runner.run_folder.layout import GROUPS

COMMON = (*GROUPS[:-1], "length", "batch_size")


@dataclass
class Comparison:
    """All that is shown of runs, in whatever form."""

    metric: str | None
    larger: bool | None  # is better; None where that is not known, and then nothing is judged
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


def compare(runs: Sequence[Run], metric: str | None = None, smaller: bool = False, larger: bool = False) -> Comparison:
    """Puts completed runs into groups and judges them by a metric. Raises Unknown where no run has it.

    `smaller` or `larger` says what is better, where the metric's name does not say it or is not to be believed.
    """
    offered, ambiguous = evaluated.offer(runs)
    runs = [replace(run, metrics={**run.metrics, **more}) for run, more in zip(told_apart(runs), offered, strict=True)]
    done = [run for run in runs if run.completed]
    counted = Counter(name for run in done for name in run.metrics)
    metrics = sorted(counted, key=lambda name: ("/" in name and name.split("/")[0] in STAGES, name))
    if metric is None:
        metric = default(metrics)
    elif done and metric not in counted:
        near = difflib.get_close_matches(metric, metrics, 3, 0.4) or metrics[:8]
        raise Unknown(f"{metric}: no completed run has it; possible are {', '.join(near) or 'none'}")
    upward = larger if smaller or larger else larger_is_better(metric)
    keys = differing(done, evaluator_of(metric, done))
    grouped: dict[tuple[str, ...], list[Run]] = defaultdict(list)
    for run in done:
        has = described(run)
        grouped[tuple(has.get(key, "-") for key in keys)].append(run)
    groups = [group(dict(zip(keys, values, strict=True)), members, metric) for values, members in grouped.items()]
    sign = 1 if upward is False else -1
    groups.sort(key=lambda each: sign * each.interval.mean if each.interval else math.inf)
    best, verdict = False, unjudged(metric, metrics) if upward is None else ""
    if upward is not None and comparable(metric, keys):
        best, verdict = judge(groups, upward)
        mark_front(groups, upward)
    first = described(done[0]) if done else {}
    same = {key: first[key] for key in COMMON if key in first and key not in keys}
    comparison = Comparison(
        metric=metric,
        larger=upward,
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


def unjudged(metric: str | None, metrics: Sequence[str]) -> str:
    """Why nothing is judged, where it is not known what is better."""
    if metric is not None:
        return (
            f"Nothing is judged, since it is not known whether larger {metric} is better: type --larger or --smaller."
        )
    possible = [name for name in metrics if not name.startswith("baseline/")][:8]
    return f"No accuracy was measured; --metric takes {', '.join(possible)}." if possible else ""


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


def cautions(made: Comparison, ambiguous: dict[str, list[str]]) -> list[str]:
    """What to know of the numbers themselves."""
    concerned = ("", (made.metric or "").partition("#")[0])
    lines = [line for name, several in ambiguous.items() if name in concerned for line in several]
    if not comparable(made.metric, made.keys):
        lines.append("the datasets differ, and numbers on different data are not ranked by their differences")
    elif data := [key for key in made.keys if key.startswith("dataset.") or key == DATA]:
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

"""Comparison of runs: groups of equal settings, each judged over its seeds."""

import difflib
import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from ssl_runner.comparison.fairness import comparable, comparison_warnings, mark_other_data
from ssl_runner.comparison.run import ABSENT, STAGES, Meaning, Run, base_name, better_of, companions, name_metrics
from ssl_runner.comparison.settings import ORDER, differing
from ssl_runner.comparison.statistics import Group, interval, judge_groups
from ssl_runner.errors import plural
from ssl_runner.run_folder.metrics import new_name
from ssl_runner.run_folder.summary import RANKED_BY

COMMON = (*(group for group in ORDER if group != "device"), "length", "batch_size")


@dataclass(kw_only=True)
class Comparison:
    """All that is shown of runs, in whatever form."""

    metric: str | None
    larger: bool | None  # is better; None if that is not known, and then nothing is judged
    keys: list[str]  # the settings that differ
    common: dict[str, str]
    groups: list[Group]  # the best first
    metrics: list[str]  # that could have been asked for
    meanings: Mapping[str, Meaning]  # by base name
    runs: list[Run]
    warnings: list[str]
    best: bool = False  # the first is shown to be the best
    verdict: str = ""

    @property
    def unfinished(self) -> list[Run]:
        return [run for run in self.runs if not run.completed]

    def is_share(self, metric: str | None) -> bool:
        """Whether a metric is shown in per cent."""
        return self.meanings.get(base_name(metric), {}).get("unit") == "share"

    def larger_is_better(self, metric: str | None) -> bool | None:
        """None if it is not known, or if the groups are not ranked by it."""
        better = better_of(metric, self.meanings)
        known = self.larger if metric == self.metric else None if better is None else better == "larger"
        return known if comparable(metric, self.keys) else None


class Unknown(ValueError):
    """No run has this metric."""


def compare(runs: Sequence[Run], metric: str | None = None, smaller: bool = False, larger: bool = False) -> Comparison:
    """Puts completed runs into groups and judges them by a metric. Raises Unknown if no run has it.

    `smaller` or `larger` says what is better, if the runs do not or are not to be believed.
    """
    values, meanings, ways = name_metrics(runs)
    runs = [replace(run, metrics=own) for run, own in zip(mark_other_data(runs), values, strict=True)]
    done = [run for run in runs if run.completed]
    names = sorted({name for run in done for name in run.metrics})
    names.sort(key=lambda name: name.partition("/")[0] in (*STAGES, "test"))
    better = {name: better_of(name, meanings) for name in names}
    said: list[str] = []
    if metric is None:
        metric, said = default_metric(done, better)
    elif done:
        metric = find_metric(metric, names)
    keys = differing(done)
    members: dict[tuple[str, ...], list[Run]] = defaultdict(list)
    for run in done:
        members[tuple(run.traits.get(key, ABSENT) for key in keys)].append(run)
    shared = {key: {run.traits.get(key) for run in done} for key in COMMON if done and key not in keys}
    direction = better.get(metric or "")
    comparison = Comparison(
        metric=metric,
        larger=larger if smaller or larger else None if direction is None else direction == "larger",
        keys=keys,
        common={key: value for key, (value, *others) in shared.items() if value is not None and not others},
        groups=[make_group(dict(zip(keys, key, strict=True)), group, metric) for key, group in members.items()],
        metrics=names,
        meanings=meanings,
        runs=runs,
        warnings=said + comparison_warnings(runs, [*members.values()], keys, metric, ways.get(base_name(metric), {})),
    )
    rank_groups(comparison)
    return comparison


def rank_groups(comparison: Comparison) -> None:
    """Sorts the groups, the best first, and judges them."""
    groups, larger, metric = comparison.groups, comparison.larger, comparison.metric
    sign = 1 if larger is False else -1
    groups.sort(key=lambda each: sign * each.interval.mean if each.interval else math.inf)
    if metric is None:
        possible = [name for name in comparison.metrics if not name.startswith(("raw/", "baseline/"))][:8]
        comparison.verdict = f"No accuracy was measured; --metric takes {', '.join(possible)}." if possible else ""
    elif larger is None:
        unknown = f"it is not known whether larger {metric} is better"
        comparison.verdict = f"Nothing is judged, since {unknown}: type --larger or --smaller."
    elif comparable(metric, comparison.keys):  # else a warning says why nothing is judged
        comparison.best, comparison.verdict = judge_groups(groups, larger)


def default_metric(runs: Sequence[Run], better: Mapping[str, str | None]) -> tuple[str | None, list[str]]:
    """The metric that is compared if none was typed: one of the end of training that is better when larger.

    Of kNN, the probe and other headlines it is the first that most runs have; with a line if that leaves another out.
    """
    headlines = dict.fromkeys((*RANKED_BY, *(name for run in runs for name in run.headlines)))
    named = [name for name in headlines if better.get(name) == "larger"]
    if not named:
        others = (name for name in better if name.partition("/")[0] not in ("raw", "baseline", "best"))
        return next((name for name in others if better[name] == "larger"), None), []
    counts = {name: sum(name in run.metrics for run in runs) for name in named}
    most = max(named, key=lambda name: counts[name])
    if most == named[0]:
        return most, []
    having = counts[named[0]]
    fewer = f"only {having} of {plural(len(runs), 'completed run')} {'has' if having == 1 else 'have'}"
    return most, [f"compared by {most}, as {fewer} {named[0]}; to compare these, type --metric {named[0]}"]


def find_metric(metric: str, metrics: Sequence[str]) -> str:
    """A metric by the name that was typed, also by one of version 0.1: test/knn_top1. Raises Unknown."""
    typed = metric.removeprefix("validation/").removeprefix("train/")
    name = next((each for each in (metric, typed, new_name(typed)) if each in metrics), None)
    if name is None:
        near = difflib.get_close_matches(metric, metrics, 3, 0.4) or metrics[:8]
        raise Unknown(f"{metric}: no completed run has it; possible are {', '.join(near) or 'none'}")
    return name


def make_group(settings: dict[str, str], runs: list[Run], metric: str | None) -> Group:
    values, raw, random, tested = (by_seed(runs, name) for name in (metric, *companions(metric)))
    return Group(
        settings=settings,
        runs=sorted(runs, key=lambda run: (run.seed, run.name)),
        values=values,
        interval=interval([*values.values()]) if values else None,
        raw=sum(raw.values()) / len(raw) if raw else None,
        baseline=sum(random.values()) / len(random) if random else None,
        test=interval([*tested.values()]) if tested else None,
    )


def by_seed(runs: Sequence[Run], metric: str | None) -> dict[int, float]:
    """A metric by seed, of the runs that have it. Two runs of one seed are no two draws: their mean counts once."""
    values: dict[int, list[float]] = defaultdict(list)
    for run in runs:
        if metric is not None and metric in run.metrics:
            values[run.seed].append(run.metrics[metric])
    return {seed: sum(each) / len(each) for seed, each in sorted(values.items())}

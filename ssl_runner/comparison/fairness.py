"""Fairness of a comparison: code, libraries, data and machine that differ although the settings do not say so."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

from ssl_runner.comparison.settings import DATA, data_settings
from ssl_runner.comparison.wording import list_counts, plural

if TYPE_CHECKING:
    from ssl_runner.comparison.record import Run

SHOWN = 8  # digits of a fingerprint


def mark_other_data(runs: Sequence[Run]) -> list[Run]:
    """The runs, with the fingerprint as a setting `data` if those of equal dataset settings have several.

    An image folder whose files have changed since is another dataset, whatever the config says. A fingerprint that is
    not known tells nothing apart, unless the others differ.
    """
    prints: dict[tuple[tuple[str, str], ...], set[str]] = defaultdict(set)
    for run in runs:
        if run.completed and (known := run.environment.get("dataset")):
            prints[data_settings(run)].add(str(known))
    return [
        replace(run, settings={**run.settings, DATA: str(run.environment.get("dataset") or "unknown")[:SHOWN]})
        if len(prints[data_settings(run)]) > 1
        else run
        for run in runs
    ]


def comparable(metric: str | None, keys: Sequence[str]) -> bool:
    """Whether all values are of the same task: the data are the same, or all were measured on another dataset."""
    return not {"dataset", DATA} & {*keys} or "@" in (metric or "")


def fairness_warnings(runs: Sequence[Run], groups: Sequence[Sequence[Run]]) -> list[str]:
    """A line for each fact that differs between runs that are compared."""
    known = [run for run in runs if run.environment.get("versions")]
    lines = []
    if n := len(runs) - len(known):
        has = f"{plural(n)} {'has' if n == 1 else 'have'} no readable environment.json"
        lines.append(f"{has}: whether code and data are the same is not known")
    facts: dict[str, Callable[[Run], Any]] = {"commit": commit}
    facts |= {name: partial(version, name) for run in known for name in versions(run)}
    for name, fact in facts.items():
        lines += differing_fact(name, known, groups, fact, "the comparison may not be fair")
    of_data = defaultdict(list)  # another dataset has another fingerprint, as it should
    for run in known:
        of_data[data_settings(run)].append(run)
    for same in of_data.values():
        lines += differing_fact("dataset fingerprint", same, groups, fingerprint, "not the same data")
    for name, fact in {"device": device, "host": lambda run: run.environment.get("host")}.items():
        lines += differing_fact(name, known, groups, fact, "seconds and samples/s are not comparable")
    return lines


def differing_fact(
    name: str, runs: Sequence[Run], groups: Sequence[Sequence[Run]], fact: Callable[[Run], Any], so: str
) -> list[str]:
    counts = Counter(str(fact(run) or "unknown") for run in runs)
    if len(counts) < 2:
        return []
    within = any(len({str(fact(run)) for run in group if run in runs}) > 1 for group in groups)
    return [f"{name} differs{', also between seeds of one group' * within}: {list_counts(counts)}; {so}"]


def versions(run: Run) -> dict[str, Any]:
    content = run.environment.get("versions")
    return content if isinstance(content, dict) else {}


def version(name: str, run: Run) -> Any:
    return versions(run).get(name)


def fingerprint(run: Run) -> Any:
    return run.environment.get("dataset")


def commit(run: Run) -> str | None:
    """Short commit, and four digits of the changes that were not committed."""
    known = run.environment.get("commit")
    changes = run.environment.get("changes") or ("unknown" if run.environment.get("dirty") else None)
    return known and f"{str(known)[:8]}{f' with changes {changes}' if changes else ''}"


def device(run: Run) -> str:
    """Without the precision, which is a setting."""
    words = str(run.environment.get("device", "unknown")).split(", ")
    return ", ".join(word for word in words if word != run.settings.get("device.precision"))

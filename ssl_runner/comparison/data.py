"""Whether runs saw the same data: equal settings of a dataset do not say it, its fingerprint does."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace

from ssl_runner.comparison.record import Run
from ssl_runner.comparison.settings import DATA, data_settings

SHOWN = 8  # digits of a fingerprint
OTHER = {"dataset", "dataset.root", DATA}  # settings that make numbers those of another task


def told_apart(runs: Sequence[Run]) -> list[Run]:
    """The runs, with the fingerprint as a setting `data` where those of equal dataset settings have several.

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
    return not OTHER & {*keys} or "@" in (metric or "")

"""Settings of runs: configs as flat settings, and those of them that tell runs apart."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from ssl_runner.run_folder.layout import GROUPS, HARMLESS

if TYPE_CHECKING:
    from ssl_runner.comparison.record import Run

ORDER = ("pretext", *(group for group in GROUPS if group != "pretext"))  # of columns
IGNORED = HARMLESS | {
    "seed",
    "device",
}  # `seed` is what runs are averaged over; below the choice of a device are settings
DATA = "data"  # the fingerprint, as a setting of runs of equal dataset settings that saw other data
ABSENT = "-"


def text(value: Any) -> str:
    """A value as it is typed on the command line: null, true, 0.001, [32,64,128]. 1 and 1.0 are the same."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, (int, float)):
        return f"{value:.10g}"
    if isinstance(value, (list, tuple)):
        return f"[{','.join(text(each) for each in value)}]"
    return str(value)


def flat(node: Any, prefix: str = "") -> dict[str, str]:
    """Leaves by their whole key. A list of plain values is one leaf; one that holds mappings has a key for each."""
    if isinstance(node, list) and any(isinstance(each, (dict, list)) for each in node):
        node = dict(enumerate(node))
    if not isinstance(node, dict):
        return {prefix: text(node)}
    leaves: dict[str, str] = {}
    for key, value in node.items():
        leaves |= flat(value, f"{prefix}.{key}" if prefix else str(key))
    return leaves if leaves or not prefix else {prefix: "{}"}


def choices_of(config: Mapping[str, Any]) -> dict[str, str]:
    """The choice of each group, by the path at which it is mounted; the class if no choice is recorded."""
    recorded = config.get("choices")
    choices = {}
    for group, choice in (recorded if isinstance(recorded, dict) else {}).items():
        path = str(group).partition("@")[2] or str(group)
        path = path.removeprefix("_global_.").replace("/", ".")
        if path != "experiment" and not path.startswith(("hydra", "evaluator")):
            choices[path] = str(choice)
    for group in ORDER:
        node = config.get(group)
        if group not in choices and isinstance(node, dict) and isinstance(node.get("_target_"), str):
            choices[group] = node["_target_"].rpartition(".")[2]
    return choices


def describe(run: Run) -> dict[str, str]:
    """Choices and settings together. A setting that is null is absent, as in a version that did not have it yet.

    The class of a group is left out: its choice says the same.
    """
    settings = {key: ABSENT if value == "null" else value for key, value in run.settings.items()}
    return {**run.choices, **{key: value for key, value in settings.items() if not key.endswith("_target_")}}


def data_settings(run: Run) -> tuple[tuple[str, str], ...]:
    """Which dataset was chosen, and its settings: those that can change what is in it."""
    rows = [(key, value) for key, value in run.settings.items() if key.startswith("dataset.") and key not in IGNORED]
    return ("dataset", run.choices.get("dataset", ABSENT)), *sorted(rows)


def differing(runs: Sequence[Run]) -> list[str]:
    """Keys that tell runs apart: each choice, and the settings that vary among runs of the same choices.

    If `optimizer` differs, a key below it is implied by the choice unless it varies among runs of one choice. Settings
    of evaluators cannot change what was learnt. A `seed` below a group that follows the run's is a seed.
    """
    every = [describe(run) for run in runs]
    paths = list(dict.fromkeys(path for run in runs for path in run.choices if path != "device"))
    keys = []
    for key in dict.fromkeys(key for each in every for key in each):
        if key in IGNORED or key.partition(".")[0] in ("choices", "hydra", "evaluator"):
            continue
        above = [path for path in paths if key.startswith(f"{path}.")]
        values: dict[tuple[str | None, ...], set[str]] = defaultdict(set)
        for run, each in zip(runs, every, strict=True):
            values[tuple(run.choices.get(path) for path in above)].add(each.get(key, ABSENT))
        if all(len(each) == 1 for each in values.values()):
            continue
        if key.endswith("seed") and all(each.get(key) == str(run.seed) for run, each in zip(runs, every, strict=True)):
            continue
        keys.append(key)
    heads = ["dataset" if key == DATA else key.partition(".")[0] for key in keys]
    place = {key: ORDER.index(head) if head in ORDER else len(ORDER) for key, head in zip(keys, heads, strict=True)}
    return sorted(keys, key=lambda key: (place[key], key not in paths))


def shorten(keys: Sequence[str], taken: Sequence[str] = ()) -> dict[str, str]:
    """The shortest end of each key that no other key has, and that is not taken."""
    names = {}
    for key in keys:
        parts = key.split(".")
        ends = [".".join(parts[-n:]) for n in range(1, len(parts) + 1)]
        others = [f".{other}" for other in keys if other != key]
        free = (end for end in ends if end not in taken and not any(other.endswith(f".{end}") for other in others))
        names[key] = next(free, key)
    return names

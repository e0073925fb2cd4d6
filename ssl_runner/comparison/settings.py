"""Settings of runs: nested configs made flat, and the settings in which runs differ."""

import json
from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

from ssl_runner.comparison.run import ABSENT, Run
from ssl_runner.run_folder.layout import GROUPS, HARMLESS

ORDER = ("pretext", *(group for group in GROUPS if group != "pretext"))  # of columns
# Runs are averaged over `seed`; below the choice of a device are settings.
IGNORED = HARMLESS | {"seed", "device"}
DATA = "data"  # the fingerprint, as a setting of runs of equal dataset settings that saw other data


def text(value: Any) -> str:
    """A value as it is typed on the command line: null, true, 0.001, [32,64,128]. 1 and 1.0 are the same."""
    if isinstance(value, list | tuple):
        return f"[{','.join(map(text, value))}]"
    if value is None or isinstance(value, bool):
        return json.dumps(value)
    return f"{value:.10g}" if isinstance(value, int | float) else str(value)


def flat(node: Any, prefix: str = "") -> dict[str, str]:
    """Leaves by their whole key. A list of plain values is one leaf; one that holds mappings has a key for each."""
    if isinstance(node, list) and any(isinstance(each, dict | list) for each in node):
        node = dict(enumerate(node))
    if not isinstance(node, dict):
        return {prefix: text(node)}
    leaves: dict[str, str] = {}
    for key, value in node.items():
        leaves |= flat(value, f"{prefix}.{key}" if prefix else str(key))
    return leaves if leaves or not prefix else {prefix: "{}"}


def choices_of(config: Mapping[str, Any]) -> dict[str, str]:
    """The choice of each group, by the path at which it is mounted; the class if no choice is recorded."""
    choices, recorded = {}, config.get("choices")
    for group, choice in recorded.items() if isinstance(recorded, Mapping) else ():
        path = (str(group).partition("@")[2] or str(group)).removeprefix("_global_.").replace("/", ".")
        if path != "experiment" and not path.startswith(("hydra", "evaluator")):
            choices[path] = str(choice)
    for group in ORDER:
        if group not in choices and isinstance(node := config.get(group), Mapping) and "_target_" in node:
            choices[group] = str(node["_target_"]).rpartition(".")[2]
    return choices


def differing(runs: Sequence[Run]) -> list[str]:
    """Keys in which runs differ: each choice, and the settings that vary among runs of the same choices.

    If `optimizer` differs, a key below it is implied by the choice unless it varies among runs of one choice. Settings
    of evaluators cannot change what was learnt. A `seed` below a group that follows the run's is a seed.
    """
    paths = list(dict.fromkeys(path for run in runs for path in run.choices if path != "device"))
    keys = []
    for key in dict.fromkeys(key for run in runs for key in run.traits):
        if key in IGNORED or key.partition(".")[0] in ("choices", "hydra", "evaluator"):
            continue
        above = [path for path in paths if key.startswith(f"{path}.")]
        values: dict[tuple[str | None, ...], set[str]] = defaultdict(set)
        for run in runs:
            values[tuple(run.choices.get(path) for path in above)].add(run.traits.get(key, ABSENT))
        follows_seed = key.endswith("seed") and all(run.traits.get(key) == str(run.seed) for run in runs)
        if not follows_seed and any(len(each) > 1 for each in values.values()):
            keys.append(key)

    def place(key: str) -> tuple[int, bool]:
        head = "dataset" if key == DATA else key.partition(".")[0]
        return ORDER.index(head) if head in ORDER else len(ORDER), key not in paths

    return sorted(keys, key=place)


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

"""Configs as flat settings, and those of them that tell runs apart."""

from collections import defaultdict
from collections.abc import Mapping, Sequence, Set
from typing import Any, Protocol

GROUPS = ("pretext", "dataset", "model", "optimizer", "regulariser", "device")
# These cannot change a result. `seed` is what runs are averaged over; Evaluators are treated apart.
INDIFFERENT = {"seed", "log_every", "save_every", "show_every", "keep", "on_collapse", "experiment", "device"}
INDIFFERENT |= {f"device.{each}" for each in ("name", "channels_last", "compile", "deterministic", "threads")}
INDIFFERENT |= {f"dataset.{each}" for each in ("download", "cache", "stream", "workers", "max_broken")}
PLACES = {"dataset.root"}  # where data lies says nothing, as long as its fingerprint is the same
DATA = "data"  # the fingerprint, as a setting of runs which nothing else of their datasets tells apart
ABSENT = "-"


class Configured(Protocol):
    """What is asked of a run here."""

    @property
    def seed(self) -> int: ...
    @property
    def choices(self) -> Mapping[str, str]: ...
    @property
    def settings(self) -> Mapping[str, str]: ...
    @property
    def environment(self) -> Mapping[str, Any]: ...


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
    """What was chosen in each group, by the path at which it stands; the class where no choice is written down."""
    chosen = config.get("choices")
    written = chosen if isinstance(chosen, dict) else {}
    found = {}
    for group, choice in written.items():
        path = str(group).partition("@")[2] or str(group)
        path = path.removeprefix("_global_.").replace("/", ".")
        if path != "experiment" and not path.startswith(("hydra", "evaluator")):
            found[path] = str(choice)
    for group in GROUPS:
        node = config.get(group)
        if group not in found and isinstance(node, dict) and isinstance(node.get("_target_"), str):
            found[group] = node["_target_"].rpartition(".")[2]
    return found


def described(run: Configured) -> dict[str, str]:
    """Choices and settings under one roof; the class of a group is what its choice says already."""
    leaves = {key: value for key, value in run.settings.items() if not key.endswith("_target_")}
    return {**run.choices, **leaves}


def data_settings(run: Configured, ignored: Set[str] = INDIFFERENT) -> tuple[tuple[str, str], ...]:
    """Which dataset was chosen, and its settings: those that can change what is in it."""
    rows = [(key, value) for key, value in run.settings.items() if key.startswith("dataset.") and key not in ignored]
    return ("dataset", run.choices.get("dataset", ABSENT)), *sorted(rows)


def one_fingerprint(runs: Sequence[Configured]) -> bool:
    """Whether the data of equal dataset settings, wherever they lie, is known to be the same."""
    prints = defaultdict(set)
    for run in runs:
        prints[data_settings(run, INDIFFERENT | PLACES)].add(run.environment.get("dataset"))
    return all(len(each) == 1 and None not in each for each in prints.values())


def differing(runs: Sequence[Configured], evaluator: str | None = None) -> list[str]:
    """Keys that tell runs apart: each choice, and the settings that vary among runs of the same choices.

    Where `optimizer` differs, a key below it is implied by the choice unless it varies among runs of one choice. Of the
    evaluators only the one that the metric came from counts. A `seed` below a group that follows the run's is a seed.
    """
    every = [described(run) for run in runs]
    keys = list(dict.fromkeys(key for each in every for key in each))
    paths = list(dict.fromkeys(path for run in runs for path in run.choices if path != "device"))
    ignored = INDIFFERENT | PLACES if one_fingerprint(runs) else INDIFFERENT
    found = []
    for key in keys:
        head = key.partition(".")[0]
        if key in ignored or head in ("choices", "hydra"):
            continue
        if head == "evaluator" and (key.split(".")[1:2] != [evaluator] or key.endswith(".every")):
            continue
        above = [path for path in paths if key.startswith(f"{path}.")]
        kinds: dict[tuple[str | None, ...], set[str]] = defaultdict(set)
        for run, each in zip(runs, every, strict=True):
            kinds[tuple(run.choices.get(path) for path in above)].add(each.get(key, ABSENT))
        if all(len(values) == 1 for values in kinds.values()):
            continue
        if key.endswith("seed") and all(each.get(key) == str(run.seed) for run, each in zip(runs, every, strict=True)):
            continue
        found.append(key)
    heads = [key.partition(".")[0] for key in found]
    heads = ["dataset" if head == DATA else head for head in heads]
    place = {key: GROUPS.index(head) if head in GROUPS else len(GROUPS) for key, head in zip(found, heads, strict=True)}
    return sorted(found, key=lambda key: (place[key], key not in paths))


def short(keys: Sequence[str], taken: Sequence[str] = ()) -> dict[str, str]:
    """The shortest end of each key that no other key has, and that is not taken."""
    found = {}
    for key in keys:
        parts = key.split(".")
        ends = [".".join(parts[-n:]) for n in range(1, len(parts) + 1)]
        others = [f".{other}" for other in keys if other != key]
        free = (end for end in ends if end not in taken and not any(other.endswith(f".{end}") for other in others))
        found[key] = next(free, key)
    return found

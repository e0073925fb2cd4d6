"""Fairness of a comparison: code, libraries, data, machine and ways of measuring that differ between its runs."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from ssl_runner.comparison.run import ABSENT, Run, Ways, base_name, device_of, machine_of
from ssl_runner.comparison.settings import DATA, IGNORED
from ssl_runner.errors import are, plural
from ssl_runner.run_folder.summary import protocol_of

SHOWN = 8  # digits of a fingerprint
MOST = 3  # values that are listed of each fact
VERSION = "version of "  # before a library's name among the facts of a run


def first_few(words: Sequence[str]) -> str:
    return ", ".join([*words[:MOST], *["..."] * (len(words) > MOST)])


def data_settings(run: Run) -> tuple[tuple[str, str], ...]:
    """The chosen dataset and those of its settings that can change what is in it."""
    rows = [(key, value) for key, value in run.settings.items() if key.startswith("dataset.") and key not in IGNORED]
    return ("dataset", run.choices.get("dataset", ABSENT)), *sorted(rows)


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
    """Whether values may be ranked: runs have the same data, or the metric is of another dataset, the same for all; and
    the same task, if the metric is a task's own loss.
    """
    return obstacle(metric, keys) is None


def obstacle(metric: str | None, keys: Sequence[str]) -> str | None:
    """Why values are not ranked; None if they are."""
    if {"dataset", DATA} & {*keys} and "@" not in (metric or ""):
        return "the datasets differ, and numbers on different data are not ranked by their differences"
    if "pretext" in keys and is_own_loss(metric):
        return "the tasks differ, and losses of different tasks are not ranked by their differences"
    return None


def is_own_loss(metric: str | None) -> bool:
    """Whether it is a task's own loss, or another of its numbers, on held-out rows."""
    return protocol_of(base_name(metric)) == "loss"


def environment_facts(run: Run) -> dict[str, Any]:
    """What a run ran on: commit with its uncommitted changes, device, fingerprint of the data, host, versions."""
    known, versions = run.environment, run.environment.get("versions")
    own = known.get("project")
    commits = {"commit": commit_of(known), "own commit": commit_of(own) if isinstance(own, dict) else None}
    words = (device_of(known) or "unknown").split(", ")
    device = ", ".join(word for word in words if word != run.settings.get("device.precision"))  # that is a setting
    facts = commits | {"device": device, "fingerprint": known.get("dataset"), "host": known.get("host")}
    return facts | {f"{VERSION}{name}": each for name, each in (versions if isinstance(versions, dict) else {}).items()}


def commit_of(code: Mapping[str, Any]) -> str | None:
    """`1a8c505f with changes 3fd1`; changes alone if there is no commit."""
    changes = code.get("changes") or ("unknown" if code.get("dirty") else None)
    changed = f" with changes {changes}" if changes else ""
    return f"{str(code.get('commit') or 'none')[:8]}{changed}" if code.get("commit") or code.get("changes") else None


def fairness_warnings(runs: Sequence[Run], groups: Sequence[Sequence[Run]]) -> list[str]:
    """A line for each fact that differs between runs that are compared."""
    group = {id(run): number for number, members in enumerate(groups) for run in members}
    known = [(run, environment_facts(run)) for run in runs if run.environment.get("versions")]
    of_data = defaultdict(list)  # another dataset has another fingerprint, as it should
    for each in known:
        of_data[data_settings(each[0])].append(each)
    libraries = dict.fromkeys(name for _, facts in known for name in facts if name.startswith(VERSION))
    rows = [(name, known, "the comparison may not be fair") for name in ("commit", "own commit", *libraries)]
    rows += [("fingerprint", same, "not the same data") for same in of_data.values()]
    rows += [(name, known, "seconds and samples/s are not comparable") for name in ("device", "host")]
    lines = []
    if n := len(runs) - len(known):
        has = f"{plural(n, 'run')} {'has' if n == 1 else 'have'} no readable environment.json"
        lines.append(f"{has}: whether code and data are the same is not known")
    for name, members, consequence in rows:
        values = [(group[id(run)], str(facts.get(name) or "unknown")) for run, facts in members]
        within = len({*values}) > len({number for number, _ in values})
        if counts := count_values(value for _, value in values):
            title = "dataset fingerprint" if name == "fingerprint" else name.removeprefix(VERSION)
            lines.append(f"{title} differs{', also between seeds of one group' * within}: {counts}; {consequence}")
    return lines


def count_values(values: Iterable[str]) -> str:
    """`2.14.0 (8 runs), 2.15.0 (1 run), 2 more`; nothing if all are the same."""
    counts = Counter(values)
    listed = [f"{value[:40]} ({plural(n, 'run')})" for value, n in counts.most_common(MOST)]
    more = [f"{len(counts) - MOST} more"] if len(counts) > MOST else []
    return ", ".join([*listed, *more]) if len(counts) > 1 else ""


def measurement_warnings(name: str, ways: Ways) -> list[str]:
    """A line if a number was measured in several ways, and for each fact in which evaluations of the first differ."""
    lines = []
    if len(ways) > 1:
        settings = {way: results[0][1].settings for way, results in ways.items()}
        every = dict.fromkeys(key for each in settings.values() for key in each)
        keys = [key for key in every if len({each.get(key) for each in settings.values()}) > 1]
        listed = []
        for way, results in ways.items():
            own = ", ".join(f"{key} {settings[way].get(key, ABSENT)}" for key in keys)
            listed.append(f"{name}#{way} ({plural(len(results), 'run')}: {own})")
        lines.append(
            f"{name} was measured in {len(ways)} ways, which are not mixed: {', '.join(listed)}; plain is the first"
        )
    first = next(iter(ways.values()), ())
    machines = [machine_of(run.environment) if each.machine is None else each.machine for run, each in first]
    for fact in dict.fromkeys(fact for _, each in first for fact in each.machine or ()):
        if counts := count_values(each.get(fact, "unknown") for each in machines):
            lines.append(f"{name}: {fact} of the evaluation differs: {counts}; the comparison may not be fair")
    return lines


def change_warnings(runs: Sequence[Run]) -> list[str]:
    """A line for the runs that were extended, and one for those that went on with other data."""
    lines = []
    for name, what, consequence in (
        ("extended", "given another length", "not the same as a run of that length from the start"),
        ("other_data", "continued on other data", "not trained on the data of the others alone"),
    ):
        changed = [(run, run.changes[name]) for run in runs if run.changes.get(name)]
        listed = [f"{run.name} (at step {', '.join(str(each['step']) for each in steps)})" for run, steps in changed]
        if listed:
            were = "was" if len(listed) == 1 else "were"
            lines.append(f"{plural(len(listed), 'run')} {were} {what}: {first_few(listed)}; {consequence}")
    return lines


def comparison_warnings(
    runs: Sequence[Run], groups: Sequence[Sequence[Run]], keys: Sequence[str], metric: str | None, ways: Ways
) -> list[str]:
    """Cautions about the numbers themselves, then about what the runs do not share."""
    done = [run for run in runs if run.completed]
    lines = measurement_warnings(base_name(metric), ways)
    if early := sum(run.early for run in runs):
        lines.append(f"{plural(early, 'result')} of checkpoints before the last step {are(early)} left out")
    if why := obstacle(metric, keys):
        lines.append(why)
    elif is_own_loss(metric) and (own := [key for key in keys if key.startswith("pretext.") or key == "batch_size"]):
        lines.append(f"{', '.join(own)} differs: so may what the loss counts, and not what was learnt alone")
    elif data := [key for key in keys if key.startswith("dataset.") or key == DATA]:
        lines.append(f"{', '.join(data)} differs: so may the rows that were measured, and not what was learnt alone")
    if metric and (without := sum(metric not in run.metrics for run in done)):
        lines.append(f"{metric} was not measured in {without} of {plural(len(done), 'completed run')}")
    if ill := [f"{run.name} ({run.health})" for run in done if run.health not in (None, "healthy")]:
        lines.append(f"features were not healthy at the end of {plural(len(ill), 'run')}: {first_few(ill)}")
    if again := sum(len(members) - len({run.seed for run in members}) for members in groups):
        repeat = f"{plural(again, 'run')} {'repeats' if again == 1 else 'repeat'}"
        lines.append(f"{repeat} settings and seed of another: those of one seed count once, by their mean")
    return lines + change_warnings(done) + fairness_warnings(done, groups)

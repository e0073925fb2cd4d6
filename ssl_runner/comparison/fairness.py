"""What runs do not share although their settings do not say so: code, libraries, data, machine."""

from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from ssl_runner.comparison.record import Run
from ssl_runner.comparison.settings import data_settings

MOST = 3  # values that are told of each fact


def warnings(runs: Sequence[Run], groups: Sequence[Sequence[Run]]) -> list[str]:
    """A line for each fact that differs between runs that are compared."""
    lines = []
    if without := [run for run in runs if not run.environment.get("versions")]:
        lines.append(
            f"{told(len(without))} no readable environment.json: whether code and data are the same is not known"
        )
    known = [run for run in runs if run.environment.get("versions")]
    facts: dict[str, Callable[[Run], Any]] = {"commit": commit}
    libraries = dict.fromkeys(name for run in known for name in versions(run))
    facts |= {name: partial(version, name) for name in libraries}
    for name, fact in facts.items():
        lines += line(name, known, groups, fact, "the comparison may not be fair")
    alike = defaultdict(list)  # another dataset has another fingerprint, as it should
    for run in known:
        alike[data_settings(run)].append(run)
    for same in alike.values():
        lines += line(
            "dataset fingerprint", same, groups, lambda run: run.environment.get("dataset"), "not the same data"
        )
    places = {"device": device, "host": lambda run: run.environment.get("host")}
    for name, fact in places.items():
        lines += line(name, known, groups, fact, "seconds and images/s are not comparable")
    return lines


def line(
    name: str, runs: Sequence[Run], groups: Sequence[Sequence[Run]], fact: Callable[[Run], Any], so: str
) -> list[str]:
    counted = Counter(str(fact(run) or "unknown") for run in runs)
    if len(counted) < 2:
        return []
    values = [f"{value} ({n} run{'s' * (n > 1)})" for value, n in counted.most_common(MOST)]
    more = [f"{len(counted) - MOST} more"] if len(counted) > MOST else []
    within = any(len({str(fact(run)) for run in group if run in runs}) > 1 for group in groups)
    return [f"{name} differs{', also between seeds of one group' * within}: {', '.join([*values, *more])}; {so}"]


def told(n: int) -> str:
    return f"{n} runs have" if n > 1 else "1 run has"


def versions(run: Run) -> dict[str, Any]:
    found = run.environment.get("versions")
    return found if isinstance(found, dict) else {}


def version(name: str, run: Run) -> Any:
    return versions(run).get(name)


def commit(run: Run) -> str | None:
    """Short commit, and four digits of the changes that were not committed."""
    known = run.environment.get("commit")
    changes = run.environment.get("changes") or ("unknown" if run.environment.get("dirty") else None)
    return known and f"{str(known)[:8]}{f' with changes {changes}' if changes else ''}"


def device(run: Run) -> str:
    """Without the precision, which is a setting."""
    words = str(run.environment.get("device", "unknown")).split(", ")
    return ", ".join(word for word in words if word != run.settings.get("device.precision"))

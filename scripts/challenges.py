"""How much of its gain a task loses to each challenge of the data: a table over seeds from the runs of a sweep.

    python scripts/challenges.py FOLDER [FOLDER ...] [--metric probe/top1]

docs/challenges.md has the sweep. Runs of a task without a challenge are what the others are held against. A gain is the
trained encoder's accuracy less the random encoder's, both read by a probe that is fitted on the challenged rows.
"""

import argparse
import sys
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path

from ssl_runner.comparison.record import load_runs
from ssl_runner.comparison.run import ABSENT, Run
from ssl_runner.comparison.settings import text
from ssl_runner.comparison.statistics import difference, interval
from ssl_runner.comparison.table import compare
from ssl_runner.data.challenges import Challenges

DEFAULTS = {each.name: text(each.default) for each in fields(Challenges)}
RANDOM = "random encoder"
Values = dict[tuple[str, str], Mapping[int, float]]  # by task and challenge, then by seed


def challenge_of(run: Run) -> str:
    """The settings of a run's dataset that are challenges, "" if there are none."""
    given = {name: run.traits.get(f"dataset.{name}", default) for name, default in DEFAULTS.items()}
    return " ".join(f"{name}={value}" for name, value in given.items() if value not in (DEFAULTS[name], ABSENT))


def read_values(runs: list[Run], metric: str) -> Values:
    """Gains of each task, and the random encoder's accuracies, which are the same whatever the task."""
    values: Values = defaultdict(dict)
    for group in compare(runs, f"gain/{metric}", larger=True).groups:
        values[group.runs[0].choices["pretext"], challenge_of(group.runs[0])] = group.values
    for group in compare(runs, f"baseline/{metric}", larger=True).groups:
        values[RANDOM, challenge_of(group.runs[0])] = group.values
    return values


def table(values: Values) -> list[str]:
    """Lines of Markdown: a task a row, a challenge a column, mean ± 95 % interval over seeds, in points."""
    tasks = sorted({task for task, challenge in values if not challenge}, key=lambda task: (task == RANDOM, task))
    challenges = sorted({challenge for _, challenge in values if challenge})
    head = ["task", "without", *(f"`{each}`" for each in challenges)]
    rows = [head, ["---"] * len(head)]
    for task in tasks:
        clean = values[task, ""]
        losses = [values.get((task, each)) for each in challenges]
        shown = [difference(each, clean) if each else None for each in losses]
        numbers = [interval([*clean.values()]), *shown]
        rows.append(
            [task, *("" if each is None else f"{100 * each.mean:.1f} ± {100 * each.half:.1f}" for each in numbers)]
        )
    return [f"| {' | '.join(row)} |" for row in rows]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folders", nargs="+", type=Path, metavar="FOLDER")
    parser.add_argument(
        "--metric", default="probe/top1", help="an accuracy that the runs measured (default: probe/top1)"
    )
    arguments = parser.parse_args()
    runs, problems, broken = load_runs(arguments.folders)
    print(*problems, *broken, sep="\n", end="\n" if problems or broken else "", file=sys.stderr)
    try:
        print(*table(read_values(runs, arguments.metric)), sep="\n")
    except ValueError as error:
        print(error, file=sys.stderr)
        return 2
    return 1 if problems or broken else 0


if __name__ == "__main__":
    sys.exit(main())

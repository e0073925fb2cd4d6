"""`ssl-runner rerun RUN`: run it again from its own config, and say whether it came out the same.

The new run gets a folder of its own and the old one is left as it is. Before it starts, all that is not as it was is
named: code, versions, data, device, threads. At the end each number is shown, old and new, and whether the encoders
are bit-identical.
"""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console
from rich.table import Table

from ssl_runner.errors import refuse

if TYPE_CHECKING:
    from ssl_runner.run_folder.diff import Comparison, Difference


def main(words: list[str]) -> int:
    """Returns the exit status: the new run's, or with --strict 1 where it is not bit-identical."""
    parser = argparse.ArgumentParser(
        prog="ssl-runner rerun", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("run", type=Path, help="a run folder, as in outputs/rotation-shapes/2026-01-31_12-00-00-1f3a")
    parser.add_argument("--to", type=Path, metavar="FOLDER", help="the new run's folder, and not outputs/.../<time>")
    parser.add_argument("--strict", action="store_true", help="exit with 1 unless both runs are complete and identical")
    typed = parser.parse_args(words)
    from ssl_runner.errors import Refused
    from ssl_runner.run.rerun import rerun
    from ssl_runner.run_folder.diff import compare

    console = Console(highlight=False, markup=False)
    try:
        status, folder = rerun(typed.run, typed.to, console)
    except Refused as reason:
        return refuse(reason.lines)
    console.print(f"\nold: {typed.run}\nnew: {folder}", soft_wrap=True)
    found = compare(typed.run, folder)
    tell(found, console)
    return status or int(typed.strict and not (found.identical and not found.unfinished))


def tell(found: "Comparison", console: Console) -> None:
    """A table of the numbers, and plainly whether the runs are bit-identical."""
    for line in found.unfinished:
        console.print(f"{line}: what follows compares them up to step {found.step}", soft_wrap=True)
    table = Table("number", "old", "new", "difference", box=None, pad_edge=False)
    for column in table.columns[1:]:
        column.justify = "right"
    for name, a, b in found.numbers:
        change = "" if a is None or b is None else f"{b - a:+.4g}" if a != b else "0"
        table.add_row(name, *("" if each is None else f"{each:.6g}" for each in (a, b)), change)
    if found.numbers:
        console.print(table)
    if found.weights:
        console.print(
            f"encoder weights: {len(found.weights)} of {found.tensors} tensors differ, most {worst(found.weights)}",
            soft_wrap=True,
        )
    elif found.tensors:
        console.print(f"encoder weights: all {found.tensors} tensors are bit-identical")
    first = f"{len(found.rows)} numbers differ, first {found.rows[0]}" if found.rows else "equal"
    console.print(f"metrics.jsonl: {found.compared} rows, {first} (time and speed aside)", soft_wrap=True)
    if found.left_out:
        steps = ", ".join(map(str, found.left_out))
        console.print(
            f"left out: training averages of step {steps}, amid which the old run was resumed", soft_wrap=True
        )
    if found.identical:
        console.print("bit-identical" + (f", up to step {found.step}" if found.unfinished else ""))
    elif any(found.kinds):
        largest = "; ".join(worst(kind) for kind in found.kinds if kind)
        console.print(f"not bit-identical: largest difference {largest}", soft_wrap=True)
    else:
        console.print("not compared: there is no row in metrics.jsonl up to the step that both have reached")


def worst(differences: "list[Difference]") -> str:
    return str(max(differences, key=lambda each: each.size))

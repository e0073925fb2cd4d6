"""`ssl-runner ls [FOLDER ...] [FILTER ...]`: the runs of outputs/, the newest first.

A word of FILTER must be in a run's name, tags, notes, state, settings or folder; `probe>80` compares a column, in the
unit that is shown; `-failed` excludes, `simclr|byol` is either, `"two words"` are one. Columns are those shown, every
setting (lr, optimizer.lr, batch_size) and every number (test/probe/top1, gain/knn/top1). Runs get a name, tags and
notes by name=, tags=[..] and notes= as they begin, or later: ssl-runner resume RUN tags=[paper].
"""

import json
import re
import sys
from argparse import ArgumentParser, RawDescriptionHelpFormatter
from pathlib import Path

from ssl_runner.errors import DONE, FAILED, refuse

EXAMPLES = """\
  ssl-runner ls
  ssl-runner ls simclr 'probe>80'
  ssl-runner ls outputs/sweeps/demo 'state=failed|killed'
  ssl-runner ls tags=paper -vicreg 'lr<=0.01'
"""


def main(words: list[str]) -> int:
    """Returns the exit status: 0, 1 if a folder was left out, 2 if nothing could be listed."""
    excluded = [word for word in words if re.match(r"-[^-\d]", word) and word != "-h"]  # no options: -failed
    parser = ArgumentParser(
        prog="ssl-runner ls", description=__doc__, epilog=EXAMPLES, formatter_class=RawDescriptionHelpFormatter
    )
    parser.add_argument("words", nargs="*", metavar="FOLDER | FILTER")
    parser.add_argument("--rows", type=int, default=30, help="runs that are shown; 0 is all (default: 30)")
    parser.add_argument("--json", action="store_true", help="a line of JSON for each run, with every column")
    arguments = parser.parse_intermixed_args([word for word in words if word not in excluded])
    places = [Path(word) for word in arguments.words if len(word) < 256 and Path(word).is_dir()]
    asked = [word for word in arguments.words if Path(word) not in places] + excluded
    if not places and not Path("outputs").is_dir():
        return refuse(["FOLDER: is missing, and there is no folder outputs here"])
    if arguments.rows < 0:
        return refuse([f"--rows: given {arguments.rows}, and 0 or more is wanted"])
    return show(places or [Path("outputs")], " ".join(asked), arguments.rows, arguments.json)


def show(places: list[Path], asked: str, most: int, as_json: bool) -> int:
    from ssl_runner.comparison.filter import filter_rows
    from ssl_runner.comparison.listing import list_runs, print_list
    from ssl_runner.comparison.record import load_runs
    from ssl_runner.engine.console import Terminal

    runs, problems, broken = load_runs(places)
    for line in broken:
        print(line, file=sys.stderr)
    if problems:
        return refuse(problems)
    rows = list_runs(runs)
    fits, wrong = filter_rows(asked, rows)
    if wrong:
        return refuse(f"FILTER: {line}" for line in wrong)
    rows = [row for row, fit in zip(rows, fits, strict=True) if fit]
    if as_json:
        for row in rows[: most or None]:
            print(json.dumps(row))
    else:
        print_list(rows, len(runs), Terminal(), most)
    return FAILED if broken else DONE

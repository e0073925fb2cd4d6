"""`ssl-runner compare [RUN_OR_FOLDER ...]`: runs side by side, what differs and what the numbers show.

Runs are found at any depth (default: in outputs), put into groups of equal settings, and judged over their seeds:
mean ± 95 % interval, differences paired if seeds match. Formats go to standard output, or to FILE.
"""

import contextlib
import sys
from argparse import ArgumentParser, Namespace, RawDescriptionHelpFormatter
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from ssl_runner.engine.console import Terminal, journal
from ssl_runner.errors import DONE, FAILED, refuse

if TYPE_CHECKING:
    from ssl_runner.comparison.run import Run
    from ssl_runner.comparison.table import Comparison

EXAMPLES = """\
  ssl-runner compare outputs/sweeps/demo
  ssl-runner compare outputs --metric test/knn/top1
  ssl-runner compare outputs --html compare.html
  ssl-runner compare outputs --csv | column -s, -t

metrics: probe/top1 and its like (the last on validation), test/probe/top1, best/probe/top1, gain/probe/top1 (how much
better than the random encoder's), whether training or `ssl-runner evaluate` measured them; an unknown name shows the
possible ones.
"""
FORMATS = ("markdown", "csv", "json")


def main(words: list[str]) -> int:
    """Returns the exit status: 0, 1 if a folder was left out, 2 if nothing could be compared."""
    parser = ArgumentParser(
        prog="ssl-runner compare", description=__doc__, epilog=EXAMPLES, formatter_class=RawDescriptionHelpFormatter
    )
    parser.add_argument("places", nargs="*", type=Path, metavar="RUN_OR_FOLDER")
    parser.add_argument("--metric", help="what to compare (default: probe/top1, or what more of the runs have)")
    better = parser.add_mutually_exclusive_group()
    better.add_argument("--larger", action="store_true", help="larger is better (default: what the runs say)")
    better.add_argument("--smaller", action="store_true", help="smaller is better")
    parser.add_argument("--rows", type=int, default=30, help="lines of the table; 0 is all (default: 30)")
    for name in FORMATS:
        parser.add_argument(f"--{name}", nargs="?", const="-", metavar="FILE")
    parser.add_argument("--html", metavar="FILE", help="a page with curves, for any browser, without a network")
    arguments = parser.parse_intermixed_args(words)
    files = {name: getattr(arguments, name) for name in FORMATS if getattr(arguments, name) is not None}
    for name, file in files.items():
        if Path(file).is_dir():  # `--csv outputs` means the table of outputs
            arguments.places.append(Path(file))
            files[name] = "-"
    piped = [name for name, file in files.items() if file == "-"]
    problems = [f"--{name}: give a FILE, since --{piped[0]} goes to standard output" for name in piped[1:]]
    if arguments.html is not None and Path(arguments.html).is_dir():
        problems.append(f"--html: {arguments.html} is a folder; name a file, as compare.html")
    if not arguments.places and not Path("outputs").is_dir():
        problems.append("RUN_OR_FOLDER: is missing, and there is no folder outputs here")
    if arguments.rows < 0:
        problems.append(f"--rows: given {arguments.rows}, and 0 or more is wanted")
    return refuse(problems) if problems else show(arguments, files, piped)


def show(arguments: Namespace, files: dict[str, str], piped: list[str]) -> int:
    from ssl_runner.comparison.export import to_csv, to_html, to_json
    from ssl_runner.comparison.record import load_runs
    from ssl_runner.comparison.render import print_terminal, to_markdown
    from ssl_runner.comparison.table import Unknown

    places = arguments.places or [Path("outputs")]
    with journal(Terminal(stderr=True)):
        runs, problems, broken = load_runs(places)
    for line in broken:
        print(line, file=sys.stderr)
    if problems or not runs:
        return refuse(problems or ["no folder could be read"])
    formats = {"csv": to_csv, "json": to_json, "html": to_html}
    formats["markdown"] = partial(to_markdown, most=arguments.rows)
    written = {name: file for name, file in files.items() if file != "-"}
    written |= {"html": arguments.html} if arguments.html is not None else {}
    try:
        comparison = compare_by(places, runs, arguments)
        for name, file in written.items():
            Path(file).write_text(formats[name](comparison), encoding="utf-8")
    except Unknown as error:
        return refuse([f"--metric: {error}"])
    except OSError as error:
        return refuse([str(error)])
    if piped:
        print(formats[piped[0]](comparison), end="")
        for line in comparison.warnings if piped[0] == "csv" else ():
            print(f"! {line}", file=sys.stderr)
    else:
        print_terminal(comparison, Terminal(), arguments.rows)
    for file in written.values():
        print(f"written: {file}", file=sys.stderr)
    return FAILED if broken else DONE


def compare_by(places: list[Path], runs: list["Run"], arguments: Namespace) -> "Comparison":
    """The comparison by --metric or, as in a sweep's own table, by what the sweep was ranked by. Raises Unknown."""
    from ssl_runner.comparison.table import Unknown, compare
    from ssl_runner.run_folder.atomic import read_json
    from ssl_runner.run_folder.layout import SWEEP

    better = (arguments.smaller, arguments.larger)
    command = read_json(places[0] / SWEEP).get("command") if len(places) == 1 else None
    if arguments.metric is None and isinstance(command, list):
        from ssl_runner.sweep.settings import ranking_metric

        with contextlib.suppress(Unknown):
            return compare(runs, ranking_metric([str(word) for word in command]), *better)
    return compare(runs, arguments.metric, *better)

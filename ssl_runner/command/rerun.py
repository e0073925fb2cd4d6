"""`ssl-runner rerun RUN|FILE [KEY=VALUE ...]`: run it again from its own config, and say whether it came out the same.

RUN is a run folder; FILE is the config.yaml of one, wherever it lies, and then there is nothing to compare with.
KEY=VALUE changes a setting or a choice of it: seed=1, optimizer=sgd. The new run gets a folder of its own and the old
one is left as it is. Before it starts, all that is not as it was is named: settings, code, versions, data, device,
threads. At the end each number is shown, old and new, and whether the encoders are bit-identical.
"""

import logging
import tempfile
from argparse import ArgumentParser, RawDescriptionHelpFormatter
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console
from rich.table import Column, Table

from ssl_runner.command.usage import missing_folder
from ssl_runner.config import files
from ssl_runner.config.override import paths
from ssl_runner.config.recorded import read_recorded
from ssl_runner.config.trust import read_project
from ssl_runner.engine.console import Terminal
from ssl_runner.errors import Refused, plural, refuse
from ssl_runner.run_folder.layout import CONFIG
from ssl_runner.run_folder.origin import entries
from ssl_runner.run_folder.summary import read_summary

if TYPE_CHECKING:
    from ssl_runner.contract import Data
    from ssl_runner.run.preflight import PreparedJob
    from ssl_runner.run_folder.diff import RunDiff

log = logging.getLogger("ssl_runner")


def main(words: list[str]) -> int:
    """Returns the exit status: the new run's, or with --strict 1 if it is not bit-identical."""
    parser = ArgumentParser(prog="ssl-runner rerun", description=__doc__, formatter_class=RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path, metavar="RUN|FILE", help="a run folder, or the config.yaml of one")
    parser.add_argument("overrides", nargs="*", metavar="KEY=VALUE", help="a setting or a choice, changed")
    parser.add_argument("--to", type=Path, metavar="FOLDER", help="the new run's folder, and not outputs/.../<time>")
    parser.add_argument("--config-dir", type=Path, help="a folder of configs whose choices KEY=VALUE may name")
    parser.add_argument("--strict", action="store_true", help="exit with 1 unless both runs are complete and identical")
    arguments = parser.parse_intermixed_args(words)
    console = Terminal()
    if problems := missing_folder(arguments.config_dir):
        return refuse(problems)
    try:
        read_recorded(arguments.run, arguments.overrides, arguments.config_dir)
        from ssl_runner.run.prepare import recorded_job  # torch is imported here, after all that needs none

        prepared = recorded_job(arguments.run, arguments.overrides, arguments.config_dir)
        named = arguments.to or (Path(prepared.composed.folder) if prepared.composed.folder else None)
        changed = changed_settings(prepared, arguments.run)
        status, folder = rerun(prepared, arguments.run, named, changed, console)
    except Refused as reason:
        return refuse(reason.lines)
    if arguments.run.is_file():
        return status
    from ssl_runner.run_folder.diff import diff_runs

    console.print(f"\nold: {arguments.run}\nnew: {folder}", soft_wrap=True)
    diff = diff_runs(arguments.run, folder)
    tell(diff, console, bool(changed))
    return status or int(arguments.strict and not (diff.identical and not diff.unfinished))


def changed_settings(prepared: "PreparedJob", old: Path) -> list[str]:
    """`optimizer.lr: 0.001 -> 0.1` for each setting that is not the old run's."""
    before = dict(paths(files.read(old if old.is_file() else old / CONFIG)))
    now = dict(paths(prepared.content))
    keys = [key for key in before | now if not key.startswith("choices") and before.get(key) != now.get(key)]
    leaves = [key for key in keys if not any(isinstance(each.get(key), dict) for each in (before, now))]
    return [f"{key}: {before.get(key, 'absent')} -> {now.get(key, 'absent')}" for key in leaves]


def rerun(job: "PreparedJob", old: Path, to: Path | None, changed: list[str], console: Console) -> tuple[int, Path]:
    """Runs a job again, in `to` or a folder beside other runs, and returns the exit status and the folder.

    Nothing is written below `old`. Raises Refused if the folder or the data cannot be had.
    """
    from ssl_runner.run.session import begin_new

    if to is not None and to.resolve().is_relative_to(old.resolve()):
        raise Refused(f"run folder: {to} lies in the folder of the run, which is left as it is; name another one")
    return begin_new(job, console, to, lambda data: warn(job, old, changed, data))


def warn(prepared: "PreparedJob", old: Path, changed: list[str], data: "Data") -> None:
    """Says on the console and in the new run's log what is not as it was."""
    from ssl_runner.run_folder.environment import changes, describe

    if changed:
        log.info("settings that differ:\n%s", "\n".join(f"  {line}" for line in changed))
    if old.is_file():
        return
    placement = prepared.job.device.build()
    placement.apply()  # it sets the number of threads, as the run will
    with tempfile.TemporaryDirectory() as folder:
        own = read_project().code
        describe(Path(folder), device=str(placement), fingerprint=data.fingerprint, project=own)
        lines = changes(old, Path(folder))
    summary, device = read_summary(old), placement.device.type
    for each in entries(summary.get("extended")):
        lines.append(
            f"the old run was given the length {each.get('to')} at step {each['step']}, before {each.get('from')}"
        )
    for each in entries(summary.get("other_data")):
        lines.append(f"the old run went on with other data at step {each['step']}: {each.get('fingerprint')}")
    if device != "cpu" and not placement.deterministic:
        lines.append(f"device.deterministic is false, and without it two runs on {device} are never the same")
    if lines:
        log.warning("not as it was, so the numbers may differ:\n%s", "\n".join(f"  {line}" for line in lines))
    else:
        log.info("code, versions, data, device and threads are as they were")


def tell(diff: "RunDiff", console: Console, changed: bool) -> None:
    """A table of the numbers, and plainly whether the runs are bit-identical. `changed`: settings are not the same."""
    say = partial(console.print, soft_wrap=True)
    for line in diff.unfinished:
        say(f"{line}: what follows compares them up to step {diff.step}")
    columns = (Column(name, justify="right") for name in ("old", "new", "difference"))
    table = Table("number", *columns, box=None, pad_edge=False)
    for name, a, b in diff.numbers:
        change = "" if a is None or b is None else f"{b - a:+.4g}" if a != b else "0"
        table.add_row(name, *("" if each is None else f"{each:.6g}" for each in (a, b)), change)
    if diff.numbers:
        console.print(table)
    worst = [str(max(kind, key=lambda each: each.size)) for kind in diff.kinds if kind]
    if diff.weights:
        say(f"encoder weights: {len(diff.weights)} of {diff.tensors} tensors differ, most {worst[0]}")
    elif diff.tensors:
        say(f"encoder weights: all {diff.tensors} tensors are bit-identical")
    n = len(diff.rows)
    first = f"{plural(n, 'number')} {'differs' if n == 1 else 'differ'}, first {diff.rows[0]}" if n else "equal"
    say(f"metrics.jsonl: {plural(diff.compared, 'row')}, {first} (time and speed aside)")
    if diff.left_out:
        steps = ", ".join(map(str, diff.left_out))
        say(f"left out: training averages of step {steps}, amid which the old run was resumed")
    if diff.one_sided:
        say(f"left out: {', '.join(diff.one_sided)}, which one of the two runs does not have")
    if diff.identical:
        say("bit-identical" + (f", up to step {diff.step}" if diff.unfinished else ""))
    elif worst:
        why = "the settings differ, and so do the numbers" if changed else "not bit-identical"
        say(f"{why}: largest difference {'; '.join(worst)}")
    else:
        say("not compared: there is no row in metrics.jsonl up to the step that both have reached")

"""The comment above a recipe: what to type, and what came of it. No path and no host."""

import re
import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ssl_runner.errors import plural
from ssl_runner.run_folder.atomic import read_json
from ssl_runner.run_folder.layout import ENVIRONMENT
from ssl_runner.run_folder.summary import read_summary

PROTOCOLS = {"knn": "kNN", "probe": "linear probe"}
UNITS = {"ep": "epoch", "st": "step"}


def header(
    run: Path, name: str, content: Mapping[str, Any], left_out: Sequence[str], missing: Sequence[str]
) -> list[str]:
    """Its lines: the command, then time, hardware, seed, numbers, commit. `left_out`: places, some to be typed."""
    summary, environment = read_summary(run), read_json(run / ENVIRONMENT)
    command = " ".join([f"ssl-runner experiment={name}", *(f"{key}=FOLDER" for key in missing)])
    if free := " ".join(f"{key}=FOLDER" for key in left_out if key not in missing):
        command += f"      (with {free} if the default is not meant)"
    where, code = hardware(environment), origin(environment)
    story = f"{progress(summary, content)} on {where}, seed {content['seed']}: {numbers(summary)}. {code}."
    return [f"# {line}" for line in (command, *textwrap.wrap(story, 118, break_on_hyphens=False))]


def progress(summary: Mapping[str, Any], content: Mapping[str, Any]) -> str:
    """`25 epochs in 32 minutes`, or how far a run came."""
    amount, unit = re.fullmatch(r"(.*?)([a-z%]*)", str(content["length"])).groups()  # type: ignore[union-attr]
    length = f"{amount} {UNITS.get(unit, unit)}{'' if amount == '1' else 's'}"
    seconds, status = float(summary.get("seconds") or 0), summary.get("status")
    time = f"{seconds:.0f} s" if seconds < 100 else f"{seconds / 60:.2g} minutes"
    time = time if seconds < 5940 else f"{seconds / 3600:.1f} hours"
    if status is None:
        return f"{length} were asked for, of a run without a summary"
    if status == "completed":
        return f"{length} in {time}"
    word = "cut off" if status == "running" else str(status)
    return f"{word.capitalize()} at step {summary.get('step')} of {summary.get('steps')} ({length}) after {time}"


def hardware(environment: Mapping[str, Any]) -> str:
    device = str(environment.get("device") or "a machine that is not known")
    on_cpu = re.fullmatch(r"cpu, (\w+), (\d+) threads?", device)
    return f"{plural(int(on_cpu[2]), 'CPU thread')}, {on_cpu[1]}" if on_cpu else device


def numbers(summary: Mapping[str, Any]) -> str:
    """`validation kNN 41.5 -> 61.9 %, linear probe 51.2 -> 67.5 % (random encoder -> trained); test kNN 62.2 %`."""
    key, before = ("initial", "encoder of init") if "initial" in summary else ("baseline", "random encoder")
    baseline, final, meanings = (summary.get(each) or {} for each in (key, "final", "metrics"))

    def show(name: str, *values: float | None) -> str:
        protocol, _, word = name.removeprefix("test/").partition("/")
        share = meanings.get(name, {}).get("unit") == "share"
        shown = " -> ".join(f"{100 * v:.1f}" if share else f"{v:.4g}" for v in values if v is not None)
        return f"{PROTOCOLS.get(protocol, protocol)} {shown}" + (" %" if share else f" ({word})")

    headlines = summary.get("headlines") or ()
    validation = ", ".join(show(name, baseline.get(name), final[name]) for name in headlines if name in final)
    test = ", ".join(show(name, final[name]) for name in (f"test/{each}" for each in headlines) if name in final)
    parts = [validation and f"validation {validation} ({before} -> trained)", test and f"test {test}"]
    return "; ".join(filter(None, parts)) or "nothing was measured"


def origin(environment: Mapping[str, Any]) -> str:
    commit, data, versions = (environment.get(key) for key in ("commit", "dataset", "versions"))
    version = versions.get("ssl-runner", "") if isinstance(versions, dict) else ""
    code = f"Commit {str(commit)[:7]}{dirty_of(environment)}" if commit else ""
    own = environment.get("project")
    named = isinstance(own, dict) and own.get("commit")
    project = f", {own.get('name')} {str(named)[:7]}{dirty_of(own)}" if named else ""  # type: ignore[union-attr, arg-type]
    return (code or f"ssl-runner {version}".strip()) + project + (f", data {str(data)[:8]}" if data else "")


def dirty_of(code: Mapping[str, Any]) -> str:
    return " with uncommitted changes" if code.get("dirty") else ""

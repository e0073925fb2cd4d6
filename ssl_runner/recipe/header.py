"""The comment above a recipe: what to type, and what came of it. No path and no host."""

import re
import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ssl_runner.run_folder.atomic import read_json
from ssl_runner.run_folder.layout import ENVIRONMENT
from ssl_runner.run_folder.summary import read_summary

PROTOCOLS = {"knn": "kNN", "probe": "linear probe"}
WIDTH = 120
UNITS = {"ep": "epoch", "st": "step"}


def header(
    run: Path, name: str, content: Mapping[str, Any], left_out: Sequence[str], missing: Sequence[str]
) -> list[str]:
    """Its lines: the command, then time, hardware, seed, numbers, commit. `left_out`: places, some to be typed."""
    summary, environment = read_summary(run), read_json(run / ENVIRONMENT)
    command = " ".join([f"ssl-runner experiment={name}", *(f"{key}=FOLDER" for key in missing)])
    if free := " ".join(f"{key}=FOLDER" for key in left_out if key not in missing):
        command += f"      (with {free} where the default is not meant)"
    status, length = summary.get("status"), spell_length(str(content["length"]))
    done = f"{length} in {duration(summary)}"
    if status is None:
        done = f"{length} were asked for, of a run without a summary"
    elif status != "completed":
        word = "cut off" if status == "running" else str(status)
        step, steps = summary.get("step"), summary.get("steps")
        done = f"{word.capitalize()} at step {step} of {steps} ({length}) after {duration(summary)}"
    where, seed, code = hardware(environment), content["seed"], origin(environment)
    story = f"{done} on {where}, seed {seed}: {numbers(summary)}. {code}."
    lines = textwrap.wrap(story, WIDTH - 2, break_on_hyphens=False)
    return [f"# {line}" for line in (command, *lines)]


def spell_length(length: str) -> str:
    """`25 epochs`, `5000 steps`."""
    amount, unit = re.fullmatch(r"(.*?)([a-z%]*)", length).groups()  # type: ignore[union-attr]
    return f"{amount} {UNITS.get(unit, unit)}{'' if amount == '1' else 's'}"


def duration(summary: Mapping[str, Any]) -> str:
    seconds = float(summary.get("seconds") or 0)
    if seconds < 100:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.2g} minutes" if seconds < 100 * 60 else f"{seconds / 3600:.1f} hours"


def hardware(environment: Mapping[str, Any]) -> str:
    device = str(environment.get("device") or "a machine that is not known")
    on_cpu = re.fullmatch(r"cpu, (\w+), (\d+) threads", device)
    return f"{on_cpu[2]} CPU thread{'' if on_cpu[2] == '1' else 's'}, {on_cpu[1]}" if on_cpu else device


def numbers(summary: Mapping[str, Any]) -> str:
    """`validation kNN 41.5 -> 61.9 %, linear probe 51.2 -> 67.5 % (random encoder -> trained); test kNN 62.2 %`."""
    baseline, final, meanings = (summary.get(key) or {} for key in ("baseline", "final", "metrics"))

    def show(name: str, *values: float | None) -> str:
        protocol, _, word = name.removeprefix("test/").partition("/")
        share = meanings.get(name, {}).get("unit") == "share"
        shown = " -> ".join(f"{100 * v:.1f}" if share else f"{v:.4g}" for v in values if v is not None)
        return f"{PROTOCOLS.get(protocol, protocol)} {shown}" + (" %" if share else f" ({word})")

    headlines = summary.get("headlines") or ()
    validation = ", ".join(show(name, baseline.get(name), final[name]) for name in headlines if name in final)
    test = ", ".join(show(name, final[name]) for name in (f"test/{each}" for each in headlines) if name in final)
    parts = [f"validation {validation} (random encoder -> trained)"] if validation else []
    return "; ".join(parts + ([f"test {test}"] if test else [])) or "nothing was measured"


def origin(environment: Mapping[str, Any]) -> str:
    commit, data = environment.get("commit"), environment.get("dataset")
    version = environment.get("versions", {}).get("ssl-runner", "")
    code = f"Commit {commit[:7]}{' with uncommitted changes' if environment.get('dirty') else ''}" if commit else ""
    return (code or f"ssl-runner {version}".strip()) + (f", data {str(data)[:8]}" if data else "")

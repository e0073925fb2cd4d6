"""The comment above a recipe: what to type, and what came of it."""

import re
import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ssl_runner.config.check import Node
from ssl_runner.run_folder.atomic import read_json
from ssl_runner.run_folder.layout import ENVIRONMENT
from ssl_runner.run_folder.summary import guessed_meaning, read_summary

PROTOCOLS = {"knn": "kNN", "probe": "linear probe"}
WIDTH = 120


def header(
    run: Path,
    name: str,
    content: Mapping[str, Any],
    node: Node,
    left_out: Mapping[str, Any],
    missing: Sequence[str],
) -> list[str]:
    """What to type, and what came of it: time, hardware, seed, numbers, commit. No path and no host."""
    summary, environment = read_summary(run), read_json(run / ENVIRONMENT)
    command = " ".join([f"ssl-runner experiment={name}", *(f"{key}=FOLDER" for key in missing)])
    free = [key for key in left_out if key not in missing]
    with_own = (
        f"      (with {' '.join(f'{key}=FOLDER' for key in free)} where the default is not meant)" if free else ""
    )
    status, step, steps = (summary.get(key) for key in ("status", "step", "steps"))
    length = spelt(str(content["length"]))
    if status == "completed":
        done = f"{length} in {duration(summary)}"
    elif status is None:
        done = f"{length} were asked for, of a run without a summary"
    else:
        word = "cut off" if status == "running" else status
        done = f"{word.capitalize()} at step {step} of {steps} ({length}) after {duration(summary)}"
    story = (
        f"{done} on {hardware(environment)}, seed {content['seed']}: {numbers(summary, node)}. {origin(environment)}."
    )
    return [
        f"# {command}{with_own}",
        *(f"# {line}" for line in textwrap.wrap(story, WIDTH - 2, break_on_hyphens=False)),
    ]


def spelt(length: str) -> str:
    """`25 epochs`, `5000 steps`."""
    amount, unit = re.fullmatch(r"(.*?)([a-z%]*)", length).groups()  # type: ignore[union-attr]
    return f"{amount} { {'ep': 'epoch', 'st': 'step'}.get(unit, unit) }{'' if amount == '1' else 's'}"


def duration(summary: Mapping[str, Any]) -> str:
    seconds = float(summary.get("seconds") or 0)
    if seconds < 100:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.2g} minutes" if seconds < 100 * 60 else f"{seconds / 3600:.1f} hours"


def hardware(environment: Mapping[str, Any]) -> str:
    device = str(environment.get("device") or "a machine that is not known")
    on_cpu = re.fullmatch(r"cpu, (\w+), (\d+) threads", device)
    return f"{on_cpu[2]} CPU thread{'' if on_cpu[2] == '1' else 's'}, {on_cpu[1]}" if on_cpu else device


def numbers(summary: Mapping[str, Any], node: Node) -> str:
    """`validation kNN 41.5 -> 61.9 %, linear probe 51.2 -> 67.5 % (random encoder -> trained); test kNN 62.2 %`."""
    baseline, final, meanings = (summary.get(part) or {} for part in ("baseline", "final", "metrics"))
    headlines = {name: getattr(each.target, "headline", "top1") for name, each in node.arguments["evaluator"].items()}

    def listed(split: str) -> str:
        parts = []
        for name, headline in headlines.items():
            key = f"{split}{name}/{headline}"
            if key in final:
                share = (meanings.get(key) or guessed_meaning(key))["unit"] == "share"
                values = [part[key] for part in (baseline, final) if key in part]
                shown = " -> ".join(f"{100 * value:.1f}" if share else f"{value:.4g}" for value in values)
                parts.append(f"{PROTOCOLS.get(name, name)} {shown} {'%' if share else f'({headline})'}")
        return ", ".join(parts)

    validation, test = listed(""), listed("test/")
    parts = [f"validation {validation} (random encoder -> trained)"] if validation else []
    return "; ".join(parts + ([f"test {test}"] if test else [])) or "nothing was measured"


def origin(environment: Mapping[str, Any]) -> str:
    commit = environment.get("commit")
    version = environment.get("versions", {}).get("ssl-runner", "")
    code = f"Commit {commit[:7]}{' with uncommitted changes' if environment.get('dirty') else ''}" if commit else ""
    data = environment.get("dataset")
    return (code or f"ssl-runner {version}".strip()) + (f", data {str(data)[:8]}" if data else "")

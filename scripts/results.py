"""Finished and unfinished runs as a Markdown table, in per cent: python scripts/results.py outputs [FOLDER ...]

Each FOLDER is a run's own, or holds some at any depth. `a → b`: random encoder, then trained one, on validation;
`test`: the trained one on the test split, its evaluators in the order of the columns.
"""

import argparse
import json
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import yaml

GROUPS = ("pretext", "dataset", "model")


def find(folders: Iterable[Path]) -> dict[Path, str]:
    """Run folders and what to call them. Raises FileNotFoundError where there is none."""
    found: dict[Path, str] = {}
    for folder in folders:
        if not folder.is_dir():
            raise FileNotFoundError(f"{folder} is no folder; give run folders, or one that holds them, as outputs")
        runs = sorted(path.parent for path in folder.rglob("summary.json"))
        if not runs:
            raise FileNotFoundError(f"{folder} holds no run: there is no summary.json in it or below")
        for run in runs:
            found.setdefault(run.resolve(), str(run.relative_to(folder)) if run != folder else folder.resolve().name)
    return found


def read(run: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """Summary and config of a run. Raises ValueError or OSError where one is torn, foreign or absent."""
    summary, config = json.loads((run / "summary.json").read_text()), yaml.safe_load((run / "config.yaml").read_text())
    if not (isinstance(summary, dict) and isinstance(config, dict) and {"status", "baseline", "final"} <= {*summary}):
        raise ValueError("summary.json or config.yaml is not that of a run")
    return summary, config


def row(name: str, summary: dict[str, Any], config: dict[str, Any], measures: Sequence[str]) -> list[str]:
    if summary["status"] != "completed":
        name += f" ({summary['status']} at step {summary['step']:,} of {summary['steps']:,})"
    choices = config.get("choices", {})
    chosen = [choices.get(group) or config[group]["_target_"].rpartition(".")[2] for group in GROUPS]
    gains = [" → ".join(percent(summary[stage].get(m)) for stage in ("baseline", "final")) for m in measures]
    test = summary.get("test")  # not there before the end
    tested = " / ".join(percent(test.get(m.replace("/", "_"))) for m in measures) if test else ""
    speed = [f"{summary[key]:,.0f}" for key in ("seconds", "images_per_second")]
    return [name, *chosen, str(config["seed"]), str(config["length"]), *gains, tested, *speed]


def percent(share: float | None) -> str:
    return "-" if share is None else f"{100 * share:.2f}"


def main(words: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folders", nargs="+", type=Path, metavar="FOLDER")
    try:
        names = find(parser.parse_args(words).folders)
    except FileNotFoundError as error:
        parser.error(str(error))
    runs = {}
    for run in names:
        try:
            runs[run] = read(run)
        except (OSError, ValueError, yaml.YAMLError) as error:
            print(f"{run} is left out: {' '.join(str(error).split())}", file=sys.stderr)
    measures = sorted({m for s, _ in runs.values() for m in s["baseline"] | s["final"] if m.endswith("/top1")})
    heads = ["run", *GROUPS, "seed", "length", *(m.removesuffix("/top1") for m in measures), "test", "s", "images/s"]
    for cells in heads, ["---"] * len(heads), *(row(names[run], *runs[run], measures) for run in runs):
        print("|", " | ".join(cell.replace("|", "\\|") for cell in cells), "|")
    return 0 if len(runs) == len(names) else 1


if __name__ == "__main__":
    sys.exit(main())

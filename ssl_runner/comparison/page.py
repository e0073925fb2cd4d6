"""HTML page of a comparison, self-contained: data as JSON, styles and scripts inline, nothing fetched."""

from __future__ import annotations

import json
from collections.abc import Sequence
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ssl_runner.comparison.curves import downsample_curves, shorten_number
from ssl_runner.comparison.export import describe_difference
from ssl_runner.comparison.fairness import commit, device, fingerprint, versions
from ssl_runner.comparison.metrics import companions
from ssl_runner.comparison.render import remedy, summary_line
from ssl_runner.comparison.settings import describe, shorten
from ssl_runner.comparison.statistics import quantile
from ssl_runner.comparison.wording import plural

if TYPE_CHECKING:
    from ssl_runner.comparison.record import Run
    from ssl_runner.comparison.table import Comparison

HERE = Path(__file__).parent
SCRIPTS = ("state.js", "curves.js", "pareto.js", "rows.js")


def to_html(comparison: Comparison) -> str:
    """The page's text. Reads metrics.jsonl of every run, which nothing else of a comparison does."""
    parts = {
        "TITLE": escape(f"{comparison.metric or 'comparison'}, {plural(len(comparison.runs))}"),
        "STYLE": (HERE / "page.css").read_text(encoding="utf-8"),
        "SCRIPT": "\n".join((HERE / name).read_text(encoding="utf-8") for name in SCRIPTS),
        "DATA": embed(content(comparison)),
    }
    before, *rest = (HERE / "page.html").read_text(encoding="utf-8").split("{{")
    text = [before]
    for part in rest:  # one pass, so that what is put in is not searched again
        name, _, after = part.partition("}}")
        text += [parts[name], after]
    return "".join(text)


def embed(data: Any) -> str:
    """JSON that cannot end the element around it, whatever a run is called."""
    text = json.dumps(data, separators=(",", ":"), allow_nan=False)
    return text.replace("&", "\\u0026").replace("<", "\\u003c").replace(">", "\\u003e")


def content(comparison: Comparison) -> dict[str, Any]:
    place = {id(run): number for number, run in enumerate(comparison.runs)}
    of_group = {id(run): number for number, each in enumerate(comparison.groups) for run in each.runs}
    most = max([len(each.runs) for each in comparison.groups], default=2)
    keys = list(dict.fromkeys(key for run in comparison.runs for key in configuration(run)))
    curves = downsample_curves(comparison.runs)
    return {
        "metric": comparison.metric,
        "larger": comparison.larger_is_better(comparison.metric),
        "best": comparison.best,
        "keys": [[key, name] for key, name in shorten(comparison.keys).items()],
        "summary": summary_line(comparison, {}),
        "verdict": comparison.verdict,
        "warnings": comparison.warnings,
        "metrics": [
            {
                "name": name,
                "share": comparison.is_share(name),
                "larger": comparison.larger_is_better(name),
                **dict(zip(("baseline", "test"), companions(name), strict=True)),
            }
            for name in comparison.metrics
            if not name.startswith("baseline/")
        ],
        "t": [round(quantile(n), 4) for n in range(1, max(most, 2))],
        "groups": [
            {
                "settings": [each.settings[key] for key in comparison.keys],
                "runs": [place[id(run)] for run in each.runs],
                "difference": describe_difference(each.to_best),
                "worse": each.worse,
            }
            for each in comparison.groups
        ],
        "configuration": keys,
        "runs": [describe_run(run, of_group.get(id(run)), keys) for run in comparison.runs],
        "shares": [name for name in curves["curves"] if comparison.is_share(name)],
        **curves,
    }


def describe_run(run: Run, group: int | None, keys: Sequence[str]) -> dict[str, Any]:
    """A run's row, its settings by the places of `keys`."""
    own = configuration(run)
    return {
        **{key: getattr(run, key) for key in ("name", "status", "error", "seed", "step", "steps", "seconds")},
        "samples": run.samples_seen,
        "speed": run.samples_per_second,
        "batch": run.batch_size,
        "group": group,
        "folder": str(run.folder),
        "resume": "" if run.completed else remedy(run),
        "metrics": {name: shorten_number(value) for name, value in run.metrics.items()},
        "settings": [own.get(key) for key in keys],
    }


def configuration(run: Run) -> dict[str, str]:
    """Every setting of a run, and below them what it ran on."""
    machine = {"commit": commit(run), "device": device(run), "fingerprint": fingerprint(run)}
    machine |= {f"version of {name}": version for name, version in versions(run).items()}
    return {**describe(run), **{key: str(value) for key, value in machine.items() if value}}

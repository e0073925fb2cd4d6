"""Export of a comparison: CSV with a row for each run, JSON with everything, and a self-contained HTML page."""

import csv
import io
import json
import math
import re
from collections.abc import Callable, Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

from ssl_runner.comparison.confusions import page_confusions
from ssl_runner.comparison.curves import Curve, downsample_curves, read_curves, shorten_number
from ssl_runner.comparison.fairness import environment_facts
from ssl_runner.comparison.pictures import page_pictures
from ssl_runner.comparison.render import remedy, summary_line
from ssl_runner.comparison.run import Run, companions
from ssl_runner.comparison.settings import shorten
from ssl_runner.comparison.statistics import Difference, Group, Interval, quantile
from ssl_runner.comparison.table import Comparison
from ssl_runner.errors import plural
from ssl_runner.run_folder.layout import PEOPLE

ReadCurves = Callable[[Path], Mapping[str, Curve]]
FACTS = ("name", "status", "seed", "seconds", "samples_seen", "samples_per_second", "step", "steps")
HERE = Path(__file__).parent
ORDER = ("state", "filter", "zoom", "curves", "pareto", "parallel", "rows", "confusion", "page")


def to_csv(comparison: Comparison) -> str:
    """Plain numbers, one row a run, completed or not: the settings that differ, by whole keys, and all metrics."""
    metrics = sorted({name for run in comparison.runs for name in run.metrics})
    settings = {id(run): each.settings for each in comparison.groups for run in each.runs}
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(["run", *FACTS[1:], *comparison.keys, *metrics, "folder", "error"])
    for run in comparison.runs:
        own = settings.get(id(run), {**run.settings, **run.choices})
        chosen = [own.get(key, "") for key in comparison.keys]
        numbers = [run.metrics.get(name, "") for name in metrics]
        end = [str(run.folder), " ".join((run.error or "").split())]
        writer.writerow([*(getattr(run, fact) for fact in FACTS), *chosen, *numbers, *end])
    return out.getvalue()


def to_json(comparison: Comparison) -> str:
    runs = [describe_run(run) for run in comparison.runs]
    return json.dumps({**describe(comparison), "runs": runs}, indent=1, allow_nan=False) + "\n"


def describe(comparison: Comparison) -> dict[str, Any]:
    """All but the runs."""
    return {
        "metric": comparison.metric,
        "larger_is_better": comparison.larger,
        "unit": "share" if comparison.is_share(comparison.metric) else "number",
        "settings": comparison.keys,
        "common": comparison.common,
        "best_is_shown": comparison.best,
        "verdict": comparison.verdict,
        "warnings": comparison.warnings,
        "groups": [describe_group(each) for each in comparison.groups],
    }


def describe_group(each: Group) -> dict[str, Any]:
    return {
        "settings": each.settings,
        "runs": [run.name for run in each.runs],
        "values": each.values,
        "n": len(each.values),
        **describe_interval(each.interval),
        **({} if each.raw is None else {"raw": each.raw}),
        "baseline": each.baseline,
        "test": describe_interval(each.test),
        "to_first": describe_difference(each.to_best),
        "shown_worse": each.worse,
        "shown_better_on_common_seeds": each.better,
        "pareto_front": each.front,
        **{fact: each.mean(fact) for fact in ("seconds", "samples_seen", "samples_per_second")},
        "steps": each.mean("step"),
    }


def describe_interval(shown: Interval | None) -> dict[str, Any]:
    return {"mean": shown and shown.mean, "half": shown and finite(shown.half)}


def describe_difference(shown: Difference | None) -> dict[str, Any] | None:
    if shown is None:
        return None
    kind = "paired" if shown.paired else "Welch"
    return {"mean": -shown.mean, "half": finite(shown.half), "p": shown.p, "kind": kind, "n": shown.n}


def describe_run(run: Run) -> dict[str, Any]:
    mappings = {name: dict(getattr(run, name)) for name in ("choices", "settings", "metrics", "environment")}
    plain = {name: getattr(run, name) for name in (*FACTS, "error", "health")}
    return {**plain, "folder": str(run.folder), **mappings}


def finite(number: float) -> float | None:
    return number if math.isfinite(number) else None


def to_html(comparison: Comparison, read: ReadCurves = read_curves, live: bool = False) -> str:
    """The page's text. Reads metrics.jsonl of every run, which nothing else of a comparison does.

    `live`: it asks where it came from for newer rows.
    """
    parts = {
        "CONNECT": "; connect-src 'self'" if live else "",
        "LIVE": json.dumps(live),
        "TITLE": escape(f"{comparison.metric or 'comparison'}, {plural(len(comparison.runs), 'run')}"),
        "STYLE": (HERE / "page.css").read_text(encoding="utf-8"),
        "SCRIPT": "\n".join((HERE / f"{name}.js").read_text(encoding="utf-8") for name in (*ORDER, *["live"] * live)),
        "DATA": embed(page_content(comparison, read)),
    }
    # in one pass, so that what is put in is not searched again
    return re.sub(r"{{(\w+)}}", lambda match: parts[match[1]], (HERE / "page.html").read_text(encoding="utf-8"))


def to_rows(comparison: Comparison, read: ReadCurves = read_curves) -> str:
    """What a page that is live asks for."""
    return json.dumps(page_content(comparison, read), separators=(",", ":"), allow_nan=False)


def embed(data: Any) -> str:
    """JSON that cannot end the element around it, whatever a run is called."""
    text = json.dumps(data, separators=(",", ":"), allow_nan=False)
    return text.replace("&", "\\u0026").replace("<", "\\u003c").replace(">", "\\u003e")


def page_content(comparison: Comparison, read: ReadCurves = read_curves) -> dict[str, Any]:
    """What state.js reads: the JSON export with runs in short, metrics with their meaning, and curves."""
    curves = downsample_curves([read(run.folder) for run in comparison.runs])
    metrics = [
        {"name": name, "share": comparison.is_share(name), "larger": comparison.larger_is_better(name)}
        | dict(zip(("raw", "baseline", "test"), companions(name), strict=True))
        for name in comparison.metrics
        if not name.startswith(("raw/", "baseline/"))
    ]
    return {
        **describe(comparison),
        "larger": comparison.larger_is_better(comparison.metric),
        "keys": [*shorten(comparison.keys).items()],
        "summary": summary_line(comparison, {}),
        "metrics": metrics,
        "t": [round(quantile(n), 4) for n in range(1, max(len(comparison.runs), 2))],
        **page_runs(comparison.runs),
        "shares": [name for name in curves["curves"] if comparison.is_share(name)],
        "pictures": page_pictures(comparison.groups),
        "confusions": page_confusions(comparison.groups),
        **curves,
    }


def is_shown(key: str) -> bool:
    """Whether a page shows a setting: not name, tags and notes, nor choices, which stand under their groups' names."""
    return key not in PEOPLE and not key.startswith("choices.")


def page_runs(runs: Sequence[Run]) -> dict[str, Any]:
    """Runs with their numbers by their place in `names`, and settings: those that all of them share stand once."""
    names = sorted({name for run in runs for name in run.metrics})
    every = [configuration(run) for run in runs]
    shared = {key: value for key, value in every[0].items() if all(own.get(key) == value for own in every)}
    return {
        "names": names,
        "shared": shared,
        "runs": [
            {
                **{name: getattr(run, name) for name in (*FACTS, "error", "batch_size", "label", "tags", "notes")},
                "folder": str(run.folder),
                "resume": "" if run.completed else remedy(run),
                "metrics": [shorten_number(run.metrics[name]) if name in run.metrics else None for name in names],
                "configuration": {key: value for key, value in own.items() if key not in shared},
            }
            for run, own in zip(runs, every, strict=True)
        ],
    }


def configuration(run: Run) -> dict[str, str]:
    """Every setting, with what the run ran on."""
    machine = {key: str(each) for key, each in environment_facts(run).items() if each and key != "host"}
    return {key: each for key, each in run.traits.items() if is_shown(key)} | machine

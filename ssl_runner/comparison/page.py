"""A comparison as one self-contained page: its data as JSON, its styles and scripts inline, nothing fetched."""

import json
from collections.abc import Sequence
from html import escape
from pathlib import Path
from typing import Any

from ssl_runner.comparison.data import comparable
from ssl_runner.comparison.export import of_difference
from ssl_runner.comparison.fairness import commit, device, versions
from ssl_runner.comparison.metric import companions, evaluator_of, is_share, larger_is_better
from ssl_runner.comparison.record import Run
from ssl_runner.comparison.render import go_on, summary_line
from ssl_runner.comparison.settings import described, differing, short
from ssl_runner.comparison.statistics import quantile
from ssl_runner.comparison.table import Comparison
from ssl_runner.comparison.thin import drawn, rounded

HERE = Path(__file__).parent
SCRIPTS = ("state.js", "curves.js", "pareto.js", "rows.js")


def page(made: Comparison) -> str:
    """The page's text. Reads metrics.jsonl of every run, which nothing else of a comparison does."""
    parts = {
        "TITLE": escape(f"{made.metric or 'comparison'}, {len(made.runs)} run{'s' * (len(made.runs) != 1)}"),
        "STYLE": (HERE / "page.css").read_text(encoding="utf-8"),
        "SCRIPT": "\n".join((HERE / name).read_text(encoding="utf-8") for name in SCRIPTS),
        "DATA": embedded(content(made)),
    }
    before, *rest = (HERE / "page.html").read_text(encoding="utf-8").split("{{")
    found = [before]
    for part in rest:  # one pass, so that what is put in is not searched again
        name, _, after = part.partition("}}")
        found += [parts[name], after]
    return "".join(found)


def embedded(data: Any) -> str:
    """JSON that cannot end the element it stands in, whatever a run is called."""
    text = json.dumps(data, separators=(",", ":"), allow_nan=False)
    return text.replace("&", "\\u0026").replace("<", "\\u003c").replace(">", "\\u003e")


def content(made: Comparison) -> dict[str, Any]:
    place = {id(run): number for number, run in enumerate(made.runs)}
    of_group = {id(run): number for number, each in enumerate(made.groups) for run in each.runs}
    most = max([len(each.runs) for each in made.groups], default=2)
    keys = list(dict.fromkeys(key for run in made.runs for key in configuration(run)))
    return {
        "metric": made.metric,
        "larger": larger(made, made.metric),
        "best": made.best,
        "keys": [[key, name] for key, name in short(made.keys).items()],
        "summary": summary_line(made, {}),
        "verdict": made.verdict,
        "warnings": made.warnings,
        "metrics": [
            {
                "name": name,
                "share": is_share(name),
                "larger": larger(made, name),
                "baseline": companions(name)[0],
                "test": companions(name)[1],
            }
            for name in offered(made)
        ],
        "t": [round(quantile(n), 4) for n in range(1, max(most, 2))],
        "groups": [
            {
                "settings": [each.settings[key] for key in made.keys],
                "runs": [place[id(run)] for run in each.runs],
                "difference": of_difference(each.to_best),
                "worse": each.worse,
            }
            for each in made.groups
        ],
        "configuration": keys,
        "runs": [
            {
                **{key: getattr(run, key) for key in ("name", "status", "error", "seed", "step", "steps", "seconds")},
                "images": run.images_seen,
                "speed": run.images_per_second,
                "batch": run.batch_size,
                "group": of_group.get(id(run)),
                "folder": str(run.folder),
                "resume": "" if run.completed else go_on(run),
                "metrics": {name: rounded(value) for name, value in run.metrics.items()},
                "settings": [configuration(run).get(key) for key in keys],
            }
            for run in made.runs
        ],
        **drawn(made.runs),
    }


def larger(made: Comparison, name: str | None) -> bool | None:
    """Whether larger is better, None where that is not known or the groups are not to be ranked by it."""
    if not comparable(name, made.keys):
        return None
    return made.larger if name == made.metric else larger_is_better(name)


def offered(made: Comparison) -> list[str]:
    """Metrics to choose from on the page: those that every run measured in the same way, so that its groups hold."""
    done = [run for run in made.runs if run.completed]
    apart = {key for key in differing_evaluators(done) if key not in made.keys}
    names = [name for name in made.metrics if not name.startswith("baseline/")]
    return [
        name for name in names if not any(key.startswith(f"evaluator.{evaluator_of(name, done)}.") for key in apart)
    ]


def differing_evaluators(runs: Sequence[Run]) -> list[str]:
    known = {key.split(".")[1] for run in runs for key in run.settings if key.startswith("evaluator.")}
    return [key for name in known for key in differing(runs, name) if key.startswith("evaluator.")]


def configuration(run: Run) -> dict[str, str]:
    """Every setting of a run, and below them what it ran on."""
    machine = {"commit": commit(run), "device": device(run), "fingerprint": run.environment.get("dataset")}
    machine |= {f"version of {name}": version for name, version in versions(run).items()}
    return {**described(run), **{key: str(value) for key, value in machine.items() if value}}

"""Runs as pandas data frames: settings and numbers, a row a run, and curves, a row a step."""

import os
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ssl_runner.comparison.record import load_runs
from ssl_runner.comparison.run import Run, name_metrics
from ssl_runner.config import files
from ssl_runner.config.override import leaves
from ssl_runner.run_folder.layout import CONFIG, METRICS
from ssl_runner.run_folder.metrics import read_rows

if TYPE_CHECKING:
    from pandas import DataFrame

INSTALL = "pandas is not installed; type pip install 'ssl-runner[notebook]'"
LEADING = ("folder", "status", "step", "steps", "seconds", "samples_per_second", "health")


def runs(*places: str | os.PathLike[str]) -> "DataFrame":
    """Every run below some folders, `outputs` by default: a row each, by its name, with settings and numbers.

    Columns: folder, status, step, steps, seconds, samples_per_second and health; the choice in each group, as
    `pretext`; every setting by its whole key, as `optimizer.lr`, with its value; and every number as `ssl-runner
    compare` has it: `knn/top1`, `test/knn/top1`, `baseline/knn/top1`, `best/knn/top1`, `gain/knn/top1`.
    A file that cannot be read is left out with a warning. Raises ImportError without pandas, and ValueError if a place
    is no folder or holds no run.
    """
    pandas, read = import_pandas(), read_runs(places)
    metrics, *_ = name_metrics(read)
    rows = []
    for run, numbers in zip(read, metrics, strict=True):
        known: dict[str, Any] = {name: getattr(run, name) for name in LEADING} | dict(run.choices)
        settings = leaves(files.read(run.folder / CONFIG))
        known |= {k: v for k, v in settings.items() if not k.startswith("choices.") and not k.endswith("_target_")}
        rows.append({**known, **numbers})
    table: DataFrame = pandas.DataFrame(rows, index=pandas.Index([run.name for run in read], name="run"))
    return table


def curves(*places: str | os.PathLike[str]) -> "DataFrame":
    """What the runs below some folders have logged: a row a step, by the run's name as in `runs` and the step.

    Columns: epoch, time in seconds, and every number by its name, NaN at a step that has none. Raises as `runs`.
    """
    pandas, merged = import_pandas(), dict[tuple[str, int], dict[str, Any]]()
    for run in read_runs(places):
        for row in read_rows(run.folder / METRICS):
            merged.setdefault((run.name, row.pop("step")), {}).update(row)
    index = pandas.MultiIndex.from_tuples(merged, names=["run", "step"])
    table: DataFrame = pandas.DataFrame([*merged.values()], index=index)
    return table


def read_runs(places: tuple[str | os.PathLike[str], ...]) -> list[Run]:
    read, problems, broken = load_runs([Path(each) for each in places or ("outputs",)])
    for line in broken:
        warnings.warn(line, stacklevel=3)
    if problems:
        raise ValueError("; ".join(problems))
    return read


def import_pandas() -> Any:
    """Raises ImportError with what to type."""
    try:
        import pandas
    except ImportError:
        raise ImportError(INSTALL) from None
    return pandas

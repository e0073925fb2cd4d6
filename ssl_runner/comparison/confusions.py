"""Confusion matrices of trained encoders, as training and `ssl-runner evaluate` keep them, for a page."""

from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

from ssl_runner.comparison.record import load_json, require_keys
from ssl_runner.comparison.run import Run
from ssl_runner.comparison.statistics import Group
from ssl_runner.run_folder.layout import CONFUSION, EVALUATION
from ssl_runner.run_folder.metrics import is_count
from ssl_runner.run_folder.origin import recorded_fingerprint
from ssl_runner.run_folder.results import result_folder

MOST = 400_000  # cells of all matrices of a page: about a megabyte


def page_confusions(groups: Iterable[Group]) -> dict[str, list[dict[str, Any]]]:
    """By the name of a run, its matrices: of one run of each of the first groups, as many as a page can carry."""
    confusions: dict[str, list[dict[str, Any]]] = {}
    left = MOST
    for group in groups:
        run = group.runs[0]
        matrices = read_confusions(run)
        left -= sum(len(each["classes"]) ** 2 for each in matrices.values())
        if left < 0:
            break
        if matrices:
            confusions[run.name] = [{"name": name, **each} for name, each in sorted(matrices.items())]
    return confusions


def read_confusions(run: Run) -> dict[str, dict[str, Any]]:
    """Step, classes and rows of the newest matrix of each accuracy, by the name that the accuracy has in a comparison.

    Those of another step than the run's last, of random encoders, and files that are damaged are left out.
    """
    matrices: dict[str, dict[str, Any]] = {}
    for evaluator, data, path in matrix_files(run):
        with suppress(Exception):  # a damaged file can raise anything
            matrix = require_keys(load_json(path), CONFUSION, ("number", "step", "classes", "rows"))
            if is_matrix(matrix) and matrix["step"] in (None, run.step):
                name = f"{evaluator}/{matrix['number']}{data}"
                matrices[name] = {key: matrix[key] for key in ("step", "classes", "rows")}
    return matrices


def matrix_files(run: Run) -> Iterator[tuple[str, str, Path]]:
    """`test/probe`, `@dataset` if it is not the run's own, and the file: of training, then of `evaluate` by age."""
    folder = run.folder / EVALUATION
    for path in sorted(folder.glob(f"*/*-training/{CONFUSION}")):
        yield f"{'test/' * path.parent.name.startswith('test')}{path.parts[-3]}", "", path
    own = (run.choices.get("dataset"), recorded_fingerprint(run.changes, run.environment))
    rows: list[dict[str, Any]] = []
    for file in sorted(folder.glob("*.json")):
        with suppress(Exception):
            rows += [row for row in load_json(file)["results"] if row["encoder"] != "random"]
    for row in sorted(rows, key=lambda row: str(row.get("time", ""))):
        with suppress(Exception):
            data = "" if (row["dataset"], row.get("fingerprint")) == own else f"@{row['dataset']}"
            yield f"{'test/' * (row['split'] == 'test')}{row['protocol']}", data, result_folder(folder, row) / CONFUSION


def is_matrix(content: dict[str, Any]) -> bool:
    """Whether there is a row and a column for each class."""
    names, rows = content["classes"], content["rows"]
    square = isinstance(rows, list) and all(isinstance(row, list) and len(row) == len(names) for row in rows)
    whole = square and len(rows) == len(names) > 0 and all(is_count(each) for row in rows for each in row)
    return bool(whole and all(isinstance(name, str) for name in names))

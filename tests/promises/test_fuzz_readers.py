"""Any JSON in the place of any value of a run's or a sweep's files: readers leave it out or name it, and never break.

`SSL_RUNNER_FUZZ=5000 pytest tests/promises/test_fuzz_readers.py` tries as many for each reader.
"""

import copy
import io
import json
import os
from contextlib import suppress
from functools import partial

import pytest
from comparison_toys import ENVIRONMENT, SETTINGS, SUMMARY, evaluated, make_run
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from rich.console import Console

from ssl_runner.comparison.export import to_csv, to_html, to_json
from ssl_runner.comparison.record import load_runs
from ssl_runner.comparison.render import print_terminal, to_markdown
from ssl_runner.comparison.table import compare
from ssl_runner.config import files
from ssl_runner.run_folder.environment import changed_versions, changes
from ssl_runner.run_folder.metrics import read_rows
from ssl_runner.run_folder.summary import read_summary, summarise_numbers, typed_summary
from ssl_runner.sweep.ledger import Ledger, job_key
from ssl_runner.sweep.objective import Curve, value

EXAMPLES = int(os.environ.get("SSL_RUNNER_FUZZ", "50"))
HUGE = [10**400, -(10**400), 2**64, 2**53, 1e308, -1e308, 5e-324, float("nan"), float("inf"), -1, True, -0.0]
WORDS = ["", "x", "/", "a/b", "../x", "completed", "running", "larger", "test/", "knn/top1", "\u202e", "\x1b[31m", "\0"]
PLAIN = st.none() | st.sampled_from([*HUGE, *WORDS]) | st.integers() | st.floats() | st.text(max_size=8)
NAMES = st.sampled_from(WORDS) | st.text(max_size=5)
VALUES = st.recursive(
    PLAIN, lambda each: st.lists(each, max_size=3) | st.dictionaries(NAMES, each, max_size=3), max_leaves=6
)
fuzzed = settings(
    max_examples=EXAMPLES,
    database=None,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)


def places(content, at=()):
    """Every place in nested lists and mappings."""
    yield at
    if isinstance(content, dict | list):
        for key in content if isinstance(content, dict) else range(len(content)):
            yield from places(content[key], (*at, key))


@st.composite
def changed(draw, content):
    """The content with one value or two replaced, or keys added."""
    content = copy.deepcopy(content)
    for _ in range(draw(st.integers(1, 2))):
        (*above, last) = draw(st.sampled_from([each for each in places(content) if each] or [("x",)]))
        node = content
        for key in above:
            node = node[key]
        new = draw(st.sampled_from(WORDS)) if isinstance(node, dict) and draw(st.booleans()) else last
        node[new] = draw(VALUES)
    return content


ROW = {"step": 4, "epoch": 0.5, "time": 1.5, "knn/top1": 0.5, "train/loss": 2.0}
JOBS = [["seed=0", "optimizer.lr=0.1"], ["seed=1", "optimizer.lr=0.1"]]
SWEEP = {"format": 1, "began": "2026-01-31T12:00:00", "cwd": "/", "command": ["seed=0,1"], "jobs": {}}
for number, words in enumerate(JOBS):
    SWEEP["jobs"][job_key(words)] = {"number": number, "overrides": words, "folder": f"00{number}", "final": {"a": 0.1}}


def put(path, content):
    path.write_text(f"{json.dumps(content)}\n")


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs")
    evaluated(make_run(folder / "good", 0.7, seed=1), 0.5)
    evaluated(make_run(folder / "bad", 0.6), 0.4)
    put(folder / "bad/metrics.jsonl", ROW)
    return folder


FILES = {"summary.json": SUMMARY, "environment.json": ENVIRONMENT, "config.yaml": SETTINGS, "metrics.jsonl": ROW}


@pytest.mark.parametrize("name", [*FILES, "evaluation/probe.json"])
def test_comparison(runs, name):
    file = runs / "bad" / name
    sound = file.read_text()

    @fuzzed
    @given(changed(json.loads(sound)))
    def check(content):
        put(file, content)
        found, problems, broken = load_runs([runs])
        assert (not problems, found[-1].name) == (True, "good")
        assert all(line.startswith(str(runs / "bad")) and len(line) < 2000 for line in broken)
        comparison = compare(found)
        for show in (to_csv, to_json, to_html, partial(to_markdown, most=0)):
            assert show(comparison)
        print_terminal(comparison, Console(file=io.StringIO(), markup=False), 0)

    try:
        check()
    finally:
        file.write_text(sound)


@fuzzed
@given(changed(SUMMARY), changed(ROW), changed(ENVIRONMENT))
def test_what_a_run_reads_again(tmp_path, summary, row, environment):
    put(tmp_path / "summary.json", summary)
    put(tmp_path / "metrics.jsonl", row)
    put(tmp_path / "environment.json", environment)
    known = read_summary(tmp_path)
    assert typed_summary(known) == known
    summarise_numbers(tmp_path, known.get("metrics", {}), known.get("step", 0))
    for each in read_rows(tmp_path / "metrics.jsonl"):
        assert all(abs(float(number)) >= 0 or number != number for number in each.values())
    curve = Curve(tmp_path / "metrics.jsonl", "knn/top1")
    curve.read()
    assert value(known, curve.points, "knn/top1") is None or known["status"] in ("completed", "stopped")
    changed_versions(environment if isinstance(environment, dict) else {})
    assert all(isinstance(line, str) for line in changes(tmp_path, tmp_path))


@fuzzed
@given(changed(SWEEP), changed(SUMMARY))
def test_a_sweep_is_opened_or_refused(tmp_path, content, summary):
    put(tmp_path / "sweep.json", content)
    (tmp_path / "000").mkdir(exist_ok=True)
    put(tmp_path / "000/summary.json", summary)
    with suppress(ValueError):
        ledger = Ledger.open(tmp_path)
        assert all(key == job_key(each.overrides) for key, each in ledger.jobs.items())
        ledger.write()
        assert Ledger.open(tmp_path) == ledger


@fuzzed
@given(changed(SETTINGS) | VALUES, st.integers(0, 400))
def test_a_config_is_read_or_refused(tmp_path, content, cut):
    file = tmp_path / "config.yaml"
    put(file, content)
    text = file.read_text()
    for part in (text, text[:-cut]):
        file.write_text(part)
        with suppress(ValueError):
            assert isinstance(files.read(file), dict)
            assert part == text, "a file that was cut off is not read as if it were whole"

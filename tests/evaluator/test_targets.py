"""Targets of numbers and of several labels, by config: trained, measured, evaluated, compared."""

from pathlib import Path

import pytest
from conftest import tiny

from ssl_runner.__main__ import main
from ssl_runner.comparison.record import load_runs
from ssl_runner.comparison.table import compare
from ssl_runner.run_folder.atomic import read_json
from ssl_runner.run_folder.summary import read_summary

CONF = Path(__file__).parent / "conf"


def test_a_run_is_measured_on_numbers_and_on_labels(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("SSL_RUNNER_TRUST", "evaluator_toys")
    words = [each for each in tiny("evaluator=[numbers,labels]") if not each.startswith("dataset.")]
    run = tmp_path / "run"
    assert main(["--config-dir", str(CONF), "dataset=tagged", *words, f"hydra.run.dir={run}"]) == 0, capsys.readouterr()
    summary = read_summary(run)
    units = {"r2": "number", "map": "share"}
    headlines = ["probe_numbers/r2", "knn_numbers/r2", "probe_labels/map", "knn_labels/map"]
    assert sorted(summary["headlines"]) == sorted(headlines)
    for name in headlines:
        told = {"better": "larger", "unit": units[name.partition("/")[2]]}
        assert summary["metrics"][name] == summary["metrics"][f"test/{name}"] == told
        assert summary["final"][name] == pytest.approx(summary["final"][f"test/{name}"], abs=0.5)
    assert summary["final"]["probe_numbers/r2"] > 0.3, "the colour of the background is most of an image"
    assert summary["final"]["probe_labels/map"] > 0.7
    printed = capsys.readouterr().out
    assert "probe_numbers" in printed
    again = ("evaluator.probe.target=tags", "evaluator.probe.l2=[1e-1,1e-3,1e-5]", "split=test")
    assert main(["evaluate", str(run), "probe", *again]) == 0, capsys.readouterr()
    (result,) = read_json(run / "evaluation/probe.json")["results"]
    assert result["value"] == summary["final"]["test/probe_labels/map"]
    comparison = compare(load_runs([run])[0])
    assert comparison.metric in headlines
    assert not comparison.warnings


def test_what_needs_classes_is_refused_with_what_it_could_be(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("SSL_RUNNER_TRUST", "evaluator_toys")
    words = [each for each in tiny("evaluator=[knn]", "evaluator.knn.k=3") if not each.startswith("dataset.")]
    assert main(["--config-dir", str(CONF), "dataset=tagged", *words, f"hydra.run.dir={tmp_path / 'run'}"]) == 2
    assert "the rows have no class; possible are shape, colour" in capsys.readouterr().err

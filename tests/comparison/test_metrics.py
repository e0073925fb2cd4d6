"""Metrics: one name for a quantity wherever it was measured, its meaning, and ways of measuring that are not mixed."""

import itertools
import re

import pytest
from comparison_toys import ACCURACY, PROBE, SUMMARY, compared, evaluated, make_run, pretext, seeds

from ssl_runner.comparison.export import page_content
from ssl_runner.comparison.table import Unknown
from ssl_runner.run_folder.atomic import write_json


def test_training_and_evaluation_measure_the_same_quantity(tmp_path):
    """In the same way the later one counts; `evaluate` adds what training did not measure."""
    run = make_run(tmp_path / "a")
    evaluated(run, 0.3, encoder="random", step=0)
    evaluated(run, 0.5, step=700)  # of a checkpoint in between
    evaluated(run, 0.82, time="2026-01-31T13:00:00")
    evaluated(run, 0.81)
    evaluated(run, 0.9, dataset="digits", fingerprint="beef")
    comparison = compared(tmp_path, "test/probe/top1")
    group = comparison.groups[0]
    assert (group.interval.mean, group.baseline, group.test) == (0.82, 0.3, None)
    assert comparison.runs[0].metrics["gain/test/probe/top1"] == pytest.approx(0.52)
    assert comparison.warnings == ["1 result of checkpoints before the last step is left out"]
    assert compared(tmp_path, "test/probe/top1@digits").groups[0].interval.mean == 0.9
    validation = compared(tmp_path, "probe/top1").groups[0]
    assert (validation.interval.mean, validation.baseline, validation.test.mean) == (0.8, 0.4, 0.82)


def test_a_gain_above_zero_is_better_also_where_less_is(tmp_path):
    error = {"better": "smaller", "unit": "share"}
    for name, value in (("a", 0.2), ("b", 0.6)):  # the random encoder's is 0.5
        run = make_run(tmp_path / name, pretext=pretext(name)["pretext"], choices={"pretext": name})
        for encoder, step, number in (("random", 0, 0.5), ("encoder.safetensors", 1400, value)):
            values = {"values": {"top1": number}, "metrics": {"top1": error}}
            evaluated(run, number, encoder=encoder, step=step, protocol="abx", **values)
    comparison = compared(tmp_path, "gain/test/abx/top1")
    assert [pytest.approx(each.interval.mean) for each in comparison.groups] == [0.3, -0.1], "the best is the first"
    assert (comparison.larger, comparison.larger_is_better("test/abx/top1")) == (True, False)


def test_ways_of_evaluating_are_never_mixed(tmp_path):
    """Training measured in all runs with version 2 of the probe; three were evaluated by other settings or versions."""
    for seed, more in enumerate(({}, {"settings": {"l2": [0.5]}}, {"settings": {"l2": [0.5]}}, {"version": 3})):
        run = make_run(tmp_path / str(seed), seed=seed)
        if more:
            evaluated(run, 0.1 * seed, **more)
    comparison = compared(tmp_path, "test/probe/top1")
    assert comparison.groups[0].values == dict.fromkeys(range(4), 0.79)
    assert "measured in 3 ways, which are not mixed" in comparison.warnings[0]
    assert re.search(r"#\w{6} \(2 runs: version 2, _target_ -, l2 \[0\.5\]\)", comparison.warnings[0])
    names = re.findall(r"test/probe/top1#\w+", comparison.warnings[0])
    assert [len(compared(tmp_path, name).groups[0].values) for name in names] == [4, 2, 1]


def test_ways_of_measuring_in_training_are_told_apart(tmp_path):
    """Evaluators change nothing that is learnt: one group, in which the number is of one way of measuring."""
    seeds(tmp_path, "a", {0: 0.5, 1: 0.6})
    make_run(tmp_path / "b", 0.9, seed=2, evaluator={"probe": {"l2": [0.5]}})
    comparison = compared(tmp_path)
    assert [each.values for each in comparison.groups] == [{0: 0.5, 1: 0.6}]
    assert re.search(r"probe/top1 was measured in 2 ways.*l2 \[0\.5\]", comparison.warnings[0])
    assert "probe/top1 was not measured in 1 of 3 completed runs" in comparison.warnings[1]
    offered = [each["name"] for each in page_content(comparison)["metrics"]]
    assert len([name for name in offered if name.startswith("probe/top1#")]) == 2
    assert "test/knn/top1" not in offered
    make_run(tmp_path / "c", 0.7, seed=3, evaluator={"probe": {"every": "10%", "target": None}})  # the same way
    assert compared(tmp_path).groups[0].values == {0: 0.5, 1: 0.6, 3: 0.7}


def test_where_it_was_evaluated_is_compared_unless_the_number_is_only_repeated(tmp_path):
    runs = [make_run(tmp_path / str(seed), seed=seed) for seed in range(2)]
    evaluated(runs[1], 0.79, device="NVIDIA H100")  # to the bits of training
    assert not compared(tmp_path, "test/probe/top1").warnings
    for run, torch, device in zip(runs, ("2.13.0", "2.14.0"), ("cpu, 2 threads", "NVIDIA H100"), strict=True):
        versions = {"torch": torch, "python": "3.11"}
        evaluated(run, 0.5, device=device, versions=versions, commit="a" * 40, time="2026-01-31T13:00:00")
    facts = ["torch of the evaluation differs", "device of the evaluation differs"]
    assert [line.split(": ")[1] for line in compared(tmp_path, "test/probe/top1").warnings] == facts
    assert not compared(tmp_path, "probe/top1").warnings


def test_numbers_that_only_describe_are_shown_and_not_judged(tmp_path):
    for (name, value), seed in itertools.product((("simclr", 0.1), ("byol", 0.9)), range(3)):
        final = {"geometry/alignment": value + 0.01 * value * seed**2, "geometry/rankme": 9.0 + seed}
        summary = {"final": final, "baseline": {}, "best": {}}
        make_run(tmp_path / f"{name}-{seed}", summary=summary, seed=seed, **pretext(name))
    comparison = compared(tmp_path)
    assert comparison.metric is None
    assert "No accuracy was measured; --metric takes geometry/alignment, geometry/rankme" in comparison.verdict
    comparison = compared(tmp_path, "geometry/alignment")
    assert (comparison.larger, page_content(comparison)["larger"], comparison.best) == (None, None, False)
    assert all(each.to_best is None and not each.front and not each.worse for each in comparison.groups)
    assert comparison.verdict.count("--larger or --smaller") == 1
    for smaller, first in ((True, "simclr"), (False, "byol")):
        comparison = compared(tmp_path, "geometry/alignment", smaller, not smaller)
        settings = comparison.groups[0].settings["pretext"]
        assert (comparison.best, comparison.larger, settings) == (True, not smaller, first)


def test_direction_and_unit_of_each_metric_are_those_of_the_run_or_as_typed(tmp_path):
    for name, loss in (("rotation", 2.0), ("flip", 1.0)):
        final = {"probe/top1": 0.5, "held/loss": loss, "geometry/rankme": 3.0}
        make_run(tmp_path / name, summary={"final": final}, **pretext(name))
    assert compared(tmp_path, "held/loss").groups[0].interval.mean == 1.0
    assert compared(tmp_path, "best/probe/top1", True).larger is False
    known = {each["name"]: (each["larger"], each["share"]) for each in page_content(compared(tmp_path))["metrics"]}
    assert (known["probe/top1"], known["gain/probe/top1"]) == ((True, True), (True, True))
    assert (known["held/loss"], known["geometry/rankme"]) == ((False, False), (None, False))
    make_run(tmp_path / "c", choices={"dataset": "digits"}, environment={"dataset": "beef"})
    assert not any(each["larger"] for each in page_content(compared(tmp_path))["metrics"])


def test_the_default_is_an_accuracy_and_may_be_missing(tmp_path):
    make_run(tmp_path / "a", summary={"final": {"knn/top1": 0.5}})
    assert compared(tmp_path).metric == "knn/top1"
    make_run(tmp_path / "b", summary={"final": {}}, **pretext("flip"))
    comparison = compared(tmp_path)
    assert [each.interval is None for each in comparison.groups] == [False, True]
    assert "knn/top1 was not measured in 1 of 2 completed runs" in comparison.warnings
    with pytest.raises(Unknown, match="knn/top1"):
        compared(tmp_path, "kn/top1")
    numbers = {"few_label/knn_1": 0.5, "few_label/mean": 0.6}
    meanings = {"headlines": ["few_label/mean"], "metrics": dict.fromkeys(numbers, ACCURACY)}
    run = make_run(tmp_path / "c", summary={"final": numbers, "baseline": {}, "best": {}, **meanings})
    assert compared(run).metric == "few_label/mean", "without probe and knn a headline"


def test_the_default_is_what_most_runs_have_and_that_is_said(tmp_path):
    for number, final in enumerate(({"knn/top1": 0.5}, {"knn/top1": 0.6}, {"knn/top1": 0.7, "probe/top1": 0.8})):
        make_run(tmp_path / str(number), summary={"final": final, "best": {}}, seed=number)
    comparison = compared(tmp_path)
    assert (comparison.metric, comparison.groups[0].values) == ("knn/top1", {0: 0.5, 1: 0.6, 2: 0.7})
    told = "compared by knn/top1, as only 1 of 3 completed runs has probe/top1; to compare these, type "
    assert comparison.warnings == [f"{told}--metric probe/top1"]
    assert compared(tmp_path, "probe/top1").warnings == ["probe/top1 was not measured in 2 of 3 completed runs"]
    assert compared(tmp_path / "2").metric == "probe/top1"


def test_runs_of_version_01_are_compared_with_todays(tmp_path):
    """Their summaries had a part for the test split, other names, and no meanings; their configs lack null settings."""
    old = {key: value for key, value in SUMMARY.items() if key not in ("headlines", "metrics", "protocols")}
    old |= {"final": {"probe/top1": 0.6, "held/loss": 1.0}, "test": {"probe_top1": 0.59}, "images_per_second": 9.0}
    run = make_run(tmp_path / "old", seed=1)
    write_json(run / "summary.json", old)
    make_run(tmp_path / "new", optimizer={"clip": None})
    for typed in ("test/probe/top1", "test/probe_top1"):  # as it was called then
        comparison = compared(tmp_path, typed)
        assert (comparison.groups[0].values, comparison.warnings) == ({0: 0.79, 1: 0.59}, [])
    assert comparison.runs[1].samples_per_second == 9.0
    assert compared(tmp_path, "validation/probe/top1").metric == "probe/top1"
    assert compared(tmp_path, "held/loss").larger is False
    evaluated(run, 0.58, metrics=None, settings=PROBE)
    assert compared(tmp_path, "test/probe/top1").groups[0].values == {0: 0.79, 1: 0.58}

"""What a run says of itself and does at its end: its table, its row of hyperparameters, on_collapse warn or stop."""

import io
import re

import pytest
import torch
from conftest import tiny
from rich.console import Console
from runs import enter, saved, summary
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from ssl_runner.device import placement
from ssl_runner.errors import plural
from ssl_runner.run.report import hparams, print_end
from ssl_runner.run_folder.metrics import read_rows
from ssl_runner.run_folder.summary import guessed_meaning

COLLAPSE = tiny(
    *("pretext=byol", "pretext.predictor=false", "pretext.momentum=0", "pretext.hidden=32", "pretext.out=16"),
    *("evaluator=[geometry]", "evaluator.geometry.views=2", "evaluator.geometry.samples=64", "show_every=100%"),
    *("length=40st", "evaluator.geometry.every=8st", "optimizer.warm_up=0st", "optimizer.lr=0.01", "hydra.run.dir=run"),
)


@pytest.mark.slow
def test_stop_stops_also_when_resumed_and_warn_goes_on_with_a_verdict(here, capsys):
    remedy, metrics = "type pretext.predictor=true", here / "run/metrics.jsonl"
    enter(capsys, [*COLLAPSE, "on_collapse=stop"], remedy, "ssl-runner resume run on_collapse=warn", status=3)
    done, rows = summary("run"), read_rows(metrics)
    assert (done["status"], done["health"]["verdict"]) == ("stopped", "collapsed")
    assert 0 < done["step"] == saved("run")[-1] < 40
    assert "on_collapse" not in (done["error"] or "")
    enter(capsys, "resume run", remedy, status=3)
    assert summary("run") == summary("run") | {key: done[key] for key in ("health", "step")}
    assert read_rows(metrics) == rows, "nothing was learnt or measured again"
    enter(capsys, "resume run on_collapse=warn", "collapsed (complete) at step")
    done, verdict = summary("run"), {"verdict": "collapsed", "kind": "complete", "remedy": "pretext.predictor=true"}
    assert done == done | {"status": "completed", "step": 40, "health": done["health"] | verdict}
    assert (done["baseline"]["geometry/health"], done["final"]["geometry/health"]) == (2, 0)
    assert "WARNING collapsed (complete)" in (here / "run/run.log").read_text()
    events = EventAccumulator("run", size_guidance={"tensors": 0, "scalars": 0}).Reload()
    texts = [each.tensor_proto.string_val[0].decode() for each in events.Tensors("health/text_summary")]
    assert any(text.startswith("collapsed (complete) at step") for text in texts)
    assert events.Scalars("geometry/health")[-1].value == 0


@pytest.mark.parametrize(("half", "warned"), [(0.9, False), (1.9, False), (40.0, True)])
def test_a_precision_that_makes_the_cpu_slower_is_warned_of(here, capsys, monkeypatch, half, warned):
    monkeypatch.setattr(placement, "seconds_of_product", lambda dtype: 1.0 if dtype == torch.float32 else half)
    told = "this CPU multiplies matrices 40 times as slowly in it as in float32; type device.precision=float32"
    for precision in ("float32", "bf16"):
        words = tiny("evaluator=none", "length=2st", f"device.precision={precision}", f"hydra.run.dir={precision}")
        expected = warned and precision == "bf16"
        assert (f"device.precision=bf16: {told}" in enter(capsys, words)) == expected


def test_a_product_is_timed_in_either_precision():
    assert all(0 < placement.seconds_of_product(dtype, 64) < 1 for dtype in placement.PRECISION.values())


def test_one_of_a_kind_is_said_in_the_singular(here, capsys):
    words = tiny("evaluator=none", "length=1st", "device.threads=1", "hydra.run.dir=run")
    said = enter(capsys, words, ", 1 step of 16 samples, ", "on cpu, float32, 1 thread\n", "\n1 step in ")
    assert not re.search(r"\b1 \w*s\b(?! left)", said), said
    assert [plural(n, "class") for n in (0, 1, 2000)] == ["0 classes", "1 class", "2,000 classes"]


def test_no_geometry_no_verdict(here, capsys):
    bare = tiny("evaluator=none", "length=2st")
    enter(capsys, [*bare, "hydra.run.dir=run"])
    assert summary("run")["health"] is None
    enter(capsys, [*bare, "on_collapse=stop", "hydra.run.dir=other"], "type evaluator=[geometry]", status=2)


HEADLINES = ["knn/top1", "probe/loss", "geometry/rank", "late/top1"]
DONE = {"status": "completed", "error": None, "step": 40, "steps": 40, "seconds": 7.6, "samples_per_second": 1234.5}
KNOWN = {name: guessed_meaning(name) for name in HEADLINES}
DONE |= {
    "headlines": HEADLINES,
    "metrics": {**KNOWN, "knn/top1": {**KNOWN["knn/top1"], "majority": 0.125}},
    "baseline": {"knn/top1": 0.25, "probe/loss": 2.0, "geometry/rank": 9.0},
    "final": {"knn/top1": 0.5, "probe/loss": 0.5, "geometry/rank": 3.0, "test/knn/top1": 0.475},
}
RESUME = "ssl-runner resume '{}'"
ENDS = {"interrupted": RESUME, "stopped": f"{RESUME} on_collapse=warn", "failed": "the whole story is in {}/run.log"}


def told(tmp_path, **changed):
    console = Console(file=io.StringIO(), width=200)
    print_end({**DONE, **changed}, tmp_path / "a run", console)
    return [line.rstrip() for line in console.file.getvalue().splitlines()]


def test_the_table_has_every_headline_that_can_be_better(tmp_path):
    lines = told(tmp_path, health={"verdict": "shrinking", "text": "shrinking since step 8"})
    assert [line.split() for line in lines[:4]] == [
        ["measured", "majority", "class", "random", "encoder", "trained", "gain", "test"],
        ["knn", "12.5", "%", "25.0", "%", "50.0", "%", "+25.0", "%", "47.5", "%"],
        ["probe", "2", "0.5", "+1.5"],
        ["late"],
    ]
    assert lines[4:6] == ["shrinking since step 8", "40 steps in 8 s, 1,234 samples/s"]
    assert lines[-1] == f"to see it:    tensorboard --logdir '{tmp_path / 'a run'}'"


def test_raw_features_have_a_column_if_they_were_measured(tmp_path):
    head, knn, probe, late, *_ = [line.split() for line in told(tmp_path, raw={"knn/top1": 0.3})]
    assert head == ["measured", "majority", "class", "raw", "features", "random", "encoder", "trained", "gain", "test"]
    assert knn == ["knn", "12.5", "%", "30.0", "%", "25.0", "%", "50.0", "%", "+25.0", "%", "47.5", "%"]
    assert (probe, late) == (["probe", "2", "0.5", "+1.5"], ["late"])


@pytest.mark.parametrize("status", ENDS)
def test_a_run_that_did_not_end_says_what_to_type(tmp_path, status):
    lines = told(tmp_path, status=status, error="collapsed", health={"verdict": "collapsed", "text": ""})
    assert any(ENDS[status].format(tmp_path / "a run") in line for line in lines), lines
    assert not any("measured" in line for line in lines)


def test_the_columns_of_a_run():
    content = {"length": "2ep", "batch_size": 64, "seed": 3, "flag": False, "evaluator": {"knn": {"k": 20}}}
    content["choices"] = {"pretext": "simclr", "optimizer": "sgd", "experiment": "None"}
    content["pretext"] = {"augment": {"hue": 0.1}, "temperature": 0.5}
    content["optimizer"] = {"lr": 0.1, "clip": None, "betas": [0.9, 0.99]}
    typed = "pretext=simclr optimizer.clip=null optimizer.betas=[0.9,0.99] evaluator=[knn] ++flag=false ~optimizer.eps"
    typed += " augment@pretext.augment=simclr evaluator.knn.k=20 hydra.run.dir=/x"
    expected = {"pretext": "simclr", "optimizer": "sgd", "optimizer.lr": 0.1, "batch_size": 64, "length": "2ep"}
    expected |= {"seed": 3, "optimizer.betas": "[0.9, 0.99]", "evaluator": "[knn]", "flag": False}
    assert hparams(content, typed.split()) == expected | {"evaluator.knn.k": 20, "augment@pretext.augment": "simclr"}

"""What a run says of itself and does at its end: its table, its row of hyperparameters, on_collapse warn or stop."""

import io

import pytest
from conftest import tiny
from rich.console import Console
from runs import saved, summary
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from ssl_runner.__main__ import main
from ssl_runner.run.report import hparams, print_end
from ssl_runner.run_folder.metrics import read_rows

COLLAPSE = tiny(
    *("pretext=byol", "pretext.predictor=false", "pretext.momentum=0", "pretext.hidden=32", "pretext.out=16"),
    *("evaluator=[geometry]", "evaluator.geometry.views=2", "evaluator.geometry.samples=64", "show_every=100%"),
    *("length=40st", "evaluator.geometry.every=8st", "optimizer.warm_up=0st", "optimizer.lr=0.01", "hydra.run.dir=run"),
)


def test_warn_goes_on_and_tensorboard_has_the_verdict(here, capsys):
    assert main(COLLAPSE) == 0
    done = summary(here / "run")
    assert (done["status"], done["step"]) == ("completed", 40)
    health = done["health"]
    assert (health["verdict"], health["kind"], health["remedy"]) == ("collapsed", "complete", "pretext.predictor=true")
    assert (done["baseline"]["geometry/health"], done["final"]["geometry/health"]) == (2, 0)
    assert "collapsed (complete) at step" in capsys.readouterr().out
    assert "WARNING collapsed (complete)" in (here / "run/run.log").read_text()
    events = EventAccumulator(str(here / "run"), size_guidance={"tensors": 0, "scalars": 0}).Reload()
    texts = [each.tensor_proto.string_val[0].decode() for each in events.Tensors("health/text_summary")]
    assert any(text.startswith("collapsed (complete) at step") for text in texts)
    assert events.Scalars("geometry/health")[-1].value == 0


def test_stop_stops_and_so_does_its_resumption(here, capsys):
    folder = here / "run"
    assert main([*COLLAPSE, "on_collapse=stop"]) == 3
    done, said = summary(folder), capsys.readouterr().out
    assert (done["status"], done["health"]["verdict"]) == ("stopped", "collapsed")
    assert 0 < done["step"] == saved(folder)[-1] < 40
    assert "type pretext.predictor=true" in said
    assert "ssl-runner resume run on_collapse=warn" in said
    assert "on_collapse" not in (done["error"] or "")
    rows = read_rows(folder / "metrics.jsonl")
    assert main(["resume", "run"]) == 3
    again = summary(folder)
    assert (again["health"], again["step"]) == (done["health"], done["step"])
    assert read_rows(folder / "metrics.jsonl") == rows, "nothing was learnt or measured again"
    assert "type pretext.predictor=true" in capsys.readouterr().out
    assert main(["resume", "run", "on_collapse=warn"]) == 0
    assert summary(folder)["status"] == "completed"


def test_no_geometry_no_verdict(here, capsys):
    bare = tiny("evaluator=none", "length=2st")
    assert main([*bare, "hydra.run.dir=run"]) == 0
    assert summary(here / "run")["health"] is None
    assert main([*bare, "on_collapse=stop", "hydra.run.dir=other"]) == 2
    assert "type evaluator=[geometry]" in capsys.readouterr().err


SHARE, NUMBER = {"better": "larger", "unit": "share"}, {"better": "smaller", "unit": "number"}
RANK = {"better": None, "unit": "number"}
DONE = {"status": "completed", "error": None, "step": 40, "steps": 40, "seconds": 7.6, "samples_per_second": 1234.5}
DONE |= {
    "headlines": ["knn/top1", "probe/loss", "geometry/rank", "late/top1"],
    "metrics": {"knn/top1": SHARE, "probe/loss": NUMBER, "late/top1": SHARE, "geometry/rank": RANK},
    "baseline": {"knn/top1": 0.25, "probe/loss": 2.0, "geometry/rank": 9.0},
    "final": {"knn/top1": 0.5, "probe/loss": 0.5, "geometry/rank": 3.0, "test/knn/top1": 0.475},
}


def told(tmp_path, **changed):
    console = Console(file=io.StringIO(), width=200)
    print_end({**DONE, **changed}, tmp_path / "a run", console)
    return [line.rstrip() for line in console.file.getvalue().splitlines()]


def test_the_table_has_every_headline_that_can_be_better(tmp_path):
    lines = told(tmp_path, health={"verdict": "shrinking", "text": "shrinking since step 8"})
    assert [line.split() for line in lines[:4]] == [
        ["measured", "random", "encoder", "trained", "gain", "test"],
        ["knn", "25.0", "%", "50.0", "%", "+25.0", "%", "47.5", "%"],
        ["probe", "2", "0.5", "-1.5"],
        ["late"],
    ]
    assert lines[4:6] == ["shrinking since step 8", "40 steps in 8 s, 1,234 samples/s"]
    assert lines[-1] == f"to see it:    tensorboard --logdir '{tmp_path / 'a run'}'"


RESUME = "ssl-runner resume '{}'"
ENDS = {"interrupted": RESUME, "stopped": f"{RESUME} on_collapse=warn", "failed": "the whole story is in {}/run.log"}


@pytest.mark.parametrize("status", ENDS)
def test_a_run_that_did_not_end_says_what_to_type(tmp_path, status):
    lines = told(tmp_path, status=status, error="collapsed", health={"verdict": "collapsed", "text": ""})
    assert any(ENDS[status].format(tmp_path / "a run") in line for line in lines), lines
    assert not any("measured" in line for line in lines)


def test_the_columns_of_a_run():
    content = {"length": "2ep", "batch_size": 64, "seed": 3, "flag": False, "evaluator": {"knn": {"k": 20}}}
    content |= {
        "choices": {"pretext": "simclr", "optimizer": "sgd", "experiment": "None"},
        "pretext": {"augment": {"hue": 0.1}, "temperature": 0.5},
        "optimizer": {"lr": 0.1, "clip": None, "betas": [0.9, 0.99]},
    }
    typed = ["pretext=simclr", "optimizer.clip=null", "optimizer.betas=[0.9,0.99]", "evaluator=[knn]", "++flag=false"]
    typed += ["augment@pretext.augment=simclr", "evaluator.knn.k=20", "hydra.run.dir=/x", "~optimizer.eps"]
    expected = {"pretext": "simclr", "optimizer": "sgd", "optimizer.lr": 0.1, "batch_size": 64, "length": "2ep"}
    expected |= {"seed": 3, "optimizer.betas": "[0.9, 0.99]", "evaluator": "[knn]", "flag": False}
    assert hparams(content, typed) == expected | {"evaluator.knn.k": 20, "augment@pretext.augment": "simclr"}

"""What a run says of itself: the table at its end, and its row in TensorBoard's HPARAMS tab."""

import io

import pytest
from rich.console import Console

from ssl_runner.run.report import hparams, print_end

SHARE, NUMBER = {"better": "larger", "unit": "share"}, {"better": "smaller", "unit": "number"}
DONE = {
    "status": "completed",
    "headlines": ["knn/top1", "probe/loss", "geometry/rank", "late/top1"],
    "metrics": {
        "knn/top1": SHARE,
        "probe/loss": NUMBER,
        "late/top1": SHARE,
        "test/knn/top1": SHARE,
        "geometry/rank": {"better": None, "unit": "number"},
    },
    "baseline": {"knn/top1": 0.25, "probe/loss": 2.0, "geometry/rank": 9.0},
    "final": {"knn/top1": 0.5, "probe/loss": 0.5, "geometry/rank": 3.0, "test/knn/top1": 0.475},
    "health": None,
    "error": None,
    "step": 40,
    "steps": 40,
    "seconds": 7.6,
    "samples_per_second": 1234.5,
}


def told(tmp_path, **changed):
    console = Console(file=io.StringIO(), width=200)
    print_end({**DONE, **changed}, tmp_path / "a run", console)
    return [line.rstrip() for line in console.file.getvalue().splitlines()]


def test_the_table_has_every_headline_that_can_be_better(tmp_path):
    lines = told(tmp_path)
    assert [line.split() for line in lines[:4]] == [
        ["measured", "random", "encoder", "trained", "gain", "test"],
        ["knn", "25.0", "%", "50.0", "%", "+25.0", "%", "47.5", "%"],
        ["probe", "2", "0.5", "-1.5"],
        ["late"],
    ]
    assert lines[4] == "40 steps in 8 s, 1,234 samples/s"
    assert lines[-1] == f"to see it:    tensorboard --logdir '{tmp_path / 'a run'}'"


def test_a_run_that_is_no_better_told_says_its_health(tmp_path):
    assert "shrinking since step 8" in told(tmp_path, health={"verdict": "shrinking", "text": "shrinking since step 8"})


@pytest.mark.parametrize(
    ("status", "words"),
    [
        ("interrupted", "ssl-runner resume '{}'"),
        ("stopped", "ssl-runner resume '{}' on_collapse=warn"),
        ("failed", "the whole story is in {}/run.log"),
    ],
)
def test_a_run_that_did_not_end_says_what_to_type(tmp_path, status, words):
    lines = told(tmp_path, status=status, error="collapsed", health={"verdict": "collapsed", "text": ""})
    assert any(words.format(tmp_path / "a run") in line for line in lines), lines
    assert not any("measured" in line for line in lines)


def test_the_columns_of_a_run():
    content = {
        "choices": {"pretext": "simclr", "optimizer": "sgd", "experiment": "None"},
        "pretext": {"augment": {"hue": 0.1}, "temperature": 0.5},
        "optimizer": {"lr": 0.1, "clip": None, "betas": [0.9, 0.99]},
        "evaluator": {"knn": {"k": 20}},
        "length": "2ep",
        "batch_size": 64,
        "seed": 3,
        "flag": False,
    }
    typed = ["pretext=simclr", "optimizer.clip=null", "optimizer.betas=[0.9,0.99]", "evaluator=[knn]", "++flag=false"]
    typed += ["augment@pretext.augment=simclr", "evaluator.knn.k=20", "hydra.run.dir=/x", "~optimizer.eps"]
    assert hparams(content, typed) == {
        "pretext": "simclr",
        "optimizer": "sgd",
        "optimizer.lr": 0.1,
        "batch_size": 64,
        "length": "2ep",
        "seed": 3,
        "optimizer.betas": "[0.9, 0.99]",
        "evaluator": "[knn]",
        "flag": False,
        "evaluator.knn.k": 20,
        "augment@pretext.augment": "simclr",
    }

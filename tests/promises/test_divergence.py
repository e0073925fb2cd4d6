"""Weights that overflow: the run ends in a line, and what is not finite is never saved."""

import pytest
from conftest import tiny
from runs import said, summary

from ssl_runner.__main__ import main
from ssl_runner.run_folder import checkpoint

EACH = ("length=4st", "save_every=1st", "evaluator=none")
MEASURED = ("evaluator=[knn]", "evaluator.knn.k=3", "evaluator.knn.every=1st")
OVERFLOWS = {
    "in the only step": ("length=1st", "evaluator=none", "regulariser=l2", "regulariser.weight=1e4"),
    "by and by": EACH,
    "seen at the end": ("length=4st", "evaluator=none", "log_every=100%"),
    "in the features alone": ("length=4st", *MEASURED),
    "in a long run": ("evaluator=none", "save_every=1st"),
}


def overflown(folder, capsys, *words):
    """What a run of too large steps says; nothing that is not finite may be left by it."""
    assert main(tiny("optimizer=sgd", "optimizer.warm_up=0st", *words, f"hydra.run.dir={folder}")) == 1
    assert not (folder / "encoder.safetensors").exists()
    assert summary(folder)["status"] == "failed"
    for path in checkpoint.steps(folder / "checkpoints"):
        assert all(t.isfinite().all() for t in checkpoint.load(path)["pretext"].values() if t.is_floating_point())
    return said(capsys)


@pytest.mark.parametrize("case", OVERFLOWS)
def test_weights_that_overflow_are_never_saved(case, tmp_path, capsys):
    folder = tmp_path / "run"
    overflown(folder, capsys, "optimizer.lr=3e38", *OVERFLOWS[case])
    error = summary(folder)["error"]
    assert all(word in error for word in ("finite", "checkpoint", "optimizer.lr")), error
    assert ("optimizer.clip=1" in error) != ("features" in error)
    assert "Traceback" not in (folder / "run.log").read_text(), "a run that diverges is no bug"


@pytest.mark.parametrize(("optimizer", "words"), [("adamw", "not finite"), ("lars", "overflow")])
def test_a_rate_beyond_float32_ends_in_a_line(tmp_path, capsys, optimizer, words):
    assert words in overflown(tmp_path / "run", capsys, f"optimizer={optimizer}", "optimizer.lr=1e300", *EACH)

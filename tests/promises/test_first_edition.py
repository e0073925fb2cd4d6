"""A run folder of version 0.1 is resumed, compared, evaluated, exported and run again by today's code.

tests/data/first_edition is a run of ten steps as that version left it, but for the last of its checkpoints and its
TensorBoard file: so it can be resumed one step before its end, and its encoder is what must come out.
"""

import json
import shutil
from functools import partial
from pathlib import Path

import pytest
import torch
from runs import change, enter, measured, said, saved, summary
from safetensors.torch import load_file

from ssl_runner.__main__ import main
from ssl_runner.config import files
from ssl_runner.run_folder.summary import read_summary

OLD = Path(__file__).parents[1] / "data" / "first_edition"
WEIGHTS, DONE = load_file(OLD / "encoder.safetensors"), read_summary(OLD)
# Weights that the old version came to: exactly on the machine where it ran, and nearly elsewhere.
require_weights = partial(torch.testing.assert_close, expected=WEIGHTS, rtol=1e-5, atol=1e-6)


@pytest.fixture
def old(here):
    return shutil.copytree(OLD, here / "old")


def test_it_is_resumed_to_the_encoder_that_it_had(old, capsys):
    """Its summary is read by today's names, and keeps each number and what it means; today's version adds some."""
    assert DONE["samples_per_second"] == summary(OLD)["images_per_second"]
    state = torch.load(old / "checkpoints/0000009.pt", weights_only=True)["pretext"]
    before = {name.removeprefix("encoder."): each for name, each in state.items() if name.startswith("encoder.")}
    assert before.keys() == WEIGHTS.keys()
    with pytest.raises(AssertionError):
        require_weights(before)
    (old / "encoder.safetensors").unlink()
    change(old, "summary.json", status="running")
    message, done = enter(capsys, "resume old", "resumed at step 9 of 10"), summary(old)
    assert "version 0.1" not in message, "nothing is lost that one would have to be told of"
    assert saved(old) == [9, 10]
    require_weights(load_file(old / "encoder.safetensors"))
    assert (done["status"], done["baseline"]) == (DONE["status"], DONE["baseline"])
    for name, value in DONE["final"].items():
        assert done["final"][name] == pytest.approx(value, rel=1e-3)
        assert done["metrics"][name] == done["metrics"][name] | DONE["metrics"][name]
    assert measured(old, "test/knn/top1") == [(10, 0.1)]
    assert [step for step, _ in measured(old, "train/loss")] == list(range(1, 11))


def test_it_is_compared_with_a_run_of_today(old, capsys):
    status = main(["rerun", "old", "--to", "new", "--strict"])
    message = said(capsys)
    assert "final test/knn/top1" in message
    assert "left out: knn/balanced_accuracy, " in message
    assert status == int("all 14 tensors are bit-identical" not in message), "1 if this machine rounds in another way"
    enter(capsys, "compare old new", "2 completed runs; in all of them: pretext simclr, dataset shapes", "probe/top1")


def test_it_is_evaluated_exported_and_saved(old, capsys):
    """Its own encoder gives the numbers that it gave."""
    tested, chosen = "knn on test            top1 0.1, top5 0.7", "probe on validation    top1 0.2, top5 0.7"
    enter(capsys, "evaluate old", tested, chosen)
    enter(capsys, "evaluate old/checkpoints/0000009.pt knn")
    enter(capsys, "export old --format safetensors,torch", "ConvNet of step 10: samples of 3x32x32 to 4 features")
    enter(capsys, "export old/checkpoints/0000009.pt --format safetensors")
    enter(capsys, "save old again --to conf", "it gives the config of the run")
    results = json.loads((old / "evaluation/knn.json").read_text())["results"]
    assert {each["step"] for each in results} == {9, 10}
    require_weights(load_file(old / "export/encoder.safetensors"))
    assert files.read(old / "export-0000009/encoder.yaml")["shape"] == [3, 32, 32]

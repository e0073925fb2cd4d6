"""A run folder of version 0.1 is compared, evaluated, exported and run again by today's code, and not resumed.

tests/data/first_edition is a run of ten steps as that version left it, but for the last of its checkpoints and its
TensorBoard file. That version drew other random numbers from the same seed.
"""

import json
import shutil
from functools import partial
from pathlib import Path

import pytest
import torch
from runs import change, enter, said, saved
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


def test_it_is_not_resumed_with_other_random_numbers(old, capsys):
    change(old, "summary.json", status="running")
    assert main(["resume", "old"]) == 2
    assert "begin it again, ssl-runner rerun old, or go on with the version that began it" in said(capsys)
    assert saved(old) == [9]


def test_its_summary_is_read_by_todays_names(old):
    assert DONE["samples_per_second"] == json.loads((old / "summary.json").read_text())["images_per_second"]
    assert read_summary(old)["metrics"].keys() >= DONE["final"].keys()


@pytest.mark.slow
def test_it_is_compared_with_a_run_of_today(old, capsys):
    status = main(["rerun", "old", "--to", "new", "--strict"])
    message = said(capsys)
    assert "final test/knn/top1" in message
    assert "left out: knn/balanced_accuracy, " in message
    assert (status, "tensors are bit-identical" in message) == (1, False), "it draws other random numbers"
    enter(capsys, "compare old new", "2 completed runs; in all of them: pretext simclr, dataset shapes", "probe/top1")


@pytest.mark.slow
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

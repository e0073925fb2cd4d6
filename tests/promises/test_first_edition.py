"""A run folder of version 0.1 is resumed, compared, evaluated, exported and run again by today's code.

tests/data/first_edition is a run of ten steps as that version left it, but for the last of its checkpoints and its
TensorBoard file: so it can be resumed one step before its end, and its encoder is what must come out.
"""

import json
import shutil
from pathlib import Path

import pytest
import torch
from runs import change, measured, said, saved, summary
from safetensors.torch import load_file

from ssl_runner.__main__ import main
from ssl_runner.config import files
from ssl_runner.run_folder.summary import read_summary

OLD = Path(__file__).parents[1] / "data" / "first_edition"
TESTED = {"test/knn/top1": 0.1, "test/knn/top5": 0.7, "test/probe/top1": 0.05, "test/probe/top5": 0.35}


@pytest.fixture
def old(here):
    shutil.copytree(OLD, here / "old")
    return here / "old"


def as_it_was(encoder):
    """Whether weights are those that the old version came to: exactly where it ran, and nearly elsewhere."""
    wanted, made = load_file(OLD / "encoder.safetensors"), load_file(encoder)
    return wanted.keys() == made.keys() and all(
        torch.allclose(value.double(), made[name].double(), rtol=1e-5, atol=1e-6) for name, value in wanted.items()
    )


def test_it_is_resumed_to_the_encoder_that_it_had(old, capsys):
    state = torch.load(old / "checkpoints/0000009.pt", weights_only=True)["pretext"]
    before = {name.removeprefix("encoder."): each for name, each in state.items() if name.startswith("encoder.")}
    torch.save(before, old / "before.pt")
    (old / "encoder.safetensors").unlink()
    change(old, "summary.json", status="running")
    assert main(["resume", "old"]) == 0
    told = said(capsys)
    assert "resumed at step 9 of 10" in told
    assert "version 0.1" not in told, "nothing is lost that one would have to be told of"
    assert saved(old) == [9, 10]
    assert as_it_was(old / "encoder.safetensors")
    was = load_file(OLD / "encoder.safetensors")
    assert not all(torch.allclose(was[name], each, rtol=1e-5, atol=1e-6) for name, each in before.items())
    now, then = summary(old), read_summary(OLD)
    assert now["status"] == "completed"
    assert now["final"].keys() == then["final"].keys()
    assert now["final"] == pytest.approx(then["final"], rel=1e-3)
    assert now["baseline"] == then["baseline"], "what was measured before is kept, by today's names"
    assert measured(old, "test/knn/top1") == [(10, TESTED["test/knn/top1"])]
    assert [step for step, _ in measured(old, "train/loss")] == list(range(1, 11))


def test_its_summary_is_read_by_todays_names():
    done = read_summary(OLD)
    assert {name: done["final"][name] for name in TESTED} == TESTED
    assert done["metrics"]["test/knn/top1"] == done["metrics"]["knn/top1"] == {"better": "larger", "unit": "share"}
    assert done["metrics"]["geometry/rankme"]["unit"] == "number"
    assert done["samples_per_second"] == json.loads((OLD / "summary.json").read_text())["images_per_second"]


def test_it_is_compared_with_a_run_of_today(old, capsys):
    status = main(["rerun", "old", "--to", "new", "--strict"])
    told = said(capsys)
    assert "final test/knn/top1" in told
    assert status == int("all 14 tensors are bit-identical" not in told), "1 if this machine rounds in another way"
    assert main(["compare", "old", "new"]) == 0
    told = said(capsys)
    assert "2 completed runs; in all of them: pretext simclr, dataset shapes" in told
    assert "probe/top1" in told


def test_it_is_evaluated(old, capsys):
    """Its own encoder gives the numbers that it gave."""
    assert main(["evaluate", "old"]) == 0
    told = said(capsys)
    assert "knn on test            top1 0.1, top5 0.7" in told
    assert "probe on validation    top1 0.2, top5 0.7" in told
    assert main(["evaluate", "old/checkpoints/0000009.pt", "knn"]) == 0
    results = json.loads((old / "evaluation/knn.json").read_text())["results"]
    assert {each["step"] for each in results} == {9, 10}


def test_it_is_exported_and_saved(old, capsys):
    assert main(["export", "old", "--format", "safetensors,torch"]) == 0
    assert "ConvNet of step 10: samples of 3x32x32 to 4 features" in said(capsys)
    assert as_it_was(old / "export/encoder.safetensors")
    assert main(["export", "old/checkpoints/0000009.pt", "--format", "safetensors"]) == 0
    assert files.read(old / "export-0000009/encoder.yaml")["shape"] == [3, 32, 32]
    assert main(["save", "old", "again", "--to", "conf"]) == 0
    assert "it gives the config of the run" in said(capsys)

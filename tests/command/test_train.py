"""The program as its users meet it: what it shows, how it fails, and the folders of its runs and sweeps."""

from pathlib import Path
from unittest.mock import Mock

import pytest
from conftest import TINY, tiny
from runs import config, enter, refusal, said, start, summary, wait_for

from ssl_runner.__main__ import main
from ssl_runner.pretext.rotation import Rotation

pytestmark = pytest.mark.usefixtures("here")

BARE = [*TINY, "evaluator=none", "length=2st", "log_every=1st"]


def jobs(folder):
    return sorted(each.name for each in Path(folder).iterdir() if (each / "encoder.safetensors").exists())


def test_mistakes_leave_nothing_behind_and_show_no_traceback(here, capsys):
    enter(capsys, "pretext=simclar optimizer.lr=-1", "2 problems", status=2)
    refusal(capsys, "--config-dir absent", "there is no folder absent")
    refusal(capsys, "resume absent", "absent holds no run")
    refusal(capsys, tiny("batch_size=512"), "batch_size: given 512")
    refusal(capsys, tiny("evaluator.knn.k=5000"), "5000")
    missing = tiny("dataset=cifar10", "dataset.root=nowhere", "dataset.download=false")[2:]
    refusal(capsys, missing, "nowhere", "dataset=shapes")
    assert not list(here.iterdir())


@pytest.mark.parametrize("verb", ["resume", "rerun"])
def test_a_sweep_that_is_taken_for_a_run_is_told_apart(here, capsys, verb):
    (here / "sweep.json").write_text("{}")
    refusal(capsys, f"{verb} {here}", f"{here} is a sweep", f"go on: ssl-runner -m sweep.resume={here}")


def test_an_exception_is_told_in_the_summary_and_the_log(monkeypatch):
    monkeypatch.setattr(Rotation, "forward", Mock(side_effect=RuntimeError("a bug of the method")))
    assert main(tiny("evaluator=none", "hydra.run.dir=bad")) == 1
    assert summary("bad")["error"] == "RuntimeError: a bug of the method"
    assert "Traceback" in Path("bad/run.log").read_text()


def test_what_is_asked_for_is_shown(capsys):
    enter(capsys, "--help", *["simclr", "image_folder", "resnet18", "koleo", "resume", "hydra.run.dir", "length"])
    enter(capsys, "--cfg job pretext=byol", "ssl_runner.pretext.byol.BYOL")


@pytest.mark.slow
def test_a_running_folder_is_not_resumed(capsys):
    with start(*tiny("length=400st"), "hydra.run.dir=busy") as process:
        wait_for(Path("busy/summary.json").exists, process)
        enter(capsys, "resume busy", "running process", status=2)
        process.kill()


def test_any_name_of_a_folder_is_taken_as_it_is_and_once(here, capsys):
    name = "a [bold] [0-9] [red]x[/red] [/] %(step)s {0} ü"
    words = [*BARE, f"hydra.run.dir='{name}/run'"]
    enter(capsys, words, f"run folder:   {name}/run")
    before = summary(f"{name}/run")
    refusal(capsys, words, f"{name}/run exists", f"ssl-runner resume {name}/run")
    assert summary(f"{name}/run") == before
    (here / name / "run" / "summary.json").unlink()
    assert main(["resume", f"{name}/run"]) == 0


@pytest.mark.slow
def test_a_sweep_runs_every_combination_in_a_folder_of_its_own(capsys):
    words = ["-m", *tiny("length=2st", "evaluator=none", "pretext=rotation,flip", "optimizer.lr=0.03,0.1")]
    enter(capsys, words, "[4/4] 003-flip-lr-0.1: completed")
    (sweep,) = Path("outputs/sweeps").iterdir()
    assert jobs(sweep) == ["000-rotation-lr-0.03", "001-rotation-lr-0.1", "002-flip-lr-0.03", "003-flip-lr-0.1"]
    assert all(summary(sweep / job)["status"] == "completed" for job in jobs(sweep))
    assert main([*words, "batch_size=0"]) == 2, "a sweep is checked before its first job begins"
    assert len(list(Path("outputs/sweeps").iterdir())) == 1


TWICE = ("seed=1,1,2,1", {"000-seed-1": 1, "001-seed-2": 2})
PATTERN = ("regulariser=glob([k*,n*])", {"000-koleo": 0, "001-regulariser-none": 0})


@pytest.mark.parametrize(("word", "seeds"), [TWICE, PATTERN], ids=["a value given twice", "a pattern over a group"])
def test_a_sweep_runs_each_value_once(word, seeds):
    assert main(["-m", *BARE, word, "hydra.sweep.dir=sweep"]) == 0
    assert {job: config(f"sweep/{job}")["seed"] for job in jobs("sweep")} == seeds


def test_a_sweep_folder_that_cannot_be_is_refused(here, capsys):
    (here / "file").write_text("")
    for place in ("file", "file/below", "x" * 300):
        assert main(["-m", *BARE, "seed=1,2", f"hydra.sweep.dir={place}"]) == 2
        assert main([*BARE, f"hydra.run.dir={place}"]) == 2
    told = said(capsys)
    assert (told.count("is a file"), told.count("File name too long")) == (4, 2)
    assert [each.name for each in here.iterdir()] == ["file"]


@pytest.mark.parametrize("word", ["regulariser=glob(zz*)", "seed=glob(*)", "seed=interval(0,1)", "seed=,", "seed=1,x"])
def test_a_sweep_over_nothing_is_refused(here, word, capsys):
    assert main(["-m", *BARE, word]) == 2
    assert len(said(capsys).splitlines()) <= 3
    assert not list(here.iterdir())

"""The program as its users meet it: what it shows, how it fails, and the folders of its runs and sweeps."""

from pathlib import Path

import pytest
from conftest import TINY, tiny
from runs import config, said, start, summary, wait_for

from ssl_runner.__main__ import main
from ssl_runner.pretext.rotation import Rotation

pytestmark = pytest.mark.usefixtures("here")

BARE = [*TINY, "evaluator=none", "length=2st", "log_every=1st"]


def jobs(folder):
    return sorted(each.name for each in Path(folder).iterdir() if (each / "encoder.safetensors").exists())


def test_mistakes_leave_nothing_behind_and_show_no_traceback(here, capsys):
    assert main(["pretext=simclar", "optimizer.lr=-1"]) == 2
    assert main(tiny("batch_size=512")) == 2
    assert main(["--config-dir", "absent"]) == 2
    assert main(["resume", "absent"]) == 2
    assert main(tiny("evaluator.knn.k=5000")) == 2
    assert main(tiny("dataset=cifar10", "dataset.root=nowhere", "dataset.download=false")[2:]) == 2
    shown = said(capsys)
    for word in ("2 problems", "nowhere", "dataset=shapes", "5000", "there is no folder absent", "absent holds no run"):
        assert word in shown
    assert not list(here.iterdir())


def test_an_exception_is_told_in_the_summary_and_the_log(monkeypatch):
    def broken(self, views, group="main"):
        raise RuntimeError("a bug of the method")

    monkeypatch.setattr(Rotation, "forward", broken)
    assert main(tiny("evaluator=none", "hydra.run.dir=bad")) == 1
    assert summary("bad")["error"] == "RuntimeError: a bug of the method"
    assert "Traceback" in Path("bad/run.log").read_text()


@pytest.mark.parametrize(
    ("words", "shown"),
    [
        ("--help", "simclr image_folder resnet18 koleo resume hydra.run.dir length"),
        ("--cfg job pretext=byol", "ssl_runner.pretext.byol.BYOL"),
    ],
    ids=["every choice by --help", "the config by --cfg job"],
)
def test_what_is_asked_for_is_shown(words, shown, capsys):
    assert main(words.split()) == 0
    out = said(capsys)
    assert all(word in out for word in shown.split())


def test_a_running_folder_is_not_resumed(capsys):
    process = start(*tiny("length=400st"), "hydra.run.dir=busy")
    wait_for(lambda: Path("busy/summary.json").exists(), process)
    try:
        assert main(["resume", "busy"]) == 2
        assert "running process" in said(capsys)
    finally:
        process.kill()
        process.communicate()


def test_any_name_of_a_folder_is_taken_as_it_is_and_once(here, capsys):
    name = "a [bold] [0-9] [red]x[/red] [/] %(step)s {0} ü"
    words = [*BARE, f"hydra.run.dir='{name}/run'"]
    assert main(words) == 0
    assert f"run folder:   {name}/run" in said(capsys)
    before = summary(f"{name}/run")
    assert main(words) == 2
    refusal = said(capsys)
    assert f"{name}/run exists" in refusal
    assert f"ssl-runner resume {name}/run" in refusal
    assert summary(f"{name}/run") == before
    (here / name / "run" / "summary.json").unlink()
    assert main(["resume", f"{name}/run"]) == 0


# Sweeps


def test_a_sweep_runs_every_combination_in_a_folder_of_its_own(capsys):
    words = tiny("length=2st", "evaluator=none", "pretext=rotation,flip", "optimizer.lr=0.03,0.1")
    assert main(["-m", *words]) == 0
    (sweep,) = Path("outputs/sweeps").iterdir()
    assert jobs(sweep) == ["000-rotation-lr-0.03", "001-rotation-lr-0.1", "002-flip-lr-0.03", "003-flip-lr-0.1"]
    assert all(summary(sweep / job)["status"] == "completed" for job in jobs(sweep))
    assert "[4/4] 003-flip-lr-0.1: completed" in said(capsys)
    assert main(["-m", *words, "batch_size=0"]) == 2, "a sweep is checked before its first job begins"
    assert len(list(Path("outputs/sweeps").iterdir())) == 1


@pytest.mark.parametrize(
    ("word", "seeds"),
    [
        ("seed=1,1,2,1", {"000-seed-1": 1, "001-seed-2": 2}),
        ("regulariser=glob([k*,n*])", {"000-koleo": 0, "001-regulariser-none": 0}),
    ],
    ids=["a value given twice", "a pattern over a group"],
)
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

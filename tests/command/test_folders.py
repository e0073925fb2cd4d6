"""Where runs and sweeps are written: folders that are taken, busy, oddly named or cannot be."""

from pathlib import Path

import pytest
from conftest import TINY, tiny
from runs import config, said, start, summary, wait_for

from ssl_runner.__main__ import main

pytestmark = pytest.mark.usefixtures("here")

BARE = [*TINY, "evaluator=none", "length=2st", "log_every=1st"]


def jobs(folder):
    return sorted(each.name for each in Path(folder).iterdir() if (each / "encoder.safetensors").exists())


def test_a_folder_that_holds_a_run_is_refused(capsys):
    assert main([*BARE, "hydra.run.dir=mine"]) == 0
    before = summary("mine")
    assert main([*BARE, "hydra.run.dir=mine"]) == 2
    assert "ssl-runner resume mine" in capsys.readouterr().err
    assert summary("mine") == before


def test_two_runs_of_one_second_have_two_folders():
    processes = [start(*BARE) for _ in range(2)]
    for process in processes:
        assert process.wait(timeout=120) == 0, process.communicate()[0]
        process.stdout.close()
    assert len(list(Path("outputs/rotation-shapes").iterdir())) == 2


def test_a_running_folder_is_not_resumed(capsys):
    process = start(*tiny("length=400st"), "hydra.run.dir=busy")
    wait_for(lambda: Path("busy/summary.json").exists(), process)
    try:
        assert main(["resume", "busy"]) == 2
        assert "running process" in capsys.readouterr().err
    finally:
        process.kill()
        process.communicate()


def test_a_sweep_runs_every_combination_in_a_folder_of_its_own(capsys):
    words = tiny("length=2st", "evaluator=none", "pretext=rotation,flip", "optimizer.lr=0.03,0.1")
    assert main(["-m", *words]) == 0
    (sweep,) = Path("outputs/sweeps").iterdir()
    assert jobs(sweep) == ["000-rotation-lr-0.03", "001-rotation-lr-0.1", "002-flip-lr-0.03", "003-flip-lr-0.1"]
    assert all(summary(sweep / job)["status"] == "completed" for job in jobs(sweep))
    assert "[4/4] 003-flip-lr-0.1: completed" in capsys.readouterr().out
    assert main(["-m", *words, "batch_size=0"]) == 2, "a sweep is checked before its first job begins"
    assert len(list(Path("outputs/sweeps").iterdir())) == 1


def test_a_sweep_folder_that_cannot_be_is_refused(here, capsys):
    (here / "file").write_text("")
    for place in ("file", "file/below", "x" * 300):
        assert main(["-m", *BARE, "seed=1,2", f"hydra.sweep.dir={place}"]) == 2
        assert main([*BARE, f"hydra.run.dir={place}"]) == 2
    told = said(capsys)
    assert told.count("is a file") == 4
    assert told.count("File name too long") == 2
    assert [each.name for each in here.iterdir()] == ["file"]


def test_a_value_given_twice_is_run_once():
    assert main(["-m", *BARE, "seed=1,1,2,1", "hydra.sweep.dir=sweep"]) == 0
    assert jobs("sweep") == ["000-seed-1", "001-seed-2"]


def test_a_sweep_by_a_pattern_over_a_group():
    assert main(["-m", *BARE, "regulariser=glob([k*,n*])", "hydra.sweep.dir=sweep"]) == 0
    assert jobs("sweep") == ["000-koleo", "001-regulariser-none"]
    assert config("sweep/001-regulariser-none")["seed"] == 0


@pytest.mark.parametrize("word", ["regulariser=glob(zz*)", "seed=glob(*)", "seed=interval(0,1)", "seed=,", "seed=1,x"])
def test_a_sweep_over_nothing_is_refused(here, word, capsys):
    assert main(["-m", *BARE, word]) == 2
    assert len(said(capsys).splitlines()) <= 3
    assert not list(here.iterdir())


def test_any_name_of_a_folder_is_taken_as_it_is(here, capsys):
    name = "a [bold] [0-9] [red]x[/red] [/] %(step)s {0} ü"
    assert main([*BARE, f"hydra.run.dir='{name}/run'"]) == 0
    assert f"run folder:   {name}/run" in said(capsys)
    (here / name / "run" / "summary.json").unlink()
    assert main(["resume", f"{name}/run"]) == 0
    assert main([*BARE, f"hydra.run.dir='{name}/run'"]) == 2
    assert f"{name}/run exists" in said(capsys)

"""The program as its users meet it: a run and all that it leaves, and how it fails."""

import json
from pathlib import Path

import pytest
import torch
from conftest import tiny
from runs import measured, same, start, summary

from ssl_runner.__main__ import main
from ssl_runner.pretext.rotation import Rotation
from ssl_runner.run_folder.metrics import read_rows

pytestmark = pytest.mark.usefixtures("here")


def test_a_run_leaves_all_that_was_promised_and_runs_again_from_its_config(capsys):
    assert main(tiny("pretext=simclr")) == 0
    (folder,) = Path("outputs/simclr-shapes").iterdir()
    assert {file.name.split(".tfevents")[0] for file in folder.iterdir()} >= {
        *("config.yaml", "overrides.yaml", "environment.json", "metrics.jsonl", "summary.json", "checkpoints"),
        *("encoder.safetensors", "encoder.yaml", "events.out", "run.log"),
    }
    assert len(list(folder.glob("events.out.tfevents.*"))) == 1, "one writer"
    done = summary(folder)
    assert (done["status"], done["step"], done["steps"], done["error"]) == ("completed", 12, 12, None)
    assert done["baseline"].keys() >= {"knn/top1", "probe/top1"}
    assert done["final"].keys() >= {*done["baseline"], "test/knn/top1", "test/probe/top1"}
    assert done["headlines"] == ["knn/top1", "probe/top1", "geometry/rankme"]
    assert done["metrics"]["test/knn/top1"] == {"better": "larger", "unit": "share"}
    assert [step for step, _ in measured(folder, "train/loss")] == [4, 8, 12]
    assert [step for step, _ in measured(folder)] == [0, 3, 6, 9, 12]
    assert len(measured(folder, "test/knn/top1")) == 1, "test is measured once"
    learnt = next(row for row in read_rows(folder / "metrics.jsonl") if "train/loss" in row)
    assert learnt.keys() >= {"optimizer/lr", "optimizer/gradient_norm", "speed/samples_per_second", "speed/data_wait"}
    environment = json.loads((folder / "environment.json").read_text())
    assert environment["versions"]["torch"] == torch.__version__
    assert environment["dataset"]
    said = capsys.readouterr().out
    assert "random encoder" in said
    assert f"tensorboard --logdir {folder}" in said
    assert main(["--config-dir", str(folder), "--config-name", "config"]) == 2
    assert f"type ssl-runner rerun {folder.resolve()}/config.yaml" in capsys.readouterr().err
    assert main(["rerun", str(folder), "--to", "again", "--strict"]) == 0
    assert same(folder, "again")
    assert "step 12/12" in (folder / "run.log").read_text()
    assert main(["resume", str(folder)]) == 0
    assert "is completed already" in capsys.readouterr().out


def test_mistakes_leave_nothing_behind_and_show_no_traceback(here, capsys):
    assert main(["pretext=simclar", "optimizer.lr=-1"]) == 2
    assert main(tiny("batch_size=512")) == 2
    assert main(["--config-dir", "absent"]) == 2
    assert main(["resume", "absent"]) == 2
    assert main(tiny("evaluator.knn.k=5000")) == 2
    assert main(tiny("dataset=cifar10", "dataset.root=nowhere", "dataset.download=false")[2:]) == 2
    said = capsys.readouterr().err
    assert "Traceback" not in said
    for word in ("2 problems", "nowhere", "dataset=shapes", "5000", "there is no folder absent", "absent holds no run"):
        assert word in said
    assert not list(here.iterdir())


def test_a_mistake_in_a_process_is_two_lines_and_status_2():
    process = start("pretext=simclar")
    said, _ = process.communicate(timeout=120)
    assert process.returncode == 2
    assert said.count("\n") == 2
    assert "did you mean simclr?" in said


def test_an_exception_is_told_in_the_summary_and_the_log(monkeypatch):
    def broken(self, views, group="main"):
        raise RuntimeError("a bug of the method")

    monkeypatch.setattr(Rotation, "forward", broken)
    assert main(tiny("evaluator=none", "hydra.run.dir=bad")) == 1
    assert summary("bad")["error"] == "RuntimeError: a bug of the method"
    assert "Traceback" in Path("bad/run.log").read_text()


def test_help_lists_every_choice(capsys):
    assert main(["--help"]) == 0
    said = capsys.readouterr().out
    for word in ("simclr", "image_folder", "resnet18", "koleo", "resume", "hydra.run.dir", "length"):
        assert word in said


def test_the_config_can_be_shown(capsys):
    assert main(["--cfg", "job", "pretext=byol"]) == 0
    assert "ssl_runner.pretext.byol.BYOL" in capsys.readouterr().out

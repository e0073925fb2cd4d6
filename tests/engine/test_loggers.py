"""Weights & Biases and MLflow beside TensorBoard, by the libraries themselves; and what happens if one fails."""

import importlib.util
import json
import shutil
import sys
from pathlib import Path
from types import SimpleNamespace
from unittest.mock import Mock

import pytest
from conftest import MEASURED_ONCE
from runs import kill, measured, refusal, start, summary

from ssl_runner.engine import loggers
from ssl_runner.engine.loggers import Loggers

pytestmark = pytest.mark.usefixtures("here")
# A process of its own: the libraries warn of what is theirs, and stay imported.
HISTORY = """
import json, os
os.environ["MLFLOW_ALLOW_FILE_STORE"] = "true"
from mlflow.tracking import MlflowClient
client = MlflowClient("file:mlruns")
known = client.get_experiment_by_name("ssl_runner").experiment_id
print(json.dumps([
    [run.info.status, run.info.run_name, run.data.params["batch_size"],
     [[each.step, each.value] for each in client.get_metric_history(run.info.run_id, "knn/top1")],
     [each.path for each in client.list_artifacts(run.info.run_id, "views/0")]]
    for run in client.search_runs([known])]))
"""


def needs(*names):
    absent = [name for name in names if importlib.util.find_spec(name) is None]
    return pytest.mark.skipif(bool(absent), reason=f"{', '.join(absent)} is not installed")


def outcome(*words, program=("-m", "ssl_runner")):
    process = start(*words, program=program)
    text, _ = process.communicate(timeout=120)
    assert process.returncode == 0, text
    return text


@pytest.mark.slow
@needs("mlflow")
def test_mlflow_has_the_run_once_however_often_it_was_cut_off(whole):
    kill(shutil.copytree(whole, Path("cut")), 12)
    outcome("resume", "cut", "loggers=[mlflow]")
    kill(Path("cut"), 12)
    text = outcome("resume", "cut")  # its config has them now
    assert "MLFLOW_ALLOW_FILE_STORE=true mlflow ui --backend-store-uri file://" in text
    (run,) = json.loads(outcome(program=("-c", HISTORY)).splitlines()[-1])
    assert run[:3] == ["FINISHED", "cut", "16"]
    assert run[3] == [[*each] for each in measured("cut")]
    assert "views/0/0000009.png" in run[4]


class Page(list):
    """What MLflow's search gives: some runs, and where to go on."""

    token = None


def test_the_attempt_before_is_found_behind_a_thousand_other_runs(monkeypatch):
    tags = [{}] * 1000 + [{loggers.FOLDER: str(Path("run").absolute())}]
    runs = [
        SimpleNamespace(info=SimpleNamespace(run_id=number), data=SimpleNamespace(tags=each))
        for number, each in enumerate(tags)
    ]

    def search(experiments, page_token=None):
        first = int(page_token or 0)
        page = Page(runs[first : first + 1000])
        page.token = str(first + 1000) if len(runs) > first + 1000 else None
        return page

    client = Mock(search_runs=search)
    monkeypatch.setitem(sys.modules, "mlflow", Mock())
    monkeypatch.setitem(sys.modules, "mlflow.entities", Mock())
    monkeypatch.setitem(sys.modules, "mlflow.tracking", Mock(MlflowClient=lambda tracking_uri: client))
    loggers.MLflow(Path("run"), "run", {})
    client.delete_run.assert_called_once_with(1000)


@pytest.mark.slow
@needs("wandb")
def test_wandb_writes_offline_into_the_run_folder_what_can_be_sent_later(whole):
    kill(shutil.copytree(whole, Path("cut")), 12)
    for _ in range(2):
        assert "wandb sync cut/wandb/offline-run-*" in outcome("resume", "cut", "loggers=[wandb]")
        (file,) = Path("cut/wandb").glob("offline-run-*/*.wandb")
        content = file.read_bytes()
        assert content.count(b"knn/top1") >= len(measured("cut"))
        assert b"convnet" in content, "settings"
        kill(Path("cut"), 12)


def test_one_that_is_not_installed_is_refused_and_one_that_is_unknown(capsys, monkeypatch):
    monkeypatch.setattr(loggers.importlib.util, "find_spec", lambda name: None)
    refusal(capsys, [*MEASURED_ONCE, "loggers=[wandb]"], "pip install 'ssl-runner[wandb]'")
    refusal(capsys, [*MEASURED_ONCE, "loggers=[comet]"], "loggers", "wandb")


class Broken:
    """A logger whose server is away from the second row on."""

    def __init__(self, folder, name, settings):
        self.rows, self.told = 0, (folder.name, name, settings["batch_size"])

    def scalars(self, step, values):
        self.rows += 1
        if self.rows > 1:
            raise ConnectionError("the server is away")

    def image(self, step, name, x):
        assert x.shape[0] == 3

    def close(self, status):
        raise AssertionError("it was left out")


def test_one_that_fails_is_left_out_and_the_run_goes_on(whole, monkeypatch):
    monkeypatch.setattr(loggers, "check_loggers", lambda chosen: [])
    monkeypatch.setattr("ssl_runner.run.preflight.check_loggers", lambda chosen: [])
    monkeypatch.setitem(loggers.KINDS, "wandb", Broken)
    from ssl_runner import train

    run = train(*MEASURED_ONCE[:-1], "keep=9", "loggers=[wandb]", folder="run")
    assert summary("run")["status"] == "completed"
    assert "wandb: ConnectionError: the server is away; it logs nothing from here on" in Path("run/run.log").read_text()
    assert run.numbers["knn/top1"] == summary(whole)["final"]["knn/top1"], "and nothing of it is changed"


def test_a_logger_that_cannot_be_opened_is_left_out(monkeypatch, caplog):
    monkeypatch.setitem(loggers.KINDS, "mlflow", lambda *_: 1 / 0)
    assert not Loggers(["mlflow"], Path("run"), {}).open
    assert "mlflow: ZeroDivisionError" in caplog.text

"""One command measures an accelerator: its stages on a CPU, and nothing is lost when one fails or is late."""

import json
import sys
import time
from types import SimpleNamespace
from unittest.mock import Mock

import accelerator
import pytest
import torch
from torch.autograd import DeviceType

from ssl_runner.command.train import main as train
from ssl_runner.run_folder.atomic import write

SMALL = ["--device=cpu", "--model=convnet_small", "--batch=16", "--precision=float32", "--compile=false"]


@pytest.fixture(autouse=True)
def one_thread(monkeypatch):
    monkeypatch.setattr(accelerator, "FAST", (*accelerator.FAST, "device.threads=1"))


def measured(folder, *words):
    """The exit status of one command, and its report."""
    status = accelerator.main(["--out", str(folder), *SMALL, *words])
    return status, json.loads((folder / "report.json").read_text())


@pytest.mark.slow
def test_accelerator_goes_through_its_stages_on_a_cpu(monkeypatch, tmp_path, capsys):
    """As its docstring says for a try; a second command adds its stages to the first's."""
    monkeypatch.setattr(accelerator, "PEERS", ("limit", "runner"))
    monkeypatch.setattr(accelerator, "LOOKED_AT", 2)
    status, report = measured(tmp_path, "--stage=speed", "--stage=waits", "--seconds=0.01", "--rounds=1")
    assert (status, [row["contestant"] for row in report["speed"]["rows"]]) == (0, ["limit", "runner"])
    (ratio,) = report["speed"]["ratios"]
    assert (ratio["ratio"], ratio["aim"], ratio["met"]) == ("runner/limit", 0.9, ratio["measured"] >= 0.9)
    assert "runner to it" in (tmp_path / "speed.txt").read_text()
    assert report["waits"]["milliseconds a step"] > 0

    def in_this_process(command, typed, name):
        assert command[1:3] == ["-m", "ssl_runner"]
        assert train(command[3:]) == 0

    monkeypatch.setattr(accelerator, "carry_out", in_this_process)
    assert json.loads((tmp_path / "trace.json").read_text())["traceEvents"]
    shapes = ["dataset=shapes", "dataset.images=64", "dataset.test=16", "model.widths=[8,8,8]"]
    (tmp_path / "simclr-2st").mkdir()  # taken
    status, report = measured(tmp_path, "--stage=quality", "--length=2st", *shapes)
    assert status == 0, capsys.readouterr().err
    assert report.keys() == {"machine", "speed", "waits", "quality"}
    quality = report["quality"]["2st"]
    assert (quality["run"], quality["status"]) == (str(tmp_path / "simclr-2st-2"), "completed")
    assert quality["by epoch"]["knn/top1"].keys() == {"0", "0.3333", "0.6667"}


def test_accelerator_loses_nothing_when_a_stage_fails(monkeypatch, tmp_path):
    def breaks(typed):
        yield {"half": 1}
        raise KeyError("rounds")

    monkeypatch.setitem(accelerator.STAGES, "speed", breaks)
    monkeypatch.setitem(accelerator.STAGES, "waits", lambda typed: iter([{"host waits": "no"}]))
    status, report = measured(tmp_path, "--stage=speed", "--stage=waits")
    assert (status, report["speed"]) == (1, {"half": 1, "failed": "KeyError: 'rounds'"})
    assert report["waits"] == {"host waits": "no"}
    assert "in breaks" in (tmp_path / "speed-failed.txt").read_text()


def test_what_takes_too_long_is_ended(tmp_path):
    # whoever started pytest may ignore SIGTERM, which a process inherits
    code = "import signal, time; signal.signal(15, signal.SIG_DFL); print('begun', flush=True); time.sleep(60)"
    typed = SimpleNamespace(out=tmp_path, minutes=0.01, deadline=time.monotonic() + 1)
    with pytest.raises(accelerator.Late, match=r"after 0.01 minutes; type a larger --minutes"):
        accelerator.carry_out([sys.executable, "-c", code], typed, "run")
    assert (tmp_path / "run.txt").read_text() == "begun\n"
    with pytest.raises(accelerator.Late, match="not begun"):
        accelerator.carry_out([sys.executable, "-c", code], typed, "run")


def test_a_run_for_quality_that_is_late_reports_what_there_is(monkeypatch, tmp_path):
    def be_late(command, typed, name):
        measured = {0: {"knn/top1": 0.4}, 5: {}, 10: {"knn/top1": 0.6}}
        rows = [{"step": step, "epoch": step / 10, "time": 1.0, **each} for step, each in measured.items()]
        write(typed.out / name / "metrics.jsonl", "".join(json.dumps(row) + "\n" for row in rows))
        raise accelerator.Late("after 30 minutes")

    monkeypatch.setattr(accelerator, "carry_out", be_late)
    status, report = measured(tmp_path, "--stage=quality", "--length=2ep", "--length=4ep", "dataset=shapes")
    curves = {"knn/top1": {"0": 0.4, "1": 0.6}, "probe/top1": {}}
    run = {"run": str(tmp_path / "simclr-2ep"), "by epoch": curves, "ended": "after 30 minutes"}
    assert (status, report["quality"]) == (1, {"2ep": run, "failed": "Late: after 30 minutes"})


REFUSED = {"--rounds=0": "above 0", "--model=resnet": "resnet18", "--stage=quality --length=2": "length"}
REFUSED |= {"--stage=speed dataset=shapes": "type --stage quality", "--stage=quality optimizer.rate=1": "rate"}
REFUSED |= {} if torch.cuda.is_available() else {"--device=cuda": "this machine has no cuda device"}


@pytest.mark.parametrize(("words", "said"), REFUSED.items())
def test_accelerator_refuses_in_a_line(tmp_path, capsys, words, said):
    assert accelerator.main(["--out", str(tmp_path / "out"), *SMALL, *words.split()]) == 2
    message = capsys.readouterr().err
    assert (said in message, message.count("\n")) == (True, 1), message
    assert not (tmp_path / "out").exists()


def test_device_time_is_counted_once_and_only_what_waits_is_a_wait(monkeypatch):
    cuda, cpu = DeviceType.CUDA, DeviceType.CPU
    # two kernels, the operation that called one of them, and a range by name
    seen = ((cuda, 3e6, False), (cuda, 1e6, False), (cpu, 3e6, False), (cuda, 5e6, True))
    events = [Mock(device_type=kind, self_device_time_total=us, is_user_annotation=named) for kind, us, named in seen]
    assert accelerator.device_seconds(events) == 4
    modes, device = [], torch.device("cuda")
    monkeypatch.setattr(torch.cuda, "set_sync_debug_mode", modes.append)
    wait, overflow = (Mock(side_effect=RuntimeError(each)) for each in ("a synchronizing operation", "out of memory"))
    assert accelerator.where_it_waits(Mock(), device) == "no"
    assert accelerator.where_it_waits(wait, device).startswith("yes")
    with pytest.raises(RuntimeError, match="out of memory"):
        accelerator.where_it_waits(overflow, device)
    assert modes == ["error", "default"] * 3

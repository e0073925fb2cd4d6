"""One command measures an accelerator: its stages on a CPU, and nothing is lost when one fails or is late."""

import functools
import json
import sys
import time
from types import SimpleNamespace

import accelerator
import pytest
import torch
from torch.autograd import DeviceType

from ssl_runner.command.train import main as train


@pytest.fixture(autouse=True)
def one_thread(monkeypatch):
    monkeypatch.setattr(accelerator, "FAST", (*accelerator.FAST, "device.threads=1"))


SMALL = ["--device=cpu", "--model=convnet_small", "--batch=16", "--precision=float32", "--compile=false"]


@pytest.mark.slow
def test_accelerator_goes_through_its_stages_on_a_cpu(monkeypatch, tmp_path, capsys):
    """As its docstring says for a try; a second command adds its stages to the first's."""
    monkeypatch.setattr(accelerator, "PEERS", ("limit", "runner"))
    monkeypatch.setattr(accelerator, "LOOKED_AT", 2)
    out = ["--out", str(tmp_path), *SMALL]
    assert accelerator.main([*out, "--stage=speed", "--stage=waits", "--seconds=0.01", "--rounds=1"]) == 0
    report = json.loads((tmp_path / "report.json").read_text())
    assert [row["contestant"] for row in report["speed"]["rows"]] == ["limit", "runner"]
    assert [(each["ratio"], each["aim"]) for each in report["speed"]["ratios"]] == [("runner/limit", 0.9)]
    assert report["speed"]["ratios"][0]["met"] == (report["speed"]["ratios"][0]["measured"] >= 0.9)
    assert "runner to it" in (tmp_path / "speed.txt").read_text()
    assert report["waits"]["milliseconds a step"] > 0

    def in_this_process(command, typed, name):
        assert command[1:3] == ["-m", "ssl_runner"]
        assert train(command[3:]) == 0

    monkeypatch.setattr(accelerator, "carry_out", in_this_process)
    assert json.loads((tmp_path / "trace.json").read_text())["traceEvents"]
    shapes = ["dataset=shapes", "dataset.images=64", "dataset.test=16", "model.widths=[8,8,8]"]
    (tmp_path / "simclr-2st").mkdir()  # taken
    assert accelerator.main([*out, "--stage=quality", "--length=2st", *shapes]) == 0, capsys.readouterr().err
    report = json.loads((tmp_path / "report.json").read_text())
    assert report.keys() == {"machine", "speed", "waits", "quality"}
    quality = report["quality"]["2st"]
    assert quality["run"] == str(tmp_path / "simclr-2st-2")
    assert quality["status"] == "completed"
    assert quality["by epoch"]["knn/top1"].keys() == {"0", "0.3333", "0.6667"}


def test_accelerator_loses_nothing_when_a_stage_fails(monkeypatch, tmp_path):
    def breaks(typed):
        yield {"half": 1}
        raise KeyError("rounds")

    monkeypatch.setitem(accelerator.STAGES, "speed", breaks)
    monkeypatch.setitem(accelerator.STAGES, "waits", lambda typed: iter([{"host waits": "no"}]))
    assert accelerator.main(["--out", str(tmp_path), *SMALL, "--stage=speed", "--stage=waits"]) == 1
    report = json.loads((tmp_path / "report.json").read_text())
    assert report["speed"] == {"half": 1, "failed": "KeyError: 'rounds'"}
    assert report["waits"] == {"host waits": "no"}
    assert "in breaks" in (tmp_path / "speed-failed.txt").read_text()


def test_what_takes_too_long_is_ended(tmp_path):
    code = "import sys, time; print('begun', flush=True); time.sleep(60)"
    typed = SimpleNamespace(out=tmp_path, minutes=0.01, deadline=time.monotonic() + 1)
    with pytest.raises(accelerator.Late, match=r"after 0.01 minutes; type a larger --minutes"):
        accelerator.carry_out([sys.executable, "-c", code], typed, "run")
    assert (tmp_path / "run.txt").read_text() == "begun\n"
    with pytest.raises(accelerator.Late, match="not begun"):
        accelerator.carry_out([sys.executable, "-c", code], typed, "run")


def test_a_run_for_quality_that_is_late_reports_what_there_is(monkeypatch, tmp_path):
    rows = [{"step": 0, "epoch": 0.0, "time": 1.0, "knn/top1": 0.4}, {"step": 5, "epoch": 0.5, "time": 2.0}]
    rows.append({"step": 10, "epoch": 1.0, "time": 3.0, "knn/top1": 0.6})

    def takes_too_long(command, typed, name):
        (typed.out / name).mkdir()
        (typed.out / name / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
        raise accelerator.Late("after 30 minutes")

    monkeypatch.setattr(accelerator, "carry_out", takes_too_long)
    words = ["--out", str(tmp_path), *SMALL, "--stage=quality", "--length=2ep", "--length=4ep", "dataset=shapes"]
    assert accelerator.main(words) == 1
    found = json.loads((tmp_path / "report.json").read_text())["quality"]
    curves = {"knn/top1": {"0": 0.4, "1": 0.6}, "probe/top1": {}}
    run = {"run": str(tmp_path / "simclr-2ep"), "by epoch": curves, "ended": "after 30 minutes"}
    assert found == {"2ep": run, "failed": "Late: after 30 minutes"}


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--stage=quality", "optimizer.rate=1"], "optimizer.rate"),
        (["--stage=quality", "--length=2"], "length"),
        (["--stage=speed", "dataset=shapes"], "type --stage quality"),
        (["--rounds=0"], "above 0"),
        (["--model=resnet"], "resnet18"),
        *([(["--device=cuda"], "this machine has no cuda device")] if not torch.cuda.is_available() else []),
    ],
)
def test_accelerator_refuses_in_a_line(tmp_path, capsys, words, said):
    assert accelerator.main(["--out", str(tmp_path / "out"), *SMALL[1:], "--device=cpu", *words]) == 2
    told = capsys.readouterr().err
    assert said in told
    assert told.count("\n") == 1
    assert not (tmp_path / "out").exists()


def test_device_time_is_counted_once():
    event = functools.partial(SimpleNamespace, is_user_annotation=False)
    events = [
        event(device_type=DeviceType.CUDA, self_device_time_total=3e6),  # a kernel
        event(device_type=DeviceType.CPU, self_device_time_total=3e6),  # the operation that called it
        event(device_type=DeviceType.CUDA, self_device_time_total=5e6, is_user_annotation=True),  # a range by name
        event(device_type=DeviceType.CUDA, self_device_time_total=1e6),
    ]
    assert accelerator.device_seconds(events) == 4


def test_only_what_waits_is_a_wait(monkeypatch):
    modes = []
    monkeypatch.setattr(torch.cuda, "set_sync_debug_mode", modes.append)
    device = torch.device("cuda")

    def raises(said):
        def run():
            raise RuntimeError(said)

        return run

    assert accelerator.where_it_waits(lambda: None, device) == "no"
    assert accelerator.where_it_waits(raises("called a synchronizing CUDA operation"), device).startswith("yes")
    with pytest.raises(RuntimeError, match="out of memory"):
        accelerator.where_it_waits(raises("out of memory"), device)
    assert modes == ["error", "default"] * 3

"""The program as its users meet it: real runs in real processes, and how it fails."""

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from conftest import tiny
from safetensors.torch import load_file

from ssl_runner.__main__ import main
from ssl_runner.run_folder import checkpoint
from ssl_runner.run_folder.metrics import read_rows

KILLS = int(os.environ.get("SSL_RUNNER_KILLS", "2"))  # how often a process is killed outright in the test of that
LONG = ("length=400st", "save_every=20st", "log_every=20st", "evaluator.knn.every=100st", "evaluator.probe.every=200st")


@pytest.fixture(autouse=True)
def in_a_folder_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def start(*words: str) -> subprocess.Popen:
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONWARNINGS": "ignore"}
    return subprocess.Popen(
        [sys.executable, "-m", "ssl_runner", *words],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def wait_for(condition: object, process: subprocess.Popen, seconds: float = 120) -> None:
    end = time.monotonic() + seconds
    while not condition():  # type: ignore[operator]
        assert process.poll() is None, process.communicate()[0]
        assert time.monotonic() < end, "nothing happened"
        time.sleep(0.02)


def summary(folder: Path) -> dict:
    return json.loads((folder / "summary.json").read_text())


def states(folder: Path) -> tuple[dict, dict]:
    """What a run ended in: its last checkpoint's tensors and its encoder."""
    _, state = next(checkpoint.newest_first(folder / "checkpoints"))
    return state["pretext"], load_file(folder / "encoder.safetensors")


def same(a: Path, b: Path) -> bool:
    return all(
        x.keys() == y.keys() and all(torch.equal(x[name], y[name]) for name in x)
        for x, y in zip(states(a), states(b), strict=True)
    )


def test_a_run_leaves_all_that_was_promised_and_runs_again_from_its_config(
    tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    assert main(tiny("pretext=simclr")) == 0
    (folder,) = Path("outputs/simclr-shapes").iterdir()
    found = {file.name.split(".tfevents")[0] for file in folder.iterdir()}
    assert found >= {
        *("config.yaml", "overrides.yaml", "environment.json", "metrics.jsonl", "summary.json", "checkpoints"),
        *("encoder.safetensors", "encoder.yaml", "events.out", "run.log"),
    }
    assert len(list(folder.glob("events.out.tfevents.*"))) == 1, "one writer"
    done = summary(folder)
    assert done["status"] == "completed"
    assert done["step"] == done["steps"] == 12
    assert done["baseline"].keys() >= {"knn/top1", "probe/top1"}
    assert done["final"].keys() >= {*done["baseline"], "test/knn/top1", "test/probe/top1"}
    assert done["headlines"] == ["knn/top1", "probe/top1", "geometry/rankme"]
    assert done["metrics"]["test/knn/top1"] == {"better": "larger", "unit": "share"}
    assert done["error"] is None
    rows = read_rows(folder / "metrics.jsonl")
    assert [row["step"] for row in rows if "train/loss" in row] == [4, 8, 12]
    assert [row["step"] for row in rows if "knn/top1" in row] == [0, 3, 6, 9, 12]
    assert sum("test/knn/top1" in row for row in rows) == 1, "test is measured once"
    learnt = next(row for row in rows if "train/loss" in row)
    assert learnt.keys() >= {"optimizer/lr", "optimizer/gradient_norm", "speed/samples_per_second", "speed/data_wait"}
    environment = json.loads((folder / "environment.json").read_text())
    assert environment["versions"]["torch"] == torch.__version__
    assert environment["dataset"]
    said = capsys.readouterr().out
    assert "random encoder" in said
    assert f"tensorboard --logdir {folder}" in said
    assert main(["--config-dir", str(folder), "--config-name", "config", "hydra.run.dir=again"]) == 0
    assert same(folder, Path("again"))
    assert "step 12/12" in (folder / "run.log").read_text()
    assert main(["resume", str(folder)]) == 0
    assert "is completed already" in capsys.readouterr().out


def test_mistakes_leave_nothing_behind_and_show_no_traceback(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    assert main(["pretext=simclar", "optimizer.lr=-1"]) == 2
    assert main(tiny("batch_size=512")) == 2
    assert main(["--config-dir", "absent"]) == 2
    assert main(["resume", "absent"]) == 2
    assert main(tiny("evaluator.knn.k=5000")) == 2
    assert main(tiny("dataset=cifar10", "dataset.root=nowhere", "dataset.download=false")[2:]) == 2
    said = capsys.readouterr().err
    assert "2 problems" in said
    assert "Traceback" not in said
    for word in ("nowhere", "dataset=shapes", "5000", "there is no folder absent", "absent holds no run"):
        assert word in said
    assert not list(tmp_path.iterdir())


def test_a_mistake_in_a_process_is_two_lines_and_status_2() -> None:
    process = start("pretext=simclar")
    said, _ = process.communicate(timeout=120)
    assert process.returncode == 2
    assert said.count("\n") == 2
    assert "did you mean simclr?" in said


def test_a_folder_that_holds_a_run_is_refused(capsys: pytest.CaptureFixture) -> None:
    assert main(tiny("hydra.run.dir=mine", "length=2st", "evaluator=none")) == 0
    before = (Path("mine") / "summary.json").read_text()
    assert main(tiny("hydra.run.dir=mine", "length=2st", "evaluator=none")) == 2
    assert "ssl-runner resume mine" in capsys.readouterr().err
    assert (Path("mine") / "summary.json").read_text() == before


def test_a_sweep_runs_every_combination_in_a_folder_of_its_own(capsys: pytest.CaptureFixture) -> None:
    words = tiny("length=2st", "evaluator=none", "pretext=rotation,flip", "optimizer.lr=0.03,0.1")
    assert main(["-m", *words]) == 0
    (sweep,) = Path("outputs/sweeps").iterdir()
    jobs = sorted(folder.name for folder in sweep.glob("[0-9]*"))
    assert jobs == ["000-rotation-lr-0.03", "001-rotation-lr-0.1", "002-flip-lr-0.03", "003-flip-lr-0.1"]
    assert all(summary(sweep / job)["status"] == "completed" for job in jobs)
    assert "[4/4] 003-flip-lr-0.1: completed" in capsys.readouterr().out
    assert main(["-m", *words, "batch_size=0"]) == 2, "a sweep is checked before its first job begins"
    assert len(list(Path("outputs/sweeps").iterdir())) == 1


def test_a_loss_that_is_not_finite_stops_the_run(capsys: pytest.CaptureFixture) -> None:
    words = tiny("optimizer=sgd", "optimizer.lr=1e30", "optimizer.warm_up=0st", "evaluator=none", "save_every=1st")
    assert main([*words, "hydra.run.dir=bad"]) == 1
    done = summary(Path("bad"))
    assert done["status"] == "failed"
    assert "not finite between steps" in done["error"]
    for word in ("checkpoint", "optimizer.lr", "optimizer.clip=1"):
        assert word in done["error"]
    assert "Traceback" not in capsys.readouterr().out
    for path in checkpoint.steps(Path("bad/checkpoints")):
        tensors = checkpoint.load(path)["pretext"].values()
        assert all(torch.isfinite(t).all() for t in tensors if t.is_floating_point()), "a bad state is never saved"


def test_an_exception_is_told_in_the_summary_and_the_log(monkeypatch: pytest.MonkeyPatch) -> None:
    from ssl_runner.pretext.rotation import Rotation

    def broken(self: Rotation, views: tuple, group: str = "main") -> None:
        raise RuntimeError("a bug of the method")

    monkeypatch.setattr(Rotation, "forward", broken)
    assert main(tiny("evaluator=none", "hydra.run.dir=bad")) == 1
    assert summary(Path("bad"))["error"] == "RuntimeError: a bug of the method"
    assert "Traceback" in (Path("bad") / "run.log").read_text()


def test_a_full_disk_keeps_the_checkpoint_before(monkeypatch: pytest.MonkeyPatch) -> None:
    save = checkpoint.save

    def full(folder: Path, step: int, state: dict, keep: int) -> Path:
        if step == 8:
            raise OSError(28, "No space left on device")
        return save(folder, step, state, keep)

    monkeypatch.setattr(checkpoint, "save", full)
    words = tiny("evaluator=none", "save_every=4st", "keep=1")
    assert main([*words, "hydra.run.dir=once"]) == 0, "a later save may succeed"
    said = (Path("once") / "run.log").read_text()
    assert "checkpoint of step 8 could not be written" in said
    assert "0000004.pt" in said
    monkeypatch.setattr(checkpoint, "save", lambda f, s, d, k: full(f, 8, d, k) if s > 4 else save(f, s, d, k))
    assert main([*words, "hydra.run.dir=full"]) == 1
    assert summary(Path("full"))["status"] == "failed"
    assert [p.name for p in checkpoint.steps(Path("full/checkpoints"))] == ["0000004.pt"]
    monkeypatch.setattr(checkpoint, "save", save)
    assert main(["resume", "full"]) == 0
    assert same(Path("full"), Path("once"))


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_interrupts_save_and_say_how_to_go_on(number: signal.Signals, status: int) -> None:
    words = tiny("pretext=rotation", *LONG)
    process = start(*words, "hydra.run.dir=cut")
    wait_for(lambda: len(read_rows(Path("cut/metrics.jsonl"))) > 1, process)
    process.send_signal(number)
    said, _ = process.communicate(timeout=60)
    assert process.returncode == status, said
    assert "ssl-runner resume cut" in said
    cut = summary(Path("cut"))
    assert cut["status"] == "interrupted"
    assert 0 < cut["step"] < 400
    assert [int(p.stem) for p in checkpoint.steps(Path("cut/checkpoints"))][-1] == cut["step"]
    assert main(["resume", "cut"]) == 0
    assert main([*words, "hydra.run.dir=whole"]) == 0
    assert same(Path("cut"), Path("whole"))
    assert len({row["step"] for row in read_rows(Path("cut/metrics.jsonl")) if "knn/top1" in row}) == 5


@pytest.mark.timeout(1800)
def test_killed_outright_at_random_moments() -> None:
    """kill -9 loses at most the steps since the last checkpoint, and the end is the same to the bit."""
    words = tiny("pretext=byol", *LONG, f"length={max(400, 150 * KILLS)}st")  # long enough for every kill to meet it
    cut, moments = Path("cut"), random.SystemRandom()

    def saved() -> int:
        return max((int(path.stem) for path in checkpoint.steps(cut / "checkpoints")), default=0)

    process = start(*words, "hydra.run.dir=cut")
    wait_for(saved, process)
    for kill in range(KILLS):
        if kill % 4 == 3:
            time.sleep(moments.uniform(0, 4))  # anywhere, also while it starts
        else:
            size = (cut / "metrics.jsonl").stat().st_size
            wait_for(lambda size=size: (cut / "metrics.jsonl").stat().st_size > size, process)  # at work, and logging
            time.sleep(moments.uniform(0, 0.5))
        assert process.poll() is None, process.communicate()[0]
        process.kill()
        process.communicate()
        logged = [row["step"] for row in read_rows(cut / "metrics.jsonl") if "train/loss" in row]
        assert max(logged) - saved() <= 20, "at most the steps since the last checkpoint"
        assert summary(cut)["status"] == "running"
        process = start("resume", "cut")
    said, _ = process.communicate(timeout=600)
    assert process.returncode == 0, said
    assert (cut / "run.log").read_text().count("resumed at step") >= KILLS / 2
    assert main([*words, "hydra.run.dir=whole"]) == 0
    assert same(cut, Path("whole"))
    assert summary(cut)["final"] == summary(Path("whole"))["final"]


def test_two_runs_of_one_second_have_two_folders() -> None:
    words = tiny("length=2st", "evaluator=none")
    processes = [start(*words) for _ in range(2)]
    assert [process.wait(timeout=120) for process in processes] == [0, 0]
    assert len(list(Path("outputs/rotation-shapes").iterdir())) == 2
    for process in processes:
        assert process.stdout is not None
        process.stdout.close()


def test_a_running_folder_is_not_resumed(capsys: pytest.CaptureFixture) -> None:
    process = start(*tiny(*LONG), "hydra.run.dir=busy")
    wait_for(lambda: Path("busy/summary.json").exists(), process)
    try:
        assert main(["resume", "busy"]) == 2
        assert "running process" in capsys.readouterr().err
    finally:
        process.kill()
        process.communicate()


def test_help_lists_every_choice(capsys: pytest.CaptureFixture) -> None:
    assert main(["--help"]) == 0
    said = capsys.readouterr().out
    for word in ("simclr", "image_folder", "resnet18", "koleo", "resume", "hydra.run.dir", "length"):
        assert word in said


def test_the_config_can_be_shown(capsys: pytest.CaptureFixture) -> None:
    assert main(["--cfg", "job", "pretext=byol"]) == 0
    assert "ssl_runner.pretext.byol.BYOL" in capsys.readouterr().out

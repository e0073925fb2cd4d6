"""Runs that end before their end, by a signal, a kill, a full disk or an overflow, and go on to the same bits."""

import os
import random
import signal
import time
from pathlib import Path
from unittest.mock import Mock

import pytest
from conftest import MEASURED_ONCE, TINY, tiny
from runs import enter, measured, same, saved, start, summary, wait_for

from ssl_runner.__main__ import main
from ssl_runner.dataset.shapes import Shapes
from ssl_runner.run_folder import checkpoint

FULL = Mock(side_effect=OSError(28, "No space left on device"))
pytestmark = pytest.mark.usefixtures("here")

KILLS = int(os.environ.get("SSL_RUNNER_KILLS", "2"))  # how often a process is killed outright in the test of that
LONG = ("length=400st", "save_every=20st", "log_every=20st", "evaluator.knn.every=100st", "evaluator.probe.every=200st")
BARE = [*TINY, "evaluator=none", "length=2st", "log_every=1st"]
BARE_STEPS, TOO_FAST = ("save_every=1st", "evaluator=none"), "optimizer.lr=3e38"
KNN = ("evaluator=[knn]", "evaluator.knn.k=3", "evaluator.knn.every=1st")
OVERFLOWS = {
    "in the only step": ("length=1st", "evaluator=none", TOO_FAST, "regulariser=l2", "regulariser.weight=1e4"),
    "by and by": ("length=4st", *BARE_STEPS, TOO_FAST),
    "seen at the end": ("length=4st", "evaluator=none", "log_every=100%", TOO_FAST),
    "in the features alone": ("length=4st", *KNN, TOO_FAST),
    "in a long run": (*BARE_STEPS, TOO_FAST),
    "by AdamW": ("length=4st", *BARE_STEPS, "optimizer=adamw", TOO_FAST),
    "by LARS": ("length=4st", *BARE_STEPS, "optimizer=lars", TOO_FAST),
}


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_a_run_that_is_interrupted_and_killed_outright_at_random_moments():
    """SIGINT and SIGTERM save and say how to go on; kill -9 loses at most the steps since the last checkpoint."""
    numbers = [signal.SIGINT, signal.SIGTERM, *[signal.SIGKILL] * KILLS]
    steps = 150 * max(len(numbers), 3)  # long enough for every signal to meet it
    words = tiny("pretext=byol", *LONG, f"length={steps}st")
    log, moments = Path("cut/metrics.jsonl"), random.SystemRandom()
    process = start(*words, "hydra.run.dir=cut")
    wait_for(lambda: saved("cut"), process)
    for turn, number in enumerate(numbers):
        anywhere, size = turn % 4 == 3, log.stat().st_size  # also while it starts; else at work, and logging
        wait_for(lambda anywhere=anywhere, size=size: anywhere or log.stat().st_size > size, process)
        time.sleep(moments.uniform(0, 4 if anywhere else 0.5))
        assert process.poll() is None, process.communicate()[0]
        process.send_signal(number)
        message, _ = process.communicate(timeout=60)
        cut, last = summary("cut"), saved("cut")[-1]
        if number == signal.SIGKILL:
            assert cut["status"] == "running"
            assert measured("cut", "train/loss")[-1][0] - last <= 20, "at most the steps since the checkpoint"
        else:
            assert (process.returncode, cut["status"], cut["step"]) == (128 + number, "interrupted", last), message
            assert "ssl-runner resume cut" in message
            assert 0 < last < steps
        process = start("resume", "cut")
    message, _ = process.communicate(timeout=600)
    assert process.returncode == 0, message
    assert Path("cut/run.log").read_text().count("resumed at step") >= len(numbers) / 2
    assert [step for step, _ in measured("cut")] == list(range(0, steps + 1, 100))
    assert main([*words, "hydra.run.dir=whole"]) == 0
    assert same("cut", "whole")


def test_an_interrupt_while_data_is_read_is_130(cut, whole, monkeypatch, capsys):
    with monkeypatch.context() as patch:
        patch.setattr(Shapes, "load", Mock(side_effect=KeyboardInterrupt))
        enter(capsys, [*BARE, "hydra.run.dir=new"], "interrupted", status=130)
        assert not Path("new").exists()
        enter(capsys, "resume cut", "interrupted", status=130)
    enter(capsys, "resume cut")
    assert same(cut, whole)


def test_a_full_disk_keeps_the_checkpoint_before_and_begins_no_run(monkeypatch, capsys):
    save, full = checkpoint.save, {8}  # the steps at which the disk is full; a later save may succeed
    monkeypatch.setattr(checkpoint, "save", lambda to, at, *others: (FULL if at in full else save)(to, at, *others))
    words = tiny("evaluator=none", "save_every=4st", "keep=1")
    enter(capsys, [*words, "hydra.run.dir=once"], "checkpoint of step 8 could not be written", "0000004.pt")
    full.add(12)
    enter(capsys, [*words, "hydra.run.dir=full"], status=1)
    assert (summary("full")["status"], saved("full")) == ("failed", [4])
    full.clear()
    enter(capsys, "resume full")
    assert same("full", "once")
    monkeypatch.setattr("ssl_runner.config.files.write", FULL)
    enter(capsys, [*BARE, "hydra.run.dir=new"], "run folder: [Errno 28] No space left", status=2)


@pytest.mark.slow
def test_a_full_disk_is_said_and_the_run_goes_on_when_there_is_room(whole):
    """A process that may write no file larger than 30 kB; TensorBoard's file comes to that first."""
    limit = "import resource, sys; from ssl_runner.__main__ import main; "
    limit += "resource.setrlimit(resource.RLIMIT_FSIZE, (30_000, 30_000)); sys.exit(main(sys.argv[1:]))"
    process = start(*MEASURED_ONCE, "hydra.run.dir=full", program=("-c", limit))
    message, _ = process.communicate(timeout=120)
    assert process.returncode == 1, message
    assert "Traceback" not in message
    assert all(word in message for word in ("File too large", "ssl-runner resume full")), message
    assert not Path("full/encoder.safetensors").exists()
    assert summary("full")["status"] == "failed"
    assert main(["resume", "full"]) == 0
    assert same("full", whole)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_a_log_that_the_disk_refuses_stops_nothing(cut, whole, capsys):
    (cut / "run.log").unlink()
    (cut / "run.log").symlink_to("/dev/full")
    assert "Logging error" not in enter(capsys, "resume cut")
    assert same(cut, whole)


@pytest.mark.parametrize("case", OVERFLOWS)
def test_weights_that_overflow_end_in_a_line_and_are_never_saved(case, here, capsys):
    words = tiny("optimizer=sgd", "optimizer.warm_up=0st", *OVERFLOWS[case], "hydra.run.dir=run")
    enter(capsys, words, status=1)
    assert not Path("run/encoder.safetensors").exists()
    for path in checkpoint.steps(here / "run/checkpoints"):
        assert all(t.isfinite().all() for t in checkpoint.load(path)["pretext"].values() if t.is_floating_point())
    assert summary("run")["status"] == "failed"
    error = summary("run")["error"]
    assert all(word in error for word in ("finite", "checkpoint", "optimizer.lr")), error
    assert ("optimizer.clip=1" in error) != ("features" in error)
    assert "Traceback" not in Path("run/run.log").read_text(), "a run that diverges is no bug"

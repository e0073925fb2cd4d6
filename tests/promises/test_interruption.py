"""Runs that end before their end: by a signal, a kill, or a full disk; they go on to the same bits."""

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from conftest import MEASURED_ONCE, TINY, tiny
from runs import CLEAN, measured, said, same, saved, start, summary, wait_for

from ssl_runner.__main__ import main
from ssl_runner.dataset.shapes import Shapes
from ssl_runner.run_folder import checkpoint
from ssl_runner.run_folder.metrics import read_rows

pytestmark = pytest.mark.usefixtures("here")

KILLS = int(os.environ.get("SSL_RUNNER_KILLS", "2"))  # how often a process is killed outright in the test of that
LONG = ("length=400st", "save_every=20st", "log_every=20st", "evaluator.knn.every=100st", "evaluator.probe.every=200st")
BARE = [*TINY, "evaluator=none", "length=2st", "log_every=1st"]


@pytest.mark.slow
@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_interrupts_save_and_say_how_to_go_on(number, status):
    words = tiny("pretext=rotation", *LONG)
    process = start(*words, "hydra.run.dir=cut")
    wait_for(lambda: len(read_rows(Path("cut/metrics.jsonl"))) > 1, process)
    process.send_signal(number)
    told, _ = process.communicate(timeout=60)
    assert process.returncode == status, told
    assert "ssl-runner resume cut" in told
    cut = summary("cut")
    assert cut["status"] == "interrupted"
    assert 0 < cut["step"] < 400
    assert saved("cut")[-1] == cut["step"]
    assert main(["resume", "cut"]) == 0
    assert main([*words, "hydra.run.dir=whole"]) == 0
    assert same("cut", "whole")
    assert len(measured("cut")) == 5


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_killed_outright_at_random_moments():
    """kill -9 loses at most the steps since the last checkpoint, and the end is the same to the bit."""
    words = tiny("pretext=byol", *LONG, f"length={max(400, 150 * KILLS)}st")  # long enough for every kill to meet it
    log, moments = Path("cut/metrics.jsonl"), random.SystemRandom()
    process = start(*words, "hydra.run.dir=cut")
    wait_for(lambda: saved("cut"), process)
    for kill in range(KILLS):
        if kill % 4 == 3:
            time.sleep(moments.uniform(0, 4))  # anywhere, also while it starts
        else:
            size = log.stat().st_size
            wait_for(lambda size=size: log.stat().st_size > size, process)  # at work, and logging
            time.sleep(moments.uniform(0, 0.5))
        assert process.poll() is None, process.communicate()[0]
        process.kill()
        process.communicate()
        assert measured("cut", "train/loss")[-1][0] - saved("cut")[-1] <= 20, "at most the steps since the checkpoint"
        assert summary("cut")["status"] == "running"
        process = start("resume", "cut")
    told, _ = process.communicate(timeout=600)
    assert process.returncode == 0, told
    assert Path("cut/run.log").read_text().count("resumed at step") >= KILLS / 2
    assert main([*words, "hydra.run.dir=whole"]) == 0
    assert same("cut", "whole")


def interrupted(*_):
    raise KeyboardInterrupt


def test_an_interrupt_while_data_is_read_is_130(cut, whole, monkeypatch, capsys):
    with monkeypatch.context() as patch:
        patch.setattr(Shapes, "load", interrupted)
        assert main([*BARE, "hydra.run.dir=new"]) == 130
        assert not Path("new").exists()
        assert main(["resume", str(cut)]) == 130
    assert "interrupted" in said(capsys)
    assert main(["resume", str(cut)]) == 0
    assert same(cut, whole)


# A disk that is full


def test_a_full_disk_keeps_the_checkpoint_before(monkeypatch):
    save = checkpoint.save

    def full(folder, step, state, keep):
        if step == 8:
            raise OSError(28, "No space left on device")
        return save(folder, step, state, keep)

    monkeypatch.setattr(checkpoint, "save", full)
    words = tiny("evaluator=none", "save_every=4st", "keep=1")
    assert main([*words, "hydra.run.dir=once"]) == 0, "a later save may succeed"
    told = Path("once/run.log").read_text()
    assert "checkpoint of step 8 could not be written" in told
    assert "0000004.pt" in told
    monkeypatch.setattr(checkpoint, "save", lambda f, s, d, k: full(f, 8, d, k) if s > 4 else save(f, s, d, k))
    assert main([*words, "hydra.run.dir=full"]) == 1
    assert summary("full")["status"] == "failed"
    assert saved("full") == [4]
    monkeypatch.setattr(checkpoint, "save", save)
    assert main(["resume", "full"]) == 0
    assert same("full", "once")


def limited(size, *words):
    """A process that may write no file larger than this, as on a disk with so much room."""
    begin = (
        "import resource, sys; from ssl_runner.__main__ import main; "
        f"resource.setrlimit(resource.RLIMIT_FSIZE, ({size}, {size})); sys.exit(main(sys.argv[1:]))"
    )
    told = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True, "timeout": 120}
    return subprocess.run([sys.executable, "-c", begin, *words], env={**os.environ, **CLEAN}, **told)


def test_a_full_disk_is_said_and_the_run_goes_on_when_there_is_room(whole):
    done = limited(30_000, *MEASURED_ONCE, "hydra.run.dir=full")  # TensorBoard's file comes to that first
    assert done.returncode == 1, done.stdout
    assert "Traceback" not in done.stdout
    assert "File too large" in done.stdout
    assert "ssl-runner resume full" in done.stdout
    assert not Path("full/encoder.safetensors").exists()
    assert summary("full")["status"] == "failed"
    assert main(["resume", "full"]) == 0
    assert same("full", whole)


def test_a_disk_without_any_room_is_refused(monkeypatch, capsys):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("ssl_runner.run.session.write", full)
    assert main([*BARE, "hydra.run.dir=full"]) == 2
    assert "run folder: [Errno 28] No space left" in said(capsys)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_a_log_that_the_disk_refuses_stops_nothing(cut, whole, capsys):
    (cut / "run.log").unlink()
    (cut / "run.log").symlink_to("/dev/full")
    assert main(["resume", str(cut)]) == 0
    assert same(cut, whole)
    assert "Logging error" not in said(capsys)

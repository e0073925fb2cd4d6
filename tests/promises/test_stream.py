"""A run whose images are decoded on demand is the run on a cache, bit for bit, also if it is cut off and goes on."""

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from conftest import tiny
from image_trees import paint
from runs import CLEAN, enter, kill, same, saved, summary, wait_for

from ssl_runner.__main__ import main

pytestmark = pytest.mark.usefixtures("here")
KNN = ("evaluator=[knn]", "evaluator.knn.k=1", "evaluator.knn.every=50%")
DATA = ("dataset=image_folder", "dataset.root=images", "dataset.cache=cache", "dataset.size=16", "dataset.stored=24")
ON_DEMAND, KEPT = ("dataset.stream=true", "dataset.workers=2"), ("dataset.stream=false",)


@pytest.fixture(autouse=True)
def images(here):
    for k in range(60):
        paint(here / "images" / f"c{k % 2}" / f"{k}.jpg", (4 * k, 40 * (k % 2), 3), (40, 30))


def words(*more, folder, steps=12):
    given = [each for each in tiny("pretext=simclr", *KNN) if not each.startswith("dataset.")]
    return [*given, *DATA, f"length={steps}st", "save_every=4st", *more, f"hydra.run.dir={folder}"]


def children(pid):
    """Processes below one, at any depth."""
    below = subprocess.run(["ps", "-eo", "pid=,ppid="], capture_output=True, text=True, check=True).stdout.split("\n")
    parents = {int(line.split()[0]): int(line.split()[1]) for line in below if line}
    found = {pid}
    for _ in parents:
        found |= {each for each, parent in parents.items() if parent in found}
    return found - {pid}


@pytest.mark.slow
def test_a_stream_is_the_cache_and_either_goes_on_as_the_other(capsys):
    for folder, how in (("kept", KEPT), ("streamed", ON_DEMAND)):
        assert main(words(*how, "keep=9", folder=folder)) == 0
    assert same("kept", "streamed")
    for begun, how in (("kept", ON_DEMAND), ("streamed", KEPT)):
        kill(Path(shutil.copytree(begun, f"cut {begun}")), 12)
        enter(capsys, ["resume", f"cut {begun}", *how], "resumed at step 8 of 12")
        assert same(f"cut {begun}", "kept")


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_to_all_processes_saves_and_leaves_none(number, capsys):
    """As Ctrl-C is, and the SIGTERM of a scheduler."""
    command = [sys.executable, "-m", "ssl_runner", *words(*ON_DEMAND, "save_every=20st", folder="cut", steps=2000)]
    environment, piped = {**os.environ, **CLEAN}, {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
    process = subprocess.Popen(command, env=environment, **piped)
    wait_for(lambda: saved("cut"), process)
    below = children(process.pid)
    assert len(below) >= 4  # two that decode, the server that they are forked from, the tracker of resources
    for pid in (process.pid, *below):
        os.kill(pid, number)
    message, _ = process.communicate(timeout=60)
    cut = summary("cut")
    assert (process.returncode, cut["status"], cut["step"]) == (128 + number, "interrupted", saved("cut")[-1]), message
    end = time.monotonic() + 10
    while any(Path(f"/proc/{pid}").exists() for pid in below):
        assert time.monotonic() < end, "a process is left"
        time.sleep(0.05)
    enter(capsys, ["resume", "cut", f"length={cut['step'] + 3}st"], f"resumed at step {cut['step']}")

"""Several devices a job: which ones each sees, how many jobs run at once, and that nothing of a job is left behind."""

import json
import os
import signal
import time
from pathlib import Path

import pytest
from conftest import tiny
from launcher_jobs import run
from rich.console import Console
from runs import enter, put, refusal

from ssl_runner.command.sweep import prepare
from ssl_runner.config.compose import Composer
from ssl_runner.sweep.dispatch import BEGUN
from ssl_runner.sweep.launcher.local import LocalQueue
from ssl_runner.sweep.read import read
from ssl_runner.sweep.settings import Settings, split_words
from ssl_runner.sweep.worker import Task

pytestmark = pytest.mark.usefixtures("here")


@pytest.fixture
def machine(monkeypatch):
    """A machine with these GPUs, by their names, and four cores."""

    def build(*devices, cores=4):
        monkeypatch.setattr("ssl_runner.sweep.launcher.local.devices", lambda: [*devices])
        monkeypatch.setattr(os, "sched_getaffinity", lambda process: range(cores))

    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parent), prepend=os.pathsep)
    monkeypatch.setenv("PYTHONSAFEPATH", "1")  # as a task that is called here sets it
    return build


def folders_of(*how):
    folders = [Path(f"{number:03d}").absolute() for number in range(len(how))]
    for folder, each in zip(folders, how, strict=True):
        put(folder / "how", each)
    return folders


def launch(queue, folders, ready=None):
    """The exit statuses of jobs, each begun when there is a place; and the most at once."""
    waiting, statuses, most = dict(enumerate(folders)), {}, 0
    queue.open(Path(), run)
    while len(statuses) < len(folders):
        begun = {number: waiting.pop(number) for number in [*waiting][: queue.places]}
        queue.start(begun)
        most = max(most, len(queue.running))
        if ready and ready.exists():
            queue.stop("kill")
        statuses |= {number: status for number, status in queue.look() if status != BEGUN}
    queue.close()
    return statuses, most


CASES = [  # GPUs, devices of a job, jobs on each, what the jobs see, jobs at once, threads of a process
    ("0 1 2 3", 2, 1, {"0,1", "2,3"}, 2, 2),
    ("0 1 2 3 4", 2, 1, {"0,1", "2,3"}, 2, 2),
    ("GPU-a GPU-b GPU-c", 3, 2, {"GPU-a,GPU-b,GPU-c"}, 2, 1),
    ("0 1", None, 1, {"0", "1"}, 2, 4),
    ("", 2, 2, {None}, 2, 2),
    ("", 3, 1, {None}, 1, 2),
    ("", None, 1, {None}, 1, None),
]


@pytest.mark.parametrize(("devices", "size", "each", "seen", "at_once", "threads"), CASES)
def test_each_job_sees_devices_of_its_own(devices, size, each, seen, at_once, threads, machine, monkeypatch):
    """Cores are shared out among processes: 8 cores for 2 jobs on 2 devices are 2 threads on each device."""
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    machine(*devices.split(), cores=8)
    folders = folders_of(*["devices"] * 3)
    queue = LocalQueue(Settings(devices_per_job=size, jobs_per_device=each))
    statuses, most = launch(queue, folders)
    known = [json.loads((folder / "seen").read_text()) for folder in folders]
    assert (statuses, most) == ({0: 0, 1: 0, 2: 0}, at_once)
    assert {job["devices"] for job in known} == seen
    assert {job["threads"] for job in known} == {threads}


def test_a_job_that_needs_more_devices_than_there_are_is_refused(machine, capsys):
    machine("0", "1")
    line = "sweep.devices_per_job: given 3, and there are 2 CUDA devices here; type a number up to 2"
    refusal(capsys, ["-m", *tiny("evaluator=none"), "seed=0,1", "sweep.devices_per_job=3"], line)


def test_a_job_of_more_processes_than_devices_is_refused(capsys):
    """Else several would share a GPU, or the threads of one process."""
    words = ["-m", *tiny("evaluator=none"), "seed=0,1", "device.processes=1,2"]
    refusal(capsys, words, "device.processes: given 2, and a job has 1 device; type sweep.devices_per_job=2")
    enter(capsys, [*words, "sweep.devices_per_job=2", "--cfg", "job"])
    enter(capsys, [*words[:-1], "device.processes=auto", "--cfg", "job"])


@pytest.mark.parametrize(
    ("launcher", "own", "asked"),
    [
        ("submitit_slurm", "gpus_per_node=4", lambda chosen: chosen.gpus_per_node),
        ("submitit_local", "gpus_per_node=4", lambda chosen: chosen.gpus_per_node),
        ("ray", "ray.remote.num_gpus=4", lambda chosen: chosen.ray["remote"]["num_gpus"]),
    ],
)
def test_slurm_and_ray_are_asked_for_as_many(launcher, own, asked):
    pytest.importorskip(launcher.partition("_")[0])

    def count(*words):
        words = [f"hydra/launcher={launcher}", *tiny("evaluator=none"), "seed=0,1", *words]
        request = read(split_words(words), Composer(), prepare, Console(quiet=True), build=False)
        assert not request.problems
        return asked(request.launcher)

    assert count("sweep.devices_per_job=2") == 2
    assert count("sweep.devices_per_job=2", f"hydra.launcher.{own}") == 4, "its own setting counts for more"
    assert count() == (1 if launcher == "submitit_slurm" else 0 if launcher == "ray" else None)


def is_alive(file):
    """Whether the process of this number runs; one that has ended and is not asked for does not."""
    try:
        return Path(f"/proc/{file.read_text()}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


@pytest.mark.skipif(not Path("/proc").is_dir(), reason="processes are found in /proc")
@pytest.mark.parametrize("how", ["dies of two", "slow of two", "by a program"])
def test_nothing_of_a_job_is_left_behind(how, machine):
    """Neither of one that was killed by the system, nor by a second Ctrl-C, nor of one that a program has launched."""
    machine("0", "1")
    (folder,) = folders_of(how.replace("by a program", "dies of two"))
    if how == "by a program":
        Path("reports").mkdir()
        assert Task(run, folder, Path("reports/0").absolute(), None, Path.cwd())() == -signal.SIGKILL
    else:
        queue = LocalQueue(Settings(devices_per_job=2))
        ready = folder / "ready" if how == "slow of two" else None
        assert launch(queue, [folder], ready)[0] == {0: -signal.SIGKILL}
    until = time.monotonic() + 10
    while is_alive(folder / "other") and time.monotonic() < until:
        time.sleep(0.05)
    assert not is_alive(folder / "other")

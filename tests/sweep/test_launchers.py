"""Launchers other than the local queue, each really run where its library is installed."""

import contextlib
import os
import re
import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import pytest
from conftest import names, tiny
from launcher_jobs import run
from machines import install
from rich.console import Console
from runs import put, sweep_part, wait_for

from ssl_runner.errors import Refused
from ssl_runner.run.session import resume
from ssl_runner.run_folder.lock import locked
from ssl_runner.sweep.choices import LAUNCHERS, SWEEPERS, read_choice
from ssl_runner.sweep.dispatch import BEGUN, WITHDRAWN
from ssl_runner.sweep.launcher import remote
from ssl_runner.sweep.launcher.remote import REPORTS, RemoteLauncher, Submission

launcher = partial(sweep_part, LAUNCHERS)
NAMES = names("hydra/launcher")
LOCAL, SLURM, RAY = (f"hydra/launcher={name}" for name in ("submitit_local", "submitit_slurm", "ray"))
ONE = "hydra.launcher.ray.init.num_cpus=1"


@pytest.fixture
def sweep(tmp_path, monkeypatch):
    """A sweep's folder and the run folders of jobs that do what they are told."""
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parent), prepend=os.pathsep)

    def build(*how):
        parent = tmp_path / "a sweep, k='v'"
        folders = [parent / f"{number:03d}-x=[1,2] y" for number in range(len(how))]
        for folder, each in zip(folders, how, strict=True):
            put(folder / "how", each)
            put(folder / "begun", "")
        return parent, folders

    return build


@pytest.fixture
def cluster(tmp_path, monkeypatch):
    """Commands that do as Slurm's, and where they leave what they did."""
    install(tmp_path, monkeypatch)
    return tmp_path


def launch(chosen, parent, folders, *signals, halt=False):
    """The news until all jobs have ended. A signal goes to the first job's worker once a file of this name is there."""
    news, left = [], [*signals]
    with locked(parent), contextlib.closing(chosen):
        chosen.open(parent, run)
        chosen.start(dict(enumerate(folders)))
        while sum(status != BEGUN for _, status in news) < len(folders):
            if left and (folders[0] / left[0][0]).exists():
                os.kill(workers(folders[0])[-1], left.pop(0)[1])
            if halt and (folders[0] / "ready").exists():
                chosen.stop("save")
            news += chosen.look()
    return news


def workers(folder):
    """The processes that watched over a job, one for each time that it began."""
    return [int(number) for number in (folder / "begun").read_text().split()]


WRONG_LAUNCHER = {  # what is typed, and how the line about it begins and ends
    "hydra/launcher=submitit_slurm": (": needs submitit", "type pip install 'ssl-runner[submitit]'"),
    "hydra.launcher.timeout_mn=2": (": is no setting", "did you mean timeout_min?"),
    "hydra.launcher._target_=os.system": (": is no setting", ""),
    "hydra.launcher.nodes=1,2": (": ", "type key=value"),
    "hydra.launcher.timeout_min=x": (': given "x"', "is wanted"),
    "hydra.launcher.setup.x=1": (': given {"x": 1}', "is wanted"),
}
WRONG_SWEEPER = {
    "hydra/sweeper=optuna": (": needs optuna", "pip install 'ssl-runner[optuna]'"),
    "hydra.sweeper.direction=up": (": given", "'minimize' or 'maximize' is wanted"),
    "hydra.sweeper.n_trials=x": (": given", "is wanted"),
    "hydra.sweeper.n_jobs=0": (": given 0", "is wanted"),
    "hydra/sweeper/sampler=tpee": (": given tpee", "did you mean tpe?"),
    "hydra/sweeper/prunner=median": (": is no group here", ""),
    "hydra.sweeper.pruner._target_=os.system": (": is no setting", ""),
}


@pytest.mark.parametrize(
    ("tables", "wrong"), [(LAUNCHERS, WRONG_LAUNCHER), (SWEEPERS, WRONG_SWEEPER)], ids=["launcher", "sweeper"]
)
def test_everything_wrong_is_said_at_once(tables, wrong, monkeypatch):
    monkeypatch.setattr("ssl_runner.sweep.choices.find_spec", lambda library: None)
    chosen, problems = read_choice(tables, [*wrong])
    assert (chosen, len(problems)) == (None, len(wrong))
    for word, (begin, end) in wrong.items():
        key = word.partition("=")[0].removesuffix(".x")
        own = [line for line in problems if line.startswith((f"{key}{begin}", f"{word}{begin}"))]
        assert [line for line in own if line.endswith(end)], word


def test_the_runners_own_launcher_and_sweeper_need_nothing_installed():
    assert read_choice(LAUNCHERS, []) == read_choice(LAUNCHERS, ["hydra/launcher=local"]) == (None, [])
    assert read_choice(SWEEPERS, []) == read_choice(SWEEPERS, ["hydra/sweeper=grid"]) == (None, [])
    assert "type hydra/launcher=..." in read_choice(LAUNCHERS, ["hydra.launcher.timeout_min=2"])[1][0]
    assert "type hydra/sweeper=..." in read_choice(SWEEPERS, ["hydra/sweeper/sampler=random"])[1][0]
    line = f"hydra/launcher: given rai; possible are local, {', '.join(NAMES)}; did you mean ray?"
    assert read_choice(LAUNCHERS, ["hydra/launcher=rai"])[1] == [line]
    (line,) = read_choice(LAUNCHERS, ["hydra/launcher=joblib", "hydra.launcher.n_jobs=4"])[1]
    assert line.endswith("type hydra/launcher=local sweep.jobs_per_device=N"), "it does what joblib did"


@pytest.mark.parametrize("name", NAMES)
def test_a_launcher_takes_the_settings_of_its_config(name):
    assert launcher(f"hydra/launcher={name}").places is None


def test_what_a_library_takes_can_be_added():
    chosen = launcher(SLURM, "+hydra.launcher.additional_parameters.mail-type=END")
    assert chosen.additional_parameters == {"requeue": True, "mail-type": "END"}
    launcher(RAY, "+hydra.launcher.ray.remote.max_calls=1")
    for word in ("ray.remote.num_gpus=x", "ray.init.adress=auto"):
        (line,) = read_choice(LAUNCHERS, [RAY, f"hydra.launcher.{word}"])[1]
        assert line.startswith(f"hydra.launcher.{word[:8]}"), "before anything is begun"


@pytest.mark.slow
@pytest.mark.parametrize("words", [[LOCAL], [RAY, "hydra.launcher.ray.init.num_cpus=2"]], ids=["submitit", "ray"])
def test_every_job_is_run_whatever_becomes_of_the_others(sweep, words):
    parent, folders = sweep("0", "die", "1", "2", "0")
    news = launch(launcher(*words), parent, folders)
    assert dict(news) == {0: 0, 1: -signal.SIGKILL, 2: 1, 3: 2, 4: 0}, "each has begun before it ended"
    assert sorted(number for number, status in news if status == BEGUN) == list(range(5))
    assert {each.name for each in parent.iterdir()} - {".submitit", ".lock"} == {each.name for each in folders}
    assert all({each.name for each in folder.iterdir()} == {"how", "begun"} for folder in folders)


@pytest.mark.parametrize(
    ("words", "number"),
    [([LOCAL], signal.SIGTERM), ([LOCAL], signal.SIGUSR1), ([RAY, ONE], signal.SIGTERM)],
    ids=["submitit-term", "submitit-usr1", "ray-lost"],
)
def test_a_signal_to_its_worker_has_a_job_begin_again(sweep, words, number):
    parent, folders = sweep("slow")
    assert dict(launch(launcher(*words), parent, folders, ("ready", number))) == {0: 0}
    assert ((folders[0] / "saved").exists(), len(workers(folders[0]))) == (True, 2)


SWEEP = """\
import sys
from pathlib import Path
from launcher_jobs import run
from ssl_runner.run_folder.lock import locked
from ssl_runner.sweep.choices import LAUNCHERS, read_choice
local = read_choice(LAUNCHERS, ["hydra/launcher=submitit_local"])[0]
with locked(Path(sys.argv[1])):
    local.open(Path(sys.argv[1]), run)
    local.start({0: Path(sys.argv[2])})
    while True:
        local.look()
"""


def test_jobs_of_a_killed_sweep_save_and_end(sweep):
    local = launcher(LOCAL)
    parent, folders = sweep("slow")
    with subprocess.Popen([sys.executable, "-c", SWEEP, parent, folders[0]]) as process:
        wait_for((folders[0] / "ready").exists, process)
        process.kill()
    while not (folders[0] / "saved").exists() or Path(f"/proc/{workers(folders[0])[-1]}").exists():
        time.sleep(0.05)
    assert list(parent.glob(f"{REPORTS}*"))
    assert dict(launch(local, parent, folders)) == {0: 0}


def test_a_launcher_that_cannot_begin_says_why(sweep, monkeypatch):
    slurm = launcher(SLURM)
    monkeypatch.setenv("PATH", str(Path(sys.executable).parent))
    parent, folders = sweep("0", "0")
    with pytest.raises(Refused, match="srun"):
        launch(slurm, parent, folders)
    assert not workers(folders[0])


@pytest.mark.slow
def test_a_preempted_run_ends_in_the_same_weights(sweep, composer):
    """The signal is submitit's own: the run saves in the midst of it, is queued again and goes on in its folder."""
    local = launcher(LOCAL)
    parent, (preempted, alone) = sweep("run", "run")
    overrides = tiny("pretext=rotation", "evaluator=none", "length=500st", "log_every=10st", "show_every=100%")
    for folder in (preempted, alone):
        put(folder / "config.yaml", composer.compose(overrides).record)
        put(folder / "overrides.yaml", "[]")
    assert dict(launch(local, parent, [preempted], ("metrics.jsonl", signal.SIGUSR2))) == {0: 0}
    assert len(workers(preempted)) == 2
    assert re.search(r"interrupted at step \d+ of 500", (preempted / "console.log").read_text())
    assert resume(alone, Console(quiet=True)) == 0
    assert (preempted / "encoder.safetensors").read_bytes() == (alone / "encoder.safetensors").read_bytes()


def test_slurm_queues_a_preempted_job_again(sweep, cluster):
    """A job that gets SIGTERM and then SIGUSR2 is queued again, once."""
    slurm = launcher(SLURM, "hydra.launcher.partition=short", "hydra.launcher.timeout_min=90")
    parent, folders = sweep("slow", "0")
    news = launch(slurm, parent, folders, ("ready", signal.SIGTERM), ("saved", signal.SIGUSR2))
    assert (dict(news), len(workers(folders[0])), (cluster / "requeued").read_text()) == ({0: 0, 1: 0}, 2, "7_0 ")
    script = (cluster / "script-7").read_text()
    options = ("requeue", "partition=short", "time=90", "signal=USR2@120", "array=0-1%2", "open-mode=append")
    assert all(f"#SBATCH --{each}\n" in script for each in options)


@pytest.mark.parametrize("words", [(RAY, ONE), (SLURM, "hydra.launcher.array_parallelism=1")], ids=["ray", "slurm"])
def test_nothing_begins_after_a_halt(sweep, cluster, words):
    """What runs saves and ends without being queued again; what waits is cancelled."""
    chosen, (parent, folders) = launcher(*words), sweep("slow", "0", "0")
    assert dict(launch(chosen, parent, folders, halt=True)) == {0: 128 + signal.SIGTERM, 1: WITHDRAWN, 2: WITHDRAWN}
    assert ((folders[0] / "saved").exists(), workers(folders[1])) == (True, [])
    slurms = {each.name for each in cluster.iterdir() if each.name.startswith(("cancelled", "requeued"))}
    assert slurms == (set() if RAY in words else {"cancelled-7_1", "cancelled-7_2"})
    if RAY in words:
        assert dict(launch(chosen, parent, folders)) == {0: 0, 1: 0, 2: 0}


def test_the_more_jobs_there_are_the_less_often_each_is_looked_at(tmp_path, monkeypatch):
    """A cluster's file system bears tens of looks a second, and not thousands."""
    each, slept = RemoteLauncher(), []
    monkeypatch.setattr(remote.time, "sleep", slept.append)
    handle = SimpleNamespace(done=lambda: False)
    for count in (1, 500):
        each.jobs = {number: Submission(tmp_path / str(number), handle) for number in range(count)}
        each.news, each.begun = [], False
        assert each.look() == []
    assert slept == [0.5, 10.0]

"""Launchers other than the local queue, each really run where its library is installed."""

import contextlib
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import pytest
from conftest import tiny
from launcher_jobs import run
from rich.console import Console

from ssl_runner.config.compose import TREE, Composer
from ssl_runner.config.files import dump
from ssl_runner.run.session import resume
from ssl_runner.run_folder.lock import locked
from ssl_runner.run_folder.metrics import read_rows
from ssl_runner.sweep import choice
from ssl_runner.sweep.choice import read_launcher
from ssl_runner.sweep.dispatch import BEGUN, WITHDRAWN, Launcher, LauncherFailed, News, Stop
from ssl_runner.sweep.launcher.remote import REPORTS

LAUNCHERS = sorted(file.stem for file in (TREE / "hydra/launcher").glob("*.yaml"))
DEADLINE = 120.0
LOCAL, SLURM, RAY = (f"hydra/launcher={name}" for name in ("submitit_local", "submitit_slurm", "ray"))


def launcher(*words: str) -> Launcher:
    """The launcher of these words; the test is skipped if its library is not installed."""
    chosen, problems = read_launcher(words)
    if any("pip install" in line for line in problems):
        pytest.skip(problems[0])
    assert chosen is not None, problems
    return chosen


@pytest.fixture
def sweep(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., tuple[Path, list[Path]]]:
    """A sweep's folder and the run folders of jobs that do what they are told."""
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parent), prepend=os.pathsep)

    def build(*how: str) -> tuple[Path, list[Path]]:
        parent = tmp_path / "a sweep, k='v'"
        folders = [parent / f"{number:03d}-x=[1,2] y" for number in range(len(how))]
        parent.mkdir()
        for folder, each in zip(folders, how, strict=True):
            folder.mkdir()
            (folder / "how").write_text(each)
        return parent, folders

    return build


def launch(
    chosen: Launcher, parent: Path, folders: list[Path], halted: Callable[[], bool] = lambda: False
) -> Iterator[list[News]]:
    """The news until every job has ended or was withdrawn."""
    left = set(range(len(folders)))
    with locked(parent), contextlib.closing(chosen):  # type: ignore[type-var]
        chosen.open(parent, run)
        chosen.start(dict(enumerate(folders)))
        limit = time.monotonic() + DEADLINE
        while left:
            assert time.monotonic() < limit
            if halted():
                chosen.stop(Stop.SAVE)
            news = chosen.look()
            left -= {number for number, status in news if status != BEGUN}
            yield news


def ended(news: Iterable[list[News]]) -> dict[int, str | int]:
    """The exit status of each job that has one."""
    return {number: status for look in news for number, status in look if status != BEGUN}


def until(condition: Callable[[], object]) -> None:
    limit = time.monotonic() + DEADLINE
    while not condition():
        assert time.monotonic() < limit
        time.sleep(0.05)


def worker(folder: Path) -> int:
    """The process that watches over a job."""
    return int((folder / "begun").read_text().split()[-1])


def begun(folder: Path) -> int:
    return len((folder / "begun").read_text().split()) if (folder / "begun").exists() else 0


def test_everything_wrong_with_a_launcher_is_said_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(choice, "installed", lambda library: False)
    keys = ("timeout_mn=2", "_target_=os.system", "nodes=1,2", "timeout_min=x", "setup.x=1")
    chosen, problems = read_launcher([SLURM, *(f"hydra.launcher.{each}" for each in keys)])
    assert chosen is None
    assert len(problems) == 6
    for begin, end in (
        ("hydra.launcher.timeout_mn: is no setting", "did you mean timeout_min?"),
        ("hydra.launcher._target_: is no setting", ""),
        ("hydra.launcher.nodes=1,2: ", "type key=value"),
        ('hydra.launcher.timeout_min: given "x"', "is wanted"),
        ('hydra.launcher.setup: given {"x": 1}', "is wanted"),
        ("hydra/launcher=submitit_slurm: needs submitit", "type pip install 'ssl-runner[submitit]'"),
    ):
        assert any(line.startswith(begin) and line.endswith(end) for line in problems), begin
    possible = f"possible are local, {', '.join(LAUNCHERS)}"
    assert read_launcher(["hydra/launcher=rai"])[1] == [f"hydra/launcher: given rai; {possible}; did you mean ray?"]


def test_the_local_queue_needs_nothing_installed_and_does_what_joblib_did() -> None:
    assert read_launcher([]) == read_launcher(["hydra/launcher=local"]) == (None, [])
    assert "type hydra/launcher=..." in read_launcher(["hydra.launcher.timeout_min=2"])[1][0]
    (line,) = read_launcher(["hydra/launcher=joblib", "hydra.launcher.n_jobs=4"])[1]
    assert line.endswith("type hydra/launcher=local sweep.jobs_per_device=N")


@pytest.mark.parametrize("name", LAUNCHERS)
def test_a_launcher_takes_the_settings_of_its_config(name: str) -> None:
    assert launcher(f"hydra/launcher={name}").places is None


def test_what_a_library_takes_can_be_added() -> None:
    chosen = launcher(SLURM, "+hydra.launcher.additional_parameters.mail-type=END")
    assert chosen.additional_parameters == {"requeue": True, "mail-type": "END"}  # type: ignore[attr-defined]
    launcher(RAY, "+hydra.launcher.ray.remote.max_calls=1")
    for word in ("ray.remote.num_gpus=x", "ray.init.adress=auto"):
        (line,) = read_launcher([RAY, f"hydra.launcher.{word}"])[1]
        assert line.startswith(f"hydra.launcher.{word[:8]}"), "before anything is begun"


@pytest.mark.parametrize("words", [[LOCAL], [RAY, "hydra.launcher.ray.init.num_cpus=2"]], ids=["submitit", "ray"])
def test_every_job_is_run_whatever_becomes_of_the_others(sweep: Callable, words: list[str]) -> None:
    """A job that is killed, one that fails and one that is refused take no other with them; nothing is left lying."""
    parent, folders = sweep("0", "die", "1", "2", "0")
    news = [each for look in launch(launcher(*words), parent, folders) for each in look]
    assert ended([news]) == {0: 0, 1: -signal.SIGKILL, 2: 1, 3: 2, 4: 0}
    assert sorted(number for number, status in news if status == BEGUN) == list(range(5))
    assert all(news.index((number, BEGUN)) < news.index((number, status)) for number, status in ended([news]).items())
    assert {each.name for each in parent.iterdir()} - {".submitit", ".lock"} == {each.name for each in folders}
    assert all({each.name for each in folder.iterdir()} == {"how", "begun"} for folder in folders)


def test_ray_begins_nothing_after_a_halt(sweep: Callable) -> None:
    ray = launcher(RAY, "hydra.launcher.ray.init.num_cpus=1")
    parent, folders = sweep("slow", "0", "0")
    news = launch(ray, parent, folders, halted=(folders[0] / "ready").exists)
    assert ended(news) == {0: 128 + signal.SIGTERM, 1: WITHDRAWN, 2: WITHDRAWN}
    assert (folders[0] / "saved").exists()
    assert not begun(folders[1])
    assert ended(launch(ray, parent, folders)) == {0: 0, 1: 0, 2: 0}


def test_ray_tries_a_job_again_whose_worker_is_lost(sweep: Callable) -> None:
    parent, folders = sweep("slow")
    statuses: dict[int, str | int] = {}
    for news in launch(launcher(RAY, "hydra.launcher.ray.init.num_cpus=1"), parent, folders):
        statuses |= ended([news])
        if (folders[0] / "ready").exists():
            (folders[0] / "ready").unlink()
            os.kill(worker(folders[0]), signal.SIGTERM)
    assert statuses == {0: 0}
    assert (folders[0] / "saved").exists()
    assert begun(folders[0]) == 2


SWEEP = """\
import sys
from pathlib import Path
from launcher_jobs import run
from ssl_runner.run_folder.lock import locked
from ssl_runner.sweep.choice import read_launcher
local = read_launcher(["hydra/launcher=submitit_local"])[0]
with locked(Path(sys.argv[1])):
    local.open(Path(sys.argv[1]), run)
    local.start({0: Path(sys.argv[2])})
    while True:
        local.look()
"""


def test_jobs_of_a_killed_sweep_save_and_end(sweep: Callable) -> None:
    local = launcher(LOCAL)
    parent, folders = sweep("slow")
    with subprocess.Popen([sys.executable, "-c", SWEEP, parent, folders[0]]) as process:
        until((folders[0] / "ready").exists)
        process.kill()
    until((folders[0] / "saved").exists)
    until(lambda: not Path(f"/proc/{worker(folders[0])}").exists())
    assert list(parent.glob(f"{REPORTS}*"))
    assert ended(launch(local, parent, folders)) == {0: 0}


def test_a_launcher_that_cannot_begin_says_why(sweep: Callable, monkeypatch: pytest.MonkeyPatch) -> None:
    slurm = launcher(SLURM)
    monkeypatch.setenv("PATH", str(Path(sys.executable).parent))
    parent, folders = sweep("0", "0")
    with pytest.raises(LauncherFailed, match="srun"):
        list(launch(slurm, parent, folders))
    assert not begun(folders[0])


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGUSR1])
def test_a_signal_has_submitit_queue_the_job_again(sweep: Callable, number: int) -> None:
    parent, folders = sweep("slow")
    statuses: dict[int, str | int] = {}
    for news in launch(launcher(LOCAL), parent, folders):
        statuses |= ended([news])
        if (folders[0] / "ready").exists():
            (folders[0] / "ready").unlink()
            os.kill(worker(folders[0]), number)
    assert statuses == {0: 0}
    assert (folders[0] / "saved").exists()
    assert begun(folders[0]) == 2


@pytest.mark.slow
def test_a_preempted_run_ends_in_the_same_weights(sweep: Callable, composer: Composer) -> None:
    """The signal is submitit's own: the run saves in the midst of it, is queued again and goes on in its folder."""
    local = launcher(LOCAL)
    parent, (preempted, alone) = sweep("run", "run")
    overrides = tiny("pretext=rotation", "evaluator=none", "length=500st", "log_every=10st", "show_every=100%")
    composed = composer.compose(overrides)
    for folder in (preempted, alone):
        (folder / "config.yaml").write_text(dump({**composed.content, "choices": composed.choices}))
        (folder / "overrides.yaml").write_text("[]")
    statuses: dict[int, str | int] = {}
    sent = False
    for news in launch(local, parent, [preempted]):
        statuses |= ended([news])
        if not sent and read_rows(preempted / "metrics.jsonl"):
            sent = True
            os.kill(worker(preempted), signal.SIGUSR2)
    assert statuses == {0: 0}
    assert begun(preempted) == 2
    assert re.search(r"interrupted at step \d+ of 500", (preempted / "console.log").read_text())
    assert resume(alone, Console(quiet=True)) == 0
    weights = [(folder / "encoder.safetensors").read_bytes() for folder in (preempted, alone)]
    assert weights[0] == weights[1]


SBATCH = """\
import os, re, subprocess, sys
text = open(sys.argv[-1]).read()
script = {folder!r} + "/script"
with open(script, "w") as file:  # what was submitted is moved meanwhile
    file.write(text)
open({log!r}, "a").write(text)
array = re.search(r"--array=0-(\\d+)%(\\d+)", text)
tasks = range(int(array[1]) + 1 if array else 1)
groups = [tasks] if array and array[2] == "1" else [[task] for task in tasks]
for group in groups:
    if os.fork() == 0:
        os.setsid()
        for stream in (0, 1, 2):
            os.dup2(os.open(os.devnull, os.O_RDWR), stream)
        for task in group:
            job = f"7_{{task}}" if array else "7"
            of_array = dict(SLURM_ARRAY_JOB_ID="7", SLURM_ARRAY_TASK_ID=str(task)) if array else dict()
            own = dict(SLURM_JOB_ID="7", SLURM_PROCID="0", SLURM_LOCALID="0", SLURM_NODEID="0", SLURM_NTASKS="1")
            queued = {folder!r} + "/queued-" + job
            open(queued, "w")
            while os.path.exists(queued) and not os.path.exists({folder!r} + "/cancelled-" + job):
                os.remove(queued)
                subprocess.call(["bash", script], env={{**os.environ, **own, **of_array}})
        os._exit(0)
print("Submitted batch job 7")
"""
SRUN = """\
import os, sys
words = sys.argv[1:]
while words[0].startswith("--"):
    words = words[1:] if words[0] == "--unbuffered" else words[2:]
os.execvp(words[0], words)
"""
SCONTROL = """\
import sys
assert sys.argv[1] == "requeue"
open({folder!r} + "/queued-" + sys.argv[2], "w")
open({folder!r} + "/requeued", "a").write(sys.argv[2] + " ")
"""
SCANCEL = """\
import sys
for job in sys.argv[1:]:
    open({folder!r} + "/cancelled-" + job, "w")
"""
SACCT = """\
print("JobID|State|NodeList")
print("7_0|RUNNING|n1")
print("7_1|RUNNING|n1")
"""
COMMANDS = {"sbatch": SBATCH, "srun": SRUN, "scontrol": SCONTROL, "scancel": SCANCEL, "sacct": SACCT}


@pytest.fixture
def cluster(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Commands that do as Slurm's, and where they leave what they did."""
    (tmp_path / "bin").mkdir()
    for name, code in COMMANDS.items():
        file = tmp_path / "bin" / name
        file.write_text(f"#!{sys.executable}\n" + code.format(log=str(tmp_path / "sbatch.log"), folder=str(tmp_path)))
        file.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path / "bin"), prepend=os.pathsep)
    return tmp_path


def test_slurm_queues_a_preempted_job_again(sweep: Callable, cluster: Path) -> None:
    """A job that gets SIGTERM and then SIGUSR2 is queued again, once."""
    slurm = launcher(SLURM, "hydra.launcher.partition=short", "hydra.launcher.timeout_min=90")
    parent, folders = sweep("slow", "0")
    statuses: dict[int, str | int] = {}
    sent = []
    for news in launch(slurm, parent, folders):
        statuses |= ended([news])
        if not sent and (folders[0] / "ready").exists():
            sent.append(signal.SIGTERM)
            os.kill(worker(folders[0]), signal.SIGTERM)
        elif len(sent) == 1 and (folders[0] / "saved").exists():
            sent.append(signal.SIGUSR2)
            os.kill(worker(folders[0]), signal.SIGUSR2)
    assert statuses == {0: 0, 1: 0}
    assert begun(folders[0]) == 2
    assert (cluster / "requeued").read_text() == "7_0 "
    script = (cluster / "sbatch.log").read_text()
    options = ("requeue", "partition=short", "time=90", "signal=USR2@120", "array=0-1%2", "open-mode=append")
    assert all(f"#SBATCH --{each}\n" in script for each in options)


def test_a_halt_reaches_slurm(sweep: Callable, cluster: Path) -> None:
    """What runs saves and ends without being queued again; what waits is cancelled."""
    slurm = launcher(SLURM, "hydra.launcher.array_parallelism=1")
    parent, folders = sweep("slow", "0", "0")
    news = launch(slurm, parent, folders, halted=(folders[0] / "ready").exists)
    assert ended(news) == {0: 128 + signal.SIGTERM, 1: WITHDRAWN, 2: WITHDRAWN}
    assert (folders[0] / "saved").exists()
    assert {each.name for each in cluster.glob("cancelled-*")} == {"cancelled-7_1", "cancelled-7_2"}
    assert not begun(folders[1])
    assert not (cluster / "requeued").exists()

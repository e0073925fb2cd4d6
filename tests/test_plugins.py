"""Hydra's launchers and its Optuna sweeper, each really run where it is installed."""

import logging
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterable
from pathlib import Path

import pytest
from conftest import tiny
from plugin_jobs import work

from ssl_runner.config.compose import TREE, Composer
from ssl_runner.plugins import chosen
from ssl_runner.plugins.chosen import Plugin, parted, read
from ssl_runner.plugins.launch import REPORTS, LauncherFailed, launch
from ssl_runner.plugins.optimise import Found, divided, examples, optimise
from ssl_runner.run_folder.metrics import read_rows
from ssl_runner.sweep.ledger import Ledger
from ssl_runner.sweep.worker import carried_out

LAUNCHERS = sorted(file.stem for file in (TREE / "hydra/launcher").glob("*.yaml"))
DEADLINE = 120.0


def plugin(*words: str, kind: chosen.Kind = "launcher") -> Plugin:
    """The plugin of these words; the test is skipped where it is not installed."""
    found, problems = read(kind, words)
    if any("pip install" in line for line in problems):
        pytest.skip(problems[0])
    assert found is not None, problems
    return found


@pytest.fixture
def sweep(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., tuple[Path, list[Path]]]:
    """A sweep's folder and the run folders of jobs that do what they are told."""
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parent), prepend=os.pathsep)

    def build(*how: str) -> tuple[Path, list[Path]]:
        parent = tmp_path / "a sweep, k='v'"
        folders = [parent / f"{number:03d}-x=[1,2] y" for number in range(len(how))]
        for folder, each in zip(folders, how, strict=True):
            folder.mkdir(parents=True)
            (folder / "how").write_text(each)
        return parent, folders

    return build


def ended(news: Iterable[list[tuple[int, int | None]]]) -> dict[int, int]:
    """The exit status of each job that has one."""
    return {number: status for each in news for number, status in each if status is not None}


def until(condition: Callable[[], object]) -> None:
    limit = time.monotonic() + DEADLINE
    while not condition():
        assert time.monotonic() < limit
        time.sleep(0.05)


def supervisor(folder: Path) -> int:
    """The process that watches over a job."""
    return int((folder / "begun").read_text().split()[-1])


def test_a_plugins_words_are_told_from_those_of_the_jobs() -> None:
    words = [
        "seed=0,1",
        "hydra/launcher=joblib",
        "hydra.launcher.n_jobs=2",
        "hydra.sweep.dir=x",
        "+hydra.launcher.a.b=1",
    ]
    assert parted([*words, "hydra/sweeper/sampler=tpe", "hydra.launchers=1"]) == (
        ["seed=0,1", "hydra.sweep.dir=x", "hydra.launchers=1"],
        {
            "launcher": ["hydra/launcher=joblib", "hydra.launcher.n_jobs=2", "+hydra.launcher.a.b=1"],
            "sweeper": ["hydra/sweeper/sampler=tpe"],
        },
    )


def test_everything_wrong_with_a_plugin_is_said_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(chosen, "installed", lambda target: False)
    found, problems = read(
        "launcher",
        [
            "hydra/launcher=joblib",
            "hydra.launcher.n_job=2",
            "hydra.launcher._target_=os.system",
            "hydra.launcher.verbose=1,2",
        ],
    )
    assert found is None
    assert len(problems) == 4
    assert any(line.startswith("hydra.launcher.n_job: ") and line.endswith("did you mean n_jobs?") for line in problems)
    assert any(line.startswith("hydra.launcher._target_: is no setting") for line in problems)
    assert any(line.startswith("hydra.launcher.verbose=1,2: ") for line in problems)
    assert "hydra/launcher=joblib: needs hydra-joblib-launcher; type pip install 'ssl-runner[joblib]'" in problems
    assert read("launcher", ["hydra/launcher=jobib"])[1] == [
        f"hydra/launcher: given jobib; possible are local, {', '.join(LAUNCHERS)}; did you mean joblib?"
    ]
    assert read("launcher", ["hydra/launcher=submitit_slurm"])[1][0].endswith("pip install 'ssl-runner[submitit]'")


def test_the_runners_own_need_nothing_installed() -> None:
    assert read("launcher", []) == read("launcher", ["hydra/launcher=local"]) == read("sweeper", []) == (None, [])
    assert "type hydra/launcher=..." in read("launcher", ["hydra.launcher.n_jobs=2"])[1][0]
    assert "type hydra/sweeper=..." in read("sweeper", ["hydra/sweeper/sampler=random"])[1][0]


@pytest.mark.parametrize("name", LAUNCHERS)
def test_a_plugin_takes_the_settings_of_its_config(name: str) -> None:
    found = plugin(f"hydra/launcher={name}")
    assert found.settings["_target_"].startswith("hydra_plugins.")


def test_values_are_checked_by_the_plugin() -> None:
    plugin("hydra/launcher=joblib")
    _, problems = read("launcher", ["hydra/launcher=joblib", "hydra.launcher.n_jobs=x", "hydra.launcher.verbose=y"])
    assert [line.partition(":")[0] for line in problems] == ["hydra.launcher.n_jobs", "hydra.launcher.verbose"]


def test_what_a_library_takes_can_be_added() -> None:
    words = ["hydra/launcher=submitit_slurm", "+hydra.launcher.additional_parameters.mail-type=END"]
    assert plugin(*words).settings["additional_parameters"] == {"requeue": True, "mail-type": "END"}


def test_joblib_runs_every_job_whatever_becomes_of_the_others(sweep: Callable) -> None:
    """A job that is killed, one that fails and one that is refused take no other with them; nothing is left lying."""
    joblib = plugin("hydra/launcher=joblib", "hydra.launcher.n_jobs=2")
    parent, folders = sweep("0", "die", "1", "2", "0")
    handlers = list(logging.getLogger().handlers)
    news = [each for look in launch(joblib, parent, folders, work) for each in look]
    assert ended([news]) == {0: 0, 1: -signal.SIGKILL, 2: 1, 3: 2, 4: 0}
    assert sorted(number for number, status in news if status is None) == list(range(5))
    assert all(news.index((number, None)) < news.index((number, status)) for number, status in ended([news]).items())
    assert len({supervisor(folder) for folder in folders}) <= 2
    assert sorted(each.name for each in parent.iterdir()) == [*(each.name for each in folders), "launcher.log"]
    assert all({each.name for each in folder.iterdir()} == {"how", "begun"} for folder in folders)
    assert logging.getLogger().handlers == handlers


def test_ray_runs_every_job(sweep: Callable) -> None:
    ray = plugin("hydra/launcher=ray", "hydra.launcher.ray.init.num_cpus=2")
    parent, folders = sweep("0", "die", "2")
    assert ended(launch(ray, parent, folders, work)) == {0: 0, 1: -signal.SIGKILL, 2: 2}


def test_a_halt_saves_what_runs_and_begins_nothing(sweep: Callable) -> None:
    joblib = plugin("hydra/launcher=joblib", "hydra.launcher.n_jobs=1")
    parent, folders = sweep("slow", "0", "0")
    news = launch(joblib, parent, folders, work, halted=(folders[0] / "ready").exists)
    assert ended(news) == {0: 128 + signal.SIGTERM}
    assert (folders[0] / "saved").exists()
    assert not (folders[1] / "begun").exists()
    assert ended(launch(joblib, parent, folders, work)) == {0: 0, 1: 0, 2: 0}


def test_jobs_of_a_killed_sweep_save_and_end(sweep: Callable) -> None:
    plugin("hydra/launcher=joblib")
    parent, folders = sweep("slow")
    code = (
        "import sys; from pathlib import Path; from plugin_jobs import work\n"
        "from ssl_runner.plugins.chosen import read; from ssl_runner.plugins.launch import launch\n"
        "if __name__ == '__main__':\n"
        "    plugin = read('launcher', ['hydra/launcher=joblib'])[0]\n"
        "    list(launch(plugin, Path(sys.argv[1]), [Path(sys.argv[2])], work))\n"
    )
    (parent / "killed.py").write_text(code)
    with subprocess.Popen([sys.executable, parent / "killed.py", parent, folders[0]]) as process:
        until((folders[0] / "ready").exists)
        process.kill()
    until((folders[0] / "saved").exists)
    until(lambda: not Path(f"/proc/{supervisor(folders[0])}").exists())
    assert list(parent.glob(f"{REPORTS}*"))
    assert ended(launch(plugin("hydra/launcher=joblib"), parent, folders, work)) == {0: 0}
    assert not list(parent.glob(f"{REPORTS}*"))


def test_a_launcher_that_cannot_begin_says_why(sweep: Callable, monkeypatch: pytest.MonkeyPatch) -> None:
    slurm = plugin("hydra/launcher=submitit_slurm")
    monkeypatch.setenv("PATH", str(Path(sys.executable).parent))
    parent, folders = sweep("0", "0")
    with pytest.raises(LauncherFailed, match="srun"):
        list(launch(slurm, parent, folders, work))
    assert not (folders[0] / "begun").exists()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGUSR1])
def test_a_signal_has_submitit_queue_the_job_again(sweep: Callable, number: int) -> None:
    submitit = plugin("hydra/launcher=submitit_local")
    parent, folders = sweep("slow")
    statuses = {}
    for news in launch(submitit, parent, folders, work):
        statuses |= ended([news])
        if (folders[0] / "ready").exists():
            (folders[0] / "ready").unlink()
            os.kill(supervisor(folders[0]), number)
    assert statuses == {0: 0}
    assert (folders[0] / "saved").exists()
    assert len((folders[0] / "begun").read_text().split()) == 2


@pytest.mark.slow
def test_a_preempted_run_ends_in_the_same_weights(sweep: Callable, composer: Composer) -> None:
    """The signal is submitit's own: the run saves in the midst of it, is queued again and goes on in its folder."""
    submitit = plugin("hydra/launcher=submitit_local")
    parent, _ = sweep()
    parent.mkdir()
    overrides = tiny("pretext=rotation", "evaluator=none", "length=500st", "log_every=10st", "show_every=100%")
    composed = composer.compose(overrides)
    ledger = Ledger(parent)
    content = {**composed.content, "choices": composed.choices}
    preempted, alone = (ledger.prepare(ledger.add([name], name), content) for name in ("preempted", "alone"))
    (preempted / "how").write_text("run")
    statuses, sent = {}, False
    for news in launch(submitit, parent, [preempted], work):
        statuses |= ended([news])
        if not sent and read_rows(preempted / "metrics.jsonl"):
            sent = True
            os.kill(supervisor(preempted), signal.SIGUSR2)
    assert statuses == {0: 0}
    assert len((preempted / "begun").read_text().split()) == 2
    assert re.search(r"interrupted at step \d+ of 500", (preempted / "console.log").read_text())
    assert carried_out(str(alone), 1) == 0
    weights = [(folder / "encoder.safetensors").read_bytes() for folder in (preempted, alone)]
    assert weights[0] == weights[1]


SBATCH = """\
import os, re, subprocess, sys
script = sys.argv[-1]
text = open(script).read()
open({log!r}, "a").write(text)
last = re.search(r"--array=0-(\\d+)", text)
for task in range(int(last[1]) + 1 if last else 1):
    if os.fork() == 0:
        os.setsid()
        for stream in (0, 1, 2):
            os.dup2(os.open(os.devnull, os.O_RDWR), stream)
        job = f"7_{{task}}" if last else "7"
        array = dict(SLURM_ARRAY_JOB_ID="7", SLURM_ARRAY_TASK_ID=str(task)) if last else dict()
        own = dict(SLURM_JOB_ID="7", SLURM_PROCID="0", SLURM_LOCALID="0", SLURM_NODEID="0", SLURM_NTASKS="1")
        queued = {folder!r} + "/queued-" + job
        open(queued, "w")
        while os.path.exists(queued):
            os.remove(queued)
            subprocess.call(["bash", script], env={{**os.environ, **own, **array}})
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
SACCT = """\
print("JobID|State|NodeList")
print("7_0|RUNNING|n1")
print("7_1|RUNNING|n1")
"""


def test_slurm_queues_a_preempted_job_again(sweep: Callable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With commands that do as Slurm's: a job that gets SIGTERM and then SIGUSR2 is queued again, once."""
    slurm = plugin("hydra/launcher=submitit_slurm", "hydra.launcher.partition=short", "hydra.launcher.timeout_min=90")
    (tmp_path / "bin").mkdir()
    for name, code in (("sbatch", SBATCH), ("srun", SRUN), ("scontrol", SCONTROL), ("sacct", SACCT)):
        file = tmp_path / "bin" / name
        file.write_text(f"#!{sys.executable}\n" + code.format(log=str(tmp_path / "sbatch.log"), folder=str(tmp_path)))
        file.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path / "bin"), prepend=os.pathsep)
    parent, folders = sweep("slow", "0")
    statuses, sent = {}, []
    for news in launch(slurm, parent, folders, work):
        statuses |= {number: status for number, status in news if status is not None}
        if not sent and (folders[0] / "ready").exists():
            sent.append(signal.SIGTERM)
            os.kill(supervisor(folders[0]), signal.SIGTERM)
        elif len(sent) == 1 and (folders[0] / "saved").exists():
            sent.append(signal.SIGUSR2)
            os.kill(supervisor(folders[0]), signal.SIGUSR2)
    assert statuses == {0: 0, 1: 0}
    assert len((folders[0] / "begun").read_text().split()) == 2
    assert (tmp_path / "requeued").read_text() == "7_0 "
    script = (tmp_path / "sbatch.log").read_text()
    for line in (
        "--requeue",
        "--partition=short",
        "--time=90",
        "--signal=USR2@120",
        "--array=0-1%2",
        "--open-mode=append",
    ):
        assert f"#SBATCH {line}\n" in script


SEARCH = ["optimizer.lr=tag(log,interval(1e-4,1e-1))", "pretext=rotation,simclr", "seed=range(2,8,3)"]


def test_a_search_is_told_from_what_is_fixed_and_shown_by_its_ends() -> None:
    fixed, search = divided(["length=5st", *SEARCH, "evaluator=[knn,probe]", "~regulariser"])
    assert fixed == ["length=5st", "evaluator=[knn,probe]", "~regulariser"]
    assert search == SEARCH
    trials, problems = examples(search)
    assert not problems
    assert trials[0] == ["optimizer.lr=0.0001", "pretext=rotation", "seed=2"]
    assert ["optimizer.lr=0.1", "pretext=rotation", "seed=2"] in trials
    assert ["optimizer.lr=0.0001", "pretext=simclr", "seed=2"] in trials
    assert ["optimizer.lr=0.0001", "pretext=rotation", "seed=5"] in trials
    assert len(trials) == 4
    assert examples(["pretext=glob(*)"])[1]


def value(trial: list[str]) -> float | None:
    """Best at a learning rate of 0.01 with rotation; simclr fails at seed 5."""
    words = dict(word.split("=") for word in trial)
    if words["pretext"] == "simclr" and words["seed"] == "5":
        return None
    return -abs(float(words["optimizer.lr"]) - 0.01) - (words["pretext"] == "simclr")


@pytest.mark.parametrize("sampler", ["tpe", "random", "cmaes"])
def test_a_study_goes_on_where_it_was_cut_off(tmp_path: Path, sampler: str) -> None:
    """Trials cut off are evaluated first and only the missing ones are added; none of them comes twice by its seed."""
    words = ["hydra/sweeper=optuna", f"hydra/sweeper/sampler={sampler}", "hydra.sweeper.n_jobs=3"]
    optuna = plugin(*words, "hydra.sweeper.n_trials=14", kind="sweeper")
    batches: list[list[list[str]]] = []

    def evaluate(batch: list[list[str]]) -> list[float | None]:
        batches.append(batch)
        if len(batches) == 3:
            raise KeyboardInterrupt
        return [value(trial) for trial in batch]

    with pytest.raises(KeyboardInterrupt):
        optimise(optuna, tmp_path, SEARCH, evaluate)
    found = optimise(optuna, tmp_path, SEARCH, evaluate)
    assert batches[3] == batches[2]
    assert [len(batch) for batch in batches] == [3, 3, 3, 3, 3, 2]
    trials = [trial for batch in batches[:2] + batches[3:] for trial in batch]
    assert len({tuple(trial) for trial in trials}) == 14
    assert {word for trial in trials for word in trial if "seed" in word} == {"seed=2", "seed=5"}
    values = [value(trial) for trial in trials]
    best = max(each for each in values if each is not None)
    assert found == Found(14, values.count(None), best, trials[values.index(best)])
    assert optimise(optuna, tmp_path, SEARCH, evaluate) == found, "a study that has its trials is done"
    assert len(batches) == 6


def test_a_study_of_nothing_but_failures_has_no_best(tmp_path: Path) -> None:
    optuna = plugin("hydra/sweeper=optuna", "hydra.sweeper.n_trials=2", kind="sweeper")
    assert optimise(optuna, tmp_path, ["seed=1,2"], lambda batch: [None] * len(batch)) == Found(2, 2, None, [])


def test_a_study_of_another_search_is_refused(tmp_path: Path) -> None:
    optuna = plugin("hydra/sweeper=optuna", "hydra.sweeper.n_trials=2", kind="sweeper")
    optimise(optuna, tmp_path, ["seed=1,2"], lambda batch: [0.0] * len(batch))
    more = plugin("hydra/sweeper=optuna", "hydra.sweeper.n_trials=4", kind="sweeper")
    (tmp_path / "own").mkdir()
    optimise(optuna, tmp_path / "own", ["seed=1,2"], lambda batch: [0.0] * len(batch), "a")
    with pytest.raises(ValueError, match=r"study\.db"):
        optimise(more, tmp_path, ["seed=1,2,3"], lambda batch: [0.0] * len(batch))
    with pytest.raises(ValueError, match=r"its trials are of sweep\.metric=a, not b"):
        optimise(optuna, tmp_path / "own", ["seed=1,2"], lambda batch: [0.0] * len(batch), "b")


def test_a_sweeper_is_checked_too() -> None:
    plugin("hydra/sweeper=optuna", kind="sweeper")
    words = [
        "hydra/sweeper=optuna",
        "hydra/sweeper/sampler=tpee",
        "hydra.sweeper.direction=up",
        "hydra.sweeper.n_trials=x",
        "hydra.sweeper.n_jobs=0",
    ]
    _, problems = read("sweeper", words)
    assert len(problems) == 4
    assert any("n_jobs: given 0" in line for line in problems)
    assert any("did you mean tpe?" in line for line in problems)
    assert any("possible are minimize, maximize" in line for line in problems)

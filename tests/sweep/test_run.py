"""Sweeps of real processes: killed, halted, grown, stopped early, and gone on with."""

import contextlib
import io
import os
import re
import signal
import sys
import threading
from collections import namedtuple
from multiprocessing import forkserver
from pathlib import Path

import pytest
from conftest import in_turn, tiny
from rich.console import Console
from runs import below, enter, jobs_of, put, saved, start, summary, wait_for

from ssl_runner.__main__ import main
from ssl_runner.command.sweep import prepare, run_job
from ssl_runner.config.compose import Composer
from ssl_runner.engine.interrupt import Interrupt
from ssl_runner.errors import Refused
from ssl_runner.run_folder.atomic import read_json, read_text, write_json
from ssl_runner.run_folder.layout import WEIGHTS
from ssl_runner.run_folder.lock import locked
from ssl_runner.sweep.dispatch import LOOK
from ssl_runner.sweep.ledger import Ledger
from ssl_runner.sweep.read import Request
from ssl_runner.sweep.run import open_sweep
from ssl_runner.sweep.run import start as begin
from ssl_runner.sweep.settings import Settings

SWEEP = Path("sweep")
FAST = ("evaluator=none", "pretext=rotation")
LONG = ("length=200st", "save_every=10st", "log_every=10st", "sweep.jobs_per_device=2", "hydra.sweep.dir=sweep")
Plan = namedtuple("Plan", ["content", "overrides", "composed"])  # what a sweep wants to know of a job that was checked
pytestmark = pytest.mark.usefixtures("here")


def plans(composer, *overrides):
    jobs, problems = composer.expand(tiny(*FAST, *overrides))
    composed = [composer.compose(job) for job in jobs]
    assert not [*problems, *(line for each in composed for line in each.problems)]
    return [Plan(each.record, job, each) for each, job in zip(composed, jobs, strict=True)]


def request_of(settings, folder="sweep", jobs=()):
    return Request(Composer(), prepare, settings, folder=folder, jobs=jobs)


def carry_out(jobs, **settings):
    """The exit status of a sweep, and what it said."""
    console = Console(file=io.StringIO(), width=200)
    status = begin(request_of(Settings(**settings), jobs=jobs), ["seed=0"], console, run_job)
    return status, console.file.getvalue()


def ledger_of(*command, jobs=(), cwd="."):
    """The run folders of jobs, with their configs, of a new sweep."""
    ledger = Ledger(folder=SWEEP, command=list(command), jobs={}, cwd=str(Path(cwd).absolute()))
    folders = [SWEEP / ledger.add(each.overrides, each.overrides, ()).folder for each in jobs]
    for folder, each in zip(folders, jobs, strict=True):
        put(folder / "overrides.yaml", "[]")
        put(folder / "config.yaml", each.content)
    write_json(SWEEP / "sweep.json", ledger.model_dump())
    return folders


def with_content(job, **content):
    return job._replace(content={**job.content, **content})


@pytest.fixture(scope="module", autouse=True)
def parts():
    """The server that jobs are forked from has the environment that it was started in."""
    forkserver._forkserver._stop()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SSL_RUNNER_TRUST", "sweep_parts.")
        patch.setenv("PYTHONPATH", str(Path(__file__).parent), prepend=os.pathsep)
        yield
    forkserver._forkserver._stop()


def test_only_a_second_ctrl_c_is_more_than_a_wish(request):
    """A scheduler's SIGTERM to all processes and the sweep's to its jobs are one wish: to save, and to end."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background jobs have it ignored
    request.addfinalizer(lambda: signal.signal(signal.SIGINT, before))
    with Interrupt() as interrupt:
        for number in (signal.SIGTERM, signal.SIGTERM, signal.SIGUSR1, signal.SIGINT):
            signal.raise_signal(number)
        assert interrupt.signal == signal.SIGTERM
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)


@pytest.mark.slow
def test_a_sweep_is_done_once(composer):
    """Jobs that fail by their settings, by an exception, by a kill and by a refusal do not stop the others."""
    jobs = plans(composer, "seed=0,1,2,3,4,5")
    raises, kills = ({"_target_": "sweep_parts.Trouble", "breaks": how} for how in ("raise", "kill"))
    rate = composer.compose(tiny("optimizer=sgd", "optimizer.lr=1e30")).content["optimizer"]
    jobs[1] = with_content(jobs[1], optimizer=rate)
    jobs[2], jobs[3] = with_content(jobs[2], regulariser=raises), with_content(jobs[3], regulariser=kills)
    jobs[4] = with_content(jobs[4], batch_size=10**6)
    status, output = carry_out([*jobs, jobs[0]], jobs_per_device=2)
    assert status == 1
    assert jobs_of("status") == ["completed", "failed", "failed", "failed", "refused", "completed"]
    assert jobs_of("attempts") == [1] * 6, "a job that comes twice is run once"
    errors = ("not finite", "RuntimeError: the second step broke", "killed by SIGKILL", "batch_size")
    assert all(words in error for words, error in zip(errors, jobs_of("error")[1:5], strict=True))
    assert "Traceback" in next(SWEEP.glob("002-*/run.log")).read_text()
    comparison, lines = "2 completed runs", [f"{folder}  {word}  " for folder, word in jobs_of("folder", "status")]
    assert all(words in output for words in ("ssl-runner -m sweep.resume=sweep", comparison, *lines))
    before = {p: p.stat().st_mtime_ns for p in next(SWEEP.glob("000-*")).iterdir()}
    status, output = carry_out([each._replace(content=jobs[0].content) for each in jobs], resume="sweep")
    assert (status, "2 jobs are done already" in output) == (0, True)
    assert jobs_of("status") == ["completed"] * 6, "what has no checkpoint begins with the config as it is now"
    assert jobs_of("attempts") == [1, 2, 2, 2, 2, 1]
    assert {p: p.stat().st_mtime_ns for p in next(SWEEP.glob("000-*")).iterdir()} == before


def test_on_error_stop_begins_no_other(composer):
    first, second = plans(composer, "length=1st", "seed=0,1")
    assert carry_out([with_content(first, batch_size=10**6), second], on_error="stop")[0] == 1
    assert jobs_of("status") == ["refused", "waiting"]
    assert "PYTHONSAFEPATH" not in os.environ, "the environment of jobs was theirs alone"


def test_a_sweep_whose_disk_refuses_goes_on(composer, monkeypatch):
    """The ledger cannot be written from the third time on; the runs themselves say what became of them."""
    write, times = Ledger.write, iter(range(100))

    def full(ledger):
        if next(times) > 1:
            raise OSError(28, "No space left on device")
        write(ledger)

    monkeypatch.setattr(Ledger, "write", full)
    status, output = carry_out(plans(composer, "length=1st", "seed=0,1"), jobs_per_device=2)
    assert (status, output.count("No space left on device")) == (0, 1)
    assert [each.status for each in Ledger.open(SWEEP).jobs.values()] == ["completed"] * 2


def test_a_job_that_is_at_work_elsewhere_is_waited_for(composer, monkeypatch):
    """Or, where that takes too long, left alone."""
    jobs, busy = plans(composer, "length=1st", "seed=0,1"), SWEEP / "000-seed-0"
    busy.mkdir(parents=True)
    ledger_of()
    with locked(busy), monkeypatch.context() as patch:
        patch.setattr("ssl_runner.sweep.jobs.PATIENCE", 0.1)
        status, output = carry_out(jobs, resume="sweep")
    assert (status, "waiting for 1 of the jobs" in output) == (1, True)
    assert jobs_of("status") == ["interrupted", "completed"]
    stack = contextlib.ExitStack()
    stack.enter_context(locked(busy))
    threading.Timer(1, stack.close).start()
    assert carry_out(jobs, resume="sweep")[0] == 0
    assert jobs_of("status") == ["completed", "completed"]


def at_work():
    """Some job is done, and another is at work beyond its first checkpoint, and far from its end."""
    status = {folder: read_json(folder / "summary.json").get("status") for folder in SWEEP.glob("[0-9]*")}
    steps = [step for folder, word in status.items() if word == "running" for step in saved(folder)]
    return "completed" in status.values() and any(step <= 70 for step in steps)


@pytest.mark.slow
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="processes are found in /proc")
def test_a_sweep_that_was_killed_goes_on(monkeypatch):
    """Parent, server and workers are killed outright, then the parent alone, whose jobs still save when it goes on."""
    process = start("-m", *tiny(*FAST, *LONG), "seed=0,1,2,3")
    wait_for(at_work, process)
    for pid in (process.pid, *below(process.pid)):
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    process.communicate()
    done = [p.parent for p in SWEEP.glob("*/summary.json") if summary(p.parent)["status"] == "completed"]
    assert 0 < len(done) < 4
    before = [(each / WEIGHTS).stat().st_mtime_ns for each in done]
    ledger = SWEEP.absolute() / "sweep.json"
    written = ledger.read_text()
    Path("elsewhere").mkdir()
    with monkeypatch.context() as patch:
        patch.chdir("elsewhere")
        again = start("-m", "sweep.resume=../sweep")
    wait_for(lambda: ledger.read_text() != written, again)  # a job has begun
    again.kill()
    again.communicate()
    assert main(["-m", "sweep.resume=sweep"]) == 0
    assert jobs_of("status") == ["completed"] * 4
    assert [(each / WEIGHTS).stat().st_mtime_ns for each in done] == before
    resumed = [p.parent for p in SWEEP.glob("*/run.log") if "resumed at step" in p.read_text()]
    assert resumed, "what was cut off goes on from its checkpoint"
    assert not {*resumed} & {*done}
    (*_, seed) = dict(jobs_of("folder", "overrides"))[resumed[0].name]
    assert main([*tiny(*FAST, *LONG[:3]), seed, "hydra.run.dir=alone"]) == 0
    assert Path("alone", WEIGHTS).read_bytes() == (resumed[0] / WEIGHTS).read_bytes()


def handles_signals(pid):
    found = re.search(r"SigCgt:\s*(\w+)", read_text(Path(f"/proc/{pid}/status")))  # a process may have ended
    mask = int(found[1], 16) if found else 0
    return mask >> (signal.SIGTERM - 1) & mask >> (signal.SIGUSR1 - 1) & 1


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="processes are found in /proc")
@pytest.mark.slow
def test_a_schedulers_signal_to_every_process_saves_every_job(composer):
    """A step is longer than a look at the jobs, so each of them hears of it twice before it can save."""
    slow = {"_target_": "sweep_parts.Trouble", "seconds": 2 * LOOK}
    jobs = plans(composer, "length=1000st", "log_every=1st", "save_every=100%", "seed=0,1,2")
    folders = ledger_of("sweep.jobs_per_device=2", jobs=[with_content(each, regulariser=slow) for each in jobs])
    process = start("-m", "sweep.resume=sweep")
    wait_for(lambda: sum(file.stat().st_size > 0 for file in SWEEP.glob("*/metrics.jsonl")) == 2, process)
    wait_for(lambda: sum(map(handles_signals, below(process.pid))) == 2, process)  # each job by handlers of its own
    children = below(process.pid)
    commands = {pid: Path(f"/proc/{pid}/cmdline").read_text() for pid in children}
    assert all(os.getpgid(pid) == pid for pid in children if "resource_tracker" not in commands[pid])
    for pid in [*children, process.pid]:
        os.kill(pid, signal.SIGTERM)
    output = process.communicate(timeout=60)[0]
    assert process.returncode == 128 + signal.SIGTERM, output
    assert jobs_of("status") == ["interrupted", "interrupted", "waiting"]
    assert all(map(saved, folders[:2]))
    assert "not completed: 3 of 3 jobs; to go on:" in output


def test_a_hopeless_job_is_stopped(composer):
    """It is judged beside one that has ended before, and keeps its encoder; what it had counts for it."""
    words = ["length=100000st", "log_every=5st", "evaluator=knn", "evaluator.knn.k=3", "evaluator.knn.every=5st"]
    (job,) = plans(composer, *words)
    better, worse = ledger_of(jobs=[job._replace(overrides=["better"]), job])
    write_json(better / "summary.json", {"status": "completed", "step": 9, "steps": 9, "final": {"knn/top1": 1.0}})
    (better / "metrics.jsonl").write_text('{"step": 9, "time": 1, "knn/top1": 1.0}\n')
    (worse / "stop").write_text("of the attempt before")
    assert carry_out([job], halving=2, first_rung=0.0001, resume="sweep")[0] == 0
    before = jobs_of()
    stopped = before[1]
    assert (stopped["status"], (worse / WEIGHTS).exists()) == ("stopped", True)
    assert 0 < stopped["step"] < 100000
    assert "of the run; the best 1 of 2 had 1" in stopped["error"]
    assert 0 < stopped["final"]["knn/top1"] < 1
    assert main(["-m", "sweep.resume=sweep"]) == 0
    assert jobs_of() == before


def test_a_sweep_that_grew_goes_on_whole(monkeypatch, capsys):
    """Without words of jobs every job of the ledger is meant; where it lies is no part of what a job is."""
    words = tiny("evaluator=none", "length=1st")
    odd = ["optimizer.betas=[0.9,0.95],[0.8, 0.9]", "dataset=shapes", "sweep.jobs_per_device=2", "sweep.threads=1"]
    assert main(["-m", *words, *odd, "seed=1", "hydra.sweep.dir=a/sweep-${now:%Y}-${seed}"]) == 0
    (sweep,) = Path("a").iterdir()
    assert re.fullmatch(r"sweep-2\d\d\d-1", sweep.name)
    assert main(["-m", *words, *odd, "seed=1,2", f"sweep.resume={sweep}"]) == 0
    folders = jobs_of("folder", folder=sweep)
    assert all(re.fullmatch(r"[A-Za-z0-9._-]{5,70}", name) for name in folders), folders
    assert (len({name[4:] for name in folders}), jobs_of("attempts", folder=sweep)) == (4, [1] * 4)
    for name in folders[2:]:  # as if they had been killed: one before it had a config
        (sweep / name / "summary.json").unlink()
    (sweep / folders[3] / "config.yaml").unlink()
    ledger = Ledger.open(sweep)
    assert (ledger.cwd, "sweep.threads=1" in ledger.command) == (str(Path.cwd()), True)
    assert not any("hydra.sweep.dir" in word for word in ledger.command)
    sweep.rename("moved")
    compose, composed = Composer.compose, []
    with monkeypatch.context() as patch:  # the files are asked for a launcher and folders; no job is composed again
        patch.setattr(Composer, "compose", lambda self, *words: composed.extend(words[0]) or compose(self, *words))
        assert main(["-m", "sweep.resume=moved", "sweep.threads=[", "hydra/launcher=nobody"]) == 2
    assert not any(word.startswith("optimizer.betas") for word in composed)
    assert main(["-m", "sweep.resume=moved", "hydra/launcher=local"]) == 0
    assert jobs_of("attempts", folder="moved") == [1, 1, 2, 2]
    line = "the job typed is none of the 4"
    enter(capsys, ["-m", *words, "seed=7", "sweep.resume=moved"], line, status=2)


METRICS = {"kn/top1": "did you mean knn/top1?", "seconds": "sweep.halving", "test/knn_top1": "sweep.halving"}


@pytest.mark.parametrize(("metric", "line"), METRICS.items())
def test_a_metric_that_no_job_measures_is_refused(metric, line, capsys):
    words = ["-m", *tiny("evaluator=knn"), "seed=0,1", "sweep.halving=2", f"sweep.metric={metric}"]
    enter(capsys, words, line, status=2)
    assert not list(Path().iterdir())


def test_a_sweep_has_a_folder_of_its_own(capsys):
    """Also another of the same second; and one that was killed before its first word can be begun."""
    with open_sweep(request_of(Settings(), None), []) as one, open_sweep(request_of(Settings(), None), []) as other:
        assert one.folder != other.folder
    put(SWEEP / ".lock", "")
    with open_sweep(request_of(Settings()), tiny("evaluator=none", "seed=0,1")):
        assert Ledger.open(SWEEP).command[-1] == "seed=0,1"
        with pytest.raises(Refused), open_sweep(request_of(Settings()), []):
            pass
        enter(capsys, "-m sweep.resume=sweep", "running process", status=2)


@pytest.mark.slow
@pytest.mark.parametrize("launcher", ["submitit_local", "ray"])
def test_other_launchers_run_the_same_jobs(launcher):
    pytest.importorskip(launcher.partition("_")[0])
    words = tiny("evaluator=none", "length=3st", "seed=0,1", "hydra.sweep.dir=sweep", f"hydra/launcher={launcher}")
    assert main(["-m", *words]) == 0
    assert jobs_of("status", "attempts") == [("completed", 1)] * 2
    assert main(["-m", "sweep.resume=sweep"]) == 0
    assert jobs_of("attempts") == [1, 1]


@pytest.mark.slow
@pytest.mark.parametrize("launcher", ["local", *in_turn(["submitit_local", "ray"])])
def test_nothing_is_imported_from_where_a_sweep_says_it_was_begun(launcher, composer):
    """Its sweep.json may be a stranger's."""
    if launcher != "local":
        pytest.importorskip(launcher.partition("_")[0])
    ran = Path("ran").absolute()
    for name in ("ssl_runner", "torch", "submitit", "ray", "multiprocessing", "json", "encodings"):
        put(f"elsewhere/{name}/__init__.py", f"open({str(ran)!r}, 'w').write({name!r})\n")
    jobs = plans(composer, "length=1st", "seed=0")
    ledger_of("seed=0", f"hydra/launcher={launcher}", jobs=jobs, cwd="elsewhere")
    process = start("-m", "sweep.resume=sweep")
    output = process.communicate(timeout=120)[0]
    assert not ran.exists(), ran.read_text()
    assert (process.returncode, jobs_of("status")) == (0, ["completed"]), output

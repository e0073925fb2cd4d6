"""Sweeps of real processes: killed, halted, grown, stopped early, and gone on with."""

import contextlib
import io
import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from multiprocessing import forkserver
from pathlib import Path
from typing import NamedTuple

import pytest
import torch
from conftest import tiny
from rich.console import Console
from safetensors.torch import load_file

from ssl_runner.__main__ import main
from ssl_runner.command.sweep import prepare, run_job
from ssl_runner.config.compose import Composed, Composer
from ssl_runner.config.files import dump
from ssl_runner.engine.interrupt import Interrupt
from ssl_runner.errors import Refused
from ssl_runner.run_folder.atomic import read_json, write_json
from ssl_runner.run_folder.lock import locked
from ssl_runner.sweep.comparison import print_comparison
from ssl_runner.sweep.dispatch import LOOK
from ssl_runner.sweep.ledger import Ledger
from ssl_runner.sweep.read import Request
from ssl_runner.sweep.run import Sweep
from ssl_runner.sweep.settings import Settings
from ssl_runner.sweep.start import open_sweep, run_jobs


class Planned(NamedTuple):
    """What a sweep wants to know of a job that was checked."""

    content: dict
    overrides: list[str]


def planned(composer: Composer, *overrides: str) -> list[Planned]:
    jobs, problems = composer.expand(tiny("evaluator=none", "pretext=rotation", *overrides))
    assert not problems
    composed = [composer.compose(job) for job in jobs]
    assert not any(each.problems for each in composed)
    return [Planned(content_of(each), job) for each, job in zip(composed, jobs, strict=True)]


def content_of(composed: Composed) -> dict:
    return {**composed.content, "choices": composed.choices}


def opened(settings: Settings, folder: Path | str | None, console: Console) -> contextlib.AbstractContextManager[Sweep]:
    request = Request(Composer(), prepare, settings=settings, folder=None if folder is None else str(folder))
    return open_sweep(request, ["seed=0"], console, run_job, print_comparison)


def carry_out(jobs: Sequence[Planned], settings: Settings, folder: Path | str | None, console: Console) -> int:
    with opened(settings, folder, console) as sweep:
        return run_jobs(sweep, Request(Composer(), prepare, jobs=jobs))  # type: ignore[arg-type]


def prepared(ledger: Ledger, overrides: list[str], content: dict) -> Path:
    """The folder of a job, new in the ledger, with its config."""
    folder = ledger.folder / ledger.add(overrides, "job").folder
    folder.mkdir(parents=True)
    (folder / "overrides.yaml").write_text("[]")
    (folder / "config.yaml").write_text(dump(content))
    return folder


def quiet() -> Console:
    return Console(file=io.StringIO(), width=200)


def said(console: Console) -> str:
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def jobs_of(folder: Path) -> list[dict]:
    return list(json.loads((folder / "sweep.json").read_text())["jobs"].values())


def test_only_a_second_ctrl_c_is_more_than_a_wish(request: pytest.FixtureRequest) -> None:
    """A scheduler's SIGTERM to all processes and the sweep's to its jobs are one wish: to save, and to end."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background jobs have it ignored
    request.addfinalizer(lambda: signal.signal(signal.SIGINT, before))
    with Interrupt() as interrupt:
        for number in (signal.SIGTERM, signal.SIGTERM, signal.SIGUSR1, signal.SIGINT):
            signal.raise_signal(number)
        assert interrupt.signal == signal.SIGTERM
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)


@pytest.fixture(scope="module", autouse=True)
def parts() -> Iterator[None]:
    """The server that jobs are forked from has the environment that it was started in."""
    forkserver._forkserver._stop()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SSL_RUNNER_TRUST", "sweep_parts.")
        patch.setenv("PYTHONPATH", str(Path(__file__).parent), prepend=os.pathsep)
        yield
    forkserver._forkserver._stop()


def with_part(job: Planned, **node: object) -> Planned:
    return Planned({**job.content, "regulariser": node}, [*job.overrides, str(node)])


def test_a_sweep_is_done_once(composer: Composer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Jobs that fail by their settings, by an exception, by a kill and by a refusal do not stop the others."""
    monkeypatch.chdir(tmp_path)
    jobs = planned(composer, "seed=0,1,2,3,4,5")
    rate = composer.compose(tiny("optimizer=sgd", "optimizer.lr=1e30")).content["optimizer"]
    jobs[1] = Planned({**jobs[1].content, "optimizer": rate}, jobs[1].overrides)
    jobs[2] = with_part(jobs[2], _target_="sweep_parts.Breaks")
    jobs[3] = with_part(jobs[3], _target_="sweep_parts.Breaks", kill=True)
    jobs[4] = Planned({**jobs[4].content, "batch_size": 10**6}, jobs[4].overrides)
    console = quiet()
    assert carry_out([*jobs, jobs[0]], Settings(jobs_per_device=2), "sweep", console) == 1
    sweep = tmp_path / "sweep"
    entries = jobs_of(sweep)
    assert [each["status"] for each in entries] == ["completed", "failed", "failed", "failed", "refused", "completed"]
    assert [each["attempts"] for each in entries] == [1] * 6, "a job that comes twice is run once"
    assert "not finite" in entries[1]["error"]
    assert entries[2]["error"] == "RuntimeError: the second step broke"
    assert "Traceback" in next(sweep.glob("002-*/run.log")).read_text()
    assert entries[3]["error"].startswith("killed by SIGKILL")
    assert "batch_size" in entries[4]["error"]
    assert "ssl-runner -m sweep.resume=sweep" in said(console)
    assert "2 completed runs" in said(console), "the comparison"
    assert all(f"{each['folder']}  {each['status']}  " in said(console) for each in entries), "a line each, unfolded"
    before = {p: p.stat().st_mtime_ns for p in next(sweep.glob("000-*")).iterdir()}
    again = quiet()
    mended = [Planned(jobs[0].content, each.overrides) for each in jobs]
    assert carry_out(mended, Settings(resume="sweep", jobs_per_device=2), None, again) == 0
    assert "2 jobs are done already" in said(again)
    assert [(each["status"], each["attempts"]) for each in jobs_of(sweep)] == [
        ("completed", attempts) for attempts in (1, 2, 2, 2, 2, 1)
    ], "what has no checkpoint begins with the config as it is now"
    assert {p: p.stat().st_mtime_ns for p in next(sweep.glob("000-*")).iterdir()} == before


def test_on_error_stop_begins_no_other(composer: Composer, tmp_path: Path) -> None:
    jobs = planned(composer, "length=1st", "seed=0,1")
    jobs[0] = Planned({**jobs[0].content, "batch_size": 10**6}, jobs[0].overrides)
    assert carry_out(jobs, Settings(on_error="stop"), tmp_path / "sweep", quiet()) == 1
    assert [each["status"] for each in jobs_of(tmp_path / "sweep")] == ["refused", "waiting"]


def test_a_sweep_whose_disk_refuses_goes_on(
    composer: Composer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The ledger cannot be written from the third time on; the runs themselves say what became of them."""
    write, times = Ledger.write, iter(range(100))

    def full(ledger: Ledger) -> None:
        if next(times) > 1:
            raise OSError(28, "No space left on device")
        write(ledger)

    monkeypatch.setattr(Ledger, "write", full)
    console = quiet()
    jobs = planned(composer, "length=1st", "seed=0,1")
    assert carry_out(jobs, Settings(jobs_per_device=2), tmp_path / "sweep", console) == 0
    assert said(console).count("No space left on device") == 1
    assert [each.status for each in Ledger.open(tmp_path / "sweep").jobs.values()] == ["completed"] * 2


def test_a_job_that_is_at_work_elsewhere_is_waited_for(
    composer: Composer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Or, where that takes too long, left alone."""
    monkeypatch.setattr("ssl_runner.sweep.run.PATIENCE", 0.1)
    jobs = planned(composer, "length=1st", "seed=0,1")
    (tmp_path / "sweep" / "000-seed-0").mkdir(parents=True)
    Ledger(tmp_path / "sweep").write()
    console = quiet()
    with locked(tmp_path / "sweep" / "000-seed-0"):
        assert carry_out(jobs, Settings(resume=str(tmp_path / "sweep")), None, console) == 1
    assert "waiting for 1 of the jobs" in said(console)
    assert [each["status"] for each in jobs_of(tmp_path / "sweep")] == ["interrupted", "completed"]
    monkeypatch.undo()
    lock = locked(tmp_path / "sweep" / "000-seed-0")
    lock.__enter__()
    threading.Timer(1, lock.__exit__, (None, None, None)).start()
    assert carry_out(jobs, Settings(resume=str(tmp_path / "sweep")), None, quiet()) == 0
    assert [each["status"] for each in jobs_of(tmp_path / "sweep")] == ["completed", "completed"]


FAST = ("evaluator=none", "pretext=rotation")


def start(folder: Path, *words: str) -> subprocess.Popen:
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONWARNINGS": "ignore"}
    return subprocess.Popen(
        [sys.executable, "-m", "ssl_runner", "-m", *words],
        env=environment,
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def wait_for(condition: Callable[[], object], process: subprocess.Popen, seconds: float = 120) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert process.poll() is None, process.communicate()[0]
        assert time.monotonic() < end, "nothing happened"
        time.sleep(0.05)


def workers(process: subprocess.Popen) -> list[int]:
    """The processes below a sweep's own: the server that forks its jobs, and the jobs."""
    found, below = [], [process.pid]
    while below:
        parent = below.pop()
        for task in Path(f"/proc/{parent}/task").glob("*/children"):
            below += (children := [int(number) for number in task.read_text().split()])
            found += children
    return found


def command_of(pid: int) -> str:
    return Path(f"/proc/{pid}/cmdline").read_text().replace("\0", " ")


def at_work(sweep: Path) -> bool:
    """Some job is done, and another is at work beyond its first checkpoint, and far from its end."""
    done = [read_json(file).get("status") for file in sweep.glob("*/summary.json")]
    return "completed" in done and any(
        read_json(folder / "summary.json").get("status") == "running"
        and any(int(path.stem) <= 70 for path in folder.glob("checkpoints/*.pt"))
        for folder in sweep.glob("[0-9]*")
    )


LONG = ("length=200st", "save_every=10st", "log_every=10st", "sweep.jobs_per_device=2", "hydra.sweep.dir=sweep")


@pytest.mark.slow
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="processes are found in /proc")
def test_a_sweep_that_was_killed_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Parent, server and workers are killed outright, then the parent alone, whose jobs still save when it goes on.

    Nothing that was done is done again, and weights are those of a run left alone.
    """
    process = start(tmp_path, *tiny(*FAST, *LONG), "seed=0,1,2,3")
    sweep = tmp_path / "sweep"
    wait_for(lambda: at_work(sweep), process)
    for pid in (process.pid, *workers(process)):
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    process.communicate()
    done = {p.parent.name for p in sweep.glob("*/summary.json") if read_json(p)["status"] == "completed"}
    assert 0 < len(done) < 4
    before = {name: (sweep / name / "encoder.safetensors").stat().st_mtime_ns for name in done}
    (tmp_path / "elsewhere").mkdir()
    ledger = (sweep / "sweep.json").read_text()
    again = start(tmp_path / "elsewhere", "sweep.resume=../sweep")
    wait_for(lambda: (sweep / "sweep.json").read_text() != ledger, again)  # a job has begun
    again.kill()
    again.communicate()
    monkeypatch.chdir(tmp_path)
    assert main(["-m", "sweep.resume=sweep"]) == 0
    assert [each["status"] for each in jobs_of(sweep)] == ["completed"] * 4
    assert {name: (sweep / name / "encoder.safetensors").stat().st_mtime_ns for name in done} == before
    assert all("resumed at step" not in (sweep / name / "run.log").read_text() for name in done)
    resumed = [p.parent for p in sweep.glob("*/run.log") if "resumed at step" in p.read_text()]
    assert resumed, "what was cut off goes on from its checkpoint"
    seed = next(each["overrides"][-1] for each in jobs_of(sweep) if each["folder"] == resumed[0].name)
    assert main([*tiny(*FAST, *LONG[:3]), seed, "hydra.run.dir=alone"]) == 0
    expected, found = (load_file(folder / "encoder.safetensors") for folder in (tmp_path / "alone", resumed[0]))
    assert all(torch.equal(found[name], tensor) for name, tensor in expected.items())


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="processes are found in /proc")
def test_a_schedulers_signal_to_every_process_saves_every_job(composer: Composer, tmp_path: Path) -> None:
    """A step is longer than a look at the jobs, so each of them hears of it twice before it can save."""
    words = tiny("evaluator=none", "pretext=rotation", "length=1000st", "log_every=1st", "save_every=100%")
    jobs = [[*words, f"seed={seed}"] for seed in range(3)]
    ledger = Ledger(tmp_path / "sweep", ["seed=0,1,2", "sweep.jobs_per_device=2"])
    for job in jobs:
        composed = composer.compose(job)
        slow = {"_target_": "sweep_parts.Slow", "seconds": 2 * LOOK}
        content = {**content_of(composed), "regulariser": slow}
        prepared(ledger, job, content)
    ledger.write()
    process = start(tmp_path, "sweep.resume=sweep")
    sweep = tmp_path / "sweep"
    wait_for(lambda: len(list(sweep.glob("*/metrics.jsonl"))) == 2, process)
    wait_for(lambda: all(path.stat().st_size for path in sweep.glob("*/metrics.jsonl")), process)
    below = workers(process)
    ignored = [int(re.search(r"SigIgn:\s*(\w+)", Path(f"/proc/{pid}/status").read_text())[1], 16) for pid in below]
    assert sum(mask >> (signal.SIGTERM - 1) & mask >> (signal.SIGUSR1 - 1) & 1 for mask in ignored) == 1, "the server"
    assert all(os.getpgid(pid) == pid for pid in below if "resource_tracker" not in command_of(pid))
    for pid in [*below, process.pid]:
        os.kill(pid, signal.SIGTERM)
    output = process.communicate(timeout=60)[0]
    assert process.returncode == 128 + signal.SIGTERM, output
    assert [each["status"] for each in jobs_of(sweep)] == ["interrupted", "interrupted", "waiting"]
    assert all(list((sweep / each["folder"]).glob("checkpoints/*.pt")) for each in jobs_of(sweep)[:2])
    assert "3 jobs are not completed; to go on:" in output


def test_a_hopeless_job_is_stopped(composer: Composer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is judged beside one that has ended before, and keeps its encoder; what it had counts for it."""
    monkeypatch.chdir(tmp_path)
    words = ["length=100000st", "log_every=5st", "evaluator=knn", "evaluator.knn.k=3", "evaluator.knn.every=5st"]
    (job,) = planned(composer, *words)
    settings = Settings(halving=2, first_rung=0.0001, resume="sweep")
    ledger = Ledger(tmp_path / "sweep")
    folder = prepared(ledger, ["better"], job.content)
    write_json(folder / "summary.json", {"status": "completed", "step": 9, "steps": 9, "final": {"knn/top1": 1.0}})
    (folder / "metrics.jsonl").write_text('{"step": 9, "time": 1, "knn/top1": 1.0}\n')
    worse = prepared(ledger, job.overrides, job.content)
    (worse / "stop").write_text("of the attempt before")
    ledger.write()
    assert carry_out([job], settings, None, quiet()) == 0
    found = jobs_of(tmp_path / "sweep")[1]
    assert found["status"] == "stopped"
    assert 0 < found["step"] < 100000
    assert "of the run; the best 1 of 2 had 1" in found["error"]
    assert 0 < found["final"]["knn/top1"] < 1
    assert (worse / "encoder.safetensors").exists()
    before = jobs_of(tmp_path / "sweep")
    assert main(["-m", "sweep.resume=sweep"]) == 0
    assert jobs_of(tmp_path / "sweep") == before


def test_a_sweep_that_grew_goes_on_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    """Without words of jobs every job of the ledger is meant; where it lies is no part of what a job is."""
    monkeypatch.chdir(tmp_path)
    words = tiny("evaluator=none", "length=1st")
    odd = ["optimizer.betas=[0.9,0.95],[0.8, 0.9]", "dataset=shapes", "sweep.jobs_per_device=2", "sweep.threads=1"]
    assert main(["-m", *words, *odd, "seed=1", "hydra.sweep.dir=a/sweep-${now:%Y}-${seed}"]) == 0
    (sweep,) = Path("a").iterdir()
    assert re.fullmatch(r"sweep-2\d\d\d-1", sweep.name)
    assert main(["-m", *words, *odd, "seed=1,2", f"sweep.resume={sweep}"]) == 0
    folders = [each["folder"] for each in jobs_of(sweep)]
    assert all(re.fullmatch(r"[A-Za-z0-9._-]{5,70}", name) for name in folders), folders
    assert len({name[4:] for name in folders}) == 4
    assert [each["attempts"] for each in jobs_of(sweep)] == [1] * 4
    for each in jobs_of(sweep)[2:]:  # as if they had been killed: one before it had a config
        (sweep / each["folder"] / "summary.json").unlink()
    (sweep / folders[3] / "config.yaml").unlink()
    content = read_json(sweep / "sweep.json")
    assert content["cwd"] == str(tmp_path)
    assert "sweep.threads=1" in content["command"]
    assert not any("hydra.sweep.dir" in word for word in content["command"])
    sweep = sweep.rename("moved")
    monkeypatch.setattr(Composer, "compose", None)
    assert main(["-m", "sweep.resume=moved", "sweep.threads=[", "hydra/launcher=nobody"]) == 2
    monkeypatch.undo()
    monkeypatch.chdir(tmp_path)
    assert main(["-m", "sweep.resume=moved", "hydra/launcher=local"]) == 0
    assert [each["attempts"] for each in jobs_of(sweep)] == [1, 1, 2, 2]
    capsys.readouterr()
    assert main(["-m", *words, "seed=7", "sweep.resume=moved"]) == 2
    assert "none of the 1 jobs typed is one of the 4" in capsys.readouterr().err


def test_a_sweep_that_was_killed_before_its_first_job_can_be_begun(tmp_path: Path) -> None:
    (tmp_path / ".lock").touch()
    with opened(Settings(), tmp_path, quiet()):
        assert Ledger.open(tmp_path).command == ["seed=0"]


def test_a_metric_that_no_job_measures_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    monkeypatch.chdir(tmp_path)
    for metric, line in (
        ("kn/top1", "did you mean knn/top1?"),
        ("seconds", "sweep.halving"),
        ("test/knn_top1", "sweep.halving"),
    ):
        assert main(["-m", *tiny("evaluator=knn"), "seed=0,1", "sweep.halving=2", f"sweep.metric={metric}"]) == 2
        assert line in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_two_sweeps_of_one_second_are_two(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with opened(Settings(), None, quiet()) as one, opened(Settings(), None, quiet()) as other:
        assert one.ledger.folder != other.ledger.folder
    with (
        opened(Settings(), "x", quiet()),
        pytest.raises(Refused),
        opened(Settings(), "x", quiet()),
    ):
        pass


def test_a_sweep_that_is_running_is_not_run_again(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    ledger = Ledger(tmp_path, tiny("evaluator=none", "seed=0,1"))
    ledger.write()
    with locked(tmp_path):
        assert main(["-m", f"sweep.resume={tmp_path}"]) == 2
    assert "running process" in capsys.readouterr().err


@pytest.mark.parametrize("launcher", ["submitit_local", "ray"])
def test_other_launchers_run_the_same_jobs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, launcher: str) -> None:
    pytest.importorskip(launcher.partition("_")[0])
    monkeypatch.chdir(tmp_path)
    words = tiny("evaluator=none", "length=3st", "seed=0,1", "hydra.sweep.dir=sweep", f"hydra/launcher={launcher}")
    assert main(["-m", *words]) == 0
    assert [(each["status"], each["attempts"]) for each in jobs_of(tmp_path / "sweep")] == [("completed", 1)] * 2
    assert main(["-m", "sweep.resume=sweep"]) == 0
    assert [each["attempts"] for each in jobs_of(tmp_path / "sweep")] == [1, 1]


@pytest.mark.parametrize("launcher", ["local", "submitit_local", "ray"])
def test_nothing_is_imported_from_where_a_sweep_says_it_was_begun(
    tmp_path: Path, launcher: str, composer: Composer
) -> None:
    """Its sweep.json may be a stranger's."""
    if launcher != "local":
        pytest.importorskip(launcher.partition("_")[0])
    elsewhere = tmp_path / "elsewhere"
    for name in ("ssl_runner", "torch", "submitit", "ray", "multiprocessing", "json", "encodings"):
        (elsewhere / name).mkdir(parents=True)
        (elsewhere / name / "__init__.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w').write({name!r})\n")
    ledger = Ledger(tmp_path / "sweep", ["seed=0", f"hydra/launcher={launcher}"])
    ledger.cwd = str(elsewhere)
    (job,) = planned(composer, "length=1st", "seed=0")
    prepared(ledger, job.overrides, job.content)
    ledger.write()
    process = start(tmp_path, "sweep.resume=sweep")
    output = process.communicate(timeout=120)[0]
    assert not (tmp_path / "ran").exists(), (tmp_path / "ran").read_text()
    assert process.returncode == 0, output
    assert [each["status"] for each in jobs_of(tmp_path / "sweep")] == ["completed"]

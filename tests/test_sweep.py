"""Sweeps: their ledger, their queue of real processes, and the early stop of hopeless jobs."""

import contextlib
import io
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from conftest import tiny
from rich.console import Console
from safetensors.torch import load_file

from ssl_runner.__main__ import main
from ssl_runner.config import Composer
from ssl_runner.engine.checkpoint import read_json, write_json
from ssl_runner.engine.folder import locked
from ssl_runner.sweep.carry_out import Planned, grid, opened
from ssl_runner.sweep.halving import Halving
from ssl_runner.sweep.ledger import Ledger, key_of
from ssl_runner.sweep.settings import Settings, parted, read


def planned(composer: Composer, *overrides: str) -> list[Planned]:
    jobs, problems = composer.expand(tiny("evaluator.probe.l2=[0.1]", "pretext=rotation", *overrides))
    assert not problems
    found = []
    for job in jobs:
        composed = composer.compose(job)
        assert not composed.problems
        found.append(Planned({**composed.content, "choices": composed.choices}, job, "job"))
    return found


def carry_out(jobs: list[Planned], settings: Settings, typed: str | None, console: Console) -> int:
    with opened(settings, [], typed, None, console) as sweep:
        return grid(sweep, jobs)


def quiet() -> Console:
    return Console(file=io.StringIO(), width=200)


def said(console: Console) -> str:
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def jobs_of(folder: Path) -> list[dict]:
    return list(json.loads((folder / "sweep.json").read_text())["jobs"].values())


def test_a_job_is_known_by_its_overrides_in_any_order() -> None:
    assert key_of(["a=1", "b=2"]) == key_of(["b=2", "a=1"])
    assert len({key_of(words) for words in (["a=1", "b=2"], ["a=1"], ["a=1b=2"], ["a=1", "b=3"], [])}) == 5


def test_the_ledger_believes_the_runs(tmp_path: Path) -> None:
    """After kill -9 sweep.json is behind: what a run says of itself counts, and `running` means cut off."""
    ledger = Ledger(tmp_path, ["seed=0,1,2,3"])
    for seed in range(4):
        ledger.add([f"seed={seed}"], f"seed-{seed}").status = "running"
    ledger.write()
    for name, status in (("000-seed-0", "completed"), ("001-seed-1", "running"), ("002-seed-2", "failed")):
        (tmp_path / name).mkdir()
        summary = {"status": status, "step": 5, "steps": 9, "final": {"knn/top1": 0.5}, "error": "because"}
        write_json(tmp_path / name / "summary.json", summary)
    again = Ledger.open(tmp_path)
    assert [e.status for e in again.jobs.values()] == ["completed", "interrupted", "failed", "interrupted"]
    assert next(e.final for e in again.jobs.values()) == {"knn/top1": 0.5}
    assert again.add(["seed=1"], "other").folder == "001-seed-1", "the same job keeps its folder"
    assert again.add(["seed=9"], "seed-9").folder == "004-seed-9"


@pytest.mark.parametrize("content", ["", "{", "[]", '{"format": 99}', '{"format": 1}', '{"format": 1, "jobs": 3}'])
def test_a_folder_that_is_no_sweep_is_named(tmp_path: Path, content: str) -> None:
    (tmp_path / "sweep.json").write_text(content)
    with pytest.raises(ValueError, match=str(tmp_path)):
        Ledger.open(tmp_path)


def test_settings_are_checked_as_every_config_is() -> None:
    jobs, own = parted(["seed=0,1", "sweep.resume=a=b c", "sweep.on_eror=stop", "sweep.jobs_per_device=0"])
    assert jobs == ["seed=0,1"]
    assert own["resume"] == "a=b c"
    settings, problems = read(own)
    assert settings is None
    assert any("on_eror" in line and "did you mean on_error?" in line for line in problems)
    assert any(line.startswith("sweep.jobs_per_device: given 0") for line in problems)
    assert read({"halving": "1"})[1]
    assert read({"halving": "3", "metric": "probe/top1"})[0] == Settings(halving=3, metric="probe/top1")


def test_rungs_are_powers_of_eta() -> None:
    assert Halving(2, 0.1).rungs == pytest.approx([0.1, 0.2, 0.4, 0.8])
    assert Halving(3, 1 / 9).rungs == pytest.approx([1 / 9, 1 / 3])
    assert Halving(4, 0.5).rungs == [0.5]


def test_halving_by_hand() -> None:
    """Of six jobs that come to the first rung one after another, those stop that are below the best third so far."""
    halving = Halving(3, 0.25)
    stopped = {}
    for job, value in zip("abcdef", (0.5, 0.6, 0.4, 0.7, 0.65, 0.1), strict=True):
        stopped[job] = halving.hopeless(job, [(0.0, 0.9), (0.2, 0.9), (0.25, value), (0.5, 0.0)]) is not None
    # a, b: too few to tell. c: best 1 of 3 had 0.6. d is best. e: best 1 of 5 has 0.7. f: best 2 of 6 have 0.65.
    assert stopped == {"a": False, "b": False, "c": True, "d": False, "e": True, "f": True}
    assert halving.hopeless("c", [(0.25, 0.4)]) is None, "judged once at a rung"


def test_a_job_that_is_not_measured_at_a_rung_is_judged_by_its_next_measurement() -> None:
    halving = Halving(2, 0.5)
    assert halving.hopeless("a", [(0.4, 0.1)]) is None
    assert halving.values == {0: {}}
    assert halving.hopeless("a", [(0.4, 0.1), (0.9, 0.8)]) is None
    assert halving.values == {0: {"a": 0.8}}
    assert "0.2" in str(halving.hopeless("b", [(0.6, 0.2)]))


def test_a_sweep_is_done_once(composer: Composer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two processes at once; a job that fails by an exception and one that is refused do not stop the others."""
    monkeypatch.chdir(tmp_path)
    jobs = planned(composer, "seed=0,1,2,3")
    broken = {**jobs[1].content, "dataset": {**jobs[1].content["dataset"], "test": 10**15}}  # no memory for that
    jobs[1] = Planned(broken, jobs[1].overrides, jobs[1].slug)
    wrong = {**jobs[2].content, "batch_size": 10**6}
    jobs[2] = Planned(wrong, jobs[2].overrides, jobs[2].slug)
    console = quiet()
    assert carry_out(jobs, Settings(jobs_per_device=2), "sweep", console) == 1
    sweep = tmp_path / "sweep"
    assert [each["status"] for each in jobs_of(sweep)] == ["completed", "refused", "refused", "completed"]
    assert "batch_size" in jobs_of(sweep)[2]["error"]
    assert "ssl-runner -m sweep.resume=sweep" in said(console)
    before = {p: p.stat().st_mtime_ns for p in (sweep / "000-job").iterdir()}
    again = quiet()
    mended = planned(composer, "seed=0,1,2,3")
    for name in ("001-job", "002-job"):  # what was refused left only its config
        (sweep / name / "config.yaml").unlink()
    assert carry_out(mended, Settings(resume="sweep"), None, again) == 0
    assert "2 jobs are done already" in said(again)
    assert [each["status"] for each in jobs_of(sweep)] == ["completed"] * 4
    assert [each["attempts"] for each in jobs_of(sweep)] == [1, 2, 2, 1]
    assert {p: p.stat().st_mtime_ns for p in (sweep / "000-job").iterdir()} == before
    assert read_json(sweep / "003-job" / "summary.json")["seconds"] > 0


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


def at_work(sweep: Path) -> bool:
    """Some job is done, and another is at work beyond its first checkpoint."""
    done = [read_json(file).get("status") for file in sweep.glob("*/summary.json")]
    return "completed" in done and any(
        read_json(folder / "summary.json").get("status") == "running" and any(folder.glob("checkpoints/*.pt"))
        for folder in sweep.glob("[0-9]*")
    )


LONG = ("length=150st", "save_every=10st", "log_every=10st", "sweep.jobs_per_device=2", "hydra.sweep.dir=sweep")


@pytest.mark.slow
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="processes are found in /proc")
def test_a_sweep_that_was_killed_goes_on(tmp_path: Path) -> None:
    """Parent, server and workers are killed outright; nothing that was done is done again, and weights are the same."""
    words = [*tiny(*FAST, *LONG), "seed=0,1,2,3"]
    process = start(tmp_path, *words)
    sweep = tmp_path / "sweep"
    wait_for(lambda: at_work(sweep), process)
    for pid in (process.pid, *workers(process)):
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    process.communicate()
    done = {p.parent.name for p in sweep.glob("*/summary.json") if read_json(p)["status"] == "completed"}
    assert 0 < len(done) < 4
    before = {name: (sweep / name / "encoder.safetensors").stat().st_mtime_ns for name in done}
    again = start(tmp_path, "sweep.resume=sweep", "sweep.jobs_per_device=2")
    output = again.communicate(timeout=180)[0]
    assert again.returncode == 0, output
    assert f"{len(done)} jobs are done already" in output
    assert [each["status"] for each in jobs_of(sweep)] == ["completed"] * 4
    assert {name: (sweep / name / "encoder.safetensors").stat().st_mtime_ns for name in done} == before
    assert all("resumed at step" not in (sweep / name / "run.log").read_text() for name in done)
    resumed = [p.parent for p in sweep.glob("*/run.log") if "resumed at step" in p.read_text()]
    assert resumed, "what was cut off goes on from its checkpoint"
    alone = tmp_path / "alone"
    seed = next(each["overrides"][-1] for each in jobs_of(sweep) if each["folder"] == resumed[0].name)
    assert main([*tiny(*FAST, *LONG[:3]), seed, f"hydra.run.dir={alone}"]) == 0
    expected, found = (load_file(folder / "encoder.safetensors") for folder in (alone, resumed[0]))
    assert all(torch.equal(found[name], tensor) for name, tensor in expected.items())


@pytest.mark.slow
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="processes are found in /proc")
@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGKILL, -9)])
def test_workers_save_and_end_with_their_sweep(tmp_path: Path, number: int, status: int) -> None:
    """Also where the parent is killed outright: who goes on with the sweep must not find a folder in use."""
    process = start(tmp_path, *tiny(*FAST, "length=100000st", *LONG[1:]), "seed=0,1,2")
    sweep = tmp_path / "sweep"
    wait_for(lambda: len(list(sweep.glob("*/checkpoints/*.pt"))) > 1, process)
    below = workers(process)
    process.send_signal(number)
    output = process.communicate(timeout=60)[0]
    assert process.returncode == status
    end = time.monotonic() + 30
    while any(Path(f"/proc/{pid}").exists() for pid in below) and time.monotonic() < end:
        time.sleep(0.05)
    statuses = [read_json(file)["status"] for file in sweep.glob("*/summary.json")]
    assert statuses == ["interrupted", "interrupted"]
    if number != signal.SIGKILL:
        assert [each["status"] for each in jobs_of(sweep)] == ["interrupted", "interrupted", "waiting"]
        assert "3 jobs are not completed; to go on:" in output


def test_hopeless_jobs_are_stopped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One after another, each judged beside those before it. A stopped job is done, and keeps its encoder."""
    monkeypatch.chdir(tmp_path)
    words = ["length=200st", "log_every=5st", "evaluator=knn", "evaluator.knn.k=3", "evaluator.knn.every=20st"]
    halving = ["sweep.halving=2", "sweep.first_rung=0.2", "hydra.sweep.dir=sweep"]
    assert main(["-m", *tiny("seed=0,1,2,3,4", *words, *halving)]) == 0
    jobs = jobs_of(tmp_path / "sweep")
    stopped = [each for each in jobs if each["status"] == "stopped"]
    assert {each["status"] for each in jobs} == {"completed", "stopped"}
    assert all(0 < each["step"] < 200 for each in stopped)
    assert all("of the run; the best" in each["error"] for each in stopped)
    assert all((tmp_path / "sweep" / each["folder"] / "encoder.safetensors").exists() for each in stopped)
    assert main(["-m", "sweep.resume=sweep"]) == 0
    assert [each["attempts"] for each in jobs_of(tmp_path / "sweep")] == [1] * 5


def test_what_is_odd_in_an_override_gives_a_sane_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    odd = ["optimizer.betas=[0.9,0.95],[0.8, 0.9]", "dataset=shapes", "seed=1,2", "sweep.jobs_per_device=2"]
    assert main(["-m", *tiny("evaluator=none", "length=1st"), *odd]) == 0
    (sweep,) = (tmp_path / "outputs" / "sweeps").iterdir()
    folders = sorted(path.name for path in sweep.glob("[0-9]*"))
    assert len(folders) == 4
    assert all(re.fullmatch(r"[A-Za-z0-9._-]{5,70}", name) for name in folders), folders
    assert len({name[4:] for name in folders}) == 4


def test_two_sweeps_of_one_second_are_two(tmp_path: Path) -> None:
    words = tiny("evaluator=none", "length=1st")
    both = [start(tmp_path, *words, "seed=0,1") for _ in range(2)]
    said = [each.communicate(timeout=180)[0] for each in both]
    assert [each.returncode for each in both] == [0, 0], said
    sweeps = list((tmp_path / "outputs" / "sweeps").iterdir())
    assert len(sweeps) == 2
    assert [each["status"] for sweep in sweeps for each in jobs_of(sweep)] == ["completed"] * 4


def test_a_sweep_that_is_running_is_not_run_again(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    ledger = Ledger(tmp_path, tiny("evaluator=none", "seed=0,1"))
    ledger.write()
    with locked(tmp_path):
        assert main(["-m", f"sweep.resume={tmp_path}"]) == 2
    assert "running process" in capsys.readouterr().err


@pytest.mark.parametrize("launcher", ["joblib", "submitit_local"])
def test_a_plugin_launches_the_same_jobs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, launcher: str) -> None:
    pytest.importorskip(f"hydra_plugins.hydra_{launcher.partition('_')[0]}_launcher")
    monkeypatch.chdir(tmp_path)
    words = tiny("evaluator=none", "length=3st", "seed=0,1", "hydra.sweep.dir=sweep", f"hydra/launcher={launcher}")
    assert main(["-m", *words]) == 0
    assert [(each["status"], each["attempts"]) for each in jobs_of(tmp_path / "sweep")] == [("completed", 1)] * 2
    assert main(["-m", "sweep.resume=sweep"]) == 0
    assert [each["attempts"] for each in jobs_of(tmp_path / "sweep")] == [1, 1]


def test_optuna_searches_and_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    pytest.importorskip("hydra_plugins.hydra_optuna_sweeper")
    monkeypatch.chdir(tmp_path)
    search = ["hydra/sweeper=optuna", "optimizer.lr=tag(log,interval(1e-4,1e-1))", "hydra.sweep.dir=sweep"]
    words = [*tiny("evaluator=knn", "length=3st"), *search, "sweep.jobs_per_device=2"]
    assert main(["-m", *words, "hydra.sweeper.n_trials=3"]) == 0
    first = jobs_of(tmp_path / "sweep")
    assert [each["status"] for each in first] == ["completed"] * 3
    assert len({each["overrides"][-1] for each in first}) == 3
    assert "3 trials, the best has" in capsys.readouterr().out
    assert main(["-m", *words, "hydra.sweeper.n_trials=5", "sweep.resume=sweep"]) == 0
    assert jobs_of(tmp_path / "sweep")[:3] == first, "what was tried is not tried again"
    assert len(jobs_of(tmp_path / "sweep")) == 5
    assert "5 trials, the best has" in capsys.readouterr().out
    assert main(["-m", *words, "optimizer.weight_decay=interval(-1,1)"]) == 2
    assert "weight_decay: given -1" in capsys.readouterr().err

"""A run of several processes ends as that of one does, and takes no process with it that it leaves behind.

Started by the runner itself, by torchrun, and as two nodes of torchrun; killed, terminated, hung, and gone on with.
"""

import math
import os
import signal
import time
from pathlib import Path

import pytest
import torch
from conftest import tiny
from runs import enter, put, refusal, saved, start, summary, wait_for
from safetensors.torch import load_file

from ssl_runner.__main__ import main
from ssl_runner.run_folder.lock import held
from ssl_runner.run_folder.metrics import read_rows

WORDS = tiny("pretext=simclr", "batch_size=12", "evaluator=[knn]", "evaluator.knn.k=3", "evaluator.knn.every=6st")
WORDS += ["save_every=4st", "keep=99", "optimizer=sgd"]  # Adam takes rounding for a gradient
ENDLESS = [*tiny("pretext=simclr", "batch_size=12", "evaluator=none", "keep=99"), "save_every=4st", "length=400000st"]
TORCHRUN = ("-m", "torch.distributed.run")
MINE = ("regulariser=l2", "regulariser._target_=mine_of_processes.Mine")
STARTED = []
SOON = 25  # seconds, on a machine that does other work too: a time-out would be hundreds

pytestmark = [
    pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="needs /proc"),
    pytest.mark.usefixtures("here"),
    pytest.mark.timeout(400),
    pytest.mark.xdist_group("processes"),
]


def workers(process):
    """Process ids of the ranks, in their order."""
    children = [each.read_text().split() for each in Path(f"/proc/{process.pid}/task").glob("*/children")]
    named = {int(pid): Path(f"/proc/{pid}/cmdline").read_text() for pids in children for pid in pids}
    return sorted(pid for pid, command in named.items() if "spawn_main" in command)


def runs(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().split()[2] != "Z"
    except OSError:
        return False


def begin(*words, **program):
    """A process of the runner, which does not outlive its test."""
    STARTED.append(start(*words, **program))
    return STARTED[-1]


@pytest.fixture(autouse=True)
def nothing_left():
    yield
    for process in STARTED:
        for pid in [process.pid, *workers(process)] if process.poll() is None else ():
            os.kill(pid, signal.SIGKILL)
    STARTED.clear()


def at_work(*words):
    """A run that is at work, and its ranks."""
    process = begin(*ENDLESS, "log_every=4st", *words, "hydra.run.dir=run")
    wait_for(lambda: saved("run"), process)
    return process, workers(process)


def end_of(process, pids, began):
    """What was printed, once the run and all of its processes have ended soon."""
    message, _ = process.communicate(timeout=SOON)
    while any(map(runs, pids)):
        assert time.monotonic() < began + SOON, "a process is left behind"
        time.sleep(0.05)
    return message


def numbers(folder):
    """Rows of metrics.jsonl, but for what depends on the clock."""
    rows = read_rows(Path(folder) / "metrics.jsonl")
    return [{k: v for k, v in row.items() if k != "time" and not k.startswith("speed/")} for row in rows]


def torchrun(*options, words=WORDS):
    program = (*TORCHRUN, *options, "-m", "ssl_runner")
    return begin(*words, program=program)


def plant(action):
    """A regulariser of one's own whose fifth step, in process 1, does this."""
    lines = ["import os, sys, time", "from ssl_runner.regulariser.l2 import L2", "class Mine(L2):", "    steps = 0"]
    lines += ["    def forward(self, loss, pretext):", "        self.steps += 1"]
    lines += ["        if self.steps == 5 and os.environ.get('RANK') == '1':", f"            {action}"]
    put("mine_of_processes.py", "\n".join([*lines, "        return super().forward(loss, pretext)", ""]))
    put("pyproject.toml", '[tool.ssl_runner]\ntrust = ["mine_of_processes"]\n')


@pytest.fixture(scope="module")
def two(tmp_path_factory):
    """A run of two processes; nothing may be written into it."""
    folder = tmp_path_factory.mktemp("two") / "run"
    assert main([*WORDS, "device.processes=2", f"hydra.run.dir={folder}"]) == 0
    return folder


@pytest.mark.slow(one_in=48)
def test_two_processes_end_in_the_numbers_of_one(two, capsys):
    assert "running" not in enter(capsys, [*WORDS, "hydra.run.dir=one"])
    ours, theirs = numbers(two), numbers("one")
    assert [row.keys() for row in ours] == [row.keys() for row in theirs]
    for mine, other in zip(ours, theirs, strict=True):
        within = {name: 1e-2 if name == "optimizer/gradient_norm" else 1e-4 for name in mine}  # float32; it is a sum
        far = [name for name in mine if not math.isclose(mine[name], other[name], rel_tol=within[name], abs_tol=1e-6)]
        assert not far, [(name, mine[name], other[name]) for name in far]
    assert summary(two)["final"] == pytest.approx(summary("one")["final"], rel=1e-4)
    assert {each.name.partition(".events")[0][:10] for each in two.iterdir()} == {
        each.name.partition(".events")[0][:10] for each in Path("one").iterdir()
    }, "one process writes what one process writes"
    assert (two / "run.log").read_text().count("run folder: ") == 1


@pytest.mark.slow(one_in=48)
def test_a_share_of_the_model_ends_in_the_numbers_of_the_whole(two, capsys):
    """FSDP: its checkpoint and its encoder are ordinary files, and one process goes on."""
    assert main([*WORDS, "device.processes=2", "device.strategy=fsdp", "hydra.run.dir=shared"]) == 0
    final = summary(two)["final"]
    assert summary("shared")["final"] == pytest.approx(final, rel=1e-3)
    wanted = load_file(two / "encoder.safetensors")
    for name, each in load_file("shared/encoder.safetensors").items():
        torch.testing.assert_close(each, wanted[name], rtol=1e-3, atol=1e-3)
    enter(capsys, "resume shared length=20st device.processes=1", "resumed at step")


@pytest.mark.slow(one_in=48)
def test_torchrun_on_one_node_and_on_two_gives_the_same_bits(two):
    first = torchrun("--nproc-per-node=2", words=[*WORDS, "hydra.run.dir=one"])
    assert "run folder:   one" in first.communicate(timeout=200)[0]
    place = (
        "--nnodes=2",
        "--nproc-per-node=1",
        "--master-addr=127.0.0.1",
        f"--master-port={20_000 + os.getpid() % 9999}",
    )
    nodes = [torchrun(*place, f"--node-rank={rank}", words=[*WORDS, "hydra.run.dir=both"]) for rank in (1, 0)]
    printed = [each.communicate(timeout=200)[0] for each in nodes]
    assert "run folder:   both" in printed[1]
    assert not printed[0].strip(), "the second node is silent"
    for folder in ("one", "both"):
        assert numbers(folder) == numbers(two)
        assert Path(folder, "encoder.safetensors").read_bytes() == (two / "encoder.safetensors").read_bytes()


@pytest.mark.slow(one_in=48)
def test_a_refusal_under_torchrun_is_said_once_and_begins_nothing():
    process = torchrun("--nproc-per-node=2", words=[*WORDS, "batch_size=13", "hydra.run.dir=run"])
    message, _ = process.communicate(timeout=120)
    assert message.count("ssl-runner: a problem, nothing was started") == 1, message
    assert "batch_size: given 13, which 2 processes cannot share; type batch_size=12 or batch_size=14" in message
    assert message.count("exitcode  : 2") >= 1
    assert not Path("run").exists()


def test_what_several_processes_cannot_do_is_refused(capsys):
    refusal(capsys, [*WORDS, "device.processes=5"], "batch_size: given 12", "batch_size=10 or batch_size=15")
    refusal(
        capsys, [*WORDS, "device.processes=2", "accumulate=4"], "with accumulate=4", "batch_size=8 or batch_size=16"
    )
    refusal(capsys, [*WORDS, "device.processes=2", "device.compile=reduce-overhead"], "device.compile=true")
    refusal(capsys, [*WORDS, "device.processes=2", "device.strategy=fsdp", "device.precision=fp16"], "type bf16")


@pytest.mark.slow(one_in=48)
def test_a_killed_process_ends_the_run_in_seconds_which_goes_on_with_fewer():
    process, pids = at_work("device.processes=3")
    assert len(pids) == 3
    began = time.monotonic()
    os.kill(pids[1], signal.SIGKILL)
    message = end_of(process, pids, began)
    assert process.returncode == 1
    error = "process 1 of 3 was killed by signal 9"
    assert (summary("run")["status"], summary("run")["error"]) == ("failed", error)
    assert f"{error}; the newest checkpoint is " in message
    assert "ssl-runner resume" in message
    log = Path("run/run.log").read_text()
    assert error in log
    assert all(f"process {rank} of 3, at step" in log for rank in (0, 2)), "of the others as well"
    reached = saved("run")[-1]
    assert main(["resume", "run", "device.processes=2", f"length={reached + 8}st"]) == 0
    assert f"resumed at step {reached} of" in Path("run/run.log").read_text()
    assert (summary("run")["status"], summary("run")["error"]) == ("completed", None)


@pytest.mark.slow(one_in=48)
def test_with_restarts_all_begin_again_from_the_newest_checkpoint():
    process = begin(*WORDS, "length=60st", "device.processes=2", "device.restarts=1", "hydra.run.dir=run")
    wait_for(lambda: saved("run"), process)
    os.kill(workers(process)[0], signal.SIGKILL)
    message, _ = process.communicate(timeout=120)
    assert process.returncode == 0, message
    assert "from the newest checkpoint (restart 1)" in Path("run/run.log").read_text()
    assert "resumed at step" in message
    assert summary("run")["status"] == "completed"


@pytest.mark.slow(one_in=48)
@pytest.mark.parametrize("whose", ["parent", 1])
def test_a_signal_to_any_process_saves_once_and_ends(whose):
    process, pids = at_work("device.processes=2")
    began = time.monotonic()
    os.kill(process.pid if whose == "parent" else pids[whose], signal.SIGTERM)
    message = end_of(process, pids, began)
    assert process.returncode == 128 + signal.SIGTERM, message
    assert (summary("run")["status"], summary("run")["step"]) == ("interrupted", saved("run")[-1])
    assert message.count("ssl-runner resume") == 1
    assert not Path("run/run.log").read_text().count("ERROR")


@pytest.mark.slow(one_in=48)
def test_processes_end_with_their_parent_and_leave_the_folder_free():
    process, pids = at_work("device.processes=2")
    began = time.monotonic()
    process.kill()
    end_of(process, pids, began)
    assert (summary("run")["status"], summary("run")["step"]) == ("interrupted", saved("run")[-1])
    assert not held(Path("run"))


@pytest.mark.slow(one_in=48)
def test_an_exception_of_one_process_is_in_the_log_and_the_summary(monkeypatch):
    plant("raise ValueError(f'planted, hydra: {\"hydra\" in sys.modules}')")
    monkeypatch.setenv("PYTHONPATH", f"{Path.cwd()}{os.pathsep}{os.environ.get('PYTHONPATH', '')}")
    process = begin(*WORDS, *MINE, "device.processes=2", "hydra.run.dir=run")
    message, _ = process.communicate(timeout=120)
    assert process.returncode == 1
    error = "process 1 of 2, at step 4: ValueError: planted, hydra: False"
    assert summary("run")["error"] == error, "and a worker has not imported Hydra"
    assert error in message
    log = Path("run/run.log").read_text()
    assert "ERROR   process 1: the run failed" in log
    assert 'mine_of_processes.py", line 8, in forward' in log
    assert saved("run") == [4]


@pytest.mark.slow(one_in=48)
def test_a_process_that_hangs_ends_the_run_by_the_time_out(monkeypatch):
    plant("time.sleep(1000)")
    monkeypatch.setenv("PYTHONPATH", f"{Path.cwd()}{os.pathsep}{os.environ.get('PYTHONPATH', '')}")
    process = begin(*WORDS, *MINE, "device.processes=2", "device.timeout=10", "hydra.run.dir=run")
    wait_for(lambda: saved("run"), process)
    pids, began = workers(process), time.monotonic()
    end_of(process, pids, began + 10)
    assert process.returncode == 1
    error = summary("run")["error"]
    assert error.startswith(
        "process 0 of 2, at step 4: another process took no part in it for as long as device.timeout"
    )

"""What a terminal does to a command: it is closed, it stops it with Ctrl-Z, its output is cut by `| head`."""

import itertools
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from conftest import MEASURED_ONCE, TINY
from runs import CLEAN, put, summary, wait_for

from ssl_runner.run_folder.metrics import read_rows

pytestmark = pytest.mark.usefixtures("here")
LONG = [*TINY, "evaluator=none", "length=4000st", "log_every=20st", "save_every=4000st", "hydra.run.dir=run"]
SWEEP = ["-m", *TINY, "evaluator=none", "length=2st", "seed=0,1", "hydra.sweep.dir=sweep"]
SHOWN = 1  # second for which a process is stopped, and more than 20 steps take


def start(*words, **options):
    """A process in a process group of its own, which a terminal could stop."""
    command = [sys.executable, "-m", "ssl_runner", *words]
    piped = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True, "process_group": 0}
    return subprocess.Popen(command, env={**os.environ, **CLEAN}, **{**piped, **options})


def logged():
    return [row for row in read_rows(Path("run/metrics.jsonl")) if "speed/samples_per_second" in row]


@pytest.mark.slow
def test_a_terminal_that_is_closed_saves():
    process = start(*LONG, preexec_fn=lambda: signal.signal(signal.SIGHUP, signal.SIG_DFL))  # also below nohup
    wait_for(logged, process)
    process.send_signal(signal.SIGHUP)
    process.communicate(timeout=60)
    assert (process.returncode, summary("run")["status"]) == (128 + signal.SIGHUP, "interrupted")
    assert Path(f"run/checkpoints/{summary('run')['step']:07d}.pt").exists()


@pytest.mark.parametrize("number", [signal.SIGTSTP, signal.SIGSTOP])
@pytest.mark.slow
def test_a_stop_leaves_no_trace_in_speed_figures(number):
    process = start(*LONG)
    wait_for(lambda: len(logged()) > 2, process)
    for _ in range(3):
        process.send_signal(number)
        assert os.WIFSTOPPED(os.waitpid(process.pid, os.WUNTRACED)[1])
        time.sleep(4 * SHOWN)
        before = len(logged())
        process.send_signal(signal.SIGCONT)
        wait_for(lambda before=before: len(logged()) > before + 1, process)
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=60)
    rows = logged()
    windows = [20 * 16 / row["speed/samples_per_second"] for row in rows]
    assert max(windows) < 4 * SHOWN
    assert max(b["time"] - a["time"] for a, b in itertools.pairwise(rows)) < 4 * SHOWN
    assert abs(summary("run")["seconds"] - rows[-1]["time"]) < 4 * SHOWN
    assert all(0 <= row["speed/data_wait"] <= 1 for row in rows)


@pytest.mark.slow
def test_output_without_a_reader_ends_nothing():
    commands = {
        "train": [*MEASURED_ONCE, "hydra.run.dir=run"],
        "-m": SWEEP,
        "evaluate": ["evaluate", "run", "knn", "geometry"],
        "compare": ["compare", ".", "--csv"],
        "table": ["compare", "."],
        "export": ["export", "run"],
        "save": ["save", "run", "mine", "--to", "conf"],
        "help": ["--help"],
        "config": ["--cfg", "job"],
    }
    for name, words in commands.items():
        with start(*words) as process:
            process.stdout.readline() if name != "save" else None
            process.stdout.close()
            message = process.stderr.read()
        assert (process.returncode, "Error" in message) == (0, False), (name, message)
    assert summary("run")["status"] == "completed"
    assert [summary(each)["status"] for each in Path("sweep").glob("0*")] == ["completed"] * 2
    assert Path("conf/experiment/mine.yaml").exists()
    put("run/config.yaml", "torn")
    with start("compare", ".") as process:
        process.stdout.close()
        assert "run is left out" in process.stderr.read()
    assert process.returncode == 1


@pytest.mark.slow
@pytest.mark.parametrize("words", [[*TINY, "evaluator=none", "length=2st", "hydra.run.dir=run"], SWEEP])
def test_closed_streams_end_nothing(words):
    """As of `>&- 2>&-`: no file of a run gets their numbers."""
    process = start(*words, preexec_fn=lambda: os.closerange(0, 3), stdout=None, stderr=None)
    assert process.wait(timeout=120) == 0
    assert {summary(path.parent)["status"] for path in Path().rglob("summary.json")} == {"completed"}

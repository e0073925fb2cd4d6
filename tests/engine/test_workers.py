"""Rows read by processes: the same whatever their number, and whatever ends one of them, none is waited for or left."""

import os
import signal
import subprocess
import sys
import time
from itertools import product
from multiprocessing import forkserver
from pathlib import Path

import pytest
import torch
from worker_toys import Numbered, loader

from ssl_runner.data.changed_rows import ChangedRows, draw_seeds
from ssl_runner.data.rows import Subset
from ssl_runner.engine.interrupt import SIGNALS

STEPS = (0, 1, 2, 2, 6, 7, 8, 3, 4, 12)  # once more, over the end of an epoch, elsewhere, beyond the last


def taken(rows, steps=STEPS, **how):
    each = loader(rows, **how)
    batches = [batch for step in steps for batch in each.batches(step)]
    processes = list(each._workers.processes) if each._workers else []
    assert len(processes) == getattr(rows, "processes", 0)
    each.close()
    assert not any(process.is_alive() for process in processes)
    return batches


@pytest.mark.parametrize("processes", [1, 3])
def test_any_number_of_processes_reads_the_same(processes, monkeypatch):
    monkeypatch.setattr("ssl_runner.engine.workers.LEAST", 3)  # a step of 8 rows in parts
    wanted = taken(Numbered().__getitem__(torch.arange(50)), accumulate=2)  # a tensor: no process
    read = taken(Numbered(processes=processes), accumulate=2)
    torch.testing.assert_close(read, wanted, rtol=0, atol=0)
    assert all((batch.x[:, 0, 0, 0] * 255).round().long().tolist() == batch.index.tolist() for batch in read)


def test_rows_of_rows_are_read_by_processes_and_a_set_that_fits_is_not_made_resident():
    rows, index = Numbered(), torch.arange(0, 50, 2)
    changed = ChangedRows(Subset(rows, index), draw_seeds(25, torch.Generator()), "noise", 3, 0.0, "pixels")
    for each in (Subset(rows, index), changed):
        assert loader(each).resident is None
        (batch,) = taken(each, [1], epochs=1.0)
        torch.testing.assert_close((batch.x * 255).round().to(torch.uint8), each[batch.index], rtol=0, atol=0)
    assert not hasattr(Subset(torch.zeros(3, 1, 1, 1), torch.arange(2)), "processes")


def test_no_step_beyond_the_last_is_read():
    each = loader(Numbered(), epochs=1.0)
    each.batches(0)
    assert [len(part) for part in each._workers.steps] == [8] * 6
    each.close()


ENDS = {
    "killed": (ChildProcessError, r"SIGKILL.*memory.*dataset\.workers=N"),
    "refused": (ValueError, r"^a remedy$"),
    "broken": (KeyError, r"Caught KeyError in DataLoader worker"),
}


@pytest.mark.parametrize("how", ENDS)
def test_what_ends_a_process_is_an_error_with_its_reason(how):
    error, words = ENDS[how]
    each, started = loader(Numbered(bad=13, how=how)), time.monotonic()
    with pytest.raises(error, match=words):
        [each.batches(step) for step in range(12)]
    processes = each._workers.processes
    each.close()
    assert time.monotonic() - started < 30
    assert not any(process.is_alive() for process in processes)


def test_what_a_process_logs_is_in_the_log(caplog):
    taken(Numbered(bad=13), range(6))
    assert caplog.messages == ["row 13 is odd"]


def test_a_signal_to_all_processes_ends_none_of_those_that_read():
    """As Ctrl-C, or a scheduler that ends a job: the process that trains has a step to finish, and to save."""
    each = loader(Numbered(), epochs=4.0)
    read = [each.batches(step) for step in range(6)]  # both are at work
    pids = [forkserver._forkserver._forkserver_pid, *(process.pid for process in each._workers.processes)]
    for pid, number in product(pids, SIGNALS):
        os.kill(pid, number)
    read += [each.batches(step) for step in range(6, 24)]
    assert len(read) == 24
    time.sleep(0.3)
    assert os.waitpid(pids[0], os.WNOHANG) == (0, 0), "the server is gone, and with it what becomes of the others"
    each.close()


ENDLESS = """
import sys, time
from worker_toys import Numbered, loader
if __name__ == "__main__":
    each = loader(Numbered())
    each.batches(0)
    print(*(process.pid for process in each._workers.processes), flush=True)
    {then}
"""


def gone(*pids, seconds=20):
    end = time.monotonic() + seconds
    while time.monotonic() < end and any(Path(f"/proc/{pid}").exists() for pid in pids):
        time.sleep(0.05)
    return not any(Path(f"/proc/{pid}").exists() for pid in pids)


@pytest.mark.slow
@pytest.mark.parametrize("then", ["time.sleep(600)", "sys.exit()", "raise KeyboardInterrupt"])
def test_no_process_outlives_the_one_that_trains(tmp_path, then):
    """It is killed outright, or ends without closing anything."""
    (tmp_path / "endless.py").write_text(ENDLESS.format(then=then))
    path = os.pathsep.join([str(Path(__file__).parents[1]), *filter(None, [os.environ.get("PYTHONPATH")])])
    command, environment = [sys.executable, str(tmp_path / "endless.py")], {**os.environ, "PYTHONPATH": path}
    process = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    pids = process.stdout.readline().split()
    assert len(pids) == 2
    if "sleep" in then:
        assert all(Path(f"/proc/{pid}").exists() for pid in pids)
        process.send_signal(signal.SIGKILL)
    process.communicate(timeout=30)
    assert gone(*pids)


def held_bytes(pids):
    """Memory of processes that is of no file: libraries are mapped by whatever else runs."""
    lines = [line for pid in pids for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()]
    return sum(int(line.split()[1]) for line in lines if line.startswith("Anonymous:")) * 1024


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/smaps_rollup").exists(), reason="needs Linux")
def test_memory_stays_flat_over_epochs():
    each, held = loader(Numbered(n=4000, side=16), batch_size=200, epochs=40.0), []
    for step in range(600):
        each.batches(step)
        if step % 200 == 199:
            held.append(held_bytes([os.getpid(), *(process.pid for process in each._workers.processes)]))
    each.close()
    assert held[-1] - held[0] < 30_000_000, held  # the rows of these 400 steps are 61 MB

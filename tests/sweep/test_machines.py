"""A sweep over two machines with one ledger: Slurm's array and a Ray cluster, killed in the midst and gone on with."""

import contextlib
import json
import os
import sys
from pathlib import Path

import pytest
from conftest import tiny
from machines import HOST, install, ray_nodes
from runs import jobs_of, measured, start, summary, wait_for

from ssl_runner.run_folder.layout import WEIGHTS

SWEEP = Path("sweep")
JOBS = tiny("evaluator=none", "pretext=rotation", "length=200st", "save_every=10st", "log_every=10st")
HOSTS = {"host-0", "host-1"}


@pytest.fixture
def machines(tmp_path, monkeypatch, here):
    """The words by which a sweep runs on two machines."""
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(filter(None, sys.path)))
    with contextlib.ExitStack() as stack:

        def build(launcher):
            pytest.importorskip(launcher.partition("_")[0])
            if launcher == "submitit_slurm":
                install(tmp_path / "slurm", monkeypatch)
                return ["hydra/launcher=submitit_slurm", "hydra.launcher.array_parallelism=2"]
            address = stack.enter_context(ray_nodes(monkeypatch))
            return ["hydra/launcher=ray", f"hydra.launcher.ray.init.address={address}"]

        yield build


def statuses():
    return [summary(file.parent)["status"] for file in SWEEP.glob("*/summary.json")]


@pytest.mark.slow
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="processes are found in /proc")
@pytest.mark.parametrize("launcher", ["submitit_slurm", "ray"])
def test_a_sweep_over_two_machines_that_was_killed_goes_on(launcher, machines):
    words = machines(launcher)
    sweep = start("-m", *JOBS, "seed=0,1,2,3", "hydra.sweep.dir=sweep", *words)
    wait_for(lambda: "completed" in statuses() and "running" in statuses(), sweep)
    sweep.kill()
    sweep.communicate()
    done = {file.parent for file in SWEEP.glob("*/summary.json") if summary(file.parent)["status"] == "completed"}
    before = {folder: (folder / WEIGHTS).stat().st_mtime_ns for folder in done}
    assert 0 < len(done) < 4
    sweep = start("-m", "sweep.resume=sweep", *words)
    output = sweep.communicate(timeout=200)[0]
    assert (sweep.returncode, jobs_of("status")) == (0, ["completed"] * 4), output
    assert {folder: (folder / WEIGHTS).stat().st_mtime_ns for folder in done} == before, (
        "what is done is not done again"
    )
    folders = [SWEEP / name for name in jobs_of("folder")]
    assert all([step for step, _ in measured(folder, "train/loss")] == [*range(10, 201, 10)] for folder in folders)
    hosts = [json.loads((folder / "environment.json").read_text())["host"] for folder in folders]
    assert {*hosts} == HOSTS or not HOST, "each machine has run some"
    assert {folder.name for folder in SWEEP.iterdir() if folder.is_dir()} - {".submitit"} == {*jobs_of("folder")}

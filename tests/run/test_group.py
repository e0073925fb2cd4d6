"""Processes that were started together: what torchrun and Slurm tell them, and whether they see the same folder."""

from pathlib import Path

import pytest
import torch.distributed as dist
from torch import multiprocessing

from ssl_runner.device.agreement import Agreement
from ssl_runner.device.torchrun import first_host, group_size, group_variables
from ssl_runner.errors import Refused
from ssl_runner.run import group

STEP = {
    "SLURM_PROCID": "3",
    "SLURM_LOCALID": "1",
    "SLURM_STEP_NUM_TASKS": "4",
    "SLURM_JOB_ID": "77",
    "SLURM_STEP_ID": "0",
}


def test_variables_of_torchrun_and_of_a_step_of_slurm():
    assert group_variables({}) == {}
    assert group_variables({"RANK": "0", "WORLD_SIZE": "1"}) == {}
    assert group_size({"RANK": "1", "WORLD_SIZE": "8", "SLURM_STEP_NUM_TASKS": "2"}) == 8
    variables = group_variables({**STEP, "SLURM_STEP_NODELIST": "gpu[07-08],login"})
    assert variables.pop("MASTER_PORT") == group_variables({**STEP, "SLURM_STEP_NODELIST": "x"})["MASTER_PORT"]
    assert variables == {"RANK": "3", "LOCAL_RANK": "1", "WORLD_SIZE": "4", "MASTER_ADDR": "gpu07"}
    assert group_size({**STEP, "SLURM_STEP_NUM_TASKS": "1"}) == 1
    assert group_size({"SLURM_PROCID": "0", "SLURM_NTASKS": "4"}) == 1, "the script of a job is no task of a step"


@pytest.mark.parametrize(
    ("hosts", "first"),
    [("a", "a"), ("a,b", "a"), ("gpu[07-09,12],z", "gpu07"), ("n-1-[3,5]", "n-1-3"), ("rack2n[10]", "rack2n10")],
)
def test_first_host(hosts, first):
    assert first_host(hosts) == first


def work(rank: int, folder: Path) -> None:
    dist.init_process_group("gloo", init_method=f"file://{folder / 'meet'}", rank=rank, world_size=3)
    group.LISTING = 0.5
    for apart in (False, True):
        token = folder / f"node{rank if apart else 0}" / "token"
        if rank == 0:
            token.touch()
        dist.barrier()
        try:
            group.require_shared(token)
            said = "shared"
        except Refused as reason:
            said = str(reason)
        (folder / f"{rank}-{apart}").write_text(said)
        dist.barrier()
    agreement = Agreement(30.0)
    given = [0, 0, 15 * (rank == 1), 2 * (rank == 2), 0, 0]
    (folder / f"{rank}-agreed").write_text(str([agreement.largest(each) for each in given]))
    dist.barrier()
    dist.destroy_process_group()


@pytest.mark.slow
def test_ranks_agree_a_step_later_and_refuse_a_folder_that_one_does_not_see(tmp_path):
    for node in range(3):
        (tmp_path / f"node{node}").mkdir()
    multiprocessing.spawn(work, (tmp_path,), 3)
    for rank in range(3):
        assert (tmp_path / f"{rank}-False").read_text() == "shared"
        said = (tmp_path / f"{rank}-True").read_text()
        assert said.startswith("run folder: ")
        assert "hydra.run.dir=/shared/RUN" in said
        assert (tmp_path / f"{rank}-agreed").read_text() == "[0, 0, 0, 15, 2, 0]"
    assert not list(tmp_path.glob("node*/token"))


def test_a_process_alone_agrees_with_itself_at_once():
    assert [Agreement(1.0).largest(each) for each in (0, 15)] == [0, 15]
    assert not dist.is_initialized()

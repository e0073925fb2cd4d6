"""Variables by which torchrun tells a process of its group; under srun, derived from Slurm's. No torch."""

import re
from collections.abc import Mapping

PORTS = range(20_000, 30_000)  # below those that a kernel gives away by itself


def group_variables(environ: Mapping[str, str]) -> dict[str, str]:
    """RANK, LOCAL_RANK, WORLD_SIZE and where they meet, if several processes were started together; empty if not.

    Of Slurm, the step's number of tasks counts: in the script of a job, outside srun, there is one process.
    """
    if int(environ.get("WORLD_SIZE", 1)) > 1 and "RANK" in environ:
        return {name: environ[name] for name in ("RANK", "WORLD_SIZE")}
    if int(environ.get("SLURM_STEP_NUM_TASKS", 1)) < 2 or "SLURM_PROCID" not in environ:
        return {}
    step = int(environ.get("SLURM_JOB_ID", 0)) * 31 + int(environ.get("SLURM_STEP_ID", 0))
    return {
        "RANK": environ["SLURM_PROCID"],
        "LOCAL_RANK": environ["SLURM_LOCALID"],
        "WORLD_SIZE": environ["SLURM_STEP_NUM_TASKS"],
        "MASTER_ADDR": environ.get("MASTER_ADDR") or first_host(environ["SLURM_STEP_NODELIST"]),
        "MASTER_PORT": environ.get("MASTER_PORT") or str(PORTS[step % len(PORTS)]),
    }


def group_size(environ: Mapping[str, str]) -> int:
    """How many processes were started together with this one; 1 if it is alone."""
    return int(group_variables(environ).get("WORLD_SIZE", 1))


def first_host(hosts: str) -> str:
    """`gpu07` of Slurm's `gpu[07-09,12],login1`."""
    prefix, bracket, numbers = re.split(r"(\[|,|$)", hosts, maxsplit=1)
    return prefix + re.split(r"[-,\]]", numbers)[0] if bracket == "[" else prefix

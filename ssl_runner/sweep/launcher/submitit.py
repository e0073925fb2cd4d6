"""Slurm by submitit: one array of jobs, which save and are queued again when they are preempted or out of time."""

import logging
import secrets
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, ClassVar

from ssl_runner.errors import Refused, one_line
from ssl_runner.layers.ranges import Count, Natural, NotNegative
from ssl_runner.sweep.dispatch import LOOK
from ssl_runner.sweep.launcher.remote import RemoteLauncher
from ssl_runner.sweep.worker import Task

ENDING = 10.0  # seconds for the processes that watch over jobs of this machine to end
SHARED = ("timeout_min", "gpus_per_node", "cpus_per_task", "mem_gb", "name", "stderr_to_stdout")  # not of Slurm alone


class Checkpointable(Task):
    """A task that submitit can queue again."""

    def checkpoint(self) -> Any:
        from submitit.helpers import DelayedSubmission

        return DelayedSubmission(self)

    def requeue(self, number: int) -> None:
        from submitit import JobEnvironment

        try:
            signal.raise_signal(signal.Signals[f"SIG{JobEnvironment.USR_SIG}"])  # submitit's own handler does it
        except Exception as error:
            print(f"not queued again: {error}", file=sys.stderr)


@dataclass(kw_only=True)
class Local(RemoteLauncher):
    """Slurm's way without Slurm, on this machine. Settings are explained in conf/hydra/launcher/."""

    program = "submitit"
    task = Checkpointable
    cluster: ClassVar[str] = "local"
    on_this_machine = True
    handles: ClassVar[Sequence[Any]] = ()
    timeout_min: Count
    gpus_per_node: Natural | None
    stderr_to_stdout: bool

    def submit(self, tasks: Sequence[Task]) -> Sequence[Any]:
        import submitit

        logging.getLogger("submitit").setLevel(logging.ERROR)
        # A folder that is new: what lies in it is unpickled, and in an old one might be somebody else's.
        logs = self.sweep / ".submitit" / secrets.token_hex(4) / "%j"
        settings = {key if key in SHARED else f"slurm_{key}": value for key, value in asdict(self).items()}
        limit = settings.pop("slurm_max_num_timeout", 3)
        # What is started here inherits that Ctrl-C is blocked: it is for the sweep, which says when to halt.
        before = signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGINT])
        try:
            executor = submitit.AutoExecutor(logs, cluster=self.cluster, slurm_max_num_timeout=limit)
            given = {key: value for key, value in settings.items() if value is not None}
            executor.update_parameters(nodes=1, tasks_per_node=1, **given)
            handles = executor.submit_array(tasks)
        except (RuntimeError, OSError, subprocess.SubprocessError) as error:
            raise Refused(f"{self.program}: {one_line(error)}") from None
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)
        self.handles = [*self.handles, *handles]  # type: ignore[misc]
        return handles

    def cancel(self, handles: Sequence[Any]) -> None:
        """A job of this machine that begins sees at once that it should not."""

    def close(self) -> None:
        """Leaves no process behind on this machine that has only to end."""
        super().close()
        until = time.monotonic() + ENDING
        while self.on_this_machine and not all(each.done() for each in self.handles) and time.monotonic() < until:
            time.sleep(LOOK / 10)


@dataclass(kw_only=True)
class Slurm(Local):
    """A Slurm cluster. Most settings are those of sbatch."""

    cluster = "slurm"
    on_this_machine = False
    max_num_timeout: Natural
    signal_delay_s: Count
    array_parallelism: Count
    cpus_per_task: Count | None
    mem_gb: NotNegative | None
    name: str
    partition: str | None
    account: str | None
    qos: str | None
    constraint: str | None
    exclude: str | None
    gres: str | None
    comment: str | None
    cpus_per_gpu: Count | None
    gpus_per_task: Natural | None
    mem_per_gpu: str | None
    mem_per_cpu: str | None
    setup: list[str] | None
    additional_parameters: dict[str, bool | int | float | str | None]

    def cancel(self, handles: Sequence[Any]) -> None:
        subprocess.run(["scancel", *(each.job_id for each in handles)], stderr=subprocess.DEVNULL, check=False)

"""A run carried out again from its own config, with a word about all that is not as it was."""

import dataclasses
import logging
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from rich.console import Console

from ssl_runner.config.check import Node
from ssl_runner.contract import Data, Dataset
from ssl_runner.errors import Refused
from ssl_runner.run.begin import begin
from ssl_runner.run.job import Job
from ssl_runner.run.resume import recorded_job
from ssl_runner.run_folder.claim import check_free, claim_new
from ssl_runner.run_folder.claim import claim as make
from ssl_runner.run_folder.environment import changes, describe

log = logging.getLogger("ssl_runner")


def rerun(old: Path, to: Path | None, console: Console) -> tuple[int, Path]:
    """Runs a folder's job again, in `to` or a folder beside other runs, and returns the exit status and the folder.

    Nothing is written below `old`. Raises Refused where it holds no run, or one that this version cannot read.
    """
    job, content, overrides = recorded_job(old)
    made: list[Path] = []

    def claim() -> Path:
        name = "-".join(job.choices.get(group, group) for group in ("pretext", "dataset"))
        made.append(claim_new(Path("outputs") / name) if to is None else make(to))
        return made[0]

    if to is not None:
        if to.resolve().is_relative_to(old.resolve()):
            raise Refused(f"run folder: {to} lies in the folder of the run, which is left as it is; name another one")
        check_free(to)  # now, and not after the data is read
    told = dataclasses.replace(job, dataset=Node(lambda: Told(job.dataset.build(), partial(warn, old, job))))
    return begin(told, content, overrides, claim, console), made[0]


@dataclass
class Told:
    """A dataset that tells what it has read before the run begins."""

    dataset: Dataset
    tell: Callable[[Data], None]

    def __post_init__(self) -> None:
        self.samples, self.rows = self.dataset.samples, self.dataset.rows

    def load(self) -> Data:
        data = self.dataset.load()
        self.tell(data)
        return data


def warn(old: Path, job: Job, data: Data) -> None:
    """Says on the console and in the new run's log what is not as it was."""
    placement = job.device.build()
    placement.apply()  # it sets the number of threads, as the run will
    with tempfile.TemporaryDirectory() as folder:
        describe(Path(folder), device=str(placement), fingerprint=data.fingerprint)
        changed = changes(old, Path(folder))
    device = placement.device.type
    if device != "cpu" and not placement.deterministic:
        changed.append(f"device.deterministic is false, and without it two runs on {device} are never the same")
    if changed:
        log.warning("not as it was, so the numbers may differ:\n%s", "\n".join(f"  {line}" for line in changed))
    else:
        log.info("code, versions, data, device and threads are as they were")

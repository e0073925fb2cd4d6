"""A run carried out again from its own config, with a word about all that is not as it was."""

import dataclasses
import logging
import re
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from rich.console import Console

from ssl_runner import config
from ssl_runner.contract import Data, Dataset
from ssl_runner.engine import folder as folders
from ssl_runner.engine.checkpoint import read_json
from ssl_runner.job import Job
from ssl_runner.job import read as read_job
from ssl_runner.run import Refused, begin
from ssl_runner.schema import Node

log = logging.getLogger("ssl_runner")


def rerun(old: Path, to: Path | None, console: Console) -> tuple[int, Path]:
    """Runs a folder's job again, in `to` or a folder beside other runs, and returns the exit status and the folder.

    Nothing is written below `old`. Raises Refused where it holds no run, or one that this version cannot read.
    """
    job, content, overrides = recall(old)
    made: list[Path] = []

    def claim() -> Path:
        name = "-".join(job.choices.get(group, group) for group in ("pretext", "dataset"))
        made.append(folders.claim_new(Path("outputs") / name) if to is None else folders.claim(to))
        return made[0]

    if to is not None:
        if to.resolve().is_relative_to(old.resolve()):
            raise Refused(f"run folder: {to} lies in the folder of the run, which is left as it is; name another one")
        try:
            folders.check_free(to)  # now, and not after the data is read
        except (folders.Occupied, OSError) as error:
            raise Refused(f"run folder: {error}") from None
    told = dataclasses.replace(job, dataset=Node(lambda: Told(job.dataset.build(), partial(warn, old, job))))
    return begin(told, content, overrides, claim, console), made[0]


def recall(folder: Path) -> tuple[Job, dict[str, Any], list[str]]:
    """The job of a run folder, its config and what its user typed. Raises Refused with all that is wrong with it."""
    path = folder / "config.yaml"
    try:
        if not path.is_file():
            raise Refused(f"{folder} holds no run: there is no config.yaml in it")
        content = config.read(path)
        typed = config.read(folder / "overrides.yaml", list) if (folder / "overrides.yaml").exists() else []
    except (OSError, ValueError) as error:
        raise Refused(str(error)) from None
    job, problems = read_job(content)
    if job is None or problems:
        raise Refused("\n".join(f"{path}: {line}" for line in problems))
    return job, content, [str(each) for each in typed]


@dataclass
class Told:
    """A dataset that tells what it has read before the run begins."""

    dataset: Dataset
    tell: Callable[[Data], None]

    def __post_init__(self) -> None:
        self.shape, self.rows = self.dataset.shape, self.dataset.rows

    def load(self) -> Data:
        data = self.dataset.load()
        self.tell(data)
        return data


def warn(old: Path, job: Job, data: Data) -> None:
    """Says on the console and in the new run's log what is not as it was."""
    placement = job.device.build()
    placement.apply()  # it sets the number of threads, as the run will
    with tempfile.TemporaryDirectory() as folder:
        folders.describe(Path(folder), device=str(placement), fingerprint=data.fingerprint)
        changed = changes(old, Path(folder))
    device = placement.device.type
    if device != "cpu" and not placement.deterministic:
        changed.append(f"device.deterministic is false, and without it two runs on {device} are never the same")
    if changed:
        log.warning("not as it was, so the numbers may differ:\n%s", "\n".join(f"  {line}" for line in changed))
    else:
        log.info("code, versions, data, device and threads are as they were")


def changes(old: Path, new: Path) -> list[str]:
    """A line for each thing of which two folders' environment.json, and source.diff, say that it differs."""
    then, now = read_json(old / "environment.json"), read_json(new / "environment.json")
    if not then:
        return [f"{old / 'environment.json'} cannot be read: with what the run was made is not known"]
    a, b = (each.get("versions", {}) for each in (then, now))
    lines = [f"{name} was {a.get(name)}, is {b.get(name)}" for name in {**a, **b} if a.get(name) != b.get(name)]
    if then.get("commit") != now.get("commit"):
        lines.append(f"code was {commit(then)}, is {commit(now)}")
    elif diff(old) != diff(new):
        lines.append(f"uncommitted changes of the code differ: see {old / 'source.diff'} and git diff")
    if then.get("dataset") != now.get("dataset"):
        lines.append(f"fingerprint of the data was {then.get('dataset')}, is {now.get('dataset')}")
    devices = [re.sub(r", \d+ threads$", "", str(each.get("device"))) for each in (then, now)]
    if devices[0] != devices[1]:
        lines.append(f"device was {devices[0]}, is {devices[1]}")
    if then.get("processor") != now.get("processor"):
        lines.append(f"processor was {then.get('processor')}, is {now.get('processor')}, which rounds in another way")
    elif then.get("host") != now.get("host"):
        lines.append(f"host was {then.get('host')}, is {now.get('host')}; another processor may round in another way")
    threads = then.get("threads")
    if threads != now.get("threads"):
        lines.append(
            f"threads were {threads}, are {now.get('threads')}, and sums depend on their number; to have the same: "
            f"OMP_NUM_THREADS={threads} ssl-runner rerun {old}"
        )
    return lines


def commit(environment: Mapping[str, Any]) -> str:
    """`commit 1f3a5b7, with changes`."""
    known = environment.get("commit")
    return f"commit {known[:7]}{', with changes' if environment.get('dirty') else ''}" if known else "a package"


def diff(folder: Path) -> str:
    path = folder / "source.diff"
    return path.read_text(errors="replace") if path.exists() else ""

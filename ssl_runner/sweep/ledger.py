"""Ledger of a sweep, sweep.json: every job by the hash of its sorted overrides, and what has become of it."""

import dataclasses
import hashlib
import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ssl_runner.run_folder.atomic import read_json, write_json
from ssl_runner.run_folder.layout import SWEEP
from ssl_runner.run_folder.summary import read_summary

FORMAT = 1
ENDED = ("completed", "stopped")  # what is not run again


@dataclass
class Entry:
    """A job of a sweep. `status`: waiting, running, completed, failed, refused, interrupted or stopped."""

    number: int
    overrides: list[str]
    folder: str  # its name below the sweep's
    status: str = "waiting"
    attempts: int = 0  # how often a process has begun or gone on with it
    step: int = 0
    steps: int = 0
    seconds: float = 0.0
    final: dict[str, float] = field(default_factory=dict)
    error: str | None = None


class Ledger:
    """The jobs of a sweep's folder. What a run says of itself in its summary.json counts for more than this file."""

    def __init__(self, folder: Path, command: Sequence[str] = ()):
        self.folder, self.command = folder, list(command)
        self.cwd = str(Path.cwd())  # what relative paths in the command start from
        self.began = time.strftime("%Y-%m-%dT%H:%M:%S")
        self.jobs: dict[str, Entry] = {}

    @classmethod
    def open(cls, folder: Path) -> "Ledger":
        """The ledger of a sweep that has begun. Raises ValueError if there is none, or one of a later format."""
        content = read_json(folder / SWEEP)
        if not content:
            raise ValueError(f"{folder} holds no sweep: there is no readable {SWEEP} in it")
        if content.get("format") != FORMAT:
            raise ValueError(f"{folder / SWEEP} has format {content.get('format')}; this version reads format {FORMAT}")
        known = {each.name for each in dataclasses.fields(Entry)}
        try:
            ledger = cls(folder, content["command"])
            ledger.began, ledger.cwd = content["began"], str(content.get("cwd", Path.cwd()))
            for key, entry in content["jobs"].items():
                ledger.jobs[key] = Entry(**{name: value for name, value in entry.items() if name in known})
                if (name := ledger.jobs[key].folder) != Path(name).name:
                    raise TypeError(f"the folder of a job is {name}, which does not lie in it")
        except (AttributeError, KeyError, TypeError) as error:
            raise ValueError(f"{folder / SWEEP} is torn ({error})") from None
        for entry in ledger.jobs.values():
            ledger.refresh(entry)
        return ledger

    def add(self, overrides: list[str], slug: str) -> Entry:
        """The entry of a job: the one that it has already, or a new one with the next number."""
        number = 1 + max((each.number for each in self.jobs.values()), default=-1)
        return self.jobs.setdefault(key_of(overrides), Entry(number, overrides, f"{number:03d}-{slug}"))

    def write(self) -> None:
        """Raises OSError."""
        jobs = {key: dataclasses.asdict(each) for key, each in self.jobs.items()}
        content = {"format": FORMAT, "began": self.began, "cwd": self.cwd, "command": self.command, "jobs": jobs}
        write_json(self.folder / SWEEP, content)

    def refresh(self, entry: Entry) -> None:
        """Takes over what the job's summary.json says; `running` there is what a process that was killed has left."""
        summary = read_summary(self.folder / entry.folder)
        if not summary:
            if entry.status in ("running", *ENDED):  # killed before it had one; or somebody has taken it away
                entry.status = "interrupted"
            return
        status = str(summary.get("status"))
        entry.status = "interrupted" if status == "running" else status
        entry.step, entry.steps = int(summary.get("step") or 0), int(summary.get("steps") or 0)
        entry.seconds, entry.error = float(summary.get("seconds") or 0), summary.get("error")
        entry.final = numbers(summary.get("final"))


def key_of(overrides: Sequence[str]) -> str:
    """Twelve hex digits that depend on what is overridden, in any order."""
    return hashlib.blake2b(json.dumps(sorted(overrides)).encode(), digest_size=6).hexdigest()


def numbers(content: Any) -> dict[str, float]:
    """What is a number of a mapping's values; empty for anything else."""
    pairs = content.items() if isinstance(content, Mapping) else ()
    return {key: each for key, each in pairs if isinstance(each, int | float) and not isinstance(each, bool)}

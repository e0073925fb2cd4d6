"""Ledger of a sweep, sweep.json: every job by the hash of its sorted overrides, with its folder and its status."""

import re
import secrets
import time
from collections.abc import Callable, Container, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, Field, ValidationError, model_validator

from ssl_runner.run_folder.atomic import digest, read_json, write_json
from ssl_runner.run_folder.layout import SWEEP
from ssl_runner.run_folder.summary import ENDED, read_summary

PART = 200  # characters of a folder's name
LONGEST = 60  # characters of a slug
Subfolder = Callable[[list[str], int], str | None]  # a name of a user's own for the folder of a job and its number


def lies_inside(name: str) -> bool:
    """Whether a job's folder lies below its sweep's, and each part of its name is short enough for a file system."""
    parts = Path(name).parts
    return bool(parts) and not Path(name).is_absolute() and ".." not in parts and max(map(len, parts)) <= PART


def check_inside(name: str) -> str:
    if not lies_inside(name):
        raise ValueError(f"the folder of a job is {name}, which does not lie in it")
    return name


class Entry(BaseModel):
    """A job of a sweep. `status`: waiting, running, completed, failed, refused, interrupted or stopped."""

    number: int
    overrides: list[str]
    folder: Annotated[str, AfterValidator(check_inside)]  # its place below the sweep's
    status: str = "waiting"
    attempts: int = 0  # how often a process has begun or gone on with it
    step: int = 0
    steps: int = 0
    seconds: float = 0.0
    final: dict[str, float] = {}
    error: str | None = None


class Ledger(BaseModel):
    """The jobs of a sweep's folder. What a run says of itself in its summary.json counts for more than this file."""

    format: Literal[1] = 1
    identity: str = Field(default_factory=lambda: secrets.token_hex(8))  # what tells its trials in a shared study
    began: str = Field(default_factory=lambda: time.strftime("%Y-%m-%dT%H:%M:%S"))
    cwd: str = Field(default_factory=lambda: str(Path.cwd()))  # what relative paths in the command start from
    command: list[str]
    jobs: dict[str, Entry]
    folder: Path = Field(exclude=True)  # the sweep's

    @model_validator(mode="after")
    def check_jobs(self) -> "Ledger":
        """Each job has a number and a folder of its own, and the key of its overrides."""
        entries = self.jobs.values()
        own = len({each.number for each in entries}) == len({each.folder for each in entries}) == len(self.jobs)
        if not own or any(key != job_key(entry.overrides) for key, entry in self.jobs.items()):
            raise ValueError("its jobs are not those that were written")
        return self

    @classmethod
    def open(cls, folder: Path) -> "Ledger":
        """The ledger of a sweep that has begun. Raises ValueError if there is none, or one of a later format."""
        content = read_json(folder / SWEEP)
        if not content:
            raise ValueError(f"{folder} holds no sweep: there is no readable {SWEEP} in it")
        try:
            ledger = cls(**{**content, "folder": folder})
        except ValidationError as error:
            at, wrong = ".".join(map(str, error.errors()[0]["loc"])), error.errors()[0]["msg"]
            raise ValueError(f"{folder / SWEEP} is torn, or of a later version: {at}: {wrong}") from None
        for entry in ledger.jobs.values():
            ledger.refresh(entry)
        return ledger

    def add(
        self,
        overrides: list[str],
        common: Container[str],
        groups: Container[str],
        subfolder: Subfolder = lambda overrides, number: None,
    ) -> Entry:
        """The entry of a job: the one that it has already, or a new one with the next number."""
        if (key := job_key(overrides)) not in self.jobs:
            number = 1 + max((each.number for each in self.jobs.values()), default=-1)
            name = subfolder(overrides, number) or f"{number:03d}-{slug(overrides, common, groups)}"
            name += f"-{number:03d}" * (name in {each.folder for each in self.jobs.values()})
            self.jobs[key] = Entry(number=number, overrides=overrides, folder=name)
        return self.jobs[key]

    def write(self) -> None:
        """Raises OSError."""
        write_json(self.folder / SWEEP, self.model_dump())

    def refresh(self, entry: Entry) -> dict[str, Any]:
        """Takes over the job's summary.json, and returns it; `running` there is what a killed process has left."""
        summary = read_summary(self.folder / entry.folder)
        if not summary:
            if entry.status in ("running", *ENDED):  # killed before it had one; or somebody has taken it away
                entry.status = "interrupted"
            return summary
        status = summary.get("status", "running")
        entry.status = "interrupted" if status == "running" else status
        entry.step, entry.steps = summary.get("step", 0), summary.get("steps", 0)
        entry.seconds, entry.error = summary.get("seconds", 0.0), summary.get("error")
        entry.final = summary.get("final", {})
        return summary


def job_key(overrides: Sequence[str]) -> str:
    """Twelve hex digits that depend on what is overridden, in any order."""
    return digest(sorted(overrides), 6)


def slug(overrides: Sequence[str], common: Container[str], groups: Container[str]) -> str:
    """What makes a job of a sweep, as part of a folder's name: `simclr-lr-0.003-seed-1`, of at most 60 characters.

    A choice of one of the `groups` stands by itself, a setting behind as much of its key's end as tells it from the
    others. What is `common` to all jobs is left out.
    """
    pairs = [each.lstrip("+~").partition("=")[::2] for each in overrides if each not in common]
    words = []
    for key, value in pairs:
        value = value.replace("e+", "e")  # 1e+30 is no 1e-30
        value = re.sub(r"[^A-Za-z0-9._-]+", "-", value.strip("[]{}()'\" ")).rstrip("-.")
        ends = [key.split(".", dots)[-1] for dots in range(key.count("."), -1, -1)]
        own = (end for end in ends if sum(f".{other}".endswith(f".{end}") for other, _ in pairs) == 1)
        chosen = key.partition("@")[0] in groups and value not in ("", "none", "null")
        words.append(value if chosen else f"{next(own, key)}-{value}")
    while len("-".join(words)) > LONGEST and max(map(len, words)) > 1:
        longest = max(range(len(words)), key=lambda place: len(words[place]))
        words[longest] = words[longest][:-1]  # cut where it is longest, so that every setting is still there
    return re.sub(r"[^A-Za-z0-9._-]+", "-", "-".join(words)[:LONGEST]).strip("-.") or "job"

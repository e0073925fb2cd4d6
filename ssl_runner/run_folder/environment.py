"""Environment of a run (versions, commit, host, device, data), and what has changed since."""

import importlib.metadata
import platform
import re
import shlex
import socket
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from ssl_runner.errors import hide_passwords
from ssl_runner.run_folder.atomic import read_json, read_text, write, write_json
from ssl_runner.run_folder.layout import DIFF, ENVIRONMENT, PROJECT_DIFF
from ssl_runner.run_folder.source import project_source, runner_source

LIBRARIES = ("ssl-runner", "torch", "torchvision", "timm", "numpy", "hydra-core", "omegaconf", "scikit-learn")

PART = re.compile(r"^(?=diff --git |\+\+\+ .*, a new file)", re.MULTILINE)  # of a patch as source.py makes it
CONSEQUENCES = {"processor": ", which rounds in another way", "host": "; another processor may round in another way"}


def describe(
    folder: Path,
    *,
    device: str,
    fingerprint: str,
    start: Path | None = None,
    project: tuple[Path, Sequence[str]] | None = None,
) -> None:
    """Writes environment.json and, if code has uncommitted changes, source.diff and project.diff.

    `start`: the folder from which relative paths of the config start; None for the current one. `project`: of the
    user's own, its folder and what in it a run may depend on.
    """
    commit, diff = runner_source()
    own, own_diff = project_source(*project) if project else (None, "")
    for name, text in ((DIFF, diff), (PROJECT_DIFF, own_diff)):
        if text:
            write(folder / name, text)
    content = {
        "versions": {"python": platform.python_version(), **versions()},
        "commit": commit,
        "dirty": bool(diff) if commit else None,
        "project": project and {"name": project[0].name, "commit": own, "dirty": bool(own_diff) if own else None},
        "host": socket.gethostname(),
        "platform": platform.platform(),
        "device": device,
        "threads": torch.get_num_threads(),
        "processor": torch.backends.cpu.get_cpu_capability(),  # which kernels it takes, and so how sums are rounded
        "argv": shlex.join(map(hide_passwords, sys.argv)),
        "begun": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
        "begun_in": str(start or Path.cwd()),
        "dataset": fingerprint,
    }
    write_json(folder / ENVIRONMENT, content)


def versions() -> dict[str, str]:
    """Of the libraries that a result depends on."""
    installed = {name: [*importlib.metadata.distributions(name=name)][:1] for name in LIBRARIES}
    known = {name: each.version for name, distributions in installed.items() for each in distributions}
    return known | {"torch": str(torch.__version__)}  # with the build, as in +cu130


def changed_versions(before: Mapping[str, Any]) -> list[str]:
    """Versions that are not those of a recorded environment, a line each."""
    recorded = before.get("versions")
    then = recorded if isinstance(recorded, dict) else {}
    return [f"{name} was {then[name]}, is {now}" for name, now in versions().items() if then.get(name, now) != now]


def changed_code(folder: Path, project: tuple[Path, Sequence[str]] | None) -> list[str]:
    """A line for the runner's code, and for the user's own, if they are not those that a run's environment.json has.

    `project`: as in `describe`.
    """
    before = read_json(folder / ENVIRONMENT)
    sources = [("the code", before, DIFF, runner_source())] if before else []
    if project and isinstance(own := before.get("project"), dict):
        sources.append(("your own code", own, PROJECT_DIFF, project_source(*project)))
    lines = []
    for name, then, file, (commit, diff) in sources:
        if then.get("commit") != commit:
            now = commit_of({"commit": commit, "dirty": diff})
            lines.append(f"{name} was {commit_of(then) or 'in no commit'}, is {now or 'in no commit'}")
        elif (recorded := code_of(read_text(folder / file))) != (diff := code_of(diff)):
            what = f"not those of {folder / file}" if recorded and diff else "gone" if recorded else "new"
            lines.append(f"uncommitted changes of {name} are {what}")
    return lines


def code_of(diff: str) -> str:
    """A patch without its configs: a run has recorded its own whole."""
    return "".join(
        part for part in PART.split(diff) if not part.partition("\n")[0].partition(", a new file")[0].endswith(".yaml")
    )


def changes(old: Path, new: Path) -> list[str]:
    """A line for each difference between the environment.json and source.diff of two run folders."""
    then, now = read_json(old / ENVIRONMENT), read_json(new / ENVIRONMENT)
    if not then:
        return [f"{old / ENVIRONMENT} cannot be read: what the run was made with is not known"]
    a, b = facts_of(then), facts_of(now)
    same_code, same_project = (a[name].split(",")[0] == b[name].split(",")[0] for name in ("code", "own code"))
    hidden = ["code"] * same_code + ["own code"] * same_project + ["host"] * (a["processor"] != b["processor"])
    lines = [
        f"{name} was {a.get(name)}, is {b.get(name)}{CONSEQUENCES.get(name, '')}"
        for name in {**a, **b}
        if a.get(name) != b.get(name) and name not in hidden
    ]
    for name, of_what, same in ((DIFF, "the code", same_code), (PROJECT_DIFF, "your own code", same_project)):
        if same and read_text(old / name) != read_text(new / name):
            lines.append(f"uncommitted changes of {of_what} differ: see {old / name} and git diff")
    if (threads := then.get("threads")) != now.get("threads"):
        command = f"OMP_NUM_THREADS={threads} ssl-runner rerun {old}"
        why = "and sums depend on their number; to have the same: "
        lines.append(f"threads were {threads}, are {now.get('threads')}, {why}{command}")
    return lines


def facts_of(environment: Mapping[str, Any]) -> dict[str, Any]:
    """What a result may depend on, by the words that name it."""
    libraries, own = (environment.get(key) or {} for key in ("versions", "project"))
    return {
        **(libraries if isinstance(libraries, dict) else {}),
        "code": commit_of(environment) or "a package",
        "own code": commit_of(own if isinstance(own, dict) else {}) or "in no commit",
        "fingerprint of the data": environment.get("dataset"),
        "device": re.sub(r", \d+ threads?$", "", str(environment.get("device"))),
        "processor": environment.get("processor"),
        "host": environment.get("host"),
    }


def commit_of(code: Mapping[str, Any]) -> str:
    """`commit 1a8c505, with changes`; empty if it is in none."""
    dirty = ", with changes" if code.get("dirty") else ""
    return f"commit {str(code['commit'])[:7]}{dirty}" if code.get("commit") else ""

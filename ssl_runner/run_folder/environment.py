"""Environment of a run (versions, commit, host, device, data), and what has changed since."""

import importlib.metadata
import platform
import re
import shlex
import socket
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from ssl_runner.errors import hide_passwords
from ssl_runner.run_folder.atomic import read_json, read_text, write, write_json
from ssl_runner.run_folder.layout import DIFF, ENVIRONMENT

LIBRARIES = ("ssl-runner", "torch", "torchvision", "timm", "numpy", "hydra-core", "omegaconf", "scikit-learn")

CONSEQUENCES = {"processor": ", which rounds in another way", "host": "; another processor may round in another way"}


def describe(folder: Path, *, device: str, fingerprint: str, start: Path | None = None) -> None:
    """Writes environment.json and, if the code has uncommitted changes, source.diff.

    `start`: the folder from which relative paths of the config start; None for the current one.
    """
    commit, diff = source()
    if diff:
        write(folder / DIFF, diff)
    content = {
        "versions": {"python": platform.python_version(), **versions()},
        "commit": commit,
        "dirty": bool(diff) if commit else None,
        "host": socket.gethostname(),
        "platform": platform.platform(),
        "device": device,
        "threads": torch.get_num_threads(),
        "processor": torch.backends.cpu.get_cpu_capability(),  # which kernels it takes, and so how sums are rounded
        "argv": shlex.join(map(hide_passwords, sys.argv)),
        "begun_in": str(start or Path.cwd()),
        "dataset": fingerprint,
    }
    write_json(folder / ENVIRONMENT, content)


def versions() -> dict[str, str]:
    """Of the libraries that a result depends on."""
    installed = {name: [*importlib.metadata.distributions(name=name)][:1] for name in LIBRARIES}
    known = {name: each.version for name, distributions in installed.items() for each in distributions}
    return known | {"torch": str(torch.__version__)}  # with the build, as in +cu130


def source() -> tuple[str | None, str]:
    """The git commit of the code that runs and its uncommitted changes; (None, "") for an installed package."""
    here = Path(__file__).resolve().parents[2]

    def git(*words: str) -> str:
        command = ["git", "-C", str(here), *words]
        return subprocess.run(
            command, capture_output=True, encoding="utf-8", errors="replace", check=True, timeout=20
        ).stdout

    if not (here / ".git").exists():
        return None, ""
    try:
        commit, diff = git("rev-parse", "HEAD").strip(), git("diff", "HEAD", "--", "ssl_runner", "conf")
        for name in git("ls-files", "--others", "--exclude-standard", "ssl_runner", "conf").splitlines():
            diff += f"+++ {name}, a new file\n{(here / name).read_text(encoding='utf-8', errors='replace')}"
        return commit, diff
    except (OSError, subprocess.SubprocessError):
        return None, ""


def changed_versions(before: Mapping[str, Any]) -> list[str]:
    """Versions that are not those of a recorded environment, a line each."""
    recorded = before.get("versions")
    then = recorded if isinstance(recorded, dict) else {}
    return [f"{name} was {then[name]}, is {now}" for name, now in versions().items() if then.get(name, now) != now]


def changes(old: Path, new: Path) -> list[str]:
    """A line for each difference between the environment.json and source.diff of two run folders."""
    then, now = read_json(old / ENVIRONMENT), read_json(new / ENVIRONMENT)
    if not then:
        return [f"{old / ENVIRONMENT} cannot be read: what the run was made with is not known"]
    a, b = facts_of(then), facts_of(now)
    same_code = then.get("commit") == now.get("commit")
    hidden = ["code"] * same_code + ["host"] * (a["processor"] != b["processor"])
    lines = [
        f"{name} was {a.get(name)}, is {b.get(name)}{CONSEQUENCES.get(name, '')}"
        for name in {**a, **b}
        if a.get(name) != b.get(name) and name not in hidden
    ]
    diffs = [read_text(path) for path in (old / DIFF, new / DIFF)]
    if same_code and diffs[0] != diffs[1]:
        lines.append(f"uncommitted changes of the code differ: see {old / DIFF} and git diff")
    if (threads := then.get("threads")) != now.get("threads"):
        command = f"OMP_NUM_THREADS={threads} ssl-runner rerun {old}"
        why = "and sums depend on their number; to have the same: "
        lines.append(f"threads were {threads}, are {now.get('threads')}, {why}{command}")
    return lines


def facts_of(environment: Mapping[str, Any]) -> dict[str, Any]:
    """What a result may depend on, by the words that name it."""
    commit, dirty, libraries = (environment.get(key) for key in ("commit", "dirty", "versions"))
    return {
        **(libraries if isinstance(libraries, dict) else {}),
        "code": f"commit {str(commit)[:7]}{', with changes' if dirty else ''}" if commit else "a package",
        "fingerprint of the data": environment.get("dataset"),
        "device": re.sub(r", \d+ threads$", "", str(environment.get("device"))),
        "processor": environment.get("processor"),
        "host": environment.get("host"),
    }

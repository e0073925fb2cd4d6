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

from ssl_runner.run_folder.atomic import read_json, write, write_json
from ssl_runner.run_folder.layout import DIFF, ENVIRONMENT

LIBRARIES = ("ssl-runner", "torch", "torchvision", "timm", "numpy", "hydra-core", "omegaconf", "scikit-learn")


def describe(folder: Path, *, device: str, fingerprint: str) -> None:
    """Writes environment.json and, where the code has uncommitted changes, source.diff."""
    commit, diff = source()
    if diff:
        write(folder / DIFF, diff)
    write_json(
        folder / ENVIRONMENT,
        {
            "versions": {"python": platform.python_version(), **versions()},
            "commit": commit,
            "dirty": bool(diff) if commit else None,
            "host": socket.gethostname(),
            "platform": platform.platform(),
            "device": device,
            "threads": torch.get_num_threads(),
            "processor": torch.backends.cpu.get_cpu_capability(),  # which kernels it takes, and so how sums are rounded
            "argv": shlex.join(sys.argv),
            "dataset": fingerprint,
        },
    )


def versions() -> dict[str, str]:
    """Of the libraries that a result depends on."""
    installed = {}
    for library in LIBRARIES:
        try:
            installed[library] = importlib.metadata.version(library)
        except importlib.metadata.PackageNotFoundError:
            continue
    return installed | {"torch": str(torch.__version__)}  # with the build, as in +cu130


def source() -> tuple[str | None, str]:
    """The git commit of the code that runs and its uncommitted changes; (None, "") for an installed package."""
    here = Path(__file__).resolve().parents[2]
    if not (here / ".git").exists():
        return None, ""
    try:
        commit = git(here, "rev-parse", "HEAD").strip()
        diff = git(here, "diff", "HEAD", "--", "ssl_runner", "conf")
        for name in git(here, "ls-files", "--others", "--exclude-standard", "ssl_runner", "conf").splitlines():
            diff += f"+++ {name}, a new file\n{(here / name).read_text(errors='replace')}"
        return commit, diff
    except (OSError, subprocess.SubprocessError):
        return None, ""


def git(folder: Path, *words: str) -> str:
    done = subprocess.run(["git", "-C", str(folder), *words], capture_output=True, text=True, check=True, timeout=20)
    return done.stdout


def changed_versions(before: Mapping[str, Any], fingerprint: str) -> list[str]:
    """Versions and data that are not those of a recorded environment, a line each."""
    recorded = before.get("versions")
    then = {**recorded, "dataset": before.get("dataset")} if isinstance(recorded, dict) else {}
    now = {**versions(), "dataset": fingerprint}
    return [f"{name} was {then[name]}, is {value}" for name, value in now.items() if then.get(name, value) != value]


def changes(old: Path, new: Path) -> list[str]:
    """A line for each difference between the environment.json and source.diff of two run folders."""
    then, now = read_json(old / ENVIRONMENT), read_json(new / ENVIRONMENT)
    if not then:
        return [f"{old / ENVIRONMENT} cannot be read: what the run was made with is not known"]
    a, b = (each.get("versions", {}) for each in (then, now))
    lines = [f"{name} was {a.get(name)}, is {b.get(name)}" for name in {**a, **b} if a.get(name) != b.get(name)]
    if then.get("commit") != now.get("commit"):
        lines.append(f"code was {commit(then)}, is {commit(now)}")
    elif diff_of(old) != diff_of(new):
        lines.append(f"uncommitted changes of the code differ: see {old / DIFF} and git diff")
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


def diff_of(folder: Path) -> str:
    path = folder / DIFF
    return path.read_text(errors="replace") if path.exists() else ""

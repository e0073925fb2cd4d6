"""A run folder of its own for every run, and what is written in it once."""

import contextlib
import fcntl
import importlib.metadata
import platform
import secrets
import shlex
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import torch

from ssl_runner.engine.checkpoint import write, write_json

LIBRARIES = ("ssl-runner", "torch", "torchvision", "timm", "numpy", "hydra-core", "omegaconf", "scikit-learn")


class Occupied(Exception):
    """The folder that was asked for holds a run already."""


def claim(folder: Path) -> Path:
    """Makes a folder that no other run has. Raises Occupied where it has anything in it, OSError as mkdir does."""
    check_free(folder)
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def check_free(folder: Path) -> None:
    """Raises Occupied where a folder cannot be a new run's."""
    for above in folder.parents:
        if above.exists() and not above.is_dir():
            raise Occupied(f"{folder} cannot be made: {above} is a file; name another folder")
    if folder.exists() and not folder.is_dir():
        raise Occupied(f"{folder} is a file; name another folder")
    if folder.exists() and any(folder.iterdir()):
        go_on = f", or continue the run in it: ssl-runner resume {folder}" if (folder / "config.yaml").exists() else ""
        raise Occupied(f"{folder} exists and is not empty; name another folder{go_on}")


def claim_new(parent: Path) -> Path:
    """`parent/2026-01-31_12-00-00-1f3a`: two runs of the same second get different folders."""
    while True:
        folder = parent / f"{time.strftime('%Y-%m-%d_%H-%M-%S')}-{secrets.token_hex(2)}"
        try:
            folder.mkdir(parents=True)
        except FileExistsError:
            continue
        return folder


@contextlib.contextmanager
def locked(folder: Path, wait: bool = False) -> Iterator[None]:
    """Holds a folder for this process; the lock goes with the process, however it ends.

    Where another process holds it: waits, or raises Occupied.
    """
    with (folder / ".lock").open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        except BlockingIOError:
            raise Occupied(f"{folder} is being written by a running process; wait for it or stop it") from None
        yield


def describe(folder: Path, *, device: str, fingerprint: str) -> None:
    """Writes environment.json and, where the code has uncommitted changes, source.diff."""
    commit, diff = source()
    if diff:
        write(folder / "source.diff", diff.encode())
    write_json(
        folder / "environment.json",
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
    found = {}
    for library in LIBRARIES:
        try:
            found[library] = importlib.metadata.version(library)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found | {"torch": str(torch.__version__)}  # with the build, as in +cu130


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

"""Source of a run: the git commit of code and its uncommitted changes, of the runner and of a user's project."""

import subprocess
from collections.abc import Sequence
from functools import cache
from pathlib import Path

MOST = 1_000_000  # bytes of a new file that is recorded whole


@cache
def runner_source() -> tuple[str | None, str]:
    """Of the code that runs, as it was when this was asked first; (None, "") for an installed package."""
    here, places = Path(__file__).resolve().parents[2], ["ssl_runner", "conf"]
    try:
        # Its Python runs already, whoever owns it.
        return committed(here, places, trusted=True) if (here / ".git").exists() else (None, "")
    except (OSError, subprocess.SubprocessError):
        return None, ""


def project_source(folder: Path, places: Sequence[str]) -> tuple[str | None, str]:
    """Of files and folders of a project. If git does not have them, no commit, and all of their text."""
    try:
        if git(folder, "ls-files", "--", *places):
            return committed(folder, places)
    except (OSError, subprocess.SubprocessError):
        pass  # no git, no repository, or one without a commit
    files = [file for place in places for file in (folder / place, *(folder / place).rglob("*"))]
    names = [str(file.relative_to(folder)) for file in sorted(files) if "__pycache__" not in file.parts]
    return None, "".join(new_file(folder, name) for name in names if (folder / name).is_file())


def committed(folder: Path, places: Sequence[str], trusted: bool = False) -> tuple[str, str]:
    """Raises OSError or SubprocessError if git is not to be had, or has no commit."""
    commit = git(folder, "rev-parse", "HEAD", trusted=trusted).strip()
    diff = git(folder, "diff", "HEAD", "--relative", "--", *places, trusted=trusted)
    new = git(folder, "ls-files", "--others", "--exclude-standard", "-z", "--", *places, trusted=trusted)
    return commit, diff + "".join(new_file(folder, name) for name in new.split("\0") if name)


def new_file(folder: Path, name: str) -> str:
    """A file that git does not have, as a patch ends."""
    file = folder / name
    if (size := file.stat().st_size) > MOST:
        return f"+++ {name}, a new file of {size} bytes\n"
    return f"+++ {name}, a new file\n{file.read_text(encoding='utf-8', errors='replace')}"


def git(folder: Path, *words: str, trusted: bool = False) -> str:
    """What git says. trusted: also of a repository of another user, whose settings may run programs."""
    command = ["git", *(["-c", f"safe.directory={folder}"] if trusted else []), "-C", str(folder), *words]
    how = {"encoding": "utf-8", "errors": "replace"}
    return subprocess.run(command, capture_output=True, check=True, timeout=20, **how).stdout  # type: ignore[call-overload, no-any-return]

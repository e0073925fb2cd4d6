"""Whether a run folder is in use, asked without torch, which comparing runs and handing them over do without."""

import fcntl
from pathlib import Path


def held(folder: Path) -> bool:
    """Whether a process is at work in a run folder. A shared lock that is let go at once cannot disturb it."""
    try:
        with (folder / ".lock").open("rb") as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        return False
    return False

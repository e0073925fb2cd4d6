"""Files that are whole or absent, whatever cuts their writing off."""

import contextlib
import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import IO

HALF = ".half"  # ends the name of what is being written
ABANDONED = 3600  # seconds without a change after which it is nobody's any more; who writes does so more often


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[IO[bytes]]:
    """A file to be written, which gets its name once it is synced, in place of one that has it.

    Until then it lies beside the path as `NAME.*.half`; where anything is raised, it is removed.
    """
    with tempfile.NamedTemporaryFile(dir=path.parent, prefix=f"{path.name}.", suffix=HALF, delete=False) as file:
        try:
            yield file
            file.flush()
            os.fsync(file.fileno())
            Path(file.name).chmod(0o644)  # a temporary file's 0600 would hide it from a group that shares the folder
            Path(file.name).replace(path)
        except BaseException:
            Path(file.name).unlink(missing_ok=True)
            raise


def remove_abandoned(folder: Path, pattern: str) -> None:
    """Removes what killed runs left in a folder: files and folders of a pattern in which nothing changes any more."""
    for half in folder.glob(pattern):
        with contextlib.suppress(OSError):  # another run was faster, or they are another user's
            changed = max(each.lstat().st_mtime for each in (half, *half.rglob("*")))
            if time.time() - changed > ABANDONED:
                shutil.rmtree(half) if half.is_dir() else half.unlink()

"""Walk through folders of recordings."""

import os
from collections import Counter
from pathlib import Path

from ssl_runner.data.audio_files.decode import SUFFIXES


def list_recordings(root: Path) -> tuple[list[str], Counter[str]]:
    """Names of recordings below a folder, in order, and how many other files there are, by suffix."""
    files, others = [], Counter[str]()
    for folder, inner, names in os.walk(root):
        inner[:] = sorted(each for each in inner if not each.startswith("."))
        for name in names:
            suffix = Path(name).suffix.lower()
            if suffix in SUFFIXES and not name.startswith("."):
                files.append((Path(folder) / name).relative_to(root).as_posix())
            elif not name.startswith("."):
                others[suffix or "without a suffix"] += 1
    return sorted(files), others

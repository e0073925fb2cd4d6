"""Image files that cannot be read: what is said of them, and how many may be."""

import logging
import os
from collections.abc import Mapping, Sequence

logger = logging.getLogger("ssl_runner")


def describe(files: Sequence[str], broken: Mapping[int, str]) -> list[str]:
    """Name and reason of each, such that any terminal and log can take it, whatever the bytes of the name.

    broken: why, by position in the files.
    """
    return [f"{os.fsencode(files[i]).decode(errors='backslashreplace')} ({why})" for i, why in broken.items()]


def require_few(files: Sequence[str], broken: Mapping[int, str], max_broken: int) -> None:
    """Raises ValueError, with the first three, if there are more than max_broken."""
    if len(broken) > max_broken:
        raise ValueError(
            f"more than max_broken={max_broken} images cannot be read: {'; '.join(describe(files, broken)[:3])}"
            f"{' ...' * (len(broken) > 3)}. Mend or remove them, or type dataset.max_broken=N to allow N of them"
        )


def warn(files: Sequence[str], broken: Mapping[int, str]) -> None:
    """Names the first ten in the log, and says how many there are."""
    for name in describe(files, broken)[:10]:
        logger.warning("cannot read %s", name)
    if broken:
        logger.warning("%d of %d images cannot be read and are left out", len(broken), len(files))

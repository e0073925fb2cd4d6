"""Places of data: those that a user names, `~` standing for the home folder, and the folder of caches."""

import os
from pathlib import Path


def expand_home(place: str) -> Path:
    """Raises FileNotFoundError if `~` means nothing: a container may have neither HOME nor an entry in passwd."""
    try:
        return Path(place).expanduser()
    except RuntimeError:
        raise FileNotFoundError(f"{place}: there is no home folder here; type the whole path, or set HOME") from None


def cache_folder() -> str:
    """Where decoded images and downloaded shards are kept if no other folder is named."""
    return f"{os.environ.get('XDG_CACHE_HOME') or '~/.cache'}/ssl_runner"

"""Places of data: those that a user names, `~` standing for the home folder, and the folders of caches."""

import os
import tempfile
from pathlib import Path

FONTS = "MPLCONFIGDIR"  # matplotlib's variable


def expand_home(place: str) -> Path:
    """Raises FileNotFoundError if `~` means nothing: a container may have neither HOME nor an entry in passwd."""
    try:
        return Path(place).expanduser()
    except RuntimeError:
        raise FileNotFoundError(f"{place}: there is no home folder here; type the whole path, or set HOME") from None


def cache_folder() -> str:
    """Where decoded images and downloaded shards are kept if no other folder is named."""
    return f"{os.environ.get('XDG_CACHE_HOME') or '~/.cache'}/ssl_runner"


def place_fonts() -> None:
    """Gives matplotlib a folder if the home cannot be written: it would make a new one at each start, and complain."""
    if FONTS in os.environ or not hasattr(os, "getuid"):
        return
    try:
        wanted = Path(os.environ.get("XDG_CONFIG_HOME") or "~/.config").expanduser() / "matplotlib"
        if os.access(next(each for each in (wanted, *wanted.parents) if each.exists()), os.W_OK):
            return
    except (RuntimeError, OSError):
        pass  # there is no home, or one that cannot be looked into
    folder = Path(tempfile.gettempdir()) / f"ssl_runner-{os.getuid()}"
    try:
        folder.mkdir(mode=0o700, exist_ok=True)
        if folder.lstat().st_uid == os.getuid() and not folder.is_symlink():  # nobody else's
            os.environ[FONTS] = str(folder)
    except OSError:
        pass  # matplotlib finds another

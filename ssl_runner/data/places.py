"""Places of data that a user names, `~` standing for the home folder."""

from pathlib import Path


def expand_home(place: str) -> Path:
    """Raises FileNotFoundError if `~` means nothing: a container may have neither HOME nor an entry in passwd."""
    try:
        return Path(place).expanduser()
    except RuntimeError:
        raise FileNotFoundError(f"{place}: there is no home folder here; type the whole path, or set HOME") from None

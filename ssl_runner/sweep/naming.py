"""What to call a job of a sweep."""

import re

from ssl_runner.config import TREE


def varied(overrides: list[str], jobs: list[list[str]]) -> list[str]:
    """Those overrides of a job that other jobs of the sweep do not share."""
    return [each for each in overrides if not all(each in job for job in jobs)]


def slug(overrides: list[str], jobs: list[list[str]]) -> str:
    """What makes a job of a sweep, as part of a folder's name: `simclr-lr-0.003-seed-1`, of at most 60 characters.

    A choice stands by itself, a setting behind as much of its key's end as tells it from the others.
    """
    pairs = [each.lstrip("+~").partition("=")[::2] for each in varied(overrides, jobs)]
    words = []
    for key, value in pairs:
        value = re.sub(r"[^A-Za-z0-9._-]+", "-", value.strip("[]{}()'\" ")).rstrip("-.")
        ends = [key.split(".", dots)[-1] for dots in range(key.count("."), -1, -1)]
        own = (end for end in ends if sum(f".{other}".endswith(f".{end}") for other, _ in pairs) == 1)
        chosen = (TREE / key.partition("@")[0]).is_dir() and value not in ("", "none", "null")
        words.append(value if chosen else f"{next(own, key)}-{value}")
    while len("-".join(words)) > 60:  # cut where it is longest, so that every setting is still there
        longest = max(range(len(words)), key=lambda place: len(words[place]))
        words[longest] = words[longest][:-1]
    return re.sub(r"[^A-Za-z0-9._-]+", "-", "-".join(words)).strip("-.") or "job"

"""Names of the jobs of a sweep."""

import re
from collections.abc import Collection, Sequence

from ssl_runner.config.compose import TREE

LONGEST = 60


def shared(jobs: Sequence[Sequence[str]]) -> set[str]:
    """The overrides that all jobs of a sweep have."""
    return set.intersection(*(set(each) for each in jobs)) if jobs else set()


def slug(overrides: Sequence[str], common: Collection[str]) -> str:
    """What makes a job of a sweep, as part of a folder's name: `simclr-lr-0.003-seed-1`, of at most 60 characters.

    A choice stands by itself, a setting behind as much of its key's end as tells it from the others. What is `common`
    to all jobs is left out.
    """
    pairs = [each.lstrip("+~").partition("=")[::2] for each in overrides if each not in common]
    words = []
    for key, value in pairs:
        value = re.sub(r"[^A-Za-z0-9._-]+", "-", value.strip("[]{}()'\" ")).rstrip("-.")
        ends = [key.split(".", dots)[-1] for dots in range(key.count("."), -1, -1)]
        own = (end for end in ends if sum(f".{other}".endswith(f".{end}") for other, _ in pairs) == 1)
        chosen = (TREE / key.partition("@")[0]).is_dir() and value not in ("", "none", "null")
        words.append(value if chosen else f"{next(own, key)}-{value}")
    while len("-".join(words)) > LONGEST and max(map(len, words)) > 1:
        longest = max(range(len(words)), key=lambda place: len(words[place]))
        words[longest] = words[longest][:-1]  # cut where it is longest, so that every setting is still there
    return re.sub(r"[^A-Za-z0-9._-]+", "-", "-".join(words)[:LONGEST]).strip("-.") or "job"

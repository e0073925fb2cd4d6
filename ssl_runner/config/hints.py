"""Hints for a word of the command line that is no key=value: a mistyped verb, spaces around `=`, a choice alone."""

import difflib
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from ssl_runner.errors import nearest

VERBS = sorted(file.stem for file in (Path(__file__).parents[1] / "command").glob("[a-z]*.py"))
KEY = re.compile(r"[+~]*[a-z_][\w/@-]*(\.[\w-]+)*", re.ASCII | re.IGNORECASE)
NEAR = 0.75  # seed is no mistyped sweep


def mistyped_verb(words: Sequence[str]) -> str | None:
    """A line if the first word was meant as a verb."""
    word, after = words[0], words[1] if len(words) > 1 else ""
    if word in VERBS or not re.fullmatch("[a-z]{3,}", word, re.IGNORECASE) or after.startswith("="):
        return None
    near = difflib.get_close_matches(word.lower(), VERBS, n=1, cutoff=NEAR)
    begun = [verb for verb in VERBS if verb.startswith(word.lower())]
    if not near and len(begun) != 1:
        return None
    return f"{word}: is no verb; possible are {', '.join(VERBS)}; did you mean {(begun or near)[0]}?"


def join_spaced(words: Sequence[str]) -> tuple[list[str], list[str]]:
    """The words, those that spaces around `=` have parted put together again, and a line for each of these."""
    joined, lines, left = list[str](), list[str](), [*words]
    while left:
        word = left.pop(0)
        second = left[0] if left else ""
        split = second.startswith("=") if KEY.fullmatch(word) else word.endswith("=") and second and "=" not in second
        if split:
            parts = [word, left.pop(0)]
            if parts[-1] == "=" and left:
                parts.append(left.pop(0))
            word = "".join(parts)
            lines.append(f"{' '.join(parts)}: has spaces around =; type {word}")
        joined.append(word)
    return joined, lines


def bare_word(word: str, groups: Mapping[str, Sequence[str]]) -> str:
    """What to type in the place of a word without `=`; nothing if that cannot be guessed."""
    if word in VERBS:
        return f"; {word} is a verb: it stands first, as in ssl-runner {word}"
    if word in groups:
        return f"; type {word}=NAME, of {', '.join(groups[word])}"
    if owners := [group for group, names in groups.items() if word in names and group != "augment"]:
        return f"; type {' or '.join(f'{group}={word}' for group in owners)}"
    if Path(word).exists():
        return f"; of a run, type ssl-runner evaluate {word}, or resume, rerun, export"
    choice = nearest(word, [*groups, *(name for names in groups.values() for name in names)])
    return choice if choice and "." not in word else f"; type {word}=VALUE" if KEY.fullmatch(word) else ""

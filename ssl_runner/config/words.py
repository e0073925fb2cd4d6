"""Words of the command line as overrides, and hints for those that are none: spaces around `=`, a choice alone."""

import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from ssl_runner.config.grammar import Override, read_overrides
from ssl_runner.config.verbs import VERBS
from ssl_runner.errors import nearest

KEY = re.compile(r"[+~]*[a-z_][\w/@-]*(\.[\w-]+)*", re.ASCII | re.IGNORECASE)


def read_words(words: Iterable[str], groups: Mapping[str, list[str]]) -> tuple[list[Override], list[str]]:
    """The overrides, and a line for each word that is none or has spaces around its `=`."""
    joined, lines = join_spaced([*words])
    parsed, wrong = read_overrides(joined, groups)
    return parsed, [*lines, *(explain(line, groups) for line in wrong)]


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


def explain(line: str, groups: Mapping[str, Sequence[str]]) -> str:
    """A line about a word that Hydra's grammar cannot read, with what to type if that can be guessed."""
    word, _, why = line.partition(": cannot be read as key=value")
    return line if "=" in word or not (hint := bare_word(word, groups)) else line.removesuffix(why) + hint


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

"""Verbs of the command line, and what a mistyped one was meant to be."""

import difflib
import os
import re
from collections.abc import Sequence
from pathlib import Path

VERBS = sorted(file.stem for file in (Path(__file__).parents[1] / "command").glob("[a-z]*.py"))
NEAR = 0.75  # seed is no mistyped sweep


def mistyped_verb(words: Sequence[str]) -> str | None:
    """A line if the first word was meant as a verb."""
    word, after = words[0], words[1] if len(words) > 1 else ""
    if word in VERBS or not re.fullmatch("[a-z]{3,}", word, re.IGNORECASE) or after.startswith("="):
        return None
    near = difflib.get_close_matches(word.lower(), VERBS, n=1, cutoff=NEAR)
    begun = [verb for verb in VERBS if verb.startswith(word.lower())]
    meant = [*begun, *near][:1] if near or len(begun) == 1 else []
    if not meant and not os.path.isdir(after):  # noqa: PTH112  a Path raises of a long name
        return None
    guess = f"; did you mean {meant[0]}?" if meant else ""
    return f"{word}: is no verb; possible are {', '.join(VERBS)}{guess}"

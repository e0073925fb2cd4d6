"""Refusals and exit statuses: what is said if a command cannot do what was asked. No torch."""

import difflib
import re
import sys
import traceback
from collections.abc import Iterable
from pathlib import Path

# Exit statuses; that of an interrupted run is 128 + the signal.
DONE, FAILED, REFUSED, STOPPED = 0, 1, 2, 3  # stopped: by a collapse if on_collapse is stop, or by a file `stop`

HIDDEN = "***"
# What others call our values.
SYNONYMS = {"32": "float32", "fp32": "float32", "16": "fp16", "float16": "fp16", "half": "fp16", "bfloat16": "bf16"}
SYNONYMS |= {"32_true": "float32", "16_mixed": "fp16", "bf16_mixed": "bf16", "gpu": "cuda"}


class Refused(Exception):
    """What was asked cannot begin or go on, and nothing was written. A line for each reason."""

    def __init__(self, *reasons: object):
        self.lines = [line for reason in reasons for line in str(reason).splitlines()]
        super().__init__("\n".join(self.lines))


class Diverged(Exception):
    """The loss, a weight or a feature is not finite."""


class ProcessFailed(Exception):
    """One of several processes has failed: which one, where, and of what."""


def refuse(problems: Iterable[str]) -> int:
    """Prints all that is wrong, a line each and none twice, and returns the exit status of a refusal."""
    lines = list(dict.fromkeys(map(hide_passwords, problems)))
    many = f"{len(lines)} problems" if len(lines) > 1 else "a problem"
    print("\n  ".join([f"ssl-runner: {many}, nothing was started", *lines]), file=sys.stderr)
    return REFUSED


def plural(n: int, noun: str) -> str:
    """A number of things: `1 step`, `2,000 steps`, `3 classes`."""
    return f"{n:,} {noun}" if n == 1 else f"{n:,} {noun}{'es' if noun.endswith('s') else 's'}"


def are(n: int) -> str:
    """The verb behind a number of things."""
    return "is" if n == 1 else "are"


def one_line(error: BaseException) -> str:
    """An error's own words on one line."""
    return " ".join(str(error).split())


def last_line(error: BaseException, source: Path | None = None) -> str:
    """What a traceback ends in, and where: `ZeroDivisionError: division by zero, in mine.py, line 7`.

    `source`: of code whose last line is named, if it is in the traceback: a library that it called is not to blame.
    """
    said = " ".join("".join(traceback.format_exception_only(error)[-1:]).split())[:300]
    every = [each for each in traceback.extract_tb(error.__traceback__) if not each.filename.startswith("<")]
    frames = frames_in(error, source) or every
    place = (error.filename, error.lineno) if isinstance(error, SyntaxError) else None
    file, line = place or ((frames[-1].filename, frames[-1].lineno) if frames else (None, None))
    return f"{said}, in {file}, line {line}" if file else said


def frames_in(error: BaseException, source: Path | None) -> list[traceback.FrameSummary]:
    """The places in a folder of code that an error has passed."""
    frames = traceback.extract_tb(error.__traceback__) if source else []
    return [each for each in frames if source and Path(each.filename).is_relative_to(source)]


def printable(text: object) -> str:
    """Text of the file system as any terminal and log shows it, on one line.

    Control characters, reversals of direction and bytes that are no UTF-8 are escaped, as in `\\x1b`.
    """
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in str(text))


def hide_passwords(text: str) -> str:
    """Text whose URLs have `***` for a password, as in `postgresql://user:***@host/studies`."""
    text = re.sub(r"(://[^:/@\s]*:).*@", rf"\1{HIDDEN}@", text)
    return re.sub(r"([?&]password=)[^&\s]+", rf"\1{HIDDEN}", text)


def nearest(word: str, possible: Iterable[str]) -> str:
    """`; did you mean lr?`, or nothing if no possible word is near. Case and the kind of dash do not count."""
    words = {plain(each): each for each in possible}
    near = difflib.get_close_matches(SYNONYMS.get(plain(word), plain(word)), words, n=1, cutoff=0.6)
    return f"; did you mean {words[near[0]]}?" if near else ""


def plain(word: str) -> str:
    return word.lower().replace("-", "_")

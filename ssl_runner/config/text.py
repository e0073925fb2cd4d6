"""Text of the command line: the value of a key that takes text arrives as it was typed, without Hydra's quotes.

Quotes around the whole, escapes, `${...}`, and `null` if the key may be null, are read as Hydra reads them.
"""

import dataclasses
import typing
from pathlib import Path
from typing import Annotated, Any

from ssl_runner.config.grammar import Override, quoted
from ssl_runner.config.node import OPEN, UNIONS

TEXT = {str, Path}


def as_typed(each: Override, annotation: Any, before: Any = None) -> Override:
    """An override, its value as typed if its key takes text and Hydra reads another thing.

    `annotation`: of the parameter, or OPEN. `before`: the value that it has. Raises ValueError in one line if the value
    cannot be read, or is several.
    """
    if each.raw is not None and each.action != "DEL" and takes_text(each, annotation, before):
        return dataclasses.replace(each, value=each.raw, is_sweep=False, error=None)
    if each.error is not None:
        texts = annotation is OPEN or "str" in repr(annotation)
        hint = f'; put quotes around a text, as in "{each.key}={quoted(str(each.raw)[:40])}"' if texts else ""
        raise ValueError(each.error + hint)
    if each.is_sweep:
        raise ValueError(f"{each.text}: is a sweep over several values; type -m to run it")
    return each


def one_value(each: Override, annotation: Any) -> Any:
    """What a setting of a sweep is set to. Raises ValueError in one line."""
    if each.action == "DEL" or (each.is_sweep and not takes_text(each, annotation, None)):
        raise ValueError(f"{each.text}: a sweep has one value of it; type key=value")
    return as_typed(each, annotation).value


def takes_text(each: Override, annotation: Any, before: Any) -> bool:
    """Whether a parameter takes what was typed, and not what Hydra's grammar makes of it."""
    raw = str(each.raw)
    if isinstance(each.value, str) and (raw.strip()[:1] in ("'", '"') or "\\" in raw):
        return False  # quotes, or escapes
    if annotation is OPEN:
        return each.error is not None or (isinstance(before, str) and before != "???" and each.value is not None)
    if each.error is not None or isinstance(each.value, str):
        return bool(members(annotation) & TEXT)
    return is_text(annotation) and (each.is_sweep or type(each.value) not in members(annotation))


def is_text(annotation: Any) -> bool:
    """Whether a parameter takes text and, at most, null beside it."""
    kinds = set() if annotation is OPEN else members(annotation)
    return bool(kinds & TEXT) and kinds <= {*TEXT, type(None)}


def members(annotation: Any) -> set[Any]:
    """The types that an annotation allows."""
    origin = typing.get_origin(annotation)
    if origin is Annotated:
        return members(typing.get_args(annotation)[0])
    return set().union(*map(members, typing.get_args(annotation))) if origin in UNIONS else {annotation}

"""Scored pairs of texts, read from a table."""

import math
from pathlib import Path

Pair = tuple[str, str, float]


def read_pairs(path: Path) -> list[Pair]:
    """Two texts and a number from each line, between tabs; empty lines are left out, and a first line of names too.

    Raises ValueError with the line that is something else, or if there are fewer than two.
    """
    try:
        lines = path.expanduser().read_text(encoding="utf-8-sig").split("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise ValueError(f"file: {path} cannot be read ({error}); give a text of UTF-8") from None
    pairs = []
    for number, line in enumerate(lines, 1):
        parts = line.split("\t")
        score = finite(parts[-1])
        if len(parts) == 3 and score is not None:
            pairs.append((parts[0], parts[1], score))
        elif line.strip() and not (number == 1 and len(parts) == 3):
            given = f"{len(parts)} columns" if len(parts) != 3 else f"{parts[2]!r} for a number"
            raise ValueError(f"file: {path}, line {number}: given {given}; give text, tab, text, tab, number")
    if len(pairs) < 2:
        raise ValueError(f"file: {path} holds {len(pairs)} scored pairs; give two, or more")
    return pairs


def finite(text: str) -> float | None:
    try:
        number = float(text)
    except ValueError:
        return None
    return number if math.isfinite(number) else None

"""Words for counts of runs."""

from collections import Counter

MOST = 3  # values that are listed of each fact


def plural(n: int, noun: str = "run") -> str:
    return f"{n} {noun}{'s' * (n != 1)}"


def list_counts(counts: Counter[str]) -> str:
    """`2.14.0 (8 runs), 2.15.0 (1 run), 2 more`."""
    values = [f"{value[:40]} ({plural(n)})" for value, n in counts.most_common(MOST)]
    return ", ".join([*values, *([f"{len(counts) - MOST} more"] if len(counts) > MOST else [])])

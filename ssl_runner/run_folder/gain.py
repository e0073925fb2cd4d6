"""Gain of one number over another: above 0 is better, whether larger or smaller numbers are."""


def gain_of(last: float, first: float, better: str | None) -> float:
    """How much better the last is; below 0 it is worse. better: larger, smaller, or None of what only describes."""
    return first - last if better == "smaller" else last - first

"""Dead targets: a codebook of which few codes are used; masked tokens of which all, or none, are predicted rightly.

In tasks that predict codes, features can stay healthy while nothing is left to learn: fairseq's users meet a codebook
whose perplexity falls to a few codes (facebookresearch/fairseq issues 4530, 3661), and labels that are all one class
(4521), whose loss is 0. The numbers are those that a task logs: `codes_in_use`, perplexity as a share of all codes, and
`masked_accuracy`, the share of masked tokens that are predicted rightly.
"""

from collections.abc import Iterator, Mapping, Sequence
from itertools import takewhile
from typing import Any, NamedTuple

from ssl_runner.contract import Pretext, Suspect

FEW_CODES = 0.1  # share of the codes below which a codebook has collapsed
ALL_RIGHT = 0.995  # masked accuracy from which nothing is left to learn
LASTING = 3  # log lines in a row that must say so: accuracy can be 0 at first


class Sign(NamedTuple):
    since: int  # the step of the first log line in a row that says so
    text: str
    name: str


def find_sign(rows: Sequence[Mapping[str, Any]]) -> Sign | None:
    """What is wrong with a run's targets by its last log lines; None if nothing is, or if none are logged."""
    for word, dead, text in (
        ("codes_in_use", lambda share: share < FEW_CODES, "targets are a few codes"),
        ("masked_accuracy", lambda right: right >= ALL_RIGHT, "what is hidden is told without learning"),
        ("masked_accuracy", lambda right: right == 0, "no hidden token is ever told right"),
    ):
        names = (name for row in rows for name in row if name.startswith("train/") and name.endswith(word))
        for name in dict.fromkeys(names):  # in the order of the log: the same in every process
            history = [(row["step"], row[name]) for row in reversed(rows) if name in row]
            last = list(takewhile(lambda point, dead=dead: dead(point[1]), history))  # type: ignore[misc]
            if len(last) >= LASTING:
                return Sign(last[-1][0], f"{text} ({name} {last[0][1]:.2g})", word)
    return None


def find_remedies(sign: Sign | None, pretext: Pretext) -> Iterator[Suspect]:
    """Settings of a task that may mend its targets."""
    known = vars(pretext)
    if sign is None:
        return
    if sign.name == "codes_in_use" and "diversity" in known:
        weight = known["diversity"]
        yield Suspect(
            f"pretext.diversity={weight:g}, and {sign.text}", f"pretext.diversity={max(0.1, 3 * weight):g}", 0.8
        )
    elif sign.name == "codes_in_use":
        for key in (each for each in ("codes", "units") if each in known):
            yield Suspect(
                f"pretext.{key}={known[key]}, and {sign.text}", f"pretext.{key}={max(2, known[key] // 4)}", 0.6
            )
    elif "ratio" in known:
        ratio = known["ratio"]
        other = ratio / 2 if "ever" in sign.text else (1 + ratio) / 2
        yield Suspect(f"pretext.ratio={ratio:g}, and {sign.text}", f"pretext.ratio={other:.2g}", 0.6)

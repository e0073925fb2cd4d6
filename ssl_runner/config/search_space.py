"""Search spaces, and settings of a sweep, in Hydra's override syntax."""

from collections.abc import Iterable, Sequence

from ssl_runner.config.hydra import Axis, Override, parse_axis, parse_override

EXAMPLE = "a search needs choices, a range or an interval, as in a=x,y or a=interval(0,1)"


def read_assignments(words: Iterable[str]) -> tuple[list[Override], list[str]]:
    """The words `key=value`, and a line for each word that is none."""
    assignments, problems = [], []
    for word in words:
        try:
            override = parse_override(word)
        except ValueError as error:
            problems.append(str(error))
            continue
        if override.action == "DEL" or override.is_sweep:
            problems.append(f"{word}: a sweep has one value of it; type key=value")
        else:
            assignments.append(override)
    return assignments, problems


def is_searched(word: str) -> bool:
    """Whether a word has more than one value."""
    try:
        return parse_override(word).is_sweep
    except ValueError:
        return False


def read_axes(words: Sequence[str]) -> tuple[list[Axis], list[str]]:
    """What is searched, and a line for each word that cannot be."""
    axes = {word: parse_axis(word) for word in words}
    return [each for each in axes.values() if each], [f"{word}: {EXAMPLE}" for word, each in axes.items() if not each]


def examples(axes: Sequence[Axis]) -> list[list[str]]:
    """Overrides with each choice and each end of what is searched, to be checked before anything is run."""
    values = [[f"{axis.key}={each}" for each in dict.fromkeys(axis.choices or (axis.low, axis.high))] for axis in axes]
    first = [axis[0] for axis in values]
    others = [(place, each) for place, axis in enumerate(values) for each in axis[1:]]
    return [first, *([*first[:place], each, *first[place + 1 :]] for place, each in others)]

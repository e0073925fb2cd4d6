"""Filter language of runs, as in `simclr|byol test>50 -failed`; filter.js is the same on the page.

Words that a run has to have in its texts; comparisons of a column with a value, in the units that are shown; `-word`
excludes, `a|b` is either, and quotes keep blanks. What is not understood is said, and filters nothing.
"""

import difflib
import re
from collections.abc import Callable, Mapping, Sequence

Value = str | float | Sequence[str] | None
Row = Mapping[str, Value]  # by column; shares in per cent, as they are shown
Test = Callable[[Row], bool]
TOKEN = re.compile(r'(?:"[^"]*(?:"|$)|[^\s"])+')
COMPARISON = re.compile(r'("[^"]*"|[^<>=!"]+)(<=|>=|!=|=|<|>)(.*)', re.DOTALL)
NUMBER = re.compile(r"([+-]?(?:\d+\.?\d*|\.\d+)(?:e[+-]?\d+)?)([kmg%]?)", re.IGNORECASE)
SCALE = {"": 1.0, "%": 1.0, "k": 1e3, "m": 1e6, "g": 1e9}
ORDERS: Mapping[str, Callable[[float, float], bool]] = {
    "<": lambda a, b: a < b,
    ">": lambda a, b: a > b,
    "<=": lambda a, b: a <= b,
    ">=": lambda a, b: a >= b,
}
INSTEAD = {"and": "a blank: a b", "&&": "a blank: a b", "or": "a|b", "||": "a|b", "not": "-a"}


def number(text: str) -> float | None:
    match = NUMBER.fullmatch(text)
    return float(match[1]) * SCALE[match[2].lower()] if match else None


def plain(text: str) -> str:
    return text.replace('"', "").strip().lower()


def normal(key: str) -> str:
    """A key without case and unit; `samples_seen` is `samples seen`."""
    return plain(key).removesuffix("%").replace("_", " ").strip()


def find_column(key: str, columns: Sequence[str]) -> str:
    """The column of a key: of that name, of its accuracy, or the only one that ends so. Raises ValueError."""
    names, wanted = {normal(each): each for each in columns}, normal(key)
    for name in (wanted, f"{wanted}/top1"):
        if name in names:
            return names[name]
    ends = [each for name, each in names.items() if name.endswith((f".{wanted}", f"/{wanted}"))]
    ends = [each for each in ends if not each.startswith("evaluator.")] or ends
    if len(ends) == 1:
        return ends[0]
    if ends:
        raise ValueError(f"{plain(key)} may be {', '.join(ends[:4])}; type one of them")
    short = {name.rpartition(".")[2]: each for name, each in reversed(names.items())} | names
    near = [short[each] for each in difflib.get_close_matches(wanted, short, 1, 0.5)]
    raise ValueError(f"{plain(key)} is no column" + (f"; nearest is {near[0]}" if near else ""))


def comparison(key: str, operator: str, text: str, rows: Sequence[Row]) -> Test:
    """Whether a row has such a value. Raises ValueError with what is not understood."""
    column = find_column(key, [*dict.fromkeys(name for row in rows for name in row)])
    wanted, given = plain(text), number(plain(text))
    if not wanted:
        raise ValueError(f"{plain(key)}{operator} lacks a value, as in {plain(key)}{operator}1")
    if operator != "=":
        if given is None:
            raise ValueError(f"{plain(key)}{operator}{wanted}: {wanted} is no number")
        if not any(isinstance(row.get(column), int | float) for row in rows):
            raise ValueError(f"{column} has no numbers; type {plain(key)}={wanted}")
        order = ORDERS[operator]
        return lambda row: isinstance(value := row.get(column), int | float) and order(value, given)

    def equal(row: Row) -> bool:
        value = row.get(column)
        if isinstance(value, int | float):
            return value == given
        return wanted in map(str.lower, [value] if isinstance(value, str) else value or ())

    return equal


def contains(word: str) -> Test:
    def test(row: Row) -> bool:
        lists = (each if isinstance(each, list | tuple) else [each] for each in row.values())
        return any(isinstance(part, str) and word in part.lower() for parts in lists for part in parts)

    return test


def read_word(token: str, rows: Sequence[Row]) -> Test:
    """What one word of a filter asks for. Raises ValueError with what is not understood."""
    if token.count('"') % 2:
        raise ValueError(f"{token}: the second quotation mark is missing")
    if token.lower() in INSTEAD:
        raise ValueError(f"{token}: type {INSTEAD[token.lower()]}")
    excluded = token.startswith("-") and len(token) > 1
    tests: list[Test] = []
    before: tuple[str, str] | None = None
    for part in re.split(r'\|(?=(?:[^"]*"[^"]*")*[^"]*$)', token[excluded:]):
        match = COMPARISON.fullmatch(part)
        key, operator, text = match.groups() if match else (*(before or ("", "")), part)
        if operator == "!=":  # of all values that follow, as in pretext!=a|b
            if tests:
                raise ValueError(f"{token}: {part} cannot follow a |; type it as a word of its own")
            excluded, operator = not excluded, "="
        before = (key, operator) if operator == "=" else None  # pretext=a|b is pretext=a|pretext=b
        if not operator and not plain(text):
            raise ValueError(f"{token}: a word is missing")
        tests.append(comparison(key, operator, text, rows) if operator else contains(plain(text)))
    is_text = not (excluded or COMPARISON.search(token))
    if is_text and rows and not any(test(row) for test in tests for row in rows):
        raise ValueError(f"{token} is in no run")
    return lambda row: any(test(row) for test in tests) != excluded


def filter_rows(text: str, rows: Sequence[Row]) -> tuple[list[bool], list[str]]:
    """Which rows fit all words, and a line for each word that is not understood, which asks for nothing."""
    tests, problems = list[Test](), list[str]()
    for token in TOKEN.findall(text):
        try:
            tests.append(read_word(token, rows))
        except ValueError as error:
            problems.append(str(error))
    return [all(test(row) for test in tests) for row in rows], problems

"""Words, and runs of punctuation, as the pre-tokenizer Whitespace of the library `tokenizers` splits a text.

A letter is what Unicode's annex 18 has as one: alphabetic, a mark, a decimal digit, a connector as _, or a joiner.
Python's own class of them lacks marks, without which words of Hindi and Thai are cut, and has fractions and exponents.
"""

import re
import sys
import unicodedata
from functools import lru_cache
from itertools import groupby, pairwise

ASCII = re.compile(r"\w+|[^\w\t-\r ]+", re.ASCII)
BLANK = r"\t-\r \x85\xa0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000"
# Joiners; letters in circles and squares, which are alphabetic and, for Python, symbols.
MORE = "\u200c\u200d\u24b6-\u24e9\U0001f130-\U0001f149\U0001f150-\U0001f169\U0001f170-\U0001f189"


def split_words(text: str) -> list[str]:
    return pattern_of(text).findall(text)


def cut_words(text: str, count: int) -> list[str]:
    """Pieces of so many words, with the blanks behind them, that together are the text; none if it has no word."""
    starts = [found.start() for found in pattern_of(text).finditer(text)][::count]
    cuts = [0, *starts[1:], len(text)] if starts else []
    return [text[first:end] for first, end in pairwise(cuts)]


def pattern_of(text: str) -> re.Pattern[str]:
    return ASCII if text.isascii() else whole_pattern()


@lru_cache(maxsize=1)
def whole_pattern() -> re.Pattern[str]:
    """For all of Unicode that this Python knows; made in 0.2 s, when a text needs it."""
    # No function of its own: where tests check the types of each call, a million of them take twenty seconds.
    signs = [(sign, unicodedata.category(sign)) for sign in map(chr, range(sys.maxunicode + 1))]
    places = [ord(s) for s, kind in signs if kind[0] == "M" or kind == "Pc" or (s.isalnum() and kind != "No")]
    runs = [[each for _, each in run] for _, run in groupby(enumerate(places), lambda pair: pair[1] - pair[0])]
    letters = MORE + "".join(f"{chr(run[0])}-{chr(run[-1])}" for run in runs)
    return re.compile(f"[{letters}]+|[^{letters}{BLANK}]+")

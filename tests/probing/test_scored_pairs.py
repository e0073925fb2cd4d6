"""Scored pairs of texts."""

import pytest
from runs import put

from ssl_runner.probing.scored_pairs import read_pairs


@pytest.mark.parametrize("sign", ["\u2028", "\u0085", "\x0c"])
def test_signs_that_only_look_like_ends_of_lines_are_of_the_text(here, sign):
    put("pairs.tsv", f"one\tother\tscore\r\na cow{sign}is\ta net\t0.5\r\nb\tc\t1\r\n")
    assert read_pairs(here / "pairs.tsv") == [(f"a cow{sign}is", "a net", 0.5), ("b", "c", 1.0)]

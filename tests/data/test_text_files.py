"""Files of texts: no row of a table is lost or changed without a word; which names are parts."""

from pathlib import Path

import pytest
from runs import put

from ssl_runner.data.text_files.reading import read_file
from ssl_runner.dataset.text_folder import TextFolder

pytestmark = pytest.mark.usefixtures("here")


def read(name, content, label=None):
    put(name, content)
    return [(each.text, each.label) for each in read_file(Path(name), Path(name), "line", None, label)]


def test_a_single_quote_of_a_tsv_is_one_of_the_text():
    rows = read("a.tsv", 'text\tlabel\n"it is here\tfarm\na "cow\tsea\nsaid "so"\tsea\n"a ""net"" is"\tfarm\n')
    assert rows == [('"it is here', "farm"), ('a "cow', "sea"), ('said "so"', "sea"), ('a "net" is', "farm")]


def test_quotes_of_a_csv_enclose_ends_of_lines():
    assert read("a.csv", 'text,label\r\n"one,\r\ntwo ""x""",farm\r\n\r\nsay "so",sea\r\n') == [
        ('one,\r\ntwo "x"', "farm"), ('say "so"', "sea")
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("a.csv", 'text,label\na,b\n"open,farm\nthe cow,sea\n', r"a\.csv, line 3: unexpected end of data; mend the q"),
        ("a.csv", 'text,label\n"a "cow" is",farm\n', r"a\.csv, line 2: ',' expected after '\"'"),
        ("a.csv", 'text,label\n"a\n\nb",farm\na, cow,sea\n', r"a\.csv, line 5: 3 cells under 2 columns; mend the line"),
        ("a.csv", "text,label\nfarm\n", r"a\.csv, line 2: 1 cells under 2 columns"),
        ("a.tsv", 'text\tlabel\n"the\ncow"\tfarm\n', r"a\.tsv, line 2: 1 cells under 2 columns; mend the line"),
        ("a.csv", b"text\ncaf\xe9\n", r"a\.csv is no UTF-8"),
    ],
)
def test_a_row_that_cannot_be_whole_is_refused_by_its_line(name, content, words):
    with pytest.raises(ValueError, match=words):
        read(name, content)


def test_columns_of_jsonl_are_those_of_all_rows():
    rows = read("a.jsonl", '{"id": 1, "title": "t"}\n{"id": 2, "text": "the cow", "label": "farm"}\n')
    assert rows == [("", None), ("the cow", "farm")]
    assert read("a.jsonl", '{"text": "the cow"}\n{"text": "a", "kind": 1}\n', label="kind") == [
        ("the cow", None), ("a", "1")
    ]  # fmt: skip


@pytest.mark.parametrize("sign", ["\u2028", "\u0085", "\u2029"])
def test_signs_that_only_look_like_ends_of_lines_are_of_the_text(sign):
    assert read("a.jsonl", f'{{"text": "one{sign}two"}}\r\n{{"text": "b"}}') == [(f"one{sign}two", None), ("b", None)]
    assert read("a.tsv", f"text\tlabel\none{sign}two\tsea\n") == [(f"one{sign}two", "sea")]


def test_rows_without_a_text_or_a_class_are_counted():
    row = '{"text": "the cow", "label": "farm"}\n'
    put("a.jsonl", row * 8 + '{"text": "a net"}\n{"label": "sea"}\n{"text": " ", "label": "sea"}\n')
    without = "no classes, as 1 of the 9 training texts have none: leave these out, or give them one"
    assert TextFolder(root="a.jsonl").describe() == (
        f"1 files, 9 train texts, {without}, 2 rows without a text are left out"
    )
    put("b.txt", "the cow\n\n\na net\n")
    assert TextFolder(root="b.txt").describe() == "1 files, 2 train texts, no classes"

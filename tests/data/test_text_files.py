"""Files of texts: no row of a table is lost or changed without a word; which names are parts."""

from pathlib import Path

import pytest
from runs import put

from ssl_runner.data.text_files.reading import read_file
from ssl_runner.dataset.text_folder import TextFolder

pytestmark = pytest.mark.usefixtures("here")


def read(name, content, label=None):
    put(name, content)
    return [(each.text, each.label) for each in read_file(Path(name), "line", None, label)]


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
        f"1 file, 7 train, 1 test, 1 validation texts, {without}, 2 rows without a text are left out"
    )
    for seed in range(9):  # whichever text is held out
        data = TextFolder(root="a.jsonl", split_seed=seed).load()
        assert (data.classes, data.bank, data.test.y) == ((), None, None)
    put("b.txt", "the cow\n\n\na net\n")
    assert TextFolder(root="b.txt").describe() == "1 file, 1 train, 1 test texts, no classes"


def parts_of(root, *names):
    """Parts and classes of files, by name, and what is said of them."""
    for name in names:
        put(name, f"the text of {name}\n")
    found = TextFolder(root=root, test=0.0, validation=0.0)
    placed = {each.text.partition(" of ")[2]: (part, each.label) for part, all_ in found.parts.items() for each in all_}
    return placed, found.describe()


@pytest.mark.parametrize(
    "name",
    [
        "test driven development",
        "test-driven-development",
        "test-driven development",
        "developer",
        "testing ground",
        "valid points",
        "attest",
    ],
)
def test_a_title_that_begins_with_a_parts_name_is_none(name):
    placed, _ = parts_of("notes", f"notes/{name}.txt", "notes/a.txt")
    assert {part for part, _ in placed.values()} == {"train"}


SHARDS = ["test-00001", "test-00000-of-00002", "test-00000-of-00002-a09b74b3", "test-clean-100"]


@pytest.mark.parametrize(
    "name", ["test", "Test", "test1", "test_2", *SHARDS, "test_labels", "test-clean", "test.v2", "test (1)"]
)
def test_a_files_name_is_a_part(name):
    placed, _ = parts_of("notes", f"notes/{name}.txt", "notes/a.txt")
    assert placed == {f"notes/{name}.txt": ("test", None), "notes/a.txt": ("train", None)}


def test_a_folder_is_a_part_only_beside_one_to_learn_from():
    placed, said = parts_of("notes", "notes/dev/plan.txt", "notes/house/a.txt")
    assert placed == {"notes/dev/plan.txt": ("train", "dev"), "notes/house/a.txt": ("train", "house")}
    assert said == "2 files, 2 train texts, 2 classes, dev/ is no part without a train/"
    placed, said = parts_of("notes", "notes/Train/dev.txt")
    assert placed["notes/dev/plan.txt"] == ("validation", None)
    assert placed["notes/Train/dev.txt"] == ("train", None), "a folder has the last word"
    assert "no part" not in said


def test_a_single_file_has_no_part_by_its_name():
    assert parts_of("test.txt", "test.txt")[0] == {"test.txt": ("train", None)}


def test_files_that_are_no_texts_are_said(caplog):
    for name in ("a.txt", "b.md", "deep/c.MD", "deep/d", ".hidden.md", ".git/e.md"):
        put(f"notes/{name}", "the cow\n")
    with caplog.at_level("INFO", "ssl_runner"):
        TextFolder(root="notes").load()
    assert caplog.messages[0] == "left out: 2 .md, 1 without a suffix"


def test_a_single_class_is_none():
    put("notes/house/a.txt", "the cow\n" * 20)
    dataset = TextFolder(root="notes")
    found = "1 file, 16 train, 2 test, 2 validation texts"
    assert dataset.describe() == f"{found}, no classes, as all training texts are of one, house"
    data = dataset.load()
    assert (data.classes, data.bank, data.validation.y, data.test.y) == ((), None, None, None)


def test_texts_to_measure_on_without_a_class_are_refused():
    row = '{"text": "the cow", "label": "farm"}\n{"text": "a net", "label": "None"}\n'
    put("notes/train.jsonl", row * 3)
    put("notes/test.jsonl", row + '{"text": "a boat"}\n')
    with pytest.raises(ValueError, match="1 of the 3 texts of test have no class"):
        TextFolder(root="notes").load()

"""Tokenizers of files: what a file of another program is set to, and what texts may hold."""

import json

import pytest

from ssl_runner.data.text_files.tokenizer import fit_pieces, read_tokenizer

TEXTS = ["the cow was fed", "a [PAD] is not a net"] * 3


@pytest.fixture(scope="module")
def library():
    return pytest.importorskip("tokenizers")


def test_padding_and_truncation_of_a_file_are_not_asked(library):
    pieces = fit_pieces(TEXTS, 300, True)
    other = library.Tokenizer.from_str(pieces.content.decode())
    other.enable_padding(length=30, pad_id=7)
    other.enable_truncation(2)
    assert read_tokenizer(other.to_str().encode()).encode(TEXTS) == pieces.encode(TEXTS)


def test_the_name_of_padding_in_a_text_is_text(library):
    pieces = fit_pieces(TEXTS, 300, True)
    (ids,) = pieces.encode(TEXTS[1:2])
    assert 0 not in ids
    assert pieces.decode(ids).strip() == TEXTS[1].lower()


def test_no_text_has_padding_where_names_of_special_tokens_are_meant(library):
    words = library.Tokenizer(library.models.WordLevel({"[PAD]": 0, "[SEP]": 1, "[UNK]": 2, "a": 9}, "[UNK]"))
    words.pre_tokenizer = library.pre_tokenizers.WhitespaceSplit()
    words.add_special_tokens(["[PAD]", "[SEP]", "[UNK]"])
    found = read_tokenizer(words.to_str().encode())
    assert found.encode(["a [PAD] [SEP] b"]) == [[9, 1, 2]]
    assert (found.shift, found.unknown, found.vocabulary) == (0, 2, 10), "ids may have holes"


@pytest.mark.parametrize(("first", "unknown"), [("<pad>", 1), ("<s>", 2)])
def test_the_unknown_of_a_unigram_is_known(library, first, unknown):
    inner = library.Tokenizer(library.models.Unigram([(first, 0.0), ("<unk>", 0.0), ("a", -1.0)], 1, False))
    inner.add_special_tokens([first])
    content = json.loads(inner.to_str())
    assert "unk_token" not in content["model"]
    found = read_tokenizer(json.dumps(content).encode())
    assert found.unknown == unknown
    assert found.encode(["az"]) == [[unknown + 1, unknown]]

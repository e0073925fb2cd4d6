"""Words as the library `tokenizers` splits them, whose file a run keeps."""

import random
import sys
import unicodedata

import pytest

from ssl_runner.data.text_files.tokenizer import fit_words
from ssl_runner.data.text_files.words import cut_words, split_words

TEXTS = ["नमस्ते दुनिया!", "ภาษาไทยง่าย", "cafe\u0301 au lait", "x² + ½", "Ⓐ‿b", "na\u200dme\x1cof", "déjà vu 🙂?"]


@pytest.mark.parametrize("text", TEXTS)
def test_marks_are_of_their_words(text):
    library = pytest.importorskip("tokenizers")
    assert split_words(text) == [word for word, _ in library.pre_tokenizers.Whitespace().pre_tokenize_str(text)]
    words = fit_words([text], 30, True)
    again = library.Tokenizer.from_str(words.content.decode())
    assert words.encode([text])[0] == again.encode(text).ids
    assert 1 not in words.encode([text])[0]


def test_every_sign_that_has_long_been_known_is_split_as_by_the_library():
    split = pytest.importorskip("tokenizers").pre_tokenizers.Whitespace().pre_tokenize_str
    signs = [chr(each) for each in range(sys.maxunicode + 1)]
    signs = [each for each in signs if unicodedata.ucd_3_2_0.category(each) not in ("Cs", "Cn")]
    random.Random(0).shuffle(signs)
    for first in range(0, len(signs), 100):
        text = "a".join(signs[first : first + 100])
        assert split_words(text) == [word for word, _ in split(text)]


def test_pieces_of_words_are_the_text():
    for text in [*TEXTS, "  one two,  three \n", " \x1c ", "one"]:
        for count in (1, 2, 9):
            pieces = cut_words(text, count)
            assert "".join(pieces) == text
            assert all(1 <= len(split_words(piece)) <= count for piece in pieces)
    assert cut_words("  one two, three ", 2) == ["  one two", ", three "]
    assert cut_words(" \n", 2) == []

"""Tokenizers: bytes, words, byte-pair encoding, or any tokenizer.json of Hugging Face's; texts to ids and back.

All are files of that format, so that `tokenizers.Tokenizer.from_file` reads what a run keeps. Bytes and words need no
library here. Byte-pair encoding: Sennrich, Haddow, Birch: Neural Machine Translation of Rare Words with Subword Units,
ACL 2016, arXiv:1508.07909; on bytes as in Radford et al., Language Models are Unsupervised Multitask Learners, 2019.
"""

import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from jaxtyping import Bool
from torch import Tensor

from ssl_runner.data.text_files.words import split_words

ASSET = "tokenizer.json"
PAD, UNKNOWN = "[PAD]", "[UNK]"
INSTALL = "pip install 'ssl-runner[text]'"
BYTES = 257  # padding, and each byte


@dataclass(frozen=True)
class Bytes:
    """A byte of UTF-8 is an id: it less 1. Ids above those of bytes, which a wider model may fill in, are no text."""

    content: bytes
    lowercase: bool
    vocabulary: int = BYTES
    unknown: int | None = None

    def encode(self, texts: Sequence[str]) -> list[list[int]]:
        cased = (text.lower() if self.lowercase else text for text in texts)
        return [[byte + 1 for byte in text.encode("utf-8", "replace")] for text in cased]

    def decode(self, ids: Iterable[int]) -> str:
        return bytes(each - 1 for each in ids if 0 < each < BYTES).decode("utf-8", "replace")


@dataclass(frozen=True)
class Words:
    """A word, or a run of punctuation, is an id; words that are not known are one."""

    content: bytes
    lowercase: bool
    ids: dict[str, int]
    unknown: int | None

    @property
    def vocabulary(self) -> int:
        return max(self.ids.values()) + 1

    @cached_property
    def words(self) -> dict[int, str]:
        return {each: word for word, each in self.ids.items()}

    def encode(self, texts: Sequence[str]) -> list[list[int]]:
        known, other = self.ids.get, self.unknown
        cased = (text.lower() if self.lowercase else text for text in texts)
        found = ([known(word, other) for word in split_words(text)] for text in cased)
        return [[each for each in ids if each is not None] for ids in found]

    def decode(self, ids: Iterable[int]) -> str:
        return " ".join(self.words.get(int(each), UNKNOWN) for each in ids if each > 0)


class Library:
    """A tokenizer of the library's. Its ids are moved up by one if its first is no padding."""

    def __init__(self, content: bytes):
        self.content, self.inner = content, library().Tokenizer.from_str(content.decode())
        self.inner.no_padding()  # rows are padded and cut off here, with 0, and at the data set's length
        self.inner.no_truncation()
        special = {each["id"]: each["content"] for each in json.loads(content).get("added_tokens") or ()}
        self.shift = int("pad" not in special.get(0, "").lower())
        # The name of padding in a text is text, as any other; names of more, as [SEP], may be meant.
        self.inner.encode_special_tokens = special.keys() <= {0}
        model = json.loads(content)["model"]
        unknown, found = model.get("unk_token"), model.get("unk_id")  # the latter of Unigram
        found = found if unknown is None else self.inner.token_to_id(unknown)
        self.unknown = None if found is None else found + self.shift
        self.vocabulary = max(self.inner.get_vocab().values()) + 1 + self.shift

    def encode(self, texts: Sequence[str]) -> list[list[int]]:
        found = self.inner.encode_batch(list(texts), add_special_tokens=False)
        return [[each + self.shift for each in part.ids if each + self.shift] for part in found]

    def decode(self, ids: Iterable[int]) -> str:
        return self.inner.decode([int(each) - self.shift for each in ids if each > 0])


# Texts to ids from 1; 0 is padding, and no text has it. `content`: of its tokenizer.json. `vocabulary`: ids are below.
# `unknown`: the id of what it does not know; None if it knows everything.
Tokenizer = Bytes | Words | Library


def read_tokenizer(content: bytes) -> Tokenizer:
    """The tokenizer of a file. Raises ValueError if it is none, ImportError if it takes a library that is absent."""
    try:
        described: dict[str, Any] = json.loads(content)
        model, split = described["model"], described.get("pre_tokenizer") or {}
        lowercase, kind = (described.get("normalizer") or {}).get("type") == "Lowercase", model.get("type")
    except (ValueError, KeyError, TypeError, AttributeError, UnicodeDecodeError) as error:
        raise ValueError(f"no tokenizer.json of the library tokenizers ({error!r:.80})") from None
    if kind == "WordLevel" and split.get("type") == "Whitespace" and model["vocab"].get(PAD) == 0:
        return Words(content, lowercase, model["vocab"], model["vocab"].get(model.get("unk_token")))
    if content in (byte_tokenizer(each).content for each in (False, True)):
        return Bytes(content, lowercase)
    return Library(content)


def byte_tokenizer(lowercase: bool) -> Bytes:
    vocabulary = {PAD: 0, **{character: byte + 1 for byte, character in enumerate(byte_characters())}}
    level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": False}
    model = {"type": "BPE", "vocab": vocabulary, "merges": []}
    return Bytes(described(model, level, lowercase, [PAD], decoder=level), lowercase)


def fit_words(texts: Iterable[str], vocabulary: int, lowercase: bool) -> Words:
    """The most frequent words, of equal ones the first in the alphabet, beside padding and the unknown word."""
    counts = Counter(word for text in texts for word in split_words(text.lower() if lowercase else text))
    kept = sorted(counts, key=lambda word: (-counts[word], word))[: vocabulary - 2]
    ids = {word: number for number, word in enumerate([PAD, UNKNOWN, *kept])}
    model = {"type": "WordLevel", "vocab": ids, "unk_token": UNKNOWN}
    content = described(model, {"type": "Whitespace"}, lowercase, [PAD, UNKNOWN])
    return Words(content, lowercase, ids, 1)


def fit_pieces(texts: Iterable[str], vocabulary: int, lowercase: bool) -> Library:
    """Byte-pair encoding: the same whatever the order of the texts and the number of threads."""
    tokenizers = library()
    level = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=True)
    whole = tokenizers.Tokenizer(tokenizers.models.BPE())
    whole.pre_tokenizer, whole.decoder = level, tokenizers.decoders.ByteLevel()
    if lowercase:
        whole.normalizer = tokenizers.normalizers.Lowercase()
    trainer = tokenizers.trainers.BpeTrainer(
        vocab_size=vocabulary, special_tokens=[PAD], initial_alphabet=level.alphabet(), show_progress=False
    )
    whole.train_from_iterator(texts, trainer)
    return Library(whole.to_str().encode())


def described(
    model: dict[str, Any], split: dict[str, Any], lowercase: bool, special: Sequence[str], **more: Any
) -> bytes:
    flags = dict.fromkeys(("single_word", "lstrip", "rstrip", "normalized"), False) | {"special": True}
    added = [{"id": number, "content": token, **flags} for number, token in enumerate(special)]
    empty = dict.fromkeys(("truncation", "padding", "post_processor", "decoder"))
    parts = {"added_tokens": added, "normalizer": {"type": "Lowercase"} if lowercase else None, "pre_tokenizer": split}
    return json.dumps({"version": "1.0", **empty, **parts, **more, "model": model}, ensure_ascii=False).encode()


def byte_characters() -> list[str]:
    """A visible character for each byte, as the library's ByteLevel has it: itself, or one from 256 on."""
    visible = {*range(33, 127), *range(161, 173), *range(174, 256)}
    hidden = iter(range(256, 512))
    return [chr(byte if byte in visible else next(hidden)) for byte in range(256)]


def library() -> Any:
    try:
        import tokenizers
    except ImportError:
        raise ImportError(f"byte-pair encoding and files need the library tokenizers; type {INSTALL}") from None
    return tokenizers


def word_starts(assets: Mapping[str, bytes], vocabulary: int) -> Bool[Tensor, " v"]:
    """By id, whether a token begins a word: all of them, unless a tokenizer says that it cuts words into pieces.

    A blank is of the word after it: pieces that begin one have its mark Ġ or ▁, or else those that go on have ##.
    """
    starts = torch.ones(vocabulary, dtype=torch.bool)
    if ASSET not in assets:
        return starts
    content = json.loads(assets[ASSET])
    split, model = json.dumps(content.get("pre_tokenizer") or {}), content["model"]
    pieces = model.get("vocab") or {}
    pairs = pieces.items() if isinstance(pieces, dict) else ((each[0], number) for number, each in enumerate(pieces))
    shift = getattr(read_tokenizer(assets[ASSET]), "shift", 0)
    marked = "ByteLevel" in split or "Metaspace" in split
    if marked or model.get("type") == "WordPiece":
        for piece, number in pairs:
            if number + shift < vocabulary:
                starts[number + shift] = piece.startswith(("Ġ", "▁")) if marked else not piece.startswith("##")
    return starts

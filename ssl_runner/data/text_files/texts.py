"""Texts as rows of ids: settings that every data set of text has, and what it says of what does not fit."""

import hashlib
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Annotated, ClassVar

import numpy as np
import torch
from annotated_types import Interval
from jaxtyping import Int, UInt8
from torch import Tensor

from ssl_runner.contract import Samples
from ssl_runner.data.text_files.tokenizer import (
    ASSET,
    BYTES,
    Bytes,
    Tokenizer,
    byte_tokenizer,
    fit_pieces,
    fit_words,
    read_tokenizer,
)

UNKNOWN, TRUNCATED = 0.05, 0.1  # shares that are told
TOO_MANY = 0.5  # of unknown words: nothing could be learnt
OWN = ("bytes", "words", "bpe")
RUNS_OWN = "they are read as the run has read its own: give other texts, or train a run on these"

log = logging.getLogger("ssl_runner")


@dataclass(kw_only=True)
class Texts:
    """Settings of a data set of text. What is fitted is fitted on training rows alone, and kept with each encoder."""

    tokenizer: str = "bytes"  # bytes, words, bpe (which needs the extra `text`), or a file tokenizer.json
    # Ids of words and bpe, padding among them. None: `fitted`, or those of a file, which can be given more
    vocabulary: Annotated[int, Interval(ge=2, le=1_000_000)] | None = None
    length: Annotated[int, Interval(ge=1, le=65_536)] = 64  # tokens of a row; what is longer is cut off
    lowercase: bool = True  # whether capitals are read as small letters

    fitted: ClassVar[int] = 2_000  # ids of words and bpe, if no number is asked for
    given: ClassVar[tuple[Samples, bytes] | None] = None  # what an encoder reads, and its tokenizer; see read_as

    def check_tokenizer(self) -> None:
        """Raises ValueError or FileNotFoundError for a tokenizer that cannot be."""
        if self.tokenizer not in OWN and not Path(self.tokenizer).expanduser().is_file():
            possible = f"possible are {', '.join(OWN)}, or a file tokenizer.json"
            raise ValueError(f"tokenizer: given {self.tokenizer}, and there is no such file; {possible}")
        if self.tokenizer == "bpe" and self.asked <= BYTES:
            raise ValueError(f"vocabulary: given {self.asked}, and bpe begins with {BYTES}; type a larger number")

    @property
    def asked(self) -> int:
        """How many ids words and pieces are fitted to."""
        return self.fitted if self.vocabulary is None else self.vocabulary

    @property
    def ready_tokenizer(self) -> Tokenizer | None:
        """The tokenizer that is there before any text is read; None if it has to be fitted."""
        if self.given is not None:
            return read_once(self.given[1])
        if self.tokenizer in OWN:
            return byte_tokenizer(self.lowercase) if self.tokenizer == "bytes" else None
        try:
            return read_once(Path(self.tokenizer).expanduser().read_bytes())
        except ValueError as error:
            raise ValueError(f"tokenizer: {self.tokenizer} is {error}") from None

    @property
    def spares_one(self) -> bool:
        """Whether id 1 is the unknown word, or as of bytes one that no text has; else it is a token as any other."""
        ready = self.ready_tokenizer
        return self.tokenizer == "words" if ready is None else isinstance(ready, Bytes) or ready.unknown == 1

    @property
    def samples(self) -> Samples:
        """The vocabulary is what was asked for: the fitted one, or that of a file, may be smaller.

        What nobody asked for is that of the file: what goes on from a run's weights has as many ids as the run.
        """
        if self.given is not None:
            return self.given[0]
        ready = self.ready_tokenizer
        if ready is None:
            ids = self.asked
        else:
            ids = ready.vocabulary if self.tokenizer == "bytes" else max(ready.vocabulary, self.vocabulary or 0)
        return Samples("text", (self.length,), vocabulary=ids)

    def read_as(self, samples: Samples, assets: Mapping[str, bytes]) -> "Texts":
        """The same texts, read as an encoder's own were: by its tokenizer, and of its length."""
        if ASSET not in assets or samples.kind != "text":
            return self
        other = replace(self, length=samples.shape[0])
        other.given = samples, assets[ASSET]
        return other

    def fitted_tokenizer(self, texts: Sequence[str]) -> Tokenizer:
        """`texts`: of the training rows."""
        fit = fit_words if self.tokenizer == "words" else fit_pieces
        return self.ready_tokenizer or fit(texts, self.asked, self.lowercase)

    def rows_of(self, tokenizer: Tokenizer, texts: Sequence[str], what: str) -> Int[Tensor, "n l"]:
        """Ids of texts, padded or cut off; tells of many that are unknown or cut off.

        Raises ValueError if more than half are unknown.
        """
        found = tokenizer.encode(texts)
        total, n = sum(map(len, found)), max(1, len(found))
        if tokenizer.unknown is not None and total:
            unknown = sum(ids.count(tokenizer.unknown) for ids in found) / total
            told = f"{what}: the tokenizer does not know {unknown:.0%} of the tokens"
            larger = "a larger dataset.vocabulary" if self.tokenizer in OWN else "a file that knows more"
            remedy = f"type dataset.tokenizer=bytes, or {larger}" if self.given is None else RUNS_OWN
            if unknown > TOO_MANY:
                raise ValueError(f"{told}; {remedy}")
            if unknown > UNKNOWN:
                log.warning("%s; %s", told, remedy)
        longer = [len(ids) for ids in found if len(ids) > self.length]
        if len(longer) > TRUNCATED * n:
            cut = f"{len(longer) / n:.0%} of the rows are cut off at {self.length} tokens, the longest of {max(longer)}"
            log.warning("%s: %s; %s", what, cut, "type a larger dataset.length" if self.given is None else RUNS_OWN)
        return padded(found, self.length, tokenizer.vocabulary)


read_once = lru_cache(maxsize=4)(read_tokenizer)


def padded(found: Sequence[Sequence[int]], length: int, vocabulary: int) -> Int[Tensor, "n l"]:
    """Rows of ids with padding behind, in as few bytes as the vocabulary lets them."""
    rows = np.zeros((len(found), length), np.int16 if vocabulary <= 2**15 else np.int32)
    for row, ids in zip(rows, found, strict=True):
        ids = ids[:length]
        row[: len(ids)] = ids
    return torch.from_numpy(rows)


def assets_of(tokenizer: Tokenizer) -> dict[str, bytes]:
    return {ASSET: tokenizer.content}


def digest_of(tokenizer: Tokenizer) -> UInt8[Tensor, " d"]:
    """What a fingerprint is taken of."""
    return torch.frombuffer(bytearray(hashlib.blake2b(tokenizer.content, digest_size=16).digest()), dtype=torch.uint8)

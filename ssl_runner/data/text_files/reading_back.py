"""Texts to rows, and rows to texts, by the tokenizer that data was read with."""

from collections.abc import Callable, Iterable, Mapping, Sequence

from jaxtyping import Int
from torch import Tensor

from ssl_runner.contract import Data, Samples
from ssl_runner.data.text_files.texts import padded, read_once
from ssl_runner.data.text_files.tokenizer import ASSET, read_tokenizer

Tokenise = Callable[[Sequence[str]], Int[Tensor, "n l"]]
Decode = Callable[[Iterable[int]], str]


def tokenise_of(assets: Mapping[str, bytes], samples: Samples) -> Tokenise | None:
    """Texts to rows as the data's own, padded or cut off; None if a tokenizer is not among its assets."""
    if ASSET not in assets:
        return None
    tokenizer = read_once(assets[ASSET])
    return lambda texts: padded(tokenizer.encode(texts), samples.shape[0], samples.vocabulary)


def decode_of(data: Data) -> Decode | None:
    """Ids to text; None if the data has no tokenizer."""
    return read_tokenizer(data.assets[ASSET]).decode if ASSET in data.assets else None

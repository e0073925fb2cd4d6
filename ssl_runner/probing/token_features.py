"""Features of tokens of some rows, part by part, and which of them are no padding."""

from collections.abc import Iterator

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from ssl_runner.contract import Encoder, Features, Rows, Samples
from ssl_runner.layers.weights import device_of
from ssl_runner.probing.protocol import require_finite

AT_ONCE = 64  # rows in a forward pass


def features_of(encoder: Encoder, rows: Rows, index: Int[Tensor, " n"], sample: Samples) -> Iterator[Features]:
    """What the encoder makes of rows. Raises FloatingPointError if a feature is not finite."""
    device = device_of(encoder)
    for part in index.split(AT_ONCE) if len(index) else ():
        features = encoder(sample.from_rows(rows[part].to(device)))
        require_finite(features.pooled, features.tokens)
        yield features


def real_tokens(features: Features) -> Bool[Tensor, "b n"]:
    """Which tokens are no padding."""
    if features.mask is not None:
        return features.mask
    return torch.ones(features.tokens.shape[:2], dtype=torch.bool, device=features.tokens.device)


def packed_tokens(
    encoder: Encoder, rows: Rows, index: Int[Tensor, " n"], sample: Samples
) -> tuple[Float[Tensor, "n t d"], Int[Tensor, " n"]]:
    """Tokens in float32, those of padding behind the others; and how many each row has without them."""
    tokens, lengths = [], []
    for features in features_of(encoder, rows, index, sample):
        real = real_tokens(features)
        order = (~real).byte().argsort(dim=1, stable=True)
        tokens.append(features.tokens.float().gather(1, order[:, :, None].expand_as(features.tokens)))
        lengths.append(real.sum(1))
    return torch.cat(tokens), torch.cat(lengths)

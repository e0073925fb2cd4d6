"""Projection heads and predictors: multi-layer perceptrons between an encoder and a loss."""

from collections.abc import Sequence
from itertools import pairwise

from torch import nn


def mlp(
    dims: Sequence[int], norm: bool = True, last_norm: bool = False, activation: type[nn.Module] = nn.ReLU
) -> nn.Sequential:
    """Linear layers of widths `dims`, with batch norm (`norm`) and an activation between them, for (b, dims[0]).

    `last_norm` puts a batch norm behind the last layer too. A layer that a batch norm follows has no bias, which the
    norm would take off again. Two widths make a single linear layer. Raises ValueError for fewer than two.
    """
    if len(dims) < 2:
        raise ValueError(f"an MLP needs its input and output width, got {list(dims)}; write mlp((256, 128))")
    layers: list[nn.Module] = []
    for layer, (into, out) in enumerate(pairwise(dims), start=2):
        last = layer == len(dims)
        normed = last_norm if last else norm
        layers.append(nn.Linear(into, out, bias=not normed))
        if normed:
            layers.append(nn.BatchNorm1d(out))
        if not last:
            layers.append(activation())
    return nn.Sequential(*layers)

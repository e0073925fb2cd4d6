"""Projection heads: multi-layer perceptrons between an encoder and a loss, and prototypes to end them."""

from collections import OrderedDict
from collections.abc import Sequence
from itertools import pairwise

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn


def mlp(dims: Sequence[int], norm: bool = True, activation: type[nn.Module] = nn.ReLU) -> nn.Sequential:
    """Linear layers of widths `dims`, with batch norm (`norm`) and an activation between them, for (b, dims[0]).

    A layer that a batch norm follows has no bias, which the norm would take off again. Two widths make a single linear
    layer. Raises ValueError for fewer than two.
    """
    if len(dims) < 2:
        raise ValueError(f"an MLP needs its input and output width, got {list(dims)}; write mlp((256, 128))")
    layers: list[nn.Module] = []
    for into, out in pairwise(dims[:-1]):
        layers += [nn.Linear(into, out, bias=not norm), *([nn.BatchNorm1d(out)] if norm else []), activation()]
    return nn.Sequential(*layers, nn.Linear(*dims[-2:]))


class Prototypes(nn.Module):
    """The cosine similarity of each row to each of `count` learnt directions.

    With `fixed_norm` that is all; else each direction has a learnt length, 1 at the start, that its logits are
    multiplied by. Salimans & Kingma, Weight Normalization, NeurIPS 2016, arXiv 1602.07868, equation 2.
    Float32 also under autocast: bfloat16 would put a cosine over a temperature of 0.04 off by up to 0.1.
    """

    def __init__(self, dim: int, count: int, *, fixed_norm: bool = True):
        super().__init__()
        self.weight = nn.Parameter(torch.randn(count, dim) / dim**0.5)
        self.length = None if fixed_norm else nn.Parameter(torch.ones(count))

    def forward(self, x: Float[Tensor, "b d"]) -> Float[Tensor, "b k"]:
        with torch.autocast(x.device.type, enabled=False):
            cosine = F.linear(F.normalize(x.float(), dim=1), F.normalize(self.weight, dim=1))
            return cosine if self.length is None else cosine * self.length


def prototype_head(
    dim: int, hidden: int, bottleneck: int, prototypes: int, *, norm: bool = False, fixed_norm: bool = True
) -> nn.Sequential:
    """DINO's projection head (arXiv 2104.14294, appendix C): `projector`, three layers with GELU, then `prototypes`."""
    projector = mlp((dim, hidden, hidden, bottleneck), norm, nn.GELU)
    for layer in projector:
        if isinstance(layer, nn.Linear):
            nn.init.trunc_normal_(layer.weight, std=0.02)
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)
    last = Prototypes(bottleneck, prototypes, fixed_norm=fixed_norm)
    return nn.Sequential(OrderedDict(projector=projector, prototypes=last))

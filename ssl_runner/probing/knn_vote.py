"""Nearest neighbours that vote for their class, weighted by their cosine similarity, in bounded memory.

Wu, Xiong, Yu, Lin: Unsupervised feature learning via non-parametric instance discrimination, CVPR 2018,
arXiv 1805.01978, section 3.4.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

CELLS = 2**24  # numbers in the largest matrix, 64 MB


@torch.no_grad()  # the buffer that all blocks share takes no gradient
def ranked(
    bank: Float[Tensor, "n d"],
    y: Int[Tensor, " n"],
    query: Float[Tensor, "q d"],
    *,
    k: int,
    temperature: float,
    classes: int,
) -> Int[Tensor, "q r"]:
    """Up to five classes of each query sample, the one with the most votes first; -1 where no class has a vote left.

    k: neighbours that vote, at most n. temperature: of a vote exp(similarity / temperature), above 0.
    """
    bank, query = F.normalize(bank, dim=1), F.normalize(query, dim=1)
    y = y.to(bank.device, torch.int64)
    found, at_once = [], max(1, CELLS // len(bank))
    similarity = query.new_empty(min(at_once, len(query)), len(bank))  # one for all: new pages cost a fifth of the time
    for part in query.split(at_once):
        near, rows = torch.mm(part, bank.T, out=similarity[: len(part)]).topk(k)  # (b, k), nearest first
        # Less the largest: the same winner, and no overflow at a small temperature.
        weight = ((near - near[:, :1]) / temperature).exp()
        votes = weight.new_zeros(len(part), classes)
        # Neighbour by neighbour, and no scatter_add: sums of atomic adds differ from run to run on CUDA.
        for vote, which in zip(weight.split(1, 1), y[rows].split(1, 1), strict=True):
            votes.scatter_(1, which, votes.gather(1, which) + vote)
        most, guesses = votes.topk(min(5, classes))
        found.append(guesses.masked_fill(most <= 0, -1))
    return torch.cat(found)

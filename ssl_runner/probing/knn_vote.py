"""Weighted nearest-neighbour prediction by cosine similarity, in bounded memory.

Wu, Xiong, Yu, Lin: Unsupervised feature learning via non-parametric instance discrimination, CVPR 2018,
arXiv 1805.01978, section 3.4.
"""

from collections.abc import Iterator

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

CELLS = 2**24  # numbers in the largest matrix, 64 MB


@torch.no_grad()  # the buffer that all blocks share takes no gradient
def find_neighbours(
    bank: Float[Tensor, "n d"], query: Float[Tensor, "q d"], k: int, temperature: float
) -> Iterator[tuple[Tensor, Tensor]]:
    """Weights (b, k) and bank rows (b, k) of the neighbours of each block of query rows, nearest first.

    k: neighbours, at most n. temperature: of a weight exp(similarity / temperature), above 0.
    """
    bank, query = F.normalize(bank, dim=1), F.normalize(query, dim=1)
    at_once = max(1, CELLS // len(bank))
    similarity = query.new_empty(min(at_once, len(query)), len(bank))  # one for all: new pages cost a fifth of the time
    for part in query.split(at_once):
        near, rows = torch.mm(part, bank.T, out=similarity[: len(part)]).topk(k)
        # Less the largest: the same winner, and no overflow at a small temperature.
        yield ((near - near[:, :1]) / temperature).exp(), rows


def rank_classes(
    bank: Float[Tensor, "n d"],
    y: Int[Tensor, " n"],
    query: Float[Tensor, "q d"],
    *,
    k: int,
    temperature: float,
    classes: int,
) -> Int[Tensor, "q r"]:
    """Up to five classes of each query row, the one with the most votes first; -1 if no class has a vote left."""
    y, ranked = y.to(bank.device, torch.int64), []
    for weight, rows in find_neighbours(bank, query, k, temperature):
        votes = weight.new_zeros(len(weight), classes)
        # Neighbour by neighbour, and no scatter_add: sums of atomic adds differ from run to run on CUDA.
        for vote, label in zip(weight.split(1, 1), y[rows].split(1, 1), strict=True):
            votes.scatter_(1, label, votes.gather(1, label) + vote)
        most, classes_by_votes = votes.topk(min(5, classes))
        ranked.append(classes_by_votes.masked_fill(most <= 0, -1))
    return torch.cat(ranked)


def average_neighbours(
    bank: Float[Tensor, "n d"], values: Float[Tensor, "n c"], query: Float[Tensor, "q d"], *, k: int, temperature: float
) -> Float[Tensor, "q c"]:
    """Weighted mean of the neighbours' values: a prediction of numbers, or each label's share of the votes."""
    means = []
    for weight, rows in find_neighbours(bank, query, k, temperature):
        total = values.new_zeros(len(rows), values.shape[1])
        for vote, row in zip(weight.split(1, 1), rows.T, strict=True):
            total += vote * values[row]
        means.append(total / weight.sum(1, keepdim=True))
    return torch.cat(means)

"""Weighted nearest-neighbour prediction by cosine similarity, in bounded memory.

Wu, Xiong, Yu, Lin: Unsupervised feature learning via non-parametric instance discrimination, CVPR 2018,
arXiv 1805.01978, section 3.4.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int, Shaped
from torch import Tensor

CELLS = 2**24  # numbers in the largest matrix, 64 MB


@dataclass(frozen=True)
class Neighbours:
    """The bank's features and targets, of which the nearest to a query row vote."""

    bank: Float[Tensor, "n d"]
    y: Shaped[Tensor, "n ..."]  # classes int (n,), numbers float, or several labels at once bool
    classes: int
    k: int  # neighbours, at most n
    temperature: float  # of a weight exp(similarity / temperature), above 0

    @torch.no_grad()  # the buffer that all blocks share takes no gradient
    def find(self, query: Float[Tensor, "q d"]) -> Iterator[tuple[Tensor, Tensor]]:
        """Weights (b, k) and bank rows (b, k) of the neighbours of each block of query rows, nearest first."""
        bank, query = F.normalize(self.bank, dim=1), F.normalize(query, dim=1)
        at_once = max(1, CELLS // len(bank))
        similarity = query.new_empty(min(at_once, len(query)), len(bank))  # one for all: new pages cost a fifth more
        for part in query.split(at_once):
            near, rows = torch.mm(part, bank.T, out=similarity[: len(part)]).topk(self.k)
            # Less the largest: the same winner, and no overflow at a small temperature.
            yield ((near - near[:, :1]) / self.temperature).exp(), rows

    def rank_classes(self, query: Float[Tensor, "q d"]) -> tuple[Int[Tensor, "q r"], Float[Tensor, "q r"]]:
        """Up to five classes of each query row, the one with the most votes first, and their shares of the votes.

        A class is -1 if none has a vote left; the first never is.
        """
        y, ranked, shares = self.y.to(self.bank.device, torch.int64), [], []
        for weight, rows in self.find(query):
            votes = weight.new_zeros(len(weight), self.classes)
            # Neighbour by neighbour, and no scatter_add: sums of atomic adds differ from run to run on CUDA.
            for vote, label in zip(weight.split(1, 1), y[rows].split(1, 1), strict=True):
                votes.scatter_(1, label, votes.gather(1, label) + vote)
            most, classes_by_votes = votes.topk(min(5, self.classes))
            ranked.append(classes_by_votes.masked_fill(most <= 0, -1))
            shares.append(most / weight.sum(1, keepdim=True))
        return torch.cat(ranked), torch.cat(shares)

    def scores(self, query: Float[Tensor, "q d"]) -> Float[Tensor, "q c"]:
        """Weighted mean of the neighbours' targets: a prediction of numbers, or each label's share of the votes."""
        values, means = self.y.reshape(len(self.y), -1).to(self.bank), []
        for weight, rows in self.find(query):
            total = values.new_zeros(len(rows), values.shape[1])
            for vote, row in zip(weight.split(1, 1), rows.T, strict=True):
                total += vote * values[row]
            means.append(total / weight.sum(1, keepdim=True))
        return torch.cat(means)

"""ABX discriminability: of A and X of one category and B of another, how often X is nearer to B than to A.

Schatz, Peddinti, Bach, Jansen, Hermansky, Dupoux: Evaluating speech features with the minimal-pair ABX task,
Interspeech 2013. Averages as for the Zero Resource Speech Benchmark 2021 (Nguyen et al., arXiv 2011.11588): over the
triples of a cell, which are those of two categories and a group, then over groups, then over pairs of categories.
Differs: across groups X may be of any other group in one cell, and each group that has X does not weigh alike.
"""

from typing import Literal, NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor

Mode = Literal["any", "within", "across"]


class Triples(NamedTuple):
    """Rows of A, B and X; A and X are of a category, and never the same row."""

    a: Int[Tensor, " t"]
    b: Int[Tensor, " t"]
    x: Int[Tensor, " t"]
    cell: Int[Tensor, " t"]  # which cell a triple is of
    pair: Int[Tensor, " c"]  # which pair of categories a cell is of


def draw_triples(y: Int[Tensor, " n"], group: Int[Tensor, " n"], mode: Mode, most: int, seed: int) -> Triples:
    """All triples, or as many of each cell that there are about `most`; of too many cells `most` are drawn.

    y: category of each row. group: speaker, or the like: A and B are of one; so is X `within`, and of another `across`.
    With `any` all rows must be of one group. Raises ValueError if there is no triple.
    """
    rng = torch.Generator().manual_seed(seed)
    classes, y = y.cpu().unique(return_inverse=True)
    groups, group = group.cpu().unique(return_inverse=True)
    shape, across = (len(classes), len(groups)), mode == "across"
    count = (y * len(groups) + group).bincount(minlength=shape[0] * shape[1]).view(shape)  # (c, g)
    xs = count.sum(1, keepdim=True) - count if across else count - 1  # rows that X may be, for each A
    paired = ((count > 0) & (xs > 0))[:, None] & (count > 0) & ~torch.eye(shape[0], dtype=torch.bool)[:, :, None]
    cells = paired.nonzero()  # (cells, 3): categories of A and B, and their group
    if not len(cells):
        raise ValueError("there is no triple of A, B and X")
    if len(cells) > most:
        cells = cells[torch.randperm(len(cells), generator=rng)[:most].sort().values]
    of_class = [(y == label).nonzero().flatten() for label in range(shape[0])]
    own = {(a, g): rows[group[rows] == g] for a, rows in enumerate(of_class) for g in range(shape[1])}
    others = {key: of_class[key[0]][group[of_class[key[0]]] != key[1]] if across else rows for key, rows in own.items()}
    parts = []
    for a, b, g in cells.tolist():
        first, second, third = own[a, g], own[b, g], others[a, g]
        free = len(third) - (not across)  # X is not A
        total = len(first) * len(second) * free
        few = max(1, most // len(cells))
        number = torch.arange(total) if total <= few else torch.randint(total, (few,), generator=rng)
        i, rest = number % len(first), number // len(first)
        j, k = rest % len(second), rest // len(second)
        parts.append((first[i], second[j], third[k if across else k + (k >= i)]))
    cell = torch.arange(len(cells)).repeat_interleave(torch.tensor([len(each[0]) for each in parts]))
    a, b, x = (torch.cat(each) for each in zip(*parts, strict=True))
    return Triples(a, b, x, cell, cells[:, 0] * shape[0] + cells[:, 1])


def error_rate(to_a: Float[Tensor, " t"], to_b: Float[Tensor, " t"], triples: Triples) -> float:
    """Share of triples whose X is nearer to B, a tie counting half: of each cell, then of each pair, then of all."""
    wrong = (to_a > to_b).double() + (to_a == to_b).double() / 2
    return float(means(means(wrong.cpu(), triples.cell), triples.pair).mean())


def means(values: Float[Tensor, " n"], part: Int[Tensor, " n"]) -> Float[Tensor, " p"]:
    """The mean of each part that has a value, in the order of their numbers."""
    _, part, sizes = part.unique(return_inverse=True, return_counts=True)
    return part.bincount(values) / sizes

"""Permutations far apart by Hamming distance: the classes of a jigsaw puzzle.

After the greedy algorithm of M. Noroozi, P. Favaro, "Unsupervised Learning of Visual Representations by Solving Jigsaw
Puzzles", ECCV 2016, arXiv 1603.09246. Differs: it begins with the identity and not at random, and of permutations with
an equal mean distance it takes the one whose nearest is furthest, so that the set is the same everywhere.
"""

from functools import cache
from itertools import chain, permutations

import numpy as np
import torch
from jaxtyping import Int
from torch import Tensor


@cache
def distant_permutations(n: int, count: int) -> Int[Tensor, "count n"]:
    """`count` of the permutations of 0 to n - 1, each with the largest mean distance to those before it.

    The result is cached and must not be written to. n = 9 takes seconds for hundreds. Raises ValueError if `count` is
    more than n!.
    """
    every = torch.from_numpy(np.fromiter(chain.from_iterable(permutations(range(n))), np.int8).reshape(-1, n).T.copy())
    if count > every.shape[1]:
        raise ValueError(f"{n} tiles have {every.shape[1]} permutations, not {count}")
    total, nearest = torch.zeros(every.shape[1], dtype=torch.int32), torch.full((every.shape[1],), n, dtype=torch.int32)
    chosen = [0]
    while len(chosen) < count:
        distance = (every != every[:, chosen[-1:]]).sum(0, dtype=torch.int32)
        total += distance
        nearest = torch.minimum(nearest, distance)
        rank = (total * (n + 1) + nearest).masked_fill_(nearest == 0, -1)  # nearest 0: it is chosen
        chosen.append(int(rank.argmax()))
    return every[:, chosen].T.long()

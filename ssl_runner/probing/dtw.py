"""Dynamic time warping: the distance of two sequences of features along their best alignment, for many pairs at once.

Sakoe & Chiba, Dynamic programming algorithm optimization for spoken word recognition, IEEE Transactions on Acoustics,
Speech, and Signal Processing 26, 1978. Steps are one on in either sequence or in both. As in the ABX evaluations of
ZeroSpeech, the distance of two frames is their angle over pi, and the sum along the path is divided by its length.
"""

import math

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

CELLS = 2**22  # distances of frames at a time, 16 MB


def warped_distances(
    tokens: Float[Tensor, "n t d"], lengths: Int[Tensor, " n"], pairs: Int[Tensor, "p 2"]
) -> Float[Tensor, " p"]:
    """Distances in [0, 1] of pairs of rows, of which each has its first `lengths` frames, one at least."""
    unit, lengths = F.normalize(tokens, dim=2), lengths.clamp(min=1)
    longest = lengths[pairs].amax(1)
    order = longest.argsort(stable=True)  # those of about one length together: little is computed of padding
    at_once = max(1, CELLS // int(longest.max()) ** 2)
    parts = []
    for part in order.split(at_once):
        (first, second), frames = pairs[part].T, int(longest[part].max())
        cosine = unit[first, :frames] @ unit[second, :frames].transpose(1, 2)  # (b, frames, frames)
        angle = cosine.clamp(-1, 1).acos() / math.pi
        parts.append(align(angle, lengths[first], lengths[second]))
    return torch.cat(parts)[order.argsort()]


def align(distance: Float[Tensor, "p n m"], n: Int[Tensor, " p"], m: Int[Tensor, " p"]) -> Float[Tensor, " p"]:
    """The mean distance along the path of the least sum from the first cell to (n - 1, m - 1), of each pair.

    Of paths of equal sums the one that ends in a diagonal step. All pairs go from antidiagonal to antidiagonal.
    """
    rows, columns = distance.shape[1:]
    cells = distance.permute(1, 2, 0).reshape(rows * columns, -1)  # pairs last: what is next to each other is read so
    stride, pairs = max(1, columns - 1), torch.arange(cells.shape[1], device=cells.device)
    edge = cells.new_full((rows + 1, cells.shape[1]), math.inf)  # sums by row, from -1
    before, last = (edge.clone(), torch.zeros_like(edge)), (edge, torch.zeros_like(edge))  # sums and lengths
    before[0][0] = 0  # from where the first cell is reached
    mean = cells.new_zeros(len(pairs))
    for diagonal in range(int((n + m).max()) - 1):
        low, high = max(0, diagonal - columns + 1), min(rows, diagonal + 1)
        best, steps = (each[low:high] for each in before)  # from (i - 1, j - 1)
        for shift in (0, 1):  # from (i - 1, j), and from (i, j - 1)
            other, length = (each[low + shift : high + shift] for each in last)
            less = other < best
            best, steps = torch.where(less, other, best), torch.where(less, length, steps)
        now = edge.clone(), torch.zeros_like(edge)
        first = diagonal + low * (columns - 1)
        torch.add(best, cells[first : first + (high - low - 1) * stride + 1 : stride], out=now[0][low + 1 : high + 1])
        torch.add(steps, 1, out=now[1][low + 1 : high + 1])
        mean = torch.where(n + m - 2 == diagonal, now[0][n, pairs] / now[1][n, pairs], mean)
        before, last = last, now
    return mean

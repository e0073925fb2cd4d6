"""Exact and near duplicates between two sets of images: equal bytes, or a perceptual hash confirmed by the pixels.

The hash: Zauner, Implementation and benchmarking of perceptual image hash functions, 2010, section 3.2.1: the signs of
64 low frequencies of a discrete cosine transform of the grey image, about their median. It finds candidates, among them
two gradients or two flat images. Differs: no mean filter before the transform, as shrinking averages already.
The pixels: Wang, Bovik, Sheikh, Simoncelli: Image quality assessment: from error visibility to structural similarity,
IEEE Transactions on Image Processing 13(4), 2004: contrast and structure in small windows. Correlation alone is not
enough: silhouettes that coincide before different backgrounds reach 0.95.
Differs: brightness is left out and the images are brought to one contrast before; even windows of 7 x 7, not Gaussian;
the channels' covariances are added up, so that a channel counts by what is in it.
"""

import hashlib
import math
from collections import defaultdict
from typing import Literal, NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int, UInt8
from torch import Tensor

from ssl_runner.contract import Rows
from ssl_runner.data.resize import grey

SIDE = 32  # pixels of a thumbnail, in which all is compared
SMALLEST = 16  # pixels: smaller images have too little content to tell a copy from a likeness
CANDIDATES = 8  # looked at for each query row, the nearest hashes; also the copies of it that are listed
CELLS = 2**24  # numbers in the largest matrix, 64 MB
AT_ONCE = 512  # rows read, and pairs compared, at a time
PART = 2**16  # rows of the bank whose thumbnails are held at a time, 200 MB of colour; limit: see nearest_hashes
REACH = 2  # pixels that one image may be shifted against the other
FLAT = 2.0  # grey levels: with a smaller standard deviation an image has no content to compare
RELATED = 0.7  # correlation of two grey images below which they are not compared any closer
STEADY = (0.03 * 255 / 50) ** 2  # the paper's C2, in units of an image whose deviation is 50 grey levels


class Pair(NamedTuple):
    """A row of the query and one of the bank that show the same."""

    query: int
    bank: int
    kind: Literal["exact", "near", "mirrored"]  # equal bytes; by hash and pixels; likewise, the query flipped
    distance: int  # bits of 64 in which the hashes differ
    similarity: float  # structural, at most 1


def find_pairs(query: Rows, bank: Rows, *, distance: int, least: float) -> list[Pair]:
    """Pairs of uint8 images that show the same, by query row.

    Of each row there are CANDIDATES at most of a kind, the nearest hashes, and as many for each further PART rows of
    the bank. A pair is of one kind, the first that fits. Images with a side below SMALLEST have exact pairs only.
    distance: bits that hashes may differ in. least: similarity of a near or mirrored pair.
    """
    digests, thumbs = digest_rows(query, torch.arange(len(query)))
    tiny = min(query[torch.arange(1)].shape[2:]) < SMALLEST
    pairs: dict[tuple[int, int], Pair] = {}
    for part in torch.arange(len(bank)).split(PART):
        bank_digests, bank_thumbs = digest_rows(bank, part)
        first, copies = int(part[0]), defaultdict(list)
        for row, digest in enumerate(bank_digests, first):
            copies[digest].append(row)
        for row, digest in enumerate(digests):
            pairs |= {(row, copy): Pair(row, copy, "exact", 0, 1.0) for copy in copies.get(digest, ())[:CANDIDATES]}
        if tiny:
            continue
        hashed = perceptual_hashes(bank_thumbs)
        for kind, shown in (("near", thumbs), ("mirrored", thumbs.flip(3))):
            for some in nearest_hashes(perceptual_hashes(shown), hashed, distance).split(AT_ONCE):
                values = structural_similarity(shown[some[:, 0]], bank_thumbs[some[:, 1]])
                for (row, other, bits), value in zip(some.tolist(), values.tolist(), strict=True):
                    if value >= least:
                        pairs.setdefault((row, first + other), Pair(row, first + other, kind, bits, value))
    return sorted(pairs.values())


def digest_rows(rows: Rows, which: Int[Tensor, " n"]) -> tuple[list[bytes], UInt8[Tensor, "n c side side"]]:
    """Digest of the bytes of each row, and its thumbnail, 1 kB a channel."""
    digests, thumbs = [], []
    for index in which.split(AT_ONCE):
        x = rows[index].cpu().contiguous()  # (b, c, h, w)
        digests += [hashlib.blake2b(each.numpy().data, digest_size=16).digest() for each in x]
        if x.shape[2:] != (SIDE, SIDE):
            x = F.interpolate(x.float(), size=(SIDE, SIDE), mode="bilinear", antialias=True).round().clamp(0, 255)
        thumbs.append(x.to(torch.uint8))
    return digests, torch.cat(thumbs)


def perceptual_hashes(thumbs: UInt8[Tensor, "n c side side"]) -> Float[Tensor, "n 64"]:
    """Bits as -1 and 1, so that a product of two hashes is 64 less twice the bits in which they differ."""
    i, k = torch.arange(SIDE), torch.arange(1, 9)[:, None]  # frequency 0 is left out: the mean of a line
    cosines = torch.cos(math.pi * (2 * i + 1) * k / (2 * SIDE))  # (8, SIDE)
    low = torch.cat([(cosines @ grey(part) @ cosines.T).flatten(1) for part in thumbs.split(AT_ONCE)])  # (n, 64)
    return 2 * (low > low.median(1, keepdim=True).values).float() - 1


def nearest_hashes(query: Float[Tensor, "q 64"], bank: Float[Tensor, "n 64"], distance: int) -> Int[Tensor, "p 3"]:
    """Candidates: query row, bank row and the bits in which their hashes differ, at most `distance`.

    They are sorted by query row, distance and bank row; each query row has CANDIDATES at most. The bank has at most
    2^18 - 2^12 rows.
    """
    n, k, parts = len(bank), min(CANDIDATES, len(bank)), query.split(max(1, CELLS // len(bank)))
    # Distance times n, plus the bank row, exact in float32 below 2^24: one order for both, and no ties.
    offset, slope = (torch.arange(n) + 32 * n).float(), -n / 2
    nearest = [torch.addmm(offset, part, bank.T, alpha=slope).topk(k, largest=False).values for part in parts]
    nearest = torch.cat(nearest).long()  # (q, k)
    rows = torch.arange(len(query))[:, None].expand_as(nearest)
    candidates = torch.stack([rows, nearest % n, nearest // n], 2).flatten(0, 1)  # (q * k, 3)
    return candidates[candidates[:, 2] <= distance]


def structural_similarity(a: UInt8[Tensor, "p c side side"], b: UInt8[Tensor, "p c side side"]) -> Float[Tensor, " p"]:
    """Mean similarity, at most 1, of the centre of each `a` and the part of its `b` that correlates best with it.

    It is 0 if they are unrelated, or if one of them is flat.
    """
    values, window, inner = torch.zeros(len(a)), SIDE - 2 * REACH, slice(REACH, -REACH)
    if len(a) == 0:
        return values
    fixed, moved = grey(a)[:, inner, inner], grey(b)[:, None] - 128  # (p, window, window), (p, 1, side, side)
    fixed = fixed - fixed.mean((1, 2), keepdim=True)
    products = F.conv2d(moved.transpose(0, 1), fixed[:, None], groups=len(a))[0] / window**2  # (p, shifts, shifts)
    variance = F.avg_pool2d(moved.square(), window, 1)[:, 0] - F.avg_pool2d(moved, window, 1)[:, 0].square()
    deviations = variance.clamp(min=1).sqrt() * fixed.square().mean((1, 2), keepdim=True).clamp(min=1).sqrt()
    correlation, best = (products / deviations).flatten(1).max(1)
    y, x = best // (2 * REACH + 1), best % (2 * REACH + 1)
    every, at = torch.arange(len(a))[:, None, None], torch.arange(window)
    part = b[every, :, (y[:, None] + at)[:, :, None], (x[:, None] + at)[:, None]].movedim(3, 1)
    u, v = (each - each.mean((2, 3), keepdim=True) for each in (a[:, :, inner, inner].float(), part.float()))
    contrasts = [each.square().mean((1, 2, 3)).sqrt() for each in (u, v)]  # (p,)
    rows = ((correlation >= RELATED) & (torch.minimum(*contrasts) >= FLAT)).nonzero().flatten()
    u, v = (each[rows] / contrast[rows, None, None, None] for each, contrast in zip((u, v), contrasts, strict=True))
    local = torch.nn.AvgPool2d(7, 1)
    covariance = (local(u * v) - local(u) * local(v)).mean(1)  # (r, i, i)
    variances = (local(u * u) - local(u).square() + local(v * v) - local(v).square()).mean(1)
    values[rows] = ((2 * covariance + STEADY) / (variances + STEADY)).mean((1, 2))  # equation 13, its second factor
    return values

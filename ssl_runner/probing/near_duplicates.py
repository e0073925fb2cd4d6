"""Exact and near duplicates between two sets of images: equal bytes, or a perceptual hash confirmed by the pixels.

The hash: Zauner, Implementation and benchmarking of perceptual image hash functions, 2010, section 3.2.1: the signs of
64 low frequencies of a discrete cosine transform of the grey image, about their median. It finds candidates, among them
two gradients or two flat images, which probing/similarity.py then confirms or refuses.
Differs: no mean filter before the transform, as shrinking averages already.
"""

import hashlib
import math
from collections import defaultdict
from collections.abc import Iterator
from typing import Literal, NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int, UInt8
from torch import Tensor

from ssl_runner.contract import Rows
from ssl_runner.data.resize import grey
from ssl_runner.probing.similarity import structural_similarity

SIDE = 32  # pixels of a thumbnail, in which all is compared
SMALLEST = 16  # pixels: smaller images have too little content to tell a copy from a likeness
CANDIDATES = 8  # looked at for each query row, the nearest hashes; also the copies of it that are listed
CELLS = 2**24  # numbers in the largest matrix, 64 MB
AT_ONCE = 512  # rows read, and pairs compared, at a time
PART = 2**16  # rows of the bank whose thumbnails are held at a time, 200 MB of colour; limit: see nearest_hashes


class Pair(NamedTuple):
    """A row of the query and one of the bank that show the same."""

    query: int
    bank: int
    kind: Literal["exact", "near", "mirrored"]  # equal bytes; by hash and pixels; likewise, the query flipped
    distance: int  # bits of 64 in which the hashes differ
    similarity: float  # structural, at most 1


class Digests(NamedTuple):
    """Digest of the bytes of each row, and its thumbnail, 1 kB a channel."""

    digests: list[bytes]
    thumbs: UInt8[Tensor, "n c side side"]


def find_pairs(query: Rows, bank: Rows, *, distance: int, least: float) -> list[Pair]:
    """Pairs of uint8 images that show the same, by query row.

    Of each row there are CANDIDATES at most of a kind, the nearest hashes, and as many for each further PART rows of
    the bank. A pair is of one kind, the first that fits. Images with a side below SMALLEST have exact pairs only.
    distance: bits that hashes may differ in. least: similarity of a near or mirrored pair.
    """
    known = digest_rows(query, torch.arange(len(query)))
    tiny = min(query[torch.arange(1)].shape[2:]) < SMALLEST
    return sorted(
        pair._replace(bank=int(part[0]) + pair.bank)
        for part in torch.arange(len(bank)).split(PART)
        for pair in match(known, digest_rows(bank, part), None if tiny else distance, least)
    )


def match(query: Digests, bank: Digests, distance: int | None, least: float) -> list[Pair]:
    """Pairs of rows by their digests; exact ones alone if there is no distance."""
    copies: dict[bytes, list[int]] = defaultdict(list)
    for row, digest in enumerate(bank.digests):
        copies[digest].append(row)
    pairs = {
        (row, copy): Pair(row, copy, "exact", 0, 1.0)
        for row, digest in enumerate(query.digests)
        for copy in copies.get(digest, ())[:CANDIDATES]
    }
    if distance is not None:
        hashed = perceptual_hashes(bank.thumbs)
        for kind, thumbs in (("near", query.thumbs), ("mirrored", query.thumbs.flip(3))):
            for row, other, bits, value in confirm(thumbs, bank.thumbs, hashed, distance):
                if value >= least:
                    pairs.setdefault((row, other), Pair(row, other, kind, bits, value))
    return list(pairs.values())


def digest_rows(rows: Rows, which: Int[Tensor, " n"]) -> Digests:
    one = rows[which[:1]]
    digests: list[bytes] = []
    thumbs = torch.empty(len(which), one.shape[1], SIDE, SIDE, dtype=torch.uint8)
    for index in which.split(AT_ONCE):
        x = rows[index].cpu().contiguous()  # (b, c, h, w)
        digests += [hashlib.blake2b(each.numpy().data, digest_size=16).digest() for each in x]
        if x.shape[2:] != (SIDE, SIDE):
            x = F.interpolate(x.float(), size=(SIDE, SIDE), mode="bilinear", antialias=True)
            x = x.round().clamp(0, 255).to(torch.uint8)
        thumbs[len(digests) - len(x) : len(digests)] = x
    return Digests(digests, thumbs)


def perceptual_hashes(thumbs: UInt8[Tensor, "n c side side"]) -> Float[Tensor, "n 64"]:
    """Bits as -1 and 1, so that a product of two hashes is 64 less twice the bits in which they differ."""
    i, k = torch.arange(SIDE), torch.arange(1, 9)[:, None]  # frequency 0 is left out: the mean of a line
    cosines = torch.cos(math.pi * (2 * i + 1) * k / (2 * SIDE))  # (8, SIDE)
    bits = [
        low > low.median(1, keepdim=True).values
        for part in thumbs.split(AT_ONCE)
        for low in [(cosines @ grey(part) @ cosines.T).flatten(1)]  # (b, 64)
    ]
    return 2 * torch.cat(bits).float() - 1


def confirm(
    query: UInt8[Tensor, "q c side side"],
    bank: UInt8[Tensor, "n c side side"],
    hashed: Float[Tensor, "n 64"],
    distance: int,
) -> Iterator[tuple[int, int, int, float]]:
    """Query row, bank row, bits and similarity of each candidate. `hashed`: the hashes of the bank."""
    for some in nearest_hashes(perceptual_hashes(query), hashed, distance).split(AT_ONCE):
        values = structural_similarity(query[some[:, 0]], bank[some[:, 1]])
        yield from ((*each, value) for each, value in zip(some.tolist(), values.tolist(), strict=True))


def nearest_hashes(query: Float[Tensor, "q 64"], bank: Float[Tensor, "n 64"], distance: int) -> Int[Tensor, "p 3"]:
    """Candidates: query row, bank row and the bits in which their hashes differ, at most `distance`.

    They are sorted by query row, distance and bank row; each query row has CANDIDATES at most. The bank has at most
    2^18 - 2^12 rows.
    """
    pairs, n = [], len(bank)
    step = max(1, CELLS // n)
    for start in range(0, len(query), step):
        # Distance times n, plus the bank row, exact in float32 below 2^24: one order for both, and no ties.
        keys = (query[start : start + step] @ bank.T).mul_(-n / 2).add_(torch.arange(n) + 32 * n)  # (b, n)
        nearest = keys.topk(min(CANDIDATES, n), largest=False).values.long()  # (b, k)
        del keys  # or there are two of them
        rows = torch.arange(start, start + len(nearest))[:, None].expand_as(nearest)
        some = torch.stack([rows, nearest % n, nearest // n], 2).flatten(0, 1)  # (b * k, 3)
        pairs.append(some[some[:, 2] <= distance])
    return torch.cat(pairs)

"""Images that are the same as images of another split, or nearly: by their bytes, and by a perceptual hash confirmed
pixel by pixel.

The hash: Zauner, Implementation and benchmarking of perceptual image hash functions, 2010, section 3.2.1: the signs of
64 low frequencies of a discrete cosine transform of the grey image, about their median. It finds candidates, two
gradients or two flat images with their noise among them, which probing/similarity.py then confirms or refuses.
Differs: no mean filter before the transform, as shrinking averages already.
"""

from __future__ import annotations

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
from ssl_runner.probing.similarity import structural

SIDE = 32  # pixels of a thumbnail, in which all is compared
SMALLEST = 16  # pixels: smaller images have too little in them to tell a copy from a likeness
CANDIDATES = 8  # looked at for each query row, the nearest hashes; also the copies of it that are listed
CELLS = 2**24  # numbers in the largest matrix, 64 MB
AT_ONCE = 512  # rows read, and pairs compared, at a time
PART = 2**16  # rows of the bank whose thumbnails are held at a time, 200 MB of colour; see candidates for the limit


class Pair(NamedTuple):
    """A row of the query and one of the bank that show the same."""

    query: int
    bank: int
    kind: Literal[
        "exact", "near", "mirrored"
    ]  # byte for byte; by hash and pixels; likewise, the query's left being right
    distance: int  # bits of 64 in which the hashes differ
    similarity: float  # structural, at most 1


class Digested(NamedTuple):
    """What is kept of rows: a digest of the bytes of each, and its thumbnail, 1 kB a channel."""

    digests: list[bytes]
    thumbs: UInt8[Tensor, "n c side side"]


def pairs(query: Rows, bank: Rows, *, distance: int, least: float) -> list[Pair]:
    """Pairs of rows that show the same, by query row; of each row CANDIDATES at most of a kind, the nearest hashes.

    As many again for each further PART rows of the bank. A pair stands in one kind alone, the first that it belongs to.
    Images with a side below SMALLEST have exact pairs only.
    distance: bits that hashes may differ in. least: similarity of what is near or mirrored.
    Raises ValueError where the rows are no images.
    """
    known = read(query, torch.arange(len(query)))
    tiny = min(query[torch.arange(1)].shape[2:]) < SMALLEST
    return sorted(
        pair._replace(bank=int(part[0]) + pair.bank)
        for part in torch.arange(len(bank)).split(PART)
        for pair in among(known, read(bank, part), None if tiny else distance, least)
    )


def among(query: Digested, bank: Digested, distance: int | None, least: float) -> list[Pair]:
    """Pairs of rows that are read; exact ones alone where there is no distance."""
    copies: dict[bytes, list[int]] = defaultdict(list)
    for row, digest in enumerate(bank.digests):
        copies[digest].append(row)
    found = {
        (row, copy): Pair(row, copy, "exact", 0, 1.0)
        for row, digest in enumerate(query.digests)
        for copy in copies.get(digest, ())[:CANDIDATES]
    }
    if distance is not None:
        hashed = hashes(bank.thumbs)
        for kind, thumbs in (("near", query.thumbs), ("mirrored", query.thumbs.flip(3))):
            for row, other, bits, value in alike(thumbs, bank.thumbs, hashed, distance):
                if value >= least:
                    found.setdefault((row, other), Pair(row, other, kind, bits, value))
    return list(found.values())


def read(rows: Rows, which: Int[Tensor, " n"]) -> Digested:
    """Some of the rows."""
    one = rows[which[:1]]
    if one.ndim != 4 or one.dtype != torch.uint8:
        raise ValueError(f"duplicates are looked for among uint8 images, and a sample is {tuple(one.shape[1:])}")
    digests: list[bytes] = []
    thumbs = torch.empty(len(which), one.shape[1], SIDE, SIDE, dtype=torch.uint8)
    for index in which.split(AT_ONCE):
        x = rows[index].cpu().contiguous()  # (b, c, h, w)
        digests += [hashlib.blake2b(each.numpy().data, digest_size=16).digest() for each in x]
        if x.shape[2:] != (SIDE, SIDE):
            x = F.interpolate(x.float(), size=(SIDE, SIDE), mode="bilinear", antialias=True)
            x = x.round().clamp(0, 255).to(torch.uint8)
        thumbs[len(digests) - len(x) : len(digests)] = x
    return Digested(digests, thumbs)


def hashes(thumbs: UInt8[Tensor, "n c side side"]) -> Float[Tensor, "n 64"]:
    """Bits as -1 and 1, so that a product of two hashes is 64 less twice the bits in which they differ."""
    i, k = torch.arange(SIDE), torch.arange(1, 9)[:, None]  # frequency 0 is left out: the mean of a line
    cosines = torch.cos(math.pi * (2 * i + 1) * k / (2 * SIDE))  # (8, SIDE)
    bits = [
        low > low.median(1, keepdim=True).values
        for part in thumbs.split(AT_ONCE)
        for low in [(cosines @ grey(part) @ cosines.T).flatten(1)]  # (b, 64)
    ]
    return 2 * torch.cat(bits).float() - 1


def alike(
    query: UInt8[Tensor, "q c side side"],
    bank: UInt8[Tensor, "n c side side"],
    hashed: Float[Tensor, "n 64"],
    distance: int,
) -> Iterator[tuple[int, int, int, float]]:
    """Query row, bank row, bits and similarity of the candidates. `hashed` are the bank's hashes."""
    for some in candidates(hashes(query), hashed, distance).split(AT_ONCE):
        values = structural(query[some[:, 0]], bank[some[:, 1]])
        yield from ((*each, value) for each, value in zip(some.tolist(), values.tolist(), strict=True))


def candidates(query: Float[Tensor, "q 64"], bank: Float[Tensor, "n 64"], distance: int) -> Int[Tensor, "p 3"]:
    """Query row, bank row and the bits in which their hashes differ, of pairs that differ in `distance` at most.

    They are sorted by query row, distance and bank row; of each query row there are CANDIDATES at most. The bank has at
    most 2^18 - 2^12 rows.
    """
    found, n = [], len(bank)
    step = max(1, CELLS // n)
    for start in range(0, len(query), step):
        # Distance times n, plus the bank row, exact in float32 below 2^24: one order for both, and no ties.
        keys = (query[start : start + step] @ bank.T).mul_(-n / 2).add_(torch.arange(n) + 32 * n)  # (b, n)
        nearest = keys.topk(min(CANDIDATES, n), largest=False).values.long()  # (b, k)
        del keys  # or there are two of them
        rows = torch.arange(start, start + len(nearest))[:, None].expand_as(nearest)
        some = torch.stack([rows, nearest % n, nearest // n], 2).flatten(0, 1)  # (b * k, 3)
        found.append(some[some[:, 2] <= distance])
    return torch.cat(found)

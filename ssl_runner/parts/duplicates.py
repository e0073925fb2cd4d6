"""Images that are the same as images of another split, or nearly: by their bytes, and by a perceptual hash confirmed
pixel by pixel.

The hash: Zauner, Implementation and benchmarking of perceptual image hash functions, 2010, section 3.2.1: the signs of
64 low frequencies of a discrete cosine transform of the grey image, about their median. It finds candidates, two
gradients or two flat images with their noise among them, which parts/similarity.py then confirms or refuses.
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
from ssl_runner.parts.similarity import grey, structural

SIDE = 32  # pixels of a thumbnail, in which all is compared
SMALLEST = 16  # pixels: smaller images have too little in them to tell a copy from a likeness
CANDIDATES = 8  # looked at for each query row, the nearest hashes; also the copies of it that are listed
CELLS = 2**24  # numbers in the largest matrix, 64 MB
AT_ONCE = 512  # rows read, and pairs compared, at a time


class Pair(NamedTuple):
    """A row of the query and one of the bank that show the same."""

    query: int
    bank: int
    kind: Literal[
        "exact", "near", "mirrored"
    ]  # byte for byte; by hash and pixels; likewise, the query's left being right
    distance: int  # bits of 64 in which the hashes differ
    similarity: float  # structural, at most 1


def pairs(query: Rows, bank: Rows, *, distance: int, least: float) -> list[Pair]:
    """Pairs of rows that show the same, by query row; of each row CANDIDATES at most of a kind, the nearest hashes.

    A pair stands in one kind alone, the first that it belongs to. Images with a side below SMALLEST have exact pairs
    only.
    distance: bits that hashes may differ in. least: similarity of what is near or mirrored.
    Raises ValueError where the rows are no images.
    """
    (query_bytes, query_thumbs), (bank_bytes, bank_thumbs) = read(query), read(bank)
    copies: dict[bytes, list[int]] = defaultdict(list)
    for row, digest in enumerate(bank_bytes):
        copies[digest].append(row)
    found = {
        (row, copy): Pair(row, copy, "exact", 0, 1.0)
        for row, digest in enumerate(query_bytes)
        for copy in copies.get(digest, ())[:CANDIDATES]
    }
    if min(query[torch.arange(1)].shape[2:]) >= SMALLEST:
        hashed = hashes(bank_thumbs)
        for kind, thumbs in (("near", query_thumbs), ("mirrored", query_thumbs.flip(3))):
            for row, other, bits, value in alike(thumbs, bank_thumbs, hashed, distance):
                if value >= least:
                    found.setdefault((row, other), Pair(row, other, kind, bits, value))
    return sorted(found.values())


def read(rows: Rows) -> tuple[list[bytes], UInt8[Tensor, "n c side side"]]:
    """A digest of each row's bytes, and its thumbnail: 1 kB a channel."""
    digests: list[bytes] = []
    thumbs = []
    for index in torch.arange(len(rows)).split(AT_ONCE):
        x = rows[index].cpu().contiguous()  # (b, c, h, w)
        if x.ndim != 4 or x.dtype != torch.uint8:
            raise ValueError(f"duplicates are looked for among uint8 images, and a sample is {tuple(x.shape[1:])}")
        digests += [hashlib.blake2b(each.numpy().data, digest_size=16).digest() for each in x]
        if x.shape[2:] != (SIDE, SIDE):
            x = F.interpolate(x.float(), size=(SIDE, SIDE), mode="bilinear", antialias=True)
            x = x.round().clamp(0, 255).to(torch.uint8)
        thumbs.append(x)  # (b, c, SIDE, SIDE)
    return digests, torch.cat(thumbs)


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

    They are sorted by query row and distance; of each query row there are CANDIDATES at most.
    """
    found = []
    step = max(1, CELLS // len(bank))
    for start in range(0, len(query), step):
        bits = (64 - query[start : start + step] @ bank.T) / 2  # (b, n)
        near = (bits <= distance).nonzero()  # (p, 2)
        far = bits[near[:, 0], near[:, 1]].long()
        order = (near[:, 0] * 65 + far).argsort(stable=True)
        row, far = near[order, 0].contiguous(), far[order]
        kept = torch.arange(len(row)) - torch.searchsorted(row, row) < CANDIDATES  # its place within its query row
        found.append(torch.stack([row + start, near[order, 1], far], 1)[kept])
    return torch.cat(found)

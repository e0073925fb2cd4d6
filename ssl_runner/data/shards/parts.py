"""Parts of a set of shards: which samples are learnt from, and which are measured on."""

import re
from collections.abc import Mapping, Sequence

import numpy as np
import torch
from jaxtyping import Int
from torch import Tensor

from ssl_runner.data.image_files import folders
from ssl_runner.data.image_files.folders import first_names
from ssl_runner.data.rows import stratified_split
from ssl_runner.data.shards.index import Index
from ssl_runner.data.shards.scan import PARTS
from ssl_runner.errors import are, plural

UNEVEN = 4  # times as many samples in a shard of training as in another, from which on both are named


def part_of(name: str) -> str:
    """train, unlabelled, validation or test, by the last word that means one, of the file or else of its folders."""
    *above, file = name.lower().split("/")
    for words in (re.findall("[a-z]+", file), re.findall("[a-z]+", " ".join(above))):
        if parts := [folders.PARTS[word] for word in words if word in folders.PARTS]:
            return parts[-1]
    return "train"


def split_rows(index: Index, labelled: bool, shares: Mapping[str, float], seed: int) -> dict[str, Int[Tensor, " _"]]:
    """Ascending rows by part: train, and unlabelled, validation and test if there are some.

    labelled: whether labels are used: then training samples without one are unlabelled, and none is measured on.
    shares: of the training rows that a part takes if it has no shards, in the order in which they are taken.
    """
    part = {name: torch.from_numpy(index.rows_of(name)) for name in PARTS}
    y = torch.from_numpy(index.table["label"].astype(np.int64))
    if not labelled:
        return {"train": (part["train"] | part["unlabelled"]).nonzero().flatten()}
    rows = {name: (part[name] & (y >= 0)).nonzero().flatten() for name in PARTS}
    rows["unlabelled"] = (part["unlabelled"] | (part["train"] & (y < 0))).nonzero().flatten()
    have_shards = {shard.part for shard in index.shards}
    for name, share in shares.items():
        if name not in have_shards:
            rest, rows[name] = stratified_split(y[rows["train"]], share, seed)
            rows["train"], rows[name] = rows["train"][rest], rows["train"][rows[name]]
    return {name: each for name, each in rows.items() if len(each) or name == "train"}


def describe_parts(index: Index, rows: Mapping[str, Sequence | Tensor], classes: Sequence[str]) -> str:
    """Parts with the numbers of samples and shards, classes, and what was left out and why."""
    shards = {name: sum(shard.part == name for shard in index.shards) for name in PARTS}
    parts = [
        f"{name} {len(each):,} ({plural(shards[name], 'shard') if shards[name] else 'a share of train'})"
        if name != "unlabelled" or shards[name]
        else f"{name} {len(each):,} (of train, without a label)"
        for name, each in rows.items()
    ]
    labels = f"{plural(len(classes), 'class')}: {first_names(classes)}" if classes else "no labels"
    rest = ", ".join(f"{count:,} {reason}" for reason, count in sorted(index.left_out.items()))
    return f"{', '.join(parts)}; {labels}{f'; left out: {rest}' if rest else ''}"


def warnings(index: Index, rows: Mapping[str, Sequence | Tensor], beside: bool = False) -> list[str]:
    """A line for parts that are measured on no more, and for shards of which some hold many more samples.

    beside: whether it is a folder of labelled images that is measured on.
    """
    unused = sorted({shard.part for shard in index.shards} - rows.keys() - {"unlabelled"})
    why = "dataset.labelled is measured on" if beside else "to measure on them takes labels in them and in training"
    lines = [f"the shards of {part} are left out: {why}" for part in unused]
    shards = sorted((s for s in index.shards if s.part in PARTS[:2] and s.samples), key=lambda shard: shard.samples)
    if shards and shards[-1].samples > UNEVEN * shards[0].samples:
        few, many = (f"{each.name} has {plural(each.samples, 'sample')}" for each in (shards[0], shards[-1]))
        lines.append(f"the shards are uneven: {few}, {many}; their samples are mixed, but not evenly")
    empty = [shard.name for shard in index.shards if not shard.samples]
    return lines + ([f"{plural(len(empty), 'shard')} {are(len(empty))} empty: {first_names(empty)}"] if empty else [])

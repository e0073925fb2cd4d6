"""Data leakage: query images with exact or near duplicates in the bank or the training set, and accuracy without them.

After Barz & Denzler, Do we train on test data? Purging CIFAR of near-duplicates, Journal of Imaging 2020, 6(6), 41,
arXiv 1902.00423. probing/near_duplicates.py decides which images count as duplicates.
Differs: pairs are found by a perceptual hash and confirmed by their pixels, not by a network's features and by eye, so
rotated images, or other crops of a scene, are not found. On CIFAR-10, saved as JPEG, 3.05 % of the test images have
copies among the training images; the paper counts 3.25 %, copies among the test images included.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated

import torch
from annotated_types import Interval
from jaxtyping import Int
from matplotlib.figure import Figure
from torch import Tensor

from ssl_runner.contract import Encoder, Metric, Rows
from ssl_runner.data.rows import evenly_spaced
from ssl_runner.probing.near_duplicates import Pair, find_pairs
from ssl_runner.probing.protocol import Classifiers, Encode
from ssl_runner.run_folder.atomic import replacing, write

SHOWN = 24  # pairs in the picture
LOOKED_AT = 64  # rows that tell whether the bank is all that was learnt from
KINDS = ("exact", "near", "mirrored")  # a row counts in the first that fits


@dataclass(frozen=True, kw_only=True)
class Leakage(Classifiers):
    """How many query rows have a copy in the bank (`leaked`), and kNN's and the linear probe's accuracy without them.

    A leaked row is `exact` (a copy byte for byte), or else `near` (it shows the same), or else `mirrored`; it is
    `conflicting` too if a copy has another label. Each is a count, and a share of the query as `leaked_share` and so
    on. Accuracy is that on the whole query (`knn_top1`, `probe_top1`) and that on the rows that have not leaked
    (`knn_top1_clean`, `probe_top1_clean`; left out if there are none), with the same bank. `duplicates.csv` lists the
    pairs and `duplicates.png` shows up to 24, the least alike first: look there whether they are copies.
    If the bank is a small labelled part beside the training rows, as in STL-10, those are searched as well:
    `pretrained_on` counts the query rows with a copy of any kind among them, `pretrained_on_share` is their share, and
    `knn_top1_unseen` and `probe_top1_unseen` are on the rows with a copy neither there nor in the bank. Their pairs are
    in `pretrained_on.csv` and `pretrained_on.png`. Training rows are those of the dataset at hand: of an encoder that
    learnt from another dataset they say nothing about what it has seen.
    The defaults suit photographs. Images with little content, such as digits or garments on black, are often alike
    without being copies; raise `similarity` until the picture shows copies.
    Raises: as probing.protocol.Classifiers.
    """

    version = 2
    headline = "leaked_share"
    distance: Annotated[int, Interval(ge=0, le=64)] = 14  # bits of 64 in which hashes of a near pair may differ
    similarity: Annotated[float, Interval(gt=0, le=1)] = 0.78  # least of a near pair, at one brightness and contrast
    train: Rows  # images that the encoder has learnt from; the bank's own, or others

    def __call__(self, encoder: Encoder, encode: Encode) -> dict[str, Metric]:
        pairs = self.search("duplicates", "bank", self.bank.x, self.bank.y)
        kind = {pair.query: pair.kind for pair in sorted(pairs, key=lambda pair: KINDS.index(pair.kind), reverse=True)}
        counts = {"leaked": len(kind)} | {each: [*kind.values()].count(each) for each in KINDS}
        counts["conflicting"] = len(
            {pair.query for pair in pairs if self.query.y[pair.query] != self.bank.y[pair.bank]}
        )
        without: dict[str, Iterable[int]] = {"": (), "_clean": kind}
        if not same_rows(self.train, self.bank.x):
            seen = {pair.query for pair in self.search("pretrained_on", "train", self.train, None)}
            counts["pretrained_on"] = len(seen)
            without["_unseen"] = seen | set(kind)
        metrics = {f"{name}_share": Metric(count / len(self.query.y), "smaller") for name, count in counts.items()}
        metrics |= {name: Metric(float(count), None, "number") for name, count in counts.items()}
        return metrics | self.accuracies(encode, without)

    def accuracies(self, encode: Encode, without: Mapping[str, Iterable[int]]) -> dict[str, Metric]:
        """Accuracy of kNN and of the probe without some query rows, by what its name ends in; left out without all."""
        bank, query = self.encode_both(encode)
        metrics, rows = {}, torch.arange(len(query))
        for name, model in self.fit(bank).items():
            hits = (model.rank_classes(query)[0][:, 0].cpu() == self.query.y.cpu()).double()
            for part, dropped in without.items():
                kept = ~torch.isin(rows, torch.tensor([*dropped], dtype=torch.int64))
                if kept.any():
                    metrics[f"{name}_top1{part}"] = Metric(float(hits[kept].mean()))
        return metrics

    def search(self, name: str, split: str, x: Rows, y: Int[Tensor, " n"] | None) -> list[Pair]:
        """Pairs of query rows and rows x, y of a split, written as a table, and as a picture if there are any."""
        pairs = find_pairs(self.query.x, x, distance=self.distance, least=self.similarity)
        table = [
            f"query_row,{split}_row,kind,distance,similarity,query_label" + ("" if y is None else f",{split}_label")
        ]
        for pair in pairs:
            labels = f"{self.query.y[pair.query]}" + ("" if y is None else f",{y[pair.bank]}")
            table.append(f"{pair.query},{pair.bank},{pair.kind},{pair.distance},{pair.similarity:.4f},{labels}")
        write(self.folder / f"{name}.csv", "\n".join(table) + "\n")
        (self.folder / f"{name}.png").unlink(missing_ok=True)
        if pairs:
            self.draw(sorted(pairs, key=lambda pair: (pair.similarity, pair))[:SHOWN], name, split, x, y)
        return pairs

    def draw(self, shown: Sequence[Pair], name: str, split: str, x: Rows, y: Int[Tensor, " n"] | None) -> None:
        """Query image beside its copy, six pairs a line; in red if the labels disagree."""
        lines = (len(shown) + 5) // 6
        figure = Figure(figsize=(14, 1.75 * lines), layout="constrained")
        axes = figure.subplots(lines, 12, squeeze=False).flatten()
        for axis in axes:
            axis.axis("off")
        for pair, *beside in zip(shown, axes[::2], axes[1::2], strict=False):
            colour = "red" if y is not None and self.query.y[pair.query] != y[pair.bank] else "black"
            query = ("query", self.query.x, self.query.y, pair.query, pair.kind)
            copy = (split, x, y, pair.bank, f"{pair.similarity:.3f}, {pair.distance} bits")
            for axis, (of, rows, labels, row, note) in zip(beside, (query, copy), strict=True):
                image = rows[torch.tensor([row])][0].cpu().permute(1, 2, 0).squeeze(2)
                axis.imshow(image.numpy(), cmap="gray", vmin=0, vmax=255)
                label = "" if labels is None else f"class {labels[row]}, "
                axis.set_title(f"{of} {row}\n{label}{note}", fontsize=7, color=colour)
        with replacing(self.folder / f"{name}.png") as file:
            figure.savefig(file, format="png")


def same_rows(one: Rows, other: Rows) -> bool:
    """Whether two are the same rows, perhaps on two devices; of as many rows, some are looked at."""
    if one is other or len(one) != len(other):
        return one is other
    index = evenly_spaced(one, LOOKED_AT)
    return torch.equal(one[index].cpu(), other[index].cpu())

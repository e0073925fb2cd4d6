"""Leakage: images of the query that stand in the bank too, or among the images learnt from, exactly or nearly, and how
accuracy fares without them.

After Barz & Denzler, Do we train on test data? Purging CIFAR of near-duplicates, Journal of Imaging 2020, 6(6), 41,
arXiv 1902.00423. Which images count as the same is decided by probing/near_duplicates.py.
Differs: pairs are found by a perceptual hash and confirmed by their pixels, not by a network's features and by eye, so
what is turned, or cut from another part of a scene, is not found. On CIFAR-10, saved as JPEG, the defaults find copies
of 3.05 % of the test images among the training images, a tenth of them mirrored; the paper counts 3.25 %, copies among
the test images included.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Annotated

import torch
from annotated_types import Ge, Gt, Interval, MinLen
from jaxtyping import Bool, Float, Int
from torch import Tensor

from ssl_runner.contract import Encoder, Metric, Rows, Split
from ssl_runner.duration import Duration
from ssl_runner.probing.accuracy import as_shares, shares
from ssl_runner.probing.knn_vote import ranked
from ssl_runner.probing.linear import fit
from ssl_runner.probing.near_duplicates import Pair, pairs
from ssl_runner.probing.require import require_finite, require_labelled, require_neighbours
from ssl_runner.run_folder.atomic import replacing

SHOWN = 24  # pairs in the picture
ORDER = ("exact", "near", "mirrored")  # a row counts in the first of them that it belongs to


class Leakage:
    """How many query rows have a copy in the bank (`leaked`), and kNN's and the linear probe's accuracy without them.

    A leaked row is `exact` (a copy byte for byte), or else `near` (it shows the same), or else `mirrored`; it is
    `conflicting` too where a copy has another label. Each is a count, and a share of the query as `leaked_share` and so
    on. Accuracy is that on the whole query (`knn_top1`, `probe_top1`) and that on the rows that have not leaked
    (`knn_top1_clean`, `probe_top1_clean`; left out where there are none), with the same bank. `duplicates.csv` lists
    the pairs and `duplicates.png` shows up to 24, the least alike first: look there whether they are copies.

    Where the bank is a small labelled part beside the training rows, as in STL-10, those are looked through as well:
    `pretrained_on` counts the query rows with a copy of any kind among them, `pretrained_on_share` is their share, and
    `knn_top1_unseen` and `probe_top1_unseen` are on the rows with a copy neither there nor in the bank. Their pairs are
    in `pretrained_on.csv` and `pretrained_on.png`. Training rows are those of the dataset at hand: of an encoder that
    learnt from another dataset they say nothing about what it has seen.

    The defaults suit photographs. Where images have little in them, such as digits or garments on black, many are alike
    that are no copies; raise `similarity` until the picture shows copies.

    Args:
        every: how often it runs.
        distance: bits of 64 in which the perceptual hashes of a near or mirrored pair may differ.
        similarity: its least structural similarity, at one brightness and contrast.
        k, temperature: see evaluator.knn.KNN.
        l2, held_out: see evaluator.probe.Probe.
        bank: images that may have leaked.
        query: images that should be new.
        train: images that the encoder has learnt from; the bank's own, or others.
        folder: where the lists and the pictures go.

    Raises:
        ValueError: k is larger than the bank, or the query is empty; from the call, where the samples are no images.
        FloatingPointError: from the call, where a feature is not finite.
    """

    version = 2
    headline = "leaked_share"

    def __init__(
        self,
        *,
        every: Duration,
        distance: Annotated[int, Interval(ge=0, le=64)] = 14,
        similarity: Annotated[float, Interval(gt=0, le=1)] = 0.78,
        k: Annotated[int, Ge(1)] = 20,
        temperature: Annotated[float, Gt(0)] = 0.07,
        l2: Annotated[tuple[Annotated[float, Gt(0)], ...], MinLen(1)] = (1e-1, 1e-2, 1e-3, 1e-4, 1e-5, 1e-6),
        held_out: Annotated[float, Interval(gt=0, lt=1)] = 0.2,
        bank: Split,
        query: Split,
        train: Rows,
        classes: Annotated[int, Ge(1)],
        folder: Path,
    ):
        require_neighbours(k, bank, "leakage")
        require_labelled("leakage", query=query)
        self.every = every
        self.distance = distance
        self.similarity = similarity
        self.k = k
        self.temperature = temperature
        self.l2 = l2
        self.held_out = held_out
        self.bank = bank
        self.query = query
        self.train = train
        self.classes = classes
        self.folder = folder

    @torch.no_grad()
    def __call__(self, encoder: Encoder, encode: Callable[[Rows], Float[Tensor, "n d"]]) -> Mapping[str, Metric]:
        found = pairs(self.query.x, self.bank.x, distance=self.distance, least=self.similarity)
        self.write("duplicates", "bank", found, self.bank.x, self.bank.y)
        kind = {pair.query: pair.kind for pair in sorted(found, key=lambda pair: ORDER.index(pair.kind), reverse=True)}
        kinds = list(kind.values())
        counts = {"leaked": len(kind)} | {each: kinds.count(each) for each in ORDER}
        counts["conflicting"] = len({pair.query for pair in found if self.conflict(pair)})
        parts = {"clean": self.without(kind)}
        if self.train is not self.bank.x and len(self.train) != len(self.bank.x):  # or they are the bank's own rows
            seen = pairs(self.query.x, self.train, distance=self.distance, least=self.similarity)
            self.write("pretrained_on", "train", seen, self.train, None)
            counts["pretrained_on"] = len({pair.query for pair in seen})
            parts["unseen"] = self.without([*kind, *(pair.query for pair in seen)])
        metrics = {f"{name}_share": Metric(count / len(self.query.y), "smaller") for name, count in counts.items()}
        metrics |= {name: Metric(float(count), "smaller", "number") for name, count in counts.items()}
        return metrics | as_shares(self.accuracies(encode(self.bank.x), encode(self.query.x), parts))

    def without(self, rows: Iterable[int]) -> Bool[Tensor, " q"]:
        """All query rows but these."""
        kept = torch.ones(len(self.query.y), dtype=torch.bool)
        kept[list(rows)] = False
        return kept

    def accuracies(
        self, bank: Float[Tensor, "n d"], query: Float[Tensor, "q d"], parts: Mapping[str, Bool[Tensor, " q"]]
    ) -> dict[str, float]:
        """Of kNN and the linear probe, on all query rows and on parts of them that have a name."""
        require_finite(bank, query)
        y = self.bank.y
        guesses = {
            "knn": ranked(bank, y, query, k=self.k, temperature=self.temperature, classes=self.classes),
            "probe": fit(bank, y, self.classes, l2=self.l2, held_out=self.held_out).ranked(query),
        }
        truth, values = self.query.y.cpu(), {}
        for name, guess in guesses.items():
            values[f"{name}_top1"] = shares(guess.cpu(), truth, self.classes)["top1"]
            for part, rows in parts.items():
                if rows.any():
                    values[f"{name}_top1_{part}"] = shares(guess.cpu()[rows], truth[rows], self.classes)["top1"]
        return values

    def conflict(self, pair: Pair) -> bool:
        return int(self.query.y[pair.query]) != int(self.bank.y[pair.bank])

    def write(self, name: str, place: str, found: Sequence[Pair], x: Rows, y: Int[Tensor, " n"] | None) -> None:
        """The pairs as a table, and as a picture where there are any; `place` is where the copies are, x and y it."""
        self.folder.mkdir(parents=True, exist_ok=True)
        text = io.StringIO()
        table = csv.writer(text)
        labelled = ["query_label"] if y is None else ["query_label", f"{place}_label"]
        table.writerow(["query_row", f"{place}_row", "kind", "distance", "similarity", *labelled])
        for pair in found:
            labels = [int(self.query.y[pair.query])] + ([] if y is None else [int(y[pair.bank])])
            table.writerow([pair.query, pair.bank, pair.kind, pair.distance, f"{pair.similarity:.4f}", *labels])
        with replacing(self.folder / f"{name}.csv") as file:
            file.write(text.getvalue().encode())
        picture = self.folder / f"{name}.png"
        if found:
            self.draw(sorted(found, key=lambda pair: (pair.similarity, pair))[:SHOWN], place, x, y, picture)
        else:
            picture.unlink(missing_ok=True)

    def draw(self, shown: Sequence[Pair], place: str, x: Rows, y: Int[Tensor, " n"] | None, path: Path) -> None:
        """Query image beside bank image, six pairs a line; in red where the labels disagree."""
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure

        lines = (len(shown) + 5) // 6
        figure = Figure(figsize=(14, 1.75 * lines), layout="constrained")
        axes = figure.subplots(lines, 12, squeeze=False).flat
        for axis in axes:
            axis.axis("off")
        for number, pair in enumerate(shown):
            colour = "red" if y is not None and self.conflict(pair) else "black"
            for side, (name, rows, labels, row) in enumerate(
                (("query", self.query.x, self.query.y, pair.query), (place, x, y, pair.bank))
            ):
                axis = axes[2 * number + side]
                image = rows[torch.tensor([row])][0].cpu().permute(1, 2, 0).numpy()
                axis.imshow(image[..., 0] if image.shape[2] == 1 else image, cmap="gray", vmin=0, vmax=255)
                label = "" if labels is None else f"class {int(labels[row])}, "
                measure = f"{pair.similarity:.3f}, {pair.distance} bits" if side else pair.kind
                axis.set_title(f"{name} {row}\n{label}{measure}", fontsize=7, color=colour)
        with replacing(path) as file:
            FigureCanvasAgg(figure).print_png(file)

"""Data leakage: query images with exact or near duplicates in the bank or the training set, and accuracy without them.

After Barz & Denzler, Do we train on test data? Purging CIFAR of near-duplicates, Journal of Imaging 2020, 6(6), 41,
arXiv 1902.00423. probing/near_duplicates.py decides which images count as duplicates.
Differs: pairs are found by a perceptual hash and confirmed by their pixels, not by a network's features and by eye, so
rotated images, or other crops of a scene, are not found. On CIFAR-10, saved as JPEG, the defaults find copies
of 3.05 % of the test images among the training images, a tenth of them mirrored; the paper counts 3.25 %, copies among
the test images included.
"""

import csv
import io
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, ClassVar

import torch
from annotated_types import Ge, Gt, Interval, MinLen
from jaxtyping import Bool, Float, Int
from torch import Tensor

from ssl_runner.contract import Encoder, Metric, Rows, Samples, Split
from ssl_runner.duration import Duration
from ssl_runner.probing.knn_vote import rank_classes
from ssl_runner.probing.linear import fit_classifier
from ssl_runner.probing.near_duplicates import Pair, find_pairs
from ssl_runner.probing.require import require_finite, require_images, require_labelled, require_neighbours
from ssl_runner.probing.scores import as_shares, top_accuracies
from ssl_runner.run_folder.atomic import replacing

SHOWN = 24  # pairs in the picture
KINDS = ("exact", "near", "mirrored")  # a row counts in the first that fits


@dataclass(frozen=True, kw_only=True)
class Leakage:
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

    Raises:
        ValueError: k is larger than the bank, the query is empty, or samples are not images of 1 or 3 channels.
        FloatingPointError: from the call, if a feature is not finite.
    """

    version: ClassVar[int] = 2
    headline: ClassVar[str] = "leaked_share"

    every: Duration
    distance: Annotated[int, Interval(ge=0, le=64)] = 14  # bits of 64 in which hashes of a near pair may differ
    similarity: Annotated[float, Interval(gt=0, le=1)] = 0.78  # least of a near pair, at one brightness and contrast
    k: Annotated[int, Ge(1)] = 20  # this and the next: see evaluator.knn.KNN
    temperature: Annotated[float, Gt(0)] = 0.07
    # This and the next: see evaluator.probe.Probe.
    l2: Annotated[tuple[Annotated[float, Gt(0)], ...], MinLen(1)] = (1e-1, 1e-2, 1e-3, 1e-4, 1e-5, 1e-6)
    held_out: Annotated[float, Interval(gt=0, lt=1)] = 0.2
    bank: Split  # images that may have leaked
    query: Split  # images that should be new
    train: Rows  # images that the encoder has learnt from; the bank's own, or others
    classes: Annotated[int, Ge(1)]
    sample: Samples
    folder: Path

    def __post_init__(self) -> None:
        require_images("leakage", self.sample)
        require_neighbours(self.k, self.bank, "leakage")
        require_labelled("leakage", bank=self.bank, query=self.query)

    @torch.no_grad()
    def __call__(self, encoder: Encoder, encode: Callable[[Rows], Float[Tensor, "n d"]]) -> Mapping[str, Metric]:
        pairs = find_pairs(self.query.x, self.bank.x, distance=self.distance, least=self.similarity)
        self.write("duplicates", "bank", pairs, self.bank.x, self.bank.y)
        kind = {pair.query: pair.kind for pair in sorted(pairs, key=lambda pair: KINDS.index(pair.kind), reverse=True)}
        kinds = list(kind.values())
        counts = {"leaked": len(kind)} | {each: kinds.count(each) for each in KINDS}
        counts["conflicting"] = len({pair.query for pair in pairs if self.conflict(pair)})
        parts = {"clean": self.without(kind)}
        if self.train is not self.bank.x and len(self.train) != len(self.bank.x):  # or they are the bank's own rows
            seen = find_pairs(self.query.x, self.train, distance=self.distance, least=self.similarity)
            self.write("pretrained_on", "train", seen, self.train, None)
            counts["pretrained_on"] = len({pair.query for pair in seen})
            parts["unseen"] = self.without([*kind, *(pair.query for pair in seen)])
        metrics = {f"{name}_share": Metric(count / len(self.query.y), "smaller") for name, count in counts.items()}
        metrics |= {name: Metric(float(count), None, "number") for name, count in counts.items()}
        return metrics | as_shares(self.accuracies(encode(self.bank.x), encode(self.query.x), parts))

    def without(self, rows: Iterable[int]) -> Bool[Tensor, " q"]:
        """Mask of all query rows but these."""
        kept = torch.ones(len(self.query.y), dtype=torch.bool)
        kept[list(rows)] = False
        return kept

    def accuracies(
        self, bank: Float[Tensor, "n d"], query: Float[Tensor, "q d"], parts: Mapping[str, Bool[Tensor, " q"]]
    ) -> dict[str, float]:
        """Accuracy of kNN and the linear probe, on all query rows and on named parts of them."""
        require_finite(bank, query)
        y = self.bank.y
        guesses = {
            "knn": rank_classes(bank, y, query, k=self.k, temperature=self.temperature, classes=self.classes),
            "probe": fit_classifier(bank, y, self.classes, l2=self.l2, held_out=self.held_out).rank_classes(query),
        }
        truth, values = self.query.y.cpu(), {}
        for name, guess in guesses.items():
            values[f"{name}_top1"] = top_accuracies(guess.cpu(), truth, self.classes)["top1"]
            for part, rows in parts.items():
                if rows.any():
                    accuracies = top_accuracies(guess.cpu()[rows], truth[rows], self.classes)
                    values[f"{name}_top1_{part}"] = accuracies["top1"]
        return values

    def conflict(self, pair: Pair) -> bool:
        return int(self.query.y[pair.query]) != int(self.bank.y[pair.bank])

    def write(self, name: str, split: str, pairs: Sequence[Pair], x: Rows, y: Int[Tensor, " n"] | None) -> None:
        """Writes the pairs as a table, and as a picture if there are any. `split`: name of the copies' rows x, y."""
        self.folder.mkdir(parents=True, exist_ok=True)
        text = io.StringIO()
        table = csv.writer(text)
        labelled = ["query_label"] if y is None else ["query_label", f"{split}_label"]
        table.writerow(["query_row", f"{split}_row", "kind", "distance", "similarity", *labelled])
        for pair in pairs:
            labels = [int(self.query.y[pair.query])] + ([] if y is None else [int(y[pair.bank])])
            table.writerow([pair.query, pair.bank, pair.kind, pair.distance, f"{pair.similarity:.4f}", *labels])
        with replacing(self.folder / f"{name}.csv") as file:
            file.write(text.getvalue().encode())
        picture = self.folder / f"{name}.png"
        if pairs:
            self.draw(sorted(pairs, key=lambda pair: (pair.similarity, pair))[:SHOWN], split, x, y, picture)
        else:
            picture.unlink(missing_ok=True)

    def draw(self, shown: Sequence[Pair], split: str, x: Rows, y: Int[Tensor, " n"] | None, path: Path) -> None:
        """Query image beside its copy, six pairs a line; in red if the labels disagree."""
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
                (("query", self.query.x, self.query.y, pair.query), (split, x, y, pair.bank))
            ):
                axis = axes[2 * number + side]
                image = rows[torch.tensor([row])][0].cpu().permute(1, 2, 0).numpy()
                axis.imshow(image[..., 0] if image.shape[2] == 1 else image, cmap="gray", vmin=0, vmax=255)
                label = "" if labels is None else f"class {int(labels[row])}, "
                measure = f"{pair.similarity:.3f}, {pair.distance} bits" if side else pair.kind
                axis.set_title(f"{name} {row}\n{label}{measure}", fontsize=7, color=colour)
        with replacing(path) as file:
            FigureCanvasAgg(figure).print_png(file)
